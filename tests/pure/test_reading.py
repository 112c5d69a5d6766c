"""From a section of the service's answer to the table of a setting: what is used, what is dropped."""

from __future__ import annotations

import json
from typing import Any

import pytest
from support.published import publish, published
from support.reading import WholeSection, read_section, read_table

from heksher import TRACK_ALL, Setting
from heksher._client.reading import ReadResult, SectionReader
from heksher._client.unused import Listed
from heksher._rules.contexts import Defaults
from heksher._rules.groups import GroupedRules, SharedStrings
from heksher._rules.table import RuleTable, TableRule
from heksher._rules.tracking import Tracking
from heksher._wire import Batch, RuleData, decode_section
from heksher.setting import QueriedRule
from heksher.setting_type import HeksherSequence, SettingType
from heksher.status import CoercedRule, RejectedRule

FEATURES = ("environment", "user", "theme")


def ttl_setting() -> Setting[int]:
    return Setting("ttl", int, ["theme", "user"], 60)


def rule(rule_id: int, value: Any, /, **conditions: str) -> RuleData:
    return RuleData(value, tuple(conditions.items()), rule_id)


def result_of(*rules: RuleData, default: Any = 60, tracked: Any = None) -> ReadResult[int]:
    tracking = Tracking().adding(tracked or {})
    return read_table(ttl_setting(), WholeSection(rules, default), FEATURES, tracking)


def test_rules_are_taken_over_with_values_of_the_type_and_the_services_order() -> None:
    result = result_of(
        rule(7, 1.0, user="jim"), rule(8, 2, user="jim", theme="dark"), rule(9, 3), default=90.0
    )
    assert result == ReadResult(
        RuleTable(
            90,
            (
                TableRule(1, (("user", "jim"),), 7),
                TableRule(2, (("user", "jim"), ("theme", "dark")), 8),
                TableRule(3, (), 9),
            ),
            FEATURES,
        ),
        Listed(),
        Listed(),
    )
    assert [type(each.value) for each in result.table.rules] == [int, int, int]
    assert type(result.table.default) is int


class BrokenType(SettingType[int]):
    """A type of an application, with an error of its own for what it does not like."""

    @property
    def wire_name(self) -> str:
        return "int"

    def encode(self, value: int) -> int:
        return value

    def decode(self, raw: Any, coercions: list[str]) -> int:
        if raw == 5:
            raise TypeError("no fives")
        if raw == 6:
            raise SystemExit("no sixes")
        return int(raw)


def test_a_type_that_raises_anything_costs_one_rule() -> None:
    setting = Setting("ttl", BrokenType(), ["user"], 60)
    rules = (rule(6, 6, user="ann"), rule(7, 5, user="jim"), rule(8, 2, user="joe"))
    result = read_table(setting, WholeSection(rules, 60), FEATURES, Tracking())
    assert [each.rule_id for each in result.table.rules] == [8]
    assert result.rejected == (
        RejectedRule("ttl", 6, "its type raised SystemExit: no sixes"),
        RejectedRule("ttl", 7, "its type raised TypeError: no fives"),
    )
    assert [type(each.error) for each in result.rejected] == [SystemExit, TypeError]


@pytest.mark.parametrize("value", ["x", None, 1.5, True, []], ids=repr)
def test_a_rule_with_a_value_of_another_type_is_rejected(value: Any) -> None:
    result = result_of(rule(7, value, user="jim"), rule(8, 2, user="joe"))
    assert [each.rule_id for each in result.table.rules] == [8]
    assert result.rejected == (RejectedRule("ttl", 7, f"{value!r} is not an int"),)


@pytest.mark.parametrize("feature", ["environment", "nobody_knows"])
def test_a_rule_on_a_feature_that_is_not_configurable_is_rejected(feature: str) -> None:
    result = result_of(rule(7, 1, user="jim", **{feature: "x"}), rule(8, 2, user="joe"))
    assert [each.rule_id for each in result.table.rules] == [8]
    (rejected,) = result.rejected
    assert rejected.rule_id == 7
    assert repr(feature) in rejected.reason


def test_a_rule_on_a_feature_that_the_service_does_not_list_is_not_in_the_table() -> None:
    # Its priority is unknown. Features and rules are two responses, which may disagree.
    result = read_table(
        ttl_setting(), WholeSection((rule(7, 1, theme="dark"),), 60), ("user",), Tracking()
    )
    assert result.table.rules == ()
    assert len(result.rejected) == 1


