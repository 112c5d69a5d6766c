"""A snapshot, a real service, and processes that are killed while they write."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import snapshot_program
from harness import AnyClient, Harness
from snapshot_program import FEATURES, SERVICE, snapshot_file

from heksher import Setting
from heksher.context import Tracking
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
    """Return the default values that the file says, which must be whole."""
    file = snapshot_file(str(path), url)
    told = file.load(Tracking())
    assert told is not None, file.status
    return {
        name: json.loads(bytes(section))["default_value"] for name, section in told.sections.items()
    }


def test_processes_that_write_at_the_same_time_lose_nothing_of_one_another(path: Path) -> None:
    processes = [start(path, name, 20) for name in ("a", "b", "c")]
    for process in processes:
        process.communicate()
        assert process.returncode == 0
    assert numbers(path) == {"a": 20, "b": 20, "c": 20}
    assert os.listdir(path.parent) == [path.name]


def test_a_process_that_is_killed_while_it_writes_leaves_a_whole_file(path: Path) -> None:
    for lines in range(1, 7):
        with start(path, "a", 10**6) as process:
            assert process.stdout is not None
            said = [int(process.stdout.readline()) for _ in range(lines)]
            process.kill()
            said += [int(line) for line in process.stdout.read().splitlines()]
        assert numbers(path)["a"] in (said[-1], said[-1] + 1)
        left = set(os.listdir(path.parent)) - {path.name}
        assert left <= {"rules.new"}
        for name in left:  # as a minute later
            os.utime(path.with_name(name), (0, 0))


def test_a_real_service_that_is_away_at_the_start(backend: Harness, path: Path) -> None:
    service = LiveService(FEATURES, in_process=True, proxy=False)
    ttl = Setting("ttl", int, ["user"], 60)

    def client(**options: Any) -> AnyClient:
        return backend.client(service.url, 0.05, FEATURES, snapshot=path, **options)

    async def body() -> None:
        service.declare(ttl)
        service.add_rule("ttl", 1, user="jim")
        async with client():
            pass
        ttl.published = Setting("ttl", int, ["user"], 60).published
        service.stop()
        async with client(startup="continue") as second:
            assert (ttl.get(user="jim"), second.status.source) == (1, DataSource.SNAPSHOT)
            service.start()  # and it has forgotten everything
            await backend.until(lambda: second.status.source is DataSource.SERVICE, "it is back")
            service.add_rule("ttl", 2, user="jim")
            await second.reload()
            assert ttl.get(user="jim") == 2

    with service:
        backend.run(body)
        assert numbers(path, service.url) == {"ttl": 60}
