"""`AsyncHeksherClient`: the public client for asyncio and trio, a thin layer over the core."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, Protocol, Self

from heksher._client.files import AnyPath
from heksher._client.modification_lock import AsyncModificationLock
from heksher._client.options import ClientOptions, Startup
from heksher.backends import choose_async
from heksher.backends.base import Backend, Clock
from heksher.clients._base import ClientBase
from heksher.status import SettingData

__all__ = ["AsyncHeksherClient", "AsyncModificationLock"]

AsyncModificationLock.__module__ = __name__  # users find it here


class _TaskStatus(Protocol):
    """What ``task_group.start`` and ``nursery.start`` hand to `AsyncHeksherClient.run`."""

    def started(self) -> None: ...


class AsyncHeksherClient(ClientBase):
    """Declares settings to a Heksher service and keeps their rules up to date, on asyncio or trio.

    Start it with ``await set_as_main()`` and end it with ``await aclose()``. ``async with`` does both. Or
    run it in a task group of your own: ``await task_group.start(client.run)``. It belongs to one event
    loop, the one in which it is first awaited.

    Args:
        service_url: the service's address, such as ``http://heksher.example:8000``. A user name and
            a password in it are used as HTTP basic authentication and are never shown. Or the URL of a
            file in TOML, such as ``file:///etc/shop/settings.toml``: then there is no service.
        update_interval: seconds between updates, at most. The first comes after 0 to 1.0 of it, each
            later one after 0.8 to 1.0, so that the clients of a fleet do not poll at one moment.
        context_features: the names of the context features that the application knows.
        http_client_args: keyword arguments for ``httpx.AsyncClient``: headers, auth, proxy, verify,
            timeout, transport, event_hooks, … The address is always `service_url`, and only redirects
            to it are followed.
        http_client: a ready ``httpx.AsyncClient``, which is used and not closed, or a callable that
            makes one, which is closed at the end. Clients of httpx2 work as well; then errors of HTTP
            are also errors of httpx2.
        backend: "auto", "asyncio", "trio", or an object with the methods of
            `heksher.backends.Backend`. "auto" is decided where an event loop runs at construction,
            else at the first await.
        startup: what a start does if the service is away or slow. "continue": it is logged, settings
            keep the values that they have, and the client goes on trying. "raise": the start raises,
            and leaves nothing running. Use "raise" in tests and in CI.
        startup_timeout: seconds that a start may take. None: 5 with "continue", 30 with "raise".
        request_timeout: seconds that one whole request may take.
        max_response_bytes: the largest answer that is read, and the largest file.
        snapshot: the path of a file that keeps the rules, for a start without the service. It is loaded
            before the first request and written whenever rules have changed; only its owner can read
            it. Several processes may share it. `status` says what is wrong with it, if anything.
        overrides: the path of a file in TOML whose values replace the rules of the settings that it
            names. It is read again with each update. If it is missing, nothing is overridden; if it
            cannot be used, `status` says why, and a start with ``startup="raise"`` raises.
        clock: a clock instead of the event loop's, for tests.
        random: returns numbers from [0, 1) for the jitter, for tests.

    Raises:
        InvalidArgumentError: an argument is unusable.
        BackendError: the backend is not installed, or cannot run here.
    """

    def __init__(
        self,
        service_url: str,
        update_interval: float,
        context_features: Iterable[str],
        *,
        http_client_args: Mapping[str, Any] | None = None,
        http_client: Any = None,
        backend: Literal["auto", "asyncio", "trio"] | Backend = "auto",
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
        super().__init__(lambda: choose_async(backend), options)
        self._modification_lock = AsyncModificationLock(self._core.queue, self._core.create_event)

    @property
    def modification_lock(self) -> AsyncModificationLock:
        """A lock that holds updates back: while you hold it, no update publishes anything.

        Any task or thread may release it. Do not call `reload` or start the client while you hold it:
        they wait for an update. `reload` never returns then, and a start only after ``startup_timeout``.
        """
        return self._modification_lock

    async def set_as_main(self) -> None:
        """Start, and become the main client, which serves all settings not added to another one.

        Returns once all settings are declared and their rules are published; with
        ``startup="continue"`` also when that failed, or took longer than ``startup_timeout``. With
        ``startup="raise"``, declarations that the service could not answer are tried again until then.

        Does nothing if the client runs already. Callers that start it at the same time wait for one
        start and share its result; if the one that starts it is cancelled, another one takes over.

        Raises:
            ClientClosedError: the client was closed.
            InvalidArgumentError: no HTTP client can be made from `http_client_args` and the
                environment (proxies, certificates), whatever `startup` is; or, with
                ``startup="raise"``, the file of `overrides` cannot be used.
            BackendError: the backend cannot run here.
            DeclarationRejected: with ``startup="raise"``: the service refused declarations.
            StartupTimeoutError: likewise: the start took longer than ``startup_timeout``.
            ServiceError: likewise: the service could not be reached, or answered something unexpected.
        """
        await self._core.start()

    async def run(self, *, task_status: _TaskStatus | None = None) -> None:
        """Do the same in a task group of your own, until the client is closed. Cancelling closes it too.

        Use it as ``await task_group.start(client.run)`` with anyio, ``nursery.start`` with trio, or
        ``task_group.create_task(client.run())`` with asyncio. An update that fails never ends it.

        Raises:
            the same as `set_as_main`.
        """
        await self._core.run(task_status.started if task_status is not None else lambda: None)

    async def aclose(self) -> None:
        """End the client, whatever state it is in; nothing of it stays running or connected.

        Settings keep their last rules and defaults. Closing is final; closing again does nothing.
        """
        await self._core.close()

    async def close(self) -> None:
        """Deprecated name of `aclose`."""
        warnings.warn(
            "AsyncHeksherClient.close() is deprecated: call aclose()", DeprecationWarning, 2
        )
        await self.aclose()

    async def reload(self) -> None:
        """Fetch all rules now; return once rules that were read after this call began are published.

        Calls during an update share the next one. The pause until the next poll begins anew.

        Raises:
            ClientNotStartedError: the client was not started.
            ClientClosedError: the client was closed.
            ServiceError: the update failed, and settings keep their last rules. It is also an
                ``httpx.HTTPError``.
        """
        await self._core.reload()

    async def ping(self) -> None:
        """Return if the service answers its health check with HTTP 200, whatever the body is.

        If the service is a file, return if the file can be read and is TOML.

        Raises:
            ServiceError: it does not. It is also an ``httpx.HTTPError``.
            ClientClosedError: the client was closed.
        """
        await self._core.ping()

    async def get_settings(self) -> dict[str, SettingData]:
        """Return all settings that the service has, by name.

        Raises:
            HeksherError: the service is a file.
            ServiceError: the request failed. It is also an ``httpx.HTTPError``.
            ClientClosedError: the client was closed.
        """
        return await self._core.get_settings()

    async def __aenter__(self) -> Self:
        await self.set_as_main()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()
