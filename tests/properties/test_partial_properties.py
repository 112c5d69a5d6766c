"""Rules that come as changes are those that a client has which asks for everything.

A story is drawn of what operators, the application, and faults on the way do between polls. The query has
several parts. After each step, every call agrees with what the service holds.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.harness import AsyncioHarness, Harness, ThreadHarness
from support.property_helpers import by_masks, modest
from support.scenes import FEATURES, INTERVAL, Scene

from heksher import Setting, testing
from heksher._client import settings as client_settings
from heksher._client.splitting import Limits
from heksher._rules.table import TableRule
from heksher._wire import Request, Response
from heksher.exceptions import ServiceError

CONTEXTS: list[dict[str, str]] = [
    dict(zip(FEATURES, chosen, strict=True)) for chosen in itertools.product("ab", repeat=3)
]
#: Numbers select items modulo their count.
NUMBERS = st.integers(0, 30)
#: In each name, so that two or three of them fill a part of the query.
LONG = "x" * 40
FIRST, MOST = 5, 8


def _without(*names: str) -> Callable[[Response], Response]:
    return lambda response: replace(
        response, headers={k: v for k, v in response.headers.items() if k not in names}
    )


def _cut(response: Response) -> Response:
    return replace(response, body=response.body[:-3])


#: What befalls an answer to a query.
FAULTS: list[Callable[[Response], Response]] = [
    _cut,
    lambda _: Response(500),
    lambda _: Response(414),
    _without("heksher-partial"),
    _without("heksher-revision"),
    _without("etag"),
    _without("etag", "heksher-partial"),
]


class Performance:
    """One story, played on a scripted service and a client."""

    def __init__(self, harness: Harness) -> None:
        testing.reset()
        self.scene = Scene(harness)
        self.service = self.scene.service
        self.service.is_embedded = True
        self.settings: list[Setting[int]] = []
        self._faults: list[Callable[[Response], Response] | None] = []
        self._deleted = set[str]()
        self._value = 0
        self._answer = self.service.answer
        self.service.answer = self._faulty  # type: ignore[method-assign]
        #: How many answers had changes only.
        self.partial = 0

    async def _faulty(self, request: Request) -> Response:
        response = await self._answer(request)
        if "v1/query" not in request.target or response.status not in (200, 304):
            return response
        self.partial += "heksher-partial" in response.headers
        fault = self._faults.pop() if self._faults else None
        return response if fault is None else fault(response)

    async def play(self, steps: list[list[tuple[str, int, int]]]) -> None:
        for _ in range(FIRST):
            self.define(0, 0)
            name = self.settings[-1].name
            # Their priority is that of the features.
            self.service.add_rule(name, 1, environment="a")
            self.service.add_rule(name, 2, user="a")
        async with self.scene.client() as client:
            for step in steps:
                for act, one, other in step:
                    if act == "reload":
                        with suppress(ServiceError):  # a fault
                            await client.reload()
                    else:
                        getattr(self, act)(one, other)
                await self.scene.pass_time(INTERVAL)
                while self._faults or client.status.failures or client.status.rejected_rules:
                    await self.scene.pass_time(INTERVAL)
                self.check()

    # --- what happens -----------------------------------------------------------------------------

    def define(self, _one: int, _other: int) -> None:
        if len(self.settings) < MOST:
            name = f"s{len(self.settings)}{LONG}"
            self.settings.append(Setting(name, int, FEATURES, -1))

    def add_rule(self, one: int, other: int) -> None:
        features = {f for bit, f in enumerate(FEATURES) if (1 + other % 7) >> bit & 1}
        chosen = CONTEXTS[other % len(CONTEXTS)]
        conditions = {feature: value for feature, value in chosen.items() if feature in features}
        name = self._stored(one)
        self.service.rules[name] = [
            rule
            for rule in self.service.rules.get(name, [])
            if dict(rule["context_features"]) != conditions
        ]
        self.service.add_rule(name, self._new_value(), **conditions)

    def change_rule(self, one: int, other: int) -> None:
        rules = self.service.rules.get(self._stored(one))
        if rules:
            # Often a value that it had before.
            rules[other % len(rules)]["value"] = other % 3

    def delete_rule(self, one: int, other: int) -> None:
        rules = self.service.rules.get(self._stored(one))
        if rules:
            rules.pop(other % len(rules))

    def change_default(self, one: int, other: int) -> None:
        self.service.settings[self._stored(one)]["default_value"] = other

    def rename(self, one: int, other: int) -> None:
        name = self._stored(one)
        self.service.rename(name, f"{name[:2]}{other}{LONG}"[: 20 + other])

    def delete(self, one: int, _other: int) -> None:
        name = self._stored(one)
        # After the second time, the client only keeps the last rules.
        known = {name, *self.service.settings[name]["aliases"]}
        if not known & self._deleted:
            self._deleted |= known
            self.service.delete(name)

    def move(self, one: int, _other: int) -> None:
        features = self.service.features
        features.insert(0, features.pop(one % len(features)))

    def fault(self, one: int, other: int) -> None:
        self._faults = [FAULTS[other % len(FAULTS)], *[None] * (one % 3)]

    def limit(self, one: int, _other: int) -> None:
        """Let something refuse long URLs from now on, or no longer; the client tries hourly."""
        self.service.longest_target = 100 if one % 2 else math.inf
        self.scene.clock.advance(3600)

    def _stored(self, one: int) -> str:
        names = sorted(self.service.settings)
        return names[one % len(names)]

    def _new_value(self) -> int:
        self._value += 1
        return self._value + 100

    # --- what has to be ---------------------------------------------------------------------------

    def check(self) -> None:
        for setting in self.settings:
            stored = next(
                each
                for each in self.service.settings.values()
                if setting.name in (each["name"], *each["aliases"])
            )
            rules = [
                TableRule(rule["value"], tuple((f, v) for f, v in rule["context_features"]), number)
                for number, rule in enumerate(self.service.rules.get(stored["name"], []))
            ]
            for context in CONTEXTS:
                expected: Any = by_masks(
                    rules, self.service.features, context, stored["default_value"]
                )
                assert setting.get(**context) == expected, (setting.name, context)


acts = st.tuples(
    st.sampled_from(
        [
            *["add_rule"] * 4,
            *["change_rule", "change_rule", "delete_rule", "change_default", "rename"],
            *["delete", "move", "define", "reload", "fault", "fault", "limit"],
        ]
    ),
    NUMBERS,
    NUMBERS,
)


@pytest.mark.parametrize(
    ("harness", "examples"),
    [pytest.param(ThreadHarness, 15, id="thread"), pytest.param(AsyncioHarness, 4, id="asyncio")],
)
def test_rules_that_come_as_changes_are_those_of_the_service(
    harness: Callable[[], Harness], examples: int
) -> None:
    partial = 0

    @settings(modest, max_examples=examples)
    @given(st.lists(st.lists(acts, min_size=1, max_size=3), min_size=5, max_size=12))
    def check(steps: list[list[tuple[str, int, int]]]) -> None:
        nonlocal partial
        stage = harness()
        performance = Performance(stage)
        with mock.patch.object(client_settings, "Limits", functools.partial(Limits, 150)):
            stage.run(lambda: performance.play(steps))
        partial += performance.partial

    check()
    assert partial > examples, "there were answers with changes"
