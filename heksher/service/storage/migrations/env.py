"""How alembic takes the steps: on the connection that it is given, in that one's transaction."""

from __future__ import annotations

from alembic import context

from heksher.service.storage.tables import heksher_version

context.configure(
    connection=context.config.attributes["connection"],
    version_table=heksher_version.name,
    # In SQLite as well: the transaction has begun before.
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
