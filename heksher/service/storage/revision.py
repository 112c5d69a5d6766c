"""A mark that is another one after every commit: by it a reader sees whether anything changed.

Whoever keeps what it read reads the revision first, and keeps the data under that one. Data may then
be newer than the revision that they are kept under, which costs a look more, and never older.

- In memory all writers are here: they are counted, after their commit.
- For a file SQLite counts, for a connection, the commits of all others. One that never writes
  sees those of this process and of any other.
- In PostgreSQL triggers count, so that the original service's writes, or anybody's, count too. The
  count is the sum over the rows of ``heksher_revision``, and seen in the same snapshot as the data.
  A restored database brings a former count with it, and so does another server that takes over and
  lacks the last commits: so the mark also has which files the count is in, which trigger counts, and
  since when the server runs.

Why more than one row in PostgreSQL: a transaction that changed the row keeps all others from changing
it until it ends. Writers of the original would wait for each other; worse, it holds one transaction
open while it works in a second one, and would wait for itself. A sequence lets nobody wait, but its
numbers are seen before the commit: old data would be kept under the new number. The highest number
of a row per change is no way either: the one with the lower number may commit last. So a
trigger adds to some row that nobody holds at the moment (SKIP LOCKED), and adds a row when there is
none. Nobody waits; a commit makes the sum grow, a rollback does not; there are as many rows as
transactions ever wrote at the same time.
"""

from __future__ import annotations

import sqlite3
import threading
from typing import Protocol, TypeAlias

import sqlalchemy as sa

from heksher.service.domain.errors import DatabaseUnavailable
from heksher.service.storage.engines import Database

Mark: TypeAlias = int | str


class Revision(Protocol):
    """Where the mark comes from."""

    def read(self) -> Mark: ...

    def at_once(self) -> Mark | None:
        """The same for an event loop: None where it takes a wait."""

    def committed(self) -> None:
        """A writer of this process is through."""

    def close(self) -> None: ...


def revision_of(database: Database) -> Revision:
    """How commits to *database* are counted. Its tables must be there."""
    if database.in_memory:
        return _Counted()
    if database.path is not None:
        return _OfFile(database.path, database.patience)
    return _OfTable(database.engine)


class _Counted:
    """All writers are here."""

    def __init__(self) -> None:
        self._commits = 0

    def read(self) -> int:
        return self._commits

    def at_once(self) -> int:
        return self._commits

    def committed(self) -> None:
        self._commits += 1  # writers are alone

    def close(self) -> None:
        pass


class _OfFile:
    """SQLite's own count."""

    def __init__(self, path: str, patience: float) -> None:
        # The numbers are a connection's own, so that there is one for all who ask. It waits for
        # nothing unless it is told to: an event loop asks, too.
        self._connection = sqlite3.connect(
            path, timeout=0, isolation_level=None, check_same_thread=False
        )
        self._guard = threading.Lock()
        self._patience = round(patience * 1000)

    def read(self) -> int:
        try:
            with self._guard:
                self._connection.execute(f"PRAGMA busy_timeout = {self._patience}").close()
                try:
                    return self._read()
                finally:
                    self._connection.execute("PRAGMA busy_timeout = 0").close()
        except sqlite3.Error as error:
            raise DatabaseUnavailable(str(error)) from error

    def at_once(self) -> int | None:
        if not self._guard.acquire(blocking=False):
            return None
        try:
            return self._read()
        except sqlite3.Error:
            return None
        finally:
            self._guard.release()

    def _read(self) -> int:
        row: tuple[int] = self._connection.execute("PRAGMA data_version").fetchone()
        return row[0]

    def committed(self) -> None:
        pass

    def close(self) -> None:
        self._connection.close()


# One text, as more columns take longer. A restore makes the triggers last. While there is none, nothing
# counts: then no mark is like another.
_MARK = sa.text("""
SELECT concat_ws(
    ' ',
    sum(changes),
    pg_relation_filenode('heksher_revision'::regclass),
    pg_postmaster_start_time(),
    coalesce(
        (
            SELECT oid::text FROM pg_trigger
            WHERE tgrelid = 'settings'::regclass AND tgname = 'heksher_count_change'
        ),
        clock_timestamp()::text
    )
) FROM heksher_revision
""")


class _OfTable:
    """What triggers counted, and where."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    def read(self) -> str:
        with self._engine.connect() as connection:
            return str(connection.scalar(_MARK))

    def at_once(self) -> None:
        return None

    def committed(self) -> None:
        pass

    def close(self) -> None:
        pass
