"""The requests of a start, on every backend: no more than needed, and one at a time."""

from __future__ import annotations

import anyio.lowlevel
import pytest
from support.harness import Harness
from support.scenes import Scene

from heksher import Setting
from heksher._wire import Request, Response
from heksher.exceptions import StartupTimeoutError


@pytest.fixture
def scene(backend: Harness) -> Scene:
    return Scene(backend)


def some_settings(number: int) -> list[Setting[int]]:
    return [Setting(f"s{n}", int, ["environment", "user"], n) for n in range(number)]


FEW = ["GET v1/context_features", "GET v1/settings", "GET v1/query"]


def test_settings_that_are_up_to_date_cost_no_request_of_their_own(scene: Scene) -> None:
    settings = some_settings(500)

    async def body() -> None:
        async with scene.client():
            pass
        scene.service.requests.clear()
        scene.service.add_rule("s499", 7, user="jim")
        async with scene.client():
            assert scene.service.log == FEW
            assert settings[499].get(environment="dev", user="jim") == 7

    scene.run(body)


def test_new_settings_are_declared_once_each_and_one_after_another(scene: Scene) -> None:
    settings = some_settings(30)
    under_way: list[Request] = []
    answer = scene.service.answer

    async def watching(request: Request) -> Response:
        under_way.append(request)
        assert under_way == [request]
        if not scene.backend.backend.blocking:
            await anyio.lowlevel.checkpoint()  # another request could start here
        try:
            return await answer(request)
        finally:
            under_way.remove(request)

    scene.service.answer = watching  # type: ignore[method-assign]

    async def body() -> None:
        async with scene.client():
            declarations = ["POST v1/settings/declare"] * len(settings)
            assert scene.service.log == [*FEW[:2], *declarations, *FEW[2:]]

    scene.run(body)


def test_a_start_goes_on_where_one_that_was_given_up_came_to(scene: Scene) -> None:
    settings = some_settings(5)

    async def body() -> None:
        passed, arrived, never = (scene.backend.event() for _ in range(3))
        passed.set()
        for _ in range(2):
            scene.service.hold("declare", scene.backend.event(), passed)
        scene.service.hold("declare", arrived, never)
        client = scene.client(startup_timeout=5)
        starting = scene.backend.beside(client.set_as_main)
        await arrived.wait()
        await scene.settled()
        scene.clock.advance(6)
        await scene.backend.until(lambda: starting.ended, "the start is given up")
        assert isinstance(starting.error, StartupTimeoutError)
        assert sorted(scene.service.settings) == ["s0", "s1", "s2"]
        scene.service.requests.clear()
        async with client:
            assert scene.service.count("POST v1/settings/declare") == 2
            assert [each.get(environment="dev", user="jim") for each in settings] == [*range(5)]

    scene.run(body)
