"""A mark that changes with every commit and shows caches whether anything has changed.

A cache reads the revision first, then the data, and stores the data under that revision. The data may
be newer than its revision, which costs one unnecessary read later. It is never older.

- In memory, all writers are in this process. They are counted after their commits.
- In a file, ``PRAGMA data_version`` counts, per connection, the commits of all other connections. A
  connection that never writes therefore counts all commits, of this process and of others.
- In PostgreSQL, triggers count, so writes of the original service or of a person count as well. The
  count is the sum over the rows of ``heksher_revision``, read in the same snapshot as the data. A
  database that is restored from a backup brings an old count with it. So does a standby that takes
  over without the latest commits. The mark therefore also contains the files of the counting table,
  the counting trigger, and the start time of the server.

Why PostgreSQL needs more than one row: a transaction that has changed a row blocks all others that
want to change it, until it ends. With a single row, writers of the original service would wait for
each other. Worse, the original holds one transaction open while it works in a second one, so it would
wait for itself. What does not work:

- A sequence. It blocks no one, but its numbers are visible before the commit, so old data would be
  stored under a new revision.
- The highest number in a table with one row per change. The transaction with the lower number may
  commit last, without changing the maximum.

The solution: a trigger increments some row that no transaction holds (SKIP LOCKED), and inserts a new
row if there is none. No transaction waits, a commit increases the sum, a rollback does not, and there
are at most as many rows as transactions have ever been writing at the same time.
"""

from __future__ import annotations

import sqlite3
import threading
from contextlib import suppress
from queue import Empty, Full, Queue
from typing import Protocol, TypeAlias

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from heksher.service.domain.errors import DatabaseUnavailable
from heksher.service.storage.engines import Database

Mark: TypeAlias = int | str


class Revision(Protocol):
    """A source of marks."""

    def read(self) -> Mark: ...

    def read_nowait(self) -> Mark | None:
        """Like `read`, but without waiting; None if it would have to wait."""

    def committed(self) -> None:
        """Note that a writer of this process has committed."""

    def close(self) -> None: ...


def revision_of(database: Database) -> Revision:
    """Return the source of marks for *database*, whose tables must exist."""
    if database.in_memory:
        return _MemoryRevision()
    if database.path is not None:
        return _FileRevision(database.path, database.lock_timeout)
    return _PostgresRevision(database.engine)


class _MemoryRevision:
    """The number of commits; all writers are in this process."""

    def __init__(self) -> None:
        self._commits = 0

    def read(self) -> int:
        return self._commits

    def read_nowait(self) -> int:
        return self._commits

    def committed(self) -> None:
        self._commits += 1  # writers exclude each other

    def close(self) -> None:
        pass


class _FileRevision:
    """SQLite's ``PRAGMA data_version``."""

    def __init__(self, path: str, lock_timeout: float) -> None:
        # One connection for all callers, because each connection has its own numbers. By default it
        # does not wait for locks, because it is also used in event loops.
        self._connection = sqlite3.connect(
            path, timeout=0, isolation_level=None, check_same_thread=False
        )
        self._guard = threading.Lock()
        self._busy_timeout = round(lock_timeout * 1000)  # milliseconds

    def read(self) -> int:
        try:
            with self._guard:
                self._connection.execute(f"PRAGMA busy_timeout = {self._busy_timeout}").close()
                try:
                    return self._read()
                finally:
                    self._connection.execute("PRAGMA busy_timeout = 0").close()
        except sqlite3.Error as error:
            raise DatabaseUnavailable(str(error)) from error

    def read_nowait(self) -> int | None:
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


# A single text, because more columns take longer. A restore creates the triggers last. While there is
# no trigger, nothing is counted, so the current time makes every mark different.
_MARK = """
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
"""


class _PostgresRevision:
    """The count of the triggers, and what identifies the counter."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        # Reading is several times faster on a connection that is kept: it needs no pool, and prepares
        # the statement once. A second one is opened while the first one is in use.
        self._kept = Queue[sa.Connection](maxsize=1)

    def read(self) -> str:
        # Two connections may be lost: the kept one, and one from the pool. Then the pool discards its
        # other old connections, so the third one is new.
        for _ in range(2):
            try:
                return self._read()
            except DBAPIError as error:
                if not error.connection_invalidated:
                    raise
        return self._read()

    def _read(self) -> str:
        try:
            connection = self._kept.get_nowait()
        except Empty:
            connection = self._engine.connect()
        try:
            mark: str = connection.exec_driver_sql(_MARK).scalar_one()
        except BaseException:
            connection.close()
            raise
        try:
            self._kept.put_nowait(connection)
        except Full:
            connection.close()
        return mark

    def read_nowait(self) -> None:
        return None

    def committed(self) -> None:
        pass

    def close(self) -> None:
        with suppress(Empty):
            self._kept.get_nowait().close()
