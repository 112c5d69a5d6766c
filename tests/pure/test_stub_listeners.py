"""Listeners while stubs answer: an assignment tells them at once."""

from __future__ import annotations

import logging
import threading
from typing import Any
from unittest import mock

import pytest
from support.harness import PATIENCE

from heksher import Setting, SettingsChanged, ValueChanged, testing
from heksher.clients.stub import AsyncStubHeksherClient, Rule, SyncStubHeksherClient


@pytest.fixture
def ttl() -> Setting[int]:
    return Setting("ttl", int, ["environment", "user"], 60)


@pytest.fixture
def heard(ttl: Setting[int]) -> list[tuple[int, int]]:
    """Return the values for jim that a callback was told."""
    heard: list[tuple[int, int]] = []

    def callback(event: ValueChanged[int]) -> None:
        assert ttl.get(environment="dev", user="jim") == event.new
        heard.append((event.old, event.new))

    ttl.on_change(callback, environment="dev", user="jim")
    return heard


def test_each_assignment_that_changes_the_value_is_told(
    ttl: Setting[int], heard: list[tuple[int, int]]
) -> None:
    with SyncStubHeksherClient() as stub:
        stub[ttl].rules = 5
        assert heard == [(60, 5)]
        stub[ttl].rules = [Rule({"user": "jim"}, 5)]
        stub[ttl].rules = [Rule({"user": "eve"}, 6), Rule({}, 5)]
        assert len(heard) == 1
        saved = stub[ttl].rules
        stub.set(ttl, 7)
        stub[ttl].rules = saved
        assert heard[1:] == [(5, 7), (7, 5)]
        with stub.patch(ttl, 8):
            assert heard[3:] == [(5, 8)]
        with mock.patch.object(stub[ttl], "rules", 9):
            assert heard[4:] == [(8, 5), (5, 9)]
        assert heard[6:] == [(9, 5)]
    assert heard[7:] == [(5, 60)]


def test_defaults_of_a_stub_are_told(ttl: Setting[int]) -> None:
    heard: list[int] = []
    ttl.on_change(lambda event: heard.append(event.new), user="jim")
    with SyncStubHeksherClient() as stub:
        stub[ttl].rules = [Rule({"environment": "dev"}, 5)]
        assert heard == []
        stub.set_defaults(environment="dev")
        assert heard == [5]


@pytest.mark.parametrize("kind", [SyncStubHeksherClient, AsyncStubHeksherClient])
def test_a_stub_tells_the_names_as_a_client_does(ttl: Setting[int], kind: Any) -> None:
    other = Setting("other", str, ["user"], "x")
    events: list[SettingsChanged] = []
    stub = kind()
    subscription = stub.on_change(events.append)
    stub[ttl].rules = 5
    assert events == [SettingsChanged(("ttl",))]
    stub[ttl].rules = 5
    stub[other].rules = "x"
    assert len(events) == 1
    nested = SyncStubHeksherClient()
    nested[other].rules = "y"
    assert events[1:] == [SettingsChanged(("other",))]
    subscription.cancel()
    nested[other].rules = "z"
    assert len(events) == 2


def test_a_stub_tells_what_its_end_changes(ttl: Setting[int]) -> None:
    events: list[SettingsChanged] = []
    with SyncStubHeksherClient() as stub:
        stub.on_change(events.append)
        stub[ttl].rules = 5
    assert events == [SettingsChanged(("ttl",))] * 2


def test_a_strict_stub_tells_the_default_of_the_declaration(ttl: Setting[int]) -> None:
    heard: list[tuple[int, int]] = []
    with SyncStubHeksherClient() as outer:
        outer[ttl].rules = 5
        with SyncStubHeksherClient(strict=True) as strict:
            ttl.on_change(lambda event: heard.append((event.old, event.new)), user="jim")
            strict[ttl].rules = [Rule({"user": "eve"}, 1)]
            assert heard == [(5, 60)]
        assert heard[1:] == [(60, 5)]


def test_the_fixtures_reset_tells_what_it_restores(
    ttl: Setting[int], heard: list[tuple[int, int]]
) -> None:
    stub = SyncStubHeksherClient()
    stub[ttl].rules = 5
    testing.reset()
    assert heard == [(60, 5), (5, 60)]


def test_a_callback_may_assign_and_is_told_of_that_afterwards(ttl: Setting[int]) -> None:
    heard: list[int] = []
    with SyncStubHeksherClient() as stub:

        def callback(event: ValueChanged[int]) -> None:
            heard.append(event.new)
            if event.new < 3:
                stub[ttl].rules = event.new + 1
                assert heard[-1] == event.new, "calls do not overlap"

        ttl.on_change(callback, user="jim")
        stub[ttl].rules = 1
        assert heard == [1, 2, 3]


def test_a_callback_runs_under_no_lock_and_its_error_is_contained(
    ttl: Setting[int], caplog: pytest.LogCaptureFixture
) -> None:
    made: list[object] = []

    def make() -> None:
        made.append(Setting("other", int, ["user"], 1))

    def callback(_: object) -> None:
        thread = threading.Thread(target=make)
        thread.start()
        thread.join(PATIENCE)
        raise ValueError("broken")

    ttl.on_change(callback)
    with caplog.at_level(logging.ERROR, "heksher"), SyncStubHeksherClient() as stub:
        stub[ttl].rules = 5
        assert len(made) == 1
        with stub.patch(ttl, 6):
            assert len(made) == 2
    assert caplog.text.count("on_change: the callback raised an error") == 4
