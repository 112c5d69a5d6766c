"""`Setting`: its arguments, `get` before there is a client, and where it was declared."""

from __future__ import annotations

import copy
import gc
import pickle
import sys
import weakref
from contextvars import ContextVar
from enum import IntFlag
from typing import Any

import pytest

from heksher import Setting, _registry
from heksher._rules.contexts import Defaults
from heksher._rules.table import RuleTable, TableRule
from heksher.exceptions import (
    HeksherError,
    InvalidArgumentError,
    InvalidDefaultError,
    InvalidSettingError,
    MissingFeatureError,
    UnknownFeatureError,
    UnsupportedTypeError,
)
from heksher.setting import state_of
from heksher.setting_type import setting_type


def ttl_setting() -> Setting[int]:
    return Setting("cache_ttl", int, ["user", "theme"], 60)


def publish(
    setting: Setting[int], *rules: TableRule[int], **defaults: str | ContextVar[str]
) -> None:
    """Publish rules as a started client does."""
    table = RuleTable(setting.default_value, rules, ("user", "theme"))
    state = state_of(setting)
    state.publish(state.prepare(table, Defaults().adding(defaults)))


# --- declaring ------------------------------------------------------------------------------------


def test_a_declaration_is_kept_as_it_was_made() -> None:
    setting = Setting(
        name="cache_ttl",
        type=int,
        configurable_features=["user", "theme"],
        default_value=60,
        metadata={"owner": "me", "tags-1": [1, None]},
        alias="old.ttl",
        version="2.10",
    )
    assert setting.name == "cache_ttl"
    assert setting.type == setting_type(int)
    assert setting.configurable_features == ("user", "theme")
    assert setting.default_value == 60
    assert setting.metadata == {"owner": "me", "tags-1": [1, None]}
    assert (setting.alias, setting.version) == ("old.ttl", "2.10")
    assert repr(setting) == "<Setting 'cache_ttl': int by user, theme>"


def test_what_may_be_left_out_has_the_protocols_defaults() -> None:
    setting = ttl_setting()
    assert (setting.metadata, setting.alias, setting.version) == ({}, None, "1.0")


def test_an_int_is_a_float_settings_default_as_a_float() -> None:
    setting = Setting("ratio", float, ["user"], 1)
    assert type(setting.default_value) is float
    assert type(setting.get(user="jim")) is float


def test_the_callers_containers_may_change_afterwards() -> None:
    inner = ["a\\u0000b"]
    features, metadata = ["user"], {"k": inner}
    setting = Setting("cache_ttl", int, features, 60, metadata)
    features.append("theme")
    metadata["l"] = []
    inner.append("c")
    assert setting.configurable_features == ("user",)
    assert setting.metadata == {"k": ["a\\u0000b"]}


CYCLE: dict[str, Any] = {}
CYCLE["again"] = CYCLE

