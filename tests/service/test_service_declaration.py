"""Outcomes of declarations, without storage."""

from __future__ import annotations

import dataclasses
from typing import Any

import msgspec
import pytest

from heksher.service.domain import setting_types
from heksher.service.domain.declarations import (
    Comparison,
    DeclaredSetting,
    UnknownFeatures,
    WrongFirstVersion,
    compare,
    create,
    renamed,
)
from heksher.service.domain.records import RuleRecord, SettingRecord

_FEATURES = ["environment", "user", "theme"]


def _declared(**changes: Any) -> DeclaredSetting:
    declared = DeclaredSetting(
        "a", ("user", "theme"), setting_types.FLOAT, 1, {"k": 1}, None, "1.5"
    )
    if "type" in changes:
        changes["type"] = setting_types.parse(changes["type"])
    return dataclasses.replace(declared, **changes)


def _stored(**changes: Any) -> SettingRecord:
    stored = SettingRecord("a", "float", "1", "1.5", ("user", "theme"), {"k": 1}, ())
    return dataclasses.replace(stored, **changes)


def _rule(value: str = "2.5", feature: str = "user") -> RuleRecord:
    return RuleRecord(7, "a", value, ((feature, "x"),), {})


def _answer(comparison: Comparison) -> dict[str, Any]:
    """Decode the answer like a client."""
    found: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(comparison.answer))
    return found


# The difference, the declared version, and the expected outcome and levels.
_OUTCOMES: list[tuple[dict[str, Any], str, str, list[str]]] = [
    ({}, "1.5", "uptodate", []),
    ({}, "1.6", "upgraded", []),
    ({}, "2.0", "upgraded", []),
    ({}, "1.4", "outdated", []),
    ({}, "1.05", "upgraded", []),
    ({"default_value": 1.0, "metadata": {"k": True}}, "1.5", "uptodate", []),
    ({"default_value": 0}, "1.5", "mismatch", ["minor"]),
    ({"default_value": 0}, "1.10", "upgraded", ["minor"]),
    ({"default_value": 0, "metadata": {}}, "1.6", "upgraded", ["minor", "minor"]),
    ({"features": ("theme", "user")}, "1.5", "uptodate", []),
    ({"features": ("user",)}, "1.6", "upgraded", ["minor"]),
    ({"features": ("theme",)}, "2.0", "rejected", ["mismatch"]),
    ({"features": ("user", "theme", "environment")}, "1.6", "rejected", ["major"]),
    ({"features": ("user", "theme", "environment")}, "2.0", "upgraded", ["major"]),
    ({"features": ("user", "theme", "environment")}, "1.4", "outdated", ["minor"]),
    ({"features": ("nowhere",)}, "1.4", "outdated", ["major"]),
    ({"type": "int"}, "1.6", "rejected", ["mismatch"]),
    ({"type": "int"}, "1.4", "outdated", ["major"]),
    ({"type": "Enum[1,2.5]"}, "1.6", "rejected", ["major"]),
    ({"type": "Enum[1,2.5]"}, "2.0", "upgraded", ["major"]),
    ({"type": "str", "default_value": "a"}, "2.0", "rejected", ["minor", "mismatch"]),
    ({"type": "Enum[1,2.5]", "default_value": 2.5}, "2.0", "upgraded", ["minor", "major"]),
    ({"name": "b"}, "1.5", "mismatch", ["minor"]),
    ({"name": "b"}, "1.6", "upgraded", ["minor"]),
    ({"name": "b", "type": "int"}, "2.0", "rejected", ["minor", "mismatch"]),
]


@pytest.mark.parametrize(("changes", "version", "outcome", "levels"), _OUTCOMES)
def test_outcomes(changes: dict[str, Any], version: str, outcome: str, levels: list[str]) -> None:
    comparison = compare(_declared(version=version, **changes), _stored(), [_rule()], _FEATURES)
    answer = _answer(comparison)
    assert answer["outcome"] == outcome
    assert [difference["level"] for difference in answer.get("differences", [])] == levels
    assert (comparison.replacement is not None) == (outcome == "upgraded")
    assert comparison.answer.status == (409 if outcome in ("mismatch", "rejected") else 200)


def test_a_narrower_type_is_minor_when_rules_fit() -> None:
    comparison = compare(_declared(type="int", version="1.6"), _stored(), [_rule("2")], _FEATURES)
    assert _answer(comparison) == {
        "outcome": "upgraded",
        "previous_version": "1.5",
        "differences": [{"level": "minor", "attribute": "type", "latest_value": "float"}],
    }


def test_features_that_do_not_exist() -> None:
    declared = _declared(features=("user", "theme", "x", "y"), version="1.5")
    with pytest.raises(UnknownFeatures) as info:
        compare(declared, _stored(), [], _FEATURES)
    assert info.value.names == ["x", "y"]


def test_an_upgrade_writes_everything() -> None:
    declared = _declared(
        name="b", features=("user",), type="int", default_value=0, metadata={}, version="1.6"
    )
    comparison = compare(declared, _stored(aliases=("b", "z")), [_rule("2")], _FEATURES)
    assert comparison.replacement == SettingRecord(
        "b", "int", "0", "1.6", ("user",), {}, ("a", "z")
    )


def test_loosely_equal_values_stay_as_they_were() -> None:
    declared = _declared(default_value=True, metadata={"k": 1.0}, version="1.6")
    comparison = compare(declared, _stored(), [], _FEATURES)
    assert comparison.replacement == _stored(version="1.6")
    assert repr(comparison.replacement) == repr(_stored(version="1.6"))


def test_differences_are_sorted_by_level_and_then_by_attribute() -> None:
    declared = _declared(
        name="b", features=("theme",), type="int", default_value=0, metadata={}, version="2.0"
    )
    comparison = compare(declared, _stored(), [_rule()], _FEATURES)
    assert [d.get("attribute", d.get("message")) for d in _answer(comparison)["differences"]] == [
        "name",
        "default_value",
        "metadata",
        "configurable features ['user'] are still in use by rules [7]",
        "setting type incompatible with values for rules: [7]",
    ]


def test_create() -> None:
    declared = _declared(version="1.0", type="Enum [2, 1]")
    created = create(declared, _FEATURES)
    assert created == _stored(version="1.0", type="Enum[1,2]")
    for version in ("1.00", "2.0", "0.1"):
        with pytest.raises(WrongFirstVersion):
            create(_declared(version=version), _FEATURES)
    with pytest.raises(UnknownFeatures):
        create(declared, ["user"])


def test_renaming_back_and_forth() -> None:
    there = renamed(_stored(), "b", "1.6")
    assert (there.name, there.aliases) == ("b", ("a",))
    back = renamed(there, "a", "1.7")
    assert (back.name, back.aliases) == ("a", ("b",))
