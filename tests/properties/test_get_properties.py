"""`get()` compared with a plain reading of the contract: arguments, defaults, missing features."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextvars import Context, ContextVar
from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Any

import pytest
from hypothesis import assume, event, given, settings
from hypothesis import strategies as st
from support.explained import check_explanation
from support.property_helpers import (
    FEATURES,
    VALUES,
    Limits,
    by_masks,
    conditions,
    limited_look_ups,
    look_up_limits,
    modest,
    rule_lists,
)
from support.published import publish

from heksher import Cohort, Setting, _registry
from heksher._rules.contexts import Default, Defaults
from heksher._rules.table import RuleTable, TableRule
from heksher.exceptions import FeatureTypeError, MissingFeatureError, UnknownFeatureError

LOCAL, SERVICE = -1, -2


class Shade(StrEnum):
    LIGHT = "a"
    DARK = "b"


class Text(str):
    """A string of a subclass."""

    __slots__ = ()


#: "other" and "" are in no condition; the last three are no strings.
values: st.SearchStrategy[Any] = st.sampled_from(
    [*VALUES * 6, "other", "", *[None] * 4, *Shade, Text("c"), 5, ["a"], b"a"]
)


class Unset(Enum):
    """No default, or a context variable without a value."""

    UNSET = "unset"


UNSET = Unset.UNSET

#: The default of a feature: none, a constant, a context variable as (its own default, the value that it is
#: set to), or a cohort.
KindOfDefault = Unset | str | tuple[Any, Any] | Cohort
kinds_of_default: st.SearchStrategy[KindOfDefault] = st.one_of(
    st.just(UNSET),
    st.sampled_from([*VALUES, *Shade]),
    st.tuples(st.just(UNSET) | values, st.just(UNSET) | values),
    st.builds(
        Cohort,
        st.sampled_from(FEATURES),
        steps=st.sampled_from([(30, 100), (50, 70)]),
        salt=st.sampled_from(["", "x"]),
        per_setting=st.booleans(),
    ),
)

#: Conditions on these reach cohorts as well.
CONDITION_VALUES = [*VALUES, "30", "50"]


@st.composite
def default_kinds(draw: st.DrawFn) -> dict[str, KindOfDefault]:
    """Draw a default for every feature. No cohort is computed from another one."""
    kinds = {feature: draw(kinds_of_default) for feature in FEATURES}
    return {
        feature: UNSET
        if isinstance(kind, Cohort) and isinstance(kinds[kind.source], Cohort)
        else kind
        for feature, kind in kinds.items()
    }


def sources_of(kinds: dict[str, KindOfDefault], inside: Context) -> dict[str, Default]:
    """Return the defaults for a client, with context variables that are set *inside*."""
    sources: dict[str, Default] = {}
    for feature, kind in kinds.items():
        if isinstance(kind, tuple):
            own, value = kind
            made: ContextVar[str]
            made = ContextVar(feature) if own is UNSET else ContextVar(feature, default=own)
            if value is not UNSET:
                inside.run(made.set, value)
            sources[feature] = made
        elif kind is not UNSET:
            sources[feature] = kind
    return sources


@dataclass
class Expected:
    """What the contract says of one call.

    Attributes:
        context: the values of the features, if nothing is missing or refused.
        missing: the features that have none.
        refused: the features whose value is neither a string nor None.
    """

    context: dict[str, str | None]
    missing: set[str]
    refused: set[str]

    @classmethod
    def of(
        cls,
        features: Iterable[str],
        kinds: dict[str, KindOfDefault],
        arguments: dict[str, Any],
        started: bool,
    ) -> Expected:
        expected = cls({}, set(), set())
        for feature in features:
            value = expected._value_of(feature, kinds, arguments, started)
            expected.context[feature] = value
        return expected

    def _value_of(
        self,
        feature: str,
        kinds: dict[str, KindOfDefault],
        arguments: dict[str, Any],
        started: bool,
    ) -> str | None:
        """Return a feature's value, or note that it has none or a wrong one."""
        kind = kinds[feature] if started else UNSET
        found = arguments.get(feature, UNSET)
        if found is UNSET and isinstance(kind, Cohort):
            return kind.value_of(self._value_of(kind.source, kinds, arguments, started), "ttl")
        own, value = kind if isinstance(kind, tuple) else (UNSET, kind)
        for each in (value, own):
            found = each if found is UNSET else found
        if found is UNSET and not started:
            found = None
        if found is UNSET:
            self.missing.add(feature)
        elif found is None or isinstance(found, str):
            return found.value if isinstance(found, Shade) else found
        else:
            self.refused.add(feature)
        return None

    def check(
        self, call: Callable[[], int], answer: Callable[[dict[str, str | None]], int]
    ) -> None:
        """Check the outcome of *call*; *answer* is the right one in a context."""
        if self.missing or self.refused:
            event(f"missing: {bool(self.missing)}, refused: {bool(self.refused)}")
            with pytest.raises((MissingFeatureError, FeatureTypeError)) as caught:
                call()
            error = caught.value
            assert isinstance(error, (MissingFeatureError, FeatureTypeError))  # for mypy
            is_missing = isinstance(error, MissingFeatureError)
            assert error.feature in (self.missing if is_missing else self.refused)
        else:
            event("answered")
            assert call() == answer(self.context)


