"""What the service keeps, as typed values: settings and rules as they are stored.

Pure data, shared by storage, declaration rules and routes. Values of settings and rules are JSON
text, exactly as it is stored.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from heksher.service.domain.json_values import Json


@dataclass(frozen=True, slots=True)
class SettingRecord:
    """One setting. ``features`` are the configurable ones, in the service's order."""

    name: str
    type: str
    default_value: str
    version: str
    features: tuple[str, ...]
    metadata: Mapping[str, Json]
    aliases: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RuleRecord:
    """One rule. ``conditions`` are pairs of feature and value, in the service's feature order."""

    id: int
    setting: str
    value: str
    conditions: tuple[tuple[str, str], ...]
    metadata: Mapping[str, Json]
