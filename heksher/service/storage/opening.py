"""Prepare a database before it is served: create, check or migrate its tables.

Knows the tables that must exist and the markers of revisions: the original's, which has to match
these tables, and this service's own in ``heksher_version``, which counts its additions to them.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable
from collections.abc import Set as AbstractSet

import sqlalchemy as sa

from heksher.service.domain.errors import CannotStartError
from heksher.service.storage import tables as t

# Maximum number of table names in a message.
_MAX_NAMES_SHOWN = 5

logger: logging.Logger = logging.getLogger("heksher.service")


def prepare(connection: sa.Connection, *, in_memory: bool, migrate: bool) -> None:
    """Create the tables of an empty database; check an existing one, and migrate it if allowed.

    Args:
        connection: a connection in a transaction that excludes others that create or migrate.
        in_memory: whether the database is in memory. No other process or version will ever open it,
            so it gets no revision marker of this service.
        migrate: whether an existing database may be changed.

    Raises:
        CannotStartError: the database is not a Heksher database, has another revision, or must be
            migrated first.
    """
    found = set(sa.inspect(connection).get_table_names())
    if not found:
        t.metadata.create_all(connection, checkfirst=False)
        connection.execute(t.alembic_version.insert().values(version_num=t.REVISION))
        if not in_memory:
            _upgrade(connection)
        return
    _check_original(connection, found)
    _check_own(connection, found, migrate=migrate)


def _check_original(connection: sa.Connection, found: AbstractSet[str]) -> None:
    marker = t.alembic_version.name
    revisions: list[str] = []
    if marker in found:
        revisions += connection.scalars(sa.select(t.alembic_version.c.version_num))
    at = f"the database is at revision {', '.join(revisions) or 'none'}, expected {t.REVISION}"
    # Before its tables are looked at: earlier revisions have others.
    if set(t.EARLIER_REVISIONS).intersection(revisions):
        raise CannotStartError(
            f"{at}: it is the original service's, of an earlier version. Back it up, and run the "
            "original's migrations on it: alembic upgrade head"
        )
    expected = t.metadata.tables.keys() - {marker}
    if not expected & found:
        raise CannotStartError(
            f"not a Heksher database (tables: {_names(found)}): use another database"
        )
    if missing := expected - found:
        raise CannotStartError(
            f"not a complete Heksher database (missing tables: {_names(missing)}): "
            "use another database, or restore this one"
        )
    if not revisions:
        raise CannotStartError(
            f"{at}: its tables were made without the original's migrations. If they are those of "
            f"the original's newest version, say so with its alembic: alembic stamp {t.REVISION}"
        )
    if revisions != [t.REVISION]:
        raise CannotStartError(
            f"{at}: this version of heksher does not know the revision. Upgrade heksher, or use "
            "another database"
        )


def _check_own(connection: sa.Connection, found: Collection[str], *, migrate: bool) -> None:
    current: str | None = None
    if t.heksher_version.name in found:
        current = connection.scalar(sa.select(t.heksher_version.c.version_num))
    if current == t.OWN_REVISION:
        return
    from heksher.service.storage import migrations  # slow to import, because of alembic

    steps = migrations.pending(current)
    if steps is None:
        raise CannotStartError(
            f"the database is at revision {current} of a newer heksher, expected at most "
            f"{t.OWN_REVISION}: upgrade heksher"
        )
    if not migrate:
        raise CannotStartError(
            f"the database must be migrated first: {'; '.join(steps)}. "
            "Back it up, and start once with --migrate"
        )
    for step in steps:
        logger.info("migrating the database: %s", step)
    _upgrade(connection)


def _upgrade(connection: sa.Connection) -> None:
    from heksher.service.storage import migrations

    migrations.upgrade(connection)


def _names(names: Iterable[str]) -> str:
    ordered = sorted(names)
    return ", ".join(ordered[:_MAX_NAMES_SHOWN]) + (
        ", …" if len(ordered) > _MAX_NAMES_SHOWN else ""
    )