NAME_RULE = "letters, digits, underscores and dots"


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        pytest.param({"name": ""}, ["name", "''", NAME_RULE], id="empty name"),
        pytest.param({"name": "cache-ttl"}, ["'cache-ttl'", NAME_RULE], id="hyphen in the name"),
        pytest.param({"name": "ttl\n"}, [r"'ttl\n'", NAME_RULE], id="line feed in the name"),
        pytest.param({"name": "é"}, ["'é'", NAME_RULE], id="other letter in the name"),
        pytest.param({"name": None}, ["name", "None", NAME_RULE], id="no name"),
        pytest.param({"name": b"ttl"}, ["b'ttl'", NAME_RULE], id="bytes as the name"),
        pytest.param({"alias": "a b"}, ["alias", "'a b'", NAME_RULE], id="bad alias"),
        pytest.param({"alias": ""}, ["alias", "''", NAME_RULE], id="empty alias"),
        pytest.param({"alias": 5}, ["alias", "5", NAME_RULE], id="number as the alias"),
        pytest.param({"alias": "cache_ttl"}, ["alias is the name"], id="alias is the name"),
        pytest.param(
            {"version": "1"}, ["version", "'1'", "such as '1.0'"], id="version of one number"
        ),
        pytest.param(
            {"version": "1.0.0"}, ["'1.0.0'", "such as '1.0'"], id="version of three numbers"
        ),
        pytest.param(
            {"version": 1.0}, ["version", "1.0", "such as '1.0'"], id="number as the version"
        ),
        pytest.param({"version": None}, ["version", "None", "such as '1.0'"], id="no version"),
        pytest.param({"version": "1.0\n"}, [r"'1.0\n'"], id="line feed in the version"),
        pytest.param(
            {"configurable_features": "user"}, ["'user'", "['user']"], id="features are one string"
        ),
        pytest.param({"configurable_features": []}, ["at least one"], id="no feature"),
        pytest.param({"configurable_features": None}, ["None", "list"], id="features are None"),
        pytest.param({"configurable_features": ["user", 5]}, ["5", "string"], id="feature is 5"),
        pytest.param({"configurable_features": ["a", "a"]}, ["'a'", "twice"], id="feature twice"),
        pytest.param(
            {"configurable_features": ["my-user"]},
            ["'my-user'", "letters, digits and underscores"],
            id="bad feature",
        ),
        pytest.param({"type": set[int]}, ["set[int]", "int, float, str or bool"], id="set[int]"),
        pytest.param({"type": None}, ["None", "int, float, str or bool"], id="type is None"),
        pytest.param({"type": "int"}, ["'int'", "int, float, str or bool"], id="type is a string"),
        pytest.param({"default_value": "60"}, ["'60'", "str", "an int"], id="default is a str"),
        pytest.param({"default_value": 1.5}, ["1.5", "float", "an int"], id="default is a float"),
        pytest.param({"default_value": True}, ["True", "bool", "an int"], id="default is a bool"),
        pytest.param({"default_value": None}, ["None", "an int"], id="default is None"),
        pytest.param({"default_value": 2**63}, [str(2**63), "2**63 - 1"], id="default too large"),
        pytest.param({"metadata": {"a b": 1}}, ["'a b'", "hyphens"], id="bad metadata key"),
        pytest.param({"metadata": {5: 1}}, ["5", "hyphens"], id="number as a metadata key"),
        pytest.param({"metadata": {"k": ["a\0b"]}}, ["null character"], id="null in metadata"),
        pytest.param({"metadata": {"": 1}}, ["''", "hyphens"], id="empty metadata key"),
        pytest.param({"metadata": {"k": object()}}, ["no JSON"], id="metadata is no JSON"),
        pytest.param({"metadata": {"k": "\ud800"}}, ["no JSON"], id="surrogate in metadata"),
        pytest.param({"metadata": {"k": CYCLE}}, ["no JSON"], id="metadata without an end"),
        pytest.param({"metadata": 5}, ["metadata", "5", "mapping"], id="metadata is a number"),
        pytest.param({"metadata": ["k"]}, ["['k']", "mapping"], id="metadata is a list"),
        pytest.param({"metadata": []}, ["[]", "mapping"], id="metadata is an empty list"),
        pytest.param({"metadata": "k"}, ["'k'", "mapping"], id="metadata is a string"),
    ],
)
def test_an_unusable_declaration_is_refused_and_explained(
    change: dict[str, Any], parts: list[str]
) -> None:
    usable: dict[str, Any] = {
        "name": "cache_ttl",
        "type": int,
        "configurable_features": ["user"],
        "default_value": 60,
    }
    Setting(**usable)
    with pytest.raises(InvalidSettingError) as caught:
        Setting(**usable | change)
    assert isinstance(caught.value, HeksherError)
    assert isinstance(caught.value, ValueError)
    if "name" not in change:
        assert "'cache_ttl'" in str(caught.value)
    for part in parts:
        assert part in str(caught.value)


def test_a_default_of_the_wrong_type_is_also_a_type_error() -> None:
    wrong: Any = "60"
    with pytest.raises(TypeError) as caught:
        Setting("cache_ttl", int, ["user"], wrong)
    assert isinstance(caught.value, InvalidDefaultError)
    assert "of type int" in str(caught.value)


# --- get ------------------------------------------------------------------------------------------


def test_before_any_client_the_local_default_is_the_value() -> None:
    setting = ttl_setting()
    assert setting.get() == 60
    assert setting.get(user="jim") == 60
    assert setting.get(user="jim", theme="dark") == 60


@pytest.mark.parametrize("started", [False, True], ids=["no client", "started client"])
def test_an_unknown_feature_is_refused_by_the_interpreter_and_the_setting_is_named(
    started: bool,
) -> None:
    setting = ttl_setting()
    if started:
        publish(setting)
    with pytest.raises(TypeError, match=r"Setting\('cache_ttl'\)\.get\(\).*'thme'"):
        setting.get(user="jim", thme="dark")


@pytest.mark.parametrize("started", [False, True], ids=["no client", "started client"])
def test_where_get_is_not_generated_it_is_refused_with_the_features_there_are(
    started: bool,
) -> None:
    setting = Setting("ttl", int, ["user", "class"], 60)
    if started:
        publish(setting)
    for kind in (TypeError, ValueError):
        with pytest.raises(kind) as caught:
            setting.get(user="jim", thme="dark", usr="jim")
        assert isinstance(caught.value, UnknownFeatureError)
        assert caught.value.setting == "ttl"
        assert caught.value.unknown == ("thme", "usr")
        assert caught.value.features == ("user", "class")


