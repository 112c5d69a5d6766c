"""Faults as a text, for the command line.

    delay(0.5) on GET /api/v1/query; status(503, retry_after=2) share 0.2 delay 1; seed 7

Each part between semicolons is a fault, with what there is to choose about it in parentheses, and
then the requests that it is for, and how late it is; or the seed. Reads, and does nothing.
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

# A quoted text, a mark, or anything up to the next space or mark.
_TOKEN = re.compile(
    r"""\s*(?:
        (?P<mark>[(),;=])
      | (?P<quote>["']) (?P<quoted>.*?) (?P=quote)
      | (?P<word>[^\s(),;="']+)
    )""",
    re.VERBOSE,
)


@dataclass(frozen=True)
class Told:
    """What a text tells: faults with the requests that they are for, and the seed if it names one."""

    faults: tuple[tuple[Fault, When], ...]
    seed: int | None


@dataclass(frozen=True)
class _Token:
    text: str
    is_mark: bool
    is_quoted: bool = False


def read(text: str) -> Told:
    """Read a text of faults.

    Raises:
        InvalidArgumentError: it is no such text; the message names the word that cannot be read.
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
    return Told(tuple(faults), seed)


def _parts(text: str) -> list[list[_Token]]:
    parts: list[list[_Token]] = [[]]
    position = 0
    stripped = text.rstrip()
    while position < len(stripped):
        match = _TOKEN.match(stripped, position)
        if match is None:
            raise _bad(f"the quotation mark at {stripped[position:].strip()!r} has no end")
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
        """Whether *mark* comes next; it is taken then."""
        if self._tokens and self._tokens[-1].is_mark and self._tokens[-1].text == mark:
            self._last = self._tokens.pop().text
            return True
        return False

    def has_word(self) -> bool:
        """Whether a word comes next."""
        return bool(self._tokens) and not self._tokens[-1].is_mark

    def peek(self) -> str:
        """What comes next; empty at the end, and for a quoted text."""
        return "" if not self._tokens or self._tokens[-1].is_quoted else self._tokens[-1].text

    def word(self, wanted: str) -> str:
        """The next word, which has to be there."""
        if not self.has_word():
            where = f"behind {self._last!r}" if self._last else "in front"
            raise _bad(f"{where} {wanted} is missing")
        self._last = self._tokens.pop().text
        return self._last

    def end(self) -> None:
        """Nothing is left."""
        if self._tokens:
            text = self._tokens[-1].text
            mend = _suggestion(text, _CONDITIONS) or f"; {_listed(_CONDITIONS)} can stand there"
            raise _bad(f"{text!r} is not understood{mend} (between two faults stands ';')")


def _fault(word: str, tokens: _Tokens) -> Fault:
    kind = _BY_WORD.get(word)
    if kind is None:
        mend = _suggestion(word, _BY_WORD) or f"; there are {_listed(_BY_WORD)}"
        raise _bad(f"{word!r} is no fault{mend}")
    names = [field.name for field in dataclasses.fields(kind)]
    given: dict[str, str] = {}
    if tokens.take_mark("("):
        while not tokens.take_mark(")"):
            value = tokens.word("a value or ')'")
            if tokens.take_mark("="):
                name, value = value, tokens.word("a value")
                if name not in names:
                    mend = _suggestion(name, names) or f"; there is {_listed(names) or 'nothing'}"
                    raise _bad(f"{word} has no {name!r} to choose{mend}")
            else:
                free = [name for name in names if name not in given]
                if not free:
                    raise _bad(f"{value!r} is too much for {word}, which takes {_listed(names)}")
                name = free[0]
            given[name] = value
            if not tokens.take_mark(",") and tokens.peek() != ")":
                raise _bad(f"in {word}(…), ',' or ')' has to follow {value!r}")
    return _convert(given, kind, word)


def _when(tokens: _Tokens) -> When:
    given: dict[str, str] = {}
    while tokens.peek() in _CONDITIONS:
        condition = tokens.word("a condition")
        if condition != "on":
            # There is a fault of that name, too.
            other = ", or ';' before it," if condition in _BY_WORD else ""
            given[condition] = tokens.word(f"a number{other}")
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
        # Such as "Expected `float` >= 0.0 - at `$.seconds`".
        reason, _, place = str(error).partition(" - at `$")
        if wanted := re.match(r"Expected `(int|float|bool).*?`([ <>=.\d]*)", reason):
            reason = f"{_NUMBERS[wanted[1]]}{wanted[2]} is wanted"
        name = place.strip(".`")
        if reason.startswith("Invalid enum value"):
            reason = f"one of {_listed(get_args(get_type_hints(kind)[name]))} is wanted"
        if isinstance(given, dict) and name in given:
            reason = f"{given[name]!r} is no {name}: {reason}"
        raise _bad(f"{what}: {reason}") from error


def _suggestion(word: str, there: Collection[str]) -> str:
    close = difflib.get_close_matches(word, there, 1)
    return f", did you mean {close[0]!r}?" if close else ""


def _listed(words: Collection[str]) -> str:
    return ", ".join(words)


def _bad(reason: str) -> InvalidArgumentError:
    return InvalidArgumentError(f"the text of faults cannot be read: {reason}")
