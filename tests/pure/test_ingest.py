"""From a section of the service's answer to the table of a setting: what is used, what is dropped."""

from __future__ import annotations

from typing import Any

import pytest

from heksher import TRACK_ALL, Setting
from heksher._lookup import Published
from heksher.context import Defaults, Tracking
from heksher.ingest import Ingested, ingest
from heksher.protocol import RuleData, Section
from heksher.rules import Rule, RuleTable

FEATURES = ("environment", "user", "theme")


def ttl_setting() -> Setting[int]:
    return Setting("ttl", int, ["theme", "user"], 60)


def rule(rule_id: int, value: Any, /, **conditions: str) -> RuleData:
    return RuleData(value, tuple(conditions.items()), rule_id)


def ingested(*rules: RuleData, default: Any = 60, tracked: Any = None) -> Ingested[int]:
    tracking = Tracking().adding(tracked or {})
    return ingest(ttl_setting(), Section(rules, default), FEATURES, tracking)


def test_rules_are_taken_over_with_values_of_the_type_and_the_services_order() -> None:
    result = ingested(
        rule(7, 1.0, user="jim"), rule(8, 2, user="jim", theme="dark"), rule(9, 3), default=90.0
    )
    assert result == Ingested(
        RuleTable(
            90,
            (
                Rule(1, (("user", "jim"),), 7),
                Rule(2, (("user", "jim"), ("theme", "dark")), 8),
                Rule(3, (), 9),
            ),
            FEATURES,
        ),
        (),
    )
    assert [type(each.value) for each in result.table.rules] == [int, int, int]
    assert type(result.table.default) is int


@pytest.mark.parametrize("value", ["x", None, 1.5, True, []], ids=repr)
def test_a_rule_with_a_value_of_another_type_is_dropped_and_told(value: Any) -> None:
    result = ingested(rule(7, value, user="jim"), rule(8, 2, user="joe"))
    assert [each.rule_id for each in result.table.rules] == [8]
    assert result.problems == (f"rule 7: {value!r} is no int",)


@pytest.mark.parametrize("feature", ["environment", "nobody_knows"])
def test_a_rule_on_a_foreign_feature_is_dropped_and_told(feature: str) -> None:
    result = ingested(rule(7, 1, user="jim", **{feature: "x"}), rule(8, 2, user="joe"))
    assert [each.rule_id for each in result.table.rules] == [8]
    (problem,) = result.problems
    assert "rule 7" in problem
    assert repr(feature) in problem


def test_a_rule_on_a_feature_that_the_service_does_not_list_is_dropped() -> None:
    # Priority needs its place; features and rules are two answers, and may disagree.
    result = ingest(ttl_setting(), Section((rule(7, 1, theme="dark"),), 60), ("user",), Tracking())
    assert result.table.rules == ()
    assert len(result.problems) == 1


def test_rules_outside_of_what_is_tracked_are_left_out_silently() -> None:
    rules = [
        rule(1, 1, user="jim"),
        rule(2, "no int, but nobody asked", user="joe"),
        rule(3, 3, user="jim", theme="dark"),
        rule(4, 4, environment="dev"),
    ]
    some = ingested(*rules, tracked={"user": "jim"})
    assert [each.rule_id for each in some.table.rules] == [1]
    assert some.problems == ()
    more = ingested(*rules, tracked={"user": "jim", "theme": TRACK_ALL})
    assert [each.rule_id for each in more.table.rules] == [1, 3]


@pytest.mark.parametrize("default", [0, 1, -5], ids=repr)
def test_the_services_default_goes_before_the_local_one(default: int) -> None:
    result = ingested(default=default)
    assert (result.table.default, result.problems) == (default, ())


@pytest.mark.parametrize(
    ("kind", "local", "value"), [(str, "x", ""), (bool, True, False), (float, 1.0, 0.0)], ids=repr
)
def test_empty_defaults_are_values(kind: type[Any], local: Any, value: Any) -> None:
    setting: Setting[Any] = Setting("empty", kind, ["user"], local)
    result = ingest(setting, Section((), value), FEATURES, Tracking())
    assert result == Ingested(RuleTable(value, (), FEATURES), ())


@pytest.mark.parametrize("unusable", [None, "x", 1.5, True, []], ids=repr)
def test_an_unusable_default_leaves_the_one_before_in_force(unusable: Any) -> None:
    setting = ttl_setting()
    section = Section((rule(7, 1, user="jim"),), unusable)
    first = ingest(setting, section, FEATURES, Tracking())
    assert first.table.default == 60
    setting.published = Published(RuleTable(90), Defaults(), started=True)
    second = ingest(setting, section, FEATURES, Tracking())
    assert second.table.default == 90
    for result in (first, second):
        assert result.problems == (f"default value: {unusable!r} is no int",)
        assert [each.rule_id for each in result.table.rules] == [7]


def test_ingesting_publishes_nothing() -> None:
    setting = ttl_setting()
    before = setting.published
    ingest(setting, Section((rule(7, 1, user="jim"),), 90), FEATURES, Tracking())
    assert setting.published is before


def test_a_rule_with_two_conditions_on_one_feature_is_dropped_and_told() -> None:
    twice = RuleData(1, (("user", "jim"), ("user", "jim")), 7)
    result = ingested(twice, rule(8, 2, user="jim"))
    assert [each.rule_id for each in result.table.rules] == [8]
    assert result.problems == ("rule 7: it has two conditions on 'user'",)


def test_a_rule_on_a_feature_that_the_service_does_not_list_is_dropped_and_told() -> None:
    section = Section((rule(7, 1, theme="dark"), rule(8, 2, user="jim")), 60)
    result = ingest(ttl_setting(), section, ("user",), Tracking())
    assert [each.rule_id for each in result.table.rules] == [8]
    assert "service's context features" in result.problems[0]
