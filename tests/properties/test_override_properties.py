"""Overrides and stubs that begin and end in any order, with updates below, compared with a plain model."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.explained import check_explanation
from support.property_helpers import FEATURES, VALUES, modest
from support.published import publish

import heksher
from heksher import Rule, Setting, testing
from heksher._rules.table import RuleTable, TableRule
from heksher.clients.stub import SyncStubHeksherClient

pytestmark = pytest.mark.integration

LOCAL = -1

conditions = st.dictionaries(st.sampled_from(FEATURES), st.sampled_from(VALUES))
condition_lists = st.lists(conditions, max_size=5, unique_by=lambda each: frozenset(each.items()))
steps = st.one_of(
    st.tuples(st.just("update"), condition_lists, st.permutations(FEATURES)),
    st.tuples(st.just("begin"), condition_lists, st.permutations(FEATURES)),
    st.tuples(st.just("end"), st.integers(0, 4), st.none()),
    st.tuples(st.just("assign"), condition_lists, st.permutations(FEATURES)),
    st.tuples(st.just("close"), st.integers(0, 4), st.none()),
)
contexts = st.fixed_dictionaries({each: st.sampled_from([*VALUES, None]) for each in FEATURES})


@settings(modest, max_examples=100)
@given(st.lists(steps, max_size=8), contexts)
def test_the_newest_block_applies_then_the_newest_stub_and_then_the_last_update(
    todo: list[tuple[str, Any, Any]], context: dict[str, str | None]
) -> None:
    testing.reset()
    setting = Setting("ttl", int, FEATURES, LOCAL)
    beneath = RuleTable(LOCAL, (), tuple(FEATURES))
    stubs: list[tuple[SyncStubHeksherClient, RuleTable[int]]] = []
    running: list[tuple[ExitStack, tuple[TableRule[int], ...]]] = []
    values = iter(range(100))

    def check() -> None:
        below = stubs[-1][1] if stubs else beneath
        rules = running[-1][1] if running else below.rules
        expected = RuleTable(beneath.default, rules, below.features)
        assert setting.get(**context) == expected.resolve(context)
        check_explanation(setting, context)

    with ExitStack() as at_last:
        for what, given_to_it, order in todo:
            if what == "end" and running:
                running.pop(given_to_it % len(running))[0].close()
            elif what == "close" and stubs:
                stubs.pop(given_to_it % len(stubs))[0].close()
            elif order is not None:
                rules = tuple(TableRule(next(values), tuple(each.items())) for each in given_to_it)
                table = RuleTable(next(values), rules, tuple(order))
                wanted = [Rule(dict(each.conditions), each.value) for each in rules]
                if what == "update":
                    beneath = table
                    publish(setting, beneath)
                elif what == "assign":
                    stub = SyncStubHeksherClient(context_features=order)
                    at_last.callback(stub.close)
                    stub[setting].rules = wanted
                    stubs.append((stub, table))
                else:
                    block = at_last.enter_context(ExitStack())
                    block.enter_context(heksher.override({setting: wanted}))
                    running.append((block, rules))
            check()
    running.clear()
    stubs.clear()
    check()
