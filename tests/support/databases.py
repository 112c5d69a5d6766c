"""The databases that tests of the service run on: SQLite in memory, and a PostgreSQL of the tests' own."""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heksher.service import create_app

if TYPE_CHECKING:
    from starlette.applications import Starlette

    from support.postgres import PostgresServer


@dataclass(frozen=True)
class Database:
    """One of them.

    Attributes:
        name: for messages.
        fresh_app: makes an application on an empty database with these context features. The
            one before must have been shut down.
    """

    name: str
    fresh_app: Callable[[Sequence[str]], Starlette]


@dataclass(frozen=True)
class KeptDatabase:
    """A new, empty database, which outlives the services on it.

    Attributes:
        name: what it is, for messages.
        url: what a service calls it.
        rows: what a statement of SQL gives, past any service.
    """

    name: str
    url: str
    rows: Callable[[str], list[tuple[Any, ...]]]


SQLITE = Database("SQLite", lambda features: create_app(features=features))


def kept_on_sqlite(path: Path) -> KeptDatabase:
    """A file at *path*."""

    def rows(statement: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(path)) as connection, connection:
            return connection.execute(statement).fetchall()

    return KeptDatabase("SQLite", str(path), rows)


def kept_on_postgresql(server: PostgresServer) -> KeptDatabase:
    """A database of *server*."""
    name = f"kept_{secrets.token_hex(4)}"

    def rows(statement: str) -> list[tuple[Any, ...]]:
        with server.connect(name) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    return KeptDatabase("PostgreSQL", server.create_database(name), rows)


# With rule ids from 1 again. Deleting is several times faster here than TRUNCATE, which makes new
# files.
_EMPTY = """
DELETE FROM settings;
DELETE FROM context_features;
ALTER SEQUENCE rules_id_seq RESTART;
"""


def on_postgresql(server: PostgresServer) -> Database:
    """A database of *server*: always the same one, which is emptied each time.

    The application is always the same, too: many of them cost more time than all else. Shut down, it
    has closed its connections, and opens others when it is used once more.
    """
    app = create_app(server.create_database("emptied_each_time"))

    def fresh_app(features: Sequence[str]) -> Starlette:
        with server.connect("emptied_each_time") as connection:
            connection.execute(_EMPTY)
            for row in enumerate(features):
                connection.execute("INSERT INTO context_features VALUES (%s, %s)", row[::-1])
        return app

    return Database("PostgreSQL", fresh_app)
