"""Which contexts a client tracks: rules for others need not be fetched.

Pure. Knows neither the client that tracks nor how a query says it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from heksher.exceptions import ContradictingArgumentError, InvalidArgumentError

#: ``track_contexts(user=TRACK_ALL)`` tracks every value of the feature. No condition can have this value.
TRACK_ALL: Final = "*"


class Tracking:
    """The contexts that the application will ask for. Never changed, only replaced.

    Without any tracked feature, everything is tracked. As soon as one feature is tracked, rules with a
    condition on another feature, or on a value that is not tracked, are left out.
    """

    __slots__ = ("_values",)

    def __init__(self, values: Mapping[str, frozenset[str] | None] | None = None) -> None:
        # None instead of values stands for all values.
        self._values = dict(values or {})

    def adding(self, contexts: Mapping[str, str | Iterable[str]]) -> Tracking:
        """Return a copy that tracks *contexts* as well.

        Args:
            contexts: for each feature one value, several values, or `TRACK_ALL`.

        Raises:
            ContradictingArgumentError: of one feature all values and single values are to be tracked.
            InvalidArgumentError: a value is not a string.
        """
        values = dict(self._values)
        for feature, given in contexts.items():
            wanted = _tracked_values(feature, given)
            if feature in values:
                present = values[feature]
                if (present is None) != (wanted is None):
                    raise ContradictingArgumentError(
                        f"the context feature {feature!r} is already tracked with "
                        f"{'all values' if present is None else 'single values'}: "
                        "track either TRACK_ALL or single values, not both"
                    )
                if present is not None and wanted is not None:
                    wanted |= present
            values[feature] = wanted
        return Tracking(values)

    def values_of(self, feature: str) -> frozenset[str] | None:
        """Return the tracked values of *feature*; None stands for all values."""
        return self._values.get(feature, frozenset()) if self._values else None

    def covers(self, feature: str, value: str) -> bool:
        """Whether contexts in which *feature* has *value* are tracked."""
        values = self.values_of(feature)
        return values is None or value in values

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
        """Return the tracked values by feature, None for all; empty if everything is tracked."""
        return {
            feature: None if values is None else sorted(values)
            for feature, values in sorted(self._values.items())
        }


def _tracked_values(feature: str, given: str | Iterable[str]) -> frozenset[str] | None:
    if isinstance(given, str):
        return None if given == TRACK_ALL else frozenset((given,))
    if not isinstance(given, Iterable):
        raise InvalidArgumentError(
            f"invalid track_contexts({feature}={given!r}): expected a string, several strings or TRACK_ALL"
        )
    values = list(given)
    for value in values:
        if not isinstance(value, str):
            raise InvalidArgumentError(
                f"invalid value {value!r} in track_contexts({feature}=...): expected a string"
            )
    if TRACK_ALL in values:
        return None
    return frozenset(values)
