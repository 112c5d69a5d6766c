"""Listeners without a client: what they refuse, what they compare, and their calls in several threads."""

from __future__ import annotations

import threading
from collections.abc import AsyncGenerator, Callable
from contextvars import ContextVar
from functools import partial
from typing import Any
from unittest.mock import AsyncMock

import pytest
from support.harness import PATIENCE
from support.property_helpers import limited_look_ups
from support.published import publish

from heksher import Cohort, Setting, SettingChanged, ValueChanged, _listening
from heksher._rules.contexts import Defaults
from heksher._rules.table import RuleTable, TableRule
from heksher.exceptions import FeatureTypeError, InvalidArgumentError, UnknownFeatureError
from heksher.setting import state_of

FEATURES = ("environment", "user")


@pytest.fixture
def setting() -> Setting[Any]:
    return Setting("ttl", int, FEATURES, 0)


def publish_and_look(setting: Setting[Any], table: RuleTable[Any], **options: Any) -> None:
    """Publish *table*, and call those who listen."""
    publish(setting, table, **options)
    for listener in state_of(setting).listeners:
        listener.look()


def table(*rules: tuple[Any, dict[str, str]], default: Any = 0) -> RuleTable[Any]:
    return RuleTable(
        default,
        tuple(TableRule(value, tuple(conditions.items())) for value, conditions in rules),
        FEATURES,
    )


# --- what is refused ------------------------------------------------------------------------------


async def coroutine_function(_: object) -> None: ...


async def generator_function(_: object) -> AsyncGenerator[None]:
    yield


class AsyncCallable:
    async def __call__(self, _: object) -> None: ...


@pytest.mark.parametrize(
    "callback",
    [
        None,
        5,
        coroutine_function,
        generator_function,
        partial(coroutine_function, 1),
        AsyncCallable(),
        AsyncMock(),
    ],
)
def test_only_ordinary_functions_can_be_callbacks(setting: Setting[Any], callback: Any) -> None:
    for contexts in ({}, {"user": "jim"}):
        with pytest.raises(InvalidArgumentError, match="expected an ordinary function"):
            setting.on_change(callback, **contexts)
    assert state_of(setting).listeners == ()


@pytest.mark.parametrize("started", [False, True])
def test_contexts_that_get_refuses_are_refused(setting: Setting[Any], started: bool) -> None:
    wrong: Any = 5
    publish(setting, table(), started=started)
    with pytest.raises(FeatureTypeError, match=r"str\(\.\.\.\)"):
        setting.on_change(print, environment="dev", user=wrong)
    with pytest.raises(UnknownFeatureError, match="theme"):
        setting.on_change(print, user="jim", theme="dark")
    assert state_of(setting).listeners == ()


def test_a_context_variable_that_get_refuses_is_refused_if_it_is_known(
    setting: Setting[Any],
) -> None:
    user: ContextVar[Any] = ContextVar("user", default=5)
    heard: list[ValueChanged[int]] = []
    setting.on_change(heard.append, environment="dev")
    defaults = Defaults({"user": user})
    publish_and_look(setting, table((1, {"environment": "dev"})), defaults=defaults)
    assert heard == [ValueChanged(setting, 0, 1)], "the feature has no value"
    with pytest.raises(FeatureTypeError):
        setting.on_change(heard.append, environment="dev")


def test_cohorts_are_computed_from_the_context(setting: Setting[Any]) -> None:
    heard: list[ValueChanged[int]] = []
    cohort = Cohort("user", steps=(100,))
    listed = Setting("listed", int, ["cohort", "user"], 0)
    defaults = Defaults({"cohort": cohort, "environment": Cohort("account", steps=(100,))})
    listed.on_change(heard.append, user="jim")
    rules = (TableRule(1, (("cohort", "100"),)),)
    publish_and_look(listed, RuleTable(0, rules, ("user", "cohort")), defaults=defaults)
    assert heard == [ValueChanged(listed, 0, 1)]
    setting.on_change(heard.append, user="jim")
    publish_and_look(setting, table((1, {"environment": "100"})), defaults=defaults)
    assert len(heard) == 1, "the account is unknown"


def test_features_may_have_any_name() -> None:
    names = ["self", "callback", "class", "contexts"]
    setting = Setting("odd", int, names, 0)
    heard: list[ValueChanged[int]] = []
    setting.on_change(heard.append, **dict.fromkeys(names, "a"))
    rules = tuple(TableRule(value, ((name, "a"),)) for value, name in enumerate(names, 1))
    publish_and_look(setting, RuleTable(0, rules, tuple(names)))
    assert heard == [ValueChanged(setting, 0, 4)]


# --- what is compared -----------------------------------------------------------------------------


class Odd:
    """A value that cannot be compared, as an array of numpy cannot."""

    def __eq__(self, other: object) -> bool:
        raise ValueError("ambiguous")

    def __hash__(self) -> int:
        return 1


def test_values_that_cannot_be_compared_count_as_different_unless_they_are_one_object(
    setting: Setting[Any],
) -> None:
    heard: list[ValueChanged[Any]] = []
    changed: list[SettingChanged[Any]] = []
    odd, other = Odd(), Odd()
    publish(setting, table((odd, {"user": "jim"})))
    setting.on_change(heard.append, user="jim")
    setting.on_change(changed.append)
    publish_and_look(setting, table((odd, {"user": "jim"})))
    assert (heard, changed) == ([], [])
    publish_and_look(setting, table((other, {"user": "jim"})))
    assert len(heard) == len(changed) == 1
    assert heard[0].new is other


