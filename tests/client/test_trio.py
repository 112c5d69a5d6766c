"""What only trio can show: hours of polling with its autojump clock, nurseries, cancel scopes."""

from __future__ import annotations

import random
from typing import Any

import pytest
import trio
import trio.testing
from support.harness import TrioHarness
from support.leftovers import Leftovers
from support.scenes import FEATURES
from support.scripted import ScriptedBackend, ScriptedService, unreachable
from trio.testing import MockClock

from heksher import AsyncHeksherClient, Setting, _registry
from heksher.exceptions import ClientClosedError, StartupTimeoutError
from heksher.status import ClientState

pytestmark = pytest.mark.trio

INTERVAL = 60.0
HOUR = 3600.0


class NeverSet:
    """An event that is never set, for a request that hangs."""

    def set(self) -> None:
        pass

    def clear(self) -> None:
        pass

    def is_set(self) -> bool:
        return False

    async def wait(self, timeout: float | None = None) -> None:
        await trio.sleep_forever()


@pytest.fixture
def service() -> ScriptedService:
    return ScriptedService(*FEATURES)


def make_client(service: ScriptedService, **options: Any) -> AsyncHeksherClient:
    options.setdefault("startup", "raise")
    return AsyncHeksherClient(
        "http://service.test",
        INTERVAL,
        FEATURES,
        backend=ScriptedBackend(TrioHarness().backend, service, []),
        random=random.Random(7).random,
        **options,
    )


async def test_an_hour_of_polls(autojump_clock: MockClock, service: ScriptedService) -> None:
    ttl = Setting("cache_ttl", int, ["user"], 60)
    async with make_client(service) as client:
        before = service.count("GET v1/query")
        await trio.sleep(HOUR)
        polls = service.count("GET v1/query") - before
        assert HOUR / INTERVAL <= polls <= HOUR / (0.8 * INTERVAL) + 1
        staleness = client.status.staleness
        assert staleness is not None
        assert staleness <= INTERVAL
        service.add_rule("cache_ttl", 5, user="jim")
        await trio.sleep(INTERVAL)
        assert ttl.get(user="jim") == 5


async def test_an_hour_of_outage(autojump_clock: MockClock, service: ScriptedService) -> None:
    ttl = Setting("cache_ttl", int, ["user"], 60)
    async with make_client(service) as client:
        service.fault = unreachable()
        tries = len(service.requests)
        await trio.sleep(HOUR)
        # Once the backoff has reached the interval, full jitter makes it half an interval on average.
        tried = len(service.requests) - tries
        assert HOUR / INTERVAL <= tried <= 4 * HOUR / INTERVAL
        assert client.status.failures == tried
        assert client.status.staleness == pytest.approx(HOUR, abs=INTERVAL)
        service.fault = None
        service.add_rule("cache_ttl", 5, user="jim")
        await trio.sleep(INTERVAL)
        assert ttl.get(user="jim") == 5


async def test_a_start_is_bounded_in_trios_time(
    autojump_clock: MockClock, service: ScriptedService
) -> None:
    client = make_client(service, startup_timeout=30)
    service.hold("v1/context_features", NeverSet(), NeverSet())
    leftovers = Leftovers()
    began = trio.current_time()
    with pytest.raises(StartupTimeoutError):
        await client.set_as_main()
    assert trio.current_time() - began == pytest.approx(30)
    assert not leftovers.found()


async def test_closing_a_request_that_hangs_takes_no_time(
    autojump_clock: MockClock, service: ScriptedService
) -> None:
    client = make_client(service)
    await client.set_as_main()
    service.hold("v1/context_features", NeverSet(), NeverSet())
    async with trio.open_nursery() as nursery:

        async def reload() -> None:
            with pytest.raises(ClientClosedError):
                await client.reload()

        nursery.start_soon(reload)
        await trio.testing.wait_all_tasks_blocked()
        began = trio.current_time()
        await client.aclose()
        assert trio.current_time() == began


async def test_the_client_runs_in_a_nursery_of_the_callers(
    autojump_clock: MockClock, service: ScriptedService
) -> None:
    ttl = Setting("cache_ttl", int, ["user"], 60)
    leftovers = Leftovers()
    client = make_client(service)
    async with trio.open_nursery() as nursery:
        await nursery.start(client.run)
        # There is no system task: all tasks are in this nursery.
        assert not leftovers.found()
        service.fault = RuntimeError("nobody foresaw this")
        await trio.sleep(HOUR)
        assert client.status.failures > 0
        service.fault = None
        service.add_rule("cache_ttl", 5, user="jim")
        await trio.sleep(INTERVAL)
        assert ttl.get(user="jim") == 5
        nursery.cancel_scope.cancel()
    assert client.status.state is ClientState.CLOSED
    assert _registry.main() is None
    assert ttl.get(user="jim") == 5
