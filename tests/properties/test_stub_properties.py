"""A stub compared with the definition of priority, and with a plain model of patches."""

from __future__ import annotations

from contextvars import Context, ContextVar
from typing import Any

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st
from support.explained import check_explanation
from support.property_helpers import FEATURES, VALUES, modest
from support.published import published

from heksher import Setting, testing
from heksher._rules.table import RuleTable, TableRule
from heksher.clients.stub import Rule, SyncStubHeksherClient
from heksher.exceptions import InvalidArgumentError, MissingFeatureError

pytestmark = pytest.mark.integration

DEFAULT = -1

contexts = st.dictionaries(st.sampled_from(FEATURES), st.sampled_from([*VALUES, "other", ""]))


@st.composite
def stubbed(draw: st.DrawFn) -> tuple[list[str], list[str], list[dict[str, str | None]]]:
    """Draw the features of a setting, those of the client, and different conditions."""
    features = draw(st.lists(st.sampled_from(FEATURES), min_size=1, unique=True))
    order = draw(st.lists(st.sampled_from(FEATURES), unique=True))
    wanted = st.dictionaries(st.sampled_from(features), st.sampled_from([*VALUES, None]))
    conditions = draw(
        st.lists(
            wanted,
            max_size=10,
            unique_by=lambda each: frozenset((f, v) for f, v in each.items() if v is not None),
        )
    )
    return features, order, conditions


@settings(modest, max_examples=500)
@given(stubbed(), contexts, contexts, contexts, st.booleans(), st.booleans(), st.booleans())
def test_a_stub_answers_as_the_definition_says(
    case: tuple[list[str], list[str], list[dict[str, str | None]]],
    arguments: dict[str, str],
    constants: dict[str, str],
    variables: dict[str, str],
    defaults_first: bool,
    is_patch: bool,
    strict: bool,
) -> None:
    features, order, conditions = case
    testing.reset()
    setting = Setting("ttl", int, features, DEFAULT)
    inside = Context()
    defaults: dict[str, str | ContextVar[str]] = {}
    for feature, value in variables.items():
        variable: ContextVar[str] = ContextVar(feature)
        inside.run(variable.set, value)
        defaults[feature] = variable
    defaults.update(constants)

    arguments = {name: arguments[name] for name in arguments if name in features}
    context: dict[str, Any] = {**variables, **constants, **arguments}
    table = RuleTable(
        DEFAULT,
        tuple(
            TableRule(value, tuple((f, v) for f, v in each.items() if v is not None))
            for value, each in enumerate(conditions)
        ),
        tuple(dict.fromkeys([*order, *features])),
    )
    unranked = [feature for feature in features if feature not in order]
    with SyncStubHeksherClient("http://heksher", 60, order, strict=strict) as client:
        if defaults_first:
            client.set_defaults(**defaults)
        rules = [Rule(each, value) for value, each in enumerate(conditions)]
        try:
            if is_patch:
                client.patch(setting, rules)
            else:
                client[setting].rules = rules
        except InvalidArgumentError:
            event("the rank decides and is unknown")
            assert strict and unranked and len(rules) > 1
            return
        if not defaults_first:
            client.set_defaults(**defaults)
        check_explanation(setting, arguments, inside)
        missing = set(features) - context.keys()
        if missing:
            event("a feature is missing")
            with pytest.raises(MissingFeatureError) as caught:
                inside.run(setting.get, **arguments)
            assert caught.value.feature in missing
        else:
            event("answered")
            answer = inside.run(setting.get, **arguments)
            context = {name: context[name] for name in features}
            assert answer == table.resolve(context)
            if strict:  # the rank of the other features makes no difference
                other_order = (*reversed(unranked), *order)
                assert answer == RuleTable(DEFAULT, table.rules, other_order).resolve(context)
    assert setting.get() == DEFAULT


@modest
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("patch"), st.integers(0, 1)),
            st.tuples(st.just("leave"), st.integers(0, 20)),
            st.tuples(st.just("close"), st.integers(0, 1)),
        ),
        max_size=25,
    )
)
def test_the_newest_patch_that_was_not_left_counts(steps: list[tuple[str, int]]) -> None:
    testing.reset()
    setting = Setting("ttl", int, ["user"], DEFAULT)
    clients = [SyncStubHeksherClient(), SyncStubHeksherClient()]
    patches: list[Any] = []
    # The number of the client of each patch.
    in_force: dict[int, int] = {}
    for what, number in steps:
        if what == "patch":
            in_force[len(patches)] = number
            patches.append(clients[number].patch(setting, len(patches)))
        elif what == "leave" and number < len(patches):
            patches[number].__exit__(None, None, None)
            in_force.pop(number, None)
        elif what == "close":
            clients[number].close()
            in_force = {each: client for each, client in in_force.items() if client != number}
        assert setting.get(user="jim") == max(in_force, default=DEFAULT)
        assert published(setting).started is bool(in_force)
    for client in clients:
        client.close()
    assert setting.get() == DEFAULT
