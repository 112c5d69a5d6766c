"""`Setting.on_change` and `on_change` of clients: who is called, when, where and with what."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
import weakref
from collections.abc import Callable
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import pytest
from support.harness import PATIENCE, GeventHarness, Harness, ThreadHarness
from support.scenes import INTERVAL, Scene
from support.scripted import unreachable

from heksher import Setting, SettingChanged, SettingsChanged, ValueChanged
from heksher._wire import Response
from heksher.exceptions import ClientClosedError, ServiceUnreachableError, UnexpectedStatusError
from heksher.status import ClientState

JIM = {"environment": "dev", "user": "jim"}


@pytest.fixture
def scene(backend: Harness) -> Scene:
    return Scene(backend)


@pytest.fixture
def ttl() -> Setting[int]:
    return Setting("ttl", int, ["environment", "user"], 60)


class Heard:
    """The values that a callback was told, and whether each was in force."""

    def __init__(self) -> None:
        self.values: list[tuple[Any, Any]] = []

    def __call__(self, event: ValueChanged[Any]) -> None:
        self.values.append((event.old, event.new))

    def taken(self) -> list[tuple[Any, Any]]:
        """Return what was told since the last call of this."""
        taken, self.values = self.values, []
        return taken


# --- values in a context --------------------------------------------------------------------------


def test_a_listener_in_a_context_is_told_the_old_and_the_new_value_there(
    scene: Scene, ttl: Setting[int]
) -> None:
    events: list[tuple[ValueChanged[int], int]] = []
    ttl.on_change(lambda event: events.append((event, ttl.get(**JIM))), **JIM)
    scene.service.add_rule("ttl", 5, user="jim")

    async def body() -> None:
        async with scene.client() as client:
            assert events == [(ValueChanged(ttl, 60, 5), 5)], "the first rules"
            scene.service.add_rule("ttl", 6, user="eve")
            await client.reload()
            await client.reload()
            assert len(events) == 1, "the value there is as before"
            scene.service.add_rule("ttl", 7, **JIM)
            await scene.pass_time(INTERVAL)
            assert events[1:] == [(ValueChanged(ttl, 5, 7), 7)]
            scene.service.rules["ttl"].clear()
            await client.reload()
            assert events[2:] == [(ValueChanged(ttl, 7, 60), 60)]

    scene.run(body)
    assert len(events) == 3, "closing changes nothing"


def test_constants_count_as_they_are_and_a_feature_without_a_value_is_none(
    scene: Scene, ttl: Setting[int]
) -> None:
    heard = Heard()
    ttl.on_change(heard, user="jim")
    scene.service.add_rule("ttl", 5, environment="dev")
    scene.service.add_rule("ttl", 6, environment="prod", user="jim")

    async def body() -> None:
        async with scene.client() as client:
            assert heard.taken() == [], "no environment is known"
            arrived, go_on = scene.backend.event(), scene.backend.event()
            scene.service.hold("query", arrived, go_on)
            client.set_defaults(environment="prod")
            await arrived.wait()
            assert heard.taken() == [(60, 6)], "told before the service answers"
            go_on.set()
            await scene.settled()
        assert heard.taken() == []

    scene.run(body)


def test_defaults_that_nobody_listens_to_cause_no_update(scene: Scene, ttl: Setting[int]) -> None:
    async def body() -> None:
        async with scene.client() as client:
            with ttl.on_change(print):
                pass
            client.set_defaults(environment="prod")
            await scene.settled()
            assert scene.polls == 1

    scene.run(body)


def test_context_variables_count_as_they_were_at_the_registration(
    scene: Scene, ttl: Setting[int]
) -> None:
    user: ContextVar[str | None] = ContextVar("user")
    before, after, unset = Heard(), Heard(), Heard()
    ttl.on_change(unset, environment="dev")
    user.set("jim")
    ttl.on_change(before, environment="dev")  # no client is there to say which variable counts
    scene.service.add_rule("ttl", 5, user="jim")
    scene.service.add_rule("ttl", 6, user="eve")

    async def body() -> None:
        client = scene.client()
        client.set_defaults(user=user)
        async with client:
            user.set("eve")
            assert before.taken() == [(60, 5)]
            assert unset.taken() == []
            ttl.on_change(after, environment="dev")
            user.set(None)
            scene.service.rules["ttl"].clear()
            await client.reload()
            assert before.taken() == [(5, 60)]
            assert after.taken() == [(6, 60)]
            assert unset.taken() == []

    scene.run(body)


# --- whole settings, and whole clients ------------------------------------------------------------


def test_a_listener_without_a_context_is_told_of_changed_rules_and_defaults(
    scene: Scene, ttl: Setting[int]
) -> None:
    events: list[SettingChanged[int]] = []
    ttl.on_change(events.append)

    async def body() -> None:
        async with scene.client() as client:
            assert events == [], "what the service has is what the declaration says"
            scene.service.add_rule("ttl", 5, user="jim")
            await client.reload()
            assert events == [SettingChanged(ttl)]
            scene.service.rules["ttl"].clear()
            scene.service.add_rule("ttl", 5, user="jim")
            await client.reload()
            assert len(events) == 1, "the same rule under another number"
            scene.service.settings["ttl"]["default_value"] = 61
            await client.reload()
            assert len(events) == 2
            scene.service.add_rule("ttl", 8)
            await client.reload()
            assert len(events) == 3
            scene.service.settings["ttl"]["default_value"] = 62
            await client.reload()
            assert len(events) == 3, "a rule matches in every context"
            client.set_defaults(user="jim")
            await client.reload()
            assert len(events) == 3, "the rules are the same"

    scene.run(body)


def test_a_listener_to_a_client_is_told_each_updates_names_at_once(
    scene: Scene, ttl: Setting[int]
) -> None:
    a, same = Setting("a", str, ["user"], "x"), Setting("same", str, ["user"], "x")
    events: list[SettingsChanged] = []
    scene.service.add_rule("ttl", 5, user="jim")
    scene.service.add_rule("a", "y", user="jim")

    async def body() -> None:
        client = scene.client()
        client.on_change(events.append)
        async with client:
            assert events == [SettingsChanged(("a", "ttl"))]
            await client.reload()
            scene.service.rules["ttl"].clear()
            scene.service.add_rule("ttl", 5, user="jim")
            await client.reload()
            assert len(events) == 1, "nothing has changed"
            scene.service.add_rule("ttl", 6, user="eve")
            await client.reload()
            assert events[1:] == [SettingsChanged(("ttl",))]
            late = Setting("late", int, ["user"], 1)
            scene.service.add_rule("late", 2, user="jim")
            await client.reload()
            assert late.get(user="jim") == 2
            assert events[2:] == [SettingsChanged(("late",))]

    scene.run(body)
    assert len(events) == 3
    assert (a.get(user="jim"), same.get(user="jim")) == ("y", "x")


def test_the_whole_update_is_in_force_when_the_first_callback_is_called(
    scene: Scene, ttl: Setting[int]
) -> None:
    other = Setting("zother", int, ["user"], 1)
    seen: list[tuple[int, int]] = []

    def look(_: object) -> None:
        seen.append((ttl.get(**JIM), other.get(user="jim")))

    ttl.on_change(look)
    other.on_change(look)

    async def body() -> None:
        client = scene.client()
        client.on_change(look)
        client.client.on_update_ok = lambda: look(None)
        async with client:
            seen.clear()
            scene.service.add_rule("ttl", 5, user="jim")
            scene.service.add_rule("zother", 2, user="jim")
            await client.reload()
            assert seen == [(5, 2)] * 4

    scene.run(body)


# --- what callbacks do ----------------------------------------------------------------------------


def broken(_: object) -> None:
    raise ValueError("a callback that is broken")


def cancelled(_: object) -> None:
    raise asyncio.CancelledError  # like the result of a cancelled future


def exiting(_: object) -> None:
    raise SystemExit


async def suspending() -> None:
    raise AssertionError("nobody awaits it")


def careless(_: object) -> object:
    return suspending()


@pytest.mark.parametrize("callback", [broken, cancelled, exiting, careless])
def test_an_error_in_a_callback_is_logged_and_harmless(
    scene: Scene,
    ttl: Setting[int],
    callback: Callable[[object], object],
    caplog: pytest.LogCaptureFixture,
) -> None:
    heard = Heard()
    ttl.on_change(callback, **JIM)
    ttl.on_change(heard, **JIM)
    scene.service.add_rule("ttl", 5, user="jim")

    async def body() -> None:
        client = scene.client()
        client.on_change(callback)
        async with client:
            scene.service.add_rule("ttl", 6, **JIM)
            await client.reload()
            assert client.status.failures == 0
            assert heard.taken() == [(60, 5), (5, 6)]

    with caplog.at_level(logging.ERROR, "heksher"):
        scene.run(body)
    said = "on_change: the callback raised an error; updates go on"
    assert caplog.text.count(f"setting 'ttl', {said}") == 2
    assert caplog.text.count(f"the client's {said}") == 2


def test_a_callback_can_cancel_itself_and_register_others(scene: Scene, ttl: Setting[int]) -> None:
    events: list[str] = []
    scene.service.add_rule("ttl", 5, user="jim")

    def once(event: SettingChanged[int]) -> None:
        events.append("once")
        subscription.cancel()
        event.setting.on_change(lambda _: events.append("later"))

    subscription = ttl.on_change(once)

    async def body() -> None:
        async with scene.client() as client:
            assert events == ["once"]
            scene.service.add_rule("ttl", 6, **JIM)
            await client.reload()
            assert events == ["once", "later"]

    scene.run(body)


def test_a_subscription_ends_by_cancel_or_at_the_end_of_its_block(
    scene: Scene, ttl: Setting[int]
) -> None:
    heard, names = Heard(), list[tuple[str, ...]]()

    async def body() -> None:
        async with scene.client() as client:
            with ttl.on_change(heard, **JIM) as subscription:
                of_client = client.on_change(lambda event: names.append(event.names))
                scene.service.add_rule("ttl", 5, user="jim")
                await client.reload()
                assert heard.taken() == [(60, 5)]
                assert names == [("ttl",)]
            subscription.cancel()
            of_client.cancel()
            of_client.cancel()
            scene.service.add_rule("ttl", 6, **JIM)
            await client.reload()
            assert heard.taken() == []
            assert names == [("ttl",)]

    scene.run(body)


def test_a_callback_can_set_defaults_and_is_told_what_they_change_afterwards(
    scene: Scene, ttl: Setting[int]
) -> None:
    heard = Heard()
    depth: list[int] = []
    scene.service.add_rule("ttl", 5, user="jim")
    scene.service.add_rule("ttl", 6, environment="dev", user="jim")

    async def body() -> None:
        client = scene.client()

        def callback(event: ValueChanged[int]) -> None:
            depth.append(1)
            heard(event)
            if len(depth) == 1:
                client.set_defaults(environment="dev")
                assert heard.values == [(60, 5)], "calls do not overlap"

        ttl.on_change(callback, user="jim")
        async with client:
            await scene.backend.until(lambda: len(heard.values) == 2)
            assert heard.taken() == [(60, 5), (5, 6)]

    scene.run(body)


@pytest.mark.parametrize("harness", [ThreadHarness, GeventHarness])
def test_a_callback_in_the_clients_own_thread_can_close_it_and_cannot_wait_for_it(
    harness: type[Harness], ttl: Setting[int], caplog: pytest.LogCaptureFixture
) -> None:
    scene = Scene(harness())

    async def body() -> None:
        client = scene.client()
        await client.set_as_main()
        with client.on_change(lambda _: client.client.reload()):
            scene.service.add_rule("ttl", 5, user="jim")
            await client.reload()
        client.on_change(lambda _: getattr(client.client, "close")())  # noqa: B009
        scene.service.add_rule("ttl", 6, **JIM)
        with pytest.raises(ClientClosedError):
            await client.reload()
        assert client.status.state is ClientState.CLOSED

    with caplog.at_level(logging.WARNING, "heksher"):
        scene.run(body)
    (record,) = caplog.records
    assert record.exc_info is not None
    assert "a callback of on_change" in str(record.exc_info[1])
    assert ttl.get(**JIM) == 6


def test_a_slow_callback_holds_no_lock(scene: Scene, ttl: Setting[int]) -> None:
    done: list[bool] = []
    scene.service.add_rule("ttl", 5, user="jim")

    async def body() -> None:
        client = scene.client()

        def beside() -> None:
            Setting("other", int, ["user"], 1)
            assert client.status.failures == 0
            ttl.on_change(print).cancel()
            done.append(ttl.get(**JIM) == 5)

        def slow(_: object) -> None:
            thread = threading.Thread(target=beside)
            thread.start()
            thread.join(PATIENCE)

        client.on_change(slow)
        ttl.on_change(slow)
        async with client:
            # The new setting causes an update, which may be what calls the second one.
            await scene.backend.until(lambda: done == [True, True])

    scene.run(body)


# --- when -----------------------------------------------------------------------------------------


def test_nobody_is_called_while_the_modification_lock_is_held(
    scene: Scene, ttl: Setting[int]
) -> None:
    heard = Heard()
    ttl.on_change(heard, **JIM)

    async def body() -> None:
        async with scene.client() as client:
            lock = client.client.modification_lock
            acquired = lock.acquire()
            assert acquired is True or (not isinstance(acquired, bool) and await acquired)
            scene.service.add_rule("ttl", 5, user="jim")
            reload = scene.backend.beside(client.reload)
            await scene.backend.until(lambda: scene.polls == 2, "the rules are fetched")
            assert heard.taken() == []
            lock.release()
            await scene.backend.until(lambda: reload.ended, "the reload goes on")
            assert heard.taken() == [(60, 5)]

    scene.run(body)


def test_rules_of_a_snapshot_are_told_and_the_services_only_where_they_differ(
    scene: Scene, tmp_path: Path, ttl: Setting[int]
) -> None:
    heard, names = Heard(), list[tuple[str, ...]]()
    path = tmp_path / "rules.snapshot"
    scene.service.add_rule("ttl", 5, user="jim")

    async def fill() -> None:
        async with scene.client(snapshot=path):
            await scene.backend.until(path.exists)

    async def body() -> None:
        nonlocal ttl
        ttl = Setting("ttl", int, ["environment", "user"], 60)
        ttl.on_change(heard, **JIM)
        scene.service.fault = unreachable()
        client = scene.client(snapshot=path, startup="continue")
        client.on_change(lambda event: names.append(event.names))
        async with client:
            assert heard.taken() == [(60, 5)]
            assert names == [("ttl",)]
            scene.service.fault = None
            await client.reload()
            assert heard.taken() == []
            assert names == [("ttl",)]

    scene.run(fill)
    del ttl
    scene.run(body)


def test_a_part_of_an_update_that_fails_is_told(scene: Scene, ttl: Setting[int]) -> None:
    heard = Heard()
    ttl.on_change(heard, **JIM)

    async def body() -> None:
        async with scene.client() as client:
            scene.service.add_rule("ttl", 5, user="jim")
            scene.service.answers["late"] = Response(503, {}, b"no")
            late = Setting("late", int, ["user"], 1)
            with pytest.raises(UnexpectedStatusError):
                await client.reload()
            assert heard.taken() == [(60, 5)]
            assert late.get(user="jim") == 1

    scene.run(body)


def test_another_client_that_takes_the_settings_over_tells_what_differs(
    scene: Scene, ttl: Setting[int]
) -> None:
    heard = Heard()
    ttl.on_change(heard, user="jim")
    scene.service.add_rule("ttl", 5, user="jim")
    scene.service.add_rule("ttl", 6, environment="dev", user="jim")

    async def body() -> None:
        async with scene.client():
            assert heard.taken() == [(60, 5)]
            successor = scene.client()
            successor.set_defaults(environment="dev")
            async with successor:
                assert heard.taken() == [(5, 6)]
            assert heard.taken() == []

    scene.run(body)


def test_a_setting_keeps_its_callbacks_and_they_do_not_keep_it(scene: Scene) -> None:
    heard = Heard()
    scene.service.add_rule("own", 5, user="jim")

    async def body() -> None:
        client = scene.client()
        client.on_change(print)
        async with client:
            own = Setting("own", int, ["user"], 60)
            own.on_change(heard, user="jim")
            gc.collect()
            client.add_settings([own])
            await client.reload()
            assert heard.taken() == [(60, 5)]
            kept = weakref.ref(own)
            own.on_change(lambda _, own=own: own.get(user="jim"))  # type: ignore[misc]
            del own
            gc.collect()
            assert kept() is None

    scene.run(body)


def test_a_start_that_fails_tells_nobody(scene: Scene, ttl: Setting[int]) -> None:
    heard, names = Heard(), list[tuple[str, ...]]()
    ttl.on_change(heard, **JIM)
    scene.service.add_rule("ttl", 5, user="jim")

    async def body() -> None:
        client = scene.client()
        client.on_change(lambda event: names.append(event.names))
        scene.service.fault = unreachable()
        with pytest.raises(ServiceUnreachableError):
            await client.set_as_main()
        assert (heard.values, names) == ([], [])
        scene.service.fault = None
        async with client:
            assert heard.taken() == [(60, 5)]
            assert names == [("ttl",)]

    scene.run(body)
