"""Clocks that freeze, jump or stand still: polls go on, and `status` hides no staleness."""

from __future__ import annotations

import time
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from support.harness import (
    AnyClient,
    AsyncioHarness,
    GeventHarness,
    Harness,
    ThreadHarness,
    TrioHarness,
)
from support.misbehaving import OK, MisbehavingServer, trickle
from support.scenes import FEATURES, INTERVAL, Scene
from support.scripted import ManualClock, ScriptedBackend, ScriptedService, unreachable

from heksher import AsyncHeksherClient, Setting
from heksher.backends import Clock

HOURS = 8 * 3600.0
#: A moment in the future, as a test would freeze it.
LATER = 1.9e9


class BackendWithClock(ScriptedBackend):
    """A backend whose event loop has the clock of a test."""

    clock: Clock

    def create_clock(self) -> Clock:
        return self.clock


class LoopClock:
    """An event loop's clock whose moments a test changes. It waits in real time, as event loops do."""

    def __init__(self, own: Clock) -> None:
        self._own = own
        self.wait = own.wait
        self.frozen: float | None = None

    def now(self) -> float:
        return self._own.now() if self.frozen is None else self.frozen


class WallClock:
    """The wall clock, which a test can set."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.real = time.time
        self.ahead = 0.0
        self.frozen: float | None = None
        monkeypatch.setattr(time, "time", self.now)

    def now(self) -> float:
        return self.real() + self.ahead if self.frozen is None else self.frozen


@pytest.fixture
def scene(backend: Harness) -> Scene:
    return Scene(backend)


@pytest.fixture
def wall(monkeypatch: pytest.MonkeyPatch) -> WallClock:
    return WallClock(monkeypatch)


def client_with(scene: Scene, clock: Clock, interval: float, **options: Any) -> AnyClient:
    backend = BackendWithClock(scene.backend.backend, scene.service, scene.events)
    backend.clock = clock
    return scene.backend.client(
        "http://service.test", interval, FEATURES, backend=backend, **options
    )


def test_a_machine_that_was_suspended_is_stale_and_polls_as_soon_as_the_loop_looks(
    scene: Scene, wall: WallClock
) -> None:
    """The clocks of event loops stand still meanwhile."""
    ttl = Setting("ttl", int, ["user"], 60)

    async def body() -> None:
        async with client_with(scene, scene.clock, INTERVAL, random=lambda: 1.0) as client:
            await scene.settled()
            wall.ahead = HOURS
            staleness = client.status.staleness
            assert staleness is not None and HOURS <= staleness < HOURS + INTERVAL
            assert client.status.last_success is not None
            assert wall.now() - client.status.last_success == pytest.approx(staleness, abs=1)
            scene.service.add_rule("ttl", 5, user="jim")
            polls = scene.polls
            # One that resumes goes through what was left of its wait: the loop looks at its end.
            scene.clock.wake_all()
            await scene.backend.until(lambda: scene.polls > polls, "an update is due")
            await scene.backend.until(lambda: ttl.get(user="jim") == 5, "it is published")
            await scene.settled()
            staleness = client.status.staleness
            assert staleness is not None and staleness < INTERVAL

    scene.run(body)


def test_a_wall_clock_that_is_set_forward_makes_a_client_look_stale_until_its_next_update(
    scene: Scene, wall: WallClock
) -> None:
    ttl = Setting("ttl", int, ["user"], 60)

    async def body() -> None:
        async with client_with(scene, scene.clock, INTERVAL) as client:
            wall.ahead = HOURS
            await scene.pass_time(INTERVAL)
            staleness = client.status.staleness
            assert staleness is not None and staleness < INTERVAL
            asked = await scene.asked()
            assert asked is not None and asked <= INTERVAL
            wall.ahead = 0.0  # back again
            scene.clock.advance(INTERVAL / 10)
            staleness = client.status.staleness
            assert staleness is not None and INTERVAL / 10 <= staleness < INTERVAL

    scene.run(body)
    assert ttl.get(user="jim") == 60


@pytest.mark.parametrize("fails", [False, True])
def test_polls_go_on_after_a_time_in_which_all_clocks_showed_a_later_year(
    scene: Scene, wall: WallClock, fails: bool
) -> None:
    ttl = Setting("ttl", int, ["user"], 60)

    async def body() -> None:
        clock = LoopClock(scene.backend.backend.create_clock())
        async with client_with(scene, clock, 0.01) as client:
            wall.frozen = clock.frozen = LATER
            scene.service.fault = unreachable() if fails else None
            try:
                await client.reload()
            except type(unreachable()):
                assert fails
            wall.frozen = clock.frozen = None
            staleness = client.status.staleness
            assert staleness is not None and 0 < staleness < HOURS
            scene.service.fault = None
            scene.service.add_rule("ttl", 5, user="jim")
            await scene.backend.until(lambda: ttl.get(user="jim") == 5, "the client polls")
            staleness = client.status.staleness
            assert staleness is not None and staleness < HOURS

    scene.run(body)


@pytest.mark.parametrize(
    "harness", [ThreadHarness, GeventHarness]
)  # an event loop would stop itself
def test_polls_go_on_while_a_test_has_frozen_the_time(
    harness: type[Harness], monkeypatch: pytest.MonkeyPatch
) -> None:
    ttl = Setting("ttl", int, ["user"], 60)
    backend = harness()
    scene = Scene(backend)

    async def body() -> None:
        client = backend.client(
            "http://service.test", 0.01, FEATURES, backend=scene.library_backend()
        )
        async with client:
            with monkeypatch.context() as frozen:
                for name in ("time", "monotonic", "perf_counter"):
                    frozen.setattr(time, name, lambda: LATER)
                await client.reload()
                polls = scene.polls
                scene.service.add_rule("ttl", 5, user="jim")
                await backend.until(lambda: scene.polls > polls + 1, "the client polls")
            assert ttl.get(user="jim") == 5

    backend.run(body)


@pytest.mark.parametrize(
    "harness", [ThreadHarness, GeventHarness]
)  # an event loop would stop itself
@pytest.mark.parametrize("is_long", [True, False], ids=["for long", "at the beginning"])
def test_a_request_ends_at_its_deadline_though_a_test_has_frozen_the_time(
    harness: type[Harness], is_long: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = harness()

    async def body() -> None:
        client = backend.client(server.url, 60, FEATURES, request_timeout=0.5)
        with monkeypatch.context() as frozen:
            for name in ("time", "monotonic", "perf_counter"):
                frozen.setattr(time, name, lambda: LATER)
            ping = backend.beside(client.ping)
            await backend.until(server.connected.is_set, "the request is under way")
            if is_long:
                await backend.until(lambda: ping.ended, "the request is ended")
        await backend.until(lambda: ping.ended, "the request is ended")
        assert "longer than 0.5 seconds" in str(ping.error)
        await client.close()

    with MisbehavingServer(trickle(OK)) as server:
        backend.run(body)


class LeapingClock(ManualClock):
    """A clock that goes back by decades while something waits for it."""

    async def wait(self, event: Any, timeout: float | None) -> None:
        self._now -= LATER
        await super().wait(event, timeout)


def test_a_start_waits_no_longer_than_its_timeout_whatever_the_clock_shows(scene: Scene) -> None:
    ttl = Setting("ttl", int, ["user"], 60)
    scene.clock = LeapingClock()

    async def body() -> None:
        arrived, go_on = scene.backend.event(), scene.backend.event()
        scene.service.hold("v1/context_features", arrived, go_on)
        client = scene.client(startup_timeout=5)
        start = scene.backend.beside(client.set_as_main)
        await scene.settled()
        scene.clock.advance(4)
        scene.clock.wake_all()
        await scene.backend.until(lambda: len(scene.clock.asked) > 1, "it waits again")
        assert [each is not None and each <= 5 for each in scene.clock.asked[:2]] == [True, True]
        go_on.set()
        await scene.backend.until(lambda: start.ended, "it starts")
        await client.close()

    scene.run(body)
    assert ttl.get(user="jim") == 60


@pytest.mark.parametrize(
    ("loop", "clock"),
    [("asyncio", "time.monotonic"), ("trio", "trio._core._run.perf_counter")],
    ids=["asyncio", "trio"],
)
def test_an_event_loop_whose_timers_were_armed_at_a_later_year_goes_on_polling(
    loop: str, clock: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ttl = Setting("ttl", int, ["user"], 60)
    harness = AsyncioHarness() if loop == "asyncio" else TrioHarness()
    service = ScriptedService(*FEATURES)

    async def body() -> None:
        client = AsyncHeksherClient(
            "http://service.test",
            0.02,
            FEATURES,
            backend=ScriptedBackend(harness.backend, service, []),
            startup="raise",
        )
        async with client:
            with monkeypatch.context() as freezing:
                freezing.setattr(clock, lambda: LATER)
                await client.reload()
                for _ in range(50):  # the update loop arms its timer
                    await anyio.lowlevel.checkpoint()
            service.add_rule("ttl", 5, user="jim")
            await harness.until(lambda: ttl.get(user="jim") == 5, "a poll comes")

    anyio.run(body, backend=loop)
