"""The mini-languages of the query string: which rules a query wants, which conditions a search.

Pure. Reads what the grammar says, whatever the features are called.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from heksher._names import is_condition_value, is_feature_name, is_setting_name

# item = feature ":" ( "*" | "(" value *("," value) ")" ), matched one after another.
_ITEM = re.compile(r"([A-Za-z0-9_]+):(?:(\*)|\(([A-Za-z0-9_]+(?:,[A-Za-z0-9_]+)*)\))")


class MalformedParameter(ValueError):
    """A parameter does not follow its grammar."""


class RepeatedFeature(ValueError):
    """A filter names a feature twice; ``feature`` is its name."""

    def __init__(self, feature: str) -> None:
        super().__init__(f"context_filters: the feature {feature} is given twice")
        self.feature = feature


@dataclass(frozen=True, slots=True)
class Item:
    """One item of a filter: a feature and its values, None being all."""

    feature: str
    values: frozenset[str] | None


@dataclass(frozen=True, slots=True)
class Filter:
    """Which rules pass: those whose every condition is on a listed feature, with a listed value.

    ``listed`` has None where every value passes, and is itself None where every rule passes.
    """

    listed: Mapping[str, frozenset[str] | None] | None

    @classmethod
    def of(cls, items: Sequence[Item] | None) -> Filter:
        """The filter of these items, None being all rules.

        Raises:
            RepeatedFeature: two items are on one feature.
        """
        if items is None:
            return cls(None)
        listed: dict[str, frozenset[str] | None] = {}
        for item in items:
            if item.feature in listed:
                raise RepeatedFeature(item.feature)
            listed[item.feature] = item.values
        return cls(listed)

    def passes(self, conditions: Iterable[tuple[str, str]]) -> bool:
        """Whether a rule with these conditions passes. One without any always does."""
        if self.listed is None:
            return True
        for feature, value in conditions:
            values = self.listed.get(feature, frozenset())
            if values is not None and value not in values:
                return False
        return True


def parse_filters(text: str) -> list[Item] | None:
    """Read the parameter ``context_filters``; None for ``*``, which lets every rule pass.

    Raises:
        MalformedParameter: *text* does not follow the grammar.
    """
    if text == "*":
        return None
    items: list[Item] = []
    position = 0
    while position < len(text):
        match = _ITEM.match(text, position)
        if match is None:
            raise MalformedParameter("context_filters: feature:* or feature:(value,value) wanted")
        feature, everything, values = match.groups()
        items.append(Item(feature, None if everything else frozenset(values.split(","))))
        position = match.end()
        if position < len(text):
            if text[position] != "," or position + 1 == len(text):
                raise MalformedParameter("context_filters: a single comma wanted between items")
            position += 1
    return items


def parse_setting_names(text: str) -> list[str]:
    """Read the parameter ``settings``: names joined by commas; an empty text is no names.

    Raises:
        MalformedParameter: something in it is no name.
    """
    if not text:
        return []
    names = text.split(",")
    for name in names:
        if not is_setting_name(name):
            raise MalformedParameter(f"settings: {name!r} is no name of a setting")
    return names


def parse_conditions(text: str) -> dict[str, str]:
    """Read a search's ``feature_values``: ``feature:value`` joined by commas, at least one.

    The last value of a repeated feature counts.

    Raises:
        MalformedParameter: *text* does not follow the grammar.
    """
    conditions: dict[str, str] = {}
    for item in text.split(","):
        feature, _, value = item.partition(":")
        if not (is_feature_name(feature) and is_condition_value(value)):
            raise MalformedParameter(f"feature_values: {item!r} is not like feature:value")
        conditions[feature] = value
    return conditions
