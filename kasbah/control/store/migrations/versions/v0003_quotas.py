"""Projects have quotas, and can be deleted: their rows stay for the services that were theirs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add the columns: what there is has no limits."""
    op.add_column("project", sa.Column("quota", sa.Text(), nullable=False, server_default="{}"))
    op.add_column("project", sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True))
