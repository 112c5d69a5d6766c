"""Something on the way to the service that refuses long URLs, or words in them, on every backend."""

from __future__ import annotations

import itertools
import math
import random

import pytest
from support.harness import Harness
from support.scenes import INTERVAL, Scene

from heksher import Setting
from heksher._wire import Request, Response
from heksher.exceptions import DeclarationRejected, ServiceError, UnexpectedStatusError

#: What proxies and firewalls answer if a URL is too long. Some send their page with status 200.
STATUSES = [200, 400, 403, 404, 414, 431]


@pytest.fixture
def scene(backend: Harness) -> Scene:
    return Scene(backend)


def some_settings(scene: Scene, number: int, end: str = "") -> list[Setting[int]]:
    names = [f"number_{place:04}{end}" for place in range(number)]
    for name in names:
        scene.service.add_rule(name, 1, user="jim")
    return [Setting(name, int, ["user"], 0) for name in names]


def long_settings(scene: Scene, number: int) -> list[Setting[int]]:
    """Return settings whose names have 55 characters: few of them make a long query."""
    return some_settings(scene, number, end="_" * 44)


def queries(scene: Scene) -> list[str]:
    """Return the targets of all queries since the last call."""
    targets = [each.target for each in scene.service.requests if "v1/query" in each.target]
    scene.service.requests.clear()
    return targets


@pytest.mark.spread
@pytest.mark.parametrize("status", STATUSES)
def test_all_rules_arrive_whatever_length_gets_through(scene: Scene, status: int) -> None:
    settings = long_settings(scene, 200)
    scene.service.longest_target, scene.service.too_long = 2000, status

    async def body() -> None:
        client = scene.client()
        async with client:
            assert [each.get(user="jim") for each in settings] == [1] * 200
            assert not client.status.rejected_rules
            assert scene.service.count("GET v1/settings") == (2 if status == 404 else 1)
            first = [len(target) for target in queries(scene)]
            for setting in settings:
                scene.service.add_rule(setting.name, 2, user="joe")
            await scene.pass_time(INTERVAL)
            assert [each.get(user="joe") for each in settings] == [2] * 200
            later = [len(target) for target in queries(scene)]
            assert max(later) <= 2000 < max(first), "the length is remembered"
            assert len(later) == 7, "and no shorter than it has to be"
            assert client.status.failures == 0

    scene.run(body)


def test_one_name_is_asked_for_before_a_query_is_split(scene: Scene) -> None:
    settings = long_settings(scene, 200)

    async def body() -> None:
        async with scene.client():
            queries(scene)
            scene.service.longest_target = 2000
            await scene.pass_time(INTERVAL)
            lengths = [len(target) for target in queries(scene)]
            assert lengths[0] > 6900
            assert lengths[1] < 100
            assert 3400 < lengths[2] <= 3600
            assert lengths[3] < 100
            assert 1700 < lengths[4] <= 1800
            assert settings

    scene.run(body)


@pytest.mark.spread
@pytest.mark.parametrize("status", STATUSES)
def test_nothing_is_split_if_single_names_are_refused_as_well(scene: Scene, status: int) -> None:
    settings = long_settings(scene, 200)

    async def body() -> None:
        async with scene.client() as client:
            queries(scene)
            scene.service.longest_target, scene.service.too_long = 10, status
            for _ in range(2):
                with pytest.raises(
                    ServiceError, match="malformed" if status == 200 else str(status)
                ):
                    await client.reload()
                requests = queries(scene)
                # With a 404, the settings are looked for first.
                assert len(requests) == (6 if status == 404 else 4)
                assert sum(len(target) < 100 for target in requests) == 2
            scene.service.longest_target = 10_000
            await client.reload()
            assert len(queries(scene)) == 2, "no shorter length is remembered"
            assert settings[0].get(user="jim") == 1

    scene.run(body)


@pytest.mark.spread
@pytest.mark.parametrize("status", [401, 405, 422, 429, 500, 503])
def test_no_other_status_says_anything_about_the_length(scene: Scene, status: int) -> None:
    settings = long_settings(scene, 200)

    async def body() -> None:
        async with scene.client() as client:
            queries(scene)
            scene.service.longest_target, scene.service.too_long = 2000, status
            with pytest.raises(UnexpectedStatusError, match=str(status)):
                await client.reload()
            assert [len(target) > 2000 for target in queries(scene)] == [True, True]
            assert settings

    scene.run(body)


def test_an_odd_refusal_costs_few_requests_and_no_rule(scene: Scene) -> None:
    settings = long_settings(scene, 150)

    async def body() -> None:
        async with scene.client() as client:
            queries(scene)
            for setting in settings:
                scene.service.add_rule(setting.name, 2, user="joe")
            # Features, the first part, and the second one.
            scene.service.faults = [None, None, Response(403)]
            await client.reload()
            assert [each.get(user="joe") for each in settings] == [2] * 150
            assert len(queries(scene)) == 4, "two halves instead of the second part"
            await client.reload()
            assert len(queries(scene)) == 2, "and nothing is remembered"

    scene.run(body)


