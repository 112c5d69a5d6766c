"""Nesting is bounded before a parser sees a text, whatever the text is."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heksher import _json_bounds
from heksher._json_bounds import TooManyDeepParts, cut_at_depth

DEPTH = 4


def cut(value: Any, depth: int = DEPTH) -> Any:
    """Return *value* with None for what is too deep: the definition."""
    match value:
        case list() | dict() if depth == 0:
            return None
        case [*parts]:
            return [cut(each, depth - 1) for each in parts]
        case {**members}:
            return {key: cut(each, depth - 1) for key, each in members.items()}
        case _:
            return value


TEXTS = st.text(st.sampled_from('"\\[]{}a,: \n\u00e9\u2028'), max_size=12)
VALUES = st.recursive(
    TEXTS | st.integers(0, 9) | st.none(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=40,
)


@settings(max_examples=200)
@given(VALUES, st.integers(0, 8), st.booleans(), st.integers(1, 30), st.data())
def test_what_is_too_deep_is_null_and_all_else_is_kept(
    value: Any, around: int, escaped: bool, size: int, data: st.DataObject
) -> None:
    for _ in range(around):
        value = data.draw(st.sampled_from(([value], {"k": value}, [1, value, "]"])))
    text = json.dumps(value, ensure_ascii=escaped).encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_json_bounds, "_SLICE", size)
        found = cut_at_depth(text, DEPTH)
    assert json.loads(found) == cut(value)
    if cut(value) == value:
        assert found is text


def deepest(text: bytes) -> int:
    """Return the depth that a parser reaches in *text*, up to where it is no JSON: byte by byte."""
    level = found = 0
    in_string = is_escaped = False
    for byte in text:
        if is_escaped:
            is_escaped = False
        elif byte == ord('"'):
            in_string = not in_string
        elif byte == ord("\\"):
            if not in_string:
                break
            is_escaped = True
        elif not in_string:
            level += (byte in b"[{") - (byte in b"]}")
            found = max(found, level)
            if level < 0:
                break
    return found


@settings(max_examples=200)
@given(
    st.lists(st.sampled_from(["[", "]", "{", "}", '"', "\\", "a", '""', "[]"]), max_size=60),
    st.integers(1, 20),
)
def test_a_text_that_is_no_json_gets_no_parser_deeper(signs: list[str], size: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_json_bounds, "_SLICE", size)
        assert deepest(cut_at_depth("".join(signs).encode(), DEPTH)) <= DEPTH


SHAPES: dict[str, Callable[[int], str]] = {
    "lists": lambda n: "[" * n + "]" * n,
    "objects": lambda n: '{"a":' * n + "1" + "}" * n,
    "closed siblings": lambda n: "[[]," * n + "0" + "]" * n,
    "brackets in strings": lambda n: '["]",' * n + "0" + "]" * n,
    "escaped quotes": lambda n: '["\\"]",' * n + "0" + "]" * n,
    "escaped backslashes": lambda n: '["\\\\",' * n + "0" + "]" * n,
    "white space": lambda n: "[ \n" * n + "]" * n,
}


@pytest.mark.parametrize("shape", SHAPES)
def test_one_level_too_many_is_found_in_each_shape(
    shape: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_json_bounds, "_SLICE", 64)
    for depth in (1, 50, 210):
        text = SHAPES[shape](depth - (shape == "closed siblings")).encode()
        assert cut_at_depth(text, depth) is text
        deeper = SHAPES[shape](depth + 1).encode()
        assert cut_at_depth(deeper, depth) is not deeper
        assert deepest(cut_at_depth(deeper, depth)) == depth


def test_many_parts_that_are_too_deep_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_json_bounds, "_SLICE", 1000)
    few, many = (b"[%s]" % b",".join([b"[]"] * number) for number in (10_000, 11_000))
    assert json.loads(cut_at_depth(few, 1)) == [None] * 10_000
    with pytest.raises(TooManyDeepParts, match="more than 10000 parts nest deeper than 1 levels"):
        cut_at_depth(many, 1)
    # Within one that is cut, there may be any number.
    assert cut_at_depth(b"[%s]" % few, 1) == b"[null]"


def test_a_long_text_is_cut_at_one_place() -> None:
    rng = random.Random(1)
    rules = [
        {"value": rng.random(), "context_features": [["user", f"u[{i}"]]} for i in range(2_000)
    ]
    rules[1234]["value"] = json.loads("[" * 300 + "]" * 300)
    found = json.loads(cut_at_depth(json.dumps({"rules": rules}).encode(), 200))["rules"]
    assert found[:1234] + found[1235:] == rules[:1234] + rules[1235:]