def test_rules_outside_of_what_is_tracked_are_left_out_silently() -> None:
    rules = [
        rule(1, 1, user="jim"),
        rule(2, "no int, but nobody asked", user="joe"),
        rule(3, 3, user="jim", theme="dark"),
        rule(4, 4, environment="dev"),
    ]
    some = result_of(*rules, tracked={"user": "jim"})
    assert [each.rule_id for each in some.table.rules] == [1]
    assert some.rejected == ()
    more = result_of(*rules, tracked={"user": "jim", "theme": TRACK_ALL})
    assert [each.rule_id for each in more.table.rules] == [1, 3]


@pytest.mark.parametrize("default", [0, 1, -5], ids=repr)
def test_the_services_default_beats_the_local_one(default: int) -> None:
    result = result_of(default=default)
    assert (result.table.default, result.rejected) == (default, ())


@pytest.mark.parametrize(
    ("kind", "local", "value"), [(str, "x", ""), (bool, True, False), (float, 1.0, 0.0)], ids=repr
)
def test_empty_defaults_are_values(kind: type[Any], local: Any, value: Any) -> None:
    setting: Setting[Any] = Setting("empty", kind, ["user"], local)
    result = read_table(setting, WholeSection((), value), FEATURES, Tracking())
    assert result == ReadResult(RuleTable(value, (), FEATURES), Listed(), Listed())


@pytest.mark.parametrize("unusable", [None, "x", 1.5, True, []], ids=repr)
def test_an_unusable_default_leaves_the_last_one(unusable: Any) -> None:
    setting = ttl_setting()
    section = WholeSection((rule(7, 1, user="jim"),), unusable)
    first = read_table(setting, section, FEATURES, Tracking())
    assert first.table.default == 60
    publish(setting, RuleTable(90))
    second = read_table(setting, section, FEATURES, Tracking())
    assert second.table.default == 90
    for result in (first, second):
        assert result.rejected == (
            RejectedRule("ttl", None, f"default value: {unusable!r} is not an int"),
        )
        assert [each.rule_id for each in result.table.rules] == [7]


def test_reading_publishes_nothing() -> None:
    setting = ttl_setting()
    before = published(setting)
    read_table(setting, WholeSection((rule(7, 1, user="jim"),), 90), FEATURES, Tracking())
    assert published(setting) is before


def test_a_rule_with_two_conditions_on_one_feature_is_rejected() -> None:
    twice = RuleData(1, (("user", "jim"), ("user", "jim")), 7)
    result = result_of(twice, rule(8, 2, user="jim"))
    assert [each.rule_id for each in result.table.rules] == [8]
    assert result.rejected == (RejectedRule("ttl", 7, "it has two conditions on 'user'"),)


def test_a_rule_on_a_feature_that_the_service_does_not_list_is_rejected() -> None:
    section = WholeSection((rule(7, 1, theme="dark"), rule(8, 2, user="jim")), 60)
    result = read_table(ttl_setting(), section, ("user",), Tracking())
    assert [each.rule_id for each in result.table.rules] == [8]
    assert "service's context features" in result.rejected[0].reason


# --- validators -----------------------------------------------------------------------------------


def test_validators_are_called_in_order_with_value_rule_and_setting() -> None:
    setting = ttl_setting()
    seen: list[tuple[str, int, QueriedRule | None]] = []

    @setting.add_validator
    def doubled(value: int, rule: QueriedRule | None, of: Setting[int]) -> int:
        assert of is setting
        seen.append(("doubled", value, rule))
        return 2 * value

    @setting.add_validator
    def next_one(value: int, rule: QueriedRule | None, of: Setting[int]) -> int:
        seen.append(("next_one", value, rule))
        return value + 1

    result = read_table(setting, WholeSection((rule(7, 10, user="jim"),), 60), FEATURES, Tracking())
    queried = QueriedRule(7, (("user", "jim"),))
    assert seen == [
        ("doubled", 10, queried),
        ("next_one", 20, queried),
        ("doubled", 60, None),
        ("next_one", 120, None),
    ]
    assert [each.value for each in result.table.rules] == [21]
    assert result.table.default == 121
    # Validators are not called for the application's own default value.
    assert setting.default_value == 60
    assert setting.get(user="jim", theme="dark") == 60
    # The decorator returns the function itself.
    assert doubled(1, None, setting) == 2


