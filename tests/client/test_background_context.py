"""Background work has a fresh context: it neither sees nor keeps what the starter's variables hold."""

from __future__ import annotations

import gc
import logging
import os
import signal
import threading
import warnings
import weakref
from collections.abc import Callable, Iterator
from contextvars import ContextVar, copy_context
from enum import IntFlag
from typing import Any

import anyio
import pytest
from support.harness import AsyncioHarness, GeventHarness, Harness, ThreadHarness, TrioHarness
from support.scenes import FEATURES, INTERVAL, Scene
from support.scripted import ManualClock, unreachable

from heksher import AsyncHeksherClient, Setting
from heksher.backends import Event, run_blocking
from heksher.backends.base import LARGE
from heksher.testing.service import LiveService

# What a framework keeps for each request. The default tells a fresh context.
request_id: ContextVar[object] = ContextVar("request_id", default="fresh")


class Seen(logging.Filter):
    """The request that each call of the application's code saw, by what was called."""

    def __init__(self) -> None:
        super().__init__()
        self.by: dict[str, set[object]] = {}

    def note(self, what: str) -> None:
        self.by.setdefault(what, set()).add(request_id.get())

    def filter(self, record: logging.LogRecord) -> bool:
        # What `set_as_main` itself logs belongs to its caller.
        if record.name != "heksher._client.core":
            self.note("log records")
        return True


class WatchedClock(ManualClock):
    """A clock that notes in which context the update loop reads it."""

    def __init__(self, seen: Seen) -> None:
        super().__init__()
        self.seen = seen
        # The caller of `set_as_main` waits by the clock, too.
        self.is_watched = False

    def now(self) -> float:
        if self.is_watched:
            self.seen.note("clock.now")
        return super().now()

    async def wait(self, event: Event, timeout: float | None) -> None:
        if self.is_watched:
            self.seen.note("clock.wait")
        await super().wait(event, timeout)


@pytest.fixture
def seen(caplog: pytest.LogCaptureFixture) -> Iterator[Seen]:
    seen = Seen()
    caplog.handler.addFilter(seen)
    with caplog.at_level(logging.DEBUG, "heksher"):
        yield seen
    caplog.handler.removeFilter(seen)


@pytest.fixture(scope="module")
def service() -> Iterator[LiveService]:
    with LiveService(FEATURES, in_process=True, proxy=False) as service:
        yield service


@pytest.fixture
def scene(backend: Harness) -> Scene:
    return Scene(backend)


class Access(IntFlag):
    """A flag less than the service has, so that `on_coerce` is called."""

    READ = 1


