"""Changes of a setting outside declarations: of its name, type, features or metadata.

Pure. Each function takes the stored setting and the requested change and returns the setting to
store instead. It returns *stored* itself if nothing has to be written. Checks come in the protocol's
order, and each refusal is a ``Refusal`` with the protocol's status.
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
    """Rename *stored*. Unlike other changes, this one does not need a higher version.

    Args:
        stored: the setting.
        name: the new name.
        version: the new version.
        holder: canonical name of the setting that has *name* as its name or alias, if any.
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
    """Change the type of *stored*. *rules* are all rules of the setting."""
    current = setting_types.parse(stored.type)
    if wanted == current:
        return _at(stored, version)
    _check_higher(stored, version)
    conflicts: list[str] = []
    if not wanted.contains(json.loads(stored.default_value)):
        conflicts.append(f"the default value {stored.default_value} does not have type {wanted}")
    conflicts += [
        f"the value {rule.value} of rule {rule.id} ({_conditions(rule)}) does not have type {wanted}"
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
    """Change the configurable features of *stored*.

    Args:
        stored: the setting.
        wanted: the new features, without duplicates; not checked to be valid names.
        version: the new version.
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
    """Change the metadata of *stored*. The version must be higher, even if nothing else changes."""
    _check_higher(stored, version)
    return dataclasses.replace(stored, metadata=metadata, version=version)


def _at(stored: SettingRecord, version: str) -> SettingRecord:
    """Change only the version of *stored*: to a higher one, or to its own, however it is spelled."""
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
            f"version {version} is too low: expected one above {stored.version}, "
            f"the version of the setting {stored.name}",
        )


def _conditions(rule: RuleRecord) -> str:
    return ", ".join(f"{feature}: {value}" for feature, value in rule.conditions)
