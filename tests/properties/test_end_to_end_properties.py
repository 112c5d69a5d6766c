"""The whole path, from an operator's request to `get()`: service, HTTP, client, look-up.

A story is drawn: context features, settings, rules, defaults, tracked features, and later changes by the
operator and the application. It is played on a real service and a real client. Each call of `get()` is
compared with `Expectation`, which knows the whole story and uses the slow resolver. In half of the
stories, a transport changes filters to what the original service reads, which misreads most names. In
half of them, updates are polls, which may bring changes only; in the others, they are reloads. In half of
them, each setting is asked for by itself.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import Context, ContextVar
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar
from unittest import mock

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.harness import AnyClient, AsyncioHarness, Harness, ThreadHarness, TrioHarness
from support.property_helpers import modest
from support.scripted import ManualClock

from heksher import TRACK_ALL, Setting, _registry
from heksher._client import settings as client_settings
from heksher._client.splitting import Limits
from heksher._rules.table import RuleTable, TableRule
from heksher.exceptions import FeatureTypeError, MissingFeatureError
from heksher.testing.service import LiveService

pytestmark = pytest.mark.integration

#: In filters, the original service reads only names of lower-case letters correctly.
NAMES: tuple[str, ...] = (
    *("user", "a", "class", "self"),
    *("my_user", "x_a", "user2", "Theme", "_", "2nd"),
)
VALUES: tuple[str, ...] = ("a", "B_1")
#: Values that no condition can have.
STRANGE: tuple[str, ...] = ("", "a b", "é", "a,b", "*)", "None")

# Seconds. The interval never ends, so the test makes all updates.
NEVER = 1_000_000.0

T = TypeVar("T")
Conditions = tuple[tuple[str, str], ...]
Tracked = Mapping[str, str | Sequence[str]]


# --- stories --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Source:
    """A default: a constant, or otherwise a context variable that may have its own default."""

    constant: str | None = None
    own: str | None = None


@dataclass(frozen=True)
class Call:
    """A call of one setting's `get()`, with values of context variables."""

    setting: int
    arguments: Mapping[str, Any]
    variables: Mapping[str, str]


@dataclass(frozen=True)
class Plot:
    """One setting: what the application declares, and what the service has before the client starts."""

    features: list[str]
    rules: list[Conditions]
    # The default value that another application has declared in a later version, or None.
    service_default: int | None
    # Whether the application defines it only after the client has started.
    late: bool


@dataclass(frozen=True)
class Act:
    """What operator and application do between two updates. Numbers select items modulo their count."""

    # A feature to move, and the distance from it to the feature that it is moved after.
    moves: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])
    new_feature: bool = False
    new_rules: list[tuple[int, Conditions]] = field(default_factory=list[tuple[int, Conditions]])
    changed_rules: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])
    deleted_rules: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])
    new_defaults: list[int] = field(default_factory=list[int])
    renamed: int | None = None
    tracked: Tracked = field(default_factory=dict[str, str])
    sources: dict[str, Source] = field(default_factory=dict[str, Source])


@dataclass(frozen=True)
class Story:
    """The whole story. The first act is before the client's start, and each other one before an update."""

    order: list[str]
    listed: list[str]
    plots: list[Plot]
    acts: list[Act]
    calls: list[Call]
    misread: bool
    polls: bool
    limits: Limits


def subsets(
    names: Sequence[str], least: int = 0, most: int = len(NAMES)
) -> st.SearchStrategy[list[str]]:
    """Return a strategy for subsets in any order; large ones are as likely as small ones."""
    return st.permutations(names).flatmap(
        lambda order: st.integers(least, min(most, len(order))).map(lambda size: list(order[:size]))
    )


def conditions_on(features: list[str], most: int) -> st.SearchStrategy[Conditions]:
    return subsets(features, 1, most).flatmap(
        lambda chosen: st.tuples(*(st.tuples(st.just(f), st.sampled_from(VALUES)) for f in chosen))
    )


def mostly(common: st.SearchStrategy[T], rare: st.SearchStrategy[T]) -> st.SearchStrategy[T]:
    """Return a strategy that is *common* three times out of four; repetitions in `|` would not count."""
    return st.integers(0, 3).flatmap(lambda chance: rare if chance == 3 else common)


values = st.sampled_from(VALUES)
any_values = mostly(values, st.sampled_from(STRANGE))
tracked_values = any_values | st.lists(any_values)
arguments: st.SearchStrategy[Any] = mostly(
    values, st.text(max_size=3) | st.sampled_from([None, None, "other", 5])
)
sources = st.builds(Source, constant=any_values) | st.builds(Source, own=st.none() | any_values)


def some(elements: st.SearchStrategy[T], most: int, least: int = 0) -> st.SearchStrategy[list[T]]:
    """Return a strategy for lists in which many elements are as likely as few."""
    return st.integers(least, most).flatmap(
        lambda size: st.lists(elements, min_size=size, max_size=size)
    )


