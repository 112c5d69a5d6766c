"""A small model of the service in plain Python: the answer to each call and the state afterwards.

Written from the text of the protocol; tests compare the service with it. Knows three types and
versions like ``1.0``. Malformed requests never reach it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

Metadata: TypeAlias = dict[str, int]
Version: TypeAlias = tuple[int, int]

TYPES: Mapping[str, tuple[type, ...]] = {"int": (int,), "float": (int, float), "str": (str,)}


def fits(value: Any, type_: str) -> bool:
    """Whether *value* has this type."""
    return isinstance(value, TYPES[type_])


def is_narrower(type_: str, than: str) -> bool:
    """Whether each value of the first type also has the second type."""
    return (type_, than) == ("int", "float")


def spelled(version: Version) -> str:
    """The version as text."""
    return f"{version[0]}.{version[1]}"


@dataclass
class Setting:
    """A setting that the service should have."""

    type: str
    default: Any
    version: Version
    features: set[str]
    metadata: Metadata
    aliases: set[str] = field(default_factory=set[str])


@dataclass
class Rule:
    """A rule that the service should have."""

    setting: str
    conditions: Mapping[str, str]
    value: Any
    metadata: Metadata


@dataclass
class Model:
    """The state of the service. Methods that change it return the expected status."""

    features: list[str]
    settings: dict[str, Setting] = field(default_factory=dict[str, Setting])
    rules: dict[int, Rule] = field(default_factory=dict[int, Rule])

    def canonical(self, name: str) -> str | None:
        """The setting that *name* leads to."""
        if name in self.settings:
            return name
        return next((each for each, s in self.settings.items() if name in s.aliases), None)

    def rules_of(self, name: str) -> dict[int, Rule]:
        """The rules of a setting, by id."""
        return {id_: rule for id_, rule in self.rules.items() if rule.setting == name}

    # --- context features ---

    def add_feature(self, name: str) -> int:
        if name in self.features:
            return 409
        self.features.append(name)
        return 204

    def delete_feature(self, name: str) -> int:
        if name not in self.features:
            return 404
        if any(name in setting.features for setting in self.settings.values()):
            return 409
        self.features.remove(name)
        return 204

    def move_feature(self, name: str, other: str, *, after: bool) -> int:
        if name not in self.features or other not in self.features:
            return 404
        if name != other:
            self.features.remove(name)
            self.features.insert(self.features.index(other) + after, name)
        return 204

    # --- settings ---

    def declare(
        self, name: str, declared: Setting, alias: str | None
    ) -> tuple[int, str | None, list[str]]:
        """Return the status, the outcome if there is one, and the levels of the differences."""
        if alias == name or not fits(declared.default, declared.type):
            return 422, None, []
        found = self.canonical(name)
        if alias is not None:
            by_alias = self.canonical(alias)
            if by_alias is None:
                return 404, None, []
            if found != by_alias and not (found is None and alias == by_alias):
                return 409, None, []
            found = by_alias
        if found is None:
            if declared.version != (1, 0):
                return 400, None, []
            if not declared.features <= {*self.features}:
                return 404, None, []
            self.settings[name] = declared
            return 200, "created", []
        stored = self.settings[found]
        if declared.version < stored.version:
            levels = [*self._backward(declared, stored), *_rest(name, declared, found, stored)]
            return 200, "outdated", _in_order(levels)
        forward = self._forward(declared, found)
        if forward is None:
            return 404, None, []
        levels = _in_order([*forward, *_rest(name, declared, found, stored)])
        if declared.version == stored.version:
            return (409, "mismatch", levels) if levels else (200, "uptodate", [])
        is_minor = declared.version[0] == stored.version[0]
        if "mismatch" in levels or (is_minor and "major" in levels):
            return 409, "rejected", levels
        declared.aliases = stored.aliases
        self.settings[found] = declared
        self._rename(found, name)
        return 200, "upgraded", levels

    def _forward(self, declared: Setting, found: str) -> list[str] | None:
        stored, rules = self.settings[found], self.rules_of(found).values()
        levels: list[str] = []
        if declared.features != stored.features:
            removed = stored.features - declared.features
            if any(removed & rule.conditions.keys() for rule in rules):
                levels.append("mismatch")
            elif declared.features < stored.features:
                levels.append("minor")
            elif declared.features <= {*self.features}:
                levels.append("major")
            else:
                return None
        if declared.type != stored.type:
            if not all(fits(rule.value, declared.type) for rule in rules):
                levels.append("mismatch")
            else:
                levels.append("minor" if is_narrower(declared.type, stored.type) else "major")
        return levels

    def _backward(self, declared: Setting, stored: Setting) -> list[str]:
        levels: list[str] = []
        if declared.features != stored.features:
            levels.append("minor" if declared.features > stored.features else "major")
        if declared.type != stored.type:
            levels.append("minor" if is_narrower(stored.type, declared.type) else "major")
        return levels

    def _rename(self, name: str, new: str) -> None:
        setting = self.settings.pop(name)
        setting.aliases = (setting.aliases | {name}) - {new}
        self.settings[new] = setting
        for rule in self.rules_of(name).values():
            rule.setting = new

    def delete_setting(self, name: str) -> int:
        found = self.canonical(name)
        if found is None:
            return 404
        for id_ in self.rules_of(found):
            del self.rules[id_]
        del self.settings[found]
        return 204

    def rename(self, name: str, new: str, version: Version) -> int:
        found = self.canonical(name)
        if found is None:
            return 404
        setting = self.settings[found]
        if version < setting.version or self.canonical(new) not in (None, found):
            return 409
        setting.version = version
        self._rename(found, new)
        return 204

    def change_type(self, name: str, type_: str, version: Version) -> int:
        found = self.canonical(name)
        if found is None:
            return 404
        setting = self.settings[found]
        if type_ != setting.type:
            values = [setting.default, *(rule.value for rule in self.rules_of(found).values())]
            is_minor = version[0] == setting.version[0]
            if (
                version <= setting.version
                or not all(fits(value, type_) for value in values)
                or (is_minor and not is_narrower(type_, setting.type))
            ):
                return 409
        return self._bump(setting, version) or _done(setting, "type", type_)

    def change_features(self, name: str, features: set[str], version: Version) -> int:
        found = self.canonical(name)
        if found is None:
            return 404
        setting, rules = self.settings[found], self.rules_of(found).values()
        if features != setting.features:
            is_minor = version[0] == setting.version[0]
            removed = setting.features - features
            if (
                version <= setting.version
                or any(removed & rule.conditions.keys() for rule in rules)
                or (is_minor and not features < setting.features)
            ):
                return 409
            if not features <= {*self.features}:
                return 404
        return self._bump(setting, version) or _done(setting, "features", features)

    def _bump(self, setting: Setting, version: Version) -> int | None:
        if version < setting.version:
            return 409
        setting.version = version
        return None

    def change_metadata(self, name: str, version: Version, change: MetadataChange) -> int:
        found = self.canonical(name)
        if found is None:
            return 404
        setting = self.settings[found]
        if version <= setting.version:
            return 409
        setting.version = version
        return _done(setting, "metadata", change.applied(setting.metadata))

    # --- rules ---

    def may_add_rule(self, rule: Rule) -> int:
        """Return the status. The rule is added once its id is known."""
        found = self.canonical(rule.setting)
        if found is None:
            return 422
        setting = self.settings[found]
        if not rule.conditions.keys() <= setting.features or not fits(rule.value, setting.type):
            return 400
        return 409 if self.rule_on(found, rule.conditions) is not None else 201

    def add_rule(self, id_: int, rule: Rule) -> None:
        rule.setting = self.canonical(rule.setting) or ""
        self.rules[id_] = rule

    def rule_on(self, name: str, conditions: Mapping[str, str]) -> int | None:
        """Return the setting's rule with exactly these conditions."""
        rules = self.rules_of(self.canonical(name) or "")
        return next((id_ for id_, rule in rules.items() if rule.conditions == conditions), None)

    def change_rule(self, id_: int, value: Any) -> int:
        rule = self.rules.get(id_)
        if rule is None:
            return 404
        if not fits(value, self.settings[rule.setting].type):
            return 400
        return _done(rule, "value", value)

    def delete_rule(self, id_: int) -> int:
        return 204 if self.rules.pop(id_, None) else 404

    def change_rule_metadata(self, id_: int, change: MetadataChange) -> int:
        rule = self.rules.get(id_)
        return 404 if rule is None else _done(rule, "metadata", change.applied(rule.metadata))

    # --- reading ---

    def in_order(self, features: Mapping[str, str] | set[str]) -> list[str]:
        """Sort features into the service's order."""
        return [name for name in self.features if name in features]

    def listed(self) -> list[dict[str, Any]]:
        """List all settings with all their properties."""
        return [
            {
                "name": name,
                "type": setting.type,
                "default_value": setting.default,
                "version": spelled(setting.version),
                "configurable_features": self.in_order(setting.features),
                "metadata": setting.metadata,
                "aliases": sorted(setting.aliases),
            }
            for name, setting in sorted(self.settings.items())
        ]

    def one(self, name: str) -> dict[str, Any] | None:
        """The setting that *name* leads to."""
        found = self.canonical(name)
        return next((each for each in self.listed() if each["name"] == found), None)

    def rule(self, id_: int) -> dict[str, Any] | None:
        """The rule with this id."""
        rule = self.rules.get(id_)
        if rule is None:
            return None
        return {
            "setting": rule.setting,
            "value": rule.value,
            "feature_values": self._pairs(rule),
            "metadata": rule.metadata,
        }

    def _pairs(self, rule: Rule) -> list[list[str]]:
        return [
            [feature, rule.conditions[feature]] for feature in self.in_order({*rule.conditions})
        ]

    def queried(
        self,
        names: Sequence[str] | None,
        listed: Mapping[str, Sequence[str] | None] | None,
        *,
        with_metadata: bool,
    ) -> dict[str, Any] | None:
        """Return the answer to a query, or None if a name is unknown.

        Args:
            names: the requested settings; None means all.
            listed: the filter, values by feature. None as values means all values; None as the filter
                lets all rules pass.
            with_metadata: whether to include the metadata of rules.
        """
        found = {self.canonical(name) for name in (self.settings if names is None else names)}
        if None in found:
            return None
        return {
            name: {
                "default_value": self.settings[name].default,
                "rules": [
                    {
                        "value": rule.value,
                        "context_features": self._pairs(rule),
                        "rule_id": id_,
                    }
                    | ({"metadata": rule.metadata} if with_metadata else {})
                    for id_, rule in sorted(self.rules_of(name).items())
                    if listed is None or _passes(rule, listed)
                ],
            }
            for name in sorted(name for name in found if name is not None)
        }


