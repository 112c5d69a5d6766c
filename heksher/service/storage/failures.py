"""What a database's errors mean: away or busy, met another transaction, or a defect of ours.

Pure: errors in, errors out. Knows the codes of SQLite and the states of SQL, no driver.
"""

from __future__ import annotations

import sqlite3

from sqlalchemy.exc import DBAPIError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as NoConnectionLeft

from heksher.service.domain.errors import DatabaseUnavailable, MetAnotherTransaction

# By the primary code: no disk, no room, no permission, or somebody else's lock for too long.
_SQLITE_UNAVAILABLE = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_PROTOCOL,
        sqlite3.SQLITE_READONLY,
    }
)

# Connection, authorization, name of the database, resources (a full disk), the operator's
# intervention (a restart, a cancelled statement), the system around it; a lock that was not to be
# had in time; and a database that can only be read.
_NO_LOCK = "55P03"
_UNAVAILABLE = ("08", "28", "3D", "53", "57", "58", _NO_LOCK, "25006")

# A serialization failure, a deadlock.
_MET_ANOTHER = ("40001", "40P01")


def translated(error: SQLAlchemyError) -> DatabaseUnavailable | MetAnotherTransaction | None:
    """Our own error for *error*; None for one that should not happen."""
    if isinstance(error, NoConnectionLeft):
        return DatabaseUnavailable("all connections are in use")
    if not isinstance(error, DBAPIError):
        return None
    reason = reason_of(error)
    code: int | None = getattr(error.orig, "sqlite_errorcode", None)
    if code is not None:
        return DatabaseUnavailable(reason) if code & 0xFF in _SQLITE_UNAVAILABLE else None
    state: str | None = getattr(error.orig, "sqlstate", None)
    if state is None:
        lost = error.connection_invalidated or isinstance(error, OperationalError)
        return DatabaseUnavailable(reason) if lost else None
    if state.startswith(_MET_ANOTHER):
        return MetAnotherTransaction(reason)
    if error.connection_invalidated or state.startswith(_UNAVAILABLE):
        return DatabaseUnavailable(reason)
    return None


def is_worth_another_begin(error: DBAPIError) -> bool:
    """Whether a transaction that could not begin may do so at once: connection or lock were lost."""
    state: str = getattr(error.orig, "sqlstate", None) or ""
    return error.connection_invalidated or state.startswith((*_MET_ANOTHER, _NO_LOCK))


def reason_of(error: DBAPIError) -> str:
    """What the driver says, in one line. Drivers name hosts and users, and no passwords."""
    return "; ".join(str(error.orig).split("\n")).strip()
