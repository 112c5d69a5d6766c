"""The example of the introduction and variations of it, with real HTTP to a real service process."""

from __future__ import annotations

from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import pytest
from support.harness import AnyClient, Harness
from support.leftovers import Leftovers

from heksher import TRACK_ALL, AsyncHeksherClient, Setting
from heksher.exceptions import HeksherError, ServiceUnreachableError, UnexpectedStatusError
from heksher.status import ClientState
from heksher.testing.service import LiveService

TOKEN = "the-token"
FEATURES = ["environment", "user", "theme"]
INTERVAL = 0.1


@pytest.fixture
def service(tmp_path: Path) -> Iterator[LiveService]:
    database = tmp_path / "settings.sqlite"
    with LiveService(FEATURES, database=database, api_token=TOKEN, proxy=False) as service:
        yield service


def make_client(
    backend: Harness, service: LiveService, interval: float = INTERVAL, **options: Any
) -> AnyClient:
    arguments = {"headers": {"api_token": TOKEN}}
    return backend.client(service.url, interval, FEATURES, http_client_args=arguments, **options)


def test_the_introduction(backend: Harness, service: LiveService) -> None:
    theme: ContextVar[str] = ContextVar("theme", default="bright")
    cache_ttl = Setting("cache_ttl", int, ["environment", "user"], 60)
    background_color = Setting("background_color", str, ["environment", "theme"], "white")

    async def body() -> None:
        service.get("/settings")  # so that the test's own connection is in the first count
        leftovers = Leftovers()
        client = make_client(backend, service)
        client.set_defaults(environment="dev", theme=theme)
        client.track_contexts(environment="dev", user=TRACK_ALL, theme=["bright", "dark", "blue"])
        await client.set_as_main()
        await client.ping()

        declared = await client.get_settings()
        assert set(declared) == {"cache_ttl", "background_color"}
        assert declared["cache_ttl"].type == "int"
        assert declared["cache_ttl"].default_value == 60
        assert declared["cache_ttl"].configurable_features == ["environment", "user"]
        assert declared["background_color"].configurable_features == ["environment", "theme"]

        assert cache_ttl.get(user="jim") == 60
        assert background_color.get() == "white"

        service.add_rule("cache_ttl", 5, user="jim")
        service.add_rule("cache_ttl", 30, environment="dev")
        service.add_rule("cache_ttl", 300, environment="prod")
        service.add_rule("background_color", "black", theme="dark")
        blue = service.add_rule("background_color", "navy", environment="dev", theme="blue")
        service.add_rule("background_color", "blue", theme="blue")
        service.add_rule("background_color", "red", theme="loud")
        await client.reload()
        assert cache_ttl.get(user="jim") == 5
        assert cache_ttl.get(user="joe") == 30
        assert cache_ttl.get(user="joe", environment="prod") == 60, "prod is not tracked"
        assert background_color.get() == "white"
        theme.set("dark")
        assert background_color.get() == "black"
        theme.set("blue")
        assert background_color.get() == "navy"
        theme.set("loud")
        assert background_color.get() == "white", "loud is not tracked"

        # Changes on the service arrive without a call.
        theme.set("blue")
        service.change_rule(blue, "sky")
        await backend.until(lambda: background_color.get() == "sky", "the change arrives")
        service.delete_rule(blue)
        await backend.until(lambda: background_color.get() == "blue", "the deletion arrives")
        late = Setting("late", bool, ["user"], False)
        assert late.get(user="jim") is False
        await backend.until(lambda: _has(service, "late"), "it is declared")

        await client.close()
        assert client.status.state is ClientState.CLOSED
        assert background_color.get() == "blue"
        await leftovers.gone(backend)

    backend.run(body)


def _has(service: LiveService, name: str) -> bool:
    return any(each["name"] == name for each in service.get("/settings")["settings"])


def test_the_introduction_as_a_context_manager(backend: Harness, service: LiveService) -> None:
    cache_ttl = Setting("cache_ttl", int, ["environment", "user"], 60)

    async def body() -> None:
        client = make_client(backend, service)
        client.set_defaults(environment="dev")
        async with client:
            service.add_rule("cache_ttl", 5, user="jim")
            await client.reload()
        assert cache_ttl.get(user="jim") == 5

    backend.run(body)


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
def test_the_introduction_in_a_task_group_of_the_callers(loop: str, service: LiveService) -> None:
    import anyio

    cache_ttl = Setting("cache_ttl", int, ["user"], 60)

    async def body() -> None:
        leftovers = Leftovers()
        client = AsyncHeksherClient(
            service.url,
            INTERVAL,
            FEATURES,
            http_client_args={"headers": {"api_token": TOKEN}},
        )
        async with anyio.create_task_group() as group:
            await group.start(client.run)
            assert client.status.state is ClientState.RUNNING
            service.add_rule("cache_ttl", 5, user="jim")
            await client.reload()
            assert cache_ttl.get(user="jim") == 5
            # An error of an update does not reach the caller's task group.
            service.kill()
            with pytest.raises(ServiceUnreachableError):
                await client.reload()
            await client.aclose()
        assert client.status.state is ClientState.CLOSED

        cancelled = AsyncHeksherClient(service.url, INTERVAL, FEATURES, startup="continue")
        async with anyio.create_task_group() as group:
            await group.start(cancelled.run)
            group.cancel_scope.cancel()
        assert cancelled.status.state is ClientState.CLOSED

        refused = AsyncHeksherClient(service.url, INTERVAL, FEATURES, startup="raise")
        with pytest.raises(ServiceUnreachableError):
            await refused.run()
        assert refused.status.state is ClientState.NEW
        assert not leftovers.found()

    anyio.run(body, backend=loop)


