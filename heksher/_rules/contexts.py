"""What a client knows of the context: values that features have by default, and what it tracks.

Pure, and immutable: a change makes a new object, which is then published by one assignment.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from typing import Final, cast

from heksher._names import WORD_RULE, is_condition_value, is_feature_name
from heksher.exceptions import ContradictingArgumentError, InvalidArgumentError

#: ``track_contexts(user=TRACK_ALL)`` tracks every value of the feature. No rule can ask for this value.
TRACK_ALL: Final = "*"


class Missing:
    """The type of `MISSING`, which stands for "there is no value"."""

    def __repr__(self) -> str:
        return "MISSING"


MISSING: Final = Missing()


class Defaults:
    """The value of each context feature that a call of ``get()`` leaves out.

    A constant, or a context variable that is read at every call.
    """

    __slots__ = ("_sources",)

    def __init__(self, sources: Mapping[str, str | ContextVar[str]] | None = None) -> None:
        self._sources = dict(sources or {})

    def adding(self, sources: Mapping[str, str | ContextVar[str]]) -> Defaults:
        """Return these defaults and *sources* together.

        Raises:
            ContradictingArgumentError: a feature has a default already.
            InvalidArgumentError: a source is neither a string nor a context variable.
        """
        for feature, source in sources.items():
            if feature in self._sources:
                raise ContradictingArgumentError(
                    f"the context feature {feature!r} has the default {self._sources[feature]!r} "
                    f"already and cannot get a second one, {source!r}"
                )
            if not isinstance(source, (str, ContextVar)):
                raise InvalidArgumentError(
                    f"the default of the context feature {feature!r} is {source!r}; "
                    "a string or a contextvars.ContextVar is wanted"
                )
        return Defaults({**self._sources, **sources})

    def source_of(self, feature: str) -> str | ContextVar[str] | None:
        """Return where the value of *feature* comes from: a constant, a variable, or nowhere."""
        return self._sources.get(feature)

    def value_of(self, feature: str) -> object:
        """Return the value of *feature* at this moment, or `MISSING`."""
        source = self._sources.get(feature, MISSING)
        if not isinstance(source, ContextVar):
            return source
        try:
            # Not get(MISSING): that would hide the default that a variable has of its own.
            return source.get()
        except LookupError:
            return MISSING

    def constants(self) -> dict[str, str]:
        """Return the defaults that no call can see changing, by feature."""
        return {
            feature: source for feature, source in self._sources.items() if isinstance(source, str)
        }


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

    def query_filter(self) -> str | None:
        """Return what to send as the query's ``context_filters``, or None for no filter.

        None wherever the service might read the filter otherwise than we mean it: it takes a
        feature's name to be the lower-case letters before the colon, and refuses values that no
        rule can have. The answer is filtered here in any case, by `admits`.
        """
        if not self._values:
            return None
        parts: list[str] = []
        for feature, values in sorted(self._values.items()):
            if not (feature.isascii() and feature.isalpha() and feature.islower()):
                return None
            if values is None:
                parts.append(f"{feature}:*")
                continue
            usable = sorted(value for value in values if is_condition_value(value))
            if usable:  # a feature without any usable value excludes its rules by being left out
                parts.append(f"{feature}:({','.join(usable)})")
        return ",".join(parts)


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


def checked_features(features: object, *, at_least: int = 1) -> tuple[str, ...]:
    """Return the list of context features that an application gave, or say what is wrong with it.

    Raises:
        InvalidArgumentError: one string instead of a list, too few features, something that is no
            string or no name of a feature, or a name given twice.
    """
    if isinstance(features, str):
        raise InvalidArgumentError(
            f"the context features are one string, {features!r}; "
            f"a list of names is wanted, such as [{features!r}]"
        )
    if not isinstance(features, Iterable):
        raise InvalidArgumentError(
            f"the context features are {features!r}; a list of names is wanted"
        )
    checked: list[str] = []
    for feature in cast(Iterable[object], features):
        if not isinstance(feature, str):
            raise InvalidArgumentError(
                f"the context feature {feature!r} is of type {type(feature).__name__}; "
                "a string is wanted"
            )
        if not is_feature_name(feature):
            raise InvalidArgumentError(
                f"{feature!r} is no name of a context feature; it takes {WORD_RULE}"
            )
        if feature in checked:
            raise InvalidArgumentError(f"the context feature {feature!r} is given twice")
        checked.append(feature)
    if len(checked) < at_least:
        raise InvalidArgumentError("no context feature is given; at least one is needed")
    return tuple(checked)
