"""`on_update_ok` and `on_update_error`, and `modification_lock`, which delays updates."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from support.harness import AnyClient, GeventHarness, Harness, ThreadHarness
from support.scenes import INTERVAL, Scene
from support.scripted import unreachable

from heksher import AsyncHeksherClient, Setting, ThreadHeksherClient
from heksher._overriding import override_by_file, override_of_file
from heksher._wire import Response
from heksher.exceptions import (
    BackendError,
    ClientClosedError,
    DeclarationRejected,
    ServiceUnreachableError,
    StartupTimeoutError,
)
from heksher.status import ClientState


@pytest.fixture
def scene(backend: Harness) -> Scene:
    return Scene(backend)


class Calls:
    """The calls of a client's hooks: None for a success, or the error."""

    def __init__(self, client: AnyClient) -> None:
        self.seen: list[Exception | None] = []
        client.client.on_update_ok = lambda: self.seen.append(None)
        client.client.on_update_error = self._failed

    def _failed(self, exc: Exception) -> None:
        self.seen.append(exc)


# --- hooks ----------------------------------------------------------------------------------------


def test_each_update_calls_one_hook_which_says_how_it_ended(scene: Scene) -> None:
    ttl = Setting("ttl", int, ["user"], 60)
    error = unreachable()

    async def body() -> None:
        client = scene.client()
        calls = Calls(client)
        async with client:
            assert calls.seen == [None]
            await client.reload()  # nothing changed, which is also a success
            assert calls.seen == [None, None]
            scene.service.fault = error
            with pytest.raises(ServiceUnreachableError):
                await client.reload()
            assert calls.seen == [None, None, error]
            await scene.pass_time(INTERVAL)
            assert calls.seen == [None, None, error, error]
            scene.service.fault = None
            await client.reload()
            assert calls.seen == [None, None, error, error, None]
        assert len(calls.seen) == 5

    scene.run(body)
    assert ttl.get(user="jim") == 60


def test_values_are_in_force_when_on_update_ok_is_called(scene: Scene) -> None:
    ttl = Setting("ttl", int, ["user"], 60)
    scene.service.add_rule("ttl", 5, user="jim")
    seen: list[int] = []

    async def body() -> None:
        client = scene.client()
        client.client.on_update_ok = lambda: seen.append(ttl.get(user="jim"))
        async with client:
            assert seen == [5]
            scene.service.rules["ttl"].clear()
            scene.service.add_rule("ttl", 6, user="jim")
            await client.reload()
            assert seen == [5, 6]

    scene.run(body)


def test_a_start_that_fails_calls_no_hook_for_success(scene: Scene) -> None:
    ttl = Setting("ttl", int, ["user"], 60)

    async def body() -> None:
        scene.service.answers["ttl"] = Response(422, {}, b"no")
        client = scene.client()
        calls = Calls(client)
        with pytest.raises(DeclarationRejected):
            await client.set_as_main()
        assert calls.seen == []
        scene.service.fault = unreachable()
        with pytest.raises(ServiceUnreachableError):
            await client.set_as_main()
        assert calls.seen == [scene.service.fault]
        await client.close()

    scene.run(body)
    assert ttl.get(user="jim") == 60


def test_a_start_that_goes_on_without_a_service_calls_the_hook_for_failure(scene: Scene) -> None:
    ttl = Setting("ttl", int, ["user"], 60)
    scene.service.fault = unreachable()

    async def body() -> None:
        client = scene.client(startup="continue")
        calls = Calls(client)
        async with client:
            assert calls.seen == [scene.service.fault]
            scene.service.fault = None
            await client.reload()
            assert calls.seen[1:] == [None]

    scene.run(body)
    assert ttl.get(user="jim") == 60


def broken() -> None:
    raise ValueError("a hook that is broken")


def cancelled() -> None:
    raise asyncio.CancelledError  # like the result of a cancelled future


def exiting() -> None:
    raise SystemExit  # it would end the loop of a thread without a log line


async def suspending() -> None:
    raise AssertionError("nobody awaits it")


