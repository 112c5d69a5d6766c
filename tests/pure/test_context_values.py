"""The values that `get()` takes for features: strings and None, whatever the rules are."""

from __future__ import annotations

from collections import UserString
from collections.abc import Iterator
from contextvars import ContextVar, copy_context
from enum import Enum, StrEnum
from typing import Any
from unittest.mock import Mock

import pytest
from support.published import publish
from werkzeug.local import LocalProxy

from heksher import Setting
from heksher._rules.contexts import Default, Defaults
from heksher._rules.table import RuleTable, TableRule
from heksher.clients.stub import Rule, SyncStubHeksherClient
from heksher.exceptions import FeatureTypeError, HeksherError, MissingFeatureError

JIM = TableRule(1, (("user", "jim"),), 1)
DARK = TableRule(2, (("theme", "dark"),), 2)
JIM_IN_DARK = TableRule(3, (("user", "jim"), ("theme", "dark")), 3)

#: What an operator may change.
RULES: list[tuple[TableRule[int], ...]] = [(), (JIM,), (DARK,), (JIM_IN_DARK,), (DARK, JIM)]


def made(form: str) -> Setting[int]:
    """Return a setting whose `get` has this form."""
    features = ["user", "theme", *(["class"] if form == "generic" else [])]
    setting = Setting("ttl", int, features, 60)
    if form == "forwarding":
        setting.add_validator(lambda value, rule, of: value)
    return setting


def operator_changes(form: str, **sources: Default) -> Iterator[Any]:
    """Return the same `get` again and again, each time with other rules."""
    setting = made(form)
    defaults = Defaults({"class": "x"} if form == "generic" else {}).adding(sources)
    for rules in RULES:
        publish(setting, RuleTable(60, rules, setting.configurable_features), defaults)
        yield setting.get


each_form = pytest.mark.parametrize("form", ["inline", "forwarding", "generic"])


class Color(Enum):
    RED = "jim"


class Theme(StrEnum):
    JIM = "jim"


class Old(str, Enum):  # noqa: UP042 - its str() is not its value
    JIM = "jim"


class Odd(str):
    """A string that cannot be looked for, and shows itself as another one."""

    __slots__ = ()
    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        raise ZeroDivisionError

    def __str__(self) -> str:
        return "eve"


class Liar:
    """Passes for a string, and cannot be looked for."""

    __hash__ = None  # type: ignore[assignment]

    __class__ = str  # type: ignore[assignment]

    def __str__(self) -> str:
        return "jim"


NO_STRINGS: list[object] = [
    5,
    5.0,
    True,
    b"jim",
    ["jim"],
    {"jim"},
    Color.RED,
    UserString("jim"),  # it equals the string, and has the same hash
    Mock(),
    LocalProxy(lambda: 5),
]

#: Each is "jim".
STRINGS: list[Any] = ["jim", Theme.JIM, Old.JIM, Odd("jim"), LocalProxy(lambda: "jim"), Liar()]


def kind_of(value: object) -> str:
    return type(value).__name__


# --- refused --------------------------------------------------------------------------------------


@each_form
@pytest.mark.parametrize("value", NO_STRINGS, ids=kind_of)
def test_a_value_of_another_type_is_refused_whatever_the_rules_are(form: str, value: Any) -> None:
    for get in (made(form).get, *operator_changes(form)):
        for theme in ("dark", "light", None):
            with pytest.raises(TypeError) as caught:
                get(user=value, theme=theme)
            assert isinstance(caught.value, FeatureTypeError)
            assert isinstance(caught.value, HeksherError)
            assert (caught.value.setting, caught.value.feature) == ("ttl", "user")
            assert caught.value.type_name == kind_of(value)
        with pytest.raises(FeatureTypeError, match="'theme'"):
            get(user="jim", theme=value)


@pytest.mark.parametrize(
    ("value", "advice"),
    [
        (5, "user=str(...)"),
        (LocalProxy(lambda: 5), "user=str(...)"),
        (Color.RED, "user=(...).value"),  # str() of it is "Color.RED"
        (b"jim", "user=(...).decode()"),  # str() of it is "b'jim'"
    ],
    ids=kind_of,
)
def test_the_advice_leads_to_a_string_that_rules_match(value: Any, advice: str) -> None:
    with pytest.raises(FeatureTypeError) as caught:
        made("inline").get(user=value)
    assert f"expected a string, such as {advice}, or None" in str(caught.value)


