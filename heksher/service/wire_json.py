"""JSON as the protocol treats it: what is read, what can be kept, what counts as equal.

Pure: bytes and Python values in, Python values and text out. Knows neither types of settings nor
HTTP; whoever asks turns the errors into answers.
"""

from __future__ import annotations

import json
import math
import re
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
    """A text is no JSON, or a value is none that can be kept."""


def read(body: bytes) -> Json:
    """Parse a body in UTF-8, UTF-16 or UTF-32, with a byte order mark or without.

    Of duplicate keys the last wins. NaN and the infinities are read, for ``check_storable`` to
    refuse them where they matter.

    Raises:
        Malformed: a syntax error.
        Unreadable: everything else.
    """
    try:
        text = body.decode(json.detect_encoding(body), "surrogatepass")
    except UnicodeDecodeError as error:
        raise Unreadable from error
    # Before parsing, and not by what Python's recursion allows: that differs from one to the next.
    if _nests_deeper_than(text, MAX_DEPTH):
        raise Unreadable
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise Malformed(str(error)) from error
    except (ValueError, RecursionError) as error:  # an integer of more digits than int() takes
        raise Unreadable from error


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


def _children(value: Json) -> list[Json]:
    if is_object(value):
        return list(value.values())
    return value if is_list(value) else []


def check_storable(value: Json, *, is_metadata: bool = False) -> None:
    """Refuse what cannot be kept and given back as it came.

    That is: integers beyond -2^63 … 2^64-1, NaN and infinities, lone surrogates, and in metadata
    U+0000.

    Raises:
        Malformed: saying what was found.
    """
    if isinstance(value, str):
        _check_text(value, is_metadata)
    elif isinstance(value, int):
        if not is_storable_integer(value):
            raise Malformed("an integer does not fit into 64 bits")
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise Malformed("NaN and infinities are no JSON numbers")
    elif is_object(value):
        for key in value:
            _check_text(key, is_metadata)
    for child in _children(value):
        check_storable(child, is_metadata=is_metadata)


def is_storable_integer(value: int) -> bool:
    """Whether an integer fits into 64 bits, signed or unsigned."""
    return _MIN_INTEGER <= value <= _MAX_INTEGER


def _check_text(text: str, is_metadata: bool) -> None:
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise Malformed("a text holds a lone surrogate")
    if is_metadata and "\0" in text:
        raise Malformed("metadata cannot hold U+0000")


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
