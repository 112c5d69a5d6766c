"""`heksher.override`: other values in the whole process while a block runs."""

from __future__ import annotations

import gc
import sys
import threading
import weakref
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from enum import Enum
from typing import Any

import pytest
from support.explained import check_text
from support.published import publish, published

import heksher
from heksher import Reason, Rule, Setting, SettingChanged, ValueChanged
from heksher._rules import codegen, getter
from heksher._rules.contexts import Defaults
from heksher._rules.table import Provenance, RuleTable, TableRule
from heksher.clients.stub import SyncStubHeksherClient
from heksher.exceptions import InvalidArgumentError, MissingFeatureError
from heksher.explanation import ExplainedRule
from heksher.setting import QueriedRule
from heksher.status import DataSource

JIM = {"environment": "dev", "user": "jim"}


class Shade(Enum):
    LIGHT = "light"
    DARK = "dark"


@pytest.fixture
def ttl() -> Setting[int]:
    return Setting("ttl", int, ["user", "environment"], 60)


def serve(setting: Setting[int], default: int, *rules: TableRule[int]) -> None:
    """Publish as a client does; the service ranks user above environment."""
    origin = Provenance(DataSource.SERVICE, has_service_default=True)
    publish(setting, RuleTable(default, rules, ("environment", "user"), origin))


def test_a_value_is_for_every_context(ttl: Setting[int]) -> None:
    serve(ttl, 50, TableRule(5, (("user", "jim"),)))
    kept = ttl.get
    with heksher.override({ttl: 7}):
        assert kept(**JIM) == kept(environment="dev", user=None) == 7
    assert kept(**JIM) == 5


def test_rules_replace_those_of_the_client_and_rank_as_they_do(ttl: Setting[int]) -> None:
    serve(ttl, 50, TableRule(5, (("user", "eve"),)))
    with heksher.override({ttl: [Rule({"environment": "dev"}, 1), Rule({"user": "jim"}, 2)]}):
        assert ttl.get(**JIM) == 2
        assert ttl.get(environment="dev", user="eve") == 1
        assert ttl.get(environment="prod", user="eve") == 50, "the service's default value"
        serve(ttl, 40)
        assert ttl.get(environment="prod", user="eve") == 40, "the present one"


def test_without_a_client_the_order_is_the_settings_and_nothing_is_missing(
    ttl: Setting[int],
) -> None:
    with heksher.override({ttl: [Rule({"environment": "dev"}, 1), Rule({"user": "jim"}, 2)]}):
        assert ttl.get(**JIM) == 1
        assert ttl.get(user="jim") == 2
        assert ttl.get() == 60
    with heksher.override({ttl: []}):
        assert ttl.get(**JIM) == 60


def test_what_a_started_client_demands_is_demanded(ttl: Setting[int]) -> None:
    serve(ttl, 50)
    with heksher.override({ttl: 5}):
        with pytest.raises(MissingFeatureError):
            ttl.get(user="jim")
        with pytest.raises(TypeError):
            ttl.get(theme="dark", **JIM)
    state = Defaults().adding({"environment": "dev"})
    publish(ttl, published(ttl).table, state)
    with heksher.override({ttl: [Rule({"environment": "dev"}, 1)]}):
        assert ttl.get(user="jim") == 1


def test_updates_go_on_beneath(ttl: Setting[int]) -> None:
    with heksher.override({ttl: 7}):
        serve(ttl, 50, TableRule(5, (("user", "jim"),)))
        assert ttl.get(**JIM) == 7
    assert ttl.get(**JIM) == 5


def test_blocks_nest_and_are_undone_on_errors(ttl: Setting[int]) -> None:
    seen: list[int] = []

    @heksher.override({ttl: 2})
    def fail() -> None:
        seen.append(ttl.get())
        raise KeyError

    with heksher.override({ttl: 1}):
        with pytest.raises(KeyError):
            fail()
        seen.append(ttl.get())
    assert seen == [2, 1]
    assert ttl.get() == 60


def test_blocks_may_end_in_any_order(ttl: Setting[int]) -> None:
    first, second, third = ExitStack(), ExitStack(), ExitStack()
    for value, stack in ((1, first), (1, second), (3, third)):
        stack.enter_context(heksher.override({ttl: value}))
    first.close()
    assert ttl.get() == 3
    third.close()
    assert ttl.get() == 1
    second.close()
    assert ttl.get() == 60


def test_an_override_decorates_a_function(ttl: Setting[int]) -> None:
    @heksher.override({ttl: 5})
    def value() -> int:
        return ttl.get()

    assert [value(), ttl.get(), value()] == [5, 60, 5]


