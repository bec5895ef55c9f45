"""How sensitive a secret is."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    """Add a column."""
    op.add_column("secret", sa.Column("label", sa.Text(), nullable=True))
