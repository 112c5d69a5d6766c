"""The ordered list of context features: how it is merged at start and how one feature moves.

Pure: lists of names in, a new list out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from heksher._names import WORD_RULE, is_feature_name
from heksher.service.domain.errors import CannotStartError


def merged(stored: Sequence[str], wanted: Sequence[str]) -> list[str]:
    """The list to go on with: *wanted*, provided that it keeps *stored* in its order.

    Nothing wanted leaves the list as it is.

    Raises:
        CannotStartError: a name that the protocol does not allow, one given twice, or a stored
            feature that is missing or stands elsewhere.
    """
    for name in wanted:
        if not is_feature_name(name):
            raise CannotStartError(
                f"{name!r} cannot name a context feature: allowed are {WORD_RULE}"
            )
    if len(set(wanted)) < len(wanted):
        raise CannotStartError(f"a context feature is given twice in {','.join(wanted)}")
    if not wanted:
        return list(stored)
    if not _is_subsequence(stored, wanted):
        raise CannotStartError(
            f"the database has the context features {','.join(stored)}; "
            f"{','.join(wanted)} must name all of them, in that order, and may add others"
        )
    return list(wanted)


def _is_subsequence(part: Iterable[str], whole: Iterable[str]) -> bool:
    rest = iter(whole)
    return all(item in rest for item in part)


def moved(features: Sequence[str], name: str, anchor: str, *, after: bool) -> list[str]:
    """*features* with *name* directly after or before *anchor*; both are in it."""
    if name == anchor:
        return list(features)
    rest = [feature for feature in features if feature != name]
    at = rest.index(anchor) + after
    return [*rest[:at], name, *rest[at:]]
