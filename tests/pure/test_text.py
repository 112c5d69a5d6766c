"""How foreign text and values are shown: bounded, on one line, and without an error."""

from __future__ import annotations

import asyncio
import os
import time
from typing import Any

import pytest

from heksher._text import counted, error_text, excerpt, joined, named, one_line, shown


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("as  it is ", "as  it is "),
        ("  two\n lines\t", "two lines"),
        ("\x1b[2J\u202e", "\ufffd[2J\ufffd"),
        ("x" * 500, "x" * 500),
        ("x" * 501, "x" * 500 + "…"),
    ],
)
def test_a_text_becomes_one_harmless_line(text: str, line: str) -> None:
    assert one_line(text) == line


def test_the_beginning_of_a_body_is_shown_as_text() -> None:
    assert excerpt(b"caf\xc3\xa9\r\n\xff", 100) == "café \ufffd"
    assert excerpt(b"x" * 1000, 10) == "x" * 10


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a  b\n", r"'a  b\n'"),
        ({"b": [1, 2.5], "a": None}, "{'a': None, 'b': [1, 2.5]}"),
        (int, "<class 'int'>"),
        ("\u202e", r"'\u202e'"),
    ],
)
def test_a_value_is_shown_as_python_writes_it(value: object, text: str) -> None:
    assert shown(value) == text


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


def bushy(depth: int) -> list[Any]:
    """A list of a hundred times the same list, and so on: small, but endless for a complete walk."""
    value: list[Any] = []
    for _ in range(depth):
        value = [value] * 100
    return value


@pytest.mark.parametrize(
    "value",
    [
        pytest.param("x" * 10_000_000, id="long text"),
        pytest.param(list(range(1_000_000)), id="long list"),
        pytest.param({str(n): n for n in range(1_000_000)}, id="large mapping"),
        pytest.param(10**4000, id="long number"),
        pytest.param(nested(100_000), id="deep"),
        pytest.param(bushy(20), id="bushy"),
    ],
)
@pytest.mark.parametrize("limit", [200, 500])
def test_a_value_of_any_size_is_shown_in_part_and_at_once(value: object, limit: int) -> None:
    begun = time.process_time()
    text = shown(value, limit)
    assert time.process_time() - begun < 0.05
    assert 20 <= len(text) <= limit


def test_what_is_left_out_is_marked() -> None:
    assert shown([1] * 101, 10_000).endswith(", 1, ...]")
    assert shown({n: n for n in range(101)}, 10_000).endswith(", 99: 99, ...}")
    assert shown(["x" * 100] * 10).endswith("…")


class Broken(Exception):
    def __str__(self) -> str:
        raise RuntimeError("broken")

    __repr__ = __str__


class Masked:
    """An object whose repr is not one harmless line."""

    def __repr__(self) -> str:
        return "\x1b[2Jmasked\n"


def test_a_broken_value_is_shown_by_its_class() -> None:
    assert shown(Broken()).startswith("<Broken instance at 0x")
    assert shown(10**5000).startswith("<int ")
    assert shown(Masked()) == "\ufffd[2Jmasked\ufffd"
    # `reprlib` chooses by the name of the class.
    assert shown(type("list", (), {})()).startswith("<")


def test_the_text_of_an_error_can_be_encoded_whatever_path_is_in_it() -> None:
    error = FileNotFoundError(2, "no such file", os.fsdecode(b"a\xff\xc3\xa9"))
    assert error_text(error) == "[Errno 2] no such file: 'a\\udcffé'"
    assert named(ValueError("\udcff")) == "ValueError: \\udcff"


def test_errors_are_named_whatever_their_text_is_made_by() -> None:
    assert named(ValueError("why")) == "ValueError: why"
    assert named(ValueError()) == "ValueError"
    assert named(Broken()) == "Broken: an error that cannot be shown"
    assert error_text(ValueError("why")) == "why"


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0 seconds"),
        (1, "1 second"),
        (2, "2 seconds"),
        (67108864, "67108864 seconds"),
        (1.0, "1 second"),
        (0.3, "0.3 seconds"),
        (30.0, "30 seconds"),
    ],
)
def test_a_number_is_shown_with_its_noun(number: float, text: str) -> None:
    assert counted(number, "second") == text


@pytest.mark.parametrize(
    ("words", "text"),
    [([], ""), (["a"], "a"), (["a", "b"], "a and b"), (["a", "b", "c"], "a, b and c")],
)
def test_words_are_joined_as_in_a_sentence(words: list[str], text: str) -> None:
    assert joined(words) == text
    assert joined(iter(words), "or") == text.replace("and", "or")


@pytest.mark.parametrize("kind", [SystemExit, asyncio.CancelledError])
def test_what_ends_programs_and_tasks_is_contained_when_a_value_is_shown(
    kind: type[BaseException],
) -> None:
    class Exiting(Exception):
        def __str__(self) -> str:
            raise kind

        def __repr__(self) -> str:
            raise kind

    assert shown(Exiting()) == "<Exiting that cannot be shown>"
    assert error_text(Exiting()) == "an error that cannot be shown"


def test_ctrl_c_passes_when_a_value_is_shown() -> None:
    class Interrupted(Exception):
        def __str__(self) -> str:
            raise KeyboardInterrupt

        def __repr__(self) -> str:
            raise KeyboardInterrupt

    for show in (shown, error_text):
        with pytest.raises(KeyboardInterrupt):
            show(Interrupted())
