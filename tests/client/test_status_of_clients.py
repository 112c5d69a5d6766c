"""The status during the life of a client, on every backend."""

from __future__ import annotations

import gc
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any, cast

import pytest
from support.harness import Harness
from support.scenes import INTERVAL, Scene
from support.scripted import unreachable

from heksher import Setting
from heksher._wire import Response
from heksher.status import DataSource


@pytest.fixture
def scene(backend: Harness) -> Scene:
    return Scene(backend)


def test_a_status_counts_what_happened(scene: Scene) -> None:
    ttl = Setting("cache_ttl", int, ["environment", "user"], 60)

    async def body() -> None:
        client = scene.client()
        new = client.status
        assert (new.source, new.polls, new.bytes_received) == (DataSource.DEFAULTS, 0, 0)
        assert (new.last_success, new.last_failure, new.pending) == (None, None, ())
        began = time.time()
        async with client:
            well = client.status
            assert (well.source, well.polls) == (DataSource.SERVICE, 1)
            assert well.last_success is not None
            assert began <= well.last_success <= time.time()
            assert well.last_failure is None
            # The answers to: context features, list of settings, declaration, query.
            assert well.bytes_received > 100
            scene.service.fault = unreachable()
            await scene.pass_time(INTERVAL)
            failing = client.status
            assert (failing.source, failing.polls) == (DataSource.SERVICE, 2)
            assert failing.last_success == well.last_success
            assert failing.last_failure is not None
            assert failing.bytes_received == well.bytes_received
            assert well.failures == 0, "it was another moment"
        assert client.status.source is DataSource.SERVICE, "the last rules stay in force"

    scene.run(body)
    assert ttl.get(environment="dev", user="jim") == 60


def test_a_status_lists_a_hundred_rules_and_hides_no_setting(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever floods one setting with rules would hide another one's only mistake by it."""
    names = ["flooded", "flooded_too", "mistaken"]
    settings = [Setting(name, int, ["user"], 60) for name in names]
    sizes = Setting("sizes", Sequence[int], ["user"], (1,))
    for name in names[:2]:
        for number in range(1500):
            scene.service.add_rule(name, f"no int {number}", user=f"user{number}")
    scene.service.add_rule("mistaken", "no int", user="jim")
    for number in range(150):
        scene.service.add_rule("sizes", [1, "x"], user=f"user{number}")

    async def body() -> None:
        async with scene.client() as client:
            status = client.status
            assert (status.rejected_count, status.coerced_count) == (3001, 150)
            assert (len(status.rejected_rules), len(status.coerced_rules)) == (100, 100)
            listed = Counter(each.setting for each in status.rejected_rules)
            assert listed == {"flooded": 50, "flooded_too": 49, "mistaken": 1}
            assert "3001 rules not used" in str(status)
            caplog.clear()
            # A flood by other rules, and one more mistake.
            for name in ("flooded", "mistaken"):
                scene.service.add_rule(name, "another", user="jane")
            await client.reload()
            assert client.status.rejected_count == 3003
            assert len(client.status.rejected_rules) == 100

    scene.run(body)
    assert [setting.get(user="jim") for setting in settings] == [60, 60, 60]
    assert sizes.get(user="user1") == (1,)
    # The 1501st rule of the flood is only counted.
    assert [r.getMessage() for r in caplog.records if "dropped" in r.getMessage()] == [
        "dropped: setting 'mistaken': rule 3153: 'another' is not an int",
        "dropped: 1 more; status has the number, and lists the first 100",
    ]


def test_an_answer_logs_twenty_unused_rules_however_many_settings_it_is_for(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    settings = [Setting(f"setting_{number}", int, ["user"], 1) for number in range(30)]
    for setting in settings:
        for number in range(2):
            scene.service.add_rule(setting.name, "no int", user=f"user{number}")

    async def body() -> None:
        async with scene.client() as client:
            assert client.status.rejected_count == 60
            # Sections that cannot be read at all, and settings that were deleted.
            scene.service.rules = {setting.name: cast("Any", 5) for setting in settings}
            await client.reload()
            assert client.status.rejected_count == 30
            for setting in settings[1:]:
                scene.service.delete(setting.name)
            await client.reload()

    scene.run(body)
    messages = [record.getMessage() for record in caplog.records]
    assert sum(message.startswith("dropped: ") for message in messages) == 2 * 21
    assert "dropped: 40 more; status has the number, and lists the first 100" in messages
    assert "dropped: 10 more; status has the number, and lists the first 100" in messages
    assert sum("was deleted on the service" in message for message in messages) == 20
    assert "deleted or renamed on the service: 9 more settings; status lists them" in messages


def test_a_long_text_is_kept_in_part(scene: Scene) -> None:
    setting = Setting("ttl", str, ["user"], "")

    def refuse(value: str, *_: object) -> str:
        if value:
            raise ValueError(f"not this:\n{value}")
        return value

    setting.add_validator(refuse)
    scene.service.add_rule("ttl", "x" * 100_000, user="jim")

    async def body() -> None:
        async with scene.client() as client:
            (rejected,) = client.status.rejected_rules
            assert rejected.reason.startswith("validator ")
            assert "ValueError: not this: xxx" in rejected.reason
            assert len(rejected.reason) == 1001

    scene.run(body)


def test_what_is_still_to_be_declared_is_pending(scene: Scene) -> None:
    settings = [Setting(name, int, ["user"], 1) for name in ("good", "late")]

    async def body() -> None:
        scene.service.answers["late"] = Response(500, {}, b"oh")
        async with scene.client(startup="continue") as client:
            assert client.status.as_dict()["pending"] == ["late"]
            assert client.status.source is DataSource.SERVICE, "some of it has come"
            del scene.service.answers["late"]
            await client.reload()
            assert client.status.pending == ()

    scene.run(body)
    assert settings


def test_a_setting_that_nobody_holds_any_more_is_not_told_of(scene: Scene) -> None:
    settings = [Setting(name, int, ["user"], 1) for name in ("kept", "dropped")]

    async def body() -> None:
        async with scene.client() as client:
            assert set(client.status.declarations) == {"kept", "dropped"}
            settings.pop()
            gc.collect()
            assert set(client.status.declarations) == {"kept"}
            late = Setting("late", int, ["user"], 1)
            assert set(client.status.declarations) == {"kept", "late"}
            assert late.name == "late"

    scene.run(body)


def test_what_one_reader_does_to_a_status_the_next_does_not_see(scene: Scene) -> None:
    setting = Setting("ttl", int, ["user"], 1)

    async def body() -> None:
        async with scene.client() as client:
            declarations = client.status.declarations
            assert isinstance(declarations, dict)
            declarations.clear()
            assert set(client.status.declarations) == {setting.name}

    scene.run(body)


def test_a_start_that_fails_has_brought_nothing(scene: Scene) -> None:
    setting = Setting("ttl", int, ["user"], 1)

    async def body() -> None:
        client = scene.client()
        scene.service.answers[setting.name] = Response(422, {}, b"not this one")
        with pytest.raises(Exception, match="HTTP 422"):
            await client.set_as_main()
        assert client.status.source is DataSource.DEFAULTS

    scene.run(body)