class Refusal(BaseException):
    """Not even an Exception."""


class Broken(Exception):
    def __str__(self) -> str:
        raise RuntimeError("nor can it be shown")


@pytest.mark.parametrize(
    "error",
    [ValueError("too large"), TypeError(), SystemExit(3), Refusal("no"), Broken()],
    ids=repr,
)
def test_a_validator_that_raises_anything_costs_one_rule(
    error: BaseException,
) -> None:
    setting = ttl_setting()

    @setting.add_validator
    def at_most_100(value: int, rule: QueriedRule | None, of: Setting[int]) -> int:
        if value > 100:
            raise error
        return value

    section = WholeSection((rule(7, 101, user="jim"), rule(8, 100, user="joe")), 61)
    result = read_table(setting, section, FEATURES, Tracking())
    assert [each.rule_id for each in result.table.rules] == [8]
    (rejected,) = result.rejected
    assert (rejected.setting, rejected.rule_id, rejected.error) == ("ttl", 7, error)
    assert type(error).__name__ in rejected.reason
    assert "at_most_100" in rejected.reason
    # The error is kept, and must not keep the frames that it passed alive.
    assert error.__traceback__ is None


class Frozen(Exception):
    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(name)


def test_an_error_is_kept_with_its_causes_and_without_frames() -> None:
    setting = ttl_setting()
    refused, circle = Frozen("refused"), ValueError("circle")

    @setting.add_validator
    def from_another(value: int, rule: QueriedRule | None, of: Setting[int]) -> int:
        if rule is None:
            return value
        if value == 1:
            raise circle from circle
        try:
            return int("?")
        except ValueError as error:
            cause = error
        raise refused from cause

    section = WholeSection((rule(1, 1, user="joe"), rule(2, 2, user="jim")), 61)
    result = read_table(setting, section, FEATURES, Tracking())
    assert [each.error for each in result.rejected] == [circle, refused]
    assert circle.__cause__ is circle
    assert isinstance(refused.__cause__, ValueError)
    for error in (circle, refused, refused.__cause__):
        assert error.__traceback__ is None
        assert error.__context__ is None


def test_ctrl_c_in_a_validator_passes() -> None:
    setting = ttl_setting()

    @setting.add_validator
    def interrupted(value: int, rule: QueriedRule | None, of: Setting[int]) -> int:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        read_table(setting, WholeSection((), 61), FEATURES, Tracking())


def test_a_default_that_a_validator_refuses_leaves_the_last_one() -> None:
    setting = ttl_setting()
    publish(setting, RuleTable(90))

    @setting.add_validator
    def refuses(value: int, rule: QueriedRule | None, of: Setting[int]) -> int:
        raise ValueError("never")

    result = read_table(setting, WholeSection((), 61), FEATURES, Tracking())
    assert result.table.default == 90
    assert [each.rule_id for each in result.rejected] == [None]
    assert "default value" in result.rejected[0].reason


# --- coercions ------------------------------------------------------------------------------------


def sizes_setting(**options: Any) -> Setting[Any]:
    return Setting("sizes", HeksherSequence(int), ["user"], [1], **options)


NEWER = WholeSection((rule(7, [1, "x", 3], user="jim"), rule(8, [4], user="joe")), ["y", 9])


def test_a_value_of_a_newer_type_is_used_as_far_as_it_fits_and_reported_with_its_path() -> None:
    result = read_table(sizes_setting(), NEWER, FEATURES, Tracking())
    assert [each.value for each in result.table.rules] == [(1, 3), (4,)]
    assert result.table.default == (9,)
    assert result.rejected == ()
    assert [(each.setting, each.rule_id) for each in result.coerced] == [
        ("sizes", 7),
        ("sizes", None),
    ]
    assert [each.coercions[0].partition(":")[0] for each in result.coerced] == [
        "element 1",
        "element 0",
    ]
    assert result.coerced[0] == CoercedRule("sizes", 7, result.coerced[0].coercions)


