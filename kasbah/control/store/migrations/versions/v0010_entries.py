"""Where requests for a service come in, by the hour."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "entry_hour",
        sa.Column("service", sa.String(length=32), nullable=False),
        sa.Column("site", sa.String(length=32), nullable=False),
        sa.Column("hour", sa.DateTime(timezone=True), nullable=False),
        sa.Column("requests", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["service"], ["service.id"], name=op.f("fk_entry_hour_service_service")),
        sa.ForeignKeyConstraint(["site"], ["site.id"], name=op.f("fk_entry_hour_site_site")),
        sa.PrimaryKeyConstraint("service", "site", "hour", name=op.f("pk_entry_hour")),
    )