def test_positional_arguments_are_refused_and_the_setting_is_named() -> None:
    get: Any = ttl_setting().get
    with pytest.raises(TypeError, match="cache_ttl"):
        get("jim")


def test_a_missing_feature_is_an_error_once_a_client_has_started_whatever_the_rules_are() -> None:
    setting = ttl_setting()
    publish(setting)
    with pytest.raises(MissingFeatureError) as caught:
        setting.get(user="jim")
    assert (caught.value.setting, caught.value.feature) == ("cache_ttl", "theme")
    assert setting.get(user="jim", theme="dark") == 60


def test_an_argument_goes_before_the_default() -> None:
    setting = ttl_setting()
    publish(setting, TableRule(1, (("user", "jim"),)), TableRule(2, (("user", "joe"),)), user="jim")
    assert setting.get(theme="dark") == 1
    assert setting.get(theme="dark", user="joe") == 2
    assert setting.get(theme="dark", user="jane") == 60


def test_a_context_variable_counts_while_it_has_a_value() -> None:
    theme: ContextVar[str] = ContextVar("theme")
    setting = ttl_setting()
    publish(setting, TableRule(1, (("theme", "dark"),)), theme=theme, user="jim")
    with pytest.raises(MissingFeatureError):
        setting.get()
    token = theme.set("dark")
    assert setting.get() == 1
    theme.reset(token)
    with pytest.raises(MissingFeatureError):
        setting.get()


def test_a_kept_get_sees_what_is_published_later() -> None:
    setting = ttl_setting()
    get = setting.get
    assert get(user="jim", theme="dark") == 60
    publish(setting, TableRule(1, (("user", "jim"),)))
    assert get(user="jim", theme="dark") == 1


def test_features_with_awkward_names_can_be_given() -> None:
    features = ["self", "cls", "contexts", "1st", "class", "setting", "published", "__debug__"]
    setting = Setting("awkward", int, features, 60)
    table = RuleTable(60, (TableRule(1, (("1st", "x"), ("self", "x"))),), tuple(features))
    state = state_of(setting)
    state.publish(state.prepare(table, Defaults()))
    assert setting.get(**dict.fromkeys(features, "x")) == 1
    assert setting.get(**dict.fromkeys(features, "x") | {"1st": "y"}) == 60


# --- subclasses -----------------------------------------------------------------------------------


class Doubled(Setting[int]):
    """A setting that overrides `get` and `__init__`."""

    def __init__(self, name: str) -> None:
        super().__init__(name, int, ["user"], 30)
        self.calls = 0

    def get(self, **contexts: str | None) -> int:  # pyright: ignore
        self.calls += 1
        return 2 * super().get(**contexts)


def test_a_subclass_may_have_a_get_of_its_own() -> None:
    setting = Doubled("doubled")
    assert setting.get(user="jim") == 60
    assert setting.calls == 1
    with pytest.raises(TypeError, match="doubled"):
        setting.get(usr="jim")


