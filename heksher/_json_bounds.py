"""How deeply a JSON text nests and how many values it has, known before any parser sees it.

Pure; knows nothing else of this package.

The problem: parsers of JSON call themselves for each level. How deep a text may be then depends on the
thread's stack, on the interpreter's version and on its limit of recursion. msgspec needs up to 430 bytes
of stack for a level, so that a text of 2 KB ends the process in a thread with a stack of 256 KiB, where
the interpreter's own limit comes too late.

The solution is a scan by calls that run in C, a slice of the text at a time, so that other threads get
their turns. In each slice

1. escaped backslashes and quotes are removed, so that each quote left begins or ends a string,
2. everything but quotes and brackets is deleted,
3. if all quotes come in adjacent pairs, no string contains a bracket, and the quotes are deleted. If not,
   what is between quotes is. To remove a pair of adjacent quotes first, be it a whole string or the end
   of one and the beginning of the next, moves no bracket into a string or out of it,
4. pairs of brackets are removed, the innermost first, as often as it takes.

It is left with the brackets that close what an earlier slice opened, and those that a later one closes.
These and the number of rounds bound the depth from above. Only in a slice where the bound is too high, or
where there would be many rounds, is each bracket looked at.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

# The bytes of a slice. A call for one takes less than a millisecond.
_SLICE = 64 * 1024
# Rounds of removing pairs of brackets. Few values nest deeper, and then a look at each bracket is faster.
_MAX_ROUNDS = 16
# Both kinds of brackets count alike. Where they do not match, the text is no JSON, and its parser stops
# there.
_SAME_KIND = bytes.maketrans(b"{}", b"[]")
_ALL_BUT_BRACKETS = bytes(set(range(256)).difference(b'"[]{}'))
_ALL_BUT_BEGINNINGS = bytes(set(range(256)).difference(b'",[{'))
# Strings are tokens too, since they may contain brackets: an escaped character, or a quote.
_tokens = re.compile(rb'\\.|"|[\[{]+|[\]}]+', re.DOTALL).finditer


class TooManyDeepParts(ValueError):
    """A text has so many parts that nest too deeply that cutting them would take long."""


# Each costs some time and memory, and an honest service sends none.
_MAX_CUTS = 10_000


def cut_at_depth(text: bytes, depth: int) -> bytes:
    """Return *text* with null in place of every list and object that more than *depth* others contain.

    A text that does not nest so deeply is returned as it is. It need not be JSON: if it is not, neither
    is the result.

    Args:
        text: in UTF-8, or another encoding that extends ASCII in the same way.
        depth: how many lists and objects may be nested.

    Raises:
        TooManyDeepParts: the text has more than 10,000 of them.
    """
    kept: list[bytes] = []
    # Where the next part to keep begins; the lists and objects that are open; whether a string is.
    begin = level = 0
    in_string = False
    for start, end in _slices(text):
        closing, opening, rounds, ends_in_string = _outline(text[start:end], in_string)
        lowest, highest = level - closing, max(level, level - closing + opening) + rounds
        if rounds <= _MAX_ROUNDS and (highest <= depth or lowest > depth):
            level += opening - closing
            in_string = ends_in_string
            continue
        for token in _tokens(text, start, end):
            sign = token[0]
            if sign == b'"':
                in_string = not in_string
            elif in_string or sign[0] == 92:  # a backslash
                pass
            elif sign[0] in b"[{":
                if level <= depth < level + len(sign):
                    kept += (text[begin : token.start() + depth - level], b"null")
                level += len(sign)
            else:
                if level > depth >= level - len(sign):
                    begin = token.start() + level - depth
                level -= len(sign)
        if len(kept) > 2 * _MAX_CUTS:
            raise TooManyDeepParts(f"more than {_MAX_CUTS} parts nest deeper than {depth} levels")
    if not kept:
        return text
    if level <= depth:
        kept.append(text[begin:])
    return b"".join(kept)


def _slices(text: bytes) -> Iterator[tuple[int, int]]:
    """Yield where slices of *text* begin and end. No end separates a backslash from what it escapes."""
    start = 0
    while start < len(text):
        end = min(start + _SLICE, len(text))
        piece = text[start:end]
        if end < len(text) and (len(piece) - len(piece.rstrip(b"\\"))) % 2:
            end += 1 if end - start == 1 else -1
        yield start, end
        start = end


def _outline(piece: bytes, in_string: bool) -> tuple[int, int, int, bool]:
    """Return how the brackets of a slice that are outside of strings nest.

    Args:
        piece: the slice.
        in_string: whether it begins inside a string.

    Returns:
        how many brackets close what is open before; how many stay open; how many levels the others have;
        whether the slice ends inside a string. If there are more levels than *_MAX_ROUNDS*, the first two
        mean nothing.
    """
    marks, ends_in_string = _outside_strings(piece, _ALL_BUT_BRACKETS, in_string)
    rounds = 0
    while rounds <= _MAX_ROUNDS and b"[]" in marks:
        marks = marks.replace(b"[]", b"")
        rounds += 1
    closing = marks.count(b"]")
    return closing, len(marks) - closing, rounds, ends_in_string


def count_values(text: bytes) -> int:
    """Return a number that the values in a JSON text, those inside of others included, do not exceed."""
    values = 1
    in_string = False
    for start, end in _slices(text):
        marks, in_string = _outside_strings(text[start:end], _ALL_BUT_BEGINNINGS, in_string)
        values += len(marks)
    return values


def _outside_strings(piece: bytes, dropped: bytes, in_string: bool) -> tuple[bytes, bool]:
    """Return a slice without its strings and without the bytes *dropped*.

    Args:
        piece: the slice.
        dropped: no quotes.
        in_string: whether it begins inside a string.

    Returns:
        what is left, and whether the slice ends inside a string.
    """
    if b"\\" in piece:
        piece = piece.replace(b"\\\\", b"").replace(b'\\"', b"")
    marks = piece.translate(_SAME_KIND, dropped)
    if not in_string and 2 * marks.count(b'""') == marks.count(b'"'):
        return marks.translate(None, b'"'), False
    parts = marks.replace(b'""', b"").split(b'"')
    return b"".join(parts[in_string::2]), in_string ^ (len(parts) % 2 == 0)
