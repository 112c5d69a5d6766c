"""All SQL of the service: open a database, read and write settings, rules and features.

Knows tables and transactions, but neither the rules for declarations nor HTTP. Synchronous, so event
loops call it in worker threads. Each transaction has one connection. A transaction of ``writing()``
excludes all other writers: in this process, in other processes, and in the original service.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import TypeAlias

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from heksher.service.domain.errors import (
    CannotStartError,
    DatabaseUnavailable,
    MetAnotherTransaction,
)
from heksher.service.domain.feature_order import merged
from heksher.service.storage import failures, opening
from heksher.service.storage.engines import MEMORY, Database, database_of
from heksher.service.storage.file import File, create_private
from heksher.service.storage.outages import Outage
from heksher.service.storage.reader import Reader
from heksher.service.storage.revision import Mark, Revision, revision_of
from heksher.service.storage.writer import Writer

_Around: TypeAlias = Callable[[sa.Connection], AbstractContextManager[object]]

__all__ = ["MEMORY", "Mark", "Reader", "Storage", "Writer", "open_storage"]


class Storage:
    """An open database.

    Transactions raise ``DatabaseUnavailable`` while the database is unreachable, and work again
    without further help once it is back. They raise ``MetAnotherTransaction`` after a conflict, when
    the whole transaction should be retried.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._revision: Revision = revision_of(database)
        # Writers of this process queue for this lock and not for connections, so that they do not use
        # up the pool. A database in memory has a single connection, so readers queue here as well.
        self._writer_lock = threading.Lock()
        self._file = None if database.path is None else File(database.path)
        # Separate, because a database may be readable and still refuse writes.
        self._reads = Outage(
            logging.WARNING,
            "the database is unavailable: %s",
            "the database is available again",
        )
        self._writes = Outage(
            logging.WARNING, "the database refuses writes: %s", "the database accepts writes again"
        )

    @contextmanager
    def reading(self) -> Generator[Reader]:
        """Begin a transaction that sees a consistent state of the database."""
        database = self._database
        with (
            self._exclusive(database.in_memory),
            self._transaction(database.begin_reading, self._reads) as connection,
        ):
            yield Reader(connection)

    @contextmanager
    def writing(self) -> Generator[Writer]:
        """Begin a transaction that excludes other writers; an exception rolls it back."""

        def noting(connection: sa.Connection) -> AbstractContextManager[None]:
            return self._revision.noting(connection, lambda: writer.changed)

        database = self._database
        with (
            self._exclusive(),
            self._transaction(database.begin_writing, self._writes, noting) as connection,
        ):
            writer = Writer(connection)
            yield writer

    def revision(self) -> Mark:
        """Return a mark that changes with every commit; see the module ``revision``."""
        with self._in_place(), self._translating_errors(self._reads):
            return self._revision.read()

    def revision_nowait(self) -> Mark | None:
        """Like `revision`, but without waiting; None if that takes a worker thread."""
        if self._file is not None and not self._file.is_in_place():
            return None
        return self._revision.read_nowait()

    def name_of(self, revision: Mark) -> str:
        """Return a name of *revision* that no other state of this database has, and no other database."""
        return self._revision.name_of(revision)

    def changed_since(self, name: str, reader: Reader) -> set[str] | None:
        """Return the names of settings that may differ between a revision and what *reader* sees.

        Args:
            name: the revision's, see `name_of`. It can be any text.
            reader: has read something before, so that it sees no later changes.

        Returns:
            The names; None if everything may differ. So it is if the revision is unknown, if features
            changed, and if settings were deleted or renamed, or got other aliases.
        """
        return self._revision.changed_since(name, reader.connection)

    def answers(self) -> bool:
        """Whether the database answers."""
        try:
            with self.reading() as reader:
                reader.features()
        except (DatabaseUnavailable, MetAnotherTransaction, SQLAlchemyError):
            return False
        return True

    def last_write_failed(self) -> bool:
        """Whether the last attempt to write failed."""
        return self._writes.is_ongoing

    def close(self) -> None:
        """Close all connections. A database in memory is lost."""
        self._revision.close()
        self._database.engine.dispose()

    @contextmanager
    def _exclusive(self, needed: bool = True) -> Generator[None]:
        if needed and not self._writer_lock.acquire(timeout=self._database.lock_timeout):
            raise DatabaseUnavailable("too many requests are waiting to write")
        try:
            yield
        finally:
            if needed:
                self._writer_lock.release()

    @contextmanager
    def _transaction(
        self, begin: str, outage: Outage, around: _Around = nullcontext
    ) -> Generator[sa.Connection]:
        with (
            self._in_place(),
            self._translating_errors(outage),
            _begun(self._database, begin, around) as connection,
        ):
            yield connection

    @contextmanager
    def _in_place(self) -> Generator[None]:
        """Check before and after the block that the open file is still at its path.

        The second check covers the commit.
        """
        if self._file is None:
            yield
            return
        self._file.check()
        try:
            yield
        finally:
            self._file.check()

    @contextmanager
    def _translating_errors(self, outage: Outage) -> Generator[None]:
        """Translate SQLAlchemy's errors into the service's, and record the start or end of *outage*."""
        try:
            yield
        except SQLAlchemyError as error:
            translated = failures.translated(error)
            if translated is None:
                raise
            if isinstance(translated, DatabaseUnavailable):
                outage.begin(translated)
            raise translated from error
        except DatabaseUnavailable as error:
            outage.begin(error)
            raise
        outage.end()