def test_on_coerce_is_called_with_five_arguments_and_its_value_is_used() -> None:
    seen: list[Any] = []

    def on_coerce(*arguments: Any) -> Any:
        seen.append(arguments)
        return ("another",)

    setting = sizes_setting(on_coerce=on_coerce)
    result = read_table(setting, NEWER, FEATURES, Tracking())
    (value, raw, coercions, queried, of), of_default = seen
    assert (value, raw, queried, of) == (
        (1, 3),
        [1, "x", 3],
        QueriedRule(7, (("user", "jim"),)),
        setting,
    )
    assert coercions[0].startswith("element 1: ")
    assert of_default[3] is None
    assert [each.value for each in result.table.rules] == [("another",), (4,)]
    assert result.table.default == ("another",)
    assert len(result.coerced) == 2


def test_validators_come_after_on_coerce() -> None:
    def on_coerce(value: tuple[int, ...], *_: Any) -> tuple[int, ...]:
        return (*value, 0)

    setting = sizes_setting(on_coerce=on_coerce)
    setting.add_validator(lambda value, rule, of: sum(value))
    result = read_table(setting, NEWER, FEATURES, Tracking())
    assert [each.value for each in result.table.rules] == [4, 4]


@pytest.mark.parametrize("error", [TypeError("rather not"), ValueError("nor this")], ids=repr)
def test_an_on_coerce_that_raises_costs_one_rule(error: Exception) -> None:
    def on_coerce(*arguments: Any) -> Any:
        raise error

    result = read_table(sizes_setting(on_coerce=on_coerce), NEWER, FEATURES, Tracking())
    assert [each.rule_id for each in result.table.rules] == [8]
    assert result.table.default == (1,)
    assert [(each.rule_id, each.error) for each in result.rejected] == [(7, error), (None, error)]
    assert result.coerced == ()


def test_on_coerce_none_refuses_all_coercions() -> None:
    result = read_table(sizes_setting(on_coerce=None), NEWER, FEATURES, Tracking())
    assert [each.rule_id for each in result.table.rules] == [8]
    assert result.table.default == (1,)
    assert [each.rule_id for each in result.rejected] == [7, None]
    assert "element 1: " in result.rejected[0].reason


# --- how rules are kept ---------------------------------------------------------------------------


def test_rules_are_kept_by_features_and_can_be_read_as_rules() -> None:
    rules = result_of(
        rule(1, 1, user="jim"), rule(2, 2, theme="dark", user="joe"), rule(3, 3, user="joe")
    ).table.rules
    expected = (
        TableRule(1, (("user", "jim"),), 1),
        TableRule(3, (("user", "joe"),), 3),
        TableRule(2, (("user", "joe"), ("theme", "dark")), 2),
    )
    assert len(rules) == 3
    assert rules != expected[:2]
    assert rules != list(expected)
    assert tuple(rules) == expected
    assert rules == expected
    assert rules == GroupedRules(FEATURES, expected)
    assert hash(rules) == hash(expected)
    assert repr(rules) == repr(expected)
    assert rules[-1] == expected[-1]
    assert rules[:2] == expected[:2]


@pytest.mark.parametrize("rule_id", [2**63, -(2**63) - 1, 2**70, 10**400])
def test_a_rule_whose_number_has_more_than_64_bits_cannot_be_read(rule_id: int) -> None:
    raw = b"""{"default_value": 60, "rules": [
        {"value": 1, "context_features": [["user", "jim"]], "rule_id": %d},
        {"value": 2, "context_features": [["user", "joe"]], "rule_id": %d}]}"""
    section = read_section(raw % (rule_id, 2**63 - 1))
    result = read_table(ttl_setting(), section, FEATURES, Tracking())
    assert [each.rule_id for each in result.table.rules] == [2**63 - 1]
    [rejected] = result.rejected
    assert rejected.rule_id is None
    assert str(rule_id)[:60] in rejected.reason


def test_the_newest_wins_of_rules_that_the_service_stored_twice() -> None:
    rules = (
        rule(9, 9, user="jim", theme="dark"),
        rule(4, 4, theme="dark", user="jim"),
        rule(5, 5, user="joe", theme="dark"),
    )
    table = result_of(*rules).table
    setting = ttl_setting()
    publish(setting, table)
    for user, value in (("jim", 9), ("joe", 5), ("ann", 60)):
        assert setting.get(user=user, theme="dark") == value
        assert table.resolve({"user": user, "theme": "dark"}) == value
    publish(setting, table, Defaults({"theme": "dark"}))
    assert [setting.get(user=user) for user in ("jim", "joe", "ann")] == [9, 5, 60]


