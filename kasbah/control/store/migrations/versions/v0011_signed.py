"""What a deployer signed of each revision. Those of before are signed by nobody: sites that hold them keep them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    """Add the column."""
    op.add_column("revision", sa.Column("attested", sa.Text(), nullable=True))
