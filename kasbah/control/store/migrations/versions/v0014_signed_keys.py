"""What a deployer signed of each caller's key. Those of before are signed by nobody: sites that hold them keep them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    """Add the column."""
    op.add_column("key", sa.Column("attested", sa.Text(), nullable=True))
