"""JSON decoded within bounds, whatever a service sends: bytes, depth and number of parts.

Knows no request and no field of any response: the caller passes in the type that a body must have.

The bounds protect the application in three ways:

- msgspec holds the interpreter lock while it decodes, so the size of what is decoded in one call bounds
  how long every other thread of the process stops. Large bodies are therefore split by one cheap pass
  into `Undecoded` parts (a rule, a setting), and the parts are decoded in calls of their own. A part that
  is itself too large is refused.
- An object needs far more memory than its text: 2 MB of ``0,0,0,...`` become 56 MB of undecoded parts, and
  more once they are decoded. Real parts have a least length, so a body with more parts than would fit if
  they were real is refused before any of them is decoded.
- Nesting is bounded, see `_flatten`.

A part that cannot be read costs only itself: it is left out and reported, and the others are used.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TypeAlias, TypeVar

import msgspec

from heksher._text import excerpt
from heksher.exceptions import InvalidResponseError

S = TypeVar("S")

#: JSON that has not been decoded yet. ``bytes(...)`` is its text; it keeps the whole body in memory.
Undecoded: TypeAlias = msgspec.Raw

# Report at most this many unreadable parts individually, and only count the others.
MAX_PROBLEMS = 100
# The bytes that a part has at least: the shortest rule has 45, the shortest setting more.
_MIN_PART_BYTES = 40
# This many parts are always accepted, however short they are.
_HARMLESS_PARTS = 10_000
# The bytes of a part (a rule, a setting, a default value) that is decoded in one call. 60 MB of empty
# lists would hold the interpreter lock for seconds.
_MAX_PART_BYTES = 4 * 1024 * 1024
# The levels of nesting that `_flatten` keeps: more than the 200 that a setting's type can have, and few
# enough for msgspec on every version of Python.
_MAX_DEPTH = 500


def decode(body: bytes | Undecoded, type_: type[S], what: str) -> S:
    """Decode *body* as *type_*.

    Args:
        body: one JSON text.
        type_: the type to decode to.
        what: the subject of an error message, such as "the list of settings".

    Raises:
        InvalidResponseError: it is not JSON, or not JSON of this type.
    """
    try:
        try:
            return msgspec.json.decode(body, type=type_)
        except RecursionError:
            if len(body) > _MAX_PART_BYTES:
                raise
            return msgspec.json.decode(_flatten(bytes(body)), type=type_)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidResponseError(f"{what}: {error}") from error


_find_marks = re.compile(rb'\\.|"|[\[{]+|[\]}]', re.DOTALL).finditer


def _flatten(body: bytes) -> bytes:
    """Return *body* with null in place of everything that is nested deeper than *_MAX_DEPTH*.

    The problem: msgspec decodes recursively and raises RecursionError for a value that is nested too
    deeply, even where it merely skips over the value to make it `Undecoded`. So one rule with a deep value
    would make the whole response unreadable, and with it every other setting. With msgspec 0.23 the limit
    is about 1,000 levels on Python 3.11, less the frames on the stack, 1,500 on 3.12 and 10,000 on 3.13.

    Raising the limit does not work: 3.11 would let a deep value overflow the thread's stack, which ends
    the process, and later versions bound recursion in C by a limit that cannot be changed.

    The solution: cut off what is too deep and decode again. null is a value of no setting type, so that
    the rule it belongs to is rejected alone, like any rule with a wrong value. Only brackets outside of
    strings count, so the pass over the text looks at quotes, at backslashes with the character they
    escape, and at brackets. A run of opening brackets is one match, so that a megabyte of them costs no
    more than one.

    The caller passes at most *_MAX_PART_BYTES*, for which this takes a few seconds at worst. Other threads
    get their turns, since it runs in Python.
    """
    kept: list[bytes] = []
    begin = depth = 0
    in_string = False
    for mark in _find_marks(body):
        sign = mark[0]
        if sign == b'"':
            in_string = not in_string
        elif in_string:
            pass
        elif sign[0] in b"[{":
            if depth <= _MAX_DEPTH < depth + len(sign):
                kept += (body[begin : mark.start() + _MAX_DEPTH - depth], b"null")
            depth += len(sign)
        elif sign[0] in b"]}":
            depth -= 1
            if depth == _MAX_DEPTH:
                begin = mark.end()
    return b"".join((*kept, body[begin:]))


def check_size(part: bytes | Undecoded, what: str, limit: int = _MAX_PART_BYTES) -> None:
    """Refuse a part that is too large to be decoded in one call.

    Raises:
        InvalidResponseError: it has more than *limit* bytes; the message begins with *what*.
    """
    if len(part) > limit:
        raise InvalidResponseError(f"{what} has {len(part)} bytes; at most {limit} are read")


def check_number(parts: Sequence[Undecoded], size: int, what: str) -> None:
    """Refuse a text of *size* bytes that has more parts than it could have if they were real.

    Raises:
        InvalidResponseError: it has; the message begins with *what*.
    """
    limit = max(_HARMLESS_PARTS, size // _MIN_PART_BYTES)
    if len(parts) > limit:
        raise InvalidResponseError(
            f"{what} has {len(parts)} parts in {size} bytes; at most {limit} are read"
        )


def decode_each(
    parts: Sequence[Undecoded], type_: type[S], what: str, limit: int = MAX_PROBLEMS
) -> tuple[list[S], list[str]]:
    """Decode each of *parts* by itself.

    Args:
        parts: JSON texts.
        type_: the type of each.
        what: the name of a part in a problem, such as "the rule".
        limit: report at most this many problems individually, and the number of the others.

    Returns:
        The parts that can be decoded, and one problem for each that cannot.
    """
    decoded: list[S] = []
    problems: list[str] = []
    for part in parts:
        try:
            check_size(part, what)
            decoded.append(decode(part, type_, what))
        except InvalidResponseError as error:
            if len(problems) < limit:
                problems.append(f"{error}: {excerpt(bytes(memoryview(part)[:200]), 200)}")
    if more := len(parts) - len(decoded) - len(problems):
        problems.append(f"and {more} more that cannot be read")
    return decoded, problems
