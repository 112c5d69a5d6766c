"""The overrides of a client's settings that a file gives.

The file is read with each update. It is in force as a whole or not at all: what is wrong in it leaves the
last good one in force. As with rules, nothing is in force before the first start has succeeded.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

from heksher import _registry
from heksher._application_code import get_logger
from heksher._client.files import LocalFile, reason_of, warn_of_unknown
from heksher._client.lifecycle import Lifecycle
from heksher._client.settings import ClientSettings
from heksher._given_toml import given_to, parse
from heksher._layers import call_listeners
from heksher._overriding import overridden, override_by_file, override_of_file
from heksher._rules.getter import Layer, Level
from heksher._text import encodable, one_line, some
from heksher.backends.base import Backend, process
from heksher.setting import Setting

_logger = get_logger(__name__)


class Overrides:
    """The file of overrides of one client, if it has one.

    Args:
        path: the file's absolute path, or None.
        limit: the most bytes that are read.
        settings: the client's settings.
        lock: the client's lock.
        lifecycle: the client's.

    Attributes:
        error: why the file cannot be used, or None.
    """

    def __init__(
        self,
        path: str | None,
        limit: int,
        settings: ClientSettings,
        lock: threading.RLock,
        lifecycle: Lifecycle,
    ) -> None:
        self._file = None if path is None else LocalFile(path, limit)
        self._name = "" if path is None else encodable(path)
        self._settings = settings
        self._lock = lock
        self._lifecycle = lifecycle
        # The content that was loaded last, and what it was read for. None: it has to be read again.
        self._seen: object = None
        # What has yet to be put in force.
        self._loaded: dict[Setting[Any], Layer] | None = None
        # The content that was reported last, and the names of the settings that it overrides.
        self._reported: tuple[bytes | None, list[str]] = (None, [])
        self.error: str | None = None

    async def load(
        self, backend: Backend, publishing: Callable[[], AbstractAsyncContextManager[None]]
    ) -> None:
        """Read the file, and put in force what it says, if that or the settings have changed.

        Args:
            backend: reads the file in a thread.
            publishing: makes a context in which something may be put in force.
        """
        file = self._file
        # A setting may still have overrides from the file of another client, which served it before.
        if file is None and not any(map(self._settings.serves, overridden(Level.FILE))):
            return
        _, reading = self._settings.reading()
        try:
            data = None if file is None else await file.read(backend)
            if (data, reading) == self._seen:
                return
            text = data or b""
            layers, unknown = await process(backend, len(text), lambda: self._layers(text))
        except Exception as error:
            self._seen = None
            self._note_error(f"{self._name}: {one_line(reason_of(error), 1000)}")
            return
        with self._lock:
            self._loaded = layers
            is_published = self._lifecycle.is_published
        if is_published:  # otherwise the start applies it, with the first rules
            async with publishing():
                with _registry.lock, self._lock:
                    self.apply()
        self._seen = data, reading
        self._note_error(None)
        self._report(data, sorted({each.name for each in layers}), unknown)
        call_listeners()

    def apply(self) -> None:
        """Put in force what was read. Called with the registry's lock and the client's lock held.

        `call_listeners` has to be called when they are free again.
        """
        layers, self._loaded = self._loaded, None
        if layers is not None:
            override_by_file(self._settings.alive(), layers)

    def _layers(self, data: bytes) -> tuple[dict[Setting[Any], Layer], list[str]]:
        """Return the overrides of the settings that a file names, and the names of no setting."""
        settings = self._settings.alive()
        given, unknown = given_to(parse(data), {each.name for each in settings})
        layers = {
            each: override_of_file(each, given[each.name])
            for each in settings
            if each.name in given
        }
        return layers, unknown

    def _note_error(self, error: str | None) -> None:
        if error is not None and error != self.error:
            _logger.warning("the overrides stay as they are: %s", error)
        self.error = error

    def _report(self, data: bytes | None, overridden: list[str], unknown: list[str]) -> None:
        """Log what is new in the file."""
        (known_data, known), self._reported = self._reported, (data, overridden)
        if overridden and overridden != known:
            _logger.warning("%s overrides %s", self._name, some(overridden))
        elif known and not overridden:
            _logger.info("%s overrides nothing any more", self._name)
        if data != known_data:
            warn_of_unknown(self._name, unknown)
