"""The status during the life of a client, on every backend."""

from __future__ import annotations

import gc
import time

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
