"""What is done with a database before it is served: create it, check it, migrate it.

Knows the tables that must be there and the markers of revisions: the original's, which has to be the
one that these tables are of, and our own, in ``heksher_version``, for what is added to them.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable

import sqlalchemy as sa

from heksher.service.domain.errors import CannotStartError
from heksher.service.storage import tables as t

_SHOWN = 5

logger = logging.getLogger("heksher.service")


def prepare(connection: sa.Connection, *, in_memory: bool, migrate: bool) -> None:
    """Create all tables in an empty database; check another one, and migrate it if that is allowed.

    Runs in a transaction that is alone in creating and migrating.

    Args:
        connection: a connection in that transaction.
        in_memory: nobody else will ever open this database: it needs no revision of our own.
        migrate: whether a database that was there before may be changed.

    Raises:
        CannotStartError: the database is not Heksher's, is of another revision, or must be migrated.
    """
    found = set(sa.inspect(connection).get_table_names())
    if not found:
        t.metadata.create_all(connection)
        connection.execute(t.alembic_version.insert().values(version_num=t.REVISION))
        if not in_memory:
            _upgrade(connection)
        return
    _check_original(connection, found)
    _check_own(connection, found, migrate=migrate)


def _check_original(connection: sa.Connection, found: Collection[str]) -> None:
    expected = t.metadata.tables.keys()
    if not expected & found:
        raise CannotStartError(
            f"the database holds other tables than Heksher's: {_names(found)}; give it one of its own"
        )
    if missing := expected - found:
        raise CannotStartError(
            f"the database holds other tables than Heksher's, and not {_names(missing)}"
        )
    revisions = list(connection.scalars(sa.select(t.alembic_version.c.version_num)))
    if revisions != [t.REVISION]:
        raise CannotStartError(
            f"the database is at revision {', '.join(revisions) or 'none'}, not at {t.REVISION}: "
            "let the original service's migrations bring it there"
        )


def _check_own(connection: sa.Connection, found: Collection[str], *, migrate: bool) -> None:
    current: str | None = None
    if t.heksher_version.name in found:
        current = connection.scalar(sa.select(t.heksher_version.c.version_num))
    if current == t.OWN_REVISION:
        return
    from heksher.service.storage import migrations  # and with it alembic, only now

    steps = migrations.pending(current)
    if steps is None:
        raise CannotStartError(
            f"a newer heksher left the database at its revision {current}; "
            f"this one knows {t.OWN_REVISION}"
        )
    if not migrate:
        raise CannotStartError(
            f"the database has to be migrated first: {'; '.join(steps)}. "
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
    return ", ".join(ordered[:_SHOWN]) + (", …" if len(ordered) > _SHOWN else "")
