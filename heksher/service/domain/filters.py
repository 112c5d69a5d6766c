"""Parsers for the query string: a query's filters and setting names, a search's conditions.

Pure. Only the grammar counts, not which features exist.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from heksher._names import (
    SETTING_NAME_RULE,
    is_condition_value,
    is_feature_name,
    is_setting_name,
)

# item = feature ":" ( "*" | "(" value *("," value) ")" ); items are matched one by one.
_ITEM = re.compile(r"([A-Za-z0-9_]+):(?:(\*)|\(([A-Za-z0-9_]+(?:,[A-Za-z0-9_]+)*)\))")


class MalformedParameter(ValueError):
    """A query parameter does not follow its grammar."""


class RepeatedFeature(ValueError):
    """A filter names a feature twice. ``feature`` is its name."""

    def __init__(self, feature: str) -> None:
        super().__init__(f"context_filters: duplicate feature {feature}")
        self.feature = feature


@dataclass(frozen=True, slots=True)
class Item:
    """One item of a filter: a feature and the values that pass. None means all values."""

    feature: str
    values: frozenset[str] | None


@dataclass(frozen=True, slots=True)
class Filter:
    """Select rules: a rule passes if each of its conditions has a listed feature and value.

    Attributes:
        listed: the values that pass, by feature. None as the values of a feature means all values.
            None instead of the mapping means that every rule passes.
    """

    listed: Mapping[str, frozenset[str] | None] | None

    @classmethod
    def of(cls, items: Sequence[Item] | None) -> Filter:
        """Make a filter of these items. None lets all rules pass.

        Raises:
            RepeatedFeature: two items name the same feature.
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
        """Whether a rule with these conditions passes. A rule without conditions always passes."""
        if self.listed is None:
            return True
        for feature, value in conditions:
            values = self.listed.get(feature, frozenset())
            if values is not None and value not in values:
                return False
        return True


def parse_filters(text: str) -> list[Item] | None:
    """Parse the parameter ``context_filters``. ``*`` gives None, which lets all rules pass.

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
            raise MalformedParameter("context_filters: expected feature:* or feature:(value,value)")
        feature, everything, values = match.groups()
        items.append(Item(feature, None if everything else frozenset(values.split(","))))
        position = match.end()
        if position < len(text):
            if text[position] != "," or position + 1 == len(text):
                raise MalformedParameter("context_filters: expected a single comma between items")
            position += 1
    return items


def parse_setting_names(text: str) -> list[str]:
    """Parse the parameter ``settings``: names joined by commas. An empty text means no names.

    Raises:
        MalformedParameter: a part of it is not a valid name.
    """
    if not text:
        return []
    names = text.split(",")
    for name in names:
        if not is_setting_name(name):
            raise MalformedParameter(
                f"settings: invalid name {name!r}: expected {SETTING_NAME_RULE}"
            )
    return names


def parse_conditions(text: str) -> dict[str, str]:
    """Parse a search's ``feature_values``: ``feature:value`` joined by commas, at least one.

    If a feature is repeated, its last value counts.

    Raises:
        MalformedParameter: *text* does not follow the grammar.
    """
    conditions: dict[str, str] = {}
    for item in text.split(","):
        feature, _, value = item.partition(":")
        if not (is_feature_name(feature) and is_condition_value(value)):
            raise MalformedParameter(
                f"feature_values: invalid condition {item!r}: expected feature:value"
            )
        conditions[feature] = value
    return conditions
