"""Changes of settings outside declarations, without storage."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import pytest

from heksher.service.domain import changes, setting_types
from heksher.service.domain.messages import Conflicts
from heksher.service.domain.records import RuleRecord, SettingRecord
from heksher.service.domain.refusals import Refusal

_FEATURES = ["environment", "user", "theme"]
_STORED = SettingRecord("a", "float", "1", "1.5", ("user", "theme"), {"k": 1}, ("old",))
_RULES = [
    RuleRecord(9, "a", "2.5", (("user", "x"), ("theme", "y")), {}),
    RuleRecord(7, "a", "3", (("user", "x"),), {}),
]


def _stored(**fields: Any) -> SettingRecord:
    return dataclasses.replace(_STORED, **fields)


def _with_type(stored: SettingRecord, wanted: str, version: str) -> SettingRecord:
    return changes.with_type(stored, setting_types.parse(wanted), version, _RULES)


def _with_features(wanted: str, version: str) -> SettingRecord:
    return changes.with_features(
        _STORED, wanted.split(), version, rules=_RULES[1:], features=_FEATURES
    )


def test_nothing_is_written_when_nothing_changes() -> None:
    for version in ("1.5", "1.05", "01.5"):
        assert changes.with_name(_STORED, "a", version, holder="a") is _STORED
        assert _with_type(_STORED, "float", version) is _STORED
        assert _with_features("theme user", version) is _STORED


def test_a_version_alone_may_be_raised() -> None:
    raised = _stored(version="1.10")
    assert changes.with_name(_STORED, "a", "1.10", holder="a") == raised
    assert _with_type(_STORED, "float", "1.10") == raised
    assert _with_features("theme user", "1.10") == raised
    assert changes.with_metadata(_STORED, {"k": 1}, "1.10") == raised


def test_a_version_may_be_raised_although_the_default_value_fits_no_type() -> None:
    """The original stores NaN as null."""
    stored = _stored(default_value="null")
    assert _with_type(stored, "float", "1.6") == _stored(default_value="null", version="1.6")


@pytest.mark.parametrize("version", ["1.4", "0.9", "1.5", "1.05"])
def test_the_version_must_be_higher(version: str) -> None:
    attempts: list[Callable[[], SettingRecord]] = [
        lambda: _with_type(_STORED, "str", version),
        lambda: _with_features("user", version),
        lambda: changes.with_metadata(_STORED, {"k": 1}, version),
    ]
    for change in attempts:
        with pytest.raises(Refusal) as info:
            change()
        assert (info.value.status, info.value.body) == (409, None)
        assert version in str(info.value.text)


def test_a_rename_needs_no_higher_version() -> None:
    renamed = changes.with_name(_STORED, "b", "1.5", holder=None)
    assert renamed == _stored(name="b", aliases=("a", "old"))
    back = changes.with_name(renamed, "old", "1.6", holder="b")
    assert back == _stored(name="old", aliases=("a", "b"), version="1.6")


def test_renames_that_are_refused() -> None:
    for version, holder in (("1.4", None), ("1.6", "other")):
        with pytest.raises(Refusal) as info:
            changes.with_name(_STORED, "b", version, holder=holder)
        assert info.value.status == 409


@pytest.mark.parametrize(
    ("wanted", "version", "named"),
    [
        ("int", "1.6", ["rule 9"]),
        ("int", "2.0", ["rule 9"]),
        ("Enum[1,3]", "1.6", ["rule 9", "minor"]),
        ("Enum[1,2.5,3]", "1.6", ["minor"]),
        ("Enum[2.5,3]", "2.0", ["default"]),
        ("str", "1.6", ["default", "rule 7", "rule 9", "minor"]),
    ],
)
def test_conflicts_of_a_type_are_told_all_at_once(
    wanted: str, version: str, named: list[str]
) -> None:
    with pytest.raises(Refusal) as info:
        _with_type(_STORED, wanted, version)
    assert info.value.status == 409
    assert isinstance(info.value.body, Conflicts)
    conflicts = info.value.body.conflicts
    assert len(conflicts) == len(named)
    assert all(name in conflict for name, conflict in zip(named, conflicts, strict=True))


def test_another_type() -> None:
    assert _with_type(_STORED, "Enum[3, 2.5,1]", "2.0") == _stored(
        type="Enum[1,2.5,3]", version="2.0"
    )
    narrower = changes.with_type(_STORED, setting_types.INT, "1.6", _RULES[1:])
    assert narrower == _stored(type="int", version="1.6")


def test_the_value_in_a_conflict_is_the_stored_text() -> None:
    stored = _stored(default_value='"é\\n"', type="str")
    with pytest.raises(Refusal) as info:
        changes.with_type(stored, setting_types.INT, "2.0", [])
    assert isinstance(info.value.body, Conflicts)
    assert '"é\\n"' in info.value.body.conflicts[0]


def test_other_features() -> None:
    assert _with_features("user", "1.6") == _stored(features=("user",), version="1.6")
    more = _with_features("user environment", "2.0")
    assert more == _stored(features=("user", "environment"), version="2.0")


@pytest.mark.parametrize(
    ("wanted", "version", "status", "named"),
    [
        ("theme", "1.6", 409, "[7]"),
        ("theme", "2.0", 409, "[7]"),
        ("theme nowhere", "2.0", 409, "[7]"),
        ("user environment", "1.6", 409, "minor"),
        ("user nowhere", "1.6", 409, "minor"),
        ("user nowhere a-b", "2.0", 404, "['a-b', 'nowhere']"),
        ("user \ud800", "2.0", 404, "['\\ud800']"),
    ],
)
def test_features_that_are_refused(wanted: str, version: str, status: int, named: str) -> None:
    with pytest.raises(Refusal) as info:
        _with_features(wanted, version)
    assert info.value.status == status
    assert named in f"{info.value.text} {info.value.body}".replace("\\\\", "\\")


def test_metadata_that_is_loosely_equal_is_another() -> None:
    changed = changes.with_metadata(_STORED, {"k": True}, "1.6")
    assert json.dumps(dict(changed.metadata)) == '{"k": true}'
