"""The ordered list of context features: merging it at startup, moving one feature.

Pure: takes lists of names, returns a new list.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from heksher._names import WORD_RULE, is_feature_name
from heksher.service.domain.errors import CannotStartError


def merged(stored: Sequence[str], wanted: Sequence[str]) -> list[str]:
    """Return the list to continue with: *wanted*, which must contain *stored* in the same order.

    If *wanted* is empty, the stored list stays.

    Raises:
        CannotStartError: the protocol does not allow a name, a name is given twice, or a stored
            feature is missing from *wanted* or in another position.
    """
    for name in wanted:
        if not is_feature_name(name):
            raise CannotStartError(f"invalid context feature {name!r}: expected {WORD_RULE}")
    if len(set(wanted)) < len(wanted):
        raise CannotStartError(
            f"duplicate context feature in {','.join(wanted)}: name each one once"
        )
    if not wanted:
        return list(stored)
    if not _is_subsequence(stored, wanted):
        raise CannotStartError(
            f"context features {','.join(wanted)} do not match the database, which has "
            f"{','.join(stored)}: name all of these in the same order; others may be added"
        )
    return list(wanted)


def _is_subsequence(part: Iterable[str], whole: Iterable[str]) -> bool:
    rest = iter(whole)
    return all(item in rest for item in part)


def moved(features: Sequence[str], name: str, anchor: str, *, after: bool) -> list[str]:
    """Return *features* with *name* moved directly after or before *anchor*; both must be in it."""
    if name == anchor:
        return list(features)
    rest = [feature for feature in features if feature != name]
    at = rest.index(anchor) + after
    return [*rest[:at], name, *rest[at:]]
