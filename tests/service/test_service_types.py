"""Types in the protocol's notation: parsing, values of a type, narrower types."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heksher.service.domain.setting_types import InvalidType, parse

_OPTIONS = st.lists(st.one_of(st.text(max_size=3), st.integers(-3, 3), st.booleans()), max_size=4)
_LEAVES = st.one_of(
    st.sampled_from(["int", "float", "str", "bool"]),
    _OPTIONS.map(lambda options: f"Enum{json.dumps(options)}"),
    _OPTIONS.map(lambda options: f"Flags{json.dumps(options)}"),
)
_TYPES = st.recursive(
    _LEAVES,
    lambda inner: st.builds("{}<{}>".format, st.sampled_from(["Sequence", "Mapping"]), inner),
    max_leaves=4,
)


@given(_TYPES)
def test_the_normal_form_names_the_same_type(text: str) -> None:
    parsed = parse(text)
    assert parse(str(parsed)) == parsed
    assert str(parse(str(parsed))) == str(parsed)
    assert not parsed.is_narrower_than(parsed)


@given(_TYPES, _TYPES)
def test_narrower_is_one_way_and_not_equality(one: str, other: str) -> None:
    first, second = parse(one), parse(other)
    if first.is_narrower_than(second):
        assert first != second
        assert not second.is_narrower_than(first)


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("Enum [ 10, 2 , 1 ] ", "Enum[1,10,2]"),
        ('Enum[true,1,"a"]', 'Enum["a",1,true]'),
        ("Enum[1.0,1]", "Enum[1.0]"),
        ('Flags["é"]', 'Flags["\\u00e9"]'),
        ("Sequence < Mapping< int > >", "Sequence<Mapping<int>>"),
        ("Enum[99999999999999999999]", "Enum[1e+20]"),
    ],
)
def test_normal_form(text: str, normal: str) -> None:
    assert str(parse(text)) == normal


@pytest.mark.parametrize(
    "text",
    ["", "Int", " int", "int\n", "Enum", "Enum[null]", "Enum[[1]]", "Enum[NaN]", "Enum[1e400]",
     "Enum['a']", 'Enum["\\ud800"]', "Sequence<int> ", "Sequence<>", "Mapping<str,int>", "Sequence<int",
     "Sequence<" * 201 + "int" + ">" * 201, "Enum" + "[" * 100_000, "Sequence<" + " " * 100_000],
    ids=lambda text: text[:30],
)  # fmt: skip
def test_what_is_no_type(text: str) -> None:
    with pytest.raises(InvalidType):
        parse(text)


# A type, values that have it, and values that do not.
_VALUES: list[tuple[str, list[Any], list[Any]]] = [
    ("int", [1, 1.0, 1e300, -0.0], [True, 1.5, "1", None, float("inf"), []]),
    ("float", [1, 1.5], [False, "1.5", None]),
    ("str", ["", "\0"], [1, None, ["a"]]),
    ("bool", [True, False], [0, 1, None]),
    ("Enum[1,true]", [1, 1.0, True], [False, 0, "1", None, [1]]),
    ("Enum[1]", [1, 1.0], [True]),
    ("Enum[]", [], [None, "", 0]),
    (
        'Flags[1,true,"a"]',
        [[], ["a", 1], [True]],
        [[1, 1.0], [1, True], ["b"], [[1]], [{}], "a"],
    ),
    ("Sequence<int>", [[], [1, 2.0]], [[None], ["a"], {}, None]),
    ("Mapping<Sequence<int>>", [{}, {"": [1]}], [{"a": 1}, []]),
]


@pytest.mark.parametrize(("text", "inside", "outside"), _VALUES)
def test_contains(text: str, inside: list[Any], outside: list[Any]) -> None:
    type_ = parse(text)
    assert [value for value in inside if not type_.contains(value)] == []
    assert [value for value in outside if type_.contains(value)] == []


@pytest.mark.parametrize(
    ("narrower", "wider"),
    [
        ("int", "float"),
        ("Enum[1]", "Enum[1.0,2]"),
        ("Flags[]", 'Flags["a"]'),
        ("Sequence<Mapping<int>>", "Sequence<Mapping<float>>"),
    ],
)
def test_narrower(narrower: str, wider: str) -> None:
    assert parse(narrower).is_narrower_than(parse(wider))
    assert not parse(wider).is_narrower_than(parse(narrower))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("bool", "int"),
        ("Enum[1]", "int"),
        ("Enum[1]", "Flags[1,2]"),
        ("Enum[1]", "Enum[true,2]"),
        ("Sequence<int>", "Mapping<float>"),
        ("Enum[1]", "Enum[1.0]"),
    ],
)
def test_unrelated(one: str, other: str) -> None:
    assert not parse(one).is_narrower_than(parse(other))
    assert not parse(other).is_narrower_than(parse(one))


def test_types_as_deep_as_they_may_be() -> None:
    depth = 200
    one = parse("Sequence<" * depth + "int" + ">" * depth)
    other = parse("Sequence<" * depth + "float" + ">" * depth)
    assert one != other
    assert one == parse(str(one))
    assert one.is_narrower_than(other)
    assert one.contains(json.loads("[" * depth + "1" + "]" * depth))
