"""Parameters of queries: what follows the grammar, and which rules pass."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heksher.service.domain.filters import (
    Filter,
    Item,
    MalformedParameter,
    RepeatedFeature,
    parse_conditions,
    parse_filters,
    parse_setting_names,
)

# The grammar again, as a single pattern.
_GRAMMAR = re.compile(r"(\*|(\w+:(\*|\(\w+(,\w+)*\)))(,\w+:(\*|\(\w+(,\w+)*\)))*)?\Z", re.ASCII)


def _filter(text: str) -> Filter:
    return Filter.of(parse_filters(text))


@given(st.text(alphabet="ab_1:*(), \n", max_size=14))
def test_exactly_the_grammar_is_taken(text: str) -> None:
    if _GRAMMAR.match(text):
        parse_filters(text)
    else:
        with pytest.raises(MalformedParameter):
            parse_filters(text)


@given(
    st.dictionaries(
        st.text(alphabet="aB_1", min_size=1, max_size=4),
        st.none() | st.frozensets(st.text(alphabet="vW2_", min_size=1, max_size=2), min_size=1),
        max_size=4,
    )
)
def test_what_is_written_is_read(listed: dict[str, frozenset[str] | None]) -> None:
    text = ",".join(
        f"{feature}:" + ("*" if values is None else f"({','.join(values)})")
        for feature, values in listed.items()
    )
    assert parse_filters(text) == [Item(feature, values) for feature, values in listed.items()]
    assert _filter(text).listed == listed


@pytest.mark.parametrize(
    ("text", "passing"),
    [
        ("*", ["", "my_feature=x", "user2=y", "my_feature=x user2=y"]),
        ("", [""]),
        ("my_feature:*", ["", "my_feature=x"]),
        ("my_feature:(y)", [""]),
        ("my_feature:(y,x)", ["", "my_feature=x"]),
        ("feature:*", [""]),
        ("user2:*,my_feature:(x)", ["", "my_feature=x", "user2=y", "my_feature=x user2=y"]),
    ],
)
def test_which_rules_pass(text: str, passing: list[str]) -> None:
    def conditions(rule: str) -> list[tuple[str, str]]:
        return [(feature, value) for feature, _, value in (c.partition("=") for c in rule.split())]

    rules = ["", "my_feature=x", "user2=y", "my_feature=x user2=y"]
    assert [rule for rule in rules if _filter(text).passes(conditions(rule))] == passing


def test_a_feature_twice() -> None:
    with pytest.raises(RepeatedFeature) as info:
        _filter("a:*,b:*,a:(x)")
    assert info.value.feature == "a"


def test_names_that_end_alike_are_no_repetition() -> None:
    assert _filter("x_a:*,y_a:*").listed == {"x_a": None, "y_a": None}


def test_setting_names() -> None:
    assert parse_setting_names("") == []
    assert parse_setting_names("a,b.c,a") == ["a", "b.c", "a"]
    for text in (",", "a,", "a b", "*", "a\n", "é"):
        with pytest.raises(MalformedParameter):
            parse_setting_names(text)


def test_conditions() -> None:
    assert parse_conditions("user:x,theme:y") == {"user": "x", "theme": "y"}
    assert parse_conditions("user:x,user:y") == {"user": "y"}
    for text in ("", "user", "user:", ":x", "user:x,", "user:*", "user:(x)", "user:x\n", "a:b:c"):
        with pytest.raises(MalformedParameter):
            parse_conditions(text)
