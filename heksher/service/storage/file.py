"""Whether the file that connections have open still stands at its path.

SQLite does not ask: it goes on with a file that was deleted, or in whose place another one was put. What
is written there is acknowledged, and gone with the process.

What stands there instead is not opened. Beside it may lie the write-ahead log of the former file, which
SQLite would take for its own: only who put it there knows.
"""

from __future__ import annotations

import logging
import os

from heksher.service.domain.errors import DatabaseUnavailable
from heksher.service.storage.outages import Outage

_GONE = "its file was deleted or replaced"


class File:
    """The file at *path*, which is open. While it is, no other file has its number."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._opened = _number(path)
        self._outage = Outage(
            logging.ERROR,
            "the database's file %s was deleted or replaced; nothing is read or written. End the "
            "service, restore the file as docs/service.md says, and start the service again",
            "the database's file is in its place again",
        )

    def is_in_place(self) -> bool:
        """Whether it is the one at its path; costs a look at a directory."""
        return _number(self._path) == self._opened

    def check(self) -> None:
        """Raise ``DatabaseUnavailable`` if it is not."""
        if not self.is_in_place():
            self._outage.begin(self._path)
            raise DatabaseUnavailable(_GONE)
        self._outage.end()


def _number(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino
