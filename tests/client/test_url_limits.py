"""Something on the way to the service that refuses long URLs, on every backend."""

from __future__ import annotations

import math
import random

import pytest
from support.harness import Harness
from support.scenes import INTERVAL, Scene

from heksher import Setting
from heksher._wire import Response
from heksher.exceptions import DeclarationRejected, UnexpectedStatusError

#: What proxies and firewalls answer if a URL is too long.
STATUSES = [400, 403, 404, 414, 431]


@pytest.fixture
def scene(backend: Harness) -> Scene:
    return Scene(backend)


def some_settings(scene: Scene, number: int) -> list[Setting[int]]:
    names = [f"number_{place:04}" for place in range(number)]
    for name in names:
        scene.service.add_rule(name, 1, user="jim")
    return [Setting(name, int, ["user"], 0) for name in names]


def queries(scene: Scene) -> list[str]:
    """Return the targets of all queries since the last call."""
    targets = [each.target for each in scene.service.requests if "v1/query" in each.target]
    scene.service.requests.clear()
    return targets


@pytest.mark.parametrize("status", STATUSES)
def test_all_rules_arrive_whatever_length_gets_through(scene: Scene, status: int) -> None:
    settings = some_settings(scene, 1000)
    scene.service.longest_target, scene.service.too_long = 2000, status

    async def body() -> None:
        client = scene.client()
        async with client:
            assert [each.get(user="jim") for each in settings] == [1] * 1000
            assert not client.status.rejected_rules
            assert scene.service.count("GET v1/settings") == (2 if status == 404 else 1)
            first = [len(target) for target in queries(scene)]
            for setting in settings:
                scene.service.add_rule(setting.name, 2, user="joe")
            await scene.pass_time(INTERVAL)
            assert [each.get(user="joe") for each in settings] == [2] * 1000
            later = [len(target) for target in queries(scene)]
            assert max(later) <= 2000 < max(first), "the length is remembered"
            assert len(later) == 7, "and no shorter than it has to be"
            assert client.status.failures == 0

    scene.run(body)


def test_one_name_is_asked_for_before_a_query_is_split(scene: Scene) -> None:
    settings = some_settings(scene, 1000)

    async def body() -> None:
        async with scene.client():
            queries(scene)
            scene.service.longest_target = 2000
            await scene.pass_time(INTERVAL)
            lengths = [len(target) for target in queries(scene)]
            assert lengths[0] > 6900
            assert lengths[1] < 50
            assert 3400 < lengths[2] <= 3500
            assert 1700 < lengths[3] <= 1750
            assert settings

    scene.run(body)


@pytest.mark.parametrize("status", STATUSES)
def test_nothing_is_split_if_one_name_is_refused_as_well(scene: Scene, status: int) -> None:
    settings = some_settings(scene, 1000)

    async def body() -> None:
        async with scene.client() as client:
            queries(scene)
            scene.service.longest_target, scene.service.too_long = 10, status
            for _ in range(2):
                with pytest.raises(UnexpectedStatusError, match=str(status)):
                    await client.reload()
                requests = queries(scene)
                # With a 404, the settings are looked for first.
                assert len(requests) == (5 if status == 404 else 3)
                assert sum(len(target) < 50 for target in requests) == 1
            scene.service.longest_target = 10_000
            await client.reload()
            assert len(queries(scene)) == 2, "no shorter length is remembered"
            assert settings[0].get(user="jim") == 1

    scene.run(body)


@pytest.mark.parametrize("status", [401, 405, 422, 429, 500, 503])
def test_no_other_status_says_anything_about_the_length(scene: Scene, status: int) -> None:
    settings = some_settings(scene, 1000)

    async def body() -> None:
        async with scene.client() as client:
            queries(scene)
            scene.service.longest_target, scene.service.too_long = 2000, status
            with pytest.raises(UnexpectedStatusError, match=str(status)):
                await client.reload()
            assert [len(target) > 2000 for target in queries(scene)] == [True, True]
            assert settings

    scene.run(body)


def test_a_refusal_of_what_is_no_longer_than_what_is_answered_is_a_failure(scene: Scene) -> None:
    settings = some_settings(scene, 1000)

    async def body() -> None:
        async with scene.client() as client:
            queries(scene)
            # Features, the first part, and the second one, which is shorter.
            scene.service.faults = [None, None, Response(403)]
            with pytest.raises(UnexpectedStatusError, match="403"):
                await client.reload()
            assert len(queries(scene)) == 2
            assert settings

    scene.run(body)


def test_odd_refusals_do_not_make_queries_ever_shorter(scene: Scene) -> None:
    settings = some_settings(scene, 20)
    chance = random.Random(3)

    async def body() -> None:
        async with scene.client() as client:
            answer = scene.service.answer

            async def flaky(request: object) -> Response:
                response = await answer(request)  # type: ignore[arg-type]
                return Response(403) if chance.random() < 0.3 else response

            scene.service.answer = flaky  # type: ignore[method-assign]
            for _ in range(100):
                await scene.pass_time(INTERVAL)
            scene.service.answer = answer  # type: ignore[method-assign]
            queries(scene)
            await client.reload()
            assert len(queries(scene)) <= 2
            assert settings

    scene.run(body)


def test_longer_queries_are_tried_again_every_hour(scene: Scene) -> None:
    settings = some_settings(scene, 1000)
    scene.service.longest_target = 1000

    async def longest() -> int:
        queries(scene)
        await scene.pass_time(INTERVAL)
        return max(len(target) for target in queries(scene))

    async def body() -> None:
        async with scene.client():
            assert await longest() <= 1000
            scene.service.longest_target = math.inf
            assert await longest() <= 1000
            scene.clock.advance(3600 - 2 * INTERVAL)
            await scene.settled()
            assert await longest() > 1000
            assert await longest() > 1000
            assert settings

    scene.run(body)


def test_a_filter_that_leaves_no_room_for_names_is_left_out(scene: Scene) -> None:
    settings = some_settings(scene, 50)
    scene.service.longest_target = 2000

    async def body() -> None:
        client = scene.client()
        client.track_contexts(user=[f"somebody_{number}" for number in range(200)])
        client.track_contexts(user="jim")
        async with client:
            assert [each.get(user="jim") for each in settings] == [1] * 50
            queries(scene)
            await client.reload()
            (target,) = queries(scene)
            assert "context_filters" not in target

    scene.run(body)


def test_the_next_start_begins_with_the_length_that_was_found(scene: Scene) -> None:
    settings = some_settings(scene, 1000)
    scene.service.longest_target = 2000
    late = Setting("late", int, ["user"], 0)
    scene.service.answers["late"] = Response(422, {}, b"no")

    async def body() -> None:
        client = scene.client()
        with pytest.raises(DeclarationRejected):
            await client.set_as_main()
        assert max(len(target) for target in queries(scene)) > 2000
        del scene.service.answers["late"]
        async with client:
            assert max(len(target) for target in queries(scene)) <= 2000
            assert [each.get(user="jim") for each in settings] == [1] * 1000
            assert late.get(user="jim") == 0

    scene.run(body)