@dataclass(frozen=True)
class MetadataChange:
    """A request that changes metadata: method, rest of the path, and fields of the body."""

    method: str
    key: str | None
    metadata: Metadata

    @property
    def path(self) -> str:
        return "/metadata" if self.key is None else f"/metadata/{self.key}"

    @property
    def body(self) -> dict[str, Any]:
        if self.method == "DELETE":
            return {}
        return {"metadata": self.metadata} if self.key is None else {"value": len(self.metadata)}

    def applied(self, metadata: Metadata) -> Metadata:
        """Return *metadata* after the change."""
        if self.key is None:
            kept = metadata if self.method == "POST" else {}
            return kept | ({} if self.method == "DELETE" else self.metadata)
        without = {key: value for key, value in metadata.items() if key != self.key}
        return without if self.method == "DELETE" else without | {self.key: len(self.metadata)}


def _rest(name: str, declared: Setting, found: str, stored: Setting) -> list[str]:
    differs = (
        name != found,
        declared.default != stored.default,
        declared.metadata != stored.metadata,
    )
    return ["minor"] * sum(differs)


def _in_order(levels: Sequence[str]) -> list[str]:
    return sorted(levels, key=["minor", "major", "mismatch"].index)


def _passes(rule: Rule, listed: Mapping[str, Sequence[str] | None]) -> bool:
    return all(
        feature in listed and ((values := listed[feature]) is None or value in values)
        for feature, value in rule.conditions.items()
    )


def _done(owner: Setting | Rule, attribute: str, value: Any) -> int:
    setattr(owner, attribute, value)
    return 204
