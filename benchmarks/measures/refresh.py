"""What does an update cost, and how long do other tasks and threads wait for it?

A client reloads answers that are ready in memory, so that no network is measured: the HTTP client's
transport returns them. Everything else is as in an application: decoding, filtering, planning calls,
compiling, publishing. The floor of a large update is ``json.loads`` of the same body.

During the update, a task of the same event loop, or a thread, wants to run every millisecond. Its
longest gap is compared with its longest gap next to a thread that only runs Python code.

Conclusion: an update costs about as much as parsing its JSON with the standard library. If one of many
settings changed, only that one is decoded, and if the service sends it alone, that costs little more than
the request. Others wait for it a few milliseconds longer than for any busy
thread.
"""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import statistics
import threading
import time
import tracemalloc
from collections.abc import Awaitable, Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
import trio
from machinery.answers import CONFIGURABLE, FEATURES, Answers, rule
from machinery.ratio_table import Ratios, Row

from heksher import AsyncHeksherClient, Setting, ThreadHeksherClient, testing
from heksher.backends import Event

#: Seconds for which the heartbeat is watched next to a busy thread.
WATCHED = 0.3
#: Milliseconds that others may wait longer for an update than for a busy thread.
MOST_MILLISECONDS = 25.0
#: Seconds of an interval that does not end by itself.
NEVER = 1e6
#: Bytes that each rule may keep.
MOST_BYTES = 200.0


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    logging.getLogger("heksher").addHandler(logging.NullHandler())
    logging.getLogger("httpx").setLevel(logging.WARNING)
    yield
    gc.unfreeze()


def declared(answers: Answers) -> list[Setting[int]]:
    """Return the settings as an application declares them."""
    return [Setting(name, int, CONFIGURABLE, 60) for name in answers.names]


@contextmanager
def client_of(answers: Answers, **options: Any) -> Generator[ThreadHeksherClient]:
    """Start a thread client that only updates on `reload()`."""
    settings = declared(answers)
    options = {"startup": "raise", **answers.options, **options}
    client = ThreadHeksherClient("http://memory", 1e6, FEATURES, **options)
    client.set_defaults(environment="dev")
    with client:
        assert settings[0].get(user="user1") == 1
        yield client


def milliseconds(action: Callable[[], object]) -> float:
    """Return the milliseconds that *action* takes."""
    began = time.perf_counter()
    action()
    return 1e3 * (time.perf_counter() - began)


class PollClock:
    """A clock that stands still until the benchmark wants a poll."""

    def __init__(self) -> None:
        self._now = 0.0
        self._waits = threading.Semaphore(0)
        self._event: Event | None = None

    def now(self) -> float:
        return self._now

    async def wait(self, event: Event, timeout: float | None) -> None:
        if timeout is not None and timeout < NEVER / 2:  # the start waits, and not the next poll
            await event.wait(timeout)
            return
        self._event = event
        self._waits.release()
        await event.wait()
        event.clear()

    def settle(self) -> None:
        """Return once the client waits for its next poll."""
        assert self._waits.acquire(timeout=60)

    def poll(self) -> None:
        """Let the client poll, and return once it waits for the next poll."""
        assert self._event is not None
        self._now += NEVER
        self._event.set()
        self.settle()


# --- time -----------------------------------------------------------------------------------------


def measure_a_large_update(ratios: Ratios) -> None:
    rules = 1_000 if ratios.quick else 100_000
    answers = Answers(1, rules)
    ours: list[float] = []
    floor: list[float] = []
    with client_of(answers) as client:
        for _ in range(2 if ratios.quick else 7):
            answers.change()
            floor.append(milliseconds(lambda: json.loads(answers.body)))
            ours.append(milliseconds(client.reload))
    ratios.add(f"update of {rules:,} rules (floor: json.loads)", ours, floor, unit="ms")


