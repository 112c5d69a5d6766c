"""Which rule wins, in the examples that explain the priority of rules."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from enum import StrEnum

import pytest

from heksher._rules.table import RuleTable, TableRule

FEATURES = ("environment", "user", "theme")


def rule(value: str, rule_id: int | None = None, /, **conditions: str) -> TableRule[str]:
    return TableRule(value, tuple(conditions.items()), rule_id)


def table(*rules: TableRule[str], features: tuple[str, ...] = FEATURES) -> RuleTable[str]:
    return RuleTable("default", rules, features)


ALL = {"environment": "dev", "user": "jim", "theme": "dark"}


def test_without_a_matching_rule_the_default_is_the_value() -> None:
    rules = table(rule("other", user="joe"))
    assert rules.resolve(ALL) == "default"
    assert rules.resolve({}) == "default"
    assert table().resolve(ALL) == "default"


def test_a_rule_matches_only_if_every_condition_does() -> None:
    rules = table(rule("both", environment="dev", user="jim"))
    assert rules.resolve(ALL) == "both"
    assert rules.resolve({**ALL, "user": "joe"}) == "default"
    assert rules.resolve({**ALL, "environment": "prod"}) == "default"
    assert rules.resolve({"user": "jim"}) == "default"


@pytest.mark.parametrize("flip", [False, True], ids=["in order", "reversed"])
@pytest.mark.parametrize(
    ("loser", "winner"),
    [
        pytest.param({"environment": "dev"}, {"user": "jim"}, id="later feature"),
        pytest.param({"environment": "dev", "user": "jim"}, {"theme": "dark"}, id="one beats two"),
        pytest.param({"user": "jim"}, {"environment": "dev", "user": "jim"}, id="more conditions"),
        pytest.param(
            {"environment": "dev", "theme": "dark"},
            {"user": "jim", "theme": "dark"},
            id="tie on the latest, the next-latest decides",
        ),
        pytest.param(
            {"theme": "dark"},
            {"environment": "dev", "theme": "dark"},
            id="tie on the latest, one has no other",
        ),
        pytest.param({}, {"environment": "dev"}, id="no conditions come last"),
    ],
)
def test_the_latest_condition_on_the_latest_feature_wins(
    loser: dict[str, str], winner: dict[str, str], flip: bool
) -> None:
    rules = [rule("loser", 2, **loser), rule("winner", 1, **winner)]
    if flip:
        rules.reverse()
    assert table(*rules).resolve(ALL) == "winner"


def test_the_order_of_conditions_inside_a_rule_means_nothing() -> None:
    rules = table(
        rule("a", theme="dark", environment="dev"), rule("b", theme="dark", user="jim"), rule("c")
    )
    assert rules.resolve(ALL) == "b"


def test_the_order_of_features_is_the_tables() -> None:
    rules = (rule("by environment", environment="dev"), rule("by theme", theme="dark"))
    assert table(*rules).resolve(ALL) == "by theme"
    turned = table(*rules, features=("theme", "user", "environment"))
    assert turned.resolve(ALL) == "by environment"


def test_a_rule_without_conditions_matches_everywhere() -> None:
    rules = table(rule("everywhere"))
    assert rules.resolve({}) == "everywhere"
    assert rules.resolve(ALL) == "everywhere"


@pytest.mark.parametrize("flip", [False, True], ids=["older first", "newer first"])
def test_of_two_rules_on_the_same_conditions_the_newer_wins(flip: bool) -> None:
    rules = [rule("older", 9, user="jim"), rule("newer", 10, user="jim")]
    if flip:
        rules.reverse()
    assert table(*rules).resolve(ALL) == "newer"


def test_a_rule_without_a_number_gives_way_to_one_that_has_one() -> None:
    rules = table(rule("numbered", 0, user="jim"), rule("bare", user="jim"))
    assert rules.resolve(ALL) == "numbered"


def test_none_meets_no_condition() -> None:
    rules = table(rule("none", user="None"), rule("empty", user=""))
    assert rules.resolve({"user": None}) == "default"


class User(StrEnum):
    JIM = "jim"


@pytest.mark.parametrize("value", ["".join(["ji", "m"]), User.JIM], ids=["str", "StrEnum"])
def test_a_string_matches_by_what_it_says(value: str) -> None:
    assert table(rule("jim's", user="jim")).resolve({"user": value}) == "jim's"


@pytest.mark.parametrize("published", [rule("a", user="jim"), table(rule("a", user="jim"))])
def test_what_is_published_cannot_be_changed(published: TableRule[str] | RuleTable[str]) -> None:
    with pytest.raises(FrozenInstanceError):
        published.__setattr__(next(iter(type(published).__slots__)), "other")


def test_a_rule_takes_no_room_but_for_its_parts() -> None:
    # A service may have hundreds of thousands of rules.
    assert not hasattr(rule("a", user="jim"), "__dict__")
    assert not hasattr(table(), "__dict__")
