"""The parts of one client, put together. What they do is in their own modules."""

from __future__ import annotations

import threading
from collections.abc import Callable

from heksher._client.connection import Connection
from heksher._client.file_service import FileConnection
from heksher._client.history import History
from heksher._client.home import Home
from heksher._client.lifecycle import Lifecycle
from heksher._client.modification_lock import LockQueue
from heksher._client.options import ClientOptions
from heksher._client.overrides import Overrides
from heksher._client.publishing import Publisher
from heksher._client.settings import ClientSettings
from heksher._client.snapshot import SnapshotFile
from heksher.backends.base import Backend


class Parts:
    """What a client consists of, for its core and for each of its runs.

    Args:
        choose_backend: returns the backend, or None as long as it cannot be known.
        options: the configuration.
        on_update: the application's: called after each update, with what went wrong or None.

    Attributes:
        lock: guards what more than one thread changes, in all parts. Reentrant, since the garbage
            collector may run anything while it is held.
        lifecycle: where the client is in its life.
        home: the event loop or the threads that it lives in.
        history: how its updates went.
        settings: its settings.
        publisher: publishes their rules.
        connection: the way to the service.
        queue: of updates that want to publish, and of the application that holds them back.
        overrides: the file of overrides.
        snapshot: the file that keeps the rules, or None.
    """

    def __init__(
        self,
        choose_backend: Callable[[], Backend | None],
        options: ClientOptions,
        on_update: Callable[[Exception | None], None],
    ) -> None:
        self.options = options
        self.on_update = on_update
        self.lock = threading.RLock()
        self.lifecycle = Lifecycle()
        self.home = Home(choose_backend, options.clock)
        self.history = History(options.update_interval)
        self.settings = ClientSettings(options.context_features, self.lock, self.lifecycle)
        self.publisher = Publisher(self.settings, self.lock, self.lifecycle)
        self.connection = Connection(options.http, self.lock, self.lifecycle)
        if options.file is not None:
            self.connection = FileConnection(options.file, options.http, self.lock, self.lifecycle)
        self.queue = LockQueue()
        self.overrides = Overrides(
            options.overrides,
            options.http.max_response_bytes,
            self.settings,
            self.lock,
            self.lifecycle,
        )
        self.snapshot: SnapshotFile | None = None
        if options.snapshot is not None:
            http = options.http
            self.snapshot = SnapshotFile(
                options.snapshot, http.base_url, options.context_features, http.max_response_bytes
            )
