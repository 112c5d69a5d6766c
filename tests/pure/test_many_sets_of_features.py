"""Rules on very many sets of features: what a call, a plan and its source then cost, and who wins."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import combinations
from operator import attrgetter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
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

from heksher import Setting
from heksher._rules.bitmap_index import BLOCK, LARGE
from heksher._rules.codegen import emit
from heksher._rules.contexts import Defaults
from heksher._rules.groups import MOST_GROUPS, GroupedRules, SharedStrings
from heksher._rules.plan import MOST_LOOK_UPS, decide
from heksher._rules.table import RuleTable, TableRule

MANY = tuple(f"feature{number}" for number in range(11))


class Watched(str):
    """A string that counts how often it is looked for in a dict."""

    __slots__ = ()
    looked_for = 0

    def __hash__(self) -> int:
        Watched.looked_for += 1
        return super().__hash__()


def sets_of(features: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Return every set of features, except for the empty one."""
    for size in range(1, len(features) + 1):
        yield from combinations(features, size)


def table_of(sets: Iterable[tuple[str, ...]], features: Sequence[str]) -> RuleTable[int]:
    """Return a table with one rule on each of *sets*."""
    return RuleTable(
        -1,
        tuple(
            TableRule(number, tuple((name, "x") for name in names), number)
            for number, names in enumerate(sets)
        ),
        (*features,),
    )


