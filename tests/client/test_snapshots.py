"""Snapshots on every backend: written when rules change, used while the service is unreachable."""

from __future__ import annotations

import errno
import json
import logging
import os
import stat
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import anyio
import pytest
from support.harness import PATIENCE, AnyClient, AsyncioHarness, Harness, TrioHarness
from support.published import publish
from support.scenes import FEATURES, INTERVAL, Scene
from support.scripted import unreachable

from heksher import TRACK_ALL, AsyncHeksherClient, Setting
from heksher._client import core, snapshot
from heksher._rules.table import RuleTable
from heksher._rules.tracking import Tracking
from heksher._wire import Response
from heksher.exceptions import FeatureTypeError, ServiceUnreachableError
from heksher.setting import QueriedRule
from heksher.status import DataSource


@pytest.fixture
def scene(backend: Harness) -> Scene:
    return Scene(backend)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "rules.snapshot"


def ttl_setting() -> Setting[int]:
    return Setting("cache_ttl", int, ["environment", "user"], 60)


def contents(path: Path) -> dict[str, Any]:
    """Return the JSON behind the first line of the file."""
    decoded: dict[str, Any] = json.loads(path.read_bytes().partition(b"\n")[2])
    return decoded


def is_there(path: Path) -> bool:
    return path.exists()


def source_of(client: AnyClient) -> DataSource:
    return client.status.source


def messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return the messages that were logged about snapshots."""
    return [each.getMessage() for each in caplog.records if each.name == "heksher._client.snapshot"]


def state_of(path: Path) -> tuple[int, int]:
    """Return what differs between the file and another one that takes its place."""
    found = path.stat()
    return found.st_ino, found.st_mtime_ns


async def write_one(scene: Scene, path: Path, **options: Any) -> None:
    """Have a client write the snapshot."""
    async with scene.client(snapshot=path, **options):
        pass
    assert is_there(path)


# --- loaded ---------------------------------------------------------------------------------------


def test_a_start_without_the_service_has_the_last_rules(scene: Scene, path: Path) -> None:
    ttl = ttl_setting()
    scene.service.add_rule("cache_ttl", 10, user="jim")

    async def body() -> None:
        async with scene.client(snapshot=path) as client:
            assert source_of(client) is DataSource.SERVICE
            scene.service.add_rule("cache_ttl", 20, user="joe")
            await client.reload()
        written = contents(path)["written"]
        publish(ttl, RuleTable(60), started=False)

        scene.service.fault = unreachable()
        client = scene.client(snapshot=str(path), startup="continue")
        assert source_of(client) is DataSource.DEFAULTS
        async with client:
            assert ttl.get(environment="dev", user="jim") == 10
            assert ttl.get(environment="dev", user="joe") == 20
            assert ttl.get(environment=None, user=None) == 60
            with pytest.raises(FeatureTypeError, match="'user'"):
                ttl.get(environment="dev", user=cast(Any, 5))
            status = client.status
            assert status.source is DataSource.SNAPSHOT
            assert (status.staleness, status.last_success) == (None, None)
            assert status.snapshot is not None
            assert status.snapshot.is_loaded
            assert status.snapshot.written == written

            scene.service.fault = None
            scene.service.rules["cache_ttl"].pop()
            scene.service.add_rule("cache_ttl", 11, user="ann")
            await client.reload()
            assert source_of(client) is DataSource.SERVICE
            assert ttl.get(environment="dev", user="jim") == 10
            assert ttl.get(environment="dev", user="joe") == 60, "that rule is gone"
            assert ttl.get(environment="dev", user="ann") == 11

    scene.run(body)


def test_a_start_that_raises_raises_with_a_snapshot_too(scene: Scene, path: Path) -> None:
    ttl = ttl_setting()
    scene.service.add_rule("cache_ttl", 10, user="jim")

    async def body() -> None:
        await write_one(scene, path)
        publish(ttl, RuleTable(60), started=False)
        scene.service.fault = unreachable()
        client = scene.client(snapshot=path)
        with pytest.raises(ServiceUnreachableError):
            await client.set_as_main()
        assert source_of(client) is DataSource.DEFAULTS
        assert ttl.get(user="jim") == 60

    scene.run(body)


def test_the_file_is_loaded_before_the_first_request_and_published_when_the_start_returns(
    scene: Scene, path: Path
) -> None:
    ttl = ttl_setting()
    scene.service.add_rule("cache_ttl", 10, user="jim")

    async def body() -> None:
        await write_one(scene, path)
        publish(ttl, RuleTable(60), started=False)
        arrived, go_on = scene.backend.event(), scene.backend.event()
        scene.service.hold("context_features", arrived, go_on)
        client = scene.client(snapshot=path, startup="continue")
        starting = scene.backend.beside(client.set_as_main)
        await arrived.wait()
        assert client.status.snapshot is not None
        assert client.status.snapshot.is_loaded
        assert source_of(client) is DataSource.DEFAULTS
        assert ttl.get(user="jim") == 60
        await scene.settled()
        scene.clock.advance(31)  # longer than a start may take
        await scene.backend.until(lambda: starting.ended, "the start returns")
        assert starting.error is None
        assert source_of(client) is DataSource.SNAPSHOT
        assert ttl.get(environment="dev", user="jim") == 10
        await client.close()

    scene.run(body)


@pytest.mark.parametrize("harness", [AsyncioHarness, TrioHarness])
def test_a_client_in_a_task_group_reports_that_it_is_ready_without_the_service(
    harness: type[Harness], path: Path
) -> None:
    scene = Scene(harness())
    ttl = ttl_setting()
    scene.service.add_rule("cache_ttl", 10, user="jim")

    async def body() -> None:
        await write_one(scene, path)
        publish(ttl, RuleTable(60), started=False)
        scene.service.fault = unreachable()
        client = scene.client(snapshot=path, startup="continue").client
        assert isinstance(client, AsyncHeksherClient)
        async with anyio.create_task_group() as group:
            await group.start(client.run)
            assert client.status.source is DataSource.SNAPSHOT
            assert ttl.get(environment="dev", user="jim") == 10
            await client.aclose()

    scene.run(body)


def test_a_section_that_equals_the_snapshots_is_not_read_again(scene: Scene, path: Path) -> None:
    calls: list[int] = []

    def counted() -> Setting[int]:
        setting = ttl_setting()

        @setting.add_validator
        def count(value: int, rule: QueriedRule | None, of: Setting[int]) -> int:
            calls.append(value)
            return 2 * value

        return setting

    async def body() -> None:
        first = counted()
        scene.service.add_rule("cache_ttl", 10, user="jim")
        await write_one(scene, path)
        assert contents(path)["settings"]["cache_ttl"]["rules"][0]["value"] == 10
        scene.service.fault = unreachable()
        async with scene.client(snapshot=path, startup="continue") as client:
            assert first.get(environment="dev", user="jim") == 20, "validated once, as ever"
            calls.clear()
            scene.service.fault = None
            await client.reload()
            assert source_of(client) is DataSource.SERVICE
            assert not calls

    scene.run(body)


def test_a_setting_that_is_defined_during_an_outage_has_its_last_rules(
    scene: Scene, path: Path
) -> None:
    async def body() -> None:
        settings = [ttl_setting()]
        scene.service.add_rule("cache_ttl", 10, user="jim")
        await write_one(scene, path)
        settings.clear()
        scene.service.fault = unreachable()
        async with scene.client(snapshot=path, startup="continue"):
            late = ttl_setting()
            await scene.backend.until(
                lambda: late.get(environment="dev", user="jim") == 10, "it is found"
            )

    scene.run(body)


def test_the_file_is_not_used_once_the_service_has_answered(scene: Scene, path: Path) -> None:
    ttl = ttl_setting()
    scene.service.add_rule("cache_ttl", 10, user="jim")

    async def body() -> None:
        async with scene.client(snapshot=path) as client:
            await scene.settled()
            stale: dict[str, Any] = {"default_value": 60, "rules": []}
            _rewrite(settings={"cache_ttl": stale, "late": stale})(path)
            scene.service.fault = unreachable()
            late = Setting("late", int, ["environment", "user"], 5)
            await scene.backend.until(lambda: client.status.failures, "an update was tried")
            assert ttl.get(environment="dev", user="jim") == 10
            assert late.get(environment="dev", user="jim") == 5

    scene.run(body)


def test_a_setting_is_found_by_its_own_name_and_by_its_alias(scene: Scene, path: Path) -> None:
    async def body() -> None:
        settings = [ttl_setting()]
        scene.service.add_rule("cache_ttl", 10, user="jim")
        async with scene.client(snapshot=path) as client:
            scene.service.rename("cache_ttl", "renamed")
            scene.service.add_rule("renamed", 20, user="joe")
            await client.reload()
        assert set(contents(path)["settings"]) == {"cache_ttl"}
        settings.clear()  # first: the service would take both for one setting
        settings.append(Setting("ttl", int, ["environment", "user"], 60, alias="cache_ttl"))
        scene.service.fault = unreachable()
        async with scene.client(snapshot=path, startup="continue"):
            assert settings[0].get(environment="dev", user="jim") == 10
            assert settings[0].get(environment="dev", user="joe") == 20

    scene.run(body)


# --- refused --------------------------------------------------------------------------------------


def _damage(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _newer(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"snapshot 1 ", b"snapshot 2 ", 1))


def _let_others_write(path: Path) -> None:
    path.chmod(0o602)


def _grow(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b" " * 5000)


def _rewrite(**changes: Any) -> Callable[[Path], None]:
    def rewrite(path: Path) -> None:
        data = json.dumps({**contents(path), **changes}).encode()
        path.write_bytes(b"heksher snapshot 1 %s\n%s" % (snapshot.checksum(data), data))

    return rewrite


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_damage, "it is damaged: its checksum does not match"),
        (_cut, "it is damaged: its checksum does not match"),
        (_empty, "it is not a heksher snapshot"),
        (_newer, "its format is 2; this version of heksher reads 1"),
        (_let_others_write, "users other than its owner and this process's groups can write to it"),
        (_grow, "it is larger than max_response_bytes=5000"),
        (
            _rewrite(service="http://other.test/"),
            "it is from another service: http://other.test/ instead of http://service.test/",
        ),
        (
            _rewrite(context_features=["user", "\x1b[2J"]),
            "it was written with other context features: user and \ufffd[2J "
            "instead of environment, theme and user",
        ),
        (
            _rewrite(tracking={"user": ["jim"]}),
            "it lacks rules: fewer contexts were tracked when it was written",
        ),
        (_rewrite(settings=[]), "it is damaged: Expected `object`, got `array` - at `$.settings`"),
    ],
)
def test_an_unusable_file_is_refused_with_a_reason_and_replaced(
    scene: Scene,
    path: Path,
    change: Callable[[Path], None],
    reason: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    ttl = ttl_setting()

    async def body() -> None:
        await write_one(scene, path)
        change(path)
        with caplog.at_level(logging.WARNING, "heksher._client.snapshot"):
            scene.service.fault = unreachable()
            options: dict[str, Any] = {"snapshot": path, "max_response_bytes": 5000}
            async with scene.client(**options, startup="continue") as client:
                status = client.status
                assert status.source is DataSource.DEFAULTS
                assert status.snapshot is not None
                assert (status.snapshot.refused, status.snapshot.is_loaded) == (reason, False)
                assert f"snapshot not used: {reason}" in str(status)
                assert ttl.get(environment="dev", user="jim") == 60
                scene.service.fault = None
                await client.reload()
        assert messages(caplog) == [f"the snapshot {path} is not used: {reason}"]
        # It was replaced by a usable file.
        assert contents(path)["service"] == "http://service.test/"
        assert loaded(scene, path)

    scene.run(body)


def loaded(scene: Scene, path: Path) -> bool:
    """Whether the file can be used by a client of the scene."""
    file = snapshot.SnapshotFile(str(path), "http://service.test/", FEATURES, 10**6)
    return file.load(Tracking()) is not None


def _another_file(path: Path) -> None:
    path.write_text("[section]\nkey = value\n")


def _another_file_that_others_may_write_to(path: Path) -> None:
    _another_file(path)
    path.chmod(0o664)


def _another_users(path: Path) -> None:
    _another_file(path)
    if os.geteuid() == 0:
        os.chown(path, 1, -1)


def _link(path: Path) -> None:
    target = path.with_name("target")
    target.write_text("precious")
    path.symlink_to(target)


def _folder(path: Path) -> None:
    path.mkdir()


def _pipe(path: Path) -> None:
    os.mkfifo(path)


def _socket(path: Path) -> None:
    os.mknod(path, stat.S_IFSOCK | 0o600)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (_another_file, "it is not a heksher snapshot"),
        (_another_file_that_others_may_write_to, "it is not a heksher snapshot"),
        (_another_users, "it is not a heksher snapshot"),
        (_link, "it is a symbolic link"),
        (_folder, "it is not a regular file"),
        (_pipe, "it is not a regular file"),
        (_socket, "No such device or address"),
    ],
)
def test_anything_but_a_snapshot_is_neither_read_nor_replaced(
    scene: Scene, path: Path, make: Callable[[Path], None], reason: str
) -> None:
    ttl = ttl_setting()
    scene.service.add_rule("cache_ttl", 10, user="jim")

    async def body() -> None:
        make(path)
        before = os.lstat(path)
        async with scene.client(snapshot=path) as client:
            assert ttl.get(environment="dev", user="jim") == 10
        status = client.status.snapshot
        assert status is not None
        assert (status.refused, status.error) == (reason, reason)
        assert f"snapshot not written: {reason}" in str(client.status)
        assert os.path.samestat(before, os.lstat(path))
        if make is _link:
            assert os.path.basename(os.readlink(path)) == "target"
        assert os.listdir(path.parent).count("rules.snapshot.new") == 0

    scene.run(body)


def test_a_file_that_cannot_be_opened_is_not_replaced(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path.write_text("precious")
    open_ = os.open

    def refuse(name: str, flags: int, mode: int = 0o777) -> int:
        if name == str(path):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return open_(name, flags, mode)

    monkeypatch.setattr(os, "open", refuse)
    file = snapshot.SnapshotFile(str(path), "http://service.test/", FEATURES, 10**6)
    assert file.load(Tracking()) is None
    assert file.save(snapshot.SnapshotData({}, FEATURES, Tracking()))
    assert (file.status.refused, file.status.error) == ("Permission denied", "Permission denied")
    assert os.listdir(path.parent) == [path.name]
    assert path.stat().st_size == len("precious")


def test_a_file_of_another_user_is_refused(
    scene: Scene, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ttl = ttl_setting()

    async def body() -> None:
        await write_one(scene, path)
        monkeypatch.setattr(os, "geteuid", lambda: 4711)
        if os.stat(path).st_uid == 0:
            os.chown(path, 1, -1)  # root's files are accepted
        scene.service.fault = unreachable()
        async with scene.client(snapshot=path, startup="continue") as client:
            assert client.status.snapshot is not None
            assert client.status.snapshot.refused == "it belongs to another user"
            assert ttl.get(environment="dev", user="jim") == 60

    scene.run(body)


@dataclass
class Process:
    """Who this process is, as far as the module knows. The values of a file are real."""

    user: int
    groups: Sequence[int]

    def geteuid(self) -> int:
        return self.user

    def getegid(self) -> int:
        return self.groups[0]

    def getgroups(self) -> Sequence[int]:
        return self.groups[1:]


ME, MY_GROUP = os.geteuid(), os.getegid()
OTHER = 4711
ANOTHER_USERS = "it belongs to another user"
WRITABLE = "users other than its owner and this process's groups can write to it"


@pytest.mark.parametrize(
    ("mode", "process", "reason"),
    [
        (0o660, Process(ME, [MY_GROUP]), None),
        (0o660, Process(ME, [OTHER, OTHER + 1, MY_GROUP]), None),
        (0o660, Process(ME, [OTHER, OTHER + 1]), WRITABLE),
        (0o640, Process(ME, [OTHER]), None),
        (0o662, Process(ME, [MY_GROUP]), WRITABLE),
        (0o777, Process(ME, [MY_GROUP]), WRITABLE),
        # A user of its own for each process, as OpenShift has them.
        (0o660, Process(OTHER, [0, MY_GROUP]), None),
        (0o660, Process(OTHER, [OTHER]), ANOTHER_USERS),
        (0o640, Process(OTHER, [MY_GROUP]), ANOTHER_USERS),
        (0o662, Process(OTHER, [MY_GROUP]), WRITABLE),
    ],
)
def test_a_file_may_be_shared_with_the_groups_of_the_process(
    path: Path, monkeypatch: pytest.MonkeyPatch, mode: int, process: Process, reason: str | None
) -> None:
    file = snapshot.SnapshotFile(str(path), "http://service.test/", FEATURES, 10**6)
    file.save(snapshot.SnapshotData({}, FEATURES, Tracking()))
    assert file.status.error is None
    if ME == 0 and process.user != ME:
        os.chown(path, 1, -1)  # root's files are accepted
    path.chmod(mode)
    for name in ("geteuid", "getegid", "getgroups"):
        monkeypatch.setattr(os, name, getattr(process, name))
    assert (file.load(Tracking()) is None) is (reason is not None)
    assert file.status.refused == reason
    # It is replaced by a file that is the owner's alone.
    file.save(snapshot.SnapshotData({}, [*FEATURES, "more"], Tracking()))
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600


# --- written --------------------------------------------------------------------------------------


def test_the_file_is_written_only_when_rules_change(scene: Scene, path: Path) -> None:
    settings = [ttl_setting()]

    async def body() -> None:
        async with scene.client(snapshot=path) as client:
            await scene.settled()
            first = state_of(path)
            await scene.pass_time(INTERVAL)
            assert state_of(path) == first
            # Both the tracked contexts and the rules change.
            client.track_contexts(user=TRACK_ALL, environment=TRACK_ALL, theme=TRACK_ALL)
            scene.service.add_rule("cache_ttl", 10, user="jim")
            await scene.pass_time(INTERVAL)
            second = state_of(path)
            assert second != first
        # Another process gets the same sections from the service.
        client = scene.client(snapshot=path)
        client.track_contexts(user=TRACK_ALL, environment=TRACK_ALL, theme=TRACK_ALL)
        async with client:
            pass
        assert state_of(path) == second
        assert client.status.snapshot is not None
        assert client.status.snapshot.written == contents(path)["written"]

    scene.run(body)
    assert settings


@pytest.mark.parametrize("umask", [0, 0o777])
def test_only_the_owner_can_read_the_file_whatever_the_umask(
    scene: Scene, path: Path, umask: int
) -> None:
    settings = [ttl_setting()]

    async def body() -> None:
        before = os.umask(umask)
        try:
            await write_one(scene, path)
        finally:
            os.umask(before)
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
        assert os.listdir(path.parent) == [path.name]

    scene.run(body)
    assert settings


def test_a_path_that_is_not_utf_8_can_be_shown(
    scene: Scene, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / os.fsdecode(b"rules\xff.snapshot")
    settings = [ttl_setting()]

    async def body() -> None:
        path.write_text("not a snapshot")
        async with scene.client(snapshot=path) as client:
            status = client.status
        assert status.snapshot is not None and status.snapshot.refused is not None
        assert status.snapshot.path == f"{tmp_path}/rules\\udcff.snapshot"
        for text in (
            *messages(caplog),
            str(status),
            json.dumps(status.as_dict(), ensure_ascii=False),
        ):
            assert text.encode()

    scene.run(body)
    assert messages(caplog) and settings


def many_settings(number: int) -> list[Setting[int]]:
    """Make settings whose rules need several requests."""
    return [Setting(f"{'s' * 2000}{n}", int, ["environment", "user"], n) for n in range(number)]


def test_unchanged_sections_are_copied_from_the_file(scene: Scene, path: Path) -> None:
    settings = many_settings(5)
    first, last = settings[0].name, settings[-1].name

    async def body() -> None:
        for setting in settings:
            scene.service.add_rule(setting.name, 1, user="jim")
        async with scene.client(snapshot=path) as client:
            polls = scene.polls
            assert polls == 2
            scene.service.add_rule(first, 2, user="joe")
            await client.reload()
            await scene.settled()
            saved = contents(path)["settings"]
            assert len(saved) == 5
            assert [len(saved[name]["rules"]) for name in (first, last)] == [2, 1]

    scene.run(body)


@pytest.mark.parametrize("how", ["removed", "replaced"])
def test_a_lost_file_is_complete_again_after_two_updates(
    scene: Scene, path: Path, how: str
) -> None:
    settings = many_settings(5)
    names = {setting.name for setting in settings}

    async def body() -> None:
        async with scene.client(snapshot=path) as client:
            await scene.settled()
            if how == "removed":
                os.unlink(path)
            else:
                _rewrite(settings={})(path)
            scene.service.add_rule(settings[0].name, 2, user="joe")
            await client.reload()
            await scene.settled()
            assert len(contents(path)["settings"]) < 5
            await scene.pass_time(INTERVAL)
            assert set(contents(path)["settings"]) == names
            # From then on unchanged parts are not fetched again.
            await scene.pass_time(INTERVAL)
            received = client.status.bytes_received
            await scene.pass_time(INTERVAL)
            assert client.status.bytes_received - received < 100

    scene.run(body)


def test_clients_of_other_settings_share_a_file(scene: Scene, path: Path) -> None:
    async def body() -> None:
        settings = [ttl_setting()]
        scene.service.add_rule("cache_ttl", 10, user="jim")
        await write_one(scene, path)
        settings[:] = [Setting("page_size", int, ["environment", "user"], 20)]
        scene.service.add_rule("page_size", 50, user="jim")
        await write_one(scene, path)
        settings.append(ttl_setting())
        scene.service.fault = unreachable()
        async with scene.client(snapshot=path, startup="continue"):
            found = [setting.get(environment="dev", user="jim") for setting in settings]
            assert found == [50, 10]

    scene.run(body)


def test_an_unusable_section_does_not_replace_the_last_one(scene: Scene, path: Path) -> None:
    ttl = ttl_setting()
    scene.service.add_rule("cache_ttl", 10, user="jim")

    async def body() -> None:
        async with scene.client(snapshot=path) as client:
            await scene.settled()
            before = contents(path)["settings"]
            section = Response(200, {}, b'{"settings": {"cache_ttl": {"rules": 5}}}')
            scene.service.faults = [None, section]
            await client.reload()
            assert len(client.status.rejected_rules) == 1
            await scene.settled()
            assert contents(path)["settings"] == before
        assert ttl.get(environment="dev", user="jim") == 10

    scene.run(body)


def test_no_credential_reaches_the_file_or_the_status(scene: Scene, path: Path) -> None:
    settings = [ttl_setting()]

    async def body() -> None:
        client = scene.backend.client(
            "http://name:canary-1@service.test",
            INTERVAL,
            FEATURES,
            backend=scene.library_backend(),
            http_client_args={"headers": {"token": "canary-2"}, "auth": ("name", "canary-3")},
            snapshot=path,
        )
        async with client:
            scene.service.fault = Response(401, {}, b"who are you?")
            with pytest.raises(Exception, match="401"):
                await client.reload()
            shown = f"{client.status} {json.dumps(client.status.as_dict())} {client.status!r}"
        assert "401" in shown
        assert "canary" not in shown
        assert "canary" not in json.dumps(contents(path))

    scene.run(body)
    assert settings


# --- not written ----------------------------------------------------------------------------------


def test_a_write_that_fails_is_retried(
    scene: Scene, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ttl = ttl_setting()
    missing = path.parent / "missing" / "rules"

    async def body() -> None:
        with caplog.at_level(logging.INFO, "heksher._client.snapshot"):
            async with scene.client(snapshot=missing) as client:
                for value in (10, 20, 30):
                    scene.service.add_rule("cache_ttl", value, user="jim")
                    await client.reload()
                    await scene.settled()
                    assert ttl.get(environment="dev", user="jim") == value
                assert client.status.failures == 0
                assert client.status.snapshot is not None
                assert client.status.snapshot.error == "No such file or directory"
                received = client.status.bytes_received
                for _ in range(10):
                    await scene.pass_time(INTERVAL)
                assert client.status.bytes_received - received < 1000, "unchanged answers"

                os.mkdir(missing.parent)
                polls = 0
                while not is_there(missing):
                    polls += 1
                    assert polls < 70
                    await scene.pass_time(INTERVAL)
                assert client.status.snapshot.error is None
                assert len(contents(missing)["settings"]["cache_ttl"]["rules"]) == 3
        assert messages(caplog) == [
            f"the snapshot {missing} cannot be written: No such file or directory",
            f"the snapshot {missing} is written again",
        ]

    scene.run(body)


def test_a_file_that_would_be_too_large_is_not_written(scene: Scene, path: Path) -> None:
    ttl = ttl_setting()
    for number in range(100):
        scene.service.add_rule("cache_ttl", number, user=f"user{number}")

    async def body() -> None:
        async with scene.client(snapshot=path, max_response_bytes=1000) as client:
            pass
        assert client.status.snapshot is not None
        assert "more than max_response_bytes=1000" in str(client.status.snapshot.error)
        assert os.listdir(path.parent) == []
        assert ttl.get(environment="dev", user="user5") == 5

    scene.run(body)


def leave(half: Path, age: int) -> None:
    half.write_bytes(b"heksher sna")
    moment = half.stat().st_mtime - age
    os.utime(half, (moment, moment))


@pytest.mark.parametrize("age", [0, 3600, -3600])
def test_a_file_that_was_abandoned_half_written_is_removed(
    scene: Scene, path: Path, age: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = [ttl_setting()]
    monkeypatch.setattr(snapshot, "_PATIENCE", 0.02)
    half = path.with_name(f"{path.name}.new")

    async def body() -> None:
        leave(half, age)
        async with scene.client(snapshot=path) as client:
            pass
        assert client.status.snapshot is not None
        if age:
            assert os.listdir(path.parent) == [path.name]
            assert client.status.snapshot.error is None
        else:
            assert os.listdir(path.parent) == [half.name]
            assert client.status.snapshot.error == "another process is writing it"

    scene.run(body)
    assert settings


def test_a_half_written_file_that_always_comes_back_is_given_up(
    scene: Scene, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = [ttl_setting()]
    monkeypatch.setattr(snapshot, "_PATIENCE", 0.02)
    half = path.with_name(f"{path.name}.new")
    unlink, tries = os.unlink, list[object]()

    def unlink_in_vain(name: Any) -> None:
        unlink(name)
        tries.append(name)
        assert len(tries) < 100
        leave(half, 3600)

    async def body() -> None:
        leave(half, 3600)
        monkeypatch.setattr(os, "unlink", unlink_in_vain)
        async with scene.client(snapshot=path) as client:
            pass
        assert client.status.snapshot is not None
        assert client.status.snapshot.error == "another process is writing it"

    scene.run(body)
    assert settings


def test_only_closing_waits_for_a_disk_that_hangs_and_not_for_long(
    scene: Scene, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ttl = ttl_setting()
    begun, go_on, saved = (threading.Event() for _ in range(3))
    save = snapshot.SnapshotFile.save

    def hang(self: snapshot.SnapshotFile, data: snapshot.SnapshotData) -> bool:
        begun.set()
        assert go_on.wait(PATIENCE)
        try:
            return save(self, data)
        finally:
            saved.set()

    monkeypatch.setattr(snapshot.SnapshotFile, "save", hang)
    monkeypatch.setattr(core, "_SAVE_TIMEOUT", 0.01)
    monkeypatch.setattr(core, "_CLOSE_TIMEOUT", 0.01)

    async def body() -> None:
        scene.service.add_rule("cache_ttl", 10, user="jim")
        client = scene.client(snapshot=path)
        await client.set_as_main()
        await scene.backend.until(begun.is_set, "the file is written")
        assert ttl.get(environment="dev", user="jim") == 10
        await client.close()
        assert not is_there(path)
        go_on.set()
        await scene.backend.until(saved.is_set, "it ends by itself")
        assert is_there(path)

    scene.run(body)