@pytest.mark.integration
def test_a_service_that_goes_away_costs_freshness_and_nothing_else(
    backend: Harness, service: LiveService
) -> None:
    cache_ttl = Setting("cache_ttl", int, ["user"], 60)

    async def body() -> None:
        async with make_client(backend, service) as client:
            rule = service.add_rule("cache_ttl", 5, user="jim")
            await client.reload()
            assert service.stop() == 0
            await backend.until(lambda: client.status.failures >= 2, "polls fail")
            assert cache_ttl.get(user="jim") == 5
            service.start()
            service.change_rule(rule, 6)
            await backend.until(lambda: cache_ttl.get(user="jim") == 6, "it recovers")
            assert client.status.failures == 0

    backend.run(body)


@pytest.mark.integration
def test_a_wrong_token_is_refused_and_named(backend: Harness, service: LiveService) -> None:
    async def body() -> None:
        client = backend.client(service.url, INTERVAL, FEATURES)
        with pytest.raises(UnexpectedStatusError, match="401") as caught:
            await client.set_as_main()
        assert caught.value.status == 401
        assert client.status.state is ClientState.NEW

    backend.run(body)


@pytest.mark.integration
def test_a_rename_and_a_deletion_by_an_operator_stop_no_updates(
    backend: Harness, service: LiveService
) -> None:
    cache_ttl = Setting("cache_ttl", int, ["user"], 60)
    kept = Setting("kept", float, ["user"], 1)

    async def body() -> None:
        async with make_client(backend, service, interval=60) as client:
            service.rename("cache_ttl", "cache_seconds", "1.0")
            service.add_rule("cache_seconds", 5, user="jim")
            await client.reload()
            assert cache_ttl.get(user="jim") == 5
            service.delete_setting("kept")
            service.add_rule("cache_seconds", 6, user="joe")
            await client.reload()
            assert cache_ttl.get(user="joe") == 6
            service.add_rule("kept", 2, user="jim")
            await client.reload()
            assert kept.get(user="jim") == 2
            assert type(kept.get(user="jim")) is float
        # The old version of the application starts again: it does not undo the declaration.
        async with make_client(backend, service, interval=60) as client:
            service.add_rule("cache_seconds", 7, user="ann")
            await client.reload()
            assert cache_ttl.get(user="ann") == 7
            names = {each["name"] for each in service.get("/settings")["settings"]}
            assert names == {"cache_seconds", "kept"}

    backend.run(body)


@pytest.mark.integration
def test_an_operator_reorders_the_features(backend: Harness, service: LiveService) -> None:
    color = Setting("color", str, ["user", "theme"], "white")

    async def body() -> None:
        async with make_client(backend, service, interval=60) as client:
            service.add_rule("color", "jims", user="jim")
            service.add_rule("color", "black", theme="dark")
            await client.reload()
            assert color.get(user="jim", theme="dark") == "black"
            service.move_feature("user", to_after="theme")
            await client.reload()
            assert color.get(user="jim", theme="dark") == "jims"

    backend.run(body)


@pytest.mark.integration
def test_a_feature_name_that_the_service_misreads_is_tracked_all_the_same(
    backend: Harness, service: LiveService
) -> None:
    color = Setting("color", str, ["user", "theme_2"], "white")

    async def body() -> None:
        service.add_feature("theme_2")
        client = backend.client(
            service.url,
            60,
            [*FEATURES, "theme_2"],
            http_client_args={"headers": {"api_token": TOKEN}},
        )
        client.track_contexts(theme_2=["dark"], user=TRACK_ALL)
        async with client:
            service.add_rule("color", "black", theme_2="dark")
            service.add_rule("color", "red", theme_2="loud")
            await client.reload()
            assert color.get(user="jim", theme_2="dark") == "black"
            assert color.get(user="jim", theme_2="loud") == "white"

    backend.run(body)


@pytest.mark.integration
def test_a_setting_that_needs_a_feature_the_service_lacks_is_refused_by_name(
    backend: Harness, service: LiveService
) -> None:
    setting = Setting("stranger", str, ["galaxy"], "milky")
    assert setting.get(galaxy="far") == "milky"

    async def body() -> None:
        with pytest.raises(HeksherError, match=r"'stranger'.*galaxy"):
            await make_client(backend, service).set_as_main()

    backend.run(body)
