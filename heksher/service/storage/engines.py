"""Which databases there are, and how each is reached: engines, connections, how transactions begin.

Knows SQLAlchemy and the drivers; knows no tables but their names. No driver begins a transaction by
itself here: it would do so late, or never for reading. Each begins with the text that
``Database`` has for its purpose.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.exc import ArgumentError
from sqlalchemy.pool import QueuePool, StaticPool

from heksher.service.domain.errors import CannotStartError
from heksher.service.storage import tables as t

MEMORY = "memory"

# Seconds that anything waits for a lock or for a connection before it gives up.
PATIENCE = 10.0

# What each process opens at most. Writers queue before they take one, so that all but one are for
# readers.
_CONNECTIONS = 10

# Seconds that a writer stands in PostgreSQL's queue for the tables; see ``_lock_tables``.
_IN_QUEUE = 0.2

# Seconds after which PostgreSQL ends a writer that does nothing: a process that stands still, or whose
# machine is gone, keeps nobody out for ever.
_STANDSTILL = 30.0

# "heksher" as a number: the advisory lock of those that write, create or migrate.
_LOCK = int.from_bytes(b"heksher", "big")

_EXPECTED = (
    f"give the path of an SQLite file, {MEMORY!r}, or postgresql://USER:PASSWORD@HOST:PORT/NAME"
)


@dataclass(frozen=True)
class Database:
    """A database and how transactions on it begin.

    Attributes:
        engine: where connections come from.
        shown: what messages call it, without password.
        begin_reading: begins a transaction that sees one state of everything.
        begin_writing: begins one that is alone in writing.
        begin_opening: begins one that is alone among those that create or migrate.
        path: the file that it is, however the process changes its directory; None: it is none.
        in_memory: it lives as long as its only connection.
        patience: seconds that anything waits before it gives up.
    """

    engine: sa.Engine
    shown: str
    begin_reading: str = "BEGIN"
    begin_writing: str = "BEGIN IMMEDIATE"
    begin_opening: str = "BEGIN IMMEDIATE"
    path: str | None = None
    in_memory: bool = False
    patience: float = field(default_factory=lambda: PATIENCE)


def database_of(text: str) -> Database:
    """The database that *text* means, which is not touched yet.

    Raises:
        CannotStartError: none is meant, or a package is missing. No message repeats a URL.
    """
    scheme, separator, _ = text.partition("://")
    if text in (MEMORY, ":memory:"):
        return _in_memory()
    if not separator:
        return _file(text)
    try:
        url = sa.make_url(text)
    except (ArgumentError, ValueError):  # whose messages may repeat it, password and all
        raise CannotStartError(f"the database's URL cannot be read: {_EXPECTED}") from None
    if scheme in ("postgresql", "postgres", "postgresql+psycopg"):
        return _postgresql(url)
    if scheme == "sqlite" and not url.host and not url.query:
        return _in_memory() if url.database in (None, "", ":memory:") else _file(url.database)
    raise CannotStartError(f"the database's URL is of no kind that is served: {_EXPECTED}")


def _in_memory() -> Database:
    engine = sa.create_engine(
        "sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False}
    )
    _set_up_sqlite(engine, "PRAGMA foreign_keys = ON")
    return Database(engine, MEMORY, in_memory=True)


def _file(path: str) -> Database:
    if not path:
        raise CannotStartError(f"no database is given: {_EXPECTED}")
    # In full, SQLite takes no name for one of its own URLs.
    full_path = os.path.abspath(path)
    engine = sa.create_engine(
        sa.URL.create("sqlite", database=full_path),
        connect_args={"timeout": PATIENCE},
        **_bounded_pool(),
    )
    _set_up_sqlite(engine, "PRAGMA foreign_keys = ON", "PRAGMA journal_mode = WAL")
    return Database(engine, path, path=full_path)


def _set_up_sqlite(engine: sa.Engine, *pragmas: str) -> None:
    def connected(connection: Any, _record: object) -> None:
        connection.isolation_level = None
        for pragma in pragmas:
            connection.execute(pragma).close()

    event.listen(engine, "connect", connected)
    event.listen(engine, "begin", _begin)


def _postgresql(url: sa.URL) -> Database:
    if "@" in (url.host or ""):
        raise CannotStartError(
            "the database's URL cannot be read: write an @ in user name or password as %40"
        )
    # What a URL may say about a connection, and shall know better than this.
    options: dict[str, Any] = {
        "application_name": "heksher",
        "connect_timeout": max(round(PATIENCE), 2),  # of a host; less is taken for 2
        "tcp_user_timeout": _milliseconds(PATIENCE),
        # A host that went away owing an answer: else the system waits for hours.
        "keepalives_idle": max(round(PATIENCE), 1),
        "keepalives_interval": max(round(PATIENCE), 1),
        "autocommit": True,
    }
    try:
        engine = sa.create_engine(
            url.set(drivername="postgresql+psycopg"),
            connect_args={key: options[key] for key in options if key not in url.query},
            json_deserializer=t.read_jsonb,
            use_native_hstore=False,
            **_bounded_pool(),
        )
    except ModuleNotFoundError as error:
        raise CannotStartError(
            "PostgreSQL needs one more package: pip install 'heksher[postgres]'"
        ) from error
    event.listen(engine, "begin", _begin)
    event.listen(engine, "connect", _see_encoding, insert=True)  # before SQLAlchemy asks anything
    # The query part may hold a password as well.
    place = {key: url.query[key] for key in ("host", "port") if key in url.query}
    shown = url.set(drivername="postgresql", query=place).render_as_string(hide_password=True)
    alone = (
        f"BEGIN ISOLATION LEVEL READ COMMITTED; {_wait_for_locks(PATIENCE)}; "
        f"SET LOCAL idle_in_transaction_session_timeout = {_milliseconds(_STANDSTILL)}; "
        f"SELECT pg_advisory_xact_lock({_LOCK})"
    )
    return Database(
        engine,
        shown,
        begin_reading=(
            f"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; {_wait_for_locks(PATIENCE)}"
        ),
        begin_opening=alone,
        begin_writing=f"{alone}; {_lock_tables()}",
    )


def _see_encoding(connection: Any, _record: object) -> None:
    """Refuse what lacks characters, or has none, as where a cluster was made without a locale."""
    encoding = connection.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        name = connection.info.dbname
        raise CannotStartError(
            f"the database {name} has the encoding {encoding}, and UTF8 is needed: "
            "make it by createdb --encoding=UTF8 --template=template0"
        )


def _lock_tables() -> str:
    """SQL that keeps all other writers out, those of the original service too, and no reader.

    Our own are in order by the advisory lock already. The original holds a transaction open while
    it asks for a second connection; whoever queues for a table that the first one wrote makes
    the second one queue behind, and then none of the three goes on. So a place in this queue is
    kept for a moment only, and taken again: meanwhile the others get through.
    """
    tables = ", ".join(sorted(t.metadata.tables.keys() - {t.alembic_version.name}))
    return (
        f"{_wait_for_locks(_IN_QUEUE)}; LOCK TABLE {tables} IN SHARE ROW EXCLUSIVE MODE; "
        f"{_wait_for_locks(PATIENCE)}"
    )


def _wait_for_locks(seconds: float) -> str:
    return f"SET LOCAL lock_timeout = {_milliseconds(seconds)}"


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)


def _bounded_pool() -> dict[str, Any]:
    return {
        "poolclass": QueuePool,
        "pool_size": _CONNECTIONS,
        "max_overflow": 0,
        "pool_timeout": PATIENCE,
    }


def _begin(connection: sa.Connection) -> None:
    options: Mapping[str, Any] = connection.get_execution_options()
    statement: str = options.get("heksher_begin", "")
    if statement:  # without, each statement is a transaction of its own
        connection.exec_driver_sql(statement)
