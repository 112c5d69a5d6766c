"""The generated ``get``, step by step: the plan, the source, and the code."""

from __future__ import annotations

import builtins
import copy
import gc
import importlib
import inspect
import linecache
import traceback
import weakref
from contextvars import ContextVar
from enum import Enum
from types import FunctionType
from typing import Any

import pytest
from fastapi import Depends, FastAPI
from fastapi.testclient import TestClient
from support.published import code_of

from heksher import Setting
from heksher._rules import codegen
from heksher._rules.codegen import (
    COMMON,
    can_compile,
    checks_of,
    compile_source,
    emit,
    emit_forwarding,
)
from heksher._rules.contexts import Defaults
from heksher._rules.plan import LookUp, Plan, Search, decide
from heksher._rules.table import RuleTable, TableRule
from heksher.exceptions import FeatureTypeError, MissingFeatureError
from heksher.setting import state_of
from heksher.setting_type import IntType

FEATURES = ("environment", "user", "theme")


def table(*rules: tuple[Any, dict[str, str]], default: Any = 0) -> RuleTable[Any]:
    return RuleTable(
        default,
        tuple(
            TableRule(value, tuple(conditions.items()), number)
            for number, (value, conditions) in enumerate(rules, 1)
        ),
        FEATURES,
    )


def plan_of(rules: RuleTable[Any], **sources: str | ContextVar[str]) -> Plan:
    return decide(FEATURES, rules, Defaults(sources), started=True)


# --- decide ---------------------------------------------------------------------------------------


def test_rules_are_grouped_by_the_features_they_ask_for_those_that_win_first() -> None:
    plan = plan_of(
        table(
            (1, {"environment": "dev"}),
            (2, {"user": "jim"}),
            (3, {"user": "joe"}),
            (4, {"environment": "dev", "user": "jim"}),
            (5, {"theme": "dark"}),
        )
    )
    assert plan.search == Search(
        (
            LookUp(("theme",), {"dark": 5}),
            LookUp(("user", "environment"), {("jim", "dev"): 4}),
            LookUp(("user",), {"jim": 2, "joe": 3}),
            LookUp(("environment",), {"dev": 1}),
        ),
        0,
    )
    assert plan.folded is None


def test_where_a_constant_is_given_other_rules_vanish_and_its_condition_leaves_the_keys() -> None:
    plan = plan_of(
        table(
            (1, {"environment": "dev", "user": "jim"}),
            (2, {"environment": "prod", "user": "joe"}),
            (3, {"user": "jim"}),
            (4, {"user": "eve"}),
            (5, {"environment": "dev"}),
            (6, {}),
        ),
        environment="dev",
    )
    assert plan.folded == Search((LookUp(("user",), {"jim": 1, "eve": 4}),), 5)
    assert len(plan.search.look_ups) == 3
    assert plan.search.default == 6


def test_sets_that_fold_to_one_are_joined_only_where_no_other_comes_between() -> None:
    order = ("a", "b", "user")
    rules = (
        TableRule(1, (("b", "x"), ("user", "jim"))),
        TableRule(2, (("a", "y"), ("user", "joe"))),
        TableRule(3, (("user", "jim"),)),
        TableRule(4, (("user", "eve"),)),
    )
    plan = decide(order, RuleTable(0, rules, order), Defaults({"b": "x"}), started=True)
    assert plan.folded == Search(
        (
            LookUp(("user",), {"jim": 1}),
            LookUp(("user", "a"), {("joe", "y"): 2}),
            LookUp(("user",), {"jim": 3, "eve": 4}),
        ),
        0,
    )


def test_of_two_rules_with_the_same_conditions_the_newer_one_counts() -> None:
    rules = (TableRule(2, (("user", "jim"),), 9), TableRule(1, (("user", "jim"),), 4))
    plan = plan_of(RuleTable(0, rules, FEATURES))
    assert plan.search.look_ups[0].values == {"jim": 2}


def test_before_a_start_a_feature_that_is_left_out_has_no_value() -> None:
    search = Search((LookUp(("user",), {"jim": 1}),), 0)
    plan = decide(FEATURES, table((1, {"user": "jim"})), Defaults(), started=False)
    assert plan == Plan(FEATURES, dict.fromkeys(FEATURES), search, Search((), 0))


# --- emit -----------------------------------------------------------------------------------------


