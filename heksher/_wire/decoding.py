"""JSON decoded within bounds: on size, depth and number of parts, whatever a service sends.

Knows no request and no field of any answer: what a body must look like is a type that is handed in.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TypeAlias, TypeVar

import msgspec

from heksher._text import excerpt
from heksher.exceptions import InvalidResponseError

S = TypeVar("S")

#: JSON that was not decoded so far. ``bytes(...)`` is the text, a part of the answer's body until then.
Undecoded: TypeAlias = msgspec.Raw

# Of how many parts that cannot be read it is said one by one why: what a reader takes in.
MOST_PROBLEMS = 100
# The shortest rule there is has 45 bytes, the shortest setting more; and so many parts do no harm.
_LEAST_SIZE = 40
MANY = 10_000
# Of what is decoded in one go, a rule or a setting. The interpreter lock is held for that long, and
# sixty megabytes of empty lists would stop every thread for seconds.
_LARGEST_PART = 4 * 1024 * 1024
# A type can be nested in two hundred others, and the JSON library reads some more levels than these.
_DEEPEST = 500


def decode(body: bytes | Undecoded, type_: type[S], what: str) -> S:
    try:
        try:
            return msgspec.json.decode(body, type=type_)
        except RecursionError:
            if len(body) > _LARGEST_PART:
                raise
            # It skips nothing that is nested so deeply. One such value harms no other.
            return msgspec.json.decode(_flattened(bytes(body)), type=type_)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidResponseError(f"{what}: {error}") from error


_find_marks = re.compile(rb'\\.|"|[\[{]+|[\]}]', re.DOTALL).finditer


def _flattened(body: bytes) -> bytes:
    """Return JSON with null, which is a value of no type, for all that is nested more than *_DEEPEST*."""
    kept: list[bytes] = []
    begin = depth = 0
    is_text = False
    for mark in _find_marks(body):
        sign = mark[0]
        if sign == b'"':
            is_text = not is_text
        elif is_text:
            pass
        elif sign[0] in b"[{":
            if depth <= _DEEPEST < depth + len(sign):
                kept += (body[begin : mark.start() + _DEEPEST - depth], b"null")
            depth += len(sign)
        elif sign[0] in b"]}":
            depth -= 1
            if depth == _DEEPEST:
                begin = mark.end()
    return b"".join((*kept, body[begin:]))


def check_size(part: bytes | Undecoded, what: str) -> None:
    if len(part) > _LARGEST_PART:
        raise InvalidResponseError(
            f"{what}: {len(part)} bytes, and {_LARGEST_PART} are read at most"
        )


def decode_each(
    raws: Iterable[msgspec.Raw], type_: type[S], most: int
) -> tuple[list[S], list[str]]:
    """Decode what can be decoded, and say of the rest why not, of *most* one by one."""
    decoded: list[S] = []
    problems: list[str] = []
    untold = 0
    for raw in raws:
        try:
            check_size(raw, "it is too large")
            decoded.append(decode(raw, type_, "one"))
        except InvalidResponseError as error:
            if len(problems) < most:
                reason = error.__cause__ or error
                problems.append(f"{reason}: {excerpt(bytes(memoryview(raw)[:200]), 200)}")
            else:
                untold += 1
    if untold:
        problems.append(f"and {untold} more that cannot be read")
    return decoded, problems


def check_number(parts: Sequence[msgspec.Raw], size: int, what: str) -> None:
    """Refuse a text of *size* bytes that has more parts than could mean anything.

    Each part takes far more room here than there: a million of them in two megabytes are an attack.
    """
    if len(parts) > max(MANY, size // _LEAST_SIZE):
        raise InvalidResponseError(f"{what}: {len(parts)} parts in {size} bytes make no sense")
