"""Context features: their names, their values in calls that leave them out, and the check of all values.

Pure. Knows neither rules nor the client that sets the defaults.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from enum import Enum
from typing import Any, Final, TypeAlias, cast

from heksher._names import WORD_RULE, is_feature_name
from heksher._rules.cohorts import Cohort
from heksher.exceptions import (
    ContradictingArgumentError,
    FeatureTypeError,
    InvalidArgumentError,
    MissingFeatureError,
)


class Missing:
    """The type of `MISSING`."""

    def __repr__(self) -> str:
        return "MISSING"


#: Stands for an argument or a value that was not given, where None may be one.
MISSING: Final = Missing()

#: The default of a feature: a constant, a context variable that is read at every call, or a cohort that is
#: computed at every call from another feature.
Default: TypeAlias = str | ContextVar[str] | ContextVar[str | None] | Cohort

#: The value of each feature in one context.
Context: TypeAlias = Mapping[str, str | None]


def current_value(source: str | ContextVar[Any] | None) -> object:
    """Return the value that a constant or a context variable has now, or ``...`` if there is none."""
    if not isinstance(source, ContextVar):
        return source
    try:
        # Not get(...), which would hide the default that the variable itself may have.
        return source.get()
    except LookupError:
        return ...


def checked_value(
    setting: str, feature: str, value: object, cohort: str | None = None
) -> str | None:
    """Check a feature's value in a call of ``get()``, and return the string or None that rules see.

    After this check nothing can fail: looking for a plain string or None in a dict of strings calls no
    code of the application. So whether a call raises does not depend on the rules.

    Args:
        setting: the setting's name, for errors.
        feature: the feature's name, for errors.
        value: the argument, else the default, else ``...``.
        cohort: the feature that is computed from it, if the setting does not list *feature* itself.

    Raises:
        MissingFeatureError: there is no value.
        FeatureTypeError: the value is neither a string nor None.
    """
    if value is ...:
        raise MissingFeatureError(setting, feature, cohort)
    if value is None:
        return None
    if not isinstance(value, str):
        kind = type(value)
        raise FeatureTypeError(setting, feature, kind.__name__, _conversion(kind))
    return plain_string(value)


def _conversion(kind: type) -> str:
    """Return how to make a string of such a value. ``str()`` of some is not what rules are written for."""
    if issubclass(kind, Enum):
        return "(...).value"
    return "(...).decode()" if issubclass(kind, (bytes, bytearray)) else "str(...)"


def plain_string(text: str) -> str:
    """Return *text*, which is a string to ``isinstance``, as an object of the class `str` itself.

    A member of a string enumeration becomes its value, whatever its own ``__str__`` shows. A proxy, such
    as werkzeug's ``LocalProxy``, is of another class and becomes ``str(text)``.
    """
    return str.__str__(text if issubclass(type(text), str) else str(text))


class Defaults:
    """The values of context features that a call of ``get()`` leaves out. Never changed, only replaced.

    Each is a constant, a context variable that is read at every call, or a cohort.
    """

    __slots__ = ("_sources",)

    def __init__(self, sources: Mapping[str, Default] | None = None) -> None:
        self._sources = dict(sources or {})

    def adding(self, sources: Mapping[str, Default]) -> Defaults:
        """Return a copy that has *sources* as well.

        Raises:
            ContradictingArgumentError: a feature already has a default.
            InvalidArgumentError: a source is neither a string nor a context variable nor a cohort, or a
                cohort is to be computed from another one.
        """
        added: dict[str, Default] = {}
        for feature, source in sources.items():
            if feature in self._sources:
                raise ContradictingArgumentError(
                    f"the context feature {feature!r} already has the default "
                    f"{self._sources[feature]!r}; it cannot get a second one, {source!r}"
                )
            # Not isinstance(), to which a proxy is a string: its value of this moment is no constant.
            if not issubclass(type(source), (str, ContextVar, Cohort)):
                raise InvalidArgumentError(
                    f"invalid default {source!r} of type {type(source).__name__} of the context "
                    f"feature {feature!r}: expected a string, a contextvars.ContextVar or a heksher.Cohort"
                )
            if not isinstance(source, (ContextVar, Cohort)):
                source = plain_string(source)
            added[feature] = source
        sources_now = {**self._sources, **added}
        for feature, source in sources_now.items():
            if isinstance(source, Cohort) and isinstance(sources_now.get(source.source), Cohort):
                raise InvalidArgumentError(
                    f"the context feature {feature!r} cannot be computed from {source.source!r}, "
                    "which is a cohort itself: expected a feature of another kind"
                )
        return Defaults(sources_now)

    def source_of(self, feature: str) -> Default | None:
        """Return the constant, the context variable or the cohort for *feature*, or None."""
        return self._sources.get(feature)

    def known_values(self) -> dict[str, tuple[str, ...]]:
        """Return the values that constants and cohorts can have, besides None, by feature."""
        return {
            feature: (source,) if isinstance(source, str) else tuple(map(str, source.steps))
            for feature, source in self._sources.items()
            if not isinstance(source, ContextVar)
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
