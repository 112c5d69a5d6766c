"""Stubs in a process with a running client: what updates a setting during a stub and after it."""

from __future__ import annotations

import gc
import weakref
from dataclasses import replace

import pytest
from support.harness import Harness
from support.scenes import Scene
from support.scripted import unreachable

from heksher import Setting, _registry, testing
from heksher.clients.stub import AsyncStubHeksherClient, Rule, SyncStubHeksherClient
from heksher.exceptions import MissingFeatureError, ServiceError

JIM = {"environment": "dev", "user": "jim"}


@pytest.fixture
def scene(backend: Harness) -> Scene:
    return Scene(backend)


@pytest.fixture
def ttl() -> Setting[int]:
    return Setting("cache_ttl", int, ["environment", "user"], 60)


def test_the_main_client_gets_place_and_settings_back_and_refreshes_them_at_once(
    scene: Scene, ttl: Setting[int]
) -> None:
    async def body() -> None:
        async with scene.client() as client:
            place = _registry.main()
            scene.service.add_rule("cache_ttl", 10, user="jim")
            await client.reload()
            assert ttl.get(**JIM) == 10
            with SyncStubHeksherClient() as stub:
                stub[ttl].rules = 5
                scene.service.add_rule("cache_ttl", 11, environment="dev", user="jim")
                await client.reload()
                assert ttl.get(**JIM) == 5
                made = Setting("made", int, ["user"], 1)
            assert _registry.main() is place
            assert ttl.get(**JIM) == 10
            await scene.backend.until(lambda: ttl.get(**JIM) == 11, "the newer rule arrives")
            scene.service.add_rule("made", 2, user="jim")
            await client.reload()
            assert made.get(user="jim") == 2

    scene.run(body)


def test_rules_outlast_updates_though_the_stub_is_not_the_main_client(
    scene: Scene, ttl: Setting[int]
) -> None:
    other = Setting("other", int, ["user"], 1)

    async def body() -> None:
        async with scene.client() as client:
            stub = SyncStubHeksherClient()
            with stub.patch(ttl, [Rule({"user": "jim"}, 5)]):
                scene.service.add_rule("cache_ttl", 10, user="jim")
                scene.service.add_rule("other", 20, user="jim")
                await client.reload()
                client.set_defaults(environment="dev")
                assert ttl.get(**JIM) == 5
                assert other.get(user="jim") == 20
            assert ttl.get(user="jim") == 10, "it was read while the stub's rules counted"

    scene.run(body)


def test_rules_outlast_updates_of_a_client_that_has_the_setting_as_its_own(
    scene: Scene, ttl: Setting[int]
) -> None:
    mine = Setting("mine", int, ["user"], 1)

    async def body() -> None:
        async with scene.client() as client:
            client.add_settings([ttl])
            await client.reload()
            with SyncStubHeksherClient() as stub:
                stub[ttl].rules = 5
                stub[mine].rules = 6
                client.add_settings([mine])
                scene.service.add_rule("cache_ttl", 10, user="jim")
                await client.reload()
                client.set_defaults(environment="dev")
                assert ttl.get(**JIM) == 5
                assert mine.get(user="jim") == 6
            await client.reload()
            assert ttl.get(**JIM) == 10
            scene.service.add_rule("mine", 11, user="jim")
            await client.reload()
            assert mine.get(user="jim") == 11
            # It still belongs to the client: another main client does not take it over.
            with SyncStubHeksherClient():
                scene.service.add_rule("mine", 12, user="jim")
                await client.reload()
                assert mine.get(user="jim") == 12

    scene.run(body)


def test_a_client_that_starts_on_top_of_a_stub_serves_what_has_no_rules(
    scene: Scene, ttl: Setting[int]
) -> None:
    other = Setting("other", int, ["user"], 1)

    async def body() -> None:
        stub = SyncStubHeksherClient()
        stub.set_as_main()
        stub[ttl].rules = 5
        async with scene.client() as client:
            place = _registry.main()
            scene.service.add_rule("other", 20, user="jim")
            await client.reload()
            assert (ttl.get(**JIM), other.get(user="jim")) == (5, 20)
            stub.close()
            assert _registry.main() is place
            await client.reload()
            scene.service.add_rule("cache_ttl", 10, user="jim")
            await client.reload()
            assert ttl.get(**JIM) == 10

    scene.run(body)
    assert _registry.main() is None


def test_a_main_client_that_was_closed_meanwhile_does_not_come_back(
    scene: Scene, ttl: Setting[int]
) -> None:
    async def body() -> None:
        client = scene.client()
        await client.set_as_main()
        with SyncStubHeksherClient() as outer, SyncStubHeksherClient() as inner:
            outer[ttl].rules = 5
            inner[ttl].rules = 6
            await client.close()
            assert ttl.get(**JIM) == 6
        assert _registry.main() is None
        assert ttl.get(**JIM) == 60

    scene.run(body)


def test_a_stub_keeps_no_setting_alive() -> None:
    stub = SyncStubHeksherClient()
    setting = Setting("cache_ttl", int, ["user"], 60)
    watch = weakref.ref(setting)
    with stub:
        stub[setting].rules = 5
        stub.set_defaults(user="jim")
        del setting
        gc.collect()
        assert watch() is None


def test_a_stub_that_nobody_holds_any_more_keeps_nothing() -> None:
    stub = SyncStubHeksherClient()
    setting = Setting("cache_ttl", int, ["user"], 60)
    with stub:
        stub[setting].rules = 5
    watch = weakref.ref(stub)
    del stub
    gc.collect()
    assert watch() is None


