"""Tokens have grants, a ceiling, an expiry and a switch in the place of scopes; keys have all but the grants.

A scope becomes the actions that it stood for, by their names, so that a token may exactly what it might before; `admin`
becomes the role of an owner.
"""

from __future__ import annotations

import json

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"

READ = (
    "installation.read",
    "site.read",
    "project.read",
    "service.read",
    "service.plan",
    "service.logs",
    "service.usage",
    "secret.read",
)
DEPLOY = (
    *READ,
    "service.deploy",
    "service.scale",
    "service.sleep",
    "service.env",
    "service.traffic",
    "service.rollback",
    "service.delete",
    "service.exec",
    "secret.set",
    "secret.delete",
)
KEYS = ("key.read", "key.create", "key.revoke")
ACTIONS = {"read": READ, "deploy": DEPLOY, "keys": KEYS}


def upgrade() -> None:
    """Add the columns, and write the grants that stand for the scopes."""
    for table in ("token", "key"):
        op.add_column(table, sa.Column("max_level", sa.Text(), nullable=True))
        op.add_column(table, sa.Column("created_by", sa.String(length=32), nullable=True))
        op.add_column(table, sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True))
        op.add_column(table, sa.Column("disabled_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("key", sa.Column("owner", sa.String(length=100), nullable=False, server_default=""))
    op.add_column("token", sa.Column("kind", sa.String(length=20), nullable=False, server_default="person"))
    op.add_column("token", sa.Column("grants", sa.Text(), nullable=False, server_default="[]"))
    token = sa.table("token", sa.column("id"), sa.column("scopes"), sa.column("grants"))
    connection = op.get_bind()
    for identity, scopes in connection.execute(sa.select(token.c.id, token.c.scopes)).all():
        held = json.dumps(_grants(json.loads(scopes)))
        connection.execute(token.update().where(token.c.id == identity).values(grants=held))
    op.drop_column("token", "scopes")


def _grants(scopes: list[str]) -> list[dict[str, object]]:
    """What these scopes stood for, over the whole installation."""
    named = sorted({action for scope in scopes for action in ACTIONS.get(scope, ())})
    found: list[dict[str, object]] = []
    if "admin" in scopes:
        found.append({"project": None, "role": "owner", "actions": []})
    if named:
        found.append({"project": None, "role": None, "actions": named})
    return found
