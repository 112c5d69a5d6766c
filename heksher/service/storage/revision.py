"""A mark that changes with every commit and shows caches whether anything has changed.

A cache reads the revision first, then the data, and stores the data under that revision. The data may
be newer than its revision, which costs one unnecessary read later. It is never older.

- In memory, all writers are in this process. They are counted after their commits.
- In a file, ``PRAGMA data_version`` counts, per connection, the commits of all other connections. A
  connection that never writes therefore counts all commits, of this process and of others.
- In PostgreSQL, triggers count, so writes of the original service or of a person count as well. The
  counts are the rows of ``heksher_revision``, read in the same snapshot as the data. A database that is
  restored from a backup brings old counts with it. So does a standby that takes over without the
  latest commits. The mark therefore also contains the database, the files of the counting table, the
  counting trigger, and the start time of the server.

Why PostgreSQL needs more than one row: a transaction that has changed a row blocks all others that
want to change it, until it ends. With a single row, writers of the original service would wait for
each other. Worse, the original holds one transaction open while it works in a second one, so it would
wait for itself. What does not work:

- A sequence. It blocks no one, but its numbers are visible before the commit, so old data would be
  stored under a new revision.
- The highest number in a table with one row per change. The transaction with the lower number may
  commit last, without changing the maximum.

The solution: a trigger increments some row that no transaction holds (SKIP LOCKED), and inserts a new
row if there is none. No transaction waits, a commit increases a count, a rollback does not, and there
are at most as many rows as transactions have ever been writing at the same time.

Two marks also show which settings have changed. In memory and in a file, this process remembers what its
own commits changed; see ``changed_names``. In PostgreSQL, the trigger notes a name with each count, in
``heksher_changes``. Transactions that count in the same row follow each other, so the names between two
counts are complete. Each row has its own last 1,000 names, for the same reason that there are rows: so
that no transaction waits to delete what another one notes.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import sqlite3
import threading
from collections.abc import Callable, Generator
from collections.abc import Set as AbstractSet
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from queue import Empty, Full, Queue
from typing import Protocol, TypeAlias

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from heksher.service.domain.errors import DatabaseUnavailable
from heksher.service.storage.changed_names import ChangedNames
from heksher.service.storage.engines import Database

Mark: TypeAlias = int | str

# Returns names of settings. None means that anything may have changed.
Changed: TypeAlias = Callable[[], AbstractSet[str] | None]

# How long a reader waits until this process' writer has noted what it committed, in seconds.
_NOTING_TIMEOUT = 0.1


class Revision(Protocol):
    """A source of marks."""

    def read(self) -> Mark: ...

    def read_nowait(self) -> Mark | None:
        """Like `read`, but without waiting; None if it would have to wait."""

    def name_of(self, mark: Mark) -> str:
        """Return a name of *mark* that no other state of this database has, and no other database."""
        ...

    def changed_since(self, name: str, connection: sa.Connection) -> set[str] | None:
        """Return the names of settings that may have changed since the mark with this name.

        They include all that the transaction of *connection* sees; it has read something before.
        None means that everything may have changed.
        """

    def noting(self, connection: sa.Connection, changed: Changed) -> AbstractContextManager[None]:
        """Note what the block commits; *connection* has a transaction that excludes all other writers.

        Without an exception, the block has committed, and *changed* returns the settings that it
        changed.
        """
        ...

    def close(self) -> None: ...


def revision_of(database: Database) -> Revision:
    """Return the source of marks for *database*, whose tables must exist."""
    if database.in_memory:
        return _MemoryRevision()
    if database.path is not None:
        return _FileRevision(database.path, database.lock_timeout)
    return _PostgresRevision(database.engine)


class _MemoryRevision:
    """The number of commits; all writers are in this process, and exclude each other and readers."""

    def __init__(self) -> None:
        self._commits = 0
        self._identity = secrets.token_hex(8)
        self._names = ChangedNames()

    def read(self) -> int:
        return self._commits

    def read_nowait(self) -> int:
        return self._commits

    def name_of(self, mark: Mark) -> str:
        return f"{self._identity}.{mark}"

    def changed_since(self, name: str, connection: sa.Connection) -> set[str] | None:  # noqa: ARG002
        return self._names.between(name, self.name_of(self._commits))

    @contextmanager
    def noting(self, connection: sa.Connection, changed: Changed) -> Generator[None]:  # noqa: ARG002
        yield
        before = self.name_of(self._commits)
        self._commits += 1
        self._names.add(before, self.name_of(self._commits), changed())

    def close(self) -> None:
        pass


class _FileRevision:
    """SQLite's ``PRAGMA data_version``.

    What writers of this process changed is known by name. Other processes may commit between two of
    them, and then anything may have changed. It shows in two ways:

    - Before: the mark that a writer reads when it has excluded the others is not the one after the
      writer before it.
    - After: the writer's own connection counts commits of all others. If it has counted none since the
      transaction began, the mark that was read just before is the one right after this commit.
    """

    def __init__(self, path: str, lock_timeout: float) -> None:
        # One connection for all callers, because each connection has its own numbers. By default it
        # does not wait for locks, because it is also used in event loops.
        self._connection = sqlite3.connect(
            path, timeout=0, isolation_level=None, check_same_thread=False
        )
        self._guard = threading.Lock()
        self._busy_timeout = round(lock_timeout * 1000)  # milliseconds
        # The numbers are those of this connection; another process, or the next one, has them as well.
        self._identity = secrets.token_hex(8)
        self._names = ChangedNames()
        self._all_noted = threading.Event()
        self._all_noted.set()

    def read(self) -> int:
        try:
            with self._guard:
                self._connection.execute(f"PRAGMA busy_timeout = {self._busy_timeout}").close()
                try:
                    return _data_version(self._connection)
                finally:
                    self._connection.execute("PRAGMA busy_timeout = 0").close()
        except sqlite3.Error as error:
            raise DatabaseUnavailable(str(error)) from error

    def read_nowait(self) -> int | None:
        if not self._guard.acquire(blocking=False):
            return None
        try:
            return _data_version(self._connection)
        except sqlite3.Error:
            return None
        finally:
            self._guard.release()

    def name_of(self, mark: Mark) -> str:
        return f"{self._identity}.{mark}"

    def changed_since(self, name: str, connection: sa.Connection) -> set[str] | None:  # noqa: ARG002
        now = self.name_of(self.read())
        if not self._names.knows(now):
            # Not for long, because on a file system without shared memory, writers wait for readers.
            self._all_noted.wait(_NOTING_TIMEOUT)
        return self._names.between(name, now)

    @contextmanager
    def noting(self, connection: sa.Connection, changed: Changed) -> Generator[None]:
        driver = _driver_of(connection)
        before, by_others = self._current(), _data_version(driver)
        self._all_noted.clear()
        try:
            yield
            after = self._current()
            if by_others != _data_version(driver):
                after = None
            if after is None or after != before:
                self._names.add(before, after, changed())
        finally:
            self._all_noted.set()

    def _current(self) -> str | None:
        try:
            return self.name_of(self.read())
        except DatabaseUnavailable:
            return None  # no reason to refuse a write

    def close(self) -> None:
        self._connection.close()


def _data_version(connection: sqlite3.Connection) -> int:
    row: tuple[int] = connection.execute("PRAGMA data_version").fetchone()
    return row[0]


def _driver_of(connection: sa.Connection) -> sqlite3.Connection:
    """Return SQLite's own connection; SQLAlchemy's begins a transaction for each statement."""
    driver: sqlite3.Connection | None = connection.connection.driver_connection
    assert driver is not None
    return driver


# A single text, because more columns take longer. More than 20 counts are added up, because the name of
# the mark has to fit into a header; then it does not show what has changed. A restore creates the triggers
# last. While there is no trigger, nothing is counted, so the current time makes every mark different.
_MARK = """
SELECT concat_ws(
    ' ',
    CASE WHEN count(*) <= 20
    THEN coalesce(string_agg(concat(slot, '.', changes), '_' ORDER BY slot), '')
    ELSE sum(changes)::text END,
    (SELECT oid FROM pg_database WHERE datname = current_database()),
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

# A name that no setting has was noted while another transaction renamed the setting: null, as everything.
_CHANGED = """
SELECT settings.name FROM heksher_changes LEFT JOIN settings USING (name) WHERE slot = %s AND change > %s
"""

# A text matches in one way at most; otherwise a hostile one could take hours.
_COUNTS = re.compile(r"(?:[0-9]{1,9}\.[0-9]{1,18}_)*")


def _parsed(name: str) -> tuple[str, dict[int, int]]:
    """Return the identity of the counter, and the counts by slot."""
    identity, _, counts = name.partition("-")
    if not _COUNTS.fullmatch(f"{counts}_" if counts else ""):
        return name, {}
    pairs = (each.split(".") for each in counts.split("_") if each)
    return identity, {int(slot): int(count) for slot, count in pairs}


class _PostgresRevision:
    """The counts of the triggers, and what identifies the counter."""

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

    def name_of(self, mark: Mark) -> str:
        counts, _, identity = str(mark).partition(" ")
        return f"{hashlib.blake2b(identity.encode(), digest_size=8).hexdigest()}-{counts}"

    def changed_since(self, name: str, connection: sa.Connection) -> set[str] | None:
        now = self.name_of(connection.exec_driver_sql(_MARK).scalar_one())
        identity, counts = _parsed(name)
        identity_now, counts_now = _parsed(now)
        if identity != identity_now or not counts.keys() <= counts_now.keys():
            return None
        changed = set[str]()
        for slot, number in counts_now.items():
            missed = number - counts.get(slot, 0)
            if missed:
                found = (
                    connection.exec_driver_sql(_CHANGED, (slot, number - missed)).scalars().all()
                )
                if len(found) != missed or None in found:
                    return None
                changed.update(found)
        return changed

    def noting(self, connection: sa.Connection, changed: Changed) -> AbstractContextManager[None]:  # noqa: ARG002
        return nullcontext()

    def close(self) -> None:
        with suppress(Empty):
            self._kept.get_nowait().close()
