"""Harnesses that run the same test body on asyncio, trio, threads and greenlets.

A body is an ``async def`` without arguments. On threads and greenlets its awaits never suspend, as in the
library: `AnyClient` gives the blocking client the methods of the asynchronous one.
"""

from __future__ import annotations

import asyncio
import threading
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Coroutine
from time import monotonic  # by this name, it cannot be frozen by a test
from typing import Any, TypeVar

import anyio
import pytest
import trio

from heksher import AsyncHeksherClient, ThreadHeksherClient
from heksher.backends import Backend, Event, run_blocking
from heksher.backends._anyio import AsyncioBackend, TrioBackend
from heksher.backends._thread import ThreadBackend
from heksher.status import ClientStatus, SettingData

T = TypeVar("T")

# Seconds. Tests do not wait for time to pass; this bounds the wait for something that must happen.
PATIENCE = 15.0


class AnyClient:
    """A client of either kind, with awaitable methods."""

    def __init__(self, client: AsyncHeksherClient | ThreadHeksherClient) -> None:
        self.client = client
        self.set_defaults = client.set_defaults
        self.track_contexts = client.track_contexts
        self.add_settings = client.add_settings
        self.on_change = client.on_change

    @property
    def status(self) -> ClientStatus:
        return self.client.status

    async def set_as_main(self) -> None:
        await _maybe_await(self.client.set_as_main())

    async def close(self) -> None:
        if isinstance(self.client, AsyncHeksherClient):
            await self.client.aclose()
        else:
            self.client.close()

    async def reload(self) -> None:
        await _maybe_await(self.client.reload())

    async def ping(self) -> None:
        await _maybe_await(self.client.ping())

    async def get_settings(self) -> dict[str, SettingData]:
        result = self.client.get_settings()
        return result if isinstance(result, dict) else await result

    async def __aenter__(self) -> AnyClient:
        if isinstance(self.client, AsyncHeksherClient):
            await self.client.__aenter__()
        else:
            self.client.__enter__()
        return self

    async def __aexit__(self, *exc_info: Any) -> None:
        if isinstance(self.client, AsyncHeksherClient):
            await self.client.__aexit__(*exc_info)
        else:
            self.client.__exit__(*exc_info)


async def _maybe_await(result: Awaitable[None] | None) -> None:
    if result is not None:
        await result