@st.composite
def stories(draw: st.DrawFn) -> Story:
    names = draw(subsets(NAMES, 1, 5))
    # Rules with only one condition look the same in any order of the features, and so does the ETag.
    most = draw(st.sampled_from([1, 2, 5]))
    unknown = [name for name in NAMES if name not in names][:1]  # to the service
    plots = [
        draw(
            st.builds(
                Plot,
                st.just(features),
                mostly(
                    some(conditions_on(features, most), 10, least=3),
                    some(conditions_on(features, most), 2),
                ),
                st.none() | st.integers(1, 9),
                st.sampled_from([False, False, True]),
            )
        )
        for features in draw(some(mostly(st.just(names[:4]), subsets(names, least=1)), 2, least=1))
    ]
    numbers = st.integers(0, 20)
    pairs = some(st.tuples(numbers, numbers), 2)
    moves = some(st.tuples(numbers, st.integers(1, len(names))), 3)
    new_rules = st.integers(0, len(plots) - 1).flatmap(
        lambda number: st.tuples(st.just(number), conditions_on(plots[number].features, most))
    )
    # Tracking all values of a feature excludes tracking single ones, also in different acts.
    tracks = draw(st.integers(0, 2))  # in how many acts
    wide = draw(mostly(subsets(names, least=len(names) // 2), subsets(names)))

    def tracked(act: int) -> Tracked:
        if act >= tracks:
            return {}
        chosen = draw(mostly(st.just(names), subsets([*names, *unknown])))
        return {name: TRACK_ALL if name in wide else draw(tracked_values) for name in chosen}

    acts: list[Act] = []
    left = list(draw(st.permutations([*names, *unknown])))  # each gets at most one default
    for number in range(draw(st.sampled_from([1, 2, 3, 3]))):
        now, left = (left[: (cut := draw(st.integers(0, len(left))))], left[cut:])
        act = Act(
            moves=draw(moves),
            tracked=tracked(number),
            sources={name: draw(sources) for name in now},
        )
        # Often the rules and the ETag do not change.
        if number > 0 and draw(st.booleans()):
            act = replace(
                act,
                new_feature=draw(st.booleans()),
                new_rules=draw(some(new_rules, 3)),
                changed_rules=draw(pairs),
                deleted_rules=draw(pairs),
                new_defaults=draw(st.lists(numbers, max_size=1)),
                renamed=draw(mostly(st.none(), numbers)),
            )
        acts.append(act)
    variables = draw(st.dictionaries(st.sampled_from(names), any_values))
    calls: list[Call] = []
    for number, plot in enumerate(plots):
        for _ in range(3):
            strange = {name: draw(arguments) for name in draw(subsets(plot.features))}
            calls.append(Call(number, strange, variables))
        # And every combination of values that conditions can have, or of no value.
        for combination in itertools.product([None, *VALUES], repeat=len(plot.features)):
            chosen = zip(plot.features, combination, strict=True)
            plain = {name: value for name, value in chosen if value is not None}
            calls.append(Call(number, plain, variables))
    listed = draw(st.permutations([*names, *unknown]))
    limits = draw(st.sampled_from([Limits(), Limits(40)]))
    misread, polls = draw(st.booleans()), draw(st.booleans())
    return Story(names, list(listed), plots, acts, calls, misread, polls, limits)


# --- expectations ---------------------------------------------------------------------------------


@dataclass
class Stored:
    """A setting on the service."""

    name: str
    default: int
    minor: int = 0
    # The id and the value of each rule, by its sorted conditions.
    rules: dict[Conditions, tuple[int, int]] = field(
        default_factory=dict[Conditions, tuple[int, int]]
    )


class Expectation:
    """The content of the service, the calls of the application, and the result of `get()`."""

    def __init__(self, story: Story) -> None:
        self.order = list(story.order)
        self.stored: dict[int, Stored] = {}
        self.tracked: dict[str, set[str] | None] = {}
        self.sources: dict[str, Source] = {}
        self._published: dict[int, RuleTable[int]] = {}

    def publish(self, settings: Mapping[int, Setting[int]]) -> None:
        """Note that an update was made: from now on, calls use the present content of the service."""
        self._published = {
            number: RuleTable(
                self.stored[number].default,
                tuple(
                    TableRule(value, conditions, rule_id)
                    for conditions, (rule_id, value) in self.stored[number].rules.items()
                    if self.is_tracked(conditions)
                ),
                tuple(self.order),
            )
            for number in settings
        }

    def track(self, tracked: Tracked) -> None:
        for feature, chosen in tracked.items():
            if chosen == TRACK_ALL:
                self.tracked[feature] = None
            else:
                before = self.tracked.get(feature) or set[str]()
                self.tracked[feature] = before | (
                    {chosen} if isinstance(chosen, str) else {*chosen}
                )

    def is_tracked(self, conditions: Conditions) -> bool:
        for feature, value in conditions if self.tracked else ():
            if feature not in self.tracked:
                return False
            tracked = self.tracked[feature]
            if tracked is not None and value not in tracked:
                return False
        return True

    def context(self, features: list[str], call: Call) -> dict[str, Any]:
        """Return the value of each feature that has one."""
        context: dict[str, Any] = {}
        for feature in features:
            source = self.sources.get(feature)
            if feature in call.arguments:
                context[feature] = call.arguments[feature]
            elif source is None:
                continue
            elif source.constant is not None:
                context[feature] = source.constant
            elif feature in call.variables:
                context[feature] = call.variables[feature]
            elif source.own is not None:
                context[feature] = source.own
        return context

    def answer(self, number: int, context: dict[str, str | None]) -> int:
        return self._published[number].resolve(context)


# --- the stage ------------------------------------------------------------------------------------


def as_the_original_reads(request: httpx.Request) -> httpx.Response | None:
    """Change the filters of a query to what the original reads, or refuse the query as it does."""
    filters = request.url.params.get("context_filters", "*")
    if filters == "*":
        return None
    found = re.findall(r"([a-z]+):(\*|\([^)]*\))", filters)
    if len({name for name, _ in found}) < len(found):
        return httpx.Response(400, text="context name repeated in context filter")
    read = ",".join(f"{name}:{chosen}" for name, chosen in found)
    request.url = request.url.copy_set_param("context_filters", read)
    return None


class Misreading(httpx.HTTPTransport):
    def handle_request(self, request: httpx.Request) -> httpx.Response:
        return as_the_original_reads(request) or super().handle_request(request)


class AsyncMisreading(httpx.AsyncHTTPTransport):
    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return as_the_original_reads(request) or await super().handle_async_request(request)


def http_options(harness: Harness, misread: bool) -> dict[str, Any]:
    """Return the client's HTTP options. They verify no certificates, since loading them takes long."""
    if not misread:
        return {"http_client_args": {"verify": False, "trust_env": False}}
    if isinstance(harness, ThreadHarness):
        return {"http_client": lambda: httpx.Client(transport=Misreading(verify=False))}
    return {"http_client": lambda: httpx.AsyncClient(transport=AsyncMisreading(verify=False))}


class Performance:
    """One story, played on a service and a client."""

    def __init__(self, story: Story, service: LiveService, harness: Harness) -> None:
        self.story = story
        self.service = service
        self.harness = harness
        self.clock = ManualClock()
        self.expected = Expectation(story)
        self.settings: dict[int, Setting[int]] = {}
        self.variables: dict[str, ContextVar[str]] = {}
        self._value = 100

    async def play(self) -> None:
        with mock.patch.object(client_settings, "Limits", return_value=self.story.limits):
            await self.play_within_limits()

    async def play_within_limits(self) -> None:
        _registry.reset()
        self.clear_service()
        for number, plot in enumerate(self.story.plots):
            self.store(number, plot)
            if not plot.late:
                self.define(number)
        client = self.harness.client(
            self.service.url,
            NEVER,
            self.story.listed,
            startup="raise",
            clock=self.clock,
            **http_options(self.harness, self.story.misread),
        )
        first, *others = self.story.acts
        self.operate(first)
        self.configure(first, client)
        async with client:
            self.expected.publish(self.settings)
            self.call_all()
            for act in others:
                self.operate(act)
                self.configure(act, client)
                self.call_all()  # with the old rules and the new defaults
                for number in range(len(self.story.plots)):
                    self.define(number)
                await self.update(client)
                self.expected.publish(self.settings)
                self.call_all()
        self.call_all()

    async def update(self, client: AnyClient) -> None:
        if not self.story.polls:
            await client.reload()
            return
        await self.harness.until(lambda: self.clock.sleeping, "the loop waits")
        waits = len(self.clock.asked)
        self.clock.advance(NEVER)
        await self.harness.until(
            lambda: len(self.clock.asked) > waits and self.clock.sleeping, "the loop waits again"
        )
        assert client.status.failures == 0, client.status.last_error

    def clear_service(self) -> None:
        for setting in self.service.get("/settings")["settings"]:
            self.service.delete_setting(setting["name"])
        features = self.service.get("/context_features")["context_features"]
        for feature in features:
            assert self.service.request("DELETE", f"/context_features/{feature}").is_success
        for feature in self.story.order:
            self.service.add_feature(feature)

    # --- the operator -----------------------------------------------------------------------------

    def store(self, number: int, plot: Plot) -> None:
        name = f"setting_{number}"
        stored = self.expected.stored[number] = Stored(name, -number)
        if plot.rules or plot.service_default is not None or plot.late:
            self.service.declare(name, features=plot.features, default_value=-number)
        if plot.service_default is not None:
            self.set_default(number, plot.service_default)
        for conditions in plot.rules:
            self.add_rule(stored, conditions)

    def set_default(self, number: int, default: int) -> None:
        stored = self.expected.stored[number]
        stored.minor += 1
        stored.default = default
        self.service.declare(
            stored.name,
            features=self.story.plots[number].features,
            default_value=default,
            version=f"1.{stored.minor}",
        )

    def add_rule(self, stored: Stored, conditions: Conditions) -> None:
        key = tuple(sorted(conditions))
        if key not in stored.rules:
            rule_id = self.service.add_rule(stored.name, self.next_value(), **dict(conditions))
            stored.rules[key] = (rule_id, self._value)

    def next_value(self) -> int:
        self._value += 1
        return self._value

    def operate(self, act: Act) -> None:
        order, stored = self.expected.order, self.expected.stored
        for one, distance in act.moves:
            moved, target = order[one % len(order)], order[(one + distance) % len(order)]
            if moved != target:
                self.service.move_feature(moved, to_after=target)
                order.remove(moved)
                order.insert(order.index(target) + 1, moved)
        if act.new_feature:
            order.append(f"new{len(order)}")
            self.service.add_feature(order[-1])
        for number, conditions in act.new_rules:
            self.add_rule(stored[number], conditions)
        for number, which in act.changed_rules:
            rules = stored[number % len(stored)].rules
            if rules:
                conditions = list(rules)[which % len(rules)]
                rules[conditions] = (rules[conditions][0], self.next_value())
                self.service.change_rule(*rules[conditions])
        for number, which in act.deleted_rules:
            rules = stored[number % len(stored)].rules
            if rules:
                rule_id, _ = rules.pop(list(rules)[which % len(rules)])
                self.service.delete_rule(rule_id)
        for number in act.new_defaults:
            self.set_default(number % len(stored), 10 + number)
        if act.renamed is not None:
            renamed = stored[act.renamed % len(stored)]
            self.service.rename(renamed.name, f"{renamed.name}x", f"1.{renamed.minor}")
            renamed.name += "x"

    # --- the application --------------------------------------------------------------------------

    def define(self, number: int) -> None:
        if number not in self.settings:
            features = self.story.plots[number].features
            self.settings[number] = Setting(f"setting_{number}", int, features, -number)

    def configure(self, act: Act, client: AnyClient) -> None:
        if act.tracked:
            client.track_contexts(**act.tracked)
            self.expected.track(act.tracked)
        for feature, source in act.sources.items():
            if source.constant is None:
                made = self.variables[feature] = (
                    ContextVar(feature)
                    if source.own is None
                    else ContextVar(feature, default=source.own)
                )
                client.set_defaults(**{feature: made})
            else:
                client.set_defaults(**{feature: source.constant})
            self.expected.sources[feature] = source

    def call_all(self) -> None:
        for call in self.story.calls:
            if call.setting in self.settings:
                self.call(call)

    def call(self, call: Call) -> None:
        setting = self.settings[call.setting]
        inside = Context()
        for feature, value in call.variables.items():
            if feature in self.variables:
                inside.run(self.variables[feature].set, value)
        features = self.story.plots[call.setting].features
        context = self.expected.context(features, call)
        missing = set(features) - context.keys()
        refused = {feature for feature, value in context.items() if isinstance(value, int)}
        if missing or refused:
            with pytest.raises((MissingFeatureError, FeatureTypeError)) as caught:
                inside.run(setting.get, **call.arguments)
            error = caught.value
            assert isinstance(error, (MissingFeatureError, FeatureTypeError))  # for mypy
            assert error.setting == setting.name
            assert error.feature in (refused if isinstance(error, FeatureTypeError) else missing)
            return
        answer = inside.run(setting.get, **call.arguments)
        assert answer == self.expected.answer(call.setting, context), (call, context)


@pytest.fixture(scope="module")
def service() -> Iterator[LiveService]:
    with LiveService(["user"], proxy=False) as service:
        yield service


@pytest.mark.parametrize(
    ("harness", "examples"),
    [
        pytest.param(ThreadHarness, 25, id="thread"),
        pytest.param(AsyncioHarness, 10, id="asyncio"),
        pytest.param(TrioHarness, 10, id="trio"),
    ],
)
def test_a_call_agrees_with_the_slow_resolver_on_all_that_the_service_holds(
    harness: Callable[[], Harness], examples: int, service: LiveService
) -> None:
    @settings(modest, max_examples=examples)
    @given(stories())
    def check(story: Story) -> None:
        stage = harness()
        stage.run(Performance(story, service, stage).play)

    check()
