"""Stored settings and rules as typed values.

Pure data, shared by storage, decisions and routes. Values of settings and rules are JSON text,
exactly as stored.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from heksher.service.domain.json_values import Json


@dataclass(frozen=True, slots=True)
class SettingRecord:
    """A stored setting. ``features`` are its configurable features, in the service's order."""

    name: str
    type: str
    default_value: str
    version: str
    features: tuple[str, ...]
    metadata: Mapping[str, Json]
    aliases: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RuleRecord:
    """A stored rule. ``conditions`` are (feature, value) pairs in the service's feature order."""

    id: int
    setting: str
    value: str
    conditions: tuple[tuple[str, str], ...]
    metadata: Mapping[str, Json]
