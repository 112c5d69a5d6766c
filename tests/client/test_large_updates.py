"""Large updates, on every backend: only changed sections are decoded, and nothing else waits for them."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from support.harness import AnyClient, Harness
from support.leftovers import Leftovers
from support.published import published
from support.scenes import INTERVAL, Scene

from heksher import TRACK_ALL, Setting
from heksher._client import declarations
from heksher._rules.getter import SettingState
from heksher._wire import Response
from heksher.backends.base import LARGE
from heksher.clients.stub import SyncStubHeksherClient
from heksher.exceptions import (
    ClientClosedError,
    InvalidResponseError,
    StartupTimeoutError,
    UnexpectedStatusError,
)
from heksher.setting import QueriedRule
from heksher.status import ClientState, SettingData


@pytest.fixture
def scene(backend: Harness) -> Scene:
    return Scene(backend)


class Many:
    """Settings with one rule each, and a validator that counts its calls."""

    def __init__(self, scene: Scene, number: int) -> None:
        self.calls: Counter[str] = Counter()
        self.settings: list[Setting[int]] = []
        for index in range(number):
            name = f"s{index}"
            setting = Setting(name, int, ["environment", "user"], index)
            setting.add_validator(self.validate)
            scene.service.add_rule(name, 100 + index, user="jim")
            self.settings.append(setting)

    def validate(self, value: int, rule: QueriedRule | None, setting: Setting[int]) -> int:
        self.calls[setting.name] += 1
        if value == 13:
            raise ValueError("bad luck")
        return value

    @property
    def published(self) -> list[Any]:
        return [published(setting) for setting in self.settings]

    def read_since(self) -> set[str]:
        """Return the settings whose sections were decoded since the last call."""
        names = set(self.calls)
        self.calls.clear()
        return names


def changed(before: list[Any], after: list[Any]) -> list[int]:
    return [index for index, each in enumerate(after) if each is not before[index]]


def test_only_what_changed_is_read_and_published(scene: Scene) -> None:
    many = Many(scene, 10)

    async def body() -> None:
        async with scene.client():
            assert many.read_since() == {f"s{index}" for index in range(10)}
            before = many.published
            scene.service.add_rule("s3", 7, user="joe")
            await scene.pass_time(INTERVAL)
            assert many.read_since() == {"s3"}
            assert changed(before, many.published) == [3]
            assert many.settings[3].get(environment="dev", user="joe") == 7
            # Another ETag, and the previous rules.
            scene.service.rules["s3"].pop()
            await scene.pass_time(INTERVAL)
            assert many.read_since() == {"s3"}
            assert many.settings[3].get(environment="dev", user="joe") == 3

    scene.run(body)


def test_a_default_of_the_service_is_part_of_what_is_compared(scene: Scene) -> None:
    many = Many(scene, 2)

    async def body() -> None:
        async with scene.client():
            many.read_since()
            scene.service.settings["s1"]["default_value"] = 55
            await scene.pass_time(INTERVAL)
            assert many.read_since() == {"s1"}
            assert many.settings[1].get(environment="dev", user="joe") == 55

    scene.run(body)


async def _add_a_validator(scene: Scene, client: AnyClient, many: Many) -> None:
    many.settings[1].add_validator(lambda value, rule, of: value)


async def _track(scene: Scene, client: AnyClient, many: Many) -> None:
    client.track_contexts(user=TRACK_ALL)


async def _reorder(scene: Scene, client: AnyClient, many: Many) -> None:
    scene.service.features = ["user", "environment", "theme"]


async def _rename(scene: Scene, client: AnyClient, many: Many) -> None:
    scene.service.rename("s1", "renamed")


async def _delete(scene: Scene, client: AnyClient, many: Many) -> None:
    rules = scene.service.rules["s1"]
    scene.service.delete("s1")
    scene.service.rules["s1"] = rules


async def _stub(scene: Scene, client: AnyClient, many: Many) -> None:
    with SyncStubHeksherClient() as stub:
        stub[many.settings[1]].rules = 5


async def _add_to_the_client(scene: Scene, client: AnyClient, many: Many) -> None:
    client.add_settings([many.settings[1]])


@pytest.mark.parametrize(
    ("change", "read"),
    [
        (_add_a_validator, {"s1"}),
        (_track, {"s0", "s1", "s2"}),
        (_reorder, {"s0", "s1", "s2"}),
        (_rename, set[str]()),
        (_delete, {"s1"}),
        (_stub, {"s0", "s1", "s2"}),
        (_add_to_the_client, {"s1"}),
    ],
)
def test_what_would_be_read_differently_is_read_again_and_nothing_else(
    scene: Scene, change: Any, read: set[str]
) -> None:
    many = Many(scene, 3)

    async def body() -> None:
        async with scene.client() as client:
            many.read_since()
            await change(scene, client, many)
            await client.reload()
            await client.reload()
            assert many.read_since() == read
            assert many.settings[1].get(environment="dev", user="jim") == 101
            assert many.settings[1].get(environment="dev", user="joe") == 1

    scene.run(body)


def test_what_another_client_published_meanwhile_is_replaced(scene: Scene) -> None:
    many = Many(scene, 2)
    elsewhere = Scene(scene.backend)
    elsewhere.service.add_rule("s1", 500, user="jim")

    async def body() -> None:
        async with scene.client() as client:
            client.add_settings([many.settings[1]])
            await client.reload()
            async with elsewhere.client() as other:
                other.add_settings([many.settings[1]])
                await other.reload()
                assert many.settings[1].get(environment="dev", user="jim") == 500
                scene.service.add_rule("s0", 1, user="ann")
                await client.reload()
                assert many.settings[1].get(environment="dev", user="jim") == 101

    scene.run(body)


def test_reports_of_what_was_not_read_again_stay(scene: Scene) -> None:
    many = Many(scene, 3)
    # The second setting of this name has no validator, so it uses the value that the first one rejects.
    twin = Setting("s1", int, ["environment", "user"], 1)
    scene.service.add_rule("s1", 13, user="joe")
    scene.service.add_rule("s1", "no int", user="ann")

    async def body() -> None:
        async with scene.client() as client:
            before = client.status.rejected_rules
            assert len(before) == 2
            scene.service.add_rule("s0", 1, user="ann")
            await client.reload()
            assert client.status.rejected_rules == before
            # Now the section is decoded again for this setting only. The report on the other one stays.
            twin.add_validator(lambda value, rule, of: value)
            await client.reload()
            assert client.status.rejected_rules == before
            assert twin.get(environment="dev", user="joe") == 13
            assert many.settings[1].get(environment="dev", user="joe") == 1

    scene.run(body)


def test_a_section_that_was_broken_once_is_reported_no_longer(scene: Scene) -> None:
    many = Many(scene, 2)

    async def body() -> None:
        async with scene.client() as client:
            rules = scene.service.rules["s1"]
            scene.service.rules["s1"] = {}  # type: ignore[assignment]
            await client.reload()
            assert len(client.status.rejected_rules) == 1
            scene.service.rules["s1"] = rules
            await client.reload()
            assert not client.status.rejected_rules
            assert many.settings[1].get(environment="dev", user="jim") == 101

    scene.run(body)


def test_a_setting_of_which_an_answer_tells_nothing_is_reported_until_one_does(
    scene: Scene,
) -> None:
    many = Many(scene, 2)

    async def body() -> None:
        async with scene.client() as client:
            scene.service.add_rule("s0", 5, user="ann")
            section = {"default_value": 0, "rules": scene.service.rules["s0"]}
            partial = Response(200, {}, json.dumps({"settings": {"s0": section}}).encode())
            # The answers to: context features, query, both settings, and the query again.
            scene.service.faults = [None, partial, None, None, partial]
            await client.reload()
            assert many.settings[0].get(environment="dev", user="ann") == 5
            assert many.settings[1].get(environment="dev", user="jim") == 101
            (rejected,) = client.status.rejected_rules
            assert (rejected.setting, rejected.rule_id) == ("s1", None)
            await client.reload()
            assert not client.status.rejected_rules

    scene.run(body)


def test_a_start_reads_everything_that_a_failed_one_had_read(scene: Scene) -> None:
    many = Many(scene, 2)

    async def body() -> None:
        client = scene.client()
        scene.service.answers["s1"] = Response(422, {}, b"not this one")
        with pytest.raises(Exception, match="HTTP 422"):
            await client.set_as_main()
        del scene.service.answers["s1"]
        many.read_since()
        async with client:
            assert many.read_since() == {"s0", "s1"}
            assert many.settings[0].get(environment="dev", user="jim") == 100

    scene.run(body)


# --- off the event loop ---------------------------------------------------------------------------


def make_large(scene: Scene, name: str) -> None:
    """Make the answer for a setting so large that it is decoded in a thread."""
    for number in range(LARGE // 60):
        scene.service.add_rule(name, number, user=f"user{number}")


def large_setting() -> Setting[int]:
    return Setting("large", int, ["environment", "user"], 60)


@pytest.mark.parametrize("is_large", [True, False])
def test_large_answers_are_read_where_no_event_loop_waits(scene: Scene, is_large: bool) -> None:
    setting = large_setting()
    threads: set[int] = set()

    @setting.add_validator
    def note(value: int, rule: QueriedRule | None, of: Setting[int]) -> int:
        threads.add(threading.get_ident())
        return value

    async def body() -> None:
        async with scene.client() as client:
            threads.clear()
            scene.service.add_rule("large", 5, user="jim")
            if is_large:
                make_large(scene, "large")
            await client.reload()
            assert setting.get(environment="dev", user="jim") == 5
            assert len(threads) == 1
            if scene.backend.name != "thread":
                assert (threading.get_ident() in threads) != is_large

    scene.run(body)


@pytest.mark.parametrize("is_large", [True, False])
def test_settings_with_many_names_are_sorted_where_no_event_loop_waits(
    scene: Scene, is_large: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    setting = large_setting()
    threads: list[int] = []

    class Noting(declarations.Catalogue):
        def __init__(self, settings: Iterable[SettingData]) -> None:
            threads.append(threading.get_ident())
            super().__init__(settings)

    monkeypatch.setattr(declarations, "Catalogue", Noting)
    aliases = [f"{'alias' * 10}{number}" for number in range(LARGE // 50)] if is_large else []
    data = {"name": setting.name, "type": "int", "default_value": 60, "version": "1.0"}
    scene.service.settings[setting.name] = {**data, "aliases": aliases}

    async def body() -> None:
        async with scene.client():
            assert setting.get(environment="dev", user="jim") == 60
            if scene.backend.name != "thread":
                assert [threading.get_ident() != each for each in threads] == [is_large]

    scene.run(body)
    assert len(threads) == 1


def test_what_goes_wrong_in_a_large_answer_is_told_as_ever(scene: Scene) -> None:
    setting = large_setting()

    async def body() -> None:
        async with scene.client() as client:
            scene.service.fault = Response(200, {}, b'{"settings": ' + b"[" * LARGE)
            with pytest.raises(InvalidResponseError):
                await client.reload()
            scene.service.fault = None
            make_large(scene, "large")
            scene.service.rules["large"].insert(700, {"value": 13})
            await client.reload()
            (rejected,) = client.status.rejected_rules
            assert "context_features" in rejected.reason
            assert setting.get(environment="dev", user="user701") == 701

    scene.run(body)


class Gate:
    """A validator that waits at one value until `go_on` is set."""

    def __init__(self, at: int) -> None:
        self._at = at
        self.reached = threading.Event()
        self.go_on = threading.Event()

    def __call__(self, value: int, rule: QueriedRule | None, of: Setting[int]) -> int:
        if value == self._at:
            self.reached.set()
            assert self.go_on.wait(10)
        return value


def test_nothing_is_published_once_the_client_is_closed(scene: Scene) -> None:
    setting = large_setting()
    gate = Gate(700)
    setting.add_validator(gate)

    async def body() -> None:
        leftovers = Leftovers()
        client = scene.client()
        await client.set_as_main()
        before = published(setting)
        make_large(scene, "large")
        reload = scene.backend.beside(client.reload)
        await scene.backend.until(gate.reached.is_set, "the answer is read")
        closing = scene.backend.beside(client.close)
        await scene.backend.until(
            lambda: client.status.state is ClientState.CLOSED, "it is being closed"
        )
        gate.go_on.set()
        await scene.backend.until(lambda: closing.ended and reload.ended, "it is closed")
        assert closing.error is None
        assert isinstance(reload.error, ClientClosedError)
        await leftovers.gone(scene.backend)
        assert published(setting) is before
        assert setting.get(environment="dev", user="user1") == 60

    scene.run(body)


def test_what_is_withdrawn_is_not_published(scene: Scene) -> None:
    setting = large_setting()
    gate = Gate(700)

    async def body() -> None:
        # The first update takes too long, so the start times out.
        setting.add_validator(gate)
        make_large(scene, "large")
        client = scene.client(startup_timeout=5)
        starting = scene.backend.beside(client.set_as_main)
        await scene.backend.until(gate.reached.is_set, "the answer is read")
        await scene.settled()
        scene.clock.advance(6)
        await scene.backend.until(lambda: scene.service.transports[-1].closed, "it is given up")
        gate.go_on.set()
        await scene.backend.until(lambda: starting.ended, "the start returns")
        assert isinstance(starting.error, StartupTimeoutError)
        assert not published(setting).started
        async with client:
            assert setting.get(environment="dev", user="user1") == 1

    scene.run(body)


def test_other_threads_do_not_wait_while_a_table_is_made_and_their_defaults_are_not_lost(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    setting = large_setting()
    deciding = beside_deciding(monkeypatch)

    async def body() -> None:
        async with scene.client() as client:
            make_large(scene, "large")

            def elsewhere() -> None:
                assert client.status.failures == 0
                client.set_defaults(environment="dev")

            deciding.append(elsewhere)
            await client.reload()
            assert setting.get(user="user1") == 1
            assert not deciding

    scene.run(body)


def test_other_threads_do_not_wait_while_defaults_are_set(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    setting = large_setting()

    async def body() -> None:
        make_large(scene, "large")
        async with scene.client() as client:
            deciding = beside_deciding(monkeypatch)
            states: list[ClientState] = []
            deciding.append(lambda: states.append(client.status.state))
            client.set_defaults(environment="dev")
            assert states == [ClientState.RUNNING]
            assert setting.get(user="user1") == 1

    scene.run(body)


def test_urls_stay_short_however_many_settings_there_are(scene: Scene) -> None:
    names = [f"number_{number}".ljust(50, "_") for number in range(300)]
    settings = [Setting(name, int, ["user"], 0) for name in names]
    for name in (names[0], names[-1]):
        scene.service.add_rule(name, 1, user="jim")

    async def body() -> None:
        async with scene.client() as client:
            client.track_contexts(user=[f"user{number}" for number in range(200)])
            client.track_contexts(user="jim")
            await client.reload()
            assert [settings[place].get(user="jim") for place in (0, 1, -1)] == [1, 0, 1]

    scene.run(body)
    lengths = [len("http://service.test/" + each.target) for each in scene.service.requests]
    assert sum(lengths) > 8000
    assert max(lengths) < 8000


def test_a_setting_with_a_name_longer_than_a_url_is_asked_for_alone(scene: Scene) -> None:
    names = ["a", "b" * 9000, "c"]
    settings = [Setting(name, int, ["user"], 0) for name in names]
    for name in names:
        scene.service.add_rule(name, 1, user="jim")

    async def body() -> None:
        async with scene.client():
            assert [setting.get(user="jim") for setting in settings] == [1, 1, 1]

    scene.run(body)
    lengths = [len(each.target) for each in scene.service.requests if "query" in each.target]
    assert len(lengths) == 3
    assert [length < 8000 for length in lengths] == [True, False, True]


@pytest.mark.parametrize("first", ["a", "z"])
def test_a_name_that_no_url_can_take_costs_that_setting_alone(
    scene: Scene, caplog: pytest.LogCaptureFixture, first: str
) -> None:
    names = [first, "b" * 9000, "c"]
    settings = [Setting(name, int, ["user"], 0) for name in names]
    for name in names:
        scene.service.add_rule(name, 1, user="jim")

    async def body() -> None:
        async with scene.client(startup="raise") as client:
            scene.service.longest_target = 8000
            for name in names:
                scene.service.add_rule(name, 2, user="joe")
            for _ in range(2):
                await client.reload()
                assert [setting.get(user="joe") for setting in settings] == [2, 0, 2]
                assert settings[1].get(user="jim") == 1, "it keeps its last rules"
                (rejected,) = client.status.rejected_rules
                assert (rejected.setting, rejected.rule_id) == (names[1], None)
                assert "414" in rejected.reason
                assert isinstance(rejected.error, UnexpectedStatusError)
                assert client.status.failures == 0
            looked_up = [line for line in scene.service.log if line.startswith("GET v1/settings")]
            assert len(looked_up) == len(names), "it is not taken for a deleted one"
            scene.service.longest_target = 10_000
            await client.reload()
            assert not client.status.rejected_rules
            assert settings[1].get(user="joe") == 2

    scene.run(body)
    assert sum("dropped" in record.message for record in caplog.records) == 1


def test_a_url_of_many_names_that_is_too_long_fails_the_update(scene: Scene) -> None:
    settings = [Setting(name, int, ["user"], 0) for name in ("a", "b")]

    async def body() -> None:
        async with scene.client() as client:
            scene.service.longest_target = 10
            with pytest.raises(UnexpectedStatusError, match="414"):
                await client.reload()
            assert not client.status.rejected_rules
            assert settings

    scene.run(body)


def beside_deciding(monkeypatch: pytest.MonkeyPatch) -> list[Callable[[], None]]:
    """Return a list of functions to call in another thread once a table is prepared."""
    functions: list[Callable[[], None]] = []

    prepare = SettingState[Any].prepare

    def prepare_and_wait(*arguments: Any, **options: Any) -> Any:
        prepared = prepare(*arguments, **options)
        while functions:
            thread = threading.Thread(target=functions.pop())
            thread.start()
            thread.join(10)
            assert not thread.is_alive()
        return prepared

    monkeypatch.setattr(SettingState, "prepare", prepare_and_wait)
    return functions
