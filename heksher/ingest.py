"""From the service's words to a rule table: what one section of an answer means for one setting.

Pure: decides what is used and what is dropped, and says so; who calls it logs and publishes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from heksher.context import Tracking
from heksher.protocol import Section
from heksher.rules import Rule, RuleTable
from heksher.setting import Setting

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Ingested(Generic[T]):
    """A table to publish, and what was dropped on the way.

    Attributes:
        table: the new table.
        problems: one text for each rule or default value that cannot be used here.
    """

    table: RuleTable[T]
    problems: tuple[str, ...]


def ingest(
    setting: Setting[T], section: Section, features: Sequence[str], tracking: Tracking
) -> Ingested[T]:
    """Build the table of *setting*.

    Args:
        setting: gives types, and the default value before, for when the new one is unusable.
        section: what the service said.
        features: the context features in the service's order.
        tracking: rules outside of it are left out silently.
    """
    problems = list(section.problems)
    configurable, known = set(setting.configurable_features), set(features)
    rules: list[Rule[T]] = []
    for data in section.rules:
        if not tracking.admits(data.context_features):
            continue
        unusable = _unusable([name for name, _ in data.context_features], configurable, known)
        if unusable:
            problems.append(f"rule {data.rule_id}: {unusable}")
            continue
        try:
            value = setting.type.decode(data.value, [])
        except ValueError as error:
            problems.append(f"rule {data.rule_id}: {error}")
            continue
        rules.append(Rule(value, data.context_features, data.rule_id))
    try:
        default = setting.type.decode(section.default_value, [])
    except ValueError as error:
        problems.append(f"default value: {error}")
        default = setting.published.table.default
    return Ingested(RuleTable(default, tuple(rules), tuple(features)), tuple(problems))


def _unusable(conditions: list[str], configurable: set[str], known: set[str]) -> str | None:
    """Say why a rule with conditions on these features cannot be used, if it cannot."""
    for feature in conditions:
        if feature not in configurable:
            return f"{feature!r} is no configurable feature of the setting here"
        if feature not in known:
            return f"{feature!r} is not among the service's context features"
        if conditions.count(feature) > 1:
            return f"it has two conditions on {feature!r}"
    return None
