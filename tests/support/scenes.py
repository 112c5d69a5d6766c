"""A scripted service with a clock and clients, for tests of the core."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from support.harness import AnyClient, Harness
from support.scripted import CountingEvent, ManualClock, ScriptedBackend, ScriptedService

INTERVAL = 60.0
FEATURES = ["environment", "user", "theme"]


class Scene:
    """A scripted service with its clock, and the clients that reach it."""

    def __init__(self, backend: Harness) -> None:
        self.backend = backend
        self.service = ScriptedService(*FEATURES)
        self.clock = ManualClock()
        self.chance = 0.5
        self.events: list[CountingEvent] = []

    def run(self, body: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self.backend.run(body)

    def client(self, url: str = "http://service.test", **options: Any) -> AnyClient:
        return self.backend.client(
            url,
            INTERVAL,
            FEATURES,
            backend=self.library_backend(),
            clock=self.clock,
            **{"random": lambda: self.chance, **options},
        )

    def library_backend(self) -> ScriptedBackend:
        """Return a backend that reaches the scripted service."""
        return ScriptedBackend(self.backend.backend, self.service, self.events)

    @property
    def polls(self) -> int:
        """The number of queries for rules."""
        return self.service.count("GET v1/query")

    async def settled(self) -> None:
        """Return once the update loop waits for its next turn."""
        await self.backend.until(lambda: self.clock.sleeping, "the loop waits")

    async def asked(self) -> float | None:
        """Return how many seconds the update loop waits."""
        await self.settled()
        return self.clock.asked[-1]

    async def pass_time(self, seconds: float) -> None:
        """Let enough time pass for an update to be due, and return once the loop waits again."""
        await self.settled()
        waits = len(self.clock.asked)
        self.clock.advance(seconds)
        await self.backend.until(
            lambda: len(self.clock.asked) > waits and self.clock.sleeping, "the loop waits again"
        )

    @property
    def waiting(self) -> int:
        """The number of calls that wait for an event of the core, without the update loop."""
        return sum(event.waiting for event in self.events) - self.clock.sleeping
