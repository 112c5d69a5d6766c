"""Code of the application's that raises costs what it was called for, and never the update loop.

The log's handlers and filters, the clock, the random numbers and the hooks are such code. Validators have
their tests beside the rules that they cost.
"""

from __future__ import annotations

import asyncio
import logging
import math
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support.harness import AsyncioHarness, Harness, TrioHarness
from support.scenes import INTERVAL, Scene
from support.scripted import ManualClock, unreachable

from heksher import Setting
from heksher._client.history import History
from heksher._wire import Response
from heksher.backends import Event
from heksher.exceptions import HeksherError
from heksher.status import ClientState


class Rude(BaseException):
    """An error that is not an `Exception`."""


@pytest.fixture
def scene(backend: Harness) -> Scene:
    return Scene(backend)


@pytest.fixture(params=[RuntimeError, SystemExit, asyncio.CancelledError, Rude])
def kind(request: pytest.FixtureRequest) -> type[BaseException]:
    error: type[BaseException] = request.param
    return error


def raising(kind: type[BaseException]) -> Callable[..., Any]:
    def function(*_: object) -> Any:
        raise kind("no request")

    return function


# --- logging --------------------------------------------------------------------------------------


@pytest.fixture
def broken_filter(kind: type[BaseException]) -> Iterator[list[logging.LogRecord]]:
    """A handler whose filter raises for every record of the library, as one without a request does."""
    seen: list[logging.LogRecord] = []

    def refuse(record: logging.LogRecord) -> bool:
        seen.append(record)
        raise kind("no request")

    handler = logging.StreamHandler()
    handler.addFilter(refuse)
    logger = logging.getLogger("heksher")
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    yield seen
    logger.removeHandler(handler)
    logger.setLevel(logging.NOTSET)


def test_a_log_filter_that_raises_ends_no_update(
    scene: Scene, broken_filter: list[logging.LogRecord], capsys: pytest.CaptureFixture[str]
) -> None:
    ttl = Setting("ttl", int, ["user"], 60)

    async def body() -> None:
        async with scene.client() as client:
            scene.service.faults = [Response(503, {}, b"busy")]
            await scene.pass_time(INTERVAL)
            assert client.status.failures == 1
            scene.service.add_rule("ttl", "no number", user="jim")
            scene.service.add_rule("ttl", 5, user="pam")
            await scene.pass_time(INTERVAL)
            assert client.status.failures == 0
            assert len(client.status.rejected_rules) == 1
            assert ttl.get(user="pam") == 5
            scene.service.delete("ttl")
            await client.reload()
            assert client.status.state is ClientState.RUNNING

    scene.run(body)
    messages = [record.getMessage() for record in broken_filter]
    assert any("updates from http://service.test/ fail" in each for each in messages)
    assert any(each.startswith("dropped: ") for each in messages)
    assert "no request" in capsys.readouterr().err


def test_a_log_filter_that_raises_ends_no_start(
    scene: Scene, broken_filter: list[logging.LogRecord]
) -> None:
    ttl = Setting("ttl", int, ["user"], 60)
    scene.service.fault = unreachable()

    async def body() -> None:
        async with scene.client(startup="continue") as client:
            assert client.status.failures == 1
            scene.service.fault = None
            await scene.pass_time(INTERVAL)
            assert client.status.failures == 0

    scene.run(body)
    assert broken_filter
    assert ttl.get(user="jim") == 60


# --- clock and random numbers ---------------------------------------------------------------------


@pytest.mark.parametrize("number", [None, "0.5", math.nan, -0.1, 1.1])
def test_random_numbers_that_are_none_are_replaced(
    scene: Scene, number: object, caplog: pytest.LogCaptureFixture
) -> None:
    check_chance(scene, lambda: number, caplog)


