"""The law as its owner signed it, what the owner granted, and the most that was declared of each service's data."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Create the tables. What a service declared until now is the most that it ever declared."""
    op.add_column("installation", sa.Column("owner_key", sa.Text(), nullable=True))
    op.add_column("service", sa.Column("declared", sa.Text(), nullable=True))
    declared = sa.text("UPDATE service SET declared = label WHERE label LIKE :said").bindparams(
        said='%"declared":true%'
    )
    op.execute(declared)
    op.create_table(
        "lawbook",
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.Column("signature", sa.Text(), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("based_on", sa.Integer(), nullable=True),
        sa.Column("author", sa.String(length=100), nullable=False),
        sa.Column("author_id", sa.String(length=32), nullable=True),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("even_so", sa.Boolean(), nullable=False),
        sa.Column("loosens", sa.Boolean(), nullable=False),
        sa.Column("arrivals", sa.Text(), nullable=False),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("approved_by", sa.String(length=100), nullable=False),
        sa.PrimaryKeyConstraint("version", name=op.f("pk_lawbook")),
    )
    op.create_index(op.f("ix_lawbook_state"), "lawbook", ["state"], unique=False)
    op.create_table(
        "owner_grant",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("kind", sa.String(length=20), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.Column("signature", sa.Text(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("author", sa.String(length=100), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_owner_grant")),
    )
