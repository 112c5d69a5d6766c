"""The order of context features: merging at startup, moving."""

from __future__ import annotations

import itertools

import pytest

from heksher.service.domain.errors import CannotStartError
from heksher.service.domain.feature_order import merged, moved


@pytest.mark.parametrize(
    ("stored", "wanted", "result"),
    [
        ("", "", ""),
        ("", "a b", "a b"),
        ("a b", "", "a b"),
        ("a c", "a b c d", "a b c d"),
        ("b", "a b", "a b"),
    ],
)
def test_merged(stored: str, wanted: str, result: str) -> None:
    assert merged(stored.split(), wanted.split()) == result.split()


@pytest.mark.parametrize(
    ("stored", "wanted", "message"),
    [
        ("a b", "b a", "do not match the database, which has a,b: "),
        ("a b", "a c", "do not match the database, which has a,b: "),
        ("", "a a", "duplicate context feature"),
        ("", "a-b", "invalid context feature 'a-b'"),
    ],
)
def test_not_merged(stored: str, wanted: str, message: str) -> None:
    with pytest.raises(CannotStartError, match=message):
        merged(stored.split(), wanted.split())


def test_every_move() -> None:
    for name, anchor in itertools.product("abcd", repeat=2):
        for after in (True, False):
            result = moved("abcd", name, anchor, after=after)
            assert sorted(result) == list("abcd")
            assert [f for f in result if f != name] == [f for f in "abcd" if f != name]
            if name != anchor:
                assert result.index(name) - result.index(anchor) == (1 if after else -1)
            else:
                assert result == list("abcd")
