"""JSON as the protocol treats it: what is read, what can be kept, what counts as equal.

Pure: bytes and Python values in, Python values and text out. Knows neither types of settings nor
HTTP; whoever asks turns the errors into answers.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterable
from typing import Any, TypeAlias, TypeGuard

# What json.loads makes. Any, and not a recursive union: bodies come from strangers and every field
# is checked where it is read.
Json: TypeAlias = Any

# Deeper than any type that is accepted, and shallow enough for every recursive function of Python's.
MAX_DEPTH = 300

_MIN_INTEGER = -(2**63)
_MAX_INTEGER = 2**64 - 1
_INTEGERS_IN_METADATA_FROM = 1e16


class Unreadable(Exception):
    """The bytes are no text, nest too deeply, or hold a number that is too long to read."""


class Malformed(Exception):
    """A text is no JSON, or a part of a value is none that is taken.

    Attributes:
        what: what is wrong.
        path: how to get from the value to that part, like ``.key[0]``; empty without a part.
    """

    def __init__(self, what: str, path: str | None = None) -> None:
        super().__init__(what)
        self.what = what
        self.path = path or ""


def read(body: bytes, *, unique_keys: bool = False) -> Json:
    """Parse a body in UTF-8, UTF-16 or UTF-32, with a byte order mark or without.

    Of duplicate keys the last wins, unless keys are to be unique. NaN and the infinities are read,
    for ``check_storable`` to refuse them where they matter.

    Raises:
        Malformed: a syntax error, or a key that is not unique.
        Unreadable: everything else.
    """
    try:
        text = body.decode(json.detect_encoding(body), "surrogatepass")
    except UnicodeDecodeError as error:
        raise Unreadable from error
    # Before parsing, and not by what Python's recursion allows: that differs from one to the next.
    if _nests_deeper_than(text, MAX_DEPTH):
        raise Unreadable
    repetitive: list[tuple[Json, str]] = []

    def unique(pairs: list[tuple[str, Json]]) -> Json:
        found = dict(pairs)
        if len(found) < len(pairs):
            counts = Counter(key for key, _ in pairs)
            repetitive.append((found, counts.most_common(1)[0][0]))
        return found

    try:
        value = json.loads(text, object_pairs_hook=unique if unique_keys else None)
    except json.JSONDecodeError as error:
        raise Malformed(f"not JSON: {error}") from error
    except (ValueError, RecursionError) as error:  # an integer of more digits than int() takes
        raise Unreadable from error
    if repetitive:
        # The last one: any other may have lost its place to a namesake in an object around it.
        part, key = repetitive[-1]
        raise Malformed(f"the key {key!r} is given twice", _path(value, part))
    return value


# A string, also one that does not end, or a bracket.
_STRING_OR_BRACKET = re.compile(r'"(?:[^"\\]+|\\.?)*+"?|[\[\]{}]', re.DOTALL)


def _nests_deeper_than(text: str, depth: int) -> bool:
    """Whether lists and objects nest more than *depth* times in a text that may be no JSON."""
    if text.count("[") + text.count("{") <= depth:
        return False
    level = 0
    for match in _STRING_OR_BRACKET.finditer(text):
        found = match[0]
        if found in ("[", "{"):
            level += 1
            if level > depth:
                return True
        elif found in ("]", "}"):
            level -= 1
    return False


def is_list(value: Json) -> TypeGuard[list[Json]]:
    """Whether *value* is a JSON list."""
    return isinstance(value, list)


def is_object(value: Json) -> TypeGuard[dict[str, Json]]:
    """Whether *value* is a JSON object."""
    return isinstance(value, dict)


def _children(value: Json) -> Iterable[tuple[str | int, Json]]:
    if is_object(value):
        return value.items()
    return enumerate(value) if is_list(value) else ()


def _path(value: Json, part: Json) -> str | None:
    """How to get from *value* to *part* of it, the object itself; None: it is not in there."""
    if value is part:
        return ""
    for key, child in _children(value):
        rest = _path(child, part)
        if rest is not None:
            plain = isinstance(key, str) and key.isidentifier()
            return f".{key}{rest}" if plain else f"[{key!r}]{rest}"
    return None


def check_storable(value: Json, *, is_metadata: bool = False) -> None:
    """Refuse what cannot be kept and given back as it came.

    That is: integers beyond -2^63 … 2^64-1, NaN and infinities, lone surrogates, and in metadata
    U+0000.

    Raises:
        Malformed: saying what was found, and where.
    """
    parts = [value]
    while parts:
        part = parts.pop()
        problem = _problem(part, is_metadata)
        if problem is not None:
            raise Malformed(problem, _path(value, part))
        parts += (child for _, child in _children(part))


def _problem(part: Json, is_metadata: bool) -> str | None:
    """What forbids to keep *part*, its own parts aside."""
    if isinstance(part, str):
        return _problem_of_text(part, is_metadata)
    if isinstance(part, int) and not is_storable_integer(part):
        return "an integer does not fit into 64 bits"
    if isinstance(part, float) and not math.isfinite(part):
        return "NaN and infinities are no JSON numbers"
    if is_object(part):
        problems = (_problem_of_text(key, is_metadata) for key in part)
        return next((f"a key: {problem}" for problem in problems if problem), None)
    return None


def is_storable_integer(value: int) -> bool:
    """Whether an integer fits into 64 bits, signed or unsigned."""
    return _MIN_INTEGER <= value <= _MAX_INTEGER


def _problem_of_text(text: str, is_metadata: bool) -> str | None:
    if any("\ud800" <= character <= "\udfff" for character in text):
        return "a text holds a lone surrogate"
    if is_metadata and "\0" in text:
        return "metadata cannot hold U+0000"
    return None


def write(value: Json) -> str:
    """Compact JSON text, number by number as it was read: 1 stays 1, 1.0 stays 1.0."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def equal(one: Json, other: Json) -> bool:
    """Loose equality: 1, 1.0 and true are equal, at any depth; order counts in lists only.

    Python's own equality is exactly that.
    """
    return bool(one == other)


def normal_metadata(value: Json) -> Json:
    """The form in which metadata comes back: numbers as a decimal column gives them.

    Whole floats from 1e16 up become integers, as far as these fit into 64 bits; -0.0 becomes 0.0.
    Other numbers, and the order of keys, stay.
    """
    if isinstance(value, float):
        if abs(value) >= _INTEGERS_IN_METADATA_FROM and value.is_integer():
            whole = int(value)
            return whole if is_storable_integer(whole) else value
        return value + 0.0  # -0.0 + 0.0 is 0.0
    if is_list(value):
        return [normal_metadata(item) for item in value]
    if is_object(value):
        return {key: normal_metadata(item) for key, item in value.items()}
    return value