def test_an_override_is_above_a_stub(ttl: Setting[int]) -> None:
    with SyncStubHeksherClient() as stub, heksher.override({ttl: 5}):
        stub[ttl].rules = 30
        assert ttl.get(**JIM) == 5
    with heksher.override({ttl: 5}):
        with SyncStubHeksherClient() as stub:
            stub[ttl].rules = 30
            with heksher.override({ttl: 6}):
                assert ttl.get(**JIM) == 6
        assert ttl.get() == 5
    assert ttl.get() == 60


def test_a_stubs_rules_are_in_force_after_the_block(ttl: Setting[int]) -> None:
    with SyncStubHeksherClient(strict=True) as stub:
        with heksher.override({ttl: 5}):
            stub[ttl].rules = 30
        assert ttl.get(**JIM) == 30
        with pytest.raises(MissingFeatureError), heksher.override({ttl: 5}):
            ttl.get()


# --- values ---------------------------------------------------------------------------------------


def test_values_become_immutable_values_of_the_type() -> None:
    names = Setting("names", Sequence[str], ["user"], ())
    sizes = Setting("sizes", Mapping[str, int], ["user"], {})
    shade = Setting("shade", Shade, ["user"], Shade.LIGHT)
    ratio = Setting("ratio", float, ["user"], 0.5)
    given: dict[Setting[Any], object] = {
        names: ["a", "b"],
        sizes: {"a": 1},
        shade: [Rule({"user": "jim"}, Shade.DARK)],
        ratio: 1,
    }
    with heksher.override(given):
        assert names.get() == ("a", "b")
        assert sizes.get() == {"a": 1}
        with pytest.raises(TypeError):
            sizes.get()["a"] = 2  # type: ignore[index]
        assert (shade.get(user="jim"), shade.get()) == (Shade.DARK, Shade.LIGHT)
        assert type(ratio.get()) is float
    with heksher.override({names: []}):  # a value of this type
        assert names.get() == ()


def test_values_pass_validators_and_none_sees_a_value_twice(ttl: Setting[int]) -> None:
    seen: list[tuple[int, QueriedRule | None]] = []

    @ttl.add_validator
    def at_most_ten(value: int, rule: QueriedRule | None, _: Setting[int]) -> int:
        seen.append((value, rule))
        return min(value, 10)

    with heksher.override({ttl: [Rule({"user": "jim", "environment": None}, 99)]}):
        serve(ttl, 50)
        assert ttl.get(**JIM) == 10
    with heksher.override({ttl: 99}):
        assert ttl.get(**JIM) == 10
    assert seen == [(99, QueriedRule(None, (("user", "jim"),))), (99, QueriedRule(None, ()))]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("5", "setting 'ttl': invalid override '5': .*"),
        (None, "setting 'ttl': invalid override None: .*"),
        ([Rule({"user": "jim"}, True)], "setting 'ttl': invalid override True: .*"),
        ([5], r"setting 'ttl': invalid override \[5\]: .*"),
        ([Rule({}, 1), 2], "setting 'ttl': 2 is among rules: .*"),
        ([Rule({"theme": "dark"}, 1)], "setting 'ttl': invalid condition on 'theme': .*"),
        ([Rule({"user": 5}, 1)], "setting 'ttl': invalid condition user=5: .*"),  # type: ignore[dict-item]
        ([Rule({}, 1), Rule({"user": None}, 2)], "setting 'ttl': two rules have the same .*"),
        (13, "setting 'ttl': invalid override 13: a validator raised ValueError: unlucky"),
    ],
)
def test_what_is_refused_changes_no_setting(ttl: Setting[int], value: object, message: str) -> None:
    other = Setting("other", int, ["user"], 1)

    @ttl.add_validator
    def lucky(value: int, *_: object) -> int:
        if value == 13:
            raise ValueError("unlucky")
        return value

    with (
        pytest.raises(InvalidArgumentError, match=message),
        heksher.override({other: 2, ttl: value}),
    ):
        pytest.fail("it was entered")
    assert (ttl.get(), other.get()) == (60, 1)


def test_keys_are_settings() -> None:
    by_name: Any = {"ttl": 5}
    with pytest.raises(InvalidArgumentError, match=r"invalid setting 'ttl' of an override"):
        heksher.override(by_name).__enter__()


@pytest.mark.parametrize("values", [None, [1], 5])
def test_overrides_are_a_mapping(values: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="expected a dict of settings and their values"):
        heksher.override(values).__enter__()


# --- explanations ---------------------------------------------------------------------------------


def test_explanations_say_that_it_is_an_override(ttl: Setting[int]) -> None:
    serve(ttl, 50, TableRule(5, (("user", "jim"),), 11))
    with heksher.override({ttl: [Rule({"user": "jim"}, 7)]}):
        explanation = ttl.explain(**JIM)
        assert (explanation.value, explanation.reason) == (7, Reason.OVERRIDE)
        assert explanation.rule == ExplainedRule(None, (("user", "jim"),), 7)
        assert [each.rule for each in explanation.candidates] == [explanation.rule]
        assert explanation.source is DataSource.SERVICE
        check_text(str(explanation))
        assert "\nreason    an override is in force\n" in str(explanation)
        unmatched = ttl.explain(environment="dev", user="eve")
        assert (unmatched.value, unmatched.reason) == (50, Reason.OVERRIDE)
        assert unmatched.rule is None
        assert "an override is in force, and none of its rules matches: the default" in str(
            unmatched
        )
    with heksher.override({ttl: 8}):
        explanation = ttl.explain(**JIM)
        assert (explanation.value, explanation.reason) == (8, Reason.OVERRIDE)
        assert explanation.rule == ExplainedRule(None, (), 8)
        assert explanation.as_dict()["reason"] == "override"
        with pytest.raises(TypeError):
            ttl.explain(theme="dark")
    assert ttl.explain(**JIM).reason is Reason.RULE


def test_explanations_without_a_client(ttl: Setting[int]) -> None:
    with heksher.override({ttl: 8}):
        assert (ttl.explain().value, ttl.explain().reason) == (8, Reason.OVERRIDE)
    assert ttl.explain().reason is Reason.NOT_STARTED


# --- listeners ------------------------------------------------------------------------------------


def test_listeners_are_told_at_the_beginning_and_at_the_end(ttl: Setting[int]) -> None:
    values: list[ValueChanged[int]] = []
    changes: list[SettingChanged[int]] = []
    ttl.on_change(values.append, **JIM)
    ttl.on_change(changes.append)
    with heksher.override({ttl: 7}):
        assert values == [ValueChanged(ttl, 60, 7)]
        assert changes == [SettingChanged(ttl)]
        with heksher.override({ttl: 7}):
            pass
        assert len(values) == len(changes) == 1
    assert values[1:] == [ValueChanged(ttl, 7, 60)]
    assert len(changes) == 2


def test_a_listener_reads_all_of_the_new_values_and_may_raise(ttl: Setting[int]) -> None:
    other = Setting("other", int, ["user"], 1)
    seen: list[tuple[int, int]] = []

    def read(_: object) -> None:
        seen.append((ttl.get(), other.get()))
        raise RuntimeError

    ttl.on_change(read)
    with heksher.override({ttl: 7, other: 2}):
        pass
    assert seen == [(7, 2), (60, 1)]


def test_listeners_to_a_stub_are_told(ttl: Setting[int]) -> None:
    names: list[tuple[str, ...]] = []
    with SyncStubHeksherClient() as stub:
        stub.on_change(lambda event: names.append(event.names))
        with heksher.override({ttl: 7}):
            assert names == [("ttl",)]
        assert names == [("ttl",), ("ttl",)]


# --- threads and memory ---------------------------------------------------------------------------


@pytest.mark.parametrize("change", ["an update", "an override"])
def test_an_update_and_an_override_wait_for_each_other(
    ttl: Setting[int], change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is late would put the other's rules back."""
    could_come_between: list[bool] = []
    compile_source = codegen.compile_source

    def look_and_compile(*arguments: Any) -> Any:
        thread = threading.Thread(
            target=lambda: could_come_between.append(getter.lock.acquire(blocking=False))
        )
        thread.start()
        thread.join()
        return compile_source(*arguments)

    monkeypatch.setattr(codegen, "compile_source", look_and_compile)
    if change == "an update":
        serve(ttl, 50)
    else:
        with heksher.override({ttl: 5}):
            pass
    assert could_come_between
    assert not any(could_come_between)


def test_overrides_and_updates_in_two_threads_lose_nothing(ttl: Setting[int]) -> None:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    rounds = 300
    try:

        def update() -> None:
            for number in range(rounds):
                serve(ttl, number)

        updates = threading.Thread(target=update)
        updates.start()
        for number in range(rounds):
            with heksher.override({ttl: -number - 1}):
                assert ttl.get(**JIM) == -number - 1
        updates.join()
    finally:
        sys.setswitchinterval(interval)
    assert ttl.get(**JIM) == rounds - 1


def test_the_block_keeps_nothing_alive() -> None:
    setting = Setting("short_lived", int, ["user"], 60)
    gone = weakref.ref(setting)
    with heksher.override({setting: 5}):
        pass
    del setting
    gc.collect()
    assert gone() is None
