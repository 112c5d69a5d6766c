"""Cases of declarations and updates that need a certain order of events, on every backend."""

from __future__ import annotations

import socket

import pytest
import trio
import trio.testing
from support.harness import Harness, TrioHarness
from support.scenes import INTERVAL, Scene
from support.scripted import unreachable

from heksher import Setting
from heksher._wire import Response
from heksher.backends._http.errors import client_closed
from heksher.backends._http.slot import Slot, SlotTrace
from heksher.exceptions import (
    DeclarationRejected,
    MissingFeatureError,
    ServiceUnreachableError,
    UnexpectedStatusError,
)


@pytest.fixture
def scene(backend: Harness) -> Scene:
    return Scene(backend)


def test_a_value_tracked_later_is_fetched_although_the_request_stays_the_same(scene: Scene) -> None:
    color = Setting("color", str, ["theme_2"], "white")
    scene.service.features.append("theme_2")
    scene.service.add_rule("color", "black", theme_2="dark")
    scene.service.add_rule("color", "red", theme_2="loud")

    async def body() -> None:
        client = scene.client()
        # The service would misread a filter on this name, so none is sent.
        client.track_contexts(theme_2="dark")
        async with client:
            assert "context_filters" not in scene.service.requests[-1].target
            assert color.get(theme_2="loud") == "white"
            client.track_contexts(theme_2="loud")
            await client.reload()
            assert color.get(theme_2="loud") == "red"

    scene.run(body)


def test_an_equal_setting_defined_later_gets_the_rules_too(scene: Scene) -> None:
    scene.service.add_rule("ttl", 5, user="jim")

    async def body() -> None:
        first = Setting("ttl", int, ["user"], 60)
        async with scene.client():
            await scene.settled()
            second = Setting("ttl", int, ["user"], 60)
            await scene.backend.until(lambda: second.get(user="jim") == 5, "its rules arrive")
            assert first.get(user="jim") == 5
            assert scene.service.count("POST v1/settings/declare") == 1

    scene.run(body)


def test_a_setting_defined_later_has_the_defaults_at_once(scene: Scene) -> None:
    async def body() -> None:
        async with scene.client() as client:
            client.set_defaults(environment="dev")
            await scene.settled()
            arrived, go_on = scene.backend.event(), scene.backend.event()
            scene.service.hold("v1/settings", arrived, go_on)
            late = Setting("late", int, ["environment", "user"], 1)
            await arrived.wait()
            assert late.get(user="jim") == 1
            with pytest.raises(MissingFeatureError, match="'user'"):
                late.get()
            go_on.set()

    scene.run(body)


def test_a_refused_new_setting_is_neither_asked_for_nor_declared_time_and_again(
    scene: Scene,
) -> None:
    refused = Setting("refused", int, ["user"], 1)
    other = Setting("other", int, ["user"], 1)
    scene.service.answers["refused"] = Response(422, {}, b"not this one")

    async def body() -> None:
        async with scene.client(startup="continue") as client:
            for number in range(3):
                scene.service.add_rule("other", number, user="jim")
                await scene.pass_time(INTERVAL)
            assert other.get(user="jim") == 2
            assert client.status.failures == 0
            assert refused.get(user="jim") == 1
            assert scene.service.count("POST v1/settings/declare") == 2
            looked_up = [line for line in scene.service.log if line.startswith("GET v1/settings")]
            assert looked_up == ["GET v1/settings/other", "GET v1/settings/refused"]

    scene.run(body)


def test_a_new_setting_whose_later_version_is_refused_is_served_as_the_first_one(
    scene: Scene,
) -> None:
    grown = Setting("grown", int, ["user"], 1, version="2.0")
    scene.service.answers["grown 2.0"] = Response(409, {}, b'{"outcome": "rejected"}')
    scene.service.add_rule("grown", 5, user="jim")

    async def body() -> None:
        async with scene.client(startup="continue"):
            assert "grown" in scene.service.settings
            assert grown.get(user="jim") == 5

    scene.run(body)


def test_a_start_refused_for_one_setting_puts_no_other_in_force(scene: Scene) -> None:
    refused = Setting("refused", int, ["user"], 1)
    other = Setting("other", int, ["user"], 1)
    scene.service.answers["refused"] = Response(422, {}, b"not this one")
    scene.service.add_rule("other", 5, user="jim")

    async def body() -> None:
        with pytest.raises(DeclarationRejected, match="HTTP 422: not this one"):
            await scene.client().set_as_main()
        assert other.get(user="jim") == 1
        assert other.get() == refused.get() == 1

    scene.run(body)