def test_the_source_of_one_look_up_is_a_check_and_what_one_would_write_by_hand() -> None:
    source = emit(decide(("user",), table((1, {"user": "jim"})), Defaults(), True), inline=True)
    assert source.text == (
        "def get(*, user=...):\n"
        "    if type·(user) is not str· and user is not None:\n"
        "        user = check·user(user)\n"
        "    return find·1(user, default·)\n"
    )
    assert source.objects.keys() == {"find·1", "default·"}
    assert source.objects["find·1"].__self__ == {"jim": 1}
    assert source.objects["default·"] == 0


def test_the_source_depends_on_the_shape_of_a_plan_alone() -> None:
    texts = {
        emit(plan_of(rules, environment=constant), inline=True).text
        for rules, constant in [
            (table((1, {"user": "jim"})), "dev"),
            (table((2, {"user": "joe"}), (3, {"user": "eve"}), default="x"), "prod"),
        ]
    }
    assert len(texts) == 1


def test_every_feature_is_checked_before_the_first_look_up() -> None:
    source = emit(plan_of(table((1, {"user": "jim"}))), inline=True)
    lines = [line.strip() for line in source.text.splitlines()]
    assert lines[2:-1:2] == [f"{name} = check·{name}({name})" for name in FEATURES]
    assert lines[-1] == "return find·1(user, default·)"


def test_the_text_is_the_same_whether_objects_become_constants_or_globals() -> None:
    plan = plan_of(
        table((1, {"user": "jim"}), (2, {"theme": "dark"})),
        environment="dev",
        theme=ContextVar[str]("theme"),
    )
    inlined, named = emit(plan, inline=True), emit(plan, inline=False)
    assert inlined.text.splitlines()[1:] == named.text.splitlines()[1:]
    assert inlined.objects.keys() == named.objects.keys()
    assert all(name in inlined.text for name in inlined.objects)


@pytest.mark.parametrize(
    ("features", "can"),
    [
        (("user", "_", "get", "value", "A1"), True),
        (("class",), False),
        (("user", "None"), False),
        (("__debug__",), False),
        (("2nd",), False),
        (("é",), False),
        (("a b",), False),
    ],
)
def test_only_plain_identifiers_reach_the_source(features: tuple[str, ...], can: bool) -> None:
    assert can_compile(features) is can


# --- compile --------------------------------------------------------------------------------------


def function_of(plan: Plan, *, inline: bool) -> FunctionType:
    checks = checks_of("ttl", plan.features)
    source = emit(plan, inline=inline)
    scope = {**COMMON, **checks}
    inner = FunctionType(
        compile_source(source, checks), scope if inline else {**scope, **source.objects}, "get"
    )
    function = inner
    if not inline:
        function = FunctionType(
            compile_source(emit_forwarding(plan.features), checks),
            {**scope, "current·": inner},
            "get",
        )
    function.__kwdefaults__ = dict.fromkeys(plan.features, ...)
    return function


@pytest.mark.parametrize("inline", [True, False], ids=["inline", "forwarding"])
def test_the_code_answers_as_planned(inline: bool) -> None:
    theme: ContextVar[str] = ContextVar("theme")
    plan = plan_of(
        table(
            (1, {"environment": "dev", "user": "jim"}),
            (2, {"environment": "prod", "user": "jim"}),
            (3, {"theme": "dark"}),
        ),
        environment="dev",
        theme=theme,
    )
    get = function_of(plan, inline=inline)
    with pytest.raises(MissingFeatureError, match="'theme'"):
        get(user="jim")
    assert get(user="jim", theme="x") == 1
    assert get(user="jim", theme="dark") == 3
    assert get(user="jim", theme="x", environment="prod") == 2
    assert get(user="joe", theme="x", environment="dev") == 0
    theme.set("dark")
    assert get(user="joe") == 3
    with pytest.raises(MissingFeatureError, match="'user'"):
        get(theme="x")
    for argument in ("user", "theme", "environment"):
        with pytest.raises(FeatureTypeError, match=f"list.*'{argument}'"):
            get(**{"user": "jim", "theme": "x", argument: []})


def test_settings_of_one_shape_share_the_source_and_not_the_objects() -> None:
    one = function_of(plan_of(table((1, {"user": "jim"}))), inline=True)
    two = function_of(plan_of(table((2, {"user": "jim"}))), inline=True)
    assert one.__code__.co_filename == two.__code__.co_filename
    context = {"environment": "dev", "theme": "x", "user": "jim"}
    assert [one(**context), two(**context)] == [1, 2]


