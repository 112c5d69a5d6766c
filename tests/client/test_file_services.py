"""Clients whose service is a file (``service_url="file:///..."``), on every backend."""

from __future__ import annotations

import gc
import logging
import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from support.harness import PATIENCE, AnyClient, Harness
from support.scenes import FEATURES, INTERVAL, Scene

from heksher import TRACK_ALL, Explanation, Reason, Setting, ThreadHeksherClient, ValueChanged
from heksher._client import file_service
from heksher.exceptions import (
    ClientClosedError,
    HeksherError,
    InvalidResponseError,
    MissingFeatureError,
    ServiceUnreachableError,
)
from heksher.setting import QueriedRule
from heksher.status import ClientState, DataSource, DeclarationState

JIM = {"environment": "dev", "user": "jim"}


class FileScene(Scene):
    """A file and its clients."""

    def __init__(self, backend: Harness, path: Path) -> None:
        super().__init__(backend)
        self.path = path

    def write(self, text: str) -> None:
        new = self.path.with_name("new")
        new.write_text(text)
        os.utime(new, (0, 0))  # old enough to be read without a pause
        new.replace(self.path)

    def remove(self) -> None:
        self.path.unlink()

    def file_client(self, **options: Any) -> AnyClient:
        return self.client(self.path.as_uri(), **options)


@pytest.fixture
def scene(backend: Harness, tmp_path: Path) -> FileScene:
    return FileScene(backend, tmp_path / "the settings.toml")


@pytest.fixture
def ttl() -> Setting[int]:
    return Setting("ttl", int, ["user", "environment"], 60)


RULES = """
    [[ttl]]
    when = {environment = "dev"}
    value = 1
    [[ttl]]
    when = {user = "jim"}
    value = 2
    [[ttl]]
    when = {user = "jim", environment = "prod"}
    value = 3
"""


def test_a_file_gives_values_and_rules_and_nothing_is_asked_or_declared(
    scene: FileScene, ttl: Setting[int]
) -> None:
    everybody = Setting("shop.name", str, ["user"], "shop")
    unnamed = Setting("unnamed", int, ["user"], 1)
    scene.write('shop.name = "the shop"\n' + RULES)

    async def body() -> None:
        async with scene.file_client() as client:
            assert ttl.get(environment="dev", user="eve") == 1
            assert ttl.get(**JIM) == 2, "the order of the client's features counts"
            assert ttl.get(environment="prod", user="jim") == 3
            assert ttl.get(environment="prod", user=None) == 60
            assert everybody.get(user="jim") == "the shop"
            assert unnamed.get(user="jim") == 1
            with pytest.raises(MissingFeatureError):
                unnamed.get()
            await client.ping()
            with pytest.raises(HeksherError, match="has no declarations: get_settings"):
                await client.get_settings()
            status = client.status
            assert (status.source, status.is_ready) == (DataSource.FILE, True)
            assert (status.state, status.failures, status.pending) == (ClientState.RUNNING, 0, ())
            assert status.settings == {DeclarationState.UPTODATE: ("shop.name", "ttl", "unnamed")}
            assert status.staleness == 0
            assert status.bytes_received > 0
        assert not scene.service.requests

    scene.run(body)
    explained: list[Explanation[Any]] = [
        ttl.explain(**JIM),
        ttl.explain(environment="prod", user=None),
        everybody.explain(user="jim"),
    ]
    assert {each.source for each in explained} == {DataSource.FILE}
    assert [each.reason for each in explained] == [
        Reason.RULE,
        Reason.LOCAL_DEFAULT,
        Reason.SERVICE_DEFAULT,
    ]
    assert explained[0].rule is not None and explained[0].rule.rule_id == 2
    assert "no rule matches: the file's value for all contexts" in str(explained[2])


