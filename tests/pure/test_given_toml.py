"""What a file in TOML gives to settings, by their names."""

from __future__ import annotations

from typing import Any

import pytest

from heksher import Rule
from heksher._given_toml import given_to, parse

# A list that could be rules.
RULES: list[object] = [{"when": {}, "value": 1}]

CASES: list[tuple[str, str, dict[str, Any], list[str]]] = [
    ("", "a", {}, []),
    ("\ufeffa = 5", "a", {"a": 5}, []),
    ("a = 5\nb = 6", "a", {"a": 5}, ["b"]),
    # One name, however it is written.
    ("a.b = 5", "a.b", {"a.b": 5}, []),
    ("'a.b' = 5", "a.b", {"a.b": 5}, []),
    ("[a]\nb = 5", "a.b", {"a.b": 5}, []),
    ("a.'b.c' = 5", "a.b.c", {"a.b.c": 5}, []),
    ("'a.b'.c = 5\na.b.d = 6", "a.b.c a.b.d", {"a.b.c": 5, "a.b.d": 6}, []),
    # A table is a setting's value, or leads to others.
    ("a.b = 5", "a", {"a": {"b": 5}}, []),
    ("a.b = 5\na.c = 6", "a a.b", {"a.b": 5, "a": {"c": 6}}, []),
    ("a.b = 5", "a a.b", {"a.b": 5}, []),
    ("a = {value = {b = 5}}", "a a.b", {"a": [Rule({}, {"b": 5})]}, []),
    ("a = {}", "a a.b", {"a": {}}, []),
    ("[a]", "a.b", {}, []),
    ("a.b.c = 5\na.d = 6", "a a.b.x", {"a": {"b": {"c": 5}, "d": 6}}, []),
    ("a.b.c = 5\na.d = 6", "a.b.x", {}, ["a.b.c", "a.d"]),
    ("a.b.c = 5", "x", {}, ["a"]),
    ("a = 5", "a.b", {}, ["a"]),
    # Values and rules.
    ("a = [1, 2]", "a", {"a": [1, 2]}, []),
    ("a = []", "a", {"a": []}, []),
    ("a = {value = [1]}", "a", {"a": [Rule({}, [1])]}, []),
    ("a = {value = 1, x = 2}", "a", {"a": {"value": 1, "x": 2}}, []),
    ("[[a]]\nwhen = {b = 'c'}\nvalue = 1", "a", {"a": [Rule({"b": "c"}, 1)]}, []),
    (
        "[[a]]\nwhen = {}\nvalue = 1\n[[a]]\nvalue = 2",
        "a",
        {"a": [{"when": {}, "value": 1}, {"value": 2}]},
        [],
    ),
    (
        "a = {value = [{when = {}, value = 1}]}",
        "a",
        {"a": [Rule({}, RULES)]},
        [],
    ),
]


@pytest.mark.parametrize(("text", "names", "given", "unknown"), CASES)
def test_the_names_of_the_settings_decide(
    text: str, names: str, given: dict[str, object], unknown: list[str]
) -> None:
    assert given_to(parse(text.encode()), set(names.split())) == (given, unknown)


@pytest.mark.parametrize("text", ["'a.b' = 5\na.b = 6", "a.'b.c' = 5\n'a.b'.c = 5"])
def test_a_setting_is_named_once(text: str) -> None:
    with pytest.raises(ValueError, match="is named twice"):
        given_to(parse(text.encode()), {"a.b", "a.b.c"})


@pytest.mark.parametrize(
    "data", [b"a", b"a = \xff", b"a = " + 3000 * b"[", b"a.b = 5 = 6", b"a\0 = 5"]
)
def test_what_is_not_toml_is_one_bounded_line(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"\Ait is not valid TOML: ") as caught:
        parse(data)
    assert len(str(caught.value)) < 600
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "key", ["a." * 100 + "a", "'a'." * 50 + 'b-1."x y" . ' * 25 + "c", "[" + 200_000 * "a." + "a]"]
)
def test_a_key_of_very_many_parts_is_refused_before_it_costs_memory(key: str) -> None:
    for text in (f"{key} = 1", f"b = {{{key} = 1}}"):
        with pytest.raises(ValueError, match="a key of more than a hundred parts"):
            parse(text.encode())


@pytest.mark.parametrize(
    "text",
    [
        "a." * 99 + "a = 1",
        f"a = [{'1.5, ' * 1000}]",
        f"a = '{'a b. ' * 1000}'",
        f"a = '{'... ' * 1000}'",
        f"a = '{'x' * 1_000_000}'",
        "a = 1 # " + "-" * 1_000_000,
        'a = 1 # "' + "' " * 100_000,
    ],
)
def test_what_is_long_otherwise_is_read_in_time_that_grows_with_its_length(text: str) -> None:
    assert parse(text.encode()).keys() == {"a"}
