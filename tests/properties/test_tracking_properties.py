"""Tracking: rules that are left out cannot matter, and filters never hide a rule that does."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.property_helpers import admits, modest

from heksher import TRACK_ALL
from heksher._rules.tracking import Tracking
from heksher._wire import encode_context_filters

pytestmark = pytest.mark.integration

#: In filters, the original service misreads some of these names.
NAMES = ("user", "theme", "my_user", "user2", "Theme", "_")
#: Values that conditions can have, and values that they cannot have.
VALUES = ("a", "b", "c")
STRANGE = ("", "a b", "*)", "é", "a,b")

tracked = st.dictionaries(
    st.sampled_from(NAMES),
    st.one_of(
        st.just(TRACK_ALL),
        st.sampled_from([*VALUES, *STRANGE]),
        st.lists(st.sampled_from([*VALUES, *STRANGE])),
    ),
    min_size=1,
)
rules = st.dictionaries(st.sampled_from(NAMES), st.sampled_from(VALUES))


def tracked_contexts(by_feature: dict[str, str | list[str]]) -> Iterator[dict[str, str]]:
    """Yield all contexts that are tracked."""
    values: list[list[str]] = []
    for chosen in by_feature.values():
        if chosen == TRACK_ALL:
            values.append([*VALUES, *STRANGE])
        else:
            values.append([chosen] if isinstance(chosen, str) else sorted(set(chosen)))
    for combination in itertools.product(*values):
        yield dict(zip(by_feature, combination, strict=True))


def matches(rule: dict[str, str], context: dict[str, str]) -> bool:
    return rule.items() <= context.items()


@modest
@given(tracked, rules)
def test_a_rule_is_left_out_only_if_it_could_not_match_a_tracked_context(
    by_feature: dict[str, str | list[str]], rule: dict[str, str]
) -> None:
    # A feature with no tracked value has no context, and does not affect the others.
    by_feature = {name: values for name, values in by_feature.items() if values != []}
    tracking = Tracking().adding(by_feature)
    could_match = any(matches(rule, context) for context in tracked_contexts(by_feature))
    assert admits(tracking, rule.items()) == (could_match or not by_feature)


@modest
@given(st.sets(st.sampled_from(NAMES)), rules)
def test_with_everything_tracked_nothing_is_left_out(names: set[str], rule: dict[str, str]) -> None:
    assert admits(Tracking(), rule.items())
    tracking = Tracking().adding(dict.fromkeys([*names, *rule], TRACK_ALL))
    assert admits(tracking, rule.items())


@modest
@given(st.lists(tracked, max_size=4), rules)
def test_tracking_more_never_leaves_more_out(
    steps: list[dict[str, str | list[str]]], rule: dict[str, str]
) -> None:
    tracking = Tracking()
    admitted = tracks = False
    for step in steps:
        # Tracking all values of a feature excludes tracking single ones.
        single = {name: values for name, values in step.items() if values != TRACK_ALL}
        tracking = tracking.adding(single)
        tracks = tracks or bool(single)
        if not tracks:  # nothing is left out yet
            continue
        now = admits(tracking, rule.items())
        assert now or not admitted
        admitted = now


GRAMMAR = re.compile(r"(?:ITEM(?:,ITEM)*)?\Z".replace("ITEM", r"\w+:(?:\*|\(\w+(?:,\w+)*\))"), re.A)


def as_the_service_reads(filters: str) -> dict[str, set[str] | None]:
    """Return the values of each feature, or None for all, as the original service reads a filter."""
    assert GRAMMAR.match(filters), filters
    found = re.findall(r"([a-z]+):(?:\*|\(([^)]*)\))", filters)
    assert len({name for name, _ in found}) == len(found), "a repetition, which is refused"
    return {name: set(values.split(",")) if values else None for name, values in found}


@modest
@given(tracked, rules)
def test_the_service_sends_all_that_is_admitted_here(
    by_feature: dict[str, str | list[str]], rule: dict[str, str]
) -> None:
    tracking = Tracking().adding(by_feature)
    filters = encode_context_filters(tracking.as_lists())
    if filters is None or not admits(tracking, rule.items()):
        return
    read = as_the_service_reads(filters)
    for feature, value in rule.items():
        values = read.get(feature, set())
        assert values is None or value in values