class Background:
    """A function that runs next to the body, and how it ended."""

    def __init__(self) -> None:
        self.ended = False
        self.error: BaseException | None = None

    async def observe(self, function: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        try:
            await function()
        except Exception as error:
            self.error = error
        finally:
            self.ended = True


class Harness(ABC):
    """Runs bodies on one backend."""

    name: str
    #: Whether its client is a `ThreadHeksherClient`.
    is_blocking = False

    @property
    @abstractmethod
    def backend(self) -> Backend:
        """The library's backend, for tests that wrap it."""

    @abstractmethod
    def run(self, body: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run *body* to its end."""

    @abstractmethod
    def client(self, url: str, interval: float, features: list[str], **options: Any) -> AnyClient:
        """Make a client for this backend, with ``startup="raise"``."""

    @abstractmethod
    async def until(self, condition: Callable[[], object], what: str = "") -> None:
        """Return as soon as *condition* holds, and let everything else run until then."""

    @abstractmethod
    def beside(self, function: Callable[[], Coroutine[Any, Any, Any]]) -> Background:
        """Run *function* next to the body. It ends before `run` returns."""

    def event(self) -> Event:
        """Return an event that any task or thread may set."""
        return self.backend.create_event()


class _LoopHarness(Harness):
    _group: anyio.abc.TaskGroup

    async def _with_group(self, body: Callable[[], Coroutine[Any, Any, T]]) -> T:
        results: list[T] = []
        error: BaseException | None = None
        async with anyio.create_task_group() as self._group:
            try:
                with anyio.fail_after(4 * PATIENCE):
                    results.append(await body())
            except Exception as raised:
                error = raised  # raised below, so that no group is wrapped around it
            self._group.cancel_scope.cancel()
        if error is not None:
            raise error
        return results[0]

    def client(self, url: str, interval: float, features: list[str], **options: Any) -> AnyClient:
        options.setdefault("startup", "raise")
        return AnyClient(AsyncHeksherClient(url, interval, features, **options))

    async def until(self, condition: Callable[[], object], what: str = "") -> None:
        deadline = monotonic() + PATIENCE
        while not condition():
            assert monotonic() < deadline, f"it never happened: {what or condition}"
            # A short sleep instead of a busy loop: a server process needs the processor, too.
            await anyio.sleep(0.001)

    def beside(self, function: Callable[[], Coroutine[Any, Any, Any]]) -> Background:
        background = Background()
        self._group.start_soon(background.observe, function)
        return background


class AsyncioHarness(_LoopHarness):
    """asyncio."""

    name = "asyncio"

    @property
    def backend(self) -> Backend:
        return AsyncioBackend()

    def run(self, body: Callable[[], Coroutine[Any, Any, T]]) -> T:
        return asyncio.run(self._with_group(body), debug=True)


class TrioHarness(_LoopHarness):
    """trio."""

    name = "trio"

    @property
    def backend(self) -> Backend:
        return TrioBackend()

    def run(self, body: Callable[[], Coroutine[Any, Any, T]]) -> T:
        return trio.run(self._with_group, body)


class ThreadHarness(Harness):
    """Threads."""

    name = "thread"
    is_blocking = True

    def __init__(self) -> None:
        self._threads: list[threading.Thread] = []

    @property
    def backend(self) -> Backend:
        return ThreadBackend()

    def run(self, body: Callable[[], Coroutine[Any, Any, T]]) -> T:
        try:
            return run_blocking(body())
        finally:
            for thread in self._threads:
                thread.join(PATIENCE)

    def client(self, url: str, interval: float, features: list[str], **options: Any) -> AnyClient:
        options.setdefault("startup", "raise")
        return AnyClient(ThreadHeksherClient(url, interval, features, **options))

    async def until(self, condition: Callable[[], object], what: str = "") -> None:
        deadline = monotonic() + PATIENCE
        nap = threading.Event()
        while not condition():
            assert monotonic() < deadline, f"it never happened: {what or condition}"
            nap.wait(0.001)

    def beside(self, function: Callable[[], Coroutine[Any, Any, Any]]) -> Background:
        background = Background()
        thread = threading.Thread(target=lambda: run_blocking(background.observe(function)))
        self._threads.append(thread)
        thread.start()
        return background


class GeventHarness(ThreadHarness):
    """Greenlets, in a process that gevent has not patched. The body runs in the main greenlet."""

    name = "gevent"

    def __init__(self) -> None:
        super().__init__()
        self._gevent = pytest.importorskip("gevent", reason="heksher[gevent] is not installed")
        self._greenlets: set[Any] = set()

    @property
    def backend(self) -> Backend:
        from heksher.backends._gevent import GeventBackend

        return GeventBackend()

    def run(self, body: Callable[[], Coroutine[Any, Any, T]]) -> T:
        try:
            return run_blocking(body())
        finally:
            self._gevent.joinall([*self._greenlets], PATIENCE)

    def client(self, url: str, interval: float, features: list[str], **options: Any) -> AnyClient:
        options.setdefault("backend", "gevent")
        return super().client(url, interval, features, **options)

    async def until(self, condition: Callable[[], object], what: str = "") -> None:
        deadline = monotonic() + PATIENCE
        while not condition():
            assert monotonic() < deadline, f"it never happened: {what or condition}"
            self._gevent.sleep(0.001)

    def beside(self, function: Callable[[], Coroutine[Any, Any, Any]]) -> Background:
        background = Background()
        observe = self._gevent.spawn(lambda: run_blocking(background.observe(function)))
        self._greenlets.add(observe)
        # A greenlet that has ended keeps its context, and what the context variables hold there.
        observe.rawlink(self._greenlets.discard)
        return background


HARNESSES: list[type[Harness]] = [AsyncioHarness, TrioHarness, ThreadHarness, GeventHarness]