def test_changes_come_with_polls_and_reload_and_listeners_are_told(
    scene: FileScene, ttl: Setting[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    values: list[ValueChanged[int]] = []
    names: list[tuple[str, ...]] = []
    scene.write("ttl = 5")

    async def body() -> None:
        client = scene.file_client()
        client.on_change(lambda event: names.append(event.names))
        async with client:
            assert names.pop() == ("ttl",)
            ttl.on_change(values.append, **JIM)
            late = Setting("late", int, ["user"], 1)
            scene.write(f"late = 7\nttl = 6\n# {70_000 * 'x'}")  # large enough for a thread
            await scene.pass_time(INTERVAL)
            assert (ttl.get(**JIM), late.get(user="jim")) == (6, 7)
            assert values.pop() == ValueChanged(ttl, 5, 6)
            scene.write("")
            await client.reload()
            assert (ttl.get(**JIM), late.get(user="jim")) == (60, 1)
            assert ttl.explain(**JIM).reason is Reason.LOCAL_DEFAULT
            assert values.pop() == ValueChanged(ttl, 6, 60)
            assert names.pop() == ("late", "ttl")
            names.clear()
            monkeypatch.setattr(file_service, "parse", None)  # it is not called
            await client.reload()
            assert not names and not values

    scene.run(body)


def test_settings_that_no_longer_exist_are_forgotten(scene: FileScene, ttl: Setting[int]) -> None:
    scene.write("ttl = 5")

    async def body() -> None:
        async with scene.file_client() as client:
            for number in range(3):
                Setting(f"s{number}", int, ["user"], 1)
            gc.collect()
            await client.reload()
            core = client.client._core  # pyright: ignore[reportPrivateUsage]
            assert [entry.name for entry in core.settings.entries()] == ["ttl"]

    scene.run(body)
    assert ttl.get(**JIM) == 5


@pytest.mark.parametrize("missing", [True, False], ids=["missing", "broken"])
def test_a_file_that_cannot_be_used_is_like_a_service_that_is_away(
    scene: FileScene, ttl: Setting[int], missing: bool, caplog: pytest.LogCaptureFixture
) -> None:
    def spoil() -> None:
        if missing:
            scene.path.unlink(missing_ok=True)
        else:
            scene.write("ttl = ")

    kind = ServiceUnreachableError if missing else InvalidResponseError
    reason = "cannot be read: there is no such file" if missing else "it is not valid TOML: "

    async def body() -> None:
        spoil()
        strict = scene.file_client(startup="raise")
        with pytest.raises(kind):
            await strict.set_as_main()
        async with scene.file_client(startup="continue") as client:
            assert ttl.get(**JIM) == 60
            assert client.status.source is DataSource.DEFAULTS
            assert client.status.failures == 1
            for call in (client.ping, client.reload):
                with pytest.raises(kind) as caught:
                    await call()
                assert str(caught.value).startswith(scene.path.as_uri())
                assert reason in str(caught.value)
            scene.write("ttl = 7")
            await scene.pass_time(INTERVAL)
            assert (ttl.get(**JIM), client.status.failures) == (7, 0)
            await client.ping()
            spoil()
            await scene.pass_time(INTERVAL)
            assert (ttl.get(**JIM), client.status.failures) == (7, 1)
            assert client.status.staleness == INTERVAL
            scene.write("ttl = 7")
            await client.reload()
            assert (client.status.failures, client.status.staleness) == (0, 0)
        with pytest.raises(ClientClosedError):
            await client.ping()
        errors = [each for each in caplog.records if each.levelno == logging.ERROR]
        assert len(errors) == 3, "one for each outage"

    scene.run(body)


def test_what_is_wrong_costs_one_rule_and_a_wrong_value_leaves_the_last_one(
    scene: FileScene, ttl: Setting[int], caplog: pytest.LogCaptureFixture
) -> None:
    names = Setting("names", Sequence[str], ["user"], ())
    other = Setting("other", int, ["user"], 1)

    @ttl.add_validator
    def below_1000(value: int, _: QueriedRule | None, __: Setting[int]) -> int:
        if value > 1000:
            raise ValueError("too long")
        return value

    wrong = {
        "ttl = 'x'": "default value: 'x' is not an int",
        "ttl = 2000": "default value: validator",
        "ttl = 2026-12-01": "invalid value datetime.date(2026, 12, 1): expected a text in quotes",
        "ttl = nan": "Out of range float values are not JSON compliant",
        "ttl = [{when = {user = 5}, value = 7}]": "invalid condition user=5: expected a string",
        "ttl = [{when = {shop = 'x'}, value = 7}]": "invalid condition on 'shop'",
        "ttl = {value = []}": "default value: [] is not an int",
        "ttl = [{when = {user = 'jim'}, valeu = 7}]": "'user': 'jim'}}] is not an int",
    }

    async def stays(client: AnyClient, before: str, value: int) -> None:
        for text, reason in wrong.items():
            scene.write(before)
            await client.reload()
            assert not client.status.rejected_rules
            caplog.clear()
            scene.write(f"other = 5\n{text}")
            for _ in range(2):
                await client.reload()
                assert (ttl.get(**JIM), other.get(user="jim")) == (value, 5)
            (rejected,) = client.status.rejected_rules
            assert (rejected.setting, rejected.rule_id) == ("ttl", None)
            assert reason in rejected.reason
            assert not rejected.reason.startswith("setting")
            assert [each.getMessage() for each in caplog.records if "dropped" in each.msg] == [
                f"dropped: {rejected}"
            ]

    async def body() -> None:
        scene.write("")
        async with scene.file_client() as client:
            await stays(client, "ttl = 7", 7)
            await stays(client, RULES, 2)
            scene.write(
                f"{RULES}[[ttl]]\nwhen = {{user = 'eve'}}\nvalue = 'x'\n"
                "[[names]]\nwhen = {}\nvalue = ['a', 5]"
            )
            await client.reload()
            assert ttl.get(**JIM) == 2
            assert ttl.get(environment="prod", user="eve") == 60
            assert names.get(user="jim") == ("a",)
            assert client.status.rejected_rules[0].rule_id == 4
            assert client.status.coerced_rules[0].setting == "names"

    scene.run(body)


def test_only_what_is_tracked_counts(scene: FileScene, ttl: Setting[int]) -> None:
    scene.write(RULES)

    async def body() -> None:
        client = scene.file_client()
        client.track_contexts(environment="prod", user=TRACK_ALL)
        async with client:
            assert ttl.get(environment="dev", user="eve") == 60
            assert ttl.get(environment="prod", user="jim") == 3
            client.track_contexts(environment="dev")
            await client.reload()
            assert ttl.get(environment="dev", user="eve") == 1

    scene.run(body)


def test_unknown_names_are_reported_once_for_a_content(
    scene: FileScene, ttl: Setting[int], caplog: pytest.LogCaptureFixture
) -> None:
    scene.write("tttl = 5\n[late]\nttl = 6")

    async def body() -> None:
        async with scene.file_client() as client:
            late = Setting("late.ttl", int, ["user"], 1)
            await scene.backend.until(lambda: late.get(user="jim") == 6, "the late one is served")
            await client.reload()

    scene.run(body)
    assert [each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING] == [
        f"{scene.path.as_uri()}: no setting of this client is called 'tttl' or 'late'"
    ]
    assert ttl.get(**JIM) == 60


def test_nothing_changes_while_modification_lock_is_held(
    scene: FileScene, ttl: Setting[int]
) -> None:
    scene.write("ttl = 5")

    async def body() -> None:
        async with scene.file_client() as client:
            await scene.settled()
            scene.write("ttl = 6")
            lock: Any = client.client.modification_lock
            if scene.backend.is_blocking:
                lock.acquire()
            else:
                await lock.acquire()
            reloading = scene.backend.beside(client.reload)
            await scene.backend.until(
                lambda: scene.waiting == 2, "reload waits for the update, and that for the lock"
            )
            assert ttl.get(**JIM) == 5
            lock.release()
            await scene.backend.until(lambda: reloading.ended, "the update goes on")
            assert ttl.get(**JIM) == 6

    scene.run(body)


def test_a_file_of_overrides_beats_it(scene: FileScene, ttl: Setting[int]) -> None:
    scene.write("ttl = 5")
    local = scene.path.with_name("local")
    local.write_text("ttl = 7")

    async def body() -> None:
        async with scene.file_client(overrides=local) as client:
            assert ttl.get(**JIM) == 7
            assert client.status.overrides == ("ttl",)

    scene.run(body)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_child_goes_on_reading(tmp_path: Path, ttl: Setting[int]) -> None:
    path = tmp_path / "settings.toml"
    path.write_text("ttl = 7")
    with ThreadHeksherClient(path.as_uri(), 60, FEATURES) as client:
        assert ttl.get(**JIM) == 7
        path.write_text("ttl = 8")
        child = os.fork()
        if child == 0:
            signal.alarm(int(PATIENCE))  # ends a child that hangs
            client.reload()
            os._exit(0 if ttl.get(**JIM) == 8 else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert ttl.get(**JIM) == 7
