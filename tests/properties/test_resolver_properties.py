"""The resolver compared with a brute-force definition of priority."""

from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st
from support.property_helpers import FEATURES, VALUES, by_masks, conditions, modest, rule_lists

from heksher._rules.table import RuleTable, TableRule

contexts = st.dictionaries(st.sampled_from(FEATURES), st.sampled_from([*VALUES, "other", None]))


@modest
@given(rule_lists(conditions), st.permutations(FEATURES), contexts)
def test_the_value_is_that_of_the_highest_set_of_features_that_has_a_rule(
    rules: list[TableRule[int]], features: list[str], context: dict[str, str | None]
) -> None:
    table = RuleTable(-1, tuple(rules), tuple(features))
    assert table.resolve(context) == by_masks(rules, features, context, -1)


@modest
@given(rule_lists(conditions), contexts, st.randoms(use_true_random=False))
def test_the_order_of_rules_and_conditions_means_nothing(
    rules: list[TableRule[int]], context: dict[str, str | None], random: Random
) -> None:
    shuffled = [
        TableRule(
            rule.value, tuple(random.sample(rule.conditions, len(rule.conditions))), rule.rule_id
        )
        for rule in random.sample(rules, len(rules))
    ]
    one = RuleTable(-1, tuple(rules), FEATURES)
    assert RuleTable(-1, tuple(shuffled), FEATURES).resolve(context) == one.resolve(context)


@modest
@given(rule_lists(conditions), contexts)
def test_a_rule_that_does_not_match_changes_nothing(
    rules: list[TableRule[int]], context: dict[str, str | None]
) -> None:
    matching = tuple(rule for rule in rules if set(rule.conditions) <= set(context.items()))
    table = RuleTable(-1, tuple(rules), FEATURES)
    assert table.resolve(context) == RuleTable(-1, matching, FEATURES).resolve(context)
