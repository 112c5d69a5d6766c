"""Rules on disk, on every backend: written when they change, used as long as the service is away."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from harness import Harness
from scenes import Scene
from scripted import unreachable

from heksher import Setting
from heksher.exceptions import ServiceUnreachableError
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
    """Return what stands in the file behind its first line."""
    decoded: dict[str, Any] = json.loads(path.read_bytes().partition(b"\n")[2])
    return decoded


def is_there(path: Path) -> bool:
    return path.exists()


def state_of(path: Path) -> tuple[int, int]:
    """Return what tells one file from another that took its place."""
    found = path.stat()
    return found.st_ino, found.st_mtime_ns


async def write_one(scene: Scene, path: Path, **options: Any) -> None:
    """Have a client write the snapshot."""
    async with scene.client(snapshot=path, **options):
        pass
    assert is_there(path)


# --- used -----------------------------------------------------------------------------------------


def test_a_start_without_the_service_has_the_last_rules(scene: Scene, path: Path) -> None:
    ttl = ttl_setting()
    scene.service.add_rule("cache_ttl", 10, user="jim")

    async def body() -> None:
        async with scene.client(snapshot=path) as client:
            assert client.status.source is DataSource.SERVICE
            scene.service.add_rule("cache_ttl", 20, user="joe")
            await client.reload()
        written = contents(path)["written"]
        ttl.published = ttl_setting().published

        scene.service.fault = unreachable()
        client = scene.client(snapshot=str(path), startup="continue")
        assert client.status.source is DataSource.DEFAULTS
        async with client:
            assert ttl.get(environment="dev", user="jim") == 10
            assert ttl.get(environment="dev", user="joe") == 20
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
            assert client.status.source is DataSource.SERVICE
            assert ttl.get(environment="dev", user="jim") == 10
            assert ttl.get(environment="dev", user="joe") == 60, "that rule is gone"
            assert ttl.get(environment="dev", user="ann") == 11

    scene.run(body)


def test_a_start_that_raises_raises_with_a_snapshot_too(scene: Scene, path: Path) -> None:
    ttl = ttl_setting()
    scene.service.add_rule("cache_ttl", 10, user="jim")

    async def body() -> None:
        await write_one(scene, path)
        ttl.published = ttl_setting().published
        scene.service.fault = unreachable()
        client = scene.client(snapshot=path)
        with pytest.raises(ServiceUnreachableError):
            await client.set_as_main()
        assert client.status.source is DataSource.DEFAULTS
        assert ttl.get(user="jim") == 60

    scene.run(body)
