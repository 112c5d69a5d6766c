"""A client whose service is a file in TOML: ``service_url="file:///etc/shop/settings.toml"``.

What the file says becomes sections as a service sends them, so that types, validators, tracking, reports
and listeners are the same. Nothing is declared: a file has no declarations.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Collection
from contextlib import AbstractAsyncContextManager
from typing import Any, NoReturn, TypeVar

from heksher import _wire
from heksher._client.connection import Connection
from heksher._client.files import LocalFile, reason_of, warn_of_unknown
from heksher._client.lifecycle import Call, Lifecycle
from heksher._client.publishing import Publication, Publisher
from heksher._client.settings import ClientSettings
from heksher._client.update import publish
from heksher._given_rules import rules_from
from heksher._given_toml import given_to, parse
from heksher._text import shown
from heksher.backends.base import Backend, HttpOptions, process
from heksher.exceptions import HeksherError, InvalidResponseError, ServiceUnreachableError
from heksher.setting import Setting
from heksher.status import DataSource, DeclarationState, DeclaredSetting

T = TypeVar("T")


class FileConnection(Connection):
    """In place of a connection to a service.

    Args:
        path: the file's absolute path.
        http: the file's URL, and the most bytes that are read.
        lock: the client's lock.
        lifecycle: the client's, which refuses reading after closing.

    Attributes:
        url: the file's.
    """

    def __init__(
        self, path: str, http: HttpOptions, lock: threading.RLock, lifecycle: Lifecycle
    ) -> None:
        super().__init__(http, lock, lifecycle)
        self._file = LocalFile(path, http.max_response_bytes)
        self.url = http.base_url

    async def exchange(self, exchange: _wire.Exchange[T], backend: Backend) -> T:
        """Answer the request for the service's health, which is the file's.

        Raises:
            ClientClosedError: the client was closed.
            ServiceError: the file cannot be read, or is not TOML.
            HeksherError: it is another request.
        """
        if exchange.request != _wire.health().request:
            raise HeksherError(f"{self.url} has no declarations: get_settings() needs a service")
        data = await self.read(backend)
        await process(backend, len(data), lambda: self.given_by(data, ()))
        return exchange.read(_wire.Response(200))

    async def read(self, backend: Backend) -> bytes:
        """Return what the file holds.

        Raises:
            ClientClosedError: the client was closed.
            ServiceUnreachableError: it cannot be read.
        """
        with self._lock:
            self._lifecycle.check(Call.REQUEST)
        try:
            data = await self._file.read(backend)
        except OSError as error:
            raise ServiceUnreachableError(
                f"{self.url} cannot be read: {reason_of(error)}"
            ) from error
        if data is None:
            raise ServiceUnreachableError(f"{self.url} cannot be read: there is no such file")
        with self._lock:
            self.bytes_received += len(data)
        return data

    def given_by(self, data: bytes, names: Collection[str]) -> tuple[dict[str, Any], list[str]]:
        """Return what the content gives to settings, as `given_to` does.

        Raises:
            InvalidResponseError: it is not TOML, or names a setting twice.
        """
        try:
            return given_to(parse(data), names)
        except ValueError as error:
            raise InvalidResponseError(f"{self.url}: {error}") from error


class FileUpdater:
    """Updates the settings of one client from a file. Not for two tasks or threads at a time.

    Args:
        connection: reads the file.
        features: the context features in the order that ranks the rules.
        settings: the client's settings.
        publisher: publishes their rules.
        publishing: makes a context in which rules may be published; entering it may take long.
        is_wanted: whether the run that this belongs to goes on; else nothing is published any more.
        backend: reads large files in a thread.

    Attributes:
        has_to_save: whether there is something for a snapshot, of which a file has none.
    """

    has_to_save = False

    def __init__(
        self,
        connection: FileConnection,
        features: tuple[str, ...],
        settings: ClientSettings,
        publisher: Publisher,
        publishing: Callable[[], AbstractAsyncContextManager[None]],
        is_wanted: Callable[[], bool],
        backend: Backend,
    ) -> None:
        self._connection = connection
        self._features = features
        self._settings = settings
        self._publisher = publisher
        self._publishing = publishing
        self._is_wanted = is_wanted
        self._backend = backend
        # The content that was published last, and what it was read for.
        self._published: tuple[bytes, object] | None = None

    async def load(self) -> None:
        """Do nothing: there is no snapshot."""

    async def save(self) -> None:
        """Do nothing likewise."""

    async def update(self, *, is_requested: bool = False) -> None:  # noqa: ARG002
        """Read the file, and publish what it says, if that or the settings have changed.

        Raises:
            ServiceError: it cannot be used.
        """
        data = await self._connection.read(self._backend)
        self._settings.known_names()  # forgets settings that no longer exist
        for entry in self._settings.entries():
            if entry.declared.state is DeclarationState.PENDING:
                self._settings.note_declared(entry, DeclaredSetting(DeclarationState.UPTODATE))
        tracking, _ = reading = self._settings.reading()
        if (data, reading) != self._published:
            sections, unusable, unknown = await process(
                self._backend, len(data), lambda: self._sections(data)
            )
            publication = Publication(
                sections, self._features, tracking, self._is_wanted, DataSource.FILE
            )
            async with self._publishing():
                await publish(publication, self._publisher, self._backend)
            for name, error in unusable.items():
                self._publisher.note_unusable([name], error)
            if self._published is None or data != self._published[0]:
                warn_of_unknown(self._connection.url, unknown)
            self._published = data, reading
        self._publisher.note_read(DataSource.FILE)

    def _sections(
        self, data: bytes
    ) -> tuple[dict[str, bytes], dict[str, InvalidResponseError], list[str]]:
        """Return sections by name, errors of settings without a section, and names that no setting has."""
        settings = {
            entry.current_name: setting
            for entry in self._settings.entries()
            for setting in entry.alive()[:1]
        }
        given, unknown = self._connection.given_by(data, settings.keys())
        sections: dict[str, bytes] = {}
        unusable: dict[str, InvalidResponseError] = {}
        for name, setting in settings.items():
            try:
                sections[name] = _section(setting, given[name]) if name in given else _EMPTY
            except ValueError as error:
                reason = str(error).removeprefix(f"setting {name!r}: ")
                unusable[name] = InvalidResponseError(reason)
        return sections, unusable, unknown


# The section of a setting that the file does not name.
_EMPTY = b'{"rules":[]}'


def _section(setting: Setting[Any], given: object) -> bytes:
    """Return a section as a service would send it.

    A rule's number is its place in the file, from 1. One value for all contexts is a default value.

    Raises:
        ValueError: it cannot be said in JSON, or has impossible conditions.
    """
    rules = rules_from(setting, given, lambda value, _: value)
    section: dict[str, Any] = {
        "rules": [
            {"value": rule.value, "context_features": rule.conditions, "rule_id": number}
            for number, rule in enumerate(rules, 1)
        ]
    }
    if len(rules) == 1 and not rules[0].conditions:
        section = {"rules": [], "default_value": rules[0].value}
    try:
        text = json.dumps(section, allow_nan=False, default=_refuse)
    except RecursionError:
        raise ValueError("its value nests too deeply") from None
    return _wire.bounded(text.encode(), "its value")


def _refuse(value: object) -> NoReturn:
    raise ValueError(
        f"invalid value {shown(value)}: expected a text in quotes for a date or a time"
    )
