"""What a call does not say of the context: the values that features have by default.

Pure, and immutable: a change makes a new object, which is then published by one assignment.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from typing import Final, cast

from heksher._names import WORD_RULE, is_feature_name
from heksher.exceptions import ContradictingArgumentError, InvalidArgumentError


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