class Watched:
    """A client of which everything that it calls notes the context."""

    def __init__(self, scene: Scene, seen: Seen, **options: Any) -> None:
        self.scene = scene
        self.seen = seen
        self.access = Setting("access", Access, ["user"], Access(0), on_coerce=self._on_coerce)
        self.access.add_validator(self._validate)
        self.clock = scene.clock = WatchedClock(seen)
        scene.service.add_rule("access", ["READ", "WRITE"], user="jim")
        self.client = scene.client(random=self._random, **options)
        self.client.client.on_update_ok = lambda: seen.note("on_update_ok")
        self.client.client.on_update_error = lambda exc: seen.note("on_update_error")

    def _on_coerce(self, value: Access, *_: Any) -> Access:
        self.seen.note("on_coerce")
        return value

    def _validate(self, value: Access, *_: Any) -> Access:
        self.seen.note("validator")
        return value

    def _random(self) -> float:
        self.seen.note("random")
        return self.scene.chance

    async def poll_and_fail(self) -> None:
        """Let two updates pass: one whose rules are read in a thread, and one that fails."""
        service = self.scene.service
        await self.scene.settled()
        self.clock.is_watched = True
        for number in range(LARGE // 60):
            service.add_rule("access", ["READ", "WRITE"], user=f"user{number}")
        await self.scene.pass_time(INTERVAL)
        assert self.access.get(user="user7") == Access.READ
        service.faults = [unreachable()]
        await self.scene.pass_time(INTERVAL)
        self.clock.is_watched = False
        assert self.client.status.failures == 1


EVERYTHING = {
    *("log records", "clock.now", "clock.wait", "random"),
    *("on_coerce", "validator", "on_update_ok", "on_update_error"),
}


def test_application_code_never_sees_the_context_of_the_start(scene: Scene, seen: Seen) -> None:
    async def body() -> None:
        request_id.set("request 1")
        watched = Watched(scene, seen)
        async with watched.client:
            assert seen.by.keys() >= {"on_update_ok", "on_coerce", "validator", "random"}
            await watched.poll_and_fail()
            request_id.set("request 2")
            await watched.client.reload()

    copy_context().run(scene.run, body)
    assert seen.by == {what: {"fresh"} for what in EVERYTHING}


@pytest.mark.parametrize("harness", [AsyncioHarness, TrioHarness])  # the backends with run()
def test_a_loop_in_a_task_group_of_the_callers_has_a_fresh_context_as_well(
    harness: type[Harness], seen: Seen
) -> None:
    scene = Scene(harness())

    async def body() -> None:
        request_id.set("request 1")
        watched = Watched(scene, seen)
        assert isinstance(watched.client.client, AsyncHeksherClient)
        async with anyio.create_task_group() as group:
            await group.start(watched.client.client.run)
            await watched.poll_and_fail()
            await watched.client.close()

    scene.run(body)
    assert seen.by == {what: {"fresh"} for what in EVERYTHING}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.parametrize("harness", [ThreadHarness, GeventHarness])  # the backends that go on
def test_a_loop_in_a_forked_child_does_not_have_the_context_of_the_fork(
    harness: type[Harness], seen: Seen
) -> None:
    backend = harness()
    scene = Scene(backend)

    def at_once() -> float:
        seen.note("random")
        return 0.0  # so that the child's first poll is due at once

    async def body() -> None:
        client = backend.client(
            "http://service.test",
            3600,
            FEATURES,
            backend=scene.library_backend(),
            random=at_once,
        )
        client.client.on_update_ok = lambda: seen.note("on_update_ok")
        async with client:
            request_id.set("request 1")
            seen.by.clear()
            said = in_child(lambda: run_blocking(report()))
            assert said == "on_update_ok: {'fresh'}, random: {'fresh'}"

    async def report() -> str:
        await backend.until(lambda: "on_update_ok" in seen.by, "the child polls")
        return ", ".join(f"{what}: {seen.by[what]}" for what in ("on_update_ok", "random"))

    copy_context().run(scene.run, body)


def in_child(function: Callable[[], str]) -> str:
    """Call *function* in a forked child, and return what it returns there."""
    readable, writable = os.pipe()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*multi-threaded", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        try:
            signal.alarm(60)  # the system ends a child that hangs
            os.write(writable, function().encode())
        finally:
            os._exit(0)
    os.close(writable)
    with open(readable, encoding="utf-8") as said:
        text = said.read()
    os.waitpid(pid, 0)
    return text


class Request:
    """An object that a framework keeps in a context variable while it handles a request."""


def test_what_the_starters_context_held_is_freed_while_the_client_runs_on(
    backend: Harness, service: LiveService
) -> None:
    ttl = Setting("ttl", int, ["user"], 60)
    requests: list[weakref.ref[Request]] = []

    async def body() -> None:
        # The timer of the start is due after all others. Until then asyncio keeps it, although cancelled.
        client = backend.client(service.url, 3600, FEATURES, startup_timeout=3600)

        async def handle() -> None:
            request = Request()
            requests.append(weakref.ref(request))
            request_id.set(request)
            await client.set_as_main()

        handled = backend.beside(handle)
        await backend.until(lambda: handled.ended, "the request is handled")
        assert handled.error is None

        def is_freed() -> bool:
            gc.collect()
            return requests[0]() is None

        await backend.until(is_freed, "the request is freed")
        await client.reload()
        await client.close()

    backend.run(body)
    assert ttl.get(user="jim") == 60


@pytest.mark.parametrize(
    "harness", [ThreadHarness, GeventHarness]
)  # the backends with such threads
def test_threads_that_outlive_a_call_do_not_begin_in_its_context(
    harness: type[Harness], service: LiveService, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: dict[str, object] = {}
    start = threading.Thread.start

    def noting_start(thread: threading.Thread) -> None:
        # From CPython 3.14 on, a thread may inherit the context in which this is called.
        if thread.name in ("heksher-client", "heksher-deadline"):
            begun[thread.name] = request_id.get()
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", noting_start)
    backend = harness()

    async def body() -> None:
        request_id.set("request 1")
        client = backend.client(service.url, 3600, FEATURES)
        await client.ping()
        async with client:
            await client.reload()

    copy_context().run(backend.run, body)
    expected = {"heksher-deadline", *(["heksher-client"] if harness is ThreadHarness else [])}
    assert begun == dict.fromkeys(expected, "fresh")
