"""JSON as the protocol treats it: parsing, what can be stored, what counts as equal.

Pure: takes bytes and Python values, returns Python values and text. Knows neither setting types nor
HTTP; callers turn the errors into responses.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable
from typing import Any, TypeAlias, TypeGuard

from heksher._json_bounds import TooManyDeepParts, cut_at_depth

# What json.loads returns. It is Any, not a recursive union, because bodies are untrusted and each
# field is checked where it is read.
Json: TypeAlias = Any

# Maximum nesting of lists and objects. Values of any accepted type nest less, and Python's recursive
# functions (json.dumps, ==, repr) can handle this depth.
MAX_DEPTH = 300

# Integers that fit into 64 bits, signed or unsigned.
_MIN_INTEGER = -(2**63)
_MAX_INTEGER = 2**64 - 1

# In metadata, whole floats of at least this absolute value become integers.
_WHOLE_FLOATS_BECOME_INTEGERS_FROM = 1e16


class Unreadable(Exception):
    """A body is not text, nests too deeply, or contains a number with too many digits."""


class InvalidJson(Exception):
    """A text is not JSON, or a part of a value is not accepted.

    Attributes:
        what: what is wrong.
        path: path from the value to that part, such as ``.key[0]``; empty for the value itself.
    """

    def __init__(self, what: str, path: str | None = None) -> None:
        super().__init__(what)
        self.what = what
        self.path: str = path or ""


def read(body: bytes, *, unique_keys: bool = False) -> Json:
    """Parse a body in UTF-8, UTF-16 or UTF-32, with or without a byte order mark.

    NaN and infinities are accepted here; ``check_storable`` refuses them where they matter.

    Args:
        body: the bytes.
        unique_keys: whether to refuse duplicate keys. Otherwise the last one wins.

    Raises:
        InvalidJson: a syntax error, or a duplicate key.
        Unreadable: any other failure.
    """
    try:
        text = body.decode(json.detect_encoding(body), "surrogatepass")
    except UnicodeDecodeError as error:
        raise Unreadable from error
    # Checked before parsing: the depth at which json.loads gives up differs between Pythons.
    try:
        encoded = text.encode("utf-8", "surrogatepass")
        if cut_at_depth(encoded, MAX_DEPTH) is not encoded:
            raise Unreadable
    except TooManyDeepParts as error:
        raise Unreadable from error
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
        raise InvalidJson(f"invalid JSON: {error}") from error
    except (ValueError, RecursionError) as error:  # an integer with more digits than int() accepts
        raise Unreadable from error
    if repetitive:
        # Report the last one. Any other may not be in the value any more: a duplicate key of an
        # object around it may have replaced it.
        part, key = repetitive[-1]
        raise InvalidJson(f"duplicate key {key!r}", _path(value, part))
    return value


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
    """Return the path from *value* to the object *part*, or None if it is not in there."""
    if value is part:
        return ""
    for key, child in _children(value):
        rest = _path(child, part)
        if rest is not None:
            plain = isinstance(key, str) and key.isidentifier()
            return f".{key}{rest}" if plain else f"[{key!r}]{rest}"
    return None


def check_storable(value: Json, *, is_metadata: bool = False) -> None:
    """Refuse a value that cannot be stored and returned unchanged.

    Refused are integers beyond -2^63 … 2^64-1, NaN, infinities, lone surrogates, and U+0000 in
    metadata.

    Raises:
        InvalidJson: says what was found, and where.
    """
    parts = [value]
    while parts:
        part = parts.pop()
        problem = _problem(part, is_metadata)
        if problem is not None:
            raise InvalidJson(problem, _path(value, part))
        parts += (child for _, child in _children(part))


def _problem(part: Json, is_metadata: bool) -> str | None:
    """Say why *part* cannot be stored, not counting its own parts; None if it can."""
    if isinstance(part, str):
        return _problem_of_text(part, is_metadata)
    if isinstance(part, int) and not is_storable_integer(part):
        return "integer out of range: expected one that fits into 64 bits"
    if isinstance(part, float) and not math.isfinite(part):
        return "NaN and infinities are not JSON numbers"
    if is_object(part):
        problems = (_problem_of_text(key, is_metadata) for key in part)
        return next((f"invalid key: {problem}" for problem in problems if problem), None)
    return None


def is_storable_integer(value: int) -> bool:
    """Whether an integer fits into 64 bits, signed or unsigned."""
    return _MIN_INTEGER <= value <= _MAX_INTEGER


def _problem_of_text(text: str, is_metadata: bool) -> str | None:
    if any("\ud800" <= character <= "\udfff" for character in text):
        return "a string contains a lone surrogate"
    if is_metadata and "\0" in text:
        return "metadata cannot contain U+0000"
    return None


def write(value: Json) -> str:
    """Return compact JSON text. Numbers are written as they were read: 1 stays 1, 1.0 stays 1.0."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def equal(one: Json, other: Json) -> bool:
    """Compare loosely: 1, 1.0 and true are equal at any depth; order matters in lists only.

    This is exactly how Python's ``==`` compares.
    """
    return bool(one == other)


def normal_metadata(value: Json) -> Json:
    """Return metadata in its stored form, with numbers as PostgreSQL's decimals return them.

    Whole floats from 1e16 upwards become integers if these fit into 64 bits; -0.0 becomes 0.0.
    Other numbers and the order of keys do not change.
    """
    if isinstance(value, float):
        if abs(value) >= _WHOLE_FLOATS_BECOME_INTEGERS_FROM and value.is_integer():
            whole = int(value)
            return whole if is_storable_integer(whole) else value
        return value + 0.0  # -0.0 + 0.0 is 0.0
    if is_list(value):
        return [normal_metadata(item) for item in value]
    if is_object(value):
        return {key: normal_metadata(item) for key, item in value.items()}
    return value