def test_what_is_inlined_is_not_looked_for_among_globals() -> None:
    plan = plan_of(
        table((1, {"user": "jim"}), (2, {"theme": "dark"})),
        environment="dev",
        theme=ContextVar[str]("theme"),
    )
    checks = checks_of("ttl", FEATURES)
    inlined = compile_source(emit(plan, inline=True), checks)
    assert inlined.co_names == ()
    assert not any(isinstance(each, str) and "·" in each for each in inlined.co_consts)
    named = emit(plan, inline=False)
    assert named.objects.keys() <= set(compile_source(named, checks).co_names)


# --- in a setting ---------------------------------------------------------------------------------


def publish(setting: Setting[Any], rules: RuleTable[Any], **sources: Any) -> None:
    state = state_of(setting)
    state.publish(state.prepare(rules, Defaults(sources)))


def test_generated_source_shows_up_in_tracebacks() -> None:
    ttl = Setting("cache_ttl", int, ["user"], 60)
    publish(ttl, RuleTable(60, (TableRule(1, (("user", "jim"),), 1),), ("user",)))
    with pytest.raises(MissingFeatureError) as caught:
        ttl.get()
    shown = "".join(traceback.format_exception(caught.value))
    assert "user = check·user(user)" in shown
    filename = code_of(ttl).co_filename
    assert linecache.getline(filename, 1) == "def get(*, user=...):\n"


def test_of_sources_no_more_characters_are_kept_than_there_is_room_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def function_with(name: str) -> FunctionType:
        rules = RuleTable(0, (TableRule(1, ((name, "x"),), 1),), (name,))
        source = emit(decide([name], rules, Defaults(), started=True), inline=True)
        sizes[name] = len(source.text)
        return FunctionType(compile_source(source, checks_of("ttl", [name])), {}, "get")

    def kept() -> list[str]:
        gc.collect()
        return [
            name
            for name, each in functions.items()
            if linecache.getlines(each.__code__.co_filename)
        ]

    sizes: dict[str, int] = {}
    names = [f"of_this_test_{number}" for number in range(7)]
    function_with(names[0])
    monkeypatch.setattr(codegen, "MOST_KEPT", 5 * sizes[names[0]])
    functions = {name: function_with(name) for name in names}
    assert kept() == names[2:]
    longer = names[0] * 3
    functions[longer] = function_with(longer)
    assert kept()[-1] == longer
    assert kept()[:-1] == names[-len(kept()) + 1 :]
    assert sum(sizes[name] for name in kept()) <= 5 * sizes[names[0]]
    assert functions[names[0]](**{names[0]: "x"}) == function_with(names[0])(**{names[0]: "x"}) == 1


def test_signature_and_help_show_the_features() -> None:
    ttl = Setting("cache_ttl", int, ["environment", "user"], 60)
    for _ in range(2):
        assert list(inspect.signature(ttl.get).parameters) == ["environment", "user"]
        assert str(inspect.signature(ttl.get)) == (
            "(*, environment: str | None = Ellipsis, user: str | None = Ellipsis)"
        )
        assert "environment, user" in (inspect.getdoc(ttl.get) or "")
        publish(ttl, RuleTable(60, (TableRule(1, (("user", "jim"),), 1),), ("user",)))


SOURCES: list[dict[str, str | ContextVar[str]]] = [
    {},
    {"environment": "dev"},
    {"user": "jim"},
    {"environment": "dev", "user": "jim"},
    {"environment": ContextVar("environment", default="dev")},
    {"user": ContextVar("user", default="jim")},
]


@pytest.mark.parametrize("sources", SOURCES, ids=str)
@pytest.mark.parametrize("form", ["inline", "forwarding", "generic"])
def test_what_is_given_by_position_is_refused(
    form: str, sources: dict[str, str | ContextVar[str]]
) -> None:
    features = ("environment", "class" if form == "generic" else "theme", "user")
    setting = Setting("ttl", int, features, 60)
    if form == "forwarding":
        setting.add_validator(lambda value, rule, of: value)
    rest = dict.fromkeys(features, "x")
    for _ in range(2):  # before the first publish, and after it
        for count in range(1, len(features) + 3):
            for given in ({}, rest, {"user": "jim"}, {"environment": "prod"}):
                with pytest.raises(TypeError, match=r"Setting\('ttl'\)\.get\(\) takes"):
                    setting.get(*["dev"] * count, **given)
        rules = (TableRule(1, (("user", "jim"),), 1), TableRule(2, (("environment", "dev"),), 2))
        publish(setting, RuleTable(60, rules, features), **sources)
    assert setting.get(**{**rest, "user": "jim"}) == 1


