"""What is in force of a client's settings, if something comes between while that is prepared."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from heksher import Setting
from heksher._client import settings
from heksher._client.settings import ServedSettings, prepare
from heksher._rules.contexts import Defaults
from heksher._rules.getter import Published
from heksher._rules.table import Rule, RuleTable
from heksher.exceptions import DuplicateSettingError

FEATURES = ("environment", "user")


def table(value: int) -> RuleTable[int]:
    return RuleTable(0, (Rule(value, (("user", "jim"),), 1),), FEATURES)


@pytest.fixture
def setting() -> Setting[int]:
    return Setting("ttl", int, FEATURES, 0)


@pytest.fixture
def client(setting: Setting[int]) -> ServedSettings:
    """Returns a client that has started and serves the setting."""
    client = ServedSettings(FEATURES)
    client.attach([setting])
    client.put_in_force()
    setting.published = Published(table(1), setting.published.defaults, started=True)
    return client


@pytest.fixture
def between(monkeypatch: pytest.MonkeyPatch) -> list[Callable[[], None]]:
    """Returns a list: what is put there is done once the next publish is prepared."""
    functions: list[Callable[[], None]] = []

    def prepare_and_more(*arguments: Any) -> Any:
        prepared = prepare(*arguments)
        while functions:
            functions.pop()()
        return prepared

    monkeypatch.setattr(settings, "prepare", prepare_and_more)
    return functions


def test_defaults_that_are_set_meanwhile_are_in_force_as_well(
    client: ServedSettings, setting: Setting[int], between: list[Callable[[], None]]
) -> None:
    between.append(lambda: client.set_defaults({"user": "jim"}))
    client.set_defaults({"environment": "dev"})
    assert setting.get() == 1


def test_rules_that_come_meanwhile_stay_in_force(
    client: ServedSettings, setting: Setting[int], between: list[Callable[[], None]]
) -> None:
    def publish() -> None:
        setting.published = Published(table(2), Defaults(), started=True)

    between.append(publish)
    client.set_defaults({"environment": "dev"})
    assert setting.get(user="jim") == 2


@pytest.mark.parametrize("end", ["detach", "close"])
def test_what_somebody_else_serves_by_then_is_left_alone(
    end: str, client: ServedSettings, setting: Setting[int], between: list[Callable[[], None]]
) -> None:
    theirs = Published(table(2), Defaults({"environment": "prod"}), started=True)

    def hand_over() -> None:
        if end == "detach":
            client.detach(None)
        else:
            client.close()
        setting.published = theirs

    between.append(hand_over)
    client.set_defaults({"environment": "dev"})
    assert setting.published is theirs


def test_a_forked_child_has_what_a_thread_was_preparing_that_is_not_there(
    client: ServedSettings, setting: Setting[int], between: list[Callable[[], None]]
) -> None:
    seen: list[int] = []

    def in_child() -> None:
        client.catch_up()
        seen.append(setting.get(user="jim"))

    between.append(in_child)
    client.set_defaults({"environment": "dev"})
    assert seen == [1]


def test_a_forked_child_puts_nothing_in_force_that_was_not(setting: Setting[int]) -> None:
    client = ServedSettings(FEATURES)
    client.set_defaults({"environment": "dev"})
    client.attach([setting])
    client.catch_up()
    assert not setting.published.started


def test_settings_that_are_taken_over_have_the_defaults_also_before_one_that_is_refused(
    client: ServedSettings,
) -> None:
    client.set_defaults({"environment": "dev", "user": "jim"})
    added = Setting("added", int, FEATURES, 5)
    added.published = Published(table(6), Defaults(), started=True)
    with pytest.raises(DuplicateSettingError):
        client.attach([added, Setting("ttl", str, FEATURES, "x")])
    assert added.get() == 6
