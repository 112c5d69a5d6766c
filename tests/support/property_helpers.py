"""What property tests share: their settings, strategies for rules, and a second definition of priority."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from typing import TypeVar
from unittest.mock import patch

from hypothesis import settings
from hypothesis import strategies as st

from heksher._rules import bitmap_index, groups, plan
from heksher._rules.table import TableRule
from heksher._rules.tracking import Tracking

T = TypeVar("T")

#: For every property. There is no deadline, since the machine may be busy with something else.
modest = settings(max_examples=200, deadline=None, print_blob=True)

#: Small sets, so that rules often match contexts.
FEATURES: tuple[str, ...] = ("environment", "user", "theme", "region", "plan")
VALUES: tuple[str, ...] = ("a", "b", "c")

conditions = st.dictionaries(st.sampled_from(FEATURES), st.sampled_from(VALUES)).map(
    lambda by_feature: tuple(by_feature.items())
)

#: The most sets of features that have a group of their own, the most that get a dict each, the rules in a
#: block of the index for more, and the rules of a set that keeps its dict in there. Small numbers, so that
#: few rules reach each of them.
Limits = tuple[int, int, int, int]
look_up_limits: st.SearchStrategy[Limits] = st.sampled_from(
    [(1024, plan.MOST_LOOK_UPS, 512, 128), (0, 1, 512, 128), (1, 1, 3, 1), (3, 2, 2, 2)]
)


@contextmanager
def limited_look_ups(limits: Limits) -> Generator[None]:
    """Publish with these limits; tables that are published already keep theirs."""
    most_groups, most_look_ups, block, large = limits
    with (
        patch.object(groups, "MOST_GROUPS", most_groups),
        patch.object(groups, "RUN", block),
        patch.object(plan, "MOST_LOOK_UPS", most_look_ups),
        patch.object(bitmap_index, "BLOCK", block),
        patch.object(bitmap_index, "LARGE", large),
    ):
        yield


def admits(tracking: Tracking, conditions: Iterable[tuple[str, str]]) -> bool:
    """Whether a rule with these conditions can match a tracked context."""
    return all(tracking.covers(feature, value) for feature, value in conditions)


def rule_lists(
    conditions: st.SearchStrategy[tuple[tuple[str, str], ...]],
) -> st.SearchStrategy[list[TableRule[int]]]:
    """Return a strategy for lists of rules that have different values, and ids in any order."""

    def numbered(
        drawn: list[tuple[tuple[str, str], ...]], numbers: Sequence[int]
    ) -> list[TableRule[int]]:
        return [
            TableRule(value, each, number)
            for value, (each, number) in enumerate(zip(drawn, numbers, strict=False))
        ]

    return st.builds(
        numbered, st.lists(conditions, max_size=12), st.permutations(list(range(1, 13)))
    )


def by_masks(
    rules: Sequence[TableRule[T]],
    features: Sequence[str],
    context: Mapping[str, str | None],
    default: T,
) -> T:
    """Return the value of a context, found by trying all sets of features as bit masks, highest first.

    The feature that is listed first is the lowest bit. Of several rules with the same conditions, the one
    with the highest id counts.
    """
    table: dict[frozenset[tuple[str, str | None]], T] = {}
    for rule in sorted(rules, key=lambda rule: rule.rule_id or 0):
        table[frozenset(rule.conditions)] = rule.value
    for mask in reversed(range(1 << len(features))):
        chosen = [feature for bit, feature in enumerate(features) if mask >> bit & 1]
        if all(feature in context for feature in chosen):
            key = frozenset((feature, context[feature]) for feature in chosen)
            if key in table:
                return table[key]
    return default
