"""Kinds of databases and how to connect to them: engines, connections, the start of transactions.

Knows SQLAlchemy and the drivers, and of tables only the names. Drivers do not begin transactions
themselves: they would do it too late, or not at all for reads. Instead, each transaction begins with
the SQL that ``Database`` has for its purpose.
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

# Maximum wait for a lock or for a connection, in seconds.
LOCK_TIMEOUT = 10.0

# Maximum number of connections per process. Writers queue before they take a connection, and on
# PostgreSQL one is kept to read the revision, so all but two are available to readers.
_MAX_CONNECTIONS = 10

# How long a writer stays in PostgreSQL's queue for the table locks before it leaves and queues again,
# in seconds; see ``_lock_tables``.
_TABLE_LOCK_TIMEOUT = 0.2

# After this many seconds without a statement, PostgreSQL ends a writer's transaction. Otherwise a
# process that hangs, or whose machine has failed, would lock out all writers forever.
_IDLE_TIMEOUT = 30.0

# Key of the advisory lock for writing, creating and migrating: "heksher" as a number.
_ADVISORY_LOCK = int.from_bytes(b"heksher", "big")

_EXPECTED = (
    f"expected the path of an SQLite file, {MEMORY!r}, or postgresql://USER:PASSWORD@HOST:PORT/NAME"
)


@dataclass(frozen=True)
class Database:
    """A database and how to begin transactions on it.

    Attributes:
        engine: source of connections.
        display_name: name for messages, without a password.
        begin_reading: SQL to begin a transaction that sees a consistent state.
        begin_writing: SQL to begin a transaction that excludes other writers.
        begin_opening: SQL to begin a transaction that creates or migrates tables; excludes others
            of its kind.
        path: absolute path of the file; None if the database is not a file.
        in_memory: whether the database lives in memory, as long as its only connection.
        lock_timeout: maximum wait for a lock or a connection, in seconds.
    """

    engine: sa.Engine
    display_name: str
    begin_reading: str = "BEGIN"
    begin_writing: str = "BEGIN IMMEDIATE"
    begin_opening: str = "BEGIN IMMEDIATE"
    path: str | None = None
    in_memory: bool = False
    lock_timeout: float = field(default_factory=lambda: LOCK_TIMEOUT)


def database_of(text: str) -> Database:
    """Return the database that *text* names, without opening it.

    Raises:
        CannotStartError: *text* is invalid, or a package is missing. Messages never contain a URL,
            which may have a password.
    """
    scheme, separator, _ = text.partition("://")
    if text in (MEMORY, ":memory:"):
        return _in_memory()
    if not separator:
        return _file(text)
    try:
        url = sa.make_url(text)
    except (ArgumentError, ValueError):  # these messages may contain the URL with its password
        raise CannotStartError(f"invalid database URL: {_EXPECTED}") from None
    if scheme in ("postgresql", "postgres", "postgresql+psycopg"):
        return _postgresql(url)
    if scheme == "sqlite" and not url.host and not url.query:
        return _in_memory() if url.database in (None, "", ":memory:") else _file(url.database)
    raise CannotStartError(f"unsupported kind of database URL: {_EXPECTED}")


def _in_memory() -> Database:
    engine = sa.create_engine(
        "sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False}
    )
    _set_up_sqlite(engine, "PRAGMA foreign_keys = ON")
    return Database(engine, MEMORY, in_memory=True)


def _file(path: str) -> Database:
    if not path:
        raise CannotStartError(f"empty name of a database: {_EXPECTED}")
    # Absolute, so that SQLite does not mistake the name for one of its own URLs, and the process may
    # change its directory.
    full_path = os.path.abspath(path)
    engine = sa.create_engine(
        sa.URL.create("sqlite", database=full_path),
        connect_args={"timeout": LOCK_TIMEOUT},
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
            "invalid database URL: write an @ in the user name or the password as %40"
        )
    # Defaults for a connection. The query part of the URL takes precedence.
    options: dict[str, Any] = {
        "application_name": "heksher",
        "connect_timeout": max(round(LOCK_TIMEOUT), 2),  # per host; libpq treats less than 2 as 2
        "tcp_user_timeout": _milliseconds(LOCK_TIMEOUT),
        # Detect a host that vanished before it answered; by default the system waits for hours.
        "keepalives_idle": max(round(LOCK_TIMEOUT), 1),
        "keepalives_interval": max(round(LOCK_TIMEOUT), 1),
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
    event.listen(engine, "connect", _check_encoding, insert=True)  # before SQLAlchemy's own queries
    # The query part may contain a password as well, so only the address is kept.
    address = {key: url.query[key] for key in ("host", "port") if key in url.query}
    display_name = url.set(drivername="postgresql", query=address).render_as_string(
        hide_password=True
    )
    exclusively = (
        f"BEGIN ISOLATION LEVEL READ COMMITTED; {_set_lock_timeout(LOCK_TIMEOUT)}; "
        f"SET LOCAL idle_in_transaction_session_timeout = {_milliseconds(_IDLE_TIMEOUT)}; "
        f"SELECT pg_advisory_xact_lock({_ADVISORY_LOCK})"
    )
    return Database(
        engine,
        display_name,
        begin_reading=(
            f"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; {_set_lock_timeout(LOCK_TIMEOUT)}"
        ),
        begin_opening=exclusively,
        begin_writing=f"{exclusively}; {_lock_tables()}",
    )


def _check_encoding(connection: Any, _record: object) -> None:
    """Refuse encodings other than UTF8, such as that of a cluster created without a locale."""
    encoding = connection.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        name = connection.info.dbname
        connection.close()  # SQLAlchemy 2.0 leaves it open after an error
        raise CannotStartError(
            f"the database {name} has the encoding {encoding}, expected UTF8: "
            "create it with createdb --encoding=UTF8 --template=template0"
        )


def _lock_tables() -> str:
    """Return SQL that excludes all other writers, including the original service, but no readers.

    This service's own writers already exclude each other by the advisory lock, which the original
    does not know; only locks on the tables keep it out. But waiting for them can end in a deadlock
    that PostgreSQL does not detect. While the original has a transaction open, it works on a second
    connection as well. If we queue for a table that its transaction has written, its second
    connection queues behind us, and its transaction waits in the client for the second connection:
    none of the three can continue. Therefore we leave the queue after a short time and queue again,
    which lets the second connection through.
    """
    tables = ", ".join(sorted(t.metadata.tables.keys() - {t.alembic_version.name}))
    return (
        f"{_set_lock_timeout(_TABLE_LOCK_TIMEOUT)}; LOCK TABLE {tables} IN SHARE ROW EXCLUSIVE MODE; "
        f"{_set_lock_timeout(LOCK_TIMEOUT)}"
    )


def _set_lock_timeout(seconds: float) -> str:
    return f"SET LOCAL lock_timeout = {_milliseconds(seconds)}"


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)


def _bounded_pool() -> dict[str, Any]:
    return {
        "poolclass": QueuePool,
        "pool_size": _MAX_CONNECTIONS,
        "max_overflow": 0,
        "pool_timeout": LOCK_TIMEOUT,
    }


def _begin(connection: sa.Connection) -> None:
    options: Mapping[str, Any] = connection.get_execution_options()
    statement: str = options.get("heksher_begin", "")
    if statement:  # without one, each statement is its own transaction
        connection.exec_driver_sql(statement)
