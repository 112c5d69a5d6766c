"""Translate database errors: database unavailable, conflict of transactions, or a bug.

Pure: takes errors, returns errors. Knows SQLite's error codes and SQLSTATE codes, but no driver.
"""

from __future__ import annotations

import sqlite3

from sqlalchemy.exc import DBAPIError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as NoConnectionLeft

from heksher.service.domain.errors import DatabaseUnavailable, MetAnotherTransaction

# Primary result codes: disk failure, disk full, no permission, or locked for too long.
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

# SQLSTATE: lock_not_available.
_NO_LOCK = "55P03"
# SQLSTATEs and their classes: connection (08), authorization (28), name of the database (3D), resources
# such as a full disk (53), operator intervention such as a restart or a cancelled statement (57),
# system error (58), lock timeout, read-only transaction (25006).
_UNAVAILABLE = ("08", "28", "3D", "53", "57", "58", _NO_LOCK, "25006")

# SQLSTATEs: serialization failure, deadlock.
_CONFLICT = ("40001", "40P01")


def translated(error: SQLAlchemyError) -> DatabaseUnavailable | MetAnotherTransaction | None:
    """Translate *error*; None for an error that should not happen."""
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
    if state.startswith(_CONFLICT):
        return MetAnotherTransaction(reason)
    if error.connection_invalidated or state.startswith(_UNAVAILABLE):
        return DatabaseUnavailable(reason)
    return None


def may_begin_again(error: DBAPIError) -> bool:
    """Whether to begin a transaction again: it lost its connection, or did not get a lock."""
    state: str = getattr(error.orig, "sqlstate", None) or ""
    return error.connection_invalidated or state.startswith((*_CONFLICT, _NO_LOCK))


def reason_of(error: DBAPIError) -> str:
    """Return the driver's message in one line. Drivers name hosts and users, but no passwords."""
    return "; ".join(str(error.orig).split("\n")).strip()