@st.composite
def calls(draw: st.DrawFn) -> tuple[list[str], list[TableRule[int]], dict[str, KindOfDefault], Any]:
    features = draw(st.lists(st.sampled_from(FEATURES), min_size=1, unique=True))
    on_these = st.dictionaries(st.sampled_from(features), st.sampled_from(CONDITION_VALUES))
    rules = draw(rule_lists(on_these.map(lambda by_feature: tuple(by_feature.items()))))
    kinds = draw(default_kinds())
    given_ones = st.just(set(features)) | st.sets(st.sampled_from(features))
    arguments = {feature: draw(values) for feature in draw(given_ones)}
    return features, rules, kinds, arguments


@settings(modest, max_examples=500)
@given(
    calls(),
    st.permutations(FEATURES),
    st.sampled_from([True, True, True, True, False]),
    st.sampled_from(["inline", "forwarding", "generic"]),
    look_up_limits,
)
def test_get_answers_as_the_contract_says(
    call: tuple[list[str], list[TableRule[int]], dict[str, KindOfDefault], dict[str, Any]],
    order: list[str],
    started: bool,
    form: str,
    limits: Limits,
) -> None:
    features, rules, kinds, arguments = call
    _registry.reset()
    if (
        form == "generic"
    ):  # a feature that cannot be a parameter, and that no rule has a condition on
        features, kinds, order = [*features, "class"], {**kinds, "class": "x"}, [*order, "class"]
    setting = Setting("ttl", int, features, LOCAL)
    if form == "forwarding":
        setting.add_validator(lambda value, rule, of: value)
    inside = Context()
    sources = sources_of(kinds, inside)
    if started:
        table = RuleTable(SERVICE, tuple(rules), tuple(order))
        # Another publish first, which must leave no trace.
        publish(setting, RuleTable(7))
        with limited_look_ups(limits):
            publish(setting, table, Defaults().adding(sources))
    else:
        rules = []

    expected = Expected.of(features, kinds, arguments, started)
    expected.check(
        lambda: inside.run(setting.get, **arguments),
        lambda context: by_masks(rules, order, context, SERVICE if started else LOCAL),
    )
    check_explanation(setting, arguments, inside)


@modest
@given(
    calls(),
    st.dictionaries(st.text(min_size=1, max_size=5), st.sampled_from(VALUES), min_size=1),
    st.booleans(),
)
def test_an_unknown_feature_is_refused_whatever_else_there_is(
    call: tuple[list[str], list[TableRule[int]], dict[str, KindOfDefault], dict[str, Any]],
    unknown: dict[str, str],
    started: bool,
) -> None:
    features, rules, _, arguments = call
    assume(unknown.keys().isdisjoint(features))
    _registry.reset()
    setting = Setting("ttl", int, features, LOCAL)
    if started:
        table = RuleTable(SERVICE, tuple(rules), FEATURES)
        publish(setting, table)
    # The interpreter's own error, or ours if a feature cannot be a parameter.
    with pytest.raises(TypeError) as caught:
        setting.get(**arguments, **unknown)
    if isinstance(caught.value, UnknownFeatureError):
        assert set(caught.value.unknown) == unknown.keys()
        assert caught.value.features == tuple(features)
    else:
        assert any(f"'{name}'" in str(caught.value) for name in unknown)
    check_explanation(setting, {**arguments, **unknown})


@st.composite
def states(draw: st.DrawFn) -> tuple[RuleTable[int], dict[str, KindOfDefault], bool]:
    """Draw what a client may publish for a setting: rules, defaults, and whether it started."""
    rules = draw(rule_lists(conditions))
    order = draw(st.permutations(FEATURES))
    default = draw(st.sampled_from([SERVICE, 0]))
    table = RuleTable(default, tuple(rules), tuple(order))
    kinds = draw(default_kinds())
    return table, kinds, draw(st.sampled_from([True, True, True, False]))


@settings(modest, max_examples=200)
@given(
    st.lists(states(), min_size=2, max_size=5),
    st.lists(
        st.dictionaries(st.sampled_from(FEATURES), values),
        min_size=1,
        max_size=5,
    ),
    st.booleans(),
    look_up_limits,
)
def test_after_each_of_several_publishes_get_and_the_slow_resolver_agree(
    published: list[tuple[RuleTable[int], dict[str, KindOfDefault], bool]],
    calls_made: list[dict[str, Any]],
    makes_values: bool,
    limits: Limits,
) -> None:
    _registry.reset()
    setting = Setting("ttl", int, FEATURES, LOCAL)
    if makes_values:
        setting.add_validator(lambda value, rule, of: value)
    get = setting.get  # stored once, as applications may do
    for table, kinds, started in published:
        inside = Context()
        sources = sources_of(kinds, inside)
        with limited_look_ups(limits):
            publish(setting, table, Defaults().adding(sources), started=started)
        for arguments in calls_made:
            expected = Expected.of(FEATURES, kinds, arguments, started)
            expected.check(lambda: inside.run(get, **arguments), table.resolve)  # noqa: B023
            check_explanation(setting, arguments, inside)
