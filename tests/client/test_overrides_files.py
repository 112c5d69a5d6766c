"""Overrides from a file (``overrides=PATH``), on every backend: what counts, and when."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from support.harness import PATIENCE, AnyClient, Harness
from support.scenes import FEATURES, INTERVAL, Scene
from support.scripted import unreachable

import heksher
from heksher import Reason, Setting, ThreadHeksherClient, ValueChanged
from heksher._client import files
from heksher.clients.stub import SyncStubHeksherClient
from heksher.exceptions import InvalidArgumentError, MissingFeatureError, ServiceUnreachableError
from heksher.setting import QueriedRule
from heksher.status import ClientState

JIM = {"environment": "dev", "user": "jim"}


@pytest.fixture
def scene(backend: Harness) -> Scene:
    return Scene(backend)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "settings.local.toml"


@pytest.fixture
def ttl() -> Setting[int]:
    return Setting("ttl", int, ["user", "environment"], 60)


def write(path: Path, text: str) -> None:
    """Replace a file as editors do: by another one that gets its name."""
    new = path.with_name("new")
    new.write_text(text, encoding="utf-8")
    new.replace(path)


def remove(path: Path) -> None:
    path.unlink()


def empty(path: Path) -> None:
    path.write_text("")


async def overridden_by(
    scene: Scene, path: Path, text: str, check: Callable[[AnyClient], None]
) -> None:
    write(path, text)
    async with scene.client(overrides=path) as client:
        check(client)


def warnings_in(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [
        record.getMessage()
        for record in caplog.records
        if record.levelno >= logging.WARNING
        and record.name.rpartition(".")[2] in ("files", "overrides")
    ]


def test_a_file_replaces_all_rules_of_the_settings_that_it_names(
    scene: Scene, path: Path, ttl: Setting[int], caplog: pytest.LogCaptureFixture
) -> None:
    other = Setting("other", int, ["user"], 1)
    color = Setting("shop.color", str, ["user", "theme"], "white")
    scene.service.add_rule("ttl", 5, user="jim")
    scene.service.add_rule("other", 2, user="jim")

    def check(client: AnyClient) -> None:
        assert ttl.get(**JIM) == 7
        assert other.get(user="jim") == 2
        assert color.get(user="jim", theme="bright") == "red"
        assert color.get(user="jim", theme="dark") == "black", "the service's order counts"
        assert color.get(user="eve", theme="bright") == "white"
        assert client.status.overrides == ("shop.color", "ttl")
        assert client.status.overrides_error is None
        explanation = ttl.explain(**JIM)
        assert explanation.reason is Reason.OVERRIDE
        assert explanation.rule is not None and explanation.rule.value == 7
        with pytest.raises(MissingFeatureError):
            ttl.get()

    text = """
        ttl = 7
        [[shop.color]]
        when = {theme = "dark"}
        value = "black"
        [[shop.color]]
        when = {user = "jim"}
        value = "red"
    """
    scene.run(lambda: overridden_by(scene, path, text, check))
    assert ttl.get(**JIM) == 7, "after closing it stays in force"
    assert warnings_in(caplog) == [f"{path} overrides shop.color and ttl"]


def test_it_is_in_force_while_the_service_is_away(
    scene: Scene, path: Path, ttl: Setting[int]
) -> None:
    scene.service.fault = unreachable()
    scene.service.add_rule("ttl", 5, user="jim")
    write(path, "ttl = 7")

    async def body() -> None:
        async with scene.client(overrides=path, startup="continue") as client:
            assert ttl.get(**JIM) == 7
            assert client.status.failures == 1
            write(path, "ttl = 8")
            await scene.pass_time(INTERVAL)
            assert ttl.get(**JIM) == 8
            scene.service.fault = None
            remove(path)
            await client.reload()
            assert ttl.get(**JIM) == 5

    scene.run(body)


def test_each_update_looks_at_the_file_and_listeners_are_called_once(
    scene: Scene, path: Path, ttl: Setting[int]
) -> None:
    scene.service.add_rule("ttl", 5, user="jim")
    other = Setting("other", int, ["user"], 1)
    values: list[ValueChanged[int]] = []
    names: list[tuple[str, ...]] = []

    async def body() -> None:
        async with scene.client(overrides=path) as client:
            await scene.settled()
            ttl.on_change(values.append, **JIM)
            client.on_change(lambda event: names.append(event.names))
            write(path, "ttl = 7\nother = 3")
            await scene.pass_time(INTERVAL)
            assert (ttl.get(**JIM), other.get(user="jim")) == (7, 3)
            assert values.pop() == ValueChanged(ttl, 5, 7)
            assert names.pop() == ("other", "ttl")
            scene.service.add_rule("ttl", 6, **JIM)
            await client.reload()
            write(path, "# ttl = 7\nother = 3")
            assert not values and not names
            await client.reload()
            assert values.pop() == ValueChanged(ttl, 7, 6)
            assert names.pop() == ("ttl",)
            assert client.status.overrides == ("other",)
            await client.reload()
        assert not values and not names

    scene.run(body)


def test_the_file_is_a_change_of_its_own_after_the_start(
    scene: Scene, path: Path, ttl: Setting[int]
) -> None:
    other = Setting("other", int, ["user"], 1)
    names: list[tuple[str, ...]] = []

    async def body() -> None:
        client = scene.client(overrides=path)
        client.on_change(lambda event: names.append(event.names))
        write(path, "ttl = 7")
        scene.service.add_rule("other", 5, user="jim")
        async with client:
            await scene.settled()
            assert names.pop() == ("other", "ttl")
            write(path, "ttl = 8")
            scene.service.add_rule("other", 6, user="eve")
            await client.reload()
            assert names == [("ttl",), ("other",)]

    scene.run(body)
    assert other.get(user="jim") == 5


def test_a_file_is_applied_again_only_if_something_changed(
    scene: Scene, path: Path, ttl: Setting[int]
) -> None:
    seen: list[int] = []

    def add_one(value: int, rule: QueriedRule | None, _: Setting[int]) -> int:
        if rule is not None:  # it is not the service's default value
            seen.append(value)
        return value + 1

    ttl.add_validator(add_one)
    write(path, "ttl = 7")

    async def body() -> None:
        async with scene.client(overrides=path) as client:
            await client.reload()
            assert seen == [7]
            ttl.add_validator(add_one)
            await client.reload()
            assert seen == [7, 7, 8]
            assert ttl.get(**JIM) == 9

    scene.run(body)


def test_a_setting_that_is_defined_later_gets_its_override(scene: Scene, path: Path) -> None:
    write(path, "late = 7")

    async def body() -> None:
        async with scene.client(overrides=path):
            late = Setting("late", int, ["user"], 1)
            await scene.backend.until(lambda: late.get(user="jim") == 7, "it is overridden")

    scene.run(body)


BROKEN = [
    ("ttl = ", "it is not valid TOML: "),
    ("ttl = " + 3000 * "[", "it is not valid TOML: "),
    ("ttl = " + 4900 * "9", "it is not valid TOML: "),
    ("ttl = '5'", "setting 'ttl': invalid override '5': '5' is not an int"),
    ("ttl = 2026-12-01", "setting 'ttl': invalid override datetime.date(2026, 12, 1): "),
    ("ratio = nan", "setting 'ratio': invalid override nan: "),
    ("ttl = [{when = {user = 5}, value = 1}]", "invalid condition user=5: expected a string"),
    ("ttl = [{when = {theme = 'x'}, value = 1}]", "invalid condition on 'theme': expected one"),
    ("ttl = [{when = 5, value = 1}]", "invalid conditions 5 of a rule"),
    (
        "ttl = [{wen = {}, value = 1}]",
        "is not an int; rules are a list of tables with exactly when and value",
    ),
    ("[ttl]\nwhen = {}\nvalue = 1", "is not an int; rules are a list of tables with exactly when"),
    (2 * "[[ttl]]\nwhen = {user = 'jim'}\nvalue = 1\n", "two rules have the same conditions"),
    ("names = ['a', 5]", "setting 'names': invalid override ['a', 5]: element 1: 5 is not"),
    ('a.b = 5\n"a.b" = 6', "setting 'a.b' is named twice"),
    ("ttl = 2000", "a validator raised ValueError: too long"),
    (f"ttl = 5 # {'x' * 5000}", "it is larger than max_response_bytes=5000"),
]


def test_a_broken_file_leaves_the_last_good_one_in_force(
    scene: Scene, path: Path, ttl: Setting[int], caplog: pytest.LogCaptureFixture
) -> None:
    @ttl.add_validator
    def below_1000(value: int, _: QueriedRule | None, __: Setting[int]) -> int:
        if value > 1000:
            raise ValueError("too long")
        return value

    others: list[Setting[Any]] = [
        Setting("ratio", float, ["user"], 1.0),
        Setting("names", Sequence[str], ["user"], ()),
        Setting("a.b", int, ["user"], 1),
    ]
    write(path, "ttl = 7")

    async def body() -> None:
        client = scene.client(overrides=path, startup="continue", max_response_bytes=5000)
        async with client:
            for text, reason in BROKEN:
                caplog.clear()
                write(path, f"b = 7\n{text}")
                for _ in range(2):
                    await client.reload()
                    assert ttl.get(**JIM) == 7
                error = client.status.overrides_error
                assert error is not None and error.startswith(f"{path}: ") and reason in error
                assert len(error) < 1200
                assert f"overrides not used: {error}" in str(client.status)
                assert client.status.as_dict()["overrides_error"] == error
                assert client.status.failures == 0
                assert warnings_in(caplog) == [f"the overrides stay as they are: {error}"]
            for value in (7, 8):
                write(path, f"ttl = {value}")
                await client.reload()
                assert ttl.get(**JIM) == value
                assert client.status.overrides_error is None

    scene.run(body)
    assert others


@pytest.mark.parametrize("startup", ["continue", "raise"])
def test_a_broken_file_at_the_start_is_like_any_failure_of_a_start(
    scene: Scene, path: Path, ttl: Setting[int], startup: str
) -> None:
    write(path, "ttl = 'x'")

    async def body() -> None:
        client = scene.client(overrides=path, startup=startup)
        if startup == "raise":
            with pytest.raises(InvalidArgumentError, match=r"settings\.local\.toml: setting 'ttl'"):
                await client.set_as_main()
            assert client.status.state is ClientState.NEW
            write(path, "ttl = 7")
        await client.set_as_main()
        assert ttl.get(**JIM) == (7 if startup == "raise" else 60)
        assert (client.status.overrides_error is None) == (startup == "raise")
        await client.close()

    scene.run(body)


def test_a_start_that_fails_overrides_nothing(scene: Scene, path: Path, ttl: Setting[int]) -> None:
    scene.service.fault = unreachable()
    write(path, "ttl = 7")

    async def body() -> None:
        client = scene.client(overrides=path, startup="raise")
        with pytest.raises(ServiceUnreachableError):
            await client.set_as_main()
        assert ttl.get(**JIM) == 60
        scene.service.fault = None
        await client.set_as_main()
        assert ttl.get(**JIM) == 7
        await client.close()

    scene.run(body)


def test_unknown_names_are_reported_once_for_a_content(
    scene: Scene, path: Path, ttl: Setting[int], caplog: pytest.LogCaptureFixture
) -> None:
    write(path, 'tttl = 7\n"x\\n" = 1\n[shop]\ncolor = 5\n[shop.b]\nc = 1')

    async def body() -> None:
        async with scene.client(overrides=path) as client:
            late = Setting("shop.b", Mapping[str, int], ["user"], {})
            await scene.backend.until(lambda: late.get(user="jim") == {"c": 1})
            await client.reload()
            assert client.status.overrides_error is None
        assert warnings_in(caplog) == [
            rf"{path}: no setting of this client is called 'tttl', 'x\n' or 'shop'",
            f"{path} overrides shop.b",
        ]

    scene.run(body)
    assert ttl.get(**JIM) == 60


def test_the_next_client_takes_over(scene: Scene, path: Path, ttl: Setting[int]) -> None:
    """With its own file, or with none."""
    write(path, "ttl = 7")

    async def body() -> None:
        async with scene.client(overrides=path) as first:
            own = scene.client()
            other = Setting("other", int, ["user"], 1)
            async with scene.client() as second:
                assert ttl.get(**JIM) == 60
                assert not (first.status.overrides or second.status.overrides)
            await own.close()
            write(path, "other = 7")
            async with scene.client(overrides=path) as third:
                assert (ttl.get(**JIM), other.get(user="jim")) == (60, 7)
                assert third.status.overrides == ("other",)

    scene.run(body)


def test_blocks_are_above_the_file(scene: Scene, path: Path, ttl: Setting[int]) -> None:
    write(path, "ttl = 7")

    async def body() -> None:
        with heksher.override({ttl: 1}):
            async with scene.client(overrides=path) as client:
                assert ttl.get(**JIM) == 1
                with heksher.override({ttl: 2}):
                    write(path, "ttl = 8")
                    await client.reload()
                    assert ttl.get(**JIM) == 2
                assert ttl.get(**JIM) == 1
        assert ttl.get(**JIM) == 8

    scene.run(body)


def test_nothing_changes_or_is_said_to_while_modification_lock_is_held(
    scene: Scene, path: Path, ttl: Setting[int], caplog: pytest.LogCaptureFixture
) -> None:
    async def body() -> None:
        async with scene.client(overrides=path) as client:
            await scene.settled()
            write(path, "ttl = 7")
            lock: Any = client.client.modification_lock
            if scene.backend.is_blocking:
                lock.acquire()
            else:
                await lock.acquire()
            reloading = scene.backend.beside(client.reload)
            await scene.backend.until(
                lambda: scene.waiting == 2, "reload waits for the update, and that for the lock"
            )
            assert ttl.get(**JIM) == 60
            assert not warnings_in(caplog)
            lock.release()
            await scene.backend.until(lambda: reloading.ended, "the update goes on")
            assert ttl.get(**JIM) == 7
            assert warnings_in(caplog) == [f"{path} overrides ttl"]

    scene.run(body)


def test_a_file_that_is_written_in_place_counts_once_it_is_complete(
    scene: Scene, path: Path, ttl: Setting[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    write(path, "ttl = 7")
    parts = ["ttl = 1", "ttl = 12", "ttl = 12", *4 * ["ttl = 13"]]
    look = files.LocalFile.look

    def look_and_go_on(file: files.LocalFile) -> tuple[bytes | None, bool]:
        found = look(file)
        path.write_text(parts.pop(0))
        return found

    async def body() -> None:
        async with scene.client(overrides=path) as client:
            await scene.settled()
            monkeypatch.setattr(files.LocalFile, "look", look_and_go_on)
            empty(path)
            await client.reload()
            assert ttl.get(**JIM) == 12
            # Some editors move the old file away before they write the new one.
            remove(path)
            await client.reload()
            assert ttl.get(**JIM) == 13

    scene.run(body)


@pytest.mark.parametrize("kind", ["folder", "pipe"])
def test_what_is_no_file_is_refused(scene: Scene, path: Path, ttl: Setting[int], kind: str) -> None:
    path.mkdir() if kind == "folder" else os.mkfifo(path)

    async def body() -> None:
        async with scene.client(overrides=path, startup="continue") as client:
            expected = f"{path}: it is not a regular file"
            assert client.status.overrides_error == expected

    scene.run(body)
    assert ttl.get(**JIM) == 60


def test_a_start_does_not_wait_for_a_disk_that_hangs(
    scene: Scene, path: Path, ttl: Setting[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = threading.Event()

    def hang(_: files.LocalFile) -> tuple[bytes, bool]:
        assert go_on.wait(PATIENCE)
        return b"ttl = 7", False

    monkeypatch.setattr(files.LocalFile, "look", hang)

    async def body() -> None:
        client = scene.client(overrides=path, startup="continue", startup_timeout=5)
        starting = scene.backend.beside(client.set_as_main)
        await scene.backend.until(lambda: scene.clock.sleeping, "the caller waits")
        scene.clock.advance(5)
        await scene.backend.until(lambda: starting.ended, "the start is given up")
        expected = f"reading the overrides {path}, which the start waits for, did not end within"
        assert str(client.status.last_error).startswith(expected)
        assert ttl.get(**JIM) == 60
        go_on.set()
        await scene.backend.until(lambda: ttl.get(**JIM) == 7, "it goes on when the disk does")
        await client.close()

    scene.run(body)


# --- in one process, without backends -------------------------------------------------------------


def test_stubs_are_above_what_a_closed_client_has_left(path: Path, ttl: Setting[int]) -> None:
    write(path, "ttl = 7")
    client = ThreadHeksherClient("http://127.0.0.1:9", 60, FEATURES, overrides=path)
    with client:
        assert ttl.get(**JIM) == 7
    with SyncStubHeksherClient(strict=True) as stub:
        assert ttl.get(**JIM) == 60
        stub[ttl].rules = 5
        assert ttl.get(**JIM) == 5
    assert ttl.get(**JIM) == 7


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_child_goes_on_reading_the_file(path: Path, ttl: Setting[int]) -> None:
    write(path, "ttl = 7")
    with ThreadHeksherClient("http://127.0.0.1:9", 60, FEATURES, overrides=path) as client:
        child = os.fork()
        if child == 0:
            signal.alarm(int(PATIENCE))  # ends a child that hangs
            inherited = ttl.get(**JIM)
            write(path, "ttl = 8")
            with suppress(ServiceUnreachableError):
                client.reload()
            os._exit(0 if (inherited, ttl.get(**JIM)) == (7, 8) else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
