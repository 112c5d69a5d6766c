"""All SQL of the service: opening a database, reading and writing settings, rules and features.

Knows tables and transactions; knows neither the rules of declarations nor HTTP. Synchronous: who
lives in an event loop calls it from a worker thread. One transaction is one connection, and what
happens inside ``writing()`` happens alone: in this process, in others, and beside the original.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager

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
from heksher.service.storage.file import File
from heksher.service.storage.outages import Outage
from heksher.service.storage.reader import Reader
from heksher.service.storage.revision import Mark, Revision, revision_of
from heksher.service.storage.writer import Writer

__all__ = ["MEMORY", "Reader", "Storage", "Writer", "open_storage"]


class Storage:
    """An open database.

    Its transactions raise ``DatabaseUnavailable`` while it is away, and are as before when it is
    back; and ``MetAnotherTransaction`` when the whole transaction is worth another try.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._revision: Revision = revision_of(database)
        # Writers of this process queue here, and not for connections. With a single connection
        # readers have to queue as well.
        self._turn = threading.Lock()
        self._file = None if database.path is None else File(database.path)
        # Who can be read may yet take no writes, so that these are two.
        self._reads = Outage(
            logging.WARNING,
            "the database is not available: %s",
            "the database is available again",
        )
        self._writes = Outage(
            logging.WARNING, "the database takes no writes: %s", "the database takes writes again"
        )

    @contextmanager
    def reading(self) -> Generator[Reader]:
        """A transaction that sees one state of everything."""
        database = self._database
        with (
            self._alone(database.in_memory),
            self._transaction(database.begin_reading, self._reads) as connection,
        ):
            yield Reader(connection)

    @contextmanager
    def writing(self) -> Generator[Writer]:
        """A transaction that is alone in writing; an exception undoes it."""
        with self._alone():
            with self._transaction(self._database.begin_writing, self._writes) as connection:
                yield Writer(connection)
            self._revision.committed()

    def revision(self) -> Mark:
        """A mark that is another one after every commit; see the module ``revision``."""
        with self._in_place(), self._noting(self._reads):
            return self._revision.read()

    def revision_at_once(self) -> Mark | None:
        """`revision` for an event loop, which must not wait; None where it takes a worker thread."""
        if self._file is not None and not self._file.is_in_place():
            return None
        return self._revision.at_once()

    def answers(self) -> bool:
        """Whether the database can be asked."""
        try:
            with self.reading() as reader:
                reader.features()
        except (DatabaseUnavailable, MetAnotherTransaction, SQLAlchemyError):
            return False
        return True

    def last_write_failed(self) -> bool:
        """Whether the database took no write when it was last given one."""
        return self._writes.lasts

    def close(self) -> None:
        """Close all connections. The database in memory is gone then."""
        self._revision.close()
        self._database.engine.dispose()

    @contextmanager
    def _alone(self, needed: bool = True) -> Generator[None]:
        if needed and not self._turn.acquire(timeout=self._database.patience):
            raise DatabaseUnavailable("too many requests wait for their turn to write")
        try:
            yield
        finally:
            if needed:
                self._turn.release()

    @contextmanager
    def _transaction(self, begin: str, outage: Outage) -> Generator[sa.Connection]:
        with (
            self._in_place(),
            self._noting(outage),
            _begun(self._database, begin) as connection,
        ):
            yield connection

    @contextmanager
    def _in_place(self) -> Generator[None]:
        """See that the file is the one that is open, before and after: also for what is committed."""
        if self._file is None:
            yield
            return
        self._file.check()
        try:
            yield
        finally:
            self._file.check()

    @contextmanager
    def _noting(self, outage: Outage) -> Generator[None]:
        """Turn a database's errors into ours, and note whether it is away."""
        try:
            yield
        except SQLAlchemyError as error:
            ours = failures.translated(error)
            if ours is None:
                raise
            if isinstance(ours, DatabaseUnavailable):
                outage.begin(ours)
            raise ours from error
        except DatabaseUnavailable as error:
            outage.begin(error)
            raise
        outage.end()


@contextmanager
def _begun(database: Database, begin: str) -> Generator[sa.Connection]:
    """A connection in a transaction that begins with the SQL *begin*, and ends with the block.

    Only the beginning is tried again: on a new connection, when the one from the pool had died, and
    for as long as patience lasts, when others hold the locks.
    """
    engine = database.engine.execution_options(heksher_begin=begin)
    deadline = time.monotonic() + database.patience
    while True:
        with engine.connect() as connection:
            try:
                transaction = connection.begin()
            except DBAPIError as error:
                if failures.is_worth_another_begin(error) and time.monotonic() < deadline:
                    continue
                raise
            with transaction:
                yield connection
            return


def open_storage(database: str, features: Sequence[str] = (), *, migrate: bool = False) -> Storage:
    """Open *database*, creating file and tables where they are missing, and merge *features* in.

    Args:
        database: the path of an SQLite file, ``memory`` for one that lives as long as this, or a
            URL of SQLite or PostgreSQL.
        features: context features that must be there, in this order; empty: as stored.
        migrate: whether a database that lacks something of ours may be changed.

    Raises:
        CannotStartError: the database cannot be opened, is none of Heksher's, must be migrated,
            or has features that contradict *features*.
    """
    merged((), features)  # a bad name is found before a file is created
    found = database_of(database)
    with ExitStack() as undo, _refusing(found):
        undo.callback(found.engine.dispose)
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
def _refusing(database: Database) -> Generator[None]:
    """Turn what a database's errors are at the start into one."""
    try:
        yield
    except (DBAPIError, DatabaseUnavailable, MetAnotherTransaction) as error:
        reason = failures.reason_of(error) if isinstance(error, DBAPIError) else error
        raise CannotStartError(f"cannot open the database {database.shown}: {reason}") from error
