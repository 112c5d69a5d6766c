"""`ThreadHeksherClient`: the public client for threads and gevent, a thin layer over the core."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, Self

from heksher._client.files import AnyPath
from heksher._client.modification_lock import ThreadModificationLock
from heksher._client.options import ClientOptions, Startup
from heksher.backends import choose_blocking
from heksher.backends.base import Backend, Clock, run_blocking
from heksher.clients._base import ClientBase
from heksher.status import SettingData

__all__ = ["ThreadHeksherClient", "ThreadModificationLock"]

ThreadModificationLock.__module__ = __name__  # users find it here


class ThreadHeksherClient(ClientBase):
    """Declares settings to a Heksher service and keeps their rules up to date, in a thread.

    Start it with ``set_as_main()`` and end it with ``close()``. ``with`` does both. Its methods may be
    called in any thread.

    Args: as for `AsyncHeksherClient`, except
        http_client_args: keyword arguments for ``httpx.Client``.
        http_client: a ready ``httpx.Client``, or a callable that makes one. On a connection that a
            ready one opened for other requests, only its own timeouts limit the wait for an answer.
        backend: "auto", "thread", "gevent", or a blocking object with the methods of
            `heksher.backends.Backend`; "auto" is "gevent" in a process that gevent has patched.

    Raises:
        InvalidArgumentError: an argument is unusable.
        BackendError: the backend is not installed.
    """

    def __init__(
        self,
        service_url: str,
        update_interval: float,
        context_features: Iterable[str],
        *,
        http_client_args: Mapping[str, Any] | None = None,
        http_client: Any = None,
        backend: Literal["auto", "thread", "gevent"] | Backend = "auto",
        startup: Startup = "continue",
        startup_timeout: float | None = None,
        request_timeout: float = 30.0,
        max_response_bytes: int = 10 * 1024 * 1024,
        snapshot: AnyPath | None = None,
        overrides: AnyPath | None = None,
        clock: Clock | None = None,
        random: Callable[[], float] | None = None,
    ) -> None:
        options = ClientOptions(
            service_url=service_url,
            update_interval=update_interval,
            context_features=context_features,
            http_client_args=http_client_args,
            http_client=http_client,
            startup=startup,
            startup_timeout=startup_timeout,
            request_timeout=request_timeout,
            max_response_bytes=max_response_bytes,
            snapshot=snapshot,
            overrides=overrides,
            clock=clock,
            random=random,
        )
        super().__init__(lambda: choose_blocking(backend), options)
        self._modification_lock = ThreadModificationLock(self._core.queue, self._core.create_event)

    @property
    def modification_lock(self) -> ThreadModificationLock:
        """A lock that holds updates back: while you hold it, no update publishes anything.

        Any task or thread may release it. Do not call `reload` or start the client while you hold it:
        they wait for an update. `reload` never returns then, and a start only after ``startup_timeout``.
        """
        return self._modification_lock

    def set_as_main(self) -> None:
        """Start, and become the main client, which serves all settings not added to another one.

        Returns once all settings are declared and their rules are published; with
        ``startup="continue"`` also when that failed, or took longer than ``startup_timeout``. With
        ``startup="raise"``, declarations that the service could not answer are tried again until then.

        Does nothing if the client runs already. Callers that start it at the same time wait for one
        start and share its result; if the one that starts it is interrupted, another one takes over.

        Raises:
            ClientClosedError: the client was closed.
            DeclarationRejected, StartupTimeoutError, ServiceError: with ``startup="raise"``.
            InvalidArgumentError: no HTTP client can be made from `http_client_args` and the
                environment (proxies, certificates), whatever `startup` is; or, with
                ``startup="raise"``, the file of `overrides` cannot be used.
        """
        run_blocking(self._core.start())

    def close(self) -> None:
        """End the client, whatever state it is in; nothing of it stays running or connected.

        A request that is under way is ended. Settings keep their last rules and defaults. Closing is
        final; closing again does nothing.
        """
        run_blocking(self._core.close())

    def reload(self) -> None:
        """Fetch all rules now; return once rules that were read after this call began are published.

        Calls during an update share the next one. The pause until the next poll begins anew.

        Raises:
            ClientNotStartedError: the client was not started.
            ClientClosedError: the client was closed.
            ServiceError: the update failed, and settings keep their last rules. It is also an
                ``httpx.HTTPError``.
        """
        run_blocking(self._core.reload())

    def ping(self) -> None:
        """Return if the service answers its health check with HTTP 200, whatever the body is.

        If the service is a file, return if the file can be read and is TOML.

        Raises:
            ServiceError: it does not. It is also an ``httpx.HTTPError``.
            ClientClosedError: the client was closed.
        """
        run_blocking(self._core.ping())

    def get_settings(self) -> dict[str, SettingData]:
        """Return all settings that the service has, by name.

        Raises:
            HeksherError: the service is a file.
            ServiceError: the request failed. It is also an ``httpx.HTTPError``.
            ClientClosedError: the client was closed.
        """
        return run_blocking(self._core.get_settings())

    def __enter__(self) -> Self:
        self.set_as_main()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()
