"""Services answer at domains of their own."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Add the column. No service had any."""
    op.add_column("service", sa.Column("domains", sa.Text(), nullable=False, server_default="[]"))