def measure_an_update_of_one_setting(ratios: Ratios) -> None:
    settings = 50 if ratios.quick else 1_000
    answers = Answers(settings, 100)
    one: list[float] = []
    everything: list[float] = []
    with client_of(answers) as client:
        for _ in range(2 if ratios.quick else 7):
            answers.change()
            everything.append(milliseconds(client.reload))
            answers.change(everything=False)
            one.append(milliseconds(client.reload))
    title = f"update, 1 of {settings:,} settings changed (floor: all changed)"
    ratios.add(title, one, everything, unit="ms", at_most=None if ratios.quick else 0.1)


def measure_an_update_by_a_poll_that_brings_one_setting(ratios: Ratios) -> None:
    """The processor's time, and the bytes."""
    answers = Answers(50 if ratios.quick else 1_000, 100)
    answers.has_revisions = True
    clock = PollClock()
    one: list[float] = []
    everything: list[float] = []

    def milliseconds_of_processor(action: Callable[[], object]) -> float:
        began = time.process_time()
        action()
        return 1e3 * (time.process_time() - began)

    settings = declared(answers)
    options: dict[str, Any] = {
        "startup": "raise",
        "clock": clock,
        "random": lambda: 0.9,
        **answers.options,
    }
    client = ThreadHeksherClient("http://memory", NEVER, FEATURES, **options)
    client.set_defaults(environment="dev")
    with client:
        clock.settle()
        for _ in range(2 if ratios.quick else 9):
            answers.change(everything=False)
            one.append(milliseconds_of_processor(clock.poll))
            answers.change()
            answers.has_revisions = False  # as after a restart
            everything.append(milliseconds_of_processor(clock.poll))
            answers.has_revisions = True
            clock.poll()
            assert settings[0].get(user="") == settings[-1].get(user="") == answers.changes
    title = f"update, 1 of {len(settings):,} settings sent (floor: all sent and changed)"
    ratios.add(title, one, everything, unit="ms", at_most=None if ratios.quick else 0.02)
    size, whole = len(answers.first), len(answers.body)
    met = None if ratios.quick else size <= 0.02 * whole
    ratios.rows.append(
        Row(f"{title}: bytes", f"{size:,}", f"{whole:,}", size / whole, "at most 0.02", met)
    )


