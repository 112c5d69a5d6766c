"""Listeners in random stories: what they are told is how the values of `get()` differ between updates."""

from __future__ import annotations

from itertools import pairwise, product
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.harness import AnyClient, AsyncioHarness, Harness, ThreadHarness
from support.property_helpers import modest
from support.scenes import FEATURES, Scene

from heksher import Setting, ValueChanged, testing
from heksher.clients.stub import Rule, SyncStubHeksherClient

pytestmark = pytest.mark.integration

VALUES = ("a", "b")
#: The contexts that have a listener. What the last ones lack are the client's defaults.
CONTEXTS: list[dict[str, str]] = [
    *(dict(zip(FEATURES, values, strict=True)) for values in product(VALUES, repeat=3)),
    {"user": "a"},
    {"theme": "b"},
    {"user": "b", "theme": "a"},
]

names = st.sampled_from("xy")
conditions = st.dictionaries(st.sampled_from(FEATURES), st.sampled_from(VALUES), max_size=2)
numbers = st.integers(0, 2)
acts = st.one_of(
    st.tuples(st.just("rule"), names, conditions, numbers),
    st.tuples(st.just("clear"), names),
    st.tuples(st.just("default"), names, numbers),
    st.tuples(st.just("order"), st.permutations(FEATURES)),
    st.tuples(st.just("constant"), st.sampled_from(FEATURES), st.sampled_from(VALUES)),
    st.tuples(st.just("stub"), names, conditions, numbers),
    st.tuples(st.just("unstub")),
)


class Play:
    """Two settings with a listener in each context, a service, a client and now and then a stub."""

    def __init__(self, harness: Harness) -> None:
        testing.reset()
        self.scene = Scene(harness)
        self.settings = {name: Setting(name, int, FEATURES, 0) for name in "xy"}
        self.defaults: dict[str, str] = {}
        self.stub: SyncStubHeksherClient | None = None
        self.told: dict[tuple[str, int], list[tuple[int, int]]] = {}
        self.changed: set[str] = set()
        self.of_client: set[str] = set()
        for name, setting in self.settings.items():
            setting.on_change(lambda event: self.changed.add(event.setting.name))
            for number, context in enumerate(CONTEXTS):
                self.listen((name, number), setting, context)

    def listen(self, key: tuple[str, int], setting: Setting[int], context: dict[str, str]) -> None:
        def callback(event: ValueChanged[int]) -> None:
            self.told.setdefault(key, []).append((event.old, event.new))

        setting.on_change(callback, **context)

    def act(self, client: AnyClient, what: str, *details: Any) -> None:
        service = self.scene.service
        if what == "rule":
            name, wanted, value = details
            rules = service.rules.setdefault(name, [])
            rules[:] = [rule for rule in rules if dict(rule["context_features"]) != wanted]
            service.add_rule(name, value, **wanted)
        elif what == "clear":
            service.rules[details[0]] = []
        elif what == "default":
            service.settings[details[0]]["default_value"] = details[1]
        elif what == "order":
            service.features[:] = details[0]
        elif what == "constant":
            # A stub has its own.
            if self.stub is None and details[0] not in self.defaults:
                client.set_defaults(**dict([details]))
                self.defaults[details[0]] = details[1]
        elif what == "stub":
            name, wanted, value = details
            if self.stub is None:
                self.stub = SyncStubHeksherClient("", 0, FEATURES)
                self.stub.set_defaults(**self.defaults)
            self.stub[self.settings[name]].rules = [Rule(wanted, value)]
        elif self.stub is not None:
            self.stub.close()
            self.stub = None

    def values(self) -> dict[tuple[str, int], int]:
        """Return the value of each setting in each context."""
        defaults = {**dict.fromkeys(FEATURES), **self.defaults}
        return {
            (name, number): setting.get(**{**defaults, **context})
            for name, setting in self.settings.items()
            for number, context in enumerate(CONTEXTS)
        }

    def rules(self) -> object:
        """Return what decides the values, as far as the service has it."""
        service = self.scene.service
        rules = [
            (name, sorted(each["context_features"]), each["value"])
            for name, listed in service.rules.items()
            for each in listed
        ]
        defaults = {name: each["default_value"] for name, each in service.settings.items()}
        return sorted(rules), defaults, [*service.features]


@settings(modest, max_examples=60)
@given(
    st.sampled_from([AsyncioHarness, ThreadHarness]),
    st.lists(st.lists(acts, max_size=3), max_size=5),
)
def test_listeners_are_told_how_the_values_differ_between_updates(
    kind: type[Harness], story: list[list[tuple[Any, ...]]]
) -> None:
    play = Play(kind())

    async def body() -> None:
        client = play.scene.client()
        client.on_change(lambda event: play.of_client.update(event.names))
        async with client:
            before, rules = play.values(), play.rules()
            assert play.told == {}
            for act in story:
                for what, *details in act:
                    play.act(client, what, *details)
                await client.reload()
                now = play.values()
                different = {key for key in now if before[key] != now[key]}
                assert different <= play.told.keys()
                for key, told in play.told.items():
                    assert (told[0][0], told[-1][1]) == (before[key], now[key])
                    assert all(one[1] == other[0] for one, other in pairwise(told))
                    assert all(old != new for old, new in told)
                if not any(what in ("stub", "unstub") for what, *_ in act):
                    assert all(len(told) <= 2 for told in play.told.values())
                    if play.stub is None:
                        assert play.changed == play.of_client
                    if play.rules() == rules:
                        assert play.changed == set()
                if not any(what == "constant" for what, *_ in act):
                    assert {name for name, _ in play.told} <= play.changed
                before, rules = now, play.rules()
                play.told, play.changed, play.of_client = {}, set(), set()

    try:
        play.scene.run(body)
    finally:
        testing.reset()
