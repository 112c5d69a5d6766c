"""Declarations of settings: the outcome, the differences, and the setting to store.

Pure. Takes a declaration and the stored state and returns a decision; does not load or store
anything.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from heksher.service.domain import json_values, setting_types
from heksher.service.domain.json_values import Json
from heksher.service.domain.messages import (
    FIRST_VERSION,
    Compared,
    Difference,
    Level,
    Mismatch,
    Outdated,
    Rejected,
    Upgraded,
    UpToDate,
)
from heksher.service.domain.records import RuleRecord, SettingRecord
from heksher.service.domain.setting_types import WireType

# The order in which differences are listed.
_LEVELS: Sequence[Level] = ("minor", "major", "mismatch")


@dataclass(frozen=True, slots=True)
class DeclaredSetting:
    """A setting as an application declares it, parsed. ``features`` has no duplicates."""

    name: str
    features: tuple[str, ...]
    type: WireType
    default_value: Json
    metadata: Mapping[str, Json]
    alias: str | None
    version: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """The result of comparing a declaration with a stored setting.

    Attributes:
        answer: body of the response.
        replacement: the setting to store instead of the old one, if the declaration changes it.
    """

    answer: Compared
    replacement: SettingRecord | None = None


class UnknownFeatures(Exception):
    """A declaration names context features that do not exist. ``names`` has them, sorted."""

    def __init__(self, names: Collection[str]) -> None:
        super().__init__(names)
        self.names: list[str] = sorted(names)


class WrongFirstVersion(Exception):
    """A new setting is declared at a version other than the first one."""


def version_of(text: str) -> tuple[int, int]:
    """Return major and minor number of a version, for comparisons."""
    major, minor = text.split(".")
    return int(major), int(minor)


def create(declared: DeclaredSetting, features: Sequence[str]) -> SettingRecord:
    """Make the setting to store for the declaration of a setting that does not exist yet.

    Args:
        declared: the declaration.
        features: all context features, in order.

    Raises:
        WrongFirstVersion: the version is not exactly ``1.0``.
        UnknownFeatures: the declaration names features that do not exist.
    """
    if declared.version != FIRST_VERSION:
        raise WrongFirstVersion
    _check_features(declared, features)
    return SettingRecord(
        name=declared.name,
        type=str(declared.type),
        default_value=json_values.write(declared.default_value),
        version=declared.version,
        features=declared.features,
        metadata=declared.metadata,
        aliases=(),
    )


def compare(
    declared: DeclaredSetting,
    stored: SettingRecord,
    rules: Sequence[RuleRecord],
    features: Sequence[str],
) -> Comparison:
    """Compare a declaration with the stored setting.

    Args:
        declared: the declaration.
        stored: the setting, found by name or alias.
        rules: all rules of the setting.
        features: all context features, in order.

    Raises:
        UnknownFeatures: the declaration adds features that do not exist.
    """
    old, new = version_of(stored.version), version_of(declared.version)
    if new < old:
        return Comparison(Outdated(stored.version, _backward(declared, stored)))
    differences = _forward(declared, stored, rules, features)
    if declared.version == stored.version:
        return Comparison(Mismatch(differences) if differences else UpToDate())
    forbidden = {"mismatch"} if new[0] > old[0] else {"mismatch", "major"}
    if any(difference.level in forbidden for difference in differences):
        return Comparison(Rejected(stored.version, differences))
    return Comparison(
        Upgraded(stored.version, differences), replacement=_upgraded(declared, stored)
    )


def rules_on(rules: Sequence[RuleRecord], features: Collection[str]) -> list[int]:
    """Return the ids of the rules with a condition on one of *features*, sorted."""
    return sorted(
        rule.id for rule in rules if any(feature in features for feature, _ in rule.conditions)
    )


def rules_of_other_types(rules: Sequence[RuleRecord], type_: WireType) -> list[RuleRecord]:
    """Return the rules whose value does not have this type, sorted by id."""
    unfit = [rule for rule in rules if not type_.contains(json.loads(rule.value))]
    return sorted(unfit, key=lambda rule: rule.id)


def renamed(stored: SettingRecord, name: str, version: str) -> SettingRecord:
    """Return *stored* with another name; its old name becomes an alias."""
    aliases = ({*stored.aliases} | {stored.name}) - {name}
    return dataclasses.replace(stored, name=name, version=version, aliases=tuple(sorted(aliases)))


def _upgraded(declared: DeclaredSetting, stored: SettingRecord) -> SettingRecord:
    """Return the setting after an upgrade. Values that are loosely equal stay as they were."""
    same_default = json_values.equal(declared.default_value, json.loads(stored.default_value))
    return dataclasses.replace(
        renamed(stored, declared.name, declared.version),
        type=stored.type if _same_type(declared, stored) else str(declared.type),
        default_value=(
            stored.default_value if same_default else json_values.write(declared.default_value)
        ),
        features=declared.features,
        metadata=(
            stored.metadata
            if json_values.equal(declared.metadata, stored.metadata)
            else declared.metadata
        ),
    )


def _same_type(declared: DeclaredSetting, stored: SettingRecord) -> bool:
    return declared.type == setting_types.parse(stored.type)


def _check_features(declared: DeclaredSetting, features: Sequence[str]) -> None:
    unknown = set(declared.features) - set(features)
    if unknown:
        raise UnknownFeatures(unknown)


def _forward(
    declared: DeclaredSetting,
    stored: SettingRecord,
    rules: Sequence[RuleRecord],
    features: Sequence[str],
) -> list[Difference]:
    """List what would change on the service if it adopted the declaration."""
    return _sorted(
        [
            *_features_forward(declared, stored, rules, features),
            *_type_forward(declared, stored, rules),
            *_rest(declared, stored),
        ]
    )


def _features_forward(
    declared: DeclaredSetting,
    stored: SettingRecord,
    rules: Sequence[RuleRecord],
    features: Sequence[str],
) -> list[Difference]:
    wanted, present = set(declared.features), set(stored.features)
    if wanted == present:
        return []
    removed = present - wanted
    in_the_way = rules_on(rules, removed)
    if in_the_way:
        message = f"configurable features {sorted(removed)} are still in use by rules {in_the_way}"
        return [Difference("mismatch", message)]
    if wanted < present:
        return [Difference("minor", f"removal of configurable features {sorted(removed)}")]
    _check_features(declared, features)
    return [_attribute("major", "configurable_features", list(stored.features))]


def _type_forward(
    declared: DeclaredSetting, stored: SettingRecord, rules: Sequence[RuleRecord]
) -> list[Difference]:
    stored_type = setting_types.parse(stored.type)
    if declared.type == stored_type:
        return []
    in_the_way = [rule.id for rule in rules_of_other_types(rules, declared.type)]
    if in_the_way:
        message = f"setting type incompatible with values for rules: {in_the_way}"
        return [Difference("mismatch", message)]
    narrower = declared.type.is_narrower_than(stored_type)
    return [_attribute("minor" if narrower else "major", "type", stored.type)]


def _backward(declared: DeclaredSetting, stored: SettingRecord) -> list[Difference]:
    """List what changed on the service since the declared version; rules do not matter here."""
    differences: list[Difference] = []
    wanted, present = set(declared.features), set(stored.features)
    if wanted > present:
        removed = sorted(wanted - present)
        differences.append(Difference("minor", f"removal of configurable features {removed}"))
    elif wanted != present:
        differences.append(_attribute("major", "configurable_features", list(stored.features)))
    stored_type = setting_types.parse(stored.type)
    if declared.type != stored_type:
        narrower = stored_type.is_narrower_than(declared.type)
        differences.append(_attribute("minor" if narrower else "major", "type", stored.type))
    return _sorted([*differences, *_rest(declared, stored)])


def _rest(declared: DeclaredSetting, stored: SettingRecord) -> list[Difference]:
    """List differences in name, default value and metadata. They are minor in both directions."""
    differences: list[Difference] = []
    if declared.name != stored.name:
        differences.append(_attribute("minor", "name", stored.name))
    default_value = json.loads(stored.default_value)
    if not json_values.equal(declared.default_value, default_value):
        differences.append(_attribute("minor", "default_value", default_value))
    if not json_values.equal(declared.metadata, stored.metadata):
        differences.append(_attribute("minor", "metadata", dict(stored.metadata)))
    return differences


def _attribute(level: Level, attribute: str, latest_value: Json) -> Difference:
    return Difference(level, attribute=attribute, latest_value=latest_value)


def _sorted(differences: list[Difference]) -> list[Difference]:
    return sorted(differences, key=lambda difference: _LEVELS.index(difference.level))