def test_an_odd_refusal_of_one_setting_is_over_with_the_next_poll(scene: Scene) -> None:
    settings = some_settings(scene, 2)
    refusal = Response(403, {}, b"no")

    async def body() -> None:
        async with scene.client() as client:
            for setting in settings:
                scene.service.add_rule(setting.name, 2, user="joe")
            # Features, both names, a probe, and the first name.
            scene.service.faults = [None, refusal, None, refusal]
            await scene.pass_time(INTERVAL)
            assert [each.get(user="joe") for each in settings] == [0, 2]
            (rejected,) = client.status.rejected_rules
            assert rejected.setting == settings[0].name
            assert "403" in rejected.reason
            await scene.pass_time(INTERVAL)
            assert [each.get(user="joe") for each in settings] == [2, 2]
            assert not client.status.rejected_rules

    scene.run(body)


@pytest.mark.spread
@pytest.mark.parametrize("status", [200, 403, 404])
def test_a_setting_whose_name_is_refused_costs_no_other(
    scene: Scene, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    settings = some_settings(scene, 150)
    odd = settings[77]
    answer, numbers = scene.service.answer, itertools.count()

    async def filtered(request: Request) -> Response:
        response = await answer(request)
        if "v1/query" in request.target and odd.name in request.target:
            return Response(status, {}, b"rejected, support ID %d" % next(numbers))
        return response

    scene.service.answer = filtered  # type: ignore[method-assign]

    async def poll() -> int:
        await scene.pass_time(INTERVAL)
        return len(queries(scene))

    async def body() -> None:
        async with scene.client() as client:
            others = [each for each in settings if each is not odd]
            assert [each.get(user="jim") for each in others] == [1] * 149
            assert odd.get(user="jim") == 0
            (rejected,) = client.status.rejected_rules
            assert rejected.setting == odd.name
            assert ("malformed" if status == 200 else str(status)) in rejected.reason
            assert client.status.failures == 0
            assert 10 < len(queries(scene)) < 30
            # All others, and the name that was refused.
            assert [await poll(), await poll()] == [2, 2]
            assert client.status.failures == 0
            # By reload() the name is looked for again, and every hour.
            await client.reload()
            assert 10 < len(queries(scene)) < 30
            assert await poll() == 2
            scene.clock.advance(3600 - INTERVAL)
            await scene.settled()
            queries(scene)
            assert await poll() > 10
            assert await poll() == 2
            scene.service.answer = answer  # type: ignore[method-assign]
            assert await poll() == 2
            assert odd.get(user="jim") == 1
            assert not client.status.rejected_rules
            assert await poll() == 1

    scene.run(body)
    mentions = [each for each in caplog.messages if "dropped" in each]
    # For each time that it was looked for, unless that was logged before.
    assert len(mentions) == (1 if status == 200 else 3)


@pytest.mark.spread
@pytest.mark.parametrize("status", [200, 403])
def test_the_only_setting_can_be_refused_as_well(scene: Scene, status: int) -> None:
    (setting,) = some_settings(scene, 1)
    answer, refused = scene.service.answer, [setting.name]

    async def filtered(request: Request) -> Response:
        response = await answer(request)
        is_refused = "v1/query" in request.target and any(map(request.target.count, refused))
        return Response(status, {}, b"rejected") if is_refused else response

    scene.service.answer = filtered  # type: ignore[method-assign]

    async def body() -> None:
        async with scene.client() as client:
            (rejected,) = client.status.rejected_rules
            assert rejected.setting == setting.name
            assert client.status.failures == 0
            # In an outage nothing is answered, and the update fails.
            refused.append("query")
            queries(scene)
            await scene.pass_time(INTERVAL)
            assert client.status.failures == 1
            assert len(queries(scene)) == 2
            refused.clear()
            await scene.pass_time(INTERVAL)
            assert setting.get(user="jim") == 1
            assert not client.status.rejected_rules

    scene.run(body)


def test_short_names_that_are_refused_keep_no_rules_away_for_long(scene: Scene) -> None:
    settings = some_settings(scene, 10)
    odd = [Setting(name, int, ["user"], 0) for name in ("drop_a", "drop_b")]
    for setting in odd:
        scene.service.add_rule(setting.name, 1, user="jim")
    answer = scene.service.answer

    async def filtered(request: Request) -> Response:
        response = await answer(request)
        is_refused = "v1/query" in request.target and "drop" in request.target
        return Response(403) if is_refused else response

    scene.service.answer = filtered  # type: ignore[method-assign]

    async def body() -> None:
        async with scene.client(startup="continue") as client:
            assert client.status.failures == 1
            await scene.pass_time(INTERVAL)
            assert [each.get(user="jim") for each in settings] == [1] * 10
            assert {each.setting for each in client.status.rejected_rules} == {"drop_a", "drop_b"}
            assert client.status.failures == 0

    scene.run(body)


def test_a_filter_with_a_word_that_is_refused_is_left_out(scene: Scene) -> None:
    settings = some_settings(scene, 100)
    answer = scene.service.answer

    async def filtered(request: Request) -> Response:
        response = await answer(request)
        return Response(403) if "select" in request.target else response

    scene.service.answer = filtered  # type: ignore[method-assign]

    async def body() -> None:
        client = scene.client()
        client.track_contexts(user=["jim", "select"])
        async with client:
            assert [each.get(user="jim") for each in settings] == [1] * 100
            assert not client.status.rejected_rules
            assert len(queries(scene)) == 4, "with and without, and a name with and without"
            await scene.pass_time(INTERVAL)
            assert len(queries(scene)) == 1

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
    settings = long_settings(scene, 200)
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
    settings = long_settings(scene, 200)
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
            assert [each.get(user="jim") for each in settings] == [1] * 200
            assert late.get(user="jim") == 0

    scene.run(body)