@pytest.mark.parametrize("hook", [broken, cancelled, exiting, suspending])
def test_an_error_in_a_hook_is_logged_and_harmless(
    scene: Scene, hook: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    ttl = Setting("ttl", int, ["user"], 60)

    async def body() -> None:
        client = scene.client()
        client.client.on_update_ok = hook
        client.client.on_update_error = lambda exc: hook()
        async with client:
            scene.service.faults = [unreachable()]
            with pytest.raises(ServiceUnreachableError):
                await client.reload()
            scene.service.add_rule("ttl", 5, user="jim")
            await client.reload()
            assert ttl.get(user="jim") == 5
            assert client.status.failures == 0

    with caplog.at_level(logging.ERROR, "heksher"):
        scene.run(body)
    assert caplog.text.count("on_update_ok raised an error; updates go on") == 2
    assert caplog.text.count("on_update_error raised an error; updates go on") == 1
    if hook is not suspending:
        assert f"in {hook.__name__}" in caplog.text, "the traceback leads to the hook"


def test_hooks_can_be_overridden(scene: Scene) -> None:
    seen: list[object] = []
    error = unreachable()

    class Telling:
        def on_update_ok(self) -> None:
            seen.append("ok")

        def on_update_error(self, exc: Exception) -> None:
            seen.append(exc)

    class TellingAsync(Telling, AsyncHeksherClient):
        pass

    class TellingThread(Telling, ThreadHeksherClient):
        pass

    async def body() -> None:
        kind = TellingThread if scene.backend.backend.blocking else TellingAsync
        client = AnyClient(
            kind(
                "http://service.test",
                INTERVAL,
                ["user"],
                backend=scene.library_backend(),
                clock=scene.clock,
            )
        )
        async with client:
            scene.service.faults = [error]
            with pytest.raises(ServiceUnreachableError):
                await client.reload()

    scene.run(body)
    assert seen == ["ok", error]


@pytest.mark.parametrize("harness", [ThreadHarness, GeventHarness])
def test_a_hook_in_the_clients_own_thread_or_greenlet_can_close_it_and_cannot_wait_for_it(
    harness: type[Harness], caplog: pytest.LogCaptureFixture
) -> None:
    scene = Scene(harness())
    ttl = Setting("ttl", int, ["user"], 60)

    async def body() -> None:
        client = scene.client()
        await client.set_as_main()
        assert isinstance(client.client, ThreadHeksherClient)
        client.client.on_update_ok = client.client.reload
        await client.reload()
        client.client.on_update_ok = client.client.close
        with pytest.raises(ClientClosedError):
            await client.reload()
        assert client.status.state is ClientState.CLOSED
        await client.close()

    with caplog.at_level(logging.WARNING, "heksher"):
        scene.run(body)
    (record,) = caplog.records
    assert record.exc_info is not None
    assert "was called by one, in a hook" in str(record.exc_info[1])
    assert ttl.get(user="jim") == 60


# --- the modification lock ------------------------------------------------------------------------


class Lock:
    """The lock of a client of either kind, with awaitable methods."""

    def __init__(self, client: AnyClient) -> None:
        self.lock = client.client.modification_lock
        self.release = self.lock.release
        self.locked = self.lock.locked

    async def acquire(self) -> None:
        acquired = self.lock.acquire()
        assert acquired is True or (not isinstance(acquired, bool) and await acquired)


def test_nothing_is_published_while_the_lock_is_held(scene: Scene) -> None:
    ttl = Setting("ttl", int, ["user"], 60)

    async def body() -> None:
        async with scene.client() as client:
            lock = Lock(client)
            await lock.acquire()
            assert lock.locked()
            scene.service.add_rule("ttl", 5, user="jim")
            reload = scene.backend.beside(client.reload)
            await scene.backend.until(lambda: scene.polls == 2, "the rules are fetched")
            assert ttl.get(user="jim") == 60
            lock.release()
            await scene.backend.until(lambda: reload.ended, "the reload goes on")
            assert reload.error is None
            assert ttl.get(user="jim") == 5
            assert not lock.locked()

    scene.run(body)


def test_an_update_that_changes_nothing_does_not_wait_for_the_lock(scene: Scene) -> None:
    ttl = Setting("ttl", int, ["user"], 60)

    async def body() -> None:
        async with scene.client() as client:
            lock = Lock(client)
            await lock.acquire()
            await client.reload()
            lock.release()

    scene.run(body)
    assert ttl.get(user="jim") == 60


def test_any_thread_may_release_the_lock(scene: Scene) -> None:
    ttl = Setting("ttl", int, ["user"], 60)

    async def body() -> None:
        async with scene.client() as client:
            lock = Lock(client)
            await lock.acquire()
            scene.service.add_rule("ttl", 5, user="jim")
            reload = scene.backend.beside(client.reload)
            await scene.backend.until(lambda: scene.polls == 2, "the rules are fetched")
            thread = threading.Thread(target=lock.release)
            thread.start()
            thread.join()
            await scene.backend.until(lambda: reload.ended, "the reload goes on")
            assert ttl.get(user="jim") == 5

    scene.run(body)


def test_the_lock_goes_to_who_asked_first_and_is_a_context_manager(scene: Scene) -> None:
    order: list[int] = []

    async def body() -> None:
        client = scene.client()
        lock = Lock(client)
        await lock.acquire()

        async def enter(number: int) -> None:
            own = client.client.modification_lock
            if isinstance(client.client, ThreadHeksherClient):
                with client.client.modification_lock:
                    order.append(number)
            else:
                async with client.client.modification_lock:
                    order.append(number)
            assert own is client.client.modification_lock

        def waiting(count: int) -> bool:
            return scene.waiting == count

        others: list[Any] = []
        for number in range(3):
            others.append(scene.backend.beside(partial(enter, number)))
            await scene.backend.until(partial(waiting, number + 1))
        assert order == []
        lock.release()
        await scene.backend.until(lambda: all(other.ended for other in others))
        assert order == [0, 1, 2]
        assert not lock.locked()
        await client.close()

    scene.run(body)


def test_a_lock_that_nobody_holds_cannot_be_released(scene: Scene) -> None:
    async def body() -> None:
        client = scene.client()
        with pytest.raises(RuntimeError, match="not held"):
            client.client.modification_lock.release()
        await client.close()

    scene.run(body)


def test_a_lock_that_somebody_releases_while_rules_are_published_does_no_harm(scene: Scene) -> None:
    ttl = Setting("ttl", int, ["user"], 60)

    async def body() -> None:
        client = scene.client()

        @ttl.add_validator
        def releasing(value: int, *_: object) -> int:
            if client.client.modification_lock.locked():
                client.client.modification_lock.release()
            return value

        scene.service.add_rule("ttl", 5, user="jim")
        async with client:
            assert ttl.get(user="jim") == 5
            assert client.status.failures == 0
            lock = Lock(client)
            assert not lock.locked()
            await lock.acquire()
            assert lock.locked()
            lock.release()

    scene.run(body)


def test_closing_does_not_wait_for_the_lock(scene: Scene) -> None:
    ttl = Setting("ttl", int, ["user"], 60)

    async def body() -> None:
        client = scene.client()
        await client.set_as_main()
        lock = Lock(client)
        await lock.acquire()
        scene.service.add_rule("ttl", 5, user="jim")
        reload = scene.backend.beside(client.reload)
        await scene.backend.until(lambda: scene.polls == 2, "the rules are fetched")
        await client.close()
        await scene.backend.until(lambda: reload.ended, "the reload ends")
        assert isinstance(reload.error, ClientClosedError)
        # The holder still has it and can release it.
        assert lock.locked()
        lock.release()
        assert not lock.locked()

    scene.run(body)
    assert ttl.get(user="jim") == 60


def test_a_start_does_not_wait_for_the_lock_longer_than_its_timeout(scene: Scene) -> None:
    ttl = Setting("ttl", int, ["user"], 60)
    scene.service.add_rule("ttl", 5, user="jim")
    of_another_client = Setting("of_another_client", int, ["user"], 1)
    override_by_file(
        [of_another_client], {of_another_client: override_of_file(of_another_client, 2)}
    )

    async def body() -> None:
        client = scene.client(startup_timeout=10)
        lock = Lock(client)
        await lock.acquire()
        start = scene.backend.beside(client.set_as_main)
        await scene.settled()
        await scene.backend.until(lambda: scene.polls == 1, "the rules are fetched")
        scene.clock.advance(10)
        await scene.backend.until(lambda: start.ended, "the start ends")
        assert isinstance(start.error, StartupTimeoutError)
        lock.release()
        await client.set_as_main()
        assert ttl.get(user="jim") == 5
        await client.close()

    scene.run(body)


def test_a_lock_of_threads_can_be_tried() -> None:
    client = ThreadHeksherClient("http://service.test", INTERVAL, ["user"])
    lock = client.modification_lock
    with lock as held:
        assert held is True
        assert lock.acquire(blocking=False) is False
        assert lock.acquire(timeout=0.001) is False
    assert lock.acquire(timeout=5) is True
    lock.release()
    client.close()


def test_a_waiter_that_is_cancelled_leaves_the_lock_to_the_next(scene: Scene) -> None:
    if isinstance(scene.backend, ThreadHarness):
        return  # a blocking call cannot be cancelled

    async def body() -> None:
        import anyio

        client = scene.client()
        lock = Lock(client)
        await lock.acquire()
        with anyio.move_on_after(0) as scope:
            await lock.acquire()
        assert scope.cancelled_caught
        lock.release()
        assert not lock.locked()
        await lock.acquire()
        lock.release()
        await client.close()

    scene.run(body)


def test_a_lock_of_an_async_client_needs_an_event_loop() -> None:
    client = AsyncHeksherClient("http://service.test", INTERVAL, ["user"])
    acquiring = client.modification_lock.acquire()
    with pytest.raises(BackendError, match="neither asyncio nor trio"):
        acquiring.send(None)