@pytest.mark.parametrize("makes_values", [False, True], ids=["inline", "forwarding"])
def test_a_call_that_the_interpreter_has_adapted_itself_to_sees_every_publish(
    makes_values: bool,
) -> None:
    setting = Setting("ttl", int, ["environment", "user"], 60)
    if makes_values:
        setting.add_validator(lambda value, rule, of: value)
    features = ("environment", "user")
    for number in range(20):
        rules = (
            TableRule(number, (("user", "jim"),), 1),
            TableRule(-1, (("environment", "dev"),), 2),
        )
        sources: dict[str, str] = {"environment": "dev"} if number % 3 else {}
        if number % 2:
            sources["user"] = "jim"
        publish(setting, RuleTable(60, rules, features), **sources)
        for _ in range(100):
            if len(sources) == 2:
                assert setting.get() == number
            assert setting.get(environment="dev", user="jim") == number
            assert setting.get(environment="dev", user="eve") == -1
            if "environment" in sources:
                assert setting.get(user="eve") == -1


@pytest.mark.parametrize("features", [["user"], ["user", "class"]], ids=["compiled", "generic"])
def test_a_kept_get_sees_every_publish_and_every_change_of_defaults(features: list[str]) -> None:
    setting = Setting("ttl", int, features, 60)
    get = setting.get
    others = dict.fromkeys(features[1:], "x")
    for number in range(3):
        rules = (TableRule(number, (("user", "jim"),), 1),)
        publish(setting, RuleTable(60, rules, tuple(features)), **others)
        assert get(user="jim") == number
        assert get(user="joe") == 60
        assert get is setting.get
    publish(
        setting, RuleTable(60, (TableRule(5, (("user", "jim"),), 1),), tuple(features)), user="jim"
    )
    assert get(**others) == 5


def test_values_that_the_application_makes_may_lead_back_to_the_setting() -> None:
    """The garbage collector does not see constants of code, but has to find such a circle."""
    setting = Setting("ttl", int, ["user"], 60)

    class Held(int):
        pass

    def holding(value: int, rule: object, of: Setting[int]) -> int:
        held = Held(value)
        held.setting = of  # type: ignore[attr-defined]
        return held

    publish(setting, RuleTable(60, (TableRule(1, (("user", "jim"),), 1),), ("user",)))
    assert setting.get(user="jim") == 1
    setting.add_validator(holding)
    value = holding(2, None, setting)
    publish(setting, RuleTable(60, (TableRule(value, (("user", "jim"),), 1),), ("user",)))
    get = setting.get
    assert get(user="jim") == 2
    gone = weakref.ref(setting)
    del setting, value, get
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize("features", [["user"], ["class"]], ids=["compiled", "generic"])
def test_a_dropped_setting_is_freed_by_the_garbage_collector(features: list[str]) -> None:
    gc.collect()
    rules = RuleTable(0, (TableRule(1, ((features[0], "jim"),), 1),), tuple(features))

    def dropped(number: int) -> weakref.ref[Setting[int]]:
        setting = Setting(f"setting{number}", int, features, 0)
        publish(setting, rules)
        return weakref.ref(setting)

    gone = [dropped(number) for number in range(10_000)]
    gc.collect()
    assert [ref() for ref in gone if ref() is not None] == []


def test_a_feature_may_have_a_name_that_the_generated_code_uses_or_looks_like() -> None:
    features = ["get", "value", "current", "default", "rules", "nothing", "self", "print"]
    setting = Setting("ttl", int, features, 0)
    rules = tuple(
        TableRule(number, ((name, "x"),), number) for number, name in enumerate(features, 1)
    )
    publish(setting, RuleTable(0, rules, tuple(features)))
    for number, name in enumerate(features, 1):
        assert setting.get(**{each: "x" if each == name else "y" for each in features}) == number


@pytest.mark.parametrize("makes_values", [False, True], ids=["inline", "forwarding"])
def test_a_feature_may_have_the_name_of_a_builtin(makes_values: bool) -> None:
    variable = ContextVar[str]("variable")
    for name in dir(builtins):
        setting = Setting("ttl", int, [name, "user"], 0)
        if makes_values:
            setting.add_validator(lambda value, rule, of: value)
        rules = (TableRule(1, ((name, "x"),), 1), TableRule(2, (("user", "jim"),), 2))
        publish(setting, RuleTable(0, rules, (name, "user")), **{name: variable})
        with pytest.raises(MissingFeatureError, match=repr(name)):
            setting.get(user="joe")
        token = variable.set("x")
        assert [setting.get(user=user) for user in ("jim", "joe")] == [2, 1]
        assert setting.get(**{name: "y", "user": "joe"}) == 0
        variable.reset(token)