@each_form
@pytest.mark.parametrize("value", NO_STRINGS, ids=kind_of)
def test_what_a_context_variable_holds_is_checked_likewise(form: str, value: Any) -> None:
    user: ContextVar[str] = ContextVar("user", default=value)
    for get in operator_changes(form, user=user):
        with pytest.raises(FeatureTypeError, match="'user'"):
            get(theme="dark")
        get(theme="dark", user="jim")  # then the variable is not read


@each_form
def test_an_argument_is_checked_where_a_constant_is_the_default(form: str) -> None:
    for get in operator_changes(form, user="jim", theme="dark"):
        for arguments in ({"user": 5}, {"theme": 5}, {"user": "jim", "theme": 5}, {"user": [5]}):
            with pytest.raises(FeatureTypeError):
                get(**arguments)


@each_form
def test_a_proxy_is_taken_for_what_it_stands_for_at_the_moment(form: str) -> None:
    user: ContextVar[Any] = ContextVar("user")
    proxy: Any = LocalProxy(user)
    for get in operator_changes(form):
        with pytest.raises(FeatureTypeError, match="LocalProxy"):
            get(user=proxy, theme="dark")

        def within(get: Any = get) -> None:
            user.set("jim")
            assert get(user=proxy, theme="dark") == get(user="jim", theme="dark")
            user.set(5)
            with pytest.raises(FeatureTypeError, match="LocalProxy"):
                get(user=proxy, theme="dark")

        copy_context().run(within)


# --- taken ----------------------------------------------------------------------------------------


@each_form
@pytest.mark.parametrize("value", STRINGS, ids=kind_of)
def test_what_is_a_string_to_isinstance_counts_as_the_string_that_it_is(
    form: str, value: Any
) -> None:
    assert made(form).get(user=value, theme=value) == 60
    user: ContextVar[str] = ContextVar("user", default=value)
    for by_argument, by_variable in zip(
        operator_changes(form), operator_changes(form, user=user), strict=True
    ):
        for theme in ("dark", "light", None):
            expected = by_argument(user="jim", theme=theme)
            assert by_argument(user=value, theme=theme) == expected
            assert by_variable(theme=theme) == expected


@each_form
def test_a_mock_that_passes_for_a_string_makes_no_difference(form: str) -> None:
    mock: Any = Mock(spec=str)
    for get in (made(form).get, *operator_changes(form)):
        assert get(user=mock, theme="light") == 60


@each_form
def test_none_meets_no_condition(form: str) -> None:
    assert made(form).get(user=None, theme=None) == 60
    for get, expected in zip(operator_changes(form), [60, 60, 2, 60, 2], strict=True):
        assert get(user=None, theme="dark") == expected
        assert get(user=None, theme=None) == 60
    for get, expected in zip(
        operator_changes(form, user="jim", theme="dark"), [60, 60, 2, 60, 2], strict=True
    ):
        assert get(user=None) == expected
        assert get(user=None, theme=None) == 60


@each_form
def test_a_context_variable_may_hold_none(form: str) -> None:
    user: ContextVar[str | None] = ContextVar("user", default=None)
    for get, expected in zip(operator_changes(form, user=user), [60, 60, 2, 60, 2], strict=True):
        assert get(theme="dark") == expected
        assert get(theme=None) == 60


@each_form
def test_none_is_not_missing(form: str) -> None:
    for get in operator_changes(form):
        with pytest.raises(MissingFeatureError, match="'theme'"):
            get(user=None)


@each_form
def test_an_ellipsis_counts_as_left_out(form: str) -> None:
    left_out: Any = ...
    for get in operator_changes(form, theme="dark"):
        assert get(user="jim", theme=left_out) == get(user="jim")
        with pytest.raises(MissingFeatureError, match="'user'"):
            get(user=left_out)


# --- stubs ----------------------------------------------------------------------------------------


@each_form
def test_stubs_take_and_refuse_the_same(form: str) -> None:
    setting = made(form)
    number: Any = 5
    rest = {"class": "x"} if form == "generic" else {}
    with SyncStubHeksherClient() as client:
        client.set_defaults(theme=Old.JIM)
        client[setting].rules = [Rule({"user": Odd("jim"), "theme": Old.JIM}, 1)]
        for value in STRINGS:
            assert setting.get(user=value, **rest) == 1
        assert setting.get(user=None, **rest) == 60
        for arguments in ({"user": number}, {"user": "jim", "theme": number}):
            with pytest.raises(FeatureTypeError):
                setting.get(**arguments, **rest)
