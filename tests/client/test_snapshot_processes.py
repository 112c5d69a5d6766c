"""Snapshots with a real service, and with processes that are killed while they write."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from programs import snapshot_program
from programs.snapshot_program import FEATURES, SERVICE, snapshot_data, snapshot_file
from support.harness import AnyClient, Harness
from support.published import publish

from heksher import Setting
from heksher._rules.table import RuleTable
from heksher._rules.tracking import Tracking
from heksher.status import DataSource
from heksher.testing.service import LiveService

pytestmark = pytest.mark.integration


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "rules"


def start(path: Path, name: str, times: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-W", "error", snapshot_program.__file__, str(path), name, str(times)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        text=True,
    )


def numbers(path: Path, url: str = SERVICE) -> dict[str, int]:
    """Return the default values in the file, which must be complete."""
    file = snapshot_file(str(path), url)
    found = file.load(Tracking())
    assert found is not None, file.status
    return {
        name: json.loads(bytes(section))["default_value"]
        for name, section in found.sections.items()
    }


def test_processes_that_write_at_the_same_time_lose_nothing(path: Path) -> None:
    processes = [start(path, name, 20) for name in ("a", "b", "c")]
    for process in processes:
        process.communicate()
        assert process.returncode == 0
    assert numbers(path) == {"a": 20, "b": 20, "c": 20}
    assert os.listdir(path.parent) == [path.name]


def test_a_process_that_is_killed_while_it_writes_leaves_a_complete_file(path: Path) -> None:
    for lines in range(1, 7):
        with start(path, "a", 10**6) as process:
            assert process.stdout is not None
            said = [int(process.stdout.readline()) for _ in range(lines)]
            process.kill()
            said += [int(line) for line in process.stdout.read().splitlines()]
        assert numbers(path)["a"] in (said[-1], said[-1] + 1)
        left = set(os.listdir(path.parent)) - {path.name}
        assert left <= {"rules.new"}
        for name in left:  # as if a minute had passed
            os.utime(path.with_name(name), (0, 0))


def test_a_process_that_is_slow_does_not_publish_the_file_of_another_one(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    half = path.with_name("rules.new")
    fsync = os.fsync

    def be_slow(descriptor: int) -> None:
        fsync(descriptor)
        half.unlink()
        half.write_bytes(b"half of another process's")

    monkeypatch.setattr(os, "fsync", be_slow)
    file = snapshot_file(str(path))
    assert file.save(snapshot_data("a", 1)), "do not ask for everything at once"
    assert file.status.error is not None
    assert "another process took over writing" in file.status.error
    assert os.listdir(path.parent) == [half.name]
    assert half.read_bytes() == b"half of another process's"
    # Two updates pass, and the next one asks for everything.
    assert [file.needs_everything() for _ in range(3)] == [False, False, True]
    monkeypatch.undo()
    half.unlink()
    assert file.save(snapshot_data("a", 2))
    assert numbers(path) == {"a": 2}


def test_a_disk_that_fails_is_a_reason_to_refuse_the_file(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot_file(str(path)).save(snapshot_data("a", 1))

    def fail(descriptor: int) -> os.stat_result:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    file = snapshot_file(str(path))
    with monkeypatch.context() as patch:
        patch.setattr(os, "fstat", fail)
        assert file.load(Tracking()) is None
    assert file.status.refused == "Input/output error"


def test_a_real_service_that_is_unreachable_at_the_start(backend: Harness, path: Path) -> None:
    service = LiveService(FEATURES, in_process=True, proxy=False)
    ttl = Setting("ttl", int, ["user"], 60)

    def client(**options: Any) -> AnyClient:
        return backend.client(service.url, 0.05, FEATURES, snapshot=path, **options)

    async def body() -> None:
        service.declare(ttl)
        service.add_rule("ttl", 1, user="jim")
        async with client():
            pass
        publish(ttl, RuleTable(60), started=False)
        service.stop()
        async with client(startup="continue") as second:
            assert (ttl.get(user="jim"), second.status.source) == (1, DataSource.SNAPSHOT)
            service.start()  # with an empty database
            await backend.until(lambda: second.status.source is DataSource.SERVICE, "it is back")
            service.add_rule("ttl", 2, user="jim")
            await second.reload()
            assert ttl.get(user="jim") == 2

    with service:
        backend.run(body)
        assert numbers(path, service.url) == {"ttl": 60}
