"""Many clients that start at the same moment, or come back after an outage, poll at different moments."""

from __future__ import annotations

import random
from collections import Counter
from contextlib import AsyncExitStack

import pytest
import trio
from support.harness import TrioHarness
from support.scripted import ScriptedBackend, ScriptedService, unreachable
from trio.testing import MockClock

from heksher import AsyncHeksherClient, Setting
from heksher._wire import Request, Response

pytestmark = pytest.mark.trio

CLIENTS = 200
INTERVAL = 60.0
# The number of parts of an interval in which polls are counted.
SLOTS = 10


class TimedService(ScriptedService):
    """A service that notes the times of all queries."""

    def __init__(self, *features: str) -> None:
        super().__init__(*features)
        self.times: list[float] = []

    async def answer(self, request: Request) -> Response:
        if request.target.startswith("api/v1/query"):
            self.times.append(trio.current_time())
        return await super().answer(request)

    def busiest(self, begin: float) -> float:
        """Return the largest share of the polls of one interval, from *begin* on, in a single slot."""
        slots = Counter(
            int((time - begin) / INTERVAL * SLOTS)
            for time in self.times
            if begin <= time < begin + INTERVAL
        )
        assert slots.total() >= CLIENTS / 2, "they do not poll"
        return max(slots.values()) / slots.total()


def _client(service: ScriptedService, number: int, setting: Setting[int]) -> AsyncHeksherClient:
    client = AsyncHeksherClient(
        "http://service.test",
        INTERVAL,
        ["user"],
        backend=ScriptedBackend(TrioHarness().backend, service, []),
        # With a seed and a virtual clock, each run has the same polls.
        random=random.Random(number).random,
    )
    client.add_settings([setting])
    return client


async def test_a_fleet_spreads_its_polls(autojump_clock: MockClock) -> None:
    service = TimedService("user")
    settings = [Setting(f"limit_{number}", int, ["user"], 60) for number in range(CLIENTS)]
    async with AsyncExitStack() as stack:
        for client in [_client(service, *numbered) for numbered in enumerate(settings)]:
            await stack.enter_async_context(client)
        started = trio.current_time()
        assert service.times == [started] * CLIENTS

        await trio.sleep(0.001)
        await trio.sleep(2 * INTERVAL)
        for interval in range(2):
            assert service.busiest(started + 0.001 + interval * INTERVAL) < 0.2

        service.fault = unreachable()
        await trio.sleep(5 * INTERVAL)
        service.fault = None
        back = trio.current_time()
        await trio.sleep(2 * INTERVAL)
        for interval in range(2):
            assert service.busiest(back + interval * INTERVAL) < 0.2