def test_a_value_may_be_a_text_that_the_generated_code_uses() -> None:
    setting = Setting("text", str, ["user"], "default·")
    publish(
        setting, RuleTable("find·1", (TableRule("default·", (("user", "jim"),), 1),), ("user",))
    )
    assert setting.get(user="jim") == "default·"
    assert setting.get(user="joe") == "find·1"


# --- as an object of the interpreter --------------------------------------------------------------


class Unhashable(Enum):
    ONE = 1
    TWO = 2

    def __eq__(self, other: object) -> bool:
        return self is other


class Boxes(IntType):
    """An application's own type, whose values cannot be hashed."""

    def decode(self, raw: Any, coercions: list[str]) -> Any:
        return [raw]


@pytest.mark.parametrize(
    ("type_", "default", "other"),
    [
        (dict[str, float], {"tea": 2}, {"tea": 3}),
        (list[dict[str, float]], [{"tea": 2}], []),
        (Unhashable, Unhashable.ONE, Unhashable.TWO),
        (list[Unhashable], [Unhashable.ONE], [Unhashable.TWO]),
        (Boxes(), 1, 2),
    ],
    ids=["mapping", "mappings", "member", "members", "own type"],
)
def test_the_code_is_hashable_as_debuggers_need_whatever_the_values_are(
    type_: Any, default: Any, other: Any
) -> None:
    setting: Setting[Any] = Setting("prices", type_, ["user"], default)
    value = setting.type.decode(setting.type.encode(other), [])
    rules = (TableRule(value, (("user", "jim"),), 1), TableRule(value, (("user", "joe"),), 2))
    tables = [RuleTable(setting.default_value, rules[:count], ("user",)) for count in range(3)]
    for table_, sources in [(each, at) for each in tables for at in ({}, {"user": "jim"})]:
        assert {code_of(setting): 1}
        publish(setting, table_, **sources)
        assert setting.get(user="eve") == setting.default_value
    assert {code_of(setting): 1}
    assert setting.get() == setting.get(user="joe") == value


@pytest.mark.parametrize("module", ["pickle", "cloudpickle"])
@pytest.mark.parametrize("form", ["inline", "forwarding", "generic"])
def test_get_cannot_be_pickled(form: str, module: str) -> None:
    """Not even by value, as cloudpickle does it: the copy would never see another update."""
    feature = "class" if form == "generic" else "user"
    setting = Setting("ttl", int, [feature], 60)
    if form == "forwarding":
        setting.add_validator(lambda value, rule, of: value)
    for _ in range(2):  # before the first publish, and after it
        with pytest.raises(Exception, match=r"'ttl'.*cannot be pickled|Can't pickle.*'ttl'"):
            importlib.import_module(module).dumps({"ttl": setting.get})
        publish(setting, RuleTable(60, (TableRule(1, ((feature, "jim"),), 1),), (feature,)))
    assert copy.deepcopy(setting.get) is setting.get


@pytest.mark.parametrize("form", ["inline", "forwarding"])
def test_a_web_framework_can_call_get_with_what_visitors_send(form: str) -> None:
    """`Depends(ttl.get)` of FastAPI reads the signature, and each feature from the query string."""
    prices = Setting("prices", dict[str, float], ["environment", "user"], {"tea": 2})
    if form == "forwarding":
        prices.add_validator(lambda value, rule, of: value)
    rules = (TableRule(prices.type.decode({"tea": 3}, []), (("user", "jim"),), 1),)
    publish(prices, RuleTable(prices.default_value, rules, ("user",)), environment="dev")
    app = FastAPI()

    @app.get("/")
    def page(found: Any = Depends(prices.get)) -> Any:  # noqa: B008
        return found

    browser = TestClient(app)
    assert browser.get("/").status_code == 422
    answers = [browser.get("/", params={"environment": "x", "user": user}) for user in ("jim", "")]
    assert [answer.json() for answer in answers] == [{"tea": 3}, {"tea": 2}]
    shown = browser.get("/openapi.json").json()["paths"]["/"]["get"]["parameters"]
    assert [(each["name"], each["in"]) for each in shown] == [
        ("environment", "query"),
        ("user", "query"),
    ]
