"""`get()` compared with a plain reading of the contract: arguments, defaults, missing features."""

from __future__ import annotations

from contextvars import Context, ContextVar
from typing import Any

import pytest
from hypothesis import assume, event, given, settings
from hypothesis import strategies as st
from support.property_helpers import FEATURES, VALUES, by_masks, conditions, modest, rule_lists
from support.published import publish

from heksher import Setting, _registry
from heksher._rules.contexts import Defaults
from heksher._rules.table import RuleTable, TableRule
from heksher.exceptions import MissingFeatureError, UnknownFeatureError

LOCAL, SERVICE = -1, -2

#: The default of a feature: none, a constant, or a context variable as (its own default, the value that it
#: is set to), each of which may be None.
KindOfDefault = None | str | tuple[str | None, str | None]
kinds_of_default: st.SearchStrategy[KindOfDefault] = st.one_of(
    st.none(),
    st.sampled_from(VALUES),
    st.tuples(st.none() | st.sampled_from(VALUES), st.none() | st.sampled_from(VALUES)),
)


def variable(feature: str, own: str | None, value: str | None, inside: Context) -> ContextVar[str]:
    made: ContextVar[str] = ContextVar(feature) if own is None else ContextVar(feature, default=own)
    if value is not None:
        inside.run(made.set, value)
    return made


def expected_context(
    features: list[str], kinds: dict[str, KindOfDefault], arguments: dict[str, Any]
) -> tuple[dict[str, object], set[str]]:
    """Return the values of the features that have one, and the features that have none."""
    context: dict[str, object] = {}
    for feature in features:
        kind = kinds[feature]
        own, value = kind if isinstance(kind, tuple) else (None, kind)
        if feature in arguments:
            context[feature] = arguments[feature]
        elif value is not None:
            context[feature] = value
        elif own is not None:
            context[feature] = own
    return context, set(features) - context.keys()


@st.composite
def calls(draw: st.DrawFn) -> tuple[list[str], list[TableRule[int]], dict[str, KindOfDefault], Any]:
    features = draw(st.lists(st.sampled_from(FEATURES), min_size=1, unique=True))
    on_these = st.dictionaries(st.sampled_from(features), st.sampled_from(VALUES))
    rules = draw(rule_lists(on_these.map(lambda by_feature: tuple(by_feature.items()))))
    kinds = {feature: draw(kinds_of_default) for feature in features}
    values = st.sampled_from([*VALUES, "other", "", 5, None])
    given_ones = st.just(set(features)) | st.sets(st.sampled_from(features))
    arguments = {feature: draw(values) for feature in draw(given_ones)}
    return features, rules, kinds, arguments


@settings(modest, max_examples=500)
@given(
    calls(),
    st.permutations(FEATURES),
    st.sampled_from([True, True, True, True, False]),
    st.sampled_from(["inline", "forwarding", "generic"]),
)
def test_get_answers_as_the_contract_says(
    call: tuple[list[str], list[TableRule[int]], dict[str, KindOfDefault], dict[str, Any]],
    order: list[str],
    started: bool,
    form: str,
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
    sources = {
        feature: variable(feature, *kind, inside) if isinstance(kind, tuple) else kind
        for feature, kind in kinds.items()
        if kind is not None
    }
    if started:
        table = RuleTable(SERVICE, tuple(rules), tuple(order))
        # Another publish first, which must leave no trace.
        publish(setting, RuleTable(7))
        publish(setting, table, Defaults().adding(sources))

    context, missing = expected_context(features, kinds, arguments)
    if not started:
        event("not started")
        assert inside.run(setting.get, **arguments) == LOCAL
    elif missing:
        event("a feature is missing")
        with pytest.raises(MissingFeatureError) as caught:
            inside.run(setting.get, **arguments)
        assert caught.value.feature in missing
    else:
        event("answered")
        answer = inside.run(setting.get, **arguments)
        assert answer == by_masks(rules, order, context, SERVICE)


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


@st.composite
def states(draw: st.DrawFn) -> tuple[RuleTable[int], dict[str, KindOfDefault], bool]:
    """Draw what a client may publish for a setting: rules, defaults, and whether it started."""
    rules = draw(rule_lists(conditions))
    order = draw(st.permutations(FEATURES))
    default = draw(st.sampled_from([SERVICE, 0]))
    table = RuleTable(default, tuple(rules), tuple(order))
    kinds = {feature: draw(kinds_of_default) for feature in FEATURES}
    return table, kinds, draw(st.sampled_from([True, True, True, False]))


@settings(modest, max_examples=200)
@given(
    st.lists(states(), min_size=2, max_size=5),
    st.lists(
        st.dictionaries(st.sampled_from(FEATURES), st.sampled_from([*VALUES, "other"])),
        min_size=1,
        max_size=5,
    ),
    st.booleans(),
)
def test_after_each_of_several_publishes_get_and_the_slow_resolver_agree(
    published: list[tuple[RuleTable[int], dict[str, KindOfDefault], bool]],
    calls_made: list[dict[str, str]],
    makes_values: bool,
) -> None:
    _registry.reset()
    setting = Setting("ttl", int, FEATURES, LOCAL)
    if makes_values:
        setting.add_validator(lambda value, rule, of: value)
    get = setting.get  # stored once, as applications may do
    for table, kinds, started in published:
        inside = Context()
        sources = {
            feature: variable(feature, *kind, inside) if isinstance(kind, tuple) else kind
            for feature, kind in kinds.items()
            if kind is not None
        }
        publish(setting, table, Defaults().adding(sources), started=started)
        for arguments in calls_made:
            context, missing = expected_context(list(FEATURES), kinds, arguments)
            if not started:
                assert inside.run(get, **arguments) == table.default
            elif missing:
                with pytest.raises(MissingFeatureError):
                    inside.run(get, **arguments)
            else:
                event("answered")
                assert inside.run(get, **arguments) == table.resolve(context)
