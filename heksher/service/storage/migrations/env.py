"""Alembic's environment: runs the migrations on a given connection, in its transaction."""

from __future__ import annotations

from alembic import context

from heksher.service.storage.tables import heksher_version

context.configure(
    connection=context.config.attributes["connection"],
    version_table=heksher_version.name,
    # The transaction has begun already, in SQLite as well.
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
