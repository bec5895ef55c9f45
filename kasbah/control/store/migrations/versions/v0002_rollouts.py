"""Rollouts move traffic in steps, by rules, and can turn back: what served before is kept as shares."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

RULES = '{"strategy":"rolling","steps":[10,50],"pause":"PT2M","watch":"PT1M","tolerance":5}'
"""The rules as they were when this was written: later defaults must not change what was asked before."""


def upgrade() -> None:
    """Add the columns, without making tables anew: others refer to them. What was moved before was moved whole."""
    op.add_column("service", sa.Column("rollout_rules", sa.Text(), nullable=False, server_default=RULES))
    for column in (
        sa.Column("rules", sa.Text(), nullable=False, server_default=RULES),
        sa.Column("cause", sa.String(length=20), nullable=False, server_default="deploy"),
        sa.Column("before", sa.Text(), nullable=False, server_default="[]"),
        sa.Column("percent", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("moved_at", sa.DateTime(timezone=True), nullable=True),
    ):
        op.add_column("rollout", column)
    op.execute("UPDATE rollout SET percent = 100, moved_at = shifted_at WHERE shifted_at IS NOT NULL")
    shares = """'[{"revision":"' || previous || '","percent":100}]'"""
    # As it stands: in a text of SQLAlchemy's a colon begins a parameter.
    op.get_bind().exec_driver_sql(f'UPDATE rollout SET "before" = {shares} WHERE previous IS NOT NULL')
    op.drop_column("rollout", "previous")
