"""Faults as a text, for the command line.

    delay(0.5) on GET /api/v1/query; status(503, retry_after=2) share 0.2 delay 1; seed 7

Each part between semicolons is the seed, or a fault with its options in parentheses, the conditions on
requests, and its delay. This module only reads the text.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import TypeVar, get_args, get_type_hints

import msgspec

from heksher.exceptions import InvalidArgumentError
from heksher.testing.faults._kinds import KINDS, Fault
from heksher.testing.faults._when import When

T = TypeVar("T")

_BY_WORD = {kind.word: kind for kind in KINDS}
_CONDITIONS = ("on", "nth", "every", "first", "share", "delay")

_NUMBERS = {"int": "a whole number", "float": "a number", "bool": "true or false"}

# A mark, a quoted text, or anything up to the next space or mark.
_TOKEN = re.compile(
    r"""\s*(?:
        (?P<mark>[(),;=])
      | (?P<quote>["']) (?P<quoted>.*?) (?P=quote)
      | (?P<word>[^\s(),;="']+)
    )""",
    re.VERBOSE,
)


@dataclass(frozen=True)
class ParsedFaults:
    """The content of a text: faults with their conditions, and the seed if the text has one."""

    faults: tuple[tuple[Fault, When], ...]
    seed: int | None


@dataclass(frozen=True)
class _Token:
    text: str
    is_mark: bool
    is_quoted: bool = False


def parse_faults(text: str) -> ParsedFaults:
    """Read a fault text.

    Raises:
        InvalidArgumentError: the text is invalid; the message names the word that is wrong.
    """
    faults: list[tuple[Fault, When]] = []
    seed: int | None = None
    for part in _parts(text):
        tokens = _Tokens(part)
        word = tokens.word("a fault or 'seed'")
        if word == "seed":
            seed = _convert(tokens.word("a number"), int, "seed")
        else:
            faults.append((_fault(word, tokens), _when(tokens)))
        tokens.end()
    return ParsedFaults(tuple(faults), seed)


def _parts(text: str) -> list[list[_Token]]:
    parts: list[list[_Token]] = [[]]
    position = 0
    stripped = text.rstrip()
    while position < len(stripped):
        match = _TOKEN.match(stripped, position)
        if match is None:
            raise _bad(f"unterminated quotation at {stripped[position:].strip()!r}")
        position = match.end()
        mark, quoted, word = match["mark"], match["quoted"], match["word"]
        if mark == ";":
            parts.append([])
        else:
            text_ = next(each for each in (mark, quoted, word) if each is not None)
            parts[-1].append(_Token(text_, mark is not None, quoted is not None))
    return [part for part in parts if part]


class _Tokens:
    """The tokens of one part, read from left to right."""

    def __init__(self, tokens: list[_Token]) -> None:
        self._tokens = tokens[::-1]
        self._last = ""

    def take_mark(self, mark: str) -> bool:
        """Take *mark* if it comes next; return whether it did."""
        if self._tokens and self._tokens[-1].is_mark and self._tokens[-1].text == mark:
            self._last = self._tokens.pop().text
            return True
        return False

    def has_word(self) -> bool:
        """Return whether a word comes next."""
        return bool(self._tokens) and not self._tokens[-1].is_mark

    def peek(self) -> str:
        """Return the next token; empty at the end, and for a quoted text."""
        return "" if not self._tokens or self._tokens[-1].is_quoted else self._tokens[-1].text

    def word(self, expected: str, hint: str = "") -> str:
        """Take the next word; if there is none, the error says what was *expected*."""
        if not self.has_word():
            where = f"after {self._last!r}" if self._last else "at the start"
            raise _bad(f"expected {expected} {where}{hint}")
        self._last = self._tokens.pop().text
        return self._last

    def end(self) -> None:
        """Check that no token is left."""
        if self._tokens:
            text = self._tokens[-1].text
            hint = _suggestion(text, _CONDITIONS) or f": expected one of {_listed(_CONDITIONS)}"
            raise _bad(f"unexpected {text!r}{hint} (separate faults with ';')")


def _fault(word: str, tokens: _Tokens) -> Fault:
    kind = _BY_WORD.get(word)
    if kind is None:
        hint = _suggestion(word, _BY_WORD) or f": expected one of {_listed(_BY_WORD)}"
        raise _bad(f"unknown fault {word!r}{hint}")
    names = [field.name for field in dataclasses.fields(kind)]
    given: dict[str, str] = {}
    if tokens.take_mark("("):
        while not tokens.take_mark(")"):
            value = tokens.word("a value or ')'")
            if tokens.take_mark("="):
                name, value = value, tokens.word("a value")
                if name not in names:
                    expected = _listed(names) or "no option"
                    hint = _suggestion(name, names) or f": expected {expected}"
                    raise _bad(f"{word}: unknown option {name!r}{hint}")
            else:
                free = [name for name in names if name not in given]
                if not free:
                    expected = f"only {_listed(names)}" if names else "no option"
                    raise _bad(f"{word}: unexpected value {value!r}: expected {expected}")
                name = free[0]
            given[name] = value
            if not tokens.take_mark(",") and tokens.peek() != ")":
                raise _bad(f"{word}: expected ',' or ')' after {value!r}")
    return _convert(given, kind, word)


def _when(tokens: _Tokens) -> When:
    given: dict[str, str] = {}
    while tokens.peek() in _CONDITIONS:
        condition = tokens.word("a condition")
        if condition != "on":
            # `delay` is also the name of a fault.
            hint = ", or ';' before it" if condition in _BY_WORD else ""
            given[condition] = tokens.word("a number", hint)
            continue
        word = tokens.word("a method or a path")
        if not word.startswith(("/", "*")):
            given["method"] = word.upper()
            word = tokens.word("") if tokens.peek().startswith(("/", "*")) else ""
        if word:
            given["path"] = word
    return _convert(given, When, " ".join(given))


def _convert(given: object, kind: type[T], what: str) -> T:
    try:
        return msgspec.convert(given, kind, strict=False)
    except (msgspec.ValidationError, InvalidArgumentError) as error:
        # For example: "Expected `float` >= 0.0 - at `$.seconds`".
        reason, _, place = str(error).partition(" - at `$")
        if wanted := re.match(r"Expected `(int|float|bool).*?`([ <>=.\d]*)", reason):
            reason = f"expected {_NUMBERS[wanted[1]]}{wanted[2]}"
        name = place.strip(".`")
        if reason.startswith("Invalid enum value"):
            reason = f"expected one of {_listed(get_args(get_type_hints(kind)[name]))}"
        if isinstance(given, dict) and name in given:
            reason = f"invalid {name} {given[name]!r}: {reason}"
        raise _bad(f"{what}: {reason}") from error


def _suggestion(word: str, known: Collection[str]) -> str:
    close = difflib.get_close_matches(word, known, 1)
    return f", did you mean {close[0]!r}?" if close else ""


def _listed(words: Collection[str]) -> str:
    return ", ".join(words)


def _bad(reason: str) -> InvalidArgumentError:
    return InvalidArgumentError(f"invalid fault text: {reason}")