def test_the_newest_wins_of_rules_stored_twice_whichever_batch_it_is_in() -> None:
    reader = SectionReader(ttl_setting(), FEATURES, Tracking())
    for part in (
        [rule(1, 1, user="jim"), rule(5, 5, user="joe"), rule(3, 3, user="ann")],
        [rule(4, 4, user="jim"), rule(2, 2, user="joe")],
        [rule(6, 6, user="sue"), rule(2**63 - 1, 7, user="ann"), rule(8, 8, user="jim")],
        [rule(9, 9, user="pat")],
    ):
        reader.add(Batch(tuple(part)))
    table = reader.finish(60).table
    assert {each.conditions[0][1]: (each.value, each.rule_id) for each in table.rules} == {
        "jim": (8, 8),
        "joe": (5, 5),
        "ann": (7, 2**63 - 1),
        "sue": (6, 6),
        "pat": (9, 9),
    }


def test_equal_strings_and_numbers_are_kept_once_and_no_value_changes_its_type() -> None:
    def section_of(value: str, first: int, environment: str) -> str:
        rules = [
            {
                "value": json.loads(value),
                "context_features": [["environment", environment], ["user", f"user {number}"]],
                "rule_id": first + number,
            }
            for number in range(4)
        ]
        return json.dumps({"default_value": json.loads(value), "rules": rules})

    strings = SharedStrings()
    read: list[TableRule[Any]] = []
    type_: Any
    for type_, value in (
        (int, "1000"),
        (str, '"value"'),
        (float, "1000.0"),
        (int, "1"),
        (bool, "true"),
        (str, '"value"'),
        (int, "1000"),
    ):
        setting: Setting[Any] = Setting(
            f"shared_{len(read)}", type_, ["environment", "user"], type_()
        )
        reader = SectionReader(setting, FEATURES, Tracking(), strings)
        for batch in decode_section(section_of(value, len(read), "dev").encode()).batches:
            reader.add(batch)
        found = list(reader.finish(json.loads(value)).table.rules)
        assert [(type(each.value), each.value) for each in found] == [
            (type_, json.loads(value))
        ] * 4
        read += found
    assert len({id(each.value) for each in read[:4]}) == 1
    assert len({id(each.value) for each in (*read[4:8], *read[20:24])}) == 1
    # Numbers are shared in a batch only: a service can choose some whose hashes collide.
    assert len({id(each.value) for each in (*read[:4], *read[-4:])}) == 2
    for condition, differing in ((0, 1), (1, 4)):
        assert len({id(each.conditions[condition][1]) for each in read}) == differing


@pytest.mark.parametrize(
    "sections",
    [
        [["user"], ["user"]],
        [["user"], ["user,theme"]],
        [["user,theme"], ["user"]],
        [["user", "user,theme"]],
    ],
    ids=str,
)
def test_equal_strings_of_conditions_are_kept_once(sections: list[list[str]]) -> None:
    strings = SharedStrings()
    tables: list[RuleTable[int]] = []
    for sets in sections:
        reader = SectionReader(ttl_setting(), FEATURES, Tracking(), strings)
        rules = [
            {
                "value": 1,
                "context_features": [[name, "a user"] for name in features.split(",")],
                "rule_id": number,
            }
            for number, features in enumerate(sets)
        ]
        for batch in decode_section(json.dumps({"rules": rules}).encode()).batches:
            reader.add(batch)
        tables.append(reader.finish(60).table)
    texts = [text for table in tables for rule in table.rules for _, text in rule.conditions]
    assert len(texts) >= 2
    assert len({*map(id, texts)}) == 1


def test_many_rules_are_read_in_batches_and_none_is_lost() -> None:
    rules = [
        {"value": number, "context_features": [["user", f"user{number}"]], "rule_id": number}
        for number in range(1234)
    ]
    rules[700] = {"value": 700}
    raw = json.dumps({"default_value": 1, "rules": rules}).encode()
    batches = list(decode_section(raw).batches)
    assert len(batches) > 1
    assert sum(len(batch.objects) for batch in batches) == 1233
    reader = SectionReader(ttl_setting(), FEATURES, Tracking())
    for batch in batches:
        reader.add(batch)
    result = reader.finish(1)
    assert [each.value for each in result.table.rules] == [n for n in range(1234) if n != 700]
    assert len(result.rejected) == 1
    assert result == read_table(ttl_setting(), read_section(raw), FEATURES, Tracking())
