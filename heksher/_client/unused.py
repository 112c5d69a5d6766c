"""What of the service's answers is not used, or only in part: counted in full, listed up to a bound.

A service may send a million rules that cannot be used. Each would be kept for the status, and shown by
every page that shows it. Pure data; knows neither settings nor answers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice, zip_longest
from operator import itemgetter
from typing import Any, Generic, TypeVar, cast

R = TypeVar("R")

# List at most this many rules: of one setting in what a client keeps, and of all settings in its status.
MAX_LISTED = 100


class Listed(tuple[R, ...], Generic[R]):
    """The first of many rules.

    Attributes:
        total: how many there are.
    """

    total: int

    def __new__(cls, rules: Iterable[R] = (), total: int = 0) -> Listed[R]:
        """Return *rules* as the first of *total*, or as all if there are no more."""
        listed = super().__new__(cls, rules)
        listed.total = max(total, len(listed))
        return listed


def first_of(groups: Sequence[Listed[R]], limit: int = MAX_LISTED) -> Listed[R]:
    """Return the first rules of all *groups*, one of each in turn, so that none hides the others.

    They keep their order: those of the first group come first.
    """
    rows = cast("Iterable[tuple[Any, ...]]", zip_longest(*groups))
    in_turn = (each for row in rows for each in enumerate(row) if each[1] is not None)
    taken = sorted(islice(in_turn, limit), key=itemgetter(0))
    return Listed((rule for _, rule in taken), sum(group.total for group in groups))