def test_the_end_of_a_greenlet_in_a_callback_is_no_error_of_it(
    setting: Setting[Any], caplog: pytest.LogCaptureFixture
) -> None:
    gevent = pytest.importorskip("gevent", reason="heksher[gevent] is not installed")

    def callback(_: object) -> None:
        raise gevent.GreenletExit  # as closing a client ends a callback that waits

    setting.on_change(callback)
    publish_and_look(setting, table((1, {"user": "jim"})))
    assert caplog.text == ""


@pytest.mark.parametrize("limits", [(1024, 16, 512, 128), (1, 1, 2, 1)])
def test_rules_are_compared_however_they_are_kept(
    setting: Setting[Any], limits: tuple[int, int, int, int]
) -> None:
    changed: list[SettingChanged[Any]] = []
    rules: list[tuple[Any, dict[str, str]]] = [
        (1, {"user": "jim"}),
        (2, {"user": "eve"}),
        (3, {"environment": "dev"}),
        (4, {"environment": "dev", "user": "jim"}),
    ]
    with limited_look_ups(limits):
        publish(setting, table(*rules))
        setting.on_change(changed.append)
        publish_and_look(setting, table(*reversed(rules)))
        assert changed == []
        publish_and_look(setting, table(*rules[1:]))
        assert len(changed) == 1
        publish_and_look(setting, table(*rules[1:], (5, {"user": "eve", "environment": "x"})))
        assert len(changed) == 2
        rules[1] = (2.5, {"user": "eve"})
        publish_and_look(setting, table(*rules))
        assert len(changed) == 3


def test_another_order_of_the_features_is_a_change(setting: Setting[Any]) -> None:
    changed: list[SettingChanged[Any]] = []
    heard: list[ValueChanged[Any]] = []
    rules = (TableRule(1, (("user", "jim"),)), TableRule(2, (("environment", "dev"),)))
    publish(setting, RuleTable(0, rules, FEATURES))
    setting.on_change(changed.append)
    setting.on_change(heard.append, environment="dev", user="jim")
    publish_and_look(setting, RuleTable(0, rules, FEATURES[::-1]))
    assert (len(changed), heard) == (1, [ValueChanged(setting, 1, 2)])


# --- threads --------------------------------------------------------------------------------------


class Blocked:
    """A callback that waits in another thread until it may go on."""

    def __init__(self) -> None:
        self.heard: list[Any] = []
        self.entered, self.go_on = threading.Event(), threading.Event()

    def __call__(self, event: ValueChanged[Any]) -> None:
        self.heard.append((event.old, event.new))
        if len(self.heard) == 1:
            self.entered.set()
            assert self.go_on.wait(PATIENCE)

    def enter(self, function: Callable[[], None]) -> threading.Thread:
        """Run *function*, which calls this, in a thread; return once it is called."""
        thread = threading.Thread(target=function)
        thread.start()
        assert self.entered.wait(PATIENCE)
        return thread


def test_what_changes_during_a_call_is_told_after_it_in_the_thread_of_the_call(
    setting: Setting[Any],
) -> None:
    callback = Blocked()
    setting.on_change(callback, user="jim")
    thread = callback.enter(lambda: publish_and_look(setting, table((1, {"user": "jim"}))))
    publish_and_look(setting, table((2, {"user": "jim"})))
    publish_and_look(setting, table((3, {"user": "jim"})))
    assert callback.heard == [(0, 1)]
    callback.go_on.set()
    thread.join()
    assert callback.heard == [(0, 1), (1, 3)]


def test_what_is_published_during_the_registration_is_where_it_begins(
    setting: Setting[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[ValueChanged[Any]] = []

    def publish_first(*arguments: Any) -> Any:
        publish_and_look(setting, table((1, {"user": "jim"})))
        return _listening.subscribe(*arguments)

    monkeypatch.setattr("heksher.setting.subscribe", publish_first)
    setting.on_change(heard.append, user="jim")
    for listener in state_of(setting).listeners:
        listener.look()
    assert heard == []
    publish_and_look(setting, table((2, {"user": "jim"})))
    assert heard == [ValueChanged(setting, 1, 2)]


def test_a_forked_child_does_not_wait_for_a_call_in_its_parent(setting: Setting[Any]) -> None:
    callback = Blocked()
    setting.on_change(callback, user="jim")
    thread = callback.enter(lambda: publish_and_look(setting, table((1, {"user": "jim"}))))
    _listening.forget_calls()
    publish_and_look(setting, table((2, {"user": "jim"})))
    assert callback.heard == [(0, 1), (1, 2)]
    callback.go_on.set()
    thread.join()


def test_a_callback_that_is_cancelled_during_a_call_is_not_called_again(
    setting: Setting[Any],
) -> None:
    callback = Blocked()
    subscription = setting.on_change(callback, user="jim")
    thread = callback.enter(lambda: publish_and_look(setting, table((1, {"user": "jim"}))))
    publish_and_look(setting, table((2, {"user": "jim"})))
    subscription.cancel()
    callback.go_on.set()
    thread.join()
    assert callback.heard == [(0, 1)]


def test_ctrl_c_in_a_callback_ends_the_program_and_the_next_change_is_told(
    setting: Setting[Any],
) -> None:
    heard: list[int] = []

    def callback(event: ValueChanged[int]) -> None:
        heard.append(event.new)
        if len(heard) == 1:
            raise KeyboardInterrupt

    setting.on_change(callback, user="jim")
    with pytest.raises(KeyboardInterrupt):
        publish_and_look(setting, table((1, {"user": "jim"})))
    publish_and_look(setting, table((2, {"user": "jim"})))
    assert heard == [1, 2]
