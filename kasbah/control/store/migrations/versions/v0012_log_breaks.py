"""Breaks in sites' audit logs that a person accepted, and what a refused log shows meanwhile."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    """Add two columns and a table."""
    op.add_column("audit_log", sa.Column("offered", sa.Text(), nullable=False, server_default=""))
    op.add_column("audit_log", sa.Column("offered_key", sa.String(length=60), nullable=False, server_default=""))
    op.create_table(
        "log_break",
        sa.Column("log", sa.String(length=32), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("public_key", sa.String(length=60), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("cosigned", sa.Text(), nullable=False),
        sa.Column("witnessed", sa.Text(), nullable=False),
        sa.Column("trouble", sa.Text(), nullable=False),
        sa.Column("accepted_note", sa.Text(), nullable=False),
        sa.Column("cosigned_size", sa.BigInteger(), nullable=False),
        sa.Column("accepted_key", sa.String(length=60), nullable=False),
        sa.Column("accepted_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("accepted_by", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("log", "number", name=op.f("pk_log_break")),
    )