@contextmanager
def _begun(
    database: Database, begin: str, around: _Around = nullcontext
) -> Generator[sa.Connection]:
    """Run the block in a transaction that begins with the SQL *begin*.

    The rest of the transaction, including the commit, is inside the context that *around* makes.
    Only the beginning is retried, until the lock timeout: on a new connection if the pooled one was
    lost, and while others hold the locks.
    """
    engine = database.engine.execution_options(heksher_begin=begin)
    deadline = time.monotonic() + database.lock_timeout
    while True:
        with engine.connect() as connection:
            try:
                transaction = connection.begin()
            except DBAPIError as error:
                if failures.may_begin_again(error) and time.monotonic() < deadline:
                    continue
                raise
            with around(connection), transaction:
                yield connection
            return


def open_storage(database: str, features: Sequence[str] = (), *, migrate: bool = False) -> Storage:
    """Open *database*, create missing files and tables, and merge *features* into the stored ones.

    Args:
        database: the path of an SQLite file, ``memory`` for a database that lives as long as the
            returned object, or a URL of SQLite or PostgreSQL.
        features: context features that must exist, in this order. Empty: the stored ones.
        migrate: whether to add this service's own tables to an existing database.

    Raises:
        CannotStartError: the database cannot be opened, is not a Heksher database, must be
            migrated first, or has features that contradict *features*.
    """
    merged((), features)  # refuses invalid names before a file is created
    found = database_of(database)
    with ExitStack() as undo, _refusing_to_start(found):
        undo.callback(found.engine.dispose)
        if found.path is not None:
            create_private(found.path)
        with _begun(found, found.begin_opening) as connection:
            opening.prepare(connection, in_memory=found.in_memory, migrate=migrate)
        storage = Storage(found)
        undo.callback(storage.close)
        with storage.reading() as reader:
            stored = reader.features()
        if merged(stored, features) != stored:
            with storage.writing() as writer:
                writer.put_features(merged(writer.features(), features))
        undo.pop_all()
    return storage


@contextmanager
def _refusing_to_start(database: Database) -> Generator[None]:
    """Translate the errors of a database at startup into ``CannotStartError``."""
    try:
        yield
    except (DBAPIError, DatabaseUnavailable, MetAnotherTransaction) as error:
        reason = failures.reason_of(error) if isinstance(error, DBAPIError) else error
        raise CannotStartError(
            f"cannot open the database {database.display_name}: {reason}"
        ) from error
