"""Run by Alembic: migrates on the connection that `migrate.py` hands over, in its transaction."""

from __future__ import annotations

from alembic import context

from kasbah.control.store.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