def test_the_status_of_a_stub_is_that_of_a_fresh_client(scene: Scene) -> None:
    """Except for what depends on the service's answers."""
    stubs = [SyncStubHeksherClient(), AsyncStubHeksherClient()]

    async def body() -> None:
        async with scene.client() as client:
            started = client.status
        for stub in stubs:
            assert stub.status.last_success is not None
            assert stub.status == replace(
                started, last_success=stub.status.last_success, bytes_received=0
            )
            assert stub.status.as_dict().keys() == started.as_dict().keys()

    scene.run(body)


# --- strict stubs ---------------------------------------------------------------------------------


def test_a_strict_stub_hides_what_a_running_client_serves(scene: Scene, ttl: Setting[int]) -> None:
    own = Setting("own", int, ["user"], 1)

    async def body() -> None:
        async with scene.client() as client:
            client.set_defaults(environment="dev")
            client.add_settings([own])
            scene.service.add_rule("cache_ttl", 10, user="jim")
            scene.service.add_rule("own", 20, user="jim")
            scene.service.settings["cache_ttl"]["default_value"] = 30
            await client.reload()
            assert ttl.get(user="eve") == 30
            with SyncStubHeksherClient(strict=True) as stub:
                assert (ttl.get(**JIM), own.get(user="jim")) == (60, 1)
                with pytest.raises(MissingFeatureError, match="'environment'"):
                    ttl.get(user="jim")
                made = Setting("made", int, ["user"], 1)
                scene.service.add_rule("cache_ttl", 11, environment="dev", user="jim")
                scene.service.add_rule("own", 21, user="jim")
                await client.reload()
                assert (ttl.get(**JIM), own.get(user="jim")) == (60, 1)
                stub[ttl].rules = [Rule({"user": "jim"}, 5)]
                assert ttl.get(environment="dev", user="eve") == 60
            assert ttl.get(user="jim") == 10
            await client.reload()
            assert (ttl.get(user="jim"), own.get(user="jim")) == (11, 21)
            scene.service.add_rule("made", 2, user="jim")
            await client.reload()
            assert made.get(user="jim") == 2

    scene.run(body)


def test_a_client_that_starts_on_top_of_a_strict_stub_serves_what_has_no_rules(
    scene: Scene, ttl: Setting[int]
) -> None:
    other = Setting("other", int, ["user"], 1)

    async def body() -> None:
        with SyncStubHeksherClient(strict=True) as stub:
            stub[ttl].rules = 5
            scene.service.add_rule("other", 20, user="jim")
            async with scene.client() as client:
                await client.reload()
                assert (ttl.get(**JIM), other.get(user="jim")) == (5, 20)
                made = Setting("made", int, ["user"], 1)
                scene.service.add_rule("made", 2, user="jim")
                await client.reload()
                assert made.get(user="jim") == 2
            assert (ttl.get(**JIM), other.get(user="jim")) == (5, 20)
        assert (ttl.get(**JIM), other.get(user="jim")) == (60, 20)

    scene.run(body)


def test_a_start_that_fails_leaves_a_strict_stub_in_its_place(
    scene: Scene, ttl: Setting[int]
) -> None:
    async def body() -> None:
        with SyncStubHeksherClient(strict=True) as stub:
            place = _registry.main()
            client = scene.client(startup="raise")
            scene.service.fault = unreachable()
            with pytest.raises(ServiceError):
                await client.set_as_main()
            assert _registry.main() is place
            with pytest.raises(MissingFeatureError):
                ttl.get()
            stub.set_defaults(environment="dev")
            assert ttl.get(user="jim") == 60
            await client.close()
        assert ttl.get() == 60

    scene.run(body)


# --- heksher.testing.reset ------------------------------------------------------------------------


def test_reset_ends_stubs_and_forgets_settings_and_the_main_client(
    scene: Scene, ttl: Setting[int]
) -> None:
    async def body() -> None:
        async with scene.client() as client:
            scene.service.add_rule("cache_ttl", 10, user="jim")
            await client.reload()
            outer, inner = SyncStubHeksherClient(), SyncStubHeksherClient()
            outer.set_as_main()
            outer[ttl].rules = 5
            inner.set_as_main()
            patch = inner.patch(ttl, 6)
            testing.reset()
            assert _registry.main() is None
            # It keeps the rules of its client, but nothing updates them any more.
            assert ttl.get(**JIM) == 10
            inner.close.assert_not_called()
            patch.__exit__(None, None, None)
            outer.close()
            inner.close()
            assert _registry.main() is None
            scene.service.add_rule("cache_ttl", 11, environment="dev", user="jim")
            await client.reload()
            assert ttl.get(**JIM) == 10
            # Its name is free again, and it can be stubbed.
            again = Setting("cache_ttl", str, ["theme"], "")
            with SyncStubHeksherClient() as stub:
                stub[ttl].rules = 7
                stub[again].rules = "x"
                assert (ttl.get(**JIM), again.get(theme="dark")) == (7, "x")
            assert (ttl.get(**JIM), again.get()) == (10, "")

    scene.run(body)


def test_reset_leaves_a_clients_own_settings_to_it(scene: Scene, ttl: Setting[int]) -> None:
    async def body() -> None:
        async with scene.client() as client:
            client.add_settings([ttl])
            await client.reload()
            stub = SyncStubHeksherClient()
            stub[ttl].rules = 5
            testing.reset()
            scene.service.add_rule("cache_ttl", 10, user="jim")
            await client.reload()
            assert ttl.get(**JIM) == 10

    scene.run(body)


def test_reset_of_a_fresh_process_does_nothing() -> None:
    testing.reset()
    testing.reset()
    assert _registry.main() is None
