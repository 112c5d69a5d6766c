"""Starting, failing to start, closing, and using a client in the wrong state; on every backend."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
import weakref
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, cast

import pytest
import trio
from support.harness import AnyClient, AsyncioHarness, Background, Harness, TrioHarness
from support.leftovers import Leftovers
from support.scenes import FEATURES, INTERVAL, Scene
from support.scripted import ScriptedTransport, unreachable

from heksher import AsyncHeksherClient, Setting, ThreadHeksherClient, _registry
from heksher._client import core
from heksher._wire import Response
from heksher.backends import Backend
from heksher.exceptions import (
    BackendError,
    ClientClosedError,
    ClientNotStartedError,
    DeclarationRejected,
    DuplicateSettingError,
    HeksherError,
    InvalidArgumentError,
    InvalidResponseError,
    ServiceUnreachableError,
    StartupTimeoutError,
    WrongEventLoopError,
)
from heksher.setting import QueriedRule
from heksher.status import ClientState


@pytest.fixture
def scene(backend: Harness) -> Scene:
    return Scene(backend)


def ttl_setting() -> Setting[int]:
    return Setting("cache_ttl", int, ["environment", "user"], 60)


# --- start ----------------------------------------------------------------------------------------


def test_a_start_that_fails_raises_leaves_nothing_running_and_can_be_tried_again(
    scene: Scene,
) -> None:
    ttl = ttl_setting()

    async def body() -> None:
        client = scene.client()
        leftovers = Leftovers()
        scene.service.fault = unreachable()
        with pytest.raises(ServiceUnreachableError):
            await client.set_as_main()
        assert client.status.state == "new"
        assert _registry.main() is None
        assert all(transport.closed for transport in scene.service.transports)
        await leftovers.gone(scene.backend)
        assert ttl.get() == 60, "it was never started, so that nothing is missing"
        with pytest.raises(ClientNotStartedError):
            await client.reload()

        scene.service.fault = None
        scene.service.add_rule("cache_ttl", 10, user="jim")
        async with client:
            assert client.status.state is ClientState.RUNNING
            assert ttl.get(environment="dev", user="jim") == 10

    scene.run(body)


def test_a_start_that_goes_on_without_the_service_catches_up_when_it_is_back(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    ttl = ttl_setting()
    scene.service.add_rule("cache_ttl", 10, user="jim")

    async def body() -> None:
        scene.service.fault = unreachable()
        async with scene.client(startup="continue") as client:
            assert client.status.state is ClientState.RUNNING
            assert client.status.failures == 1
            assert client.status.staleness is None
            assert ttl.get(environment="dev", user="jim") == 60
            scene.service.fault = None
            await scene.pass_time(INTERVAL)
            assert ttl.get(environment="dev", user="jim") == 10
            assert "cache_ttl" in scene.service.settings

    scene.run(body)
    assert [r.levelno for r in caplog.records if "fail" in r.message] == [logging.ERROR]


@pytest.mark.parametrize("startup", ["raise", "continue"])
def test_a_start_takes_no_longer_than_its_timeout(scene: Scene, startup: str) -> None:
    ttl = ttl_setting()
    scene.service.add_rule("cache_ttl", 10, user="jim")

    async def body() -> None:
        leftovers = Leftovers()
        client = scene.client(startup=startup, startup_timeout=5)
        arrived, go_on = scene.backend.event(), scene.backend.event()
        scene.service.hold("v1/context_features", arrived, go_on)
        starting = scene.backend.beside(client.set_as_main)
        await arrived.wait()
        await scene.settled()
        scene.clock.advance(4.9)
        assert not starting.ended
        scene.clock.advance(0.2)
        await scene.backend.until(lambda: starting.ended, "the start returns")
        if startup == "raise":
            assert isinstance(starting.error, StartupTimeoutError)
            assert "5 seconds" in str(starting.error)
            assert client.status.state is ClientState.NEW
        else:
            assert starting.error is None
            assert client.status.state is ClientState.RUNNING
            go_on.set()
            await scene.backend.until(
                lambda: ttl.get(environment="dev", user="jim") == 10, "the first update arrives"
            )
        await client.close()
        await leftovers.gone(scene.backend)

    scene.run(body)


def test_a_refused_declaration_raises_at_the_start_and_names_each_difference(scene: Scene) -> None:
    ttl = ttl_setting()
    other = Setting("other", int, ["user"], 1)
    scene.service.answers["cache_ttl"] = Response(
        409,
        {},
        b'{"outcome": "mismatch", "differences": ['
        b'{"level": "minor", "attribute": "default_value", "latest_value": 50},'
        b'{"level": "major", "attribute": "type", "latest_value": "str"}]}',
    )

    async def body() -> None:
        with pytest.raises(DeclarationRejected) as caught:
            await scene.client().set_as_main()
        assert list(caught.value.rejections) == ["cache_ttl"]
        message = str(caught.value)
        assert "'cache_ttl'" in message
        assert "default_value is 60 here and 50 on the service" in message
        assert "type is 'int' here and 'str' on the service" in message
        assert "raise the version" in message
        async with scene.client(startup="continue"):
            assert other.get(user="jim") == 1
            assert "other" in scene.service.requests[-1].target

    scene.run(body)
    assert ttl.name == "cache_ttl"


def test_starting_a_client_that_runs_does_nothing(scene: Scene) -> None:
    async def body() -> None:
        async with scene.client() as client:
            requests = len(scene.service.requests)
            await client.set_as_main()
            assert len(scene.service.requests) == requests

    scene.run(body)


def test_nothing_is_in_force_before_the_start_has_succeeded(scene: Scene) -> None:
    ttl = ttl_setting()
    scene.service.add_rule("cache_ttl", 10, user="jim")

    async def body() -> None:
        client = scene.client()
        client.set_defaults(environment="dev")
        arrived, go_on = scene.backend.event(), scene.backend.event()
        scene.service.hold("v1/query", arrived, go_on)
        starting = scene.backend.beside(client.set_as_main)
        await arrived.wait()
        assert client.status.state is ClientState.STARTING
        assert ttl.get() == 60
        go_on.set()
        await scene.backend.until(lambda: starting.ended)
        assert ttl.get(user="jim") == 10
        await client.close()

    scene.run(body)


# --- close ----------------------------------------------------------------------------------------


def test_closing_is_harmless_in_any_state_and_when_repeated(scene: Scene) -> None:
    async def body() -> None:
        never_started = scene.client()
        await never_started.close()
        await never_started.close()
        pinged = scene.client()
        await pinged.ping()
        await pinged.close()
        assert scene.service.transports[-1].closed
        failed = scene.client()
        scene.service.fault = unreachable()
        with pytest.raises(ServiceUnreachableError):
            await failed.set_as_main()
        scene.service.fault = None
        await failed.close()
        running = scene.client()
        await running.set_as_main()
        await running.close()
        await running.close()
        for client in (never_started, pinged, failed, running):
            assert client.status.state is ClientState.CLOSED
            for call in (client.set_as_main, client.reload, client.ping, client.get_settings):
                with pytest.raises(ClientClosedError, match="closed"):
                    await call()
            with pytest.raises(ClientClosedError):
                client.set_defaults(user="jim")
            with pytest.raises(ClientClosedError):
                client.track_contexts(user="jim")

    scene.run(body)


def test_closing_ends_a_request_that_hangs_and_tells_who_waits(scene: Scene) -> None:
    async def body() -> None:
        leftovers = Leftovers()
        client = scene.client()
        await client.set_as_main()
        await scene.settled()
        arrived, go_on = scene.backend.event(), scene.backend.event()
        scene.service.hold("v1/context_features", arrived, go_on)
        first = scene.backend.beside(client.reload)
        await arrived.wait()
        second = scene.backend.beside(client.reload)
        await scene.backend.until(lambda: scene.waiting == 2, "both wait")
        await client.close()
        await scene.backend.until(lambda: first.ended and second.ended)
        assert isinstance(first.error, ClientClosedError)
        assert isinstance(second.error, ClientClosedError)
        await leftovers.gone(scene.backend)

    scene.run(body)


def test_closing_while_it_starts_ends_the_start(scene: Scene) -> None:
    async def body() -> None:
        leftovers = Leftovers()
        client = scene.client()
        arrived, go_on = scene.backend.event(), scene.backend.event()
        scene.service.hold("v1/context_features", arrived, go_on)
        starting = scene.backend.beside(client.set_as_main)
        await arrived.wait()
        await client.close()
        await scene.backend.until(lambda: starting.ended)
        assert isinstance(starting.error, ClientClosedError)
        assert client.status.state is ClientState.CLOSED
        assert _registry.main() is None
        await leftovers.gone(scene.backend)

    scene.run(body)


def test_settings_go_on_after_closing_and_new_ones_wait_for_the_next_main_client(
    scene: Scene,
) -> None:
    ttl = ttl_setting()
    scene.service.add_rule("cache_ttl", 10, user="jim")

    async def body() -> None:
        client = scene.client()
        client.set_defaults(environment="dev")
        async with client:
            pass
        del client
        assert ttl.get(user="jim") == 10
        late = Setting("late", int, ["user"], 1)
        scene.service.add_rule("late", 2, user="jim")
        assert late.get(user="jim") == 1
        successor = scene.client()
        successor.set_defaults(user="joe")
        async with successor:
            assert late.get(user="jim") == 2
            assert late.get() == 1
            assert ttl.get(environment="dev", user="jim") == 10

    scene.run(body)


# --- several clients ------------------------------------------------------------------------------


def test_a_second_main_client_takes_the_settings_over(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    ttl = ttl_setting()

    async def body() -> None:
        async with scene.client() as former:
            async with scene.client() as latter:
                scene.service.add_rule("cache_ttl", 10, user="jim")
                await former.reload()
                assert ttl.get(environment="dev", user="jim") == 60, "the former refreshes no more"
                await latter.reload()
                assert ttl.get(environment="dev", user="jim") == 10
            assert _registry.main() is None

    scene.run(body)
    assert any("stops refreshing" in record.message for record in caplog.records)


def test_a_client_that_warns_of_a_take_over_holds_no_lock(scene: Scene) -> None:
    ttl = ttl_setting()
    seen: list[bool] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "stops refreshing" in record.getMessage():
                reader = threading.Thread(target=lambda: latter.status, daemon=True)
                reader.start()
                reader.join(5)
                seen.append(reader.is_alive())

    handler, logger = Handler(), logging.getLogger("heksher")
    latter = scene.client()

    async def body() -> None:
        async with scene.client(), latter:
            assert ttl.get(environment="dev", user="jim") == 60

    logger.addHandler(handler)
    try:
        scene.run(body)
    finally:
        logger.removeHandler(handler)
    assert seen == [False]


def test_a_client_whose_settings_were_taken_over_rests_until_it_gets_some_again(
    scene: Scene,
) -> None:
    ttl = ttl_setting()

    async def body() -> None:
        async with scene.client() as former, scene.client() as latter:
            status = former.status
            assert (status.state, status.staleness) == (ClientState.RESTING, None)
            assert str(status) == "resting, serves no settings"
            assert latter.status.state is ClientState.RUNNING
            await scene.backend.until(lambda: scene.clock.sleeping == 2, "both loops wait")
            before = former.status.polls, latter.status.polls

            def waits_again(waits: int) -> bool:
                return len(scene.clock.asked) > waits and scene.clock.sleeping == 2

            for _ in range(3):
                waits = len(scene.clock.asked)
                scene.clock.advance(INTERVAL)
                await scene.backend.until(
                    partial(waits_again, waits),
                    "both loops wait again",
                )
            assert former.status.polls == before[0], "it polls nothing"
            assert latter.status.polls == before[1] + 3
            # It is updated if somebody asks for that, and rests again.
            await former.reload()
            assert former.status.polls == before[0] + 1
            assert former.status.state is ClientState.RESTING
            scene.service.add_rule("cache_ttl", 10, user="jim")
            former.add_settings([ttl])
            await scene.backend.until(
                lambda: ttl.get(environment="dev", user="jim") == 10, "the former serves it"
            )
            status = former.status
            assert (status.state, status.staleness) == (ClientState.RUNNING, 0)

    scene.run(body)


def test_a_main_client_without_settings_goes_on_polling(scene: Scene) -> None:
    async def body() -> None:
        async with scene.client() as client:
            await scene.pass_time(INTERVAL)
            assert client.status.polls == 2
            assert client.status.state is ClientState.RUNNING

    scene.run(body)


def test_a_second_main_client_that_fails_to_start_gives_the_settings_back(scene: Scene) -> None:
    ttl = ttl_setting()

    async def body() -> None:
        async with scene.client() as former:
            scene.service.faults = [unreachable()]
            with pytest.raises(ServiceUnreachableError):
                await scene.client().set_as_main()
            scene.service.add_rule("cache_ttl", 10, user="jim")
            await former.reload()
            assert ttl.get(environment="dev", user="jim") == 10

    scene.run(body)


def test_a_second_main_client_with_other_features_is_refused(scene: Scene) -> None:
    async def body() -> None:
        async with scene.client():
            other = scene.backend.client(
                "http://service.test", INTERVAL, ["user"], backend=scene.library_backend()
            )
            with pytest.raises(InvalidArgumentError, match="environment, user and theme"):
                await other.set_as_main()
            assert other.status.state is ClientState.NEW

    scene.run(body)


def test_a_client_serves_the_settings_that_are_added_to_it(scene: Scene) -> None:
    ttl = ttl_setting()
    own = Setting("own", int, ["user"], 1)
    scene.service.add_rule("own", 2, user="jim")

    async def body() -> None:
        async with scene.client() as main:
            await scene.settled()
            other = Scene(scene.backend)
            other.service.add_rule("own", 3, user="jim")
            second = other.client()
            second.add_settings([own])
            assert own.get(user="jim") == 2
            await second.set_as_main()
            assert own.get(user="jim") == 3
            await main.reload()
            assert "own" not in scene.service.requests[-1].target
            await second.close()
            assert ttl.get(environment="dev", user="jim") == 60

    scene.run(body)


def test_what_cannot_be_added_to_a_client_is_refused(scene: Scene) -> None:
    ttl = ttl_setting()

    async def body() -> None:
        client = scene.client()
        with pytest.raises(InvalidArgumentError, match=r"got 3; expected a heksher\.Setting"):
            client.add_settings(cast(Any, [ttl, 3]))
        await client.close()
        with pytest.raises(ClientClosedError):
            client.add_settings([ttl])
        async with scene.client():
            assert "cache_ttl" in scene.service.settings, "it still waits for the main client"

    scene.run(body)


def test_a_start_that_the_registry_refuses_ends_nothing_else(scene: Scene) -> None:
    async def body() -> None:
        client = scene.client()
        client.add_settings([mine := ttl_setting()])
        theirs = Setting("cache_ttl", int, ["user"], 1)
        await client.ping()
        with pytest.raises(DuplicateSettingError):
            await client.set_as_main()
        assert client.status.state is ClientState.NEW
        assert [transport.closed for transport in scene.service.transports] == [False]
        assert (mine.get(environment="dev", user="jim"), theirs.get(user="jim")) == (60, 1)
        await client.close()

    scene.run(body)


@pytest.mark.parametrize("harness", [AsyncioHarness, TrioHarness])  # run() alone tells its caller
def test_a_caller_that_fails_right_after_its_start_leaves_all_as_before(
    harness: type[Harness],
) -> None:
    scene = Scene(harness())
    ttl = ttl_setting()

    class Status:
        def started(self) -> None:
            raise ValueError("the caller cannot go on")

    async def body() -> None:
        async with scene.client() as main:
            client = scene.client()
            assert isinstance(client.client, AsyncHeksherClient)
            with pytest.raises(ValueError, match="cannot go on"):
                await client.client.run(task_status=Status())
            assert client.status.state is ClientState.NEW
            scene.service.add_rule("cache_ttl", 5, user="jim")
            await main.reload()
            assert ttl.get(environment="dev", user="jim") == 5, "the former client serves it again"
            await client.close()

    scene.run(body)


def test_settings_are_added_all_or_none(scene: Scene) -> None:
    page_size = Setting("page_size", int, ["user"], 20)

    async def body() -> None:
        async with scene.client() as main:
            theirs = Scene(scene.backend)
            second = theirs.client()
            second.add_settings([first := ttl_setting()])
            differing = Setting("cache_ttl", int, ["user"], 1)
            with pytest.raises(DuplicateSettingError):
                second.add_settings([page_size, differing])
            assert list(second.status.declarations) == ["cache_ttl"]
            scene.service.add_rule("page_size", 7, user="jim")
            await main.reload()
            assert page_size.get(user="jim") == 7, "the main client serves it as before"
            await second.close()
            assert first.get(environment="dev", user="jim") == 60

    scene.run(body)


# --- the wrong loop or backend --------------------------------------------------------------------


def test_reload_before_the_start_says_what_to_do(scene: Scene) -> None:
    async def body() -> None:
        with pytest.raises(ClientNotStartedError, match="set_as_main"):
            await scene.client().reload()

    scene.run(body)


def test_a_backend_of_the_other_kind_is_refused(scene: Scene) -> None:
    wrong: Backend = scene.library_backend()
    if wrong.blocking:
        with pytest.raises(BackendError, match="takes no blocking"):
            AsyncHeksherClient("http://service.test", 1, FEATURES, backend=wrong)
    else:
        with pytest.raises(BackendError, match="takes only blocking"):
            ThreadHeksherClient("http://service.test", 1, FEATURES, backend=wrong)


def test_a_client_is_bound_to_its_event_loop() -> None:
    clients: list[AsyncHeksherClient] = []

    async def first() -> None:
        client = AsyncHeksherClient("http://127.0.0.1:9", 1, FEATURES, startup="continue")
        clients.append(client)
        with pytest.raises(HeksherError):
            await client.ping()

    async def second() -> None:
        with pytest.raises(WrongEventLoopError, match="one client for each event loop"):
            await clients[0].ping()
        await clients[0].aclose()
        assert clients[0].status.state is ClientState.CLOSED

    asyncio.run(first())
    asyncio.run(second())


def run_loop(loop: str, body: Callable[[], Coroutine[Any, Any, None]]) -> None:
    if loop == "asyncio":
        asyncio.run(body())
    else:
        trio.run(body)


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
def test_auto_is_decided_at_the_first_await_where_no_loop_runs_at_construction(loop: str) -> None:
    client = AsyncHeksherClient("http://127.0.0.1:9", 1, FEATURES, startup="continue")

    async def body() -> None:
        async with client:
            assert client.status.failures == 1

    run_loop(loop, body)
    assert client.status.state is ClientState.CLOSED


def test_a_backend_chosen_for_another_loop_is_refused_at_the_start() -> None:
    as_trio = AsyncHeksherClient("http://127.0.0.1:9", 1, FEATURES, backend="trio")

    async def body() -> None:
        with pytest.raises(BackendError, match="asyncio runs here"):
            await as_trio.set_as_main()
        with pytest.raises(BackendError, match="asyncio runs here"):
            AsyncHeksherClient("http://127.0.0.1:9", 1, FEATURES, backend="trio")

    asyncio.run(body())


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
def test_an_event_loop_that_ends_without_closing_ends_the_client(
    loop: str,
) -> None:
    client = AsyncHeksherClient("http://127.0.0.1:9", 1, FEATURES, startup="continue")

    run_loop(loop, client.set_as_main)
    assert client.status.state is ClientState.CLOSED
    assert _registry.main() is None
    run_loop("asyncio", client.aclose)
    run_loop("trio", client.aclose)


# --- a start that fails while something else happens ----------------------------------------------


def test_a_loop_that_could_not_be_ended_stays_ended_when_the_client_starts_again(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(core, "_CLOSE_TIMEOUT", 0.05)
    ttl = ttl_setting()

    async def body() -> None:
        leftovers = Leftovers()
        client = scene.client(startup_timeout=5)
        arrived, go_on = scene.backend.event(), scene.backend.event()
        scene.service.hold("v1/context_features", arrived, go_on, stuck=True)
        starting = scene.backend.beside(client.set_as_main)
        await arrived.wait()
        await scene.settled()
        scene.clock.advance(5)
        await scene.backend.until(lambda: starting.ended, "the start returns")
        assert isinstance(starting.error, StartupTimeoutError)
        await client.set_as_main()
        await scene.settled()
        requests = len(scene.service.requests)
        go_on.set()
        await scene.backend.until(
            lambda: leftovers.found()["threads"] <= 1 and leftovers.found()["tasks"] <= 2,
            "only the second loop is left",
        )
        assert len(scene.service.requests) == requests, "the first one asks for nothing any more"
        scene.service.add_rule("cache_ttl", 10, user="jim")
        await client.reload()
        assert ttl.get(environment="dev", user="jim") == 10
        await client.close()
        await leftovers.gone(scene.backend)

    scene.run(body)


def test_closing_tells_who_waits_also_when_the_loop_cannot_be_ended(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(core, "_CLOSE_TIMEOUT", 0.05)

    async def body() -> None:
        leftovers = Leftovers()
        client = scene.client()
        await client.set_as_main()
        await scene.settled()
        arrived, go_on = scene.backend.event(), scene.backend.event()
        scene.service.hold("v1/context_features", arrived, go_on, stuck=True)
        reloading = scene.backend.beside(client.reload)
        await arrived.wait()
        await client.close()
        await scene.backend.until(lambda: reloading.ended, "the reload is told")
        assert isinstance(reloading.error, ClientClosedError)
        go_on.set()
        await leftovers.gone(scene.backend)

    scene.run(body)


def test_a_reload_while_a_failed_start_is_taken_back_does_not_wait_for_ever(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    reloads: list[Background] = []

    async def body() -> None:
        client = scene.client()

        async def reload_and_close(transport: ScriptedTransport) -> None:
            transport.closed = True
            reloads.append(scene.backend.beside(client.reload))

        monkeypatch.setattr(ScriptedTransport, "aclose", reload_and_close)
        scene.service.fault = unreachable()
        with pytest.raises(ServiceUnreachableError):
            await client.set_as_main()
        assert reloads
        await scene.backend.until(lambda: reloads[0].ended, "the reload returns")
        assert isinstance(reloads[0].error, ClientNotStartedError)

    scene.run(body)


def test_a_client_that_was_closed_meanwhile_does_not_get_the_settings_back(scene: Scene) -> None:
    ttl = ttl_setting()

    async def body() -> None:
        former, latter = scene.client(), scene.client()
        await former.set_as_main()
        await scene.settled()
        arrived, go_on = scene.backend.event(), scene.backend.event()
        scene.service.hold("v1/settings", arrived, go_on)
        starting = scene.backend.beside(latter.set_as_main)
        await arrived.wait()
        scene.service.fault = unreachable()
        await former.close()
        go_on.set()
        await scene.backend.until(lambda: starting.ended)
        assert isinstance(starting.error, ServiceUnreachableError)
        assert _registry.main() is None

    scene.run(body)
    assert ttl.name == "cache_ttl"


def test_starting_a_client_that_gave_its_settings_away_claims_nothing(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    async def body() -> None:
        async with scene.client() as former, scene.client():
            await former.set_as_main()

    scene.run(body)
    assert sum("stops refreshing" in record.message for record in caplog.records) == 1


# --- weak references to settings ------------------------------------------------------------------


def test_no_failure_keeps_a_setting_alive(scene: Scene) -> None:
    def forgotten(setting: Setting[int]) -> weakref.ref[Setting[int]]:
        return weakref.ref(setting)

    async def failing_reload(client: AnyClient, setting: Setting[int]) -> None:
        with pytest.raises(ServiceUnreachableError):
            await client.reload()
        assert setting.name == "cache_ttl"

    async def body() -> None:
        scene.service.fault = unreachable()
        async with scene.client(startup="continue") as client:
            await scene.settled()
            declared = forgotten(ttl_setting())
            await scene.settled()
            gc.collect()
            assert declared() is None
            setting = ttl_setting()
            reference = weakref.ref(setting)
            await failing_reload(client, setting)
            del setting
            gc.collect()
            assert client.status.failures > 0
            assert reference() is None

    scene.run(body)


def test_nothing_that_is_reported_keeps_a_setting_or_an_answer_alive(scene: Scene) -> None:
    def is_known(value: int, rule: QueriedRule | None, of: Setting[int]) -> int:
        try:
            return {60: 60}[value]
        except KeyError as error:
            raise ValueError("it is unknown") from error

    async def body() -> None:
        settings = [ttl_setting(), Setting("broken", int, ["user"], 1)]
        settings[0].add_validator(is_known)
        references = [weakref.ref(setting) for setting in settings]
        async with scene.client() as client:
            scene.service.add_rule("cache_ttl", 5, user="jim")
            scene.service.rules["broken"] = {}  # type: ignore[assignment]
            await client.reload()
            rejected = client.status.rejected_rules
            assert [each.setting for each in rejected] == ["cache_ttl", "broken"]
            scene.service.faults = [None, *[Response(200, {}, b'{"settings": 1}')] * 3]
            with pytest.raises(InvalidResponseError):
                await client.reload()
            settings.clear()
            gc.collect()
            assert [reference() for reference in references] == [None, None]
            errors = [client.status.last_error, *[each.error for each in rejected]]
            for error in errors:
                assert error is not None
                assert error.__traceback__ is None
                assert error.__cause__ is None or error.__cause__.__traceback__ is None

    scene.run(body)


def test_a_start_that_failed_keeps_no_setting_alive(scene: Scene) -> None:
    scene.service.answers["refused"] = Response(
        409, {}, b'{"outcome": "mismatch", "differences": []}'
    )

    async def body() -> None:
        client = scene.client()
        settings = [ttl_setting(), Setting("refused", int, ["user"], 1)]
        references = [weakref.ref(setting) for setting in settings]
        with pytest.raises(DeclarationRejected):
            await client.set_as_main()
        settings.clear()
        gc.collect()
        assert [reference() for reference in references] == [None, None]
        await client.close()

    scene.run(body)
