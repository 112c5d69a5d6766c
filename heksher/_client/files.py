"""Files that the application names: their paths, and how one is read that others write at any time.

Knows names of settings only as texts for the log. Reading blocks, so a thread of the backend does it.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from time import time
from typing import TypeAlias, cast
from urllib.parse import unquote_to_bytes, urlsplit

from heksher._application_code import get_logger
from heksher._text import error_text, shown, some
from heksher.backends.base import Backend
from heksher.exceptions import InvalidArgumentError

_logger = get_logger(__name__)

#: A path as ``open()`` takes it, except for bytes.
AnyPath: TypeAlias = "str | os.PathLike[str]"

# Some writers empty a file and fill it then, or remove it and create another one. So what was written
# within the last second counts once it is the same after a pause. Seconds, and looks at most.
_FRESH = 1.0
_PAUSE = 0.02
_MAX_LOOKS = 50

# O_NONBLOCK, which some systems do not have: opening a pipe would wait for a writer.
_READING = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


class LocalFile:
    """A file that is read again and again.

    Args:
        path: the absolute path.
        limit: the most bytes that are read.

    Attributes:
        path: as given.
    """

    def __init__(self, path: str, limit: int) -> None:
        self.path = path
        self._limit = limit
        self._last: bytes | None = None

    async def read(self, backend: Backend) -> bytes | None:
        """Return the content of the file, or None if it does not exist.

        Args:
            backend: looks at the file in a thread. The pauses are in the caller: where gevent has patched
                sleep(), it would make a hub in that thread.

        Raises:
            OSError: it cannot be read, or is too large.
        """
        (data, is_fresh), last = await backend.in_thread(self.look), self._last
        for _ in range(_MAX_LOOKS):
            if data == last or not is_fresh:
                break
            await backend.create_event().wait(_PAUSE)
            last = data
            data, is_fresh = await backend.in_thread(self.look)
        self._last = data
        return data

    def look(self) -> tuple[bytes | None, bool]:
        """Return the content of the file at this moment, and whether it may be incomplete.

        Raises:
            OSError: as for `read`.
        """
        try:
            descriptor = os.open(self.path, _READING)
        except FileNotFoundError:
            return None, self._last is not None
        try:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise OSError("it is not a regular file")
            with open(descriptor, "rb", closefd=False) as file:
                data = file.read(self._limit + 1)
        finally:
            os.close(descriptor)
        if len(data) > self._limit:
            raise OSError(f"it is larger than max_response_bytes={self._limit}")
        return data, abs(time() - found.st_mtime) < _FRESH


def file_of_url(url: object) -> str | None:
    """Return the absolute path that a ``file:`` URL leads to; None: it is another URL.

    Raises:
        InvalidArgumentError: it leads to no file of this machine.
    """
    if not isinstance(url, str) or url[:5].lower() != "file:":
        return None
    expected = "expected file:///PATH, percent-encoded"
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise InvalidArgumentError(f"service_url cannot be parsed ({error}): {expected}") from None
    path = os.fsdecode(unquote_to_bytes(parts.path))
    if os.name == "nt":
        path = path.removeprefix("/")  # of /C:/settings.toml
    if parts.netloc.lower() not in ("", "localhost"):
        problem = "it names a host"
    elif parts.query or parts.fragment:
        problem = "it has a query or a fragment: write %3F for ? and %23 for # in a path"
    elif not os.path.isabs(path):
        problem = "its path is relative"
    elif "\0" in path or not url.isprintable():
        problem = "it has a character that no path has, or that cannot be printed"
    else:
        return path
    raise InvalidArgumentError(f"invalid service_url of a file: {problem}; {expected}")


def checked_path(name: str, path: object) -> str | None:
    """Return a path as an absolute one; None stays None.

    Args:
        name: the argument's name.
        path: its value.

    Raises:
        InvalidArgumentError: it is not a path, but a URL for example, or it is relative to a folder that
            does not exist.
    """
    if path is None:
        return None
    if isinstance(path, (str, os.PathLike)):
        text = os.fspath(cast(AnyPath, path))
        # A URL would count as a file that is missing, which may be no error.
        if isinstance(text, str) and text and "\0" not in text and not text.startswith("file:"):
            try:
                return os.path.abspath(text)
            except OSError as error:
                raise InvalidArgumentError(
                    f"invalid {name}={path!r}: there is no working directory ({error.strerror}); "
                    "give an absolute path"
                ) from None
    raise InvalidArgumentError(f"invalid {name}={path!r}: expected the path of a file, or None")


def warn_of_unknown(file: str, names: Sequence[str]) -> None:
    """Log names in a file that no setting has."""
    if names:
        _logger.warning(
            "%s: no setting of this client is called %s", file, some([*map(shown, names)], "or")
        )


def reason_of(error: Exception) -> str:
    """Return why a file cannot be used."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return error_text(error) or type(error).__name__