@pytest.mark.parametrize("asked", ["x", "y"])
@pytest.mark.parametrize("lowest", ["x", "y"])
def test_the_steps_of_a_call_depend_on_the_rules_and_not_on_their_sets(
    asked: str, lowest: str
) -> None:
    table = table_of(sets_of(MANY), MANY)
    assert len(table.rules) == 2047
    search = decide(MANY, table, Defaults(), started=True).search
    context = {name: Watched(asked) for name in MANY} | {MANY[0]: Watched(lowest)}
    Watched.looked_for = 0
    value = search.find(context)
    assert Watched.looked_for <= (len(table.rules) // BLOCK + 1) * len(MANY)
    assert value == table.resolve(context)


def test_the_source_of_a_plan_does_not_grow_with_the_sets() -> None:
    few, many = (
        emit(decide(MANY, table_of(sets, MANY), Defaults(), started=True), inline=True)
        for sets in ([*sets_of(MANY)][:MOST_LOOK_UPS], sets_of(MANY))
    )
    assert len(many.text) < len(few.text)


def test_each_set_keeps_its_dict_while_there_are_few() -> None:
    sets = [*sets_of(MANY)]
    for number in (MOST_LOOK_UPS, MOST_LOOK_UPS + 1):
        search = decide(MANY, table_of(sets[:number], MANY), Defaults(), started=True).search
        assert len(search.look_ups) == (number if number == MOST_LOOK_UPS else 1)


def test_a_set_with_many_rules_costs_one_look_up_and_no_memory() -> None:
    rules = [*table_of(sets_of(MANY), MANY).rules]
    size = 20 * BLOCK
    assert size > LARGE
    rules += [
        TableRule(-number, ((MANY[0], f"user{number}"), (MANY[5], "x")), number)
        for number in range(size)
    ]
    table = RuleTable(-1, tuple(rules), MANY)
    search = decide(MANY, table, Defaults(), started=True).search
    context = {name: Watched("y") for name in MANY}
    context |= {MANY[0]: Watched("user17"), MANY[5]: Watched("x")}
    Watched.looked_for = 0
    assert search.find(context) == table.resolve(context) == -17
    assert Watched.looked_for <= (2047 // BLOCK + 1) * len(MANY) + 2


def test_many_sets_may_fold_to_one_feature_or_none() -> None:
    features = ("user", *MANY)
    for names in (sets_of(features[:6]), sets_of(MANY[:5])):
        rules = [
            TableRule(
                number, tuple((name, "jim" if name == "user" else "x") for name in each), number
            )
            for number, each in enumerate(names)
        ]
        table = RuleTable(-1, tuple(rules), features)
        for value in ("x", "y"):
            constants = dict.fromkeys(MANY, value)
            setting = Setting("ttl", int, features, 0)
            publish(setting, table, Defaults(constants))
            for user in ("jim", "j", None):
                assert setting.get(user=user) == table.resolve({**constants, "user": user})


def test_thousands_of_sets_add_few_objects_that_the_garbage_collector_visits() -> None:
    features = (*MANY, "last")

    def visited(sets: Iterable[tuple[str, ...]]) -> int:
        """Return how many more objects are visited once a rule on each of *sets* is published."""
        setting = Setting("ttl", int, features, 0)
        gc.collect()
        before = len(gc.get_objects())
        rules = GroupedRules[int](features)
        for number, names in enumerate(sets, 1):
            conditions = tuple([(name, "x") for name in names])
            rules.group_of(names).extend(names, [number], [conditions], [number], SharedStrings())
        publish(setting, RuleTable(-1, rules, features))
        gc.collect()
        return len(gc.get_objects()) - before

    sets = [*sets_of(features)]
    blocks = len(sets) / BLOCK
    assert visited(sets) - visited(sets[:MOST_GROUPS]) < 4 * blocks * len(features)


@modest
@given(rule_lists(conditions), st.permutations(FEATURES), look_up_limits)
def test_rules_can_be_listed_whichever_way_they_are_kept(
    rules: list[TableRule[int]], order: list[str], limits: Limits
) -> None:
    newest = {frozenset(rule.conditions): rule for rule in sorted(rules, key=attrgetter("rule_id"))}
    with limited_look_ups(limits):
        kept = GroupedRules(order, rules)
    assert len(kept) == len(newest)
    assert {frozenset(rule.conditions): (rule.value, rule.rule_id) for rule in kept} == {
        key: (rule.value, rule.rule_id) for key, rule in newest.items()
    }
    places = [[order.index(name) for name, _ in rule.conditions] for rule in kept]
    assert places == [*map(sorted, places)]


@st.composite
def many_sets(draw: st.DrawFn) -> list[TableRule[int]]:
    """Draw rules on more sets of features than get a dict each."""
    least = MOST_LOOK_UPS + 1
    sets = draw(st.lists(st.sampled_from([*sets_of(FEATURES)]), min_size=least, unique=True))
    conditions = [
        (*zip(names, values, strict=True),)
        for names in sets
        for values in draw(
            st.lists(st.tuples(*[st.sampled_from(VALUES)] * len(names)), min_size=1, max_size=4)
        )
    ]
    order = draw(st.permutations(range(len(conditions))))
    return [TableRule(place, conditions[place], place) for place in order]


@settings(modest, max_examples=60)
@given(
    many_sets(),
    st.permutations(FEATURES),
    st.dictionaries(st.sampled_from(FEATURES), st.sampled_from(VALUES)),
    st.lists(
        st.fixed_dictionaries(
            dict.fromkeys(FEATURES, st.sampled_from([*VALUES * 3, "other", None]))
        ),
        min_size=1,
        max_size=10,
    ),
    look_up_limits,
)
def test_the_value_is_that_of_the_highest_set_of_features_that_has_a_rule(
    rules: list[TableRule[int]],
    order: list[str],
    constants: dict[str, str],
    contexts: list[dict[str, Any]],
    limits: Limits,
) -> None:
    with limited_look_ups(limits):
        plan = decide(
            FEATURES, RuleTable(-1, tuple(rules), tuple(order)), Defaults(constants), started=True
        )
    for context in contexts:
        assert plan.search.find(context) == by_masks(rules, order, context, -1)
        if plan.folded is not None:
            folded = context | constants
            assert plan.folded.find(folded) == by_masks(rules, order, folded, -1)


@pytest.mark.parametrize("form", ["inline", "forwarding", "generic"])
def test_get_answers_in_each_form_and_a_dropped_setting_is_freed(form: str) -> None:
    features = (*MANY[:5], "class") if form == "generic" else MANY[:5]
    setting = Setting("ttl", int, features, -1)
    if form == "forwarding":
        setting.add_validator(lambda value, rule, of: value)
    table = table_of(sets_of(MANY[:5]), features)
    publish(setting, table, Defaults({MANY[0]: "y"}))
    context: dict[str, str | None] = dict.fromkeys(features[1:], "x")
    get: Callable[..., int] = setting.get
    assert get(**context) == table.resolve({**context, MANY[0]: "y"}) == 29
    assert get(**context, **{MANY[0]: "x"}) == table.resolve({**context, MANY[0]: "x"}) == 30
    assert get(**dict.fromkeys(features[1:])) == -1
    gone = weakref.ref(setting)
    del setting, get
    gc.collect()
    assert gone() is None
