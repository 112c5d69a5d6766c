"""How values, names and numbers are shown in messages and logs.

Much of it was written by strangers: a service, which may be hostile, and objects whose ``repr`` or ``str``
may be broken. The result is bounded and harmless in any case. Pure; knows nothing else of this package.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from reprlib import Repr
from typing import Any

# Name at most this many things in a line.
_MAX_NAMED = 20


def one_line(text: str, limit: int = 500) -> str:
    """Return the beginning of *text* as one line that does no harm to a log or a terminal."""
    line = text[:limit]
    if not line.isprintable():
        line = _printable(" ".join(line.split()))
    return line if len(text) <= limit else f"{line}…"


def excerpt(body: bytes, limit: int) -> str:
    """Return the beginning of *body* as `one_line` of text."""
    return one_line(body[:limit].decode("utf-8", "replace"), limit)


def shown(value: object, limit: int = 200) -> str:
    """Return the ``repr`` of *value*, of at most *limit* characters, whatever *value* is."""
    try:
        text = _BoundedRepr(limit).repr(value)
    except KeyboardInterrupt:
        raise
    except BaseException:  # a broken object, or an integer with too many digits for Python to print
        return f"<{type(value).__name__} that cannot be shown>"
    return _printable(text if len(text) <= limit else f"{text[: limit - 1]}…")


def named(error: BaseException) -> str:
    """Return the class and the text of *error*."""
    text = error_text(error)
    return f"{type(error).__name__}{': ' if text else ''}{text}"


def error_text(error: BaseException) -> str:
    """Return the text of *error*, as UTF-8 can encode it, even if its class fails to make one."""
    try:
        return encodable(str(error))
    except KeyboardInterrupt:
        raise
    except BaseException:
        return "an error that cannot be shown"


def encodable(text: str) -> str:
    """Return *text* with escapes in place of surrogates: Python's stand-ins for bytes that are not UTF-8.

    Such bytes are in paths. No log file or page in UTF-8 can hold a surrogate.
    """
    return text.encode("utf-8", "backslashreplace").decode()


def counted(number: float, noun: str) -> str:
    """Return "1 failure" or "2 failures"."""
    digits = f"{number:g}" if isinstance(number, float) else str(number)
    return f"{digits} {noun}{'' if number == 1 else 's'}"


def joined(words: Iterable[str], conjunction: str = "and") -> str:
    """Return "a", "a and b", or "a, b and c"; without words, an empty text."""
    *first, last = [*words] or [""]
    return f"{', '.join(first)} {conjunction} {last}" if first else last


def some(words: Sequence[str], conjunction: str = "and") -> str:
    """Return *words* as `joined`, and of many the first ones and how many more there are."""
    more = len(words) - _MAX_NAMED
    named_ones = words if more <= 0 else (*words[:_MAX_NAMED], f"{more} more")
    return joined(named_ones, conjunction)


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else "\ufffd" for character in text)


class _BoundedRepr(Repr):
    """`repr` whose work is bounded as well as its result.

    Limits on depth and length alone are not enough: a hundred lists in a hundred lists, ten levels
    deep, stay within both. Each part takes at least one character of the result, so once there were
    as many parts as there is room for characters, no further part would be seen.
    """

    def __init__(self, limit: int) -> None:
        super().__init__()
        self.maxlevel = 10
        self.maxlist = self.maxtuple = self.maxdict = 100
        self.maxstring = self.maxlong = self.maxother = limit * 3 // 4
        self._parts_left = limit

    def repr1(self, x: Any, level: int) -> str:
        self._parts_left -= 1
        return super().repr1(x, level) if self._parts_left >= 0 else "..."

    def repr_dict(self, x: dict[Any, Any], level: int) -> str:
        # Not all of it, since it is sorted first, and no other thread runs during that.
        return super().repr_dict(dict(islice(x.items(), self.maxdict + 1)), level)


def width_of(text: str) -> int:
    """Return how many columns of a terminal *text* takes, at most."""
    from unicodedata import east_asian_width  # not with each import of this package

    return len(text) + sum([east_asian_width(each) in "WF" for each in text])


def fitted(text: str, columns: int) -> str:
    """Return *text*, or its beginning and "…" if it takes more columns of a terminal than these."""
    if width_of(text) <= columns:
        return text
    while width_of(text) >= columns:
        # Each character takes two columns at most, so nothing is cut off that has room.
        text = text[: -max(1, (width_of(text) - columns) // 2)]
    return f"{text}…"


def aligned(rows: Sequence[Sequence[str]], most: Sequence[int]) -> list[str]:
    """Return *rows* as lines of aligned cells.

    Args:
        rows: the cells of each row.
        most: the most columns for each cell but the last, which may take any.
    """
    lines = [""] * len(rows)
    for number, limit in enumerate(most):
        cells = [fitted(row[number], limit) for row in rows]
        width = max(map(width_of, cells), default=0)
        for place, cell in enumerate(cells):
            lines[place] += cell + " " * (width - width_of(cell) + 2)
    return [line + row[-1] for line, row in zip(lines, rows, strict=True)]