def test_a_settings_get_can_be_replaced_on_the_class_and_on_the_object(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def replacement(*_: object, **__: str) -> int:
        return 7

    setting = ttl_setting()
    for target in (setting, Setting):
        with monkeypatch.context() as patched:
            patched.setattr(target, "get", replacement)
            assert setting.get(user="jim") == 7
    assert setting.get(user="jim") == 60


# --- life -----------------------------------------------------------------------------------------


def test_a_setting_that_nobody_holds_is_collected() -> None:
    setting = ttl_setting()
    watch = weakref.ref(setting)
    del setting
    gc.collect()
    assert watch() is None


def test_a_kept_get_keeps_its_setting() -> None:
    setting = ttl_setting()
    watch = weakref.ref(setting)
    get = setting.get
    del setting
    gc.collect()
    assert watch() is not None
    assert get(user="jim") == 60
    del get
    gc.collect()
    assert watch() is None


# --- where it was declared ------------------------------------------------------------------------


def here() -> str:
    return f"{__file__}:{sys._getframe(1).f_lineno}"  # pyright: ignore[reportPrivateUsage]


def test_a_setting_knows_the_line_that_made_it() -> None:
    setting, line = Setting("a", int, ["user"], 1), here()
    assert _registry.origin_of(setting) == (__name__, line)


def test_a_parametrized_setting_knows_the_line_that_made_it() -> None:
    setting, line = Setting[int]("a", int, ["user"], 1), here()
    assert _registry.origin_of(setting) == (__name__, line)


def test_a_setting_of_a_subclass_knows_the_line_that_made_it() -> None:
    class More(Doubled):
        def __init__(self, name: str) -> None:
            super().__init__(name)

    for class_ in (Doubled, More):
        setting, line = class_(class_.__name__), here()
        assert _registry.origin_of(setting) == (__name__, line)


def test_a_setting_made_while_another_one_is_made_knows_its_own_line() -> None:
    class Pair(Setting[int]):
        def __init__(self) -> None:
            self.other, self.line = Setting("other", int, ["user"], 1), here()
            super().__init__("pair", int, ["user"], 1)

    pair, line = Pair(), here()
    assert _registry.origin_of(pair).place == line
    assert _registry.origin_of(pair.other).place == pair.line


# --- copies ---------------------------------------------------------------------------------------


def test_a_copy_of_a_setting_is_the_setting() -> None:
    setting = ttl_setting()
    assert copy.copy(setting) is setting
    assert copy.deepcopy({"one": [setting]})["one"][0] is setting


def test_a_setting_cannot_be_pickled_and_the_error_says_what_to_do() -> None:
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        with pytest.raises(TypeError, match=r"'cache_ttl' cannot be pickled.*module"):
            pickle.dumps(ttl_setting(), protocol)


@pytest.mark.parametrize("number", [float("nan"), float("-inf")], ids=repr)
def test_metadata_holds_numbers_that_json_has(number: float) -> None:
    metadata: dict[str, Any]
    for metadata in ({"a": number}, {"a": [{"b": (1.0, number)}]}):
        with pytest.raises(InvalidSettingError, match="'ttl': the metadata has an infinity or"):
            Setting("ttl", int, ["user"], 60, metadata)


# --- what came with the previous client -----------------------------------------------------------


def test_configurable_feature_is_another_spelling() -> None:
    setting = Setting("ttl", int, configurable_feature=["user", "theme"], default_value=60)
    assert setting.configurable_features == ("user", "theme")
    assert setting.get(user="jim") == 60


def test_features_and_default_value_have_to_be_given_and_features_once() -> None:
    kind: Any = Setting
    with pytest.raises(TypeError, match="'ttl': configurable_features is missing"):
        kind("ttl", int, default_value=60)
    with pytest.raises(TypeError, match="'ttl': default_value is missing"):
        kind("ttl", int, ["user"])
    with pytest.raises(TypeError, match="are the same parameter"):
        kind("ttl", int, ["user"], 60, configurable_feature=["user"])


@pytest.mark.parametrize("type_", [bytes, object(), "int", None, list, dict[int, str]], ids=repr)
def test_a_type_that_no_setting_can_have_is_refused_with_the_settings_name(type_: Any) -> None:
    # Also a TypeError and a RuntimeError, for code written for the previous client.
    with pytest.raises(UnsupportedTypeError, match="setting 'ttl'") as raised:
        Setting("ttl", type_, ["user"], 60)
    assert isinstance(raised.value, TypeError)
    assert isinstance(raised.value, RuntimeError)
    assert isinstance(raised.value, InvalidSettingError)


def test_hooks_of_a_setting_are_functions() -> None:
    kind: Any = Setting
    with pytest.raises(
        InvalidSettingError, match="invalid on_coerce 5: expected a function or None"
    ):
        kind("ttl", int, ["user"], 60, on_coerce=5)
    not_callable: Any = "check"
    with pytest.raises(InvalidArgumentError, match="invalid validator 'check'"):
        ttl_setting().add_validator(not_callable)


def test_validators_have_nothing_to_say_of_the_local_default() -> None:
    setting = ttl_setting()
    setting.add_validator(lambda value, rule, of: value // 0)
    assert setting.get(user="jim", theme="dark") == 60


def test_a_default_of_another_class_is_taken_where_it_says_the_same() -> None:
    class Access(IntFlag):
        READ = 1
        WRITE = 2

    # From code without type checks: 1e6 for an int, and 0 for no flag.
    defaults: Any = (1e6, 0, 3)
    size: Setting[int] = Setting("size", int, ["user"], defaults[0])
    assert (type(size.get()), size.get()) == (int, 1_000_000)
    nothing = Setting("nothing", Access, ["user"], defaults[1])
    assert (type(nothing.get()), nothing.get()) == (Access, Access(0))
    everything = Setting("everything", Access, ["user"], defaults[2])
    assert everything.get() == Access.READ | Access.WRITE


def test_a_default_value_that_was_declared_cannot_be_changed() -> None:
    setting: Any = ttl_setting()
    with pytest.raises(AttributeError, match="default_value"):
        setting.default_value = 5