def measure_a_start_from_a_snapshot(tmp_path: Path, ratios: Ratios) -> None:
    rules = 1_000 if ratios.quick else 100_000
    answers = Answers(1, rules)

    def unreachable(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("unreachable", request=request)

    def start(**options: Any) -> float:
        testing.reset()  # so that the client serves no other settings
        gc.collect()
        settings = declared(answers)
        options = {**answers.options, "snapshot": tmp_path / "rules", **options}
        client = ThreadHeksherClient("http://memory", 1e6, FEATURES, **options)
        client.set_defaults(environment="dev")
        took = milliseconds(client.set_as_main)
        assert settings[0].get(user="user1") == 1
        client.close()
        return took

    without = {"http_client_args": {"transport": httpx.MockTransport(unreachable)}}
    start()
    ours: list[float] = []
    floor: list[float] = []
    for _ in range(2 if ratios.quick else 7):
        floor.append(start(snapshot=None))
        ours.append(start(**without))
    title = f"start from a snapshot of {rules:,} rules (floor: from a service in memory)"
    ratios.add(title, ours, floor, unit="ms", at_most=None if ratios.quick else 1.3)


# --- memory ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rules", "mixed"), [(100_000, False), (100_000, True), (1_000_000, True)])
def measure_what_a_rule_keeps(rules: int, mixed: bool, ratios: Ratios) -> None:
    wanted = 1_000 if ratios.quick else rules
    answers = Answers(1, 2, mixed=mixed)
    told = (json.dumps(rule(number, mixed=mixed)) for number in range(wanted))
    full = f'{{"settings":{{"s0":{{"default_value":60,"rules":[{",".join(told)}]}}}}}}'.encode()
    with client_of(answers, max_response_bytes=2 * len(full)) as client:
        client.reload()
        answers.body = full
        gc.collect()
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        client.reload()
        gc.collect()
        kept = (tracemalloc.get_traced_memory()[0] - before) / wanted
        tracemalloc.stop()
    target = f"at most {MOST_BYTES:.0f} B"
    title = (
        f"kept for each of {rules:,} rules for users{', half with environment' if mixed else ''}"
    )
    met = None if ratios.quick else kept <= MOST_BYTES
    ratios.rows.append(Row(title, f"{kept:.0f} B", "", None, target, met))


# --- other tasks and threads ----------------------------------------------------------------------


class Heartbeat:
    """The longest time between two beats."""

    def __init__(self) -> None:
        self.longest = 0.0
        self._last = time.perf_counter()

    def beat(self) -> None:
        now = time.perf_counter()
        self.longest = max(self.longest, now - self._last)
        self._last = now

    def since(self) -> float:
        """Return the longest gap in milliseconds, and reset it."""
        longest, self.longest = self.longest, 0.0
        return 1e3 * longest


@contextmanager
def busy_thread() -> Generator[None]:
    """Run Python code in a thread, without a pause."""
    stop = threading.Event()

    def run() -> None:
        while not stop.is_set():
            sum(range(100))

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


async def gaps_of_a_loop(answers: Answers, updates: int) -> tuple[list[float], list[float]]:
    """Return the longest gaps of a task during updates in its event loop, and next to a busy thread."""
    heart = Heartbeat()
    settings = declared(answers)
    client = AsyncHeksherClient("http://memory", 1e6, FEATURES, **answers.options)
    client.set_defaults(environment="dev")

    async def beat() -> None:
        while True:
            await anyio.sleep(0.001)
            heart.beat()

    async def watched(action: Callable[[], Awaitable[None]]) -> float:
        await anyio.sleep(0.02)
        heart.since()
        await action()
        await anyio.sleep(0.01)
        return heart.since()

    async def nap() -> None:
        await anyio.sleep(WATCHED)

    ours: list[float] = []
    floor: list[float] = []
    async with client, anyio.create_task_group() as group:
        group.start_soon(beat)
        for _ in range(updates):
            answers.change()
            ours.append(await watched(client.reload))
            with busy_thread():
                floor.append(await watched(nap))
        group.cancel_scope.cancel()
    assert settings[0].get(user="user1") == 1
    return ours, floor


def gaps_of_a_thread(answers: Answers, updates: int) -> tuple[list[float], list[float]]:
    """Return the longest gaps of a thread during updates, and next to a busy thread."""
    heart = Heartbeat()
    stop = threading.Event()

    def beat() -> None:
        while not stop.is_set():
            time.sleep(0.001)
            heart.beat()

    def watched(action: Callable[[], object]) -> float:
        time.sleep(0.02)
        heart.since()
        action()
        time.sleep(0.01)
        return heart.since()

    ours: list[float] = []
    floor: list[float] = []
    thread = threading.Thread(target=beat)
    with client_of(answers) as client:
        thread.start()
        try:
            for _ in range(updates):
                answers.change()
                ours.append(watched(client.reload))
                with busy_thread():
                    floor.append(watched(lambda: time.sleep(WATCHED)))
        finally:
            stop.set()
            thread.join()
    return ours, floor


@pytest.mark.parametrize("kind", ["asyncio", "trio", "thread"])
def measure_who_waits_for_an_update(kind: str, ratios: Ratios) -> None:
    rules, updates = (1_000, 2) if ratios.quick else (100_000, 5)
    answers = Answers(1, rules)
    if kind == "asyncio":
        ours, floor = asyncio.run(gaps_of_a_loop(answers, updates))
    elif kind == "trio":
        ours, floor = trio.run(gaps_of_a_loop, answers, updates)
    else:
        ours, floor = gaps_of_a_thread(answers, updates)
    gap, beside = statistics.median(ours), statistics.median(floor)
    ratios.rows.append(
        Row(
            f"longest gap of a 1 ms heartbeat, {kind} (floor: beside a busy thread)",
            f"{gap:.1f} ms",
            f"{beside:.1f} ms",
            gap / beside,
            f"at most {MOST_MILLISECONDS:.0f} ms more",
            None if ratios.quick else gap - beside <= MOST_MILLISECONDS,
        )
    )