def test_random_numbers_that_raise_are_replaced(
    scene: Scene, kind: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    check_chance(scene, raising(kind), caplog)


def check_chance(scene: Scene, chance: Any, caplog: pytest.LogCaptureFixture) -> None:
    ttl = Setting("ttl", int, ["user"], 60)

    async def body() -> None:
        async with scene.client(random=chance) as client:
            scene.service.add_rule("ttl", 5, user="jim")
            wait = await scene.asked()
            assert wait is not None and 0 <= wait <= INTERVAL
            await scene.pass_time(INTERVAL)
            assert client.status.failures == 0
            assert ttl.get(user="jim") == 5

    scene.run(body)
    errors = [each.getMessage() for each in caplog.records if each.levelno == logging.ERROR]
    assert len(errors) == 1
    assert errors[0].startswith("random= raised ")


class BrokenClock(ManualClock):
    """A clock with a defect, from the moment when it breaks."""

    def __init__(self, broken: Callable[[], float]) -> None:
        super().__init__()
        self._broken = broken
        self.is_broken = False

    def now(self) -> float:
        return self._broken() if self.is_broken else super().now()


class UnwaitableClock(ManualClock):
    """A clock that cannot wait, from the moment when it breaks."""

    def __init__(self, kind: type[BaseException]) -> None:
        super().__init__()
        self._kind = kind
        self.is_broken = False

    async def wait(self, event: Event, timeout: float | None) -> None:
        if self.is_broken:
            raise self._kind("no request")
        await super().wait(event, timeout)


@pytest.mark.parametrize("moment", [None, "noon", math.nan, math.inf])
def test_a_clock_that_shows_no_time_is_replaced(
    scene: Scene, moment: Any, caplog: pytest.LogCaptureFixture
) -> None:
    check_broken_clock(scene, lambda: moment, caplog)


def test_a_clock_that_raises_is_replaced(
    scene: Scene, kind: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    check_broken_clock(scene, raising(kind), caplog)


def check_broken_clock(
    scene: Scene, broken: Callable[[], float], caplog: pytest.LogCaptureFixture
) -> None:
    ttl = Setting("ttl", int, ["user"], 60)

    async def body() -> None:
        clock = scene.clock = BrokenClock(broken)
        async with scene.client() as client:
            await scene.settled()
            scene.service.add_rule("ttl", 5, user="jim")
            clock.is_broken = True
            staleness = client.status.staleness
            assert staleness is not None and staleness < INTERVAL
            await client.reload()
            assert ttl.get(user="jim") == 5
            assert client.status.failures == 0

    scene.run(body)
    errors = [each.getMessage() for each in caplog.records if each.levelno == logging.ERROR]
    assert len(errors) == 1
    assert errors[0].startswith("clock= raised ")


def test_a_clock_that_cannot_wait_is_replaced(
    backend: Harness, kind: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    ttl = Setting("ttl", int, ["user"], 60)
    scene = Scene(backend)

    async def body() -> None:
        clock = UnwaitableClock(kind)
        client = backend.client(
            "http://service.test",
            0.001,
            ["user"],
            backend=scene.library_backend(),
            clock=clock,
        )
        async with client:
            clock.is_broken = True
            await client.reload()
            polls = scene.polls
            await backend.until(lambda: scene.polls > polls + 2, "the client polls")
            await client.reload()

    scene.run(body)
    told, loop = [each.getMessage() for each in caplog.records if each.levelno == logging.ERROR]
    assert told.startswith("clock= raised ")
    assert loop == "the update loop met an unforeseen error, and goes on"
    assert ttl.get(user="jim") == 60


# --- what nobody foresaw --------------------------------------------------------------------------


def test_an_update_that_fails_by_an_error_of_any_class_is_a_failed_update(
    scene: Scene, kind: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    """A transport lets such errors out only if it is a third party's, or has a defect."""
    ttl = Setting("ttl", int, ["user"], 60)
    failed: list[Exception] = []

    async def body() -> None:
        async with scene.client() as client:
            client.client.on_update_error = failed.append
            scene.service.raising = kind("no request")
            expected = kind if issubclass(kind, Exception) else HeksherError
            with pytest.raises(expected, match="no request"):
                await client.reload()
            assert client.status.failures == 1
            await scene.pass_time(INTERVAL)
            assert client.status.failures == 0

    scene.run(body)
    assert len(failed) == 1
    assert ttl.get(user="jim") == 60
    assert any("an update failed by an unforeseen error" in text for text in caplog.messages)


def test_a_defect_of_the_loop_costs_an_interval(
    backend: Harness,
    kind: type[BaseException],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    ttl = Setting("ttl", int, ["user"], 60)
    scene = Scene(backend)
    notes: list[object] = []
    note_success = History.note_success

    def note(history: History, *arguments: Any) -> None:
        notes.append(arguments)
        if len(notes) == 2:
            raise kind("no request")
        note_success(history, *arguments)

    monkeypatch.setattr(History, "note_success", note)

    async def body() -> None:
        client = backend.client(
            "http://service.test", 0.001, ["user"], backend=scene.library_backend()
        )
        async with client:
            await backend.until(lambda: len(notes) > 3, "the loop goes on")
            assert client.status.state is ClientState.RUNNING

    scene.run(body)
    assert ttl.get(user="jim") == 60
    assert caplog.messages.count("the update loop met an unforeseen error, and goes on") == 1


# --- Ctrl-C ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("harness", [AsyncioHarness, TrioHarness])
def test_ctrl_c_in_a_hook_ends_the_program_as_anywhere_else(harness: type[Harness]) -> None:
    """In an event loop it has to end the program, and not one task or the event loop's machinery."""
    ttl = Setting("ttl", int, ["user"], 60)
    backend = harness()
    scene = Scene(backend)

    async def body() -> None:
        client = scene.client()
        calls: list[object] = []

        def interrupt(error: Exception) -> None:
            calls.append(error)
            if len(calls) == 1:
                raise KeyboardInterrupt

        client.client.on_update_error = interrupt
        await client.set_as_main()
        scene.service.fault = unreachable()
        scene.clock.advance(INTERVAL)
        await backend.until(lambda: False, "the program ends")

    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises((KeyboardInterrupt, BaseExceptionGroup)) as caught:
            scene.run(body)
    finally:
        signal.signal(signal.SIGINT, handler)
    # The body runs in a task group of the harness's.
    _, others = BaseExceptionGroup("", [caught.value]).split(KeyboardInterrupt)
    assert others is None
    assert ttl.get(user="jim") == 60
