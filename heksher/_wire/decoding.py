"""JSON decoded within bounds, whatever a service sends: bytes, depth and number of values.

Knows no request and no field of any response: the caller passes in the type that a body must have.

The bounds protect the application in three ways:

- msgspec calls itself for each level of nesting, and would overflow the stack of a thread. So `bounded`
  cuts off what is too deep before msgspec sees a byte of a body.
- msgspec holds the interpreter lock during a call, so what is decoded in one call bounds how long every
  other thread of the process stops. To skip a value is fast, 150 MB/s at least. A body is therefore split
  into `Undecoded` parts by `split`, and the parts are decoded in calls of their own. Their bytes and
  the number of their values are bounded.
- An object needs far more memory than its text: 2 MB of ``0,0,0,...`` would become 56 MB of undecoded
  parts. So a list of rules or settings is decoded a batch of bytes at a time, and members of an object
  are counted while they are decoded.

A part that cannot be read costs only itself: it is left out and reported, and the others are used.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Generic, TypeAlias, TypeVar

import msgspec

from heksher._json_bounds import TooManyDeepParts, count_values, cut_at_depth
from heksher._text import excerpt
from heksher.exceptions import InvalidResponseError

S = TypeVar("S")

#: JSON that has not been decoded yet. ``bytes(...)`` is its text; it keeps the whole body in memory.
Undecoded: TypeAlias = msgspec.Raw

# Report at most this many unreadable parts of a list individually, and only count the others.
MAX_PROBLEMS = 100
# The unreadable parts after which a whole list is refused. Trying each of millions takes long.
_MAX_UNREADABLE = 10_000
# The levels of nesting in a body: 200 that a setting's type can have, and those of the message around a
# value. msgspec needs 430 bytes of stack for each, 90 KB in all, which a thread with 256 KiB has.
MAX_DEPTH = 210
# The bytes of a part (a rule, a setting, a default value) that is decoded in one call, and the values in
# it. 100,000 values take up to 20 ms; 4 MB of empty lists would take a second.
_MAX_PART_BYTES = 4 * 1024 * 1024
_MAX_PART_VALUES = 100_000
# The bytes of a list that are decoded in one call, if no part is larger: 1,000 rules, which take 5 ms.
_BATCH_BYTES = 64 * 1024


def bounded(body: bytes, what: str) -> bytes:
    """Return *body* with null in place of everything that is nested deeper than *MAX_DEPTH*.

    null is a value of no setting type, so that the rule it belongs to is rejected alone, like any rule
    with a wrong value.

    Raises:
        InvalidResponseError: too much of it is nested too deeply; the message begins with *what*.
    """
    try:
        return cut_at_depth(body, MAX_DEPTH)
    except TooManyDeepParts as error:
        raise InvalidResponseError(f"{what}: {error}") from error


def split(
    text: bytes | Undecoded, type_: type[S], what: str, dec_hook: Callable[..., Any] | None = None
) -> S:
    """Decode *text* as *type_*, whose fields are `Undecoded`.

    Args:
        text: one JSON text, which is `bounded`.
        type_: the type to decode to.
        what: the subject of an error message, such as "the list of settings".
        dec_hook: makes values of types that msgspec does not know. A ValueError of it is an error of
            the text.

    Raises:
        InvalidResponseError: it is not JSON, or not JSON of this type.
    """
    try:
        return msgspec.json.decode(text, type=type_, dec_hook=dec_hook)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidResponseError(f"{what}: {error}") from error


def decode(text: bytes | Undecoded, type_: type[S], what: str, limit: int = _MAX_PART_BYTES) -> S:
    """Decode *text* as *type_*, in one call.

    Args:
        text: one JSON text, which is `bounded`.
        type_: the type to decode to.
        what: the subject of an error message, such as "the list of settings".
        limit: the bytes that it may have.

    Raises:
        InvalidResponseError: it is too large or has too many values; it is not JSON, or not JSON of this
            type.
    """
    if len(text) > limit:
        raise InvalidResponseError(f"{what} has {len(text)} bytes; at most {limit} are read")
    if len(text) > _MAX_PART_VALUES and count_values(bytes(text)) > _MAX_PART_VALUES:
        raise InvalidResponseError(
            f"{what} has too many values: at most {_MAX_PART_VALUES} are read"
        )
    return split(text, type_, what)


def decode_body(body: bytes, type_: type[S], what: str, limit: int = _MAX_PART_BYTES) -> S:
    """Decode a whole body, in one call: see `bounded` and `decode`."""
    if len(body) <= limit:
        body = bounded(body, what)
    return decode(body, type_, what, limit)


# Where an object seems to end and another one to begin.
_find_end = re.compile(rb"\}[ \t\r\n]*(?=,[ \t\r\n]*\{)").search
# Search so many bytes at a time. An end that is missed between two searches only makes a batch longer.
_SEARCHED_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Batch(Generic[S]):
    """Some objects of a list.

    Attributes:
        objects: those that can be decoded.
        problems: one text for each that cannot, up to a limit for the whole list.
        unreadable: how many cannot be decoded.
    """

    objects: Sequence[S]
    problems: Sequence[str] = ()
    unreadable: int = 0


def decode_objects(
    array: Undecoded, type_: type[S], what: str, each: str, limit: int = MAX_PROBLEMS
) -> Iterator[Batch[S]]:
    """Decode a list of objects, a batch at a time, so that other threads get their turns in between.

    The problem: only decoding shows where an object ends. If msgspec splits the list, that holds the lock
    and takes memory in proportion to the number of elements, which may be millions of zeros.

    The solution: a batch ends where an object seems to end and another one to begin, at ``},{``. If that
    is within a string or an object, quotes or brackets are left open, and the batch is no JSON. If a
    batch cannot be decoded, its objects are tried one by one, and what is no JSON is tried up to the next
    such place that makes it twice as long.

    Args:
        array: a JSON list, from a text that is `bounded`.
        type_: the type of each object.
        what: the list's name in an error message, such as "the rules".
        each: the name of an object in a problem, such as "the rule".
        limit: report at most this many problems individually.

    Raises:
        InvalidResponseError: it is not a list; or, from the iterator, very many cannot be decoded.
    """
    text = bytes(array)
    if not text.startswith(b"["):
        raise InvalidResponseError(f"{what}: expected a list, found {excerpt(text, 100)}")
    return _batches(text, type_, each, limit)


def _batches(text: bytes, type_: type[S], what: str, room: int) -> Iterator[Batch[S]]:
    begin, last = 1, len(text) - 1
    if not text[begin:last].strip():
        return
    unreadable = 0
    while begin <= last:
        end = _end_of_objects(text, begin + _BATCH_BYTES, last)
        try:
            objects = decode(b"[%b]" % text[begin:end], list[type_], what)  # type: ignore[valid-type]
            batch = Batch(objects)
        except InvalidResponseError:
            batch, end = _one_by_one(text, begin, end, type_, what, room)
            room -= len(batch.problems)
            unreadable += batch.unreadable
            if unreadable > _MAX_UNREADABLE:
                raise InvalidResponseError(
                    f"more than {_MAX_UNREADABLE} parts of a list cannot be read ({what})"
                ) from None
        yield batch
        begin = end + 1


def _end_of_objects(text: bytes, start: int, last: int) -> int:
    """Return where an object seems to end, at *start* or later, or else *last*."""
    for at in range(start, last, _SEARCHED_BYTES):
        found = _find_end(text, at, at + _SEARCHED_BYTES)
        if found is not None:
            return found.end()
    return last


def _one_by_one(
    text: bytes, begin: int, until: int, type_: type[S], what: str, room: int
) -> tuple[Batch[S], int]:
    """Decode the objects that begin between *begin* and *until*.

    Args:
        text: the list.
        begin: where the first one begins.
        until: where the last one may begin.
        type_: the type of each.
        what: the name of one in a problem.
        room: how many problems to report.

    Returns:
        the objects, and where the last one ends.
    """
    last = len(text) - 1
    end = begin
    objects: list[S] = []
    problems: list[str] = []
    unreadable = 0
    while begin < until:
        end = _end_of_objects(text, begin, last)
        while end < last and not _is_json(text[begin:end]):
            end = _end_of_objects(text, 2 * end - begin, last)
        parts: list[Any] = [text[begin:end]]
        with suppress(InvalidResponseError):
            # Mostly it is one, but there may be something else before it.
            parts = decode(b"[%b]" % text[begin:end], list[Undecoded], what)
        for part in parts:
            try:
                objects.append(decode(part, type_, what))
            except InvalidResponseError as error:
                unreadable += 1
                if len(problems) < room:
                    problems.append(f"{error}: {excerpt(bytes(memoryview(part)[:200]), 200)}")
        begin = end + 1
    return Batch(objects, problems, unreadable), end


def _is_json(elements: bytes) -> bool:
    """Whether these are whole elements of a list."""
    try:
        split(b"[%b]" % elements, Undecoded, "")
    except InvalidResponseError:
        return False
    return True
