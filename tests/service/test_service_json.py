"""JSON as the protocol treats it: read, stored and returned."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heksher.service.domain import json_values

_JSON = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**63), 2**64 - 1),
        st.floats(allow_nan=False, allow_infinity=False),
        st.text(),
    ),
    lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.text(), inner)),
    max_leaves=10,
)


@given(_JSON)
def test_what_is_written_is_read_again_number_by_number(value: Any) -> None:
    json_values.check_storable(value)
    assert repr(json_values.read(json_values.write(value).encode())) == repr(value)


@given(_JSON)
def test_metadata_has_one_normal_form_that_is_equal_and_storable(value: Any) -> None:
    normal = json_values.normal_metadata(value)
    json_values.check_storable(normal)
    assert json_values.equal(normal, value)
    assert repr(json_values.normal_metadata(normal)) == repr(normal)


@pytest.mark.parametrize(
    ("value", "normal"),
    [
        (1e15, 1e15),
        (1e16, 10**16),
        (1e19, 10**19),
        (1e20, 1e20),
        (-1e18, -(10**18)),
        (-1e19, -1e19),
        (-0.0, 0.0),
        ({"a": [1e16, -0.0]}, {"a": [10**16, 0.0]}),
    ],
)
def test_numbers_of_metadata(value: Any, normal: Any) -> None:
    assert repr(json_values.normal_metadata(value)) == repr(normal)


@pytest.mark.parametrize(
    ("value", "path"),
    [
        (2**64, ""),
        (-(2**63) - 1, ""),
        (math.nan, ""),
        (math.inf, ""),
        ("\ud800", ""),
        ({"\udfff": 1}, ""),
        ([0, [{"a": [1.5, math.inf]}]], "[1][0].a[1]"),
        ({"a": 1, "b c": {"\udfff": [2**64]}}, "['b c']"),
        ({"a": {"\n": "\udfff"}}, ".a['\\n']"),
    ],
)
def test_what_cannot_be_kept(value: Any, path: str) -> None:
    with pytest.raises(json_values.InvalidJson) as info:
        json_values.check_storable(value)
    assert info.value.path == path


def test_nul_cannot_be_kept_in_metadata_only() -> None:
    json_values.check_storable({"\0": "\0"})
    for value in ("\0", {"\0": 1}, ["\0"]):
        with pytest.raises(json_values.InvalidJson):
            json_values.check_storable(value, is_metadata=True)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_encodings(encoding: str) -> None:
    assert json_values.read('{"a": "é"}'.encode(encoding)) == {"a": "é"}


@pytest.mark.parametrize(
    "body",
    [
        b'"\xff"',
        b"\xff\xfe\xfd",
        b"1" * 5000,
        b"[" * 100_000,
        b"[" * 1200,
        b"[" * 301 + b"]" * 301,
        b'{"a":' * 301 + b"1" + b"}" * 301,
    ],
    ids=[
        "no UTF-8",
        "cut UTF-16",
        "too long",
        "too deep to parse",
        "deep and cut",
        "lists",
        "objects",
    ],
)
def test_unreadable(body: bytes) -> None:
    with pytest.raises(json_values.Unreadable):
        json_values.read(body)


@pytest.mark.parametrize(
    ("body", "key", "path"),
    [
        (b'{"a": 1, "b": 2, "a": 1}', "a", ""),
        (b'{"a": {"b": 1, "b": 2}, "c": 3}', "b", ".a"),
        (b'{"a": [0, {"b c": {"d": 1, "e": 2, "e": 3}}]}', "e", ".a[1]['b c']"),
        # If a part was replaced by a duplicate, the object around it is reported.
        (b'{"a": {"b": 1, "b": 2}, "a": 3}', "a", ""),
        (b'[{"\\u0061": 1, "a": 2}]', "a", "[0]"),
        (rb'{"a": {"\ud800": 1, "\ud800": 2}}', "\ud800", ".a"),
    ],
)
def test_keys_that_are_to_be_unique(body: bytes, key: str, path: str) -> None:
    assert json_values.read(body) == json.loads(body)
    with pytest.raises(json_values.InvalidJson) as info:
        json_values.read(body, unique_keys=True)
    assert (info.value.what, info.value.path) == (f"duplicate key {key!r}", path)


@given(_JSON)
def test_where_no_key_is_given_twice_nothing_is_refused(value: Any) -> None:
    body = json_values.write(value).encode()
    assert repr(json_values.read(body, unique_keys=True)) == repr(value)


@pytest.mark.parametrize("body", [b"", b"{", b"nope", b"{'a': 1}", b"\0", b"01", b"{}{}"])
def test_malformed(body: bytes) -> None:
    with pytest.raises(json_values.InvalidJson):
        json_values.read(body)


def test_brackets_in_strings_do_not_nest() -> None:
    text = "[" * 1000 + '\\"' + "{" * 1000
    body = json.dumps([text, ["["] * 1000]).encode()
    assert json_values.read(body) == [text, ["["] * 1000]
    for cut in (b'["' + b"[" * 1000, b'["' + b"[" * 1000 + b"\\", b'"' + b'\\"[' * 10_000):
        with pytest.raises(json_values.InvalidJson):
            json_values.read(cut)


def test_as_deep_as_it_may_be() -> None:
    value = json_values.read(b"[" * 300 + b"]" * 300)
    json_values.check_storable(value)
    assert json.loads(json_values.write(json_values.normal_metadata(value))) == value
