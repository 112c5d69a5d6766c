"""What changes of a setting outside a declaration mean: its name, type, features and metadata.

Pure: each is given the setting and what is wanted, and returns the setting to store in its place;
that is *stored* itself when nothing is to be written. What is checked comes in the protocol's
order, and every refusal is a ``Refusal`` with the status that it gives.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection, Mapping, Sequence

from heksher.service.domain import setting_types
from heksher.service.domain.declarations import renamed, rules_of_other_types, rules_on, version_of
from heksher.service.domain.json_values import Json
from heksher.service.domain.messages import Conflicts, Refused
from heksher.service.domain.records import RuleRecord, SettingRecord
from heksher.service.domain.refusals import Refusal
from heksher.service.domain.setting_types import WireType


def with_name(
    stored: SettingRecord, name: str, version: str, *, holder: str | None
) -> SettingRecord:
    """*stored* under another name. An equal version is enough.

    Args:
        stored: the setting.
        name: the name wanted.
        version: the version that comes with it.
        holder: the setting that *name* leads to so far, if any; an alias leads to its setting.
    """
    if name == stored.name:
        return _at(stored, version)
    if not _is_at(stored, version):
        _check_higher(stored, version)
    if holder not in (None, stored.name):
        raise Refusal(409, "name already exists")
    return renamed(stored, name, version)


def with_type(
    stored: SettingRecord, wanted: WireType, version: str, rules: Sequence[RuleRecord]
) -> SettingRecord:
    """*stored* with another type. *rules* are all that the setting has."""
    current = setting_types.parse(stored.type)
    if wanted == current:
        return _at(stored, version)
    _check_higher(stored, version)
    conflicts: list[str] = []
    if not wanted.contains(json.loads(stored.default_value)):
        conflicts.append(f"the default value {stored.default_value} is no value of type {wanted}")
    conflicts += [
        f"the value {rule.value} of rule {rule.id} ({_conditions(rule)}) is none of type {wanted}"
        for rule in rules_of_other_types(rules, wanted)
    ]
    if _is_minor(stored, version) and not wanted.is_narrower_than(current):
        conflicts.append(f"a minor version can only narrow the type: {wanted} is not narrower")
    if conflicts:
        raise Refusal(409, body=Conflicts(conflicts))
    return dataclasses.replace(stored, type=str(wanted), version=version)


def with_features(
    stored: SettingRecord,
    wanted: Collection[str],
    version: str,
    *,
    rules: Sequence[RuleRecord],
    features: Collection[str],
) -> SettingRecord:
    """*stored* with other configurable features.

    Args:
        stored: the setting.
        wanted: its features from now on, without repetition; any text.
        version: the version that comes with them.
        rules: all rules of the setting.
        features: all context features.
    """
    added, removed = set(wanted) - set(stored.features), set(stored.features) - set(wanted)
    if not added and not removed:
        return _at(stored, version)
    _check_higher(stored, version)
    in_the_way = rules_on(rules, removed)
    if in_the_way:
        raise Refusal(409, f"the features {sorted(removed)} are in use by rules {in_the_way}")
    if added and _is_minor(stored, version):
        raise Refusal(409, "a minor version can only remove configurable features")
    unknown = added - set(features)
    if unknown:
        detail = f"{sorted(unknown)} are not acceptable context features"
        raise Refusal(404, body=Refused(detail))
    return dataclasses.replace(stored, features=tuple(wanted), version=version)


def with_metadata(
    stored: SettingRecord, metadata: Mapping[str, Json], version: str
) -> SettingRecord:
    """*stored* with other metadata, which may be the same; the version must be higher."""
    _check_higher(stored, version)
    return dataclasses.replace(stored, metadata=metadata, version=version)


def _at(stored: SettingRecord, version: str) -> SettingRecord:
    """*stored* at a version that is higher, or, in whatever spelling, its own."""
    if _is_at(stored, version):
        return stored
    _check_higher(stored, version)
    return dataclasses.replace(stored, version=version)


def _is_at(stored: SettingRecord, version: str) -> bool:
    return version_of(version) == version_of(stored.version)


def _is_minor(stored: SettingRecord, version: str) -> bool:
    return version_of(version)[0] == version_of(stored.version)[0]


def _check_higher(stored: SettingRecord, version: str) -> None:
    if version_of(version) <= version_of(stored.version):
        raise Refusal(
            409,
            f"the setting {stored.name} is at version {stored.version}; {version} is not higher",
        )


def _conditions(rule: RuleRecord) -> str:
    return ", ".join(f"{feature}: {value}" for feature, value in rule.conditions)
