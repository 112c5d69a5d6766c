"""Create the file of a database, and check that the one that connections have open is still at its path.

SQLite does not check the latter. It continues with a file that was deleted or replaced. Writes to it are
acknowledged, and lost when the process ends.

A file that replaces the open one is not opened automatically. The write-ahead log of the former file
may still be next to it, and SQLite would apply this log to the new file. Only the operator knows
whether the files belong together.
"""

from __future__ import annotations

import logging
import os
from contextlib import suppress

from heksher.service.domain.errors import DatabaseUnavailable
from heksher.service.storage.outages import Outage

_REPLACED = "its file was deleted or replaced"


def create_private(path: str) -> None:
    """Create an empty file at *path* that only its owner can use. An existing file is left as it is.

    SQLite makes an empty file into a database, and gives the files beside it the same permissions. It
    reports itself what does not work here.
    """
    with suppress(OSError):
        # Of a link without a file, SQLite creates the file.
        os.close(os.open(os.path.realpath(path), os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))


class File:
    """The open file at *path*, identified by its inode, which no other file has while it is open."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._opened = _identity(path)
        self._outage = Outage(
            logging.ERROR,
            "the database's file %s was deleted or replaced; nothing is read or written. Stop the "
            "service, restore the file as described in docs/operating.md, and start the service again",
            "the database's file is at its path again",
        )

    def is_in_place(self) -> bool:
        """Whether the open file is the one at its path. Costs one ``stat`` call."""
        return _identity(self._path) == self._opened

    def check(self) -> None:
        """Raise ``DatabaseUnavailable`` if the open file is not at its path."""
        if not self.is_in_place():
            self._outage.begin(self._path)
            raise DatabaseUnavailable(_REPLACED)
        self._outage.end()


def _identity(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino
