"""What is published for a client's settings if something happens while a publish is prepared."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from support.published import publish, published

from heksher import Setting
from heksher._client.lifecycle import Lifecycle, LifecycleEvent
from heksher._client.publishing import Publisher
from heksher._client.settings import ClientSettings
from heksher._rules.contexts import Defaults
from heksher._rules.getter import SettingState
from heksher._rules.table import RuleTable, TableRule
from heksher.exceptions import DuplicateSettingError
from heksher.setting import state_of

FEATURES = ("environment", "user")


def table(value: int) -> RuleTable[int]:
    return RuleTable(0, (TableRule(value, (("user", "jim"),), 1),), FEATURES)


@pytest.fixture
def setting() -> Setting[int]:
    return Setting("ttl", int, FEATURES, 0)


class Client:
    """The parts of a client that publish, without those that do I/O."""

    def __init__(self) -> None:
        lock = threading.RLock()
        self.lifecycle = Lifecycle()
        self.settings = ClientSettings(FEATURES, lock, self.lifecycle)
        self.publisher = Publisher(self.settings, lock, self.lifecycle)

    def start(self) -> None:
        self.lifecycle.apply(LifecycleEvent.START)
        self.lifecycle.apply(LifecycleEvent.START_DONE)
        self.publisher.publish_all()

    def close(self) -> None:
        self.lifecycle.apply(LifecycleEvent.CLOSE)
        self.publisher.close()

    def attach(self, settings: list[Setting[Any]]) -> None:
        self.settings.attach(settings)
        self.publisher.renew(settings)

    def set_defaults(self, **sources: str) -> None:
        self.settings.set_defaults(sources)
        self.publisher.renew(self.settings.alive())


@pytest.fixture
def client(setting: Setting[int]) -> Client:
    """Return a started client that has the setting."""
    client = Client()
    client.attach([setting])
    client.start()
    publish(setting, table(1), published(setting).defaults)
    return client


@pytest.fixture
def between(monkeypatch: pytest.MonkeyPatch) -> list[Callable[[], None]]:
    """Return a list of functions to call once the next publish is prepared."""
    functions: list[Callable[[], None]] = []

    prepare = SettingState[Any].prepare

    def prepare_and_more(*arguments: Any, **options: Any) -> Any:
        prepared = prepare(*arguments, **options)
        while functions:
            functions.pop()()
        return prepared

    monkeypatch.setattr(SettingState, "prepare", prepare_and_more)
    return functions


def test_defaults_that_are_set_meanwhile_are_in_force_as_well(
    client: Client, setting: Setting[int], between: list[Callable[[], None]]
) -> None:
    between.append(lambda: client.set_defaults(user="jim"))
    client.set_defaults(environment="dev")
    assert setting.get() == 1


def test_rules_that_come_meanwhile_stay_in_force(
    client: Client, setting: Setting[int], between: list[Callable[[], None]]
) -> None:
    between.append(lambda: publish(setting, table(2)))
    client.set_defaults(environment="dev")
    assert setting.get(user="jim") == 2


@pytest.mark.parametrize("end", ["detach", "close"])
def test_what_somebody_else_serves_by_then_is_left_alone(
    end: str, client: Client, setting: Setting[int], between: list[Callable[[], None]]
) -> None:
    theirs = state_of(setting).prepare(table(2), Defaults({"environment": "prod"}))

    def hand_over() -> None:
        if end == "detach":
            client.settings.detach(None)
        else:
            client.close()
        state_of(setting).publish(theirs)

    between.append(hand_over)
    client.set_defaults(environment="dev")
    assert published(setting) is theirs


def test_a_forked_child_has_what_a_thread_was_preparing_that_is_not_there(
    client: Client, setting: Setting[int], between: list[Callable[[], None]]
) -> None:
    seen: list[int] = []

    def in_child() -> None:
        client.publisher.publish_all()
        seen.append(setting.get(user="jim"))

    between.append(in_child)
    client.set_defaults(environment="dev")
    assert seen == [1]


def test_a_forked_child_puts_nothing_in_force_that_was_not(setting: Setting[int]) -> None:
    client = Client()
    client.set_defaults(environment="dev")
    client.attach([setting])
    client.publisher.publish_all()
    assert not published(setting).started


def test_settings_are_attached_all_or_none(client: Client) -> None:
    client.set_defaults(environment="dev", user="jim")
    added = Setting("added", int, FEATURES, 5)
    publish(added, table(6))
    before = published(added)
    with pytest.raises(DuplicateSettingError):
        client.attach([added, Setting("ttl", str, FEATURES, "x")])
    assert not client.settings.serves(added)
    assert published(added) is before


def test_two_settings_that_differ_are_not_attached_together(client: Client) -> None:
    one, other = Setting("new", int, FEATURES, 5), Setting("new", int, FEATURES, 6)
    with pytest.raises(DuplicateSettingError):
        client.attach([one, other])
    assert not client.settings.serves(one)
