"""A caller may be cancelled at any moment: the client is usable or closed afterwards.

Calls over real HTTP are cancelled at each of their awaits, in every way to cancel; and after each number
of steps of the event loop, so that the client's own task can be anywhere.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Iterator
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

import anyio
import pytest
import trio
from support.harness import AsyncioHarness, Harness, TrioHarness
from support.leftovers import Leftovers
from support.scenes import Scene

from heksher import AsyncHeksherClient, Setting, _registry
from heksher.status import ClientState
from heksher.testing.service import LiveService


class CancelledAt:
    """Runs a coroutine, and calls *cancel* before its *n*-th await."""

    def __init__(
        self, coroutine: Coroutine[Any, Any, None], n: int, cancel: Callable[[], object]
    ) -> None:
        self._coroutine = coroutine
        self._n = n
        self._cancel = cancel
        #: The number of awaits so far.
        self.awaits = 0

    def __await__(self) -> Generator[Any, Any, None]:
        resume: Callable[[], Any] = lambda: self._coroutine.send(None)  # noqa: E731
        while True:
            try:
                awaited = resume()
            except StopIteration:
                return
            self.awaits += 1
            if self.awaits == self._n:
                self._cancel()
            try:
                sent = yield awaited
            except BaseException as error:
                thrown = error
                resume = lambda: self._coroutine.throw(thrown)  # noqa: E731, B023
            else:
                resume = lambda: self._coroutine.send(sent)  # noqa: E731, B023


# --- the ways to cancel ---------------------------------------------------------------------------

Cancelling = Callable[
    [], Any
]  # an async context manager that yields a function to cancel its block


@asynccontextmanager
async def anyio_scope() -> AsyncGenerator[Callable[[], object]]:
    with anyio.CancelScope() as scope:
        yield scope.cancel


@asynccontextmanager
async def trio_scope() -> AsyncGenerator[Callable[[], object]]:
    with trio.CancelScope() as scope:
        yield scope.cancel


@asynccontextmanager
async def asyncio_timeout() -> AsyncGenerator[Callable[[], object]]:
    try:
        async with asyncio.timeout(None) as timeout:
            yield lambda: timeout.reschedule(0)
    except TimeoutError:
        pass


@asynccontextmanager
async def asyncio_cancel() -> AsyncGenerator[Callable[[], object]]:
    task = asyncio.current_task()
    assert task is not None
    try:
        yield task.cancel
    except asyncio.CancelledError:
        task.uncancel()


WAYS = [
    pytest.param(AsyncioHarness, anyio_scope, id="asyncio-anyio_scope"),
    pytest.param(AsyncioHarness, asyncio_timeout, id="asyncio-timeout"),
    pytest.param(AsyncioHarness, asyncio_cancel, id="asyncio-cancel"),
    pytest.param(TrioHarness, anyio_scope, id="trio-anyio_scope"),
    pytest.param(TrioHarness, trio_scope, id="trio-trio_scope"),
]


# --- the calls ------------------------------------------------------------------------------------


async def start(client: AsyncHeksherClient) -> None:
    await client.set_as_main()


async def block(client: AsyncHeksherClient) -> None:
    async with client:
        await client.reload()


async def reload(client: AsyncHeksherClient) -> None:
    await client.reload()


async def ping(client: AsyncHeksherClient) -> None:
    await client.ping()


async def get_settings(client: AsyncHeksherClient) -> None:
    await client.get_settings()


async def close(client: AsyncHeksherClient) -> None:
    await client.aclose()


async def in_group(client: AsyncHeksherClient) -> None:
    async with anyio.create_task_group() as group:
        await group.start(client.run)
        await anyio.lowlevel.checkpoint()
        group.cancel_scope.cancel()


async def lock(client: AsyncHeksherClient) -> None:
    async with client.modification_lock:
        await client.ping()


METHODS = [start, block, reload, ping, get_settings, close, in_group, lock]
NEED_A_START = [reload, close, lock]


async def see_that_it_is_usable_or_closed(client: AsyncHeksherClient, ttl: Setting[int]) -> None:
    assert client.status.state in (ClientState.NEW, ClientState.RUNNING, ClientState.CLOSED)
    if client.status.state is not ClientState.CLOSED:
        await client.set_as_main()
        await client.reload()
        assert ttl.get(user="jim") == 5
        async with client.modification_lock:
            pass
    await client.aclose()
    assert _registry.main() is None
    assert client.status.state is ClientState.CLOSED


@pytest.fixture(scope="module")
def service() -> Iterator[LiveService]:
    with LiveService(["user"], in_process=True, proxy=False) as live:
        yield live


@pytest.mark.integration
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("harness", "cancelling"), WAYS)
def test_a_caller_that_is_cancelled_at_any_await_leaves_a_client_usable_or_closed(
    harness: type[Harness],
    cancelling: Cancelling,
    method: Callable[[AsyncHeksherClient], Coroutine[Any, Any, None]],
    service: LiveService,
) -> None:
    backend = harness()
    service.empty(["user"])
    ttl = Setting("cache_ttl", int, ["user"], 60)
    service.add_rule(ttl, 5, user="jim")

    async def cancelled_at(n: int) -> bool:
        """Return whether the method has an n-th await."""
        leftovers = Leftovers()
        client = AsyncHeksherClient(service.url, 60, ["user"], startup="raise")
        if method in NEED_A_START:
            await client.set_as_main()
        async with cancelling() as cancel:
            call = CancelledAt(method(client), n, cancel)
            await call
        await see_that_it_is_usable_or_closed(client, ttl)
        await leftovers.gone(backend)
        return call.awaits >= n

    async def body() -> None:
        for n in count(1):
            if not await cancelled_at(n):
                assert n > 1, "it never gave way"
                return

    backend.run(body)


# More steps than a whole start takes, with its requests and its end.
STEPS = 40


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("harness", [AsyncioHarness, TrioHarness], ids=lambda each: each.name)
def test_a_caller_that_is_cancelled_after_any_step_leaves_a_client_usable_or_closed(
    harness: type[Harness], method: Callable[[AsyncHeksherClient], Coroutine[Any, Any, None]]
) -> None:
    backend = harness()

    async def cancelled_after(steps: int) -> None:
        scene = Scene(backend)
        scene.service.add_rule("cache_ttl", 5, user="jim")
        client = scene.client().client
        assert isinstance(client, AsyncHeksherClient)
        leftovers = Leftovers()
        if method in NEED_A_START:
            await client.set_as_main()
        async with anyio.create_task_group() as group:

            async def cancel_later() -> None:
                for _ in range(steps):
                    await anyio.lowlevel.checkpoint()
                group.cancel_scope.cancel()

            group.start_soon(cancel_later)
            await method(client)
        await see_that_it_is_usable_or_closed(client, ttl)
        await leftovers.gone(backend)

    async def body() -> None:
        for steps in range(STEPS):
            await cancelled_after(steps)

    ttl = Setting("cache_ttl", int, ["user"], 60)
    backend.run(body)
