"""How settings are declared to a service, and how its answers are described."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from heksher import Setting
from heksher._client.declarations import (
    Catalogue,
    DeclarationPlan,
    declaration_of,
    describe_answer,
    describe_failure,
    look_ups,
    plan_declaration,
)
from heksher._wire import Declaration, DeclarationAnswer, Difference
from heksher.exceptions import ServiceError
from heksher.status import DeclarationState, DeclaredSetting, SettingData

TTL = Declaration("ttl", "int", ("user", "theme"), 60, {"k": 1}, None, "1.0")
UPTODATE = DeclaredSetting(DeclarationState.UPTODATE, "1.0")
STORED = SettingData("ttl", "int", 60, "1.0", ["theme", "user"], {"k": 1}, [])


def test_a_setting_declares_what_it_was_made_with() -> None:
    setting = Setting("ratio", float, ["user", "theme"], 1, {"k": 1}, "old", "2.3")
    assert declaration_of(setting) == Declaration(
        "ratio", "float", ("user", "theme"), 1.0, {"k": 1}, "old", "2.3"
    )


@pytest.mark.parametrize(
    ("names", "lists_by_name", "asked"),
    [
        (["a", "b"], True, [["?settings=a,b"], ["?"]]),
        ([], True, [[], ["?"]]),
        (["a", "b.c"], False, [["/a", "/b.c"], ["?"]]),
        (["a", ".."], False, [["?"]]),
        ([f"s{number}" for number in range(21)], False, [["?"]]),
    ],
    ids=["embedded", "nothing", "original", "a step in the path", "too many"],
)
def test_how_settings_are_looked_up(
    names: list[str], lists_by_name: bool, asked: list[list[str]]
) -> None:
    def shown(target: str) -> str:
        target = target.removeprefix("api/v1/settings")
        return target.replace("include_additional_data=true", "").replace("&", "")

    ways = look_ups(names, lists_by_name=lists_by_name)
    assert [[shown(each.request.target) for each in way] for way in ways] == asked


def test_the_catalogue_finds_by_name_and_by_alias() -> None:
    other = SettingData("other", "str", "", "1.0", aliases=["b"])
    stored = replace(STORED, aliases=["a", "old"])
    catalogue = Catalogue([stored, other])
    assert [catalogue.find(name) for name in ("ttl", "a", "old")] == [stored] * 3
    assert [catalogue.find(name) for name in ("other", "b")] == [other] * 2
    assert catalogue.find("nobody") is None
    assert catalogue.find(None) is None


# --- new settings ---------------------------------------------------------------------------------


def test_a_new_setting_at_the_first_version_is_declared() -> None:
    assert plan_declaration(TTL, Catalogue([])) == DeclarationPlan((TTL,), "ttl")


@pytest.mark.parametrize("version", ["2.3", "1.1", "1.00", "0.9"])
def test_a_new_setting_at_another_version_is_declared_at_the_first_one_too(
    version: str,
) -> None:
    declaration = replace(TTL, version=version)
    assert plan_declaration(declaration, Catalogue([])) == DeclarationPlan(
        (TTL, declaration), "ttl"
    )


def test_a_new_setting_leaves_out_an_alias_that_the_service_does_not_know() -> None:
    declaration = replace(TTL, alias="old", version="1.1")
    bare = replace(TTL, version="1.1")
    assert plan_declaration(declaration, Catalogue([])) == DeclarationPlan(
        (TTL, bare), "ttl", unknown_alias=True
    )


# --- renames --------------------------------------------------------------------------------------


def test_a_rename_is_declared_with_the_alias_and_at_its_own_version() -> None:
    declaration = replace(TTL, alias="old", version="1.1")
    stored = replace(STORED, name="old")
    assert plan_declaration(declaration, Catalogue([stored])) == DeclarationPlan(
        (declaration,), "ttl"
    )


def test_a_rename_is_not_declared_again() -> None:
    declaration = replace(TTL, alias="old")
    stored = replace(STORED, aliases=["old", "older"])
    assert plan_declaration(declaration, Catalogue([stored])) == DeclarationPlan(
        (), "ttl", UPTODATE
    )


def test_a_setting_that_an_operator_renamed_is_not_declared() -> None:
    renamed = replace(STORED, name="new", aliases=["ttl"], version="3.0")
    for declaration in (TTL, replace(TTL, version="2.0", default_value=5)):
        assert plan_declaration(declaration, Catalogue([renamed])) == DeclarationPlan(
            (), "new", DeclaredSetting(DeclarationState.RENAMED, "3.0")
        )


def test_a_setting_that_exists_leaves_out_an_unknown_alias() -> None:
    declaration = replace(TTL, alias="old")
    assert plan_declaration(declaration, Catalogue([STORED])) == DeclarationPlan(
        (), "ttl", UPTODATE, unknown_alias=True
    )
    changed = replace(declaration, default_value=61)
    assert plan_declaration(changed, Catalogue([STORED])) == DeclarationPlan(
        (replace(changed, alias=None),), "ttl", unknown_alias=True
    )


def test_an_alias_of_another_setting_is_left_to_the_service_to_refuse() -> None:
    declaration = replace(TTL, alias="old")
    elsewhere = SettingData("elsewhere", "int", 1, "1.0", aliases=["old"])
    assert plan_declaration(declaration, Catalogue([STORED, elsewhere])) == DeclarationPlan(
        (declaration,), "ttl"
    )
    assert plan_declaration(declaration, Catalogue([elsewhere])) == DeclarationPlan(
        (declaration,), "ttl"
    )


# --- settings that exist --------------------------------------------------------------------------


def test_a_setting_that_is_up_to_date_costs_nothing() -> None:
    assert plan_declaration(TTL, Catalogue([STORED])) == DeclarationPlan((), "ttl", UPTODATE)


@pytest.mark.parametrize(
    "change",
    [
        {"version": "1.1"},
        {"version": "0.9"},
        {"version": "1.00"},
        {"type": "float"},
        {"configurable_features": ("user",)},
        {"configurable_features": ("user", "theme", "environment")},
        {"configurable_features": ("user", "environment")},
        {"default_value": 61},
        {"default_value": None},
        {"default_value": 60.0},
        {"metadata": {}},
        {"metadata": {"k": 2}},
        {"metadata": {"k": 1, "l": 1}},
        {"metadata": {"k": 1.0}},
        {"metadata": {"k": True}},
    ],
    ids=repr,
)
def test_any_difference_is_declared(change: dict[str, Any]) -> None:
    declaration = replace(TTL, **change)
    assert plan_declaration(declaration, Catalogue([STORED])) == DeclarationPlan(
        (declaration,), "ttl"
    )


def test_a_value_that_is_nested_too_deeply_to_compare_is_a_difference() -> None:
    deep: Any = None
    for _ in range(100_000):
        deep = [deep]
    assert plan_declaration(
        TTL, Catalogue([replace(STORED, default_value=deep)])
    ) == DeclarationPlan((TTL,), "ttl")
    different = (Difference("minor", "default_value", deep),)
    (text,) = describe_answer(
        TTL, DeclarationAnswer(DeclarationState.OUTDATED, different, "1.1")
    ).differences
    assert text.startswith("default_value is 60 here and [[[")
    assert len(text) < 1000


@pytest.mark.parametrize(
    ("here", "there", "is_equal"),
    [
        (1, 1, True),
        (1, 1.0, False),
        (1.0, 1, False),
        (1, True, False),
        (0, False, False),
        ("", None, False),
        ([1, 2], [2, 1], False),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, True),
        ({"a": [1]}, {"a": [1.0]}, False),
        (1e300, 1e300, True),
        (2**64, 2**64, True),
        ((1, 2), [1, 2], True),
        ([1], [1, 2], False),
        ([{"a": 0.0}], [{"a": -0.0}], False),
        ({"a": 1}, {"b": 1}, False),
    ],
    ids=repr,
)
def test_values_are_equal_as_json_and_not_loosely(here: Any, there: Any, is_equal: bool) -> None:
    declaration = replace(TTL, default_value=here, metadata={"k": here})
    stored = replace(STORED, default_value=there, metadata={"k": there})
    needed = (
        DeclarationPlan((), "ttl", UPTODATE) if is_equal else DeclarationPlan((declaration,), "ttl")
    )
    assert plan_declaration(declaration, Catalogue([stored])) == needed


# --- refusals -------------------------------------------------------------------------------------


def refusal(declaration: Declaration, answer: DeclarationAnswer) -> str:
    declared = describe_answer(declaration, answer)
    assert declared.state is answer.state
    assert declared.refusal is not None
    return declared.refusal


def test_a_mismatch_names_each_attribute_here_and_there_and_a_hint() -> None:
    answer = DeclarationAnswer(
        DeclarationState.MISMATCH,
        (
            Difference("minor", "default_value", 61),
            Difference("minor", "metadata", {}),
            Difference("minor", "name", "ttl_new"),
            Difference("major", "type", "str"),
            Difference("major", "configurable_features", ["theme"]),
        ),
    )
    text = refusal(TTL, answer)
    for part in (
        "version 1.0",
        "default_value is 60 here and 61 on the service (minor)",
        "metadata is {'k': 1} here and {} on the service (minor)",
        "name is 'ttl' here and 'ttl_new' on the service (minor)",
        "type is 'int' here and 'str' on the service (major)",
        "configurable_features is ['theme', 'user'] here and ['theme'] on the service (major)",
        "raise the version",
    ):
        assert part in text


def test_a_rejection_has_the_services_version_and_words() -> None:
    answer = DeclarationAnswer(
        DeclarationState.REJECTED,
        (Difference("mismatch", message="setting type incompatible with values for rules: [7]"),),
        "1.4",
    )
    text = refusal(replace(TTL, version="2.0"), answer)
    for part in (
        "version 2.0",
        "rejected",
        "1.4",
        "incompatible with values for rules: [7] (mismatch)",
        "change or remove the rules that are named",
    ):
        assert part in text


def test_a_refusal_keeps_the_services_words() -> None:
    words = "HTTP 404: {'user'} are not acceptable context features"
    text = refusal(TTL, DeclarationAnswer(DeclarationState.REFUSED, text=words))
    for part in ("version 1.0", "refused", words, "Hint: correct the declaration"):
        assert part in text


def test_an_unknown_attribute_is_described_too() -> None:
    answer = DeclarationAnswer(DeclarationState.MISMATCH, (Difference("minor", "colour", "red"),))
    assert "colour is None here and 'red' on the service" in refusal(TTL, answer)


@pytest.mark.parametrize(
    "state",
    [
        DeclarationState.CREATED,
        DeclarationState.UPTODATE,
        DeclarationState.UPGRADED,
        DeclarationState.OUTDATED,
    ],
)
def test_an_accepted_declaration_is_described_with_version_and_differences(
    state: DeclarationState,
) -> None:
    answer = DeclarationAnswer(state, (Difference("major", "type", "float"),), "2.0")
    is_ours = state in (DeclarationState.CREATED, DeclarationState.UPTODATE)
    assert describe_answer(TTL, answer) == DeclaredSetting(
        state,
        "1.0" if is_ours else "2.0",
        ("type is 'int' here and 'float' on the service (major)",),
        None,
    )


def test_a_failure_says_that_the_declaration_is_retried() -> None:
    declared = describe_failure(TTL, ServiceError("HTTP 500"))
    assert declared.state is DeclarationState.FAILED
    assert declared.refusal is not None
    for part in ("version 1.0", "HTTP 500", "retried"):
        assert part in declared.refusal


def test_a_step_that_is_too_small_asks_for_the_major_version() -> None:
    answer = DeclarationAnswer(
        DeclarationState.REJECTED, (Difference("major", "type", "str"),), "1.4"
    )
    assert "raise the major version" in refusal(replace(TTL, version="1.5"), answer)


def test_a_long_value_of_the_service_is_cut() -> None:
    answer = DeclarationAnswer(
        DeclarationState.MISMATCH, (Difference("minor", "default_value", "x" * 100_000),)
    )
    assert len(refusal(TTL, answer)) < 1_500
