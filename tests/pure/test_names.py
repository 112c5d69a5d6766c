"""Which texts can be names, condition values, metadata keys and versions."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from heksher import _names

WORDS = ("a", "A9_", "_", "0", "x" * 5000)
NO_WORDS = ("", " ", "a b", "a-b", "a,b", "a:b", "*", "é", "\u0663", "a\n", "\na", "a\x00")

CASES: list[tuple[Callable[[str], bool], tuple[str, ...], tuple[str, ...]]] = [
    (_names.is_setting_name, (*WORDS, "a.b", "."), (*NO_WORDS, "a/b")),
    (_names.is_feature_name, WORDS, (*NO_WORDS, "a.b")),
    (_names.is_condition_value, WORDS, (*NO_WORDS, "a.b")),
    (_names.is_metadata_key, (*WORDS, "a-b", "-"), ("", "a b", "a.b", "é", "a-b\n")),
    (
        _names.is_version,
        ("1.0", "0.0", "1.10", "10.1", "01.00"),
        (
            "",
            "1",
            "1.",
            ".1",
            "1.0.0",
            "v1.0",
            "1.0\n",
            " 1.0",
            "-1.0",
            "\u0661.\u0660",
            "1,0",
            "1.x",
        ),
    ),
]


@pytest.mark.parametrize(
    ("check", "text"),
    [(check, text) for check, taken, _ in CASES for text in taken],
    ids=lambda each: each.__name__ if callable(each) else ascii(each[:12]),
)
def test_is_taken(check: Callable[[str], bool], text: str) -> None:
    assert check(text) is True


@pytest.mark.parametrize(
    ("check", "text"),
    [(check, text) for check, _, refused in CASES for text in refused],
    ids=lambda each: each.__name__ if callable(each) else ascii(each[:12]),
)
def test_is_refused(check: Callable[[str], bool], text: str) -> None:
    assert check(text) is False
