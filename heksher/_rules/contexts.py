"""Context features: their names, and their values in calls that leave them out.

Pure. Knows neither rules nor the client that sets the defaults.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from typing import Final, cast

from heksher._names import WORD_RULE, is_feature_name
from heksher.exceptions import ContradictingArgumentError, InvalidArgumentError


class Missing:
    """The type of `MISSING`."""

    def __repr__(self) -> str:
        return "MISSING"


#: Stands for an argument or a value that was not given, where None may be one.
MISSING: Final = Missing()


class Defaults:
    """The values of context features that a call of ``get()`` leaves out. Never changed, only replaced.

    Each is a constant, or a context variable that is read at every call.
    """

    __slots__ = ("_sources",)

    def __init__(self, sources: Mapping[str, str | ContextVar[str]] | None = None) -> None:
        self._sources = dict(sources or {})

    def adding(self, sources: Mapping[str, str | ContextVar[str]]) -> Defaults:
        """Return a copy that has *sources* as well.

        Raises:
            ContradictingArgumentError: a feature already has a default.
            InvalidArgumentError: a source is neither a string nor a context variable.
        """
        for feature, source in sources.items():
            if feature in self._sources:
                raise ContradictingArgumentError(
                    f"the context feature {feature!r} already has the default "
                    f"{self._sources[feature]!r}; it cannot get a second one, {source!r}"
                )
            if not isinstance(source, (str, ContextVar)):
                raise InvalidArgumentError(
                    f"invalid default {source!r} of the context feature {feature!r}: "
                    "expected a string or a contextvars.ContextVar"
                )
        return Defaults({**self._sources, **sources})

    def source_of(self, feature: str) -> str | ContextVar[str] | None:
        """Return the constant or the context variable for *feature*, or None."""
        return self._sources.get(feature)

    def value_of(self, feature: str) -> object:
        """Return the current value of *feature*, or `MISSING`."""
        source = self._sources.get(feature, MISSING)
        if not isinstance(source, ContextVar):
            return source
        try:
            # Not get(MISSING), which would hide the default that the variable itself may have.
            return source.get()
        except LookupError:
            return MISSING

    def constants(self) -> dict[str, str]:
        """Return the constant defaults, by feature."""
        return {
            feature: source for feature, source in self._sources.items() if isinstance(source, str)
        }


def checked_features(features: object, *, at_least: int = 1) -> tuple[str, ...]:
    """Check an application's list of context features, and return it as a tuple.

    Raises:
        InvalidArgumentError: it is a single string or no list at all, it has too few features or one
            twice, or one is not a string that can name a feature.
    """
    if isinstance(features, str):
        raise InvalidArgumentError(
            f"invalid context features {features!r}: expected a list of names, such as [{features!r}]"
        )
    if not isinstance(features, Iterable):
        raise InvalidArgumentError(
            f"invalid context features {features!r}: expected a list of names"
        )
    checked: list[str] = []
    for feature in cast(Iterable[object], features):
        if not isinstance(feature, str):
            raise InvalidArgumentError(
                f"invalid context feature {feature!r} of type {type(feature).__name__}: "
                "expected a string"
            )
        if not is_feature_name(feature):
            raise InvalidArgumentError(f"invalid context feature {feature!r}: expected {WORD_RULE}")
        if feature in checked:
            raise InvalidArgumentError(f"the context feature {feature!r} is given twice")
        checked.append(feature)
    if len(checked) < at_least:
        raise InvalidArgumentError("no context features: expected at least one")
    return tuple(checked)