def test_a_declaration_that_fails_is_tried_again_and_delays_no_other(scene: Scene) -> None:
    failing = Setting("failing", int, ["user"], 1)
    other = Setting("other", int, ["user"], 1)
    scene.service.answers["failing"] = Response(500, {}, b"Internal Server Error")
    scene.service.add_rule("failing", 4, user="jim")
    scene.service.add_rule("other", 5, user="jim")

    async def body() -> None:
        async with scene.client(startup="continue") as client:
            assert other.get(user="jim") == 5
            assert client.status.failures == 1
            assert isinstance(client.status.last_error, UnexpectedStatusError)
            assert failing.get(user="jim") == 1
            del scene.service.answers["failing"]
            await scene.pass_time(INTERVAL)
            assert failing.get(user="jim") == 4
            assert client.status.failures == 0

    scene.run(body)


def test_a_second_start_declares_again_what_the_service_has_lost(scene: Scene) -> None:
    ttl = Setting("ttl", int, ["user"], 60)

    async def body() -> None:
        client = scene.client()
        scene.service.faults = [None, None, None, unreachable()]
        with pytest.raises(ServiceUnreachableError):
            await client.set_as_main()
        assert "ttl" in scene.service.settings
        scene.service.delete("ttl")
        async with client:
            assert "ttl" in scene.service.settings
            scene.service.add_rule("ttl", 5, user="jim")
            await client.reload()
            assert ttl.get(user="jim") == 5

    scene.run(body)


def test_a_service_that_refuses_a_name_that_it_lists_itself_costs_that_setting_one_update(
    scene: Scene,
) -> None:
    ttl = Setting("ttl", int, ["user"], 60)

    async def body() -> None:
        async with scene.client() as client:
            unknown = Response(404, {}, b"the following are not setting names: ['ttl']")
            scene.service.faults = [None, unknown, None, unknown]
            await client.reload()
            (rejected,) = client.status.rejected_rules
            assert "404: the following are not setting names: ['ttl']" in rejected.reason
            scene.service.add_rule("ttl", 5, user="jim")
            await client.reload()
            assert ttl.get(user="jim") == 5
            assert not client.status.rejected_rules

    scene.run(body)


def test_what_is_dropped_is_logged_once_however_often_it_comes(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    ttl = Setting("ttl", int, ["user"], 60)
    scene.service.add_rule("ttl", "soon", user="joe")

    async def body() -> None:
        async with scene.client() as client:
            for number in range(3):
                scene.service.add_rule("ttl", number, user=f"user{number}")
                await client.reload()
                assert ttl.get(user=f"user{number}") == number

    scene.run(body)
    assert sum("'soon' is not an int" in record.message for record in caplog.records) == 1


def test_a_setting_that_was_added_to_a_client_stays_there_when_another_becomes_main(
    scene: Scene,
) -> None:
    own = Setting("own", int, ["user"], 1)
    common = Setting("common", int, ["user"], 1)

    async def body() -> None:
        former = scene.client()
        former.add_settings([own])
        async with former, scene.client() as latter:
            scene.service.add_rule("own", 5, user="jim")
            scene.service.add_rule("common", 6, user="jim")
            await latter.reload()
            assert (own.get(user="jim"), common.get(user="jim")) == (1, 6)
            await former.reload()
            assert own.get(user="jim") == 5

    scene.run(body)


def test_an_event_that_was_set_and_lowered_again_wakes_nobody() -> None:
    async def body() -> None:
        event = TrioHarness().event()
        event.set()
        event.clear()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(event.wait)
            with trio.fail_after(10):
                # It neither returns nor spins.
                await trio.testing.wait_all_tasks_blocked()
            assert len(nursery.child_tasks) == 1
            event.set()

    trio.run(body)


def test_a_connection_that_is_made_after_the_end_of_its_request_is_shut_down() -> None:
    class Stream:
        def __init__(self, connection: socket.socket) -> None:
            self._connection = connection

        def get_extra_info(self, name: str) -> object:
            return self._connection if name == "socket" else None

    ours, theirs = socket.socketpair()
    with ours, theirs:
        slot = Slot(None, False)
        slot.end(client_closed)
        SlotTrace(slot).trace("connection.connect_tcp.complete", {"return_value": Stream(ours)})
        assert theirs.recv(1) == b""
