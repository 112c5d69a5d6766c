"""The databases for tests of the service: SQLite in memory, and PostgreSQL on a server of the tests."""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Callable, Generator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heksher.service import create_app

if TYPE_CHECKING:
    from starlette.applications import Starlette

    from support.postgres import PostgresServer


@dataclass(frozen=True)
class Database:
    """A database that each test finds empty.

    Attributes:
        name: its name in messages.
        fresh_app: makes an application on an empty database with these context features. The previous
            application must have been shut down.
    """

    name: str
    fresh_app: Callable[[Sequence[str]], Starlette]


@dataclass(frozen=True)
class KeptDatabase:
    """A new, empty database that outlives the services on it.

    Attributes:
        name: its name in messages.
        url: the database as `create_app` and ``heksher serve`` take it.
        rows: runs an SQL statement without a service, and returns its rows.
    """

    name: str
    url: str
    rows: Callable[[str], list[tuple[Any, ...]]]


SQLITE = Database("SQLite", lambda features: create_app(features=features))


def kept_on_sqlite(path: Path) -> KeptDatabase:
    """Return a database in a file at *path*."""

    def rows(statement: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(path)) as connection, connection:
            return connection.execute(statement).fetchall()

    return KeptDatabase("SQLite", str(path), rows)


def kept_on_postgresql(server: PostgresServer) -> KeptDatabase:
    """Return a database of *server*."""
    name = f"kept_{secrets.token_hex(4)}"

    def rows(statement: str) -> list[tuple[Any, ...]]:
        with server.connect(name) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    return KeptDatabase("PostgreSQL", server.create_database(name), rows)


# Rule ids start from 1 again. Deleting is several times faster here than TRUNCATE, which creates files.
_EMPTY = """
DELETE FROM settings;
DELETE FROM context_features;
ALTER SEQUENCE rules_id_seq RESTART;
"""


@contextmanager
def on_postgresql(server: PostgresServer) -> Generator[Database]:
    """Yield a database of *server* that is emptied for each test, on one connection for all of them.

    All tests share one application as well, since making one takes longer than all else. When it is shut
    down, it closes its connections, and it opens new ones when it is used again.
    """
    app = create_app(server.create_database("emptied_each_time"))

    with server.connect("emptied_each_time") as connection:

        def fresh_app(features: Sequence[str]) -> Starlette:
            connection.execute(_EMPTY)
            for row in enumerate(features):
                connection.execute("INSERT INTO context_features VALUES (%s, %s)", row[::-1])
            return app

        yield Database("PostgreSQL", fresh_app)
