"""Sites are what their owner's charter says, and join; what was known of them becomes the first charter."""

from __future__ import annotations

import json

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Add what is new, say what was known in the new words, and drop the old columns."""
    op.add_column("site", sa.Column("charter", sa.Text(), nullable=False, server_default=""))
    op.add_column("site", sa.Column("signed", sa.Text(), nullable=True))
    op.add_column("site", sa.Column("state", sa.String(length=20), nullable=False, server_default="active"))
    op.add_column("site", sa.Column("certified", sa.String(length=64), nullable=False, server_default=""))
    connection = op.get_bind()
    installation = connection.execute(sa.text("SELECT id, created_at FROM installation")).mappings().first()
    for site in connection.execute(sa.text("SELECT id, name, kind, country FROM site")).mappings().all():
        assert installation is not None, "an installation has its row before any site"
        connection.execute(
            sa.text("UPDATE site SET charter = :charter WHERE id = :id"),
            {"id": site["id"], "charter": json.dumps(_charter(dict(site), dict(installation)))},
        )
    op.add_column("service", sa.Column("constraints", sa.Text(), nullable=False, server_default="{}"))
    op.create_table(
        "joining",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("site", sa.String(length=32), nullable=False),
        sa.Column("token_sha256", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("asked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("csr", sa.Text(), nullable=False),
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.Column("certificate", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["site"], ["site.id"], name=op.f("fk_joining_site_site")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_joining")),
        sa.UniqueConstraint("token_sha256", name=op.f("uq_joining_token_sha256")),
    )
    op.drop_column("site", "kind")
    op.drop_column("site", "country")


def _charter(site: dict[str, str | None], installation: dict[str, object]) -> dict[str, object]:
    said = {"value": site["country"], "source": "kasbah up --country", "since": str(installation["created_at"])[:10]}
    return {
        "installation": installation["id"],
        "site": site["id"],
        "name": site["name"],
        "version": 1,
        "kind": site["kind"],
        "facts": {} if site["country"] is None else {"country": said},
    }
