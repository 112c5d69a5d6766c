"""Which contexts a client tracks, so that other rules need not be fetched.

Pure, and immutable: a change makes a new object, which is then published by one assignment.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from heksher.exceptions import ContradictingArgumentError, InvalidArgumentError

#: ``track_contexts(user=TRACK_ALL)`` tracks every value of the feature. No rule can ask for this value.
TRACK_ALL: Final = "*"


class Tracking:
    """Which contexts the application will ask for, so that other rules need not be fetched.

    Nothing tracked at all means everything. As soon as one feature is tracked, rules with a
    condition on another feature, or on a value that is not tracked, are left out.
    """

    __slots__ = ("_values",)

    def __init__(self, values: Mapping[str, frozenset[str] | None] | None = None) -> None:
        # None as the values of a feature: all of them.
        self._values = dict(values or {})

    def adding(self, contexts: Mapping[str, str | Iterable[str]]) -> Tracking:
        """Return what is tracked once *contexts* are tracked as well.

        Args:
            contexts: by feature: one value, several, or `TRACK_ALL`.

        Raises:
            ContradictingArgumentError: all and single values of a feature are asked for.
            InvalidArgumentError: a value is no string.
        """
        values = dict(self._values)
        for feature, given in contexts.items():
            wanted = _tracked_values(feature, given)
            if feature in values:
                present = values[feature]
                if (present is None) != (wanted is None):
                    raise ContradictingArgumentError(
                        f"the context feature {feature!r} is tracked with "
                        f"{'all values' if present is None else 'single values'} already; "
                        "track either TRACK_ALL or single values, not both"
                    )
                if present is not None and wanted is not None:
                    wanted |= present
            values[feature] = wanted
        return Tracking(values)

    def values_of(self, feature: str) -> frozenset[str] | None:
        """Return the values of *feature* that are tracked; None: all of them."""
        return self._values.get(feature, frozenset()) if self._values else None

    def covers(self, feature: str, value: str) -> bool:
        """Whether contexts in which *feature* has *value* are tracked."""
        values = self.values_of(feature)
        return values is None or value in values

    def admits(self, conditions: Iterable[tuple[str, str]]) -> bool:
        """Whether a rule with these conditions can match a tracked context."""
        return all(self.covers(feature, value) for feature, value in conditions)

    def includes(self, other: Tracking) -> bool:
        """Whether every context that *other* tracks is tracked."""
        if not self._values or not other._values:
            return not self._values
        for feature, wanted in other._values.items():
            values = self._values.get(feature, frozenset())
            if values is not None and (wanted is None or not wanted <= values):
                return False
        return True

    def as_lists(self) -> dict[str, list[str] | None]:
        """Return the values by feature, None for all of them; nothing, if everything is tracked."""
        return {
            feature: None if values is None else sorted(values)
            for feature, values in sorted(self._values.items())
        }


def _tracked_values(feature: str, given: str | Iterable[str]) -> frozenset[str] | None:
    if isinstance(given, str):
        return None if given == TRACK_ALL else frozenset((given,))
    if not isinstance(given, Iterable):
        raise InvalidArgumentError(
            f"track_contexts({feature}={given!r}): a string, several strings or TRACK_ALL is wanted"
        )
    values = list(given)
    for value in values:
        if not isinstance(value, str):
            raise InvalidArgumentError(
                f"track_contexts({feature}=...): the value {value!r} is no string"
            )
    if TRACK_ALL in values:
        return None
    return frozenset(values)
