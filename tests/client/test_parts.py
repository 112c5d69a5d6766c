"""What fails in an update costs nothing else, on every backend: each part that came counts."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from support.harness import Harness
from support.scenes import INTERVAL, Scene
from support.scripted import unreachable

from heksher import Setting
from heksher._wire import MAX_QUERY_LENGTH, Request, Response
from heksher.exceptions import ServiceUnreachableError, UnexpectedStatusError
from heksher.status import DataSource, DeclarationState


@pytest.fixture
def scene(backend: Harness) -> Scene:
    return Scene(backend)


def parts_of(scene: Scene, number: int) -> list[Setting[int]]:
    """Return settings with one rule each, so that a query for all of them takes *number* parts."""
    names = [f"s{part}_{'x' * (MAX_QUERY_LENGTH * 2 // 3)}" for part in range(number)]
    for name in names:
        scene.service.add_rule(name, 1, user="jim")
    return [Setting(name, int, ["user"], 0) for name in names]


def set_rules(scene: Scene, value: int) -> None:
    for (rule,) in scene.service.rules.values():
        rule["value"] = value


def values(settings: list[Setting[int]]) -> list[int]:
    return [setting.get(user="jim") for setting in settings]


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (unreachable(), ServiceUnreachableError),
        (Response(500, {}, b"oops"), UnexpectedStatusError),
        (Response(429, {}, b"slow down"), UnexpectedStatusError),
        (Response(405, {}, b"no"), UnexpectedStatusError),
    ],
    ids=["unreachable", "500", "429", "405"],
)
@pytest.mark.parametrize("failing", range(3))
def test_a_part_that_fails_costs_no_other(
    scene: Scene, failing: int, fault: Exception | Response, error: type[Exception]
) -> None:
    settings = parts_of(scene, 3)

    async def body() -> None:
        async with scene.client() as client:
            set_rules(scene, 2)
            scene.service.faults = [None] * (1 + failing) + [fault]
            with pytest.raises(error):
                await client.reload()
            assert values(settings) == [1 if part == failing else 2 for part in range(3)]
            assert client.status.failures == 1
            await client.reload()
            assert values(settings) == [2, 2, 2]
            assert client.status.failures == 0

    scene.run(body)


def test_the_newest_wait_that_the_service_asks_for_counts(scene: Scene) -> None:
    settings = parts_of(scene, 3)

    async def body() -> None:
        async with scene.client():
            busy = Response(503, {"retry-after": "40"})
            scene.service.faults = [None, busy, Response(500)]
            await scene.pass_time(INTERVAL)
            assert await scene.asked() == pytest.approx(40)
            assert values(settings) == [1, 1, 1]

    scene.run(body)


def test_an_update_gives_up_once_the_service_seems_to_be_gone(scene: Scene) -> None:
    settings = parts_of(scene, 8)

    async def body() -> None:
        async with scene.client() as client:
            polls = scene.polls
            set_rules(scene, 2)
            scene.service.faults = [None, None, *[unreachable()] * 8]
            with pytest.raises(ServiceUnreachableError):
                await client.reload()
            assert scene.polls == polls + 4, "each of them may take as long as a request may"
            scene.service.faults.clear()
            assert values(settings) == [2, *[1] * 7]

    scene.run(body)


def polls_until_fresh(scene: Scene, number: int, rounds: int) -> float:
    """Return how many polls it takes until all of *number* settings have new rules, on average."""
    chance = random.Random(7)
    # Their length makes a query of many settings as long as one of ten times as many.
    names = [f"number_{place:04}_of_{number}_settings".ljust(330, "_") for place in range(number)]
    settings = [Setting(name, int, ["user"], 0) for name in names]
    for name in names:
        scene.service.add_rule(name, 1, user="jim")
    polls = 0
    answer = scene.service.answer

    async def flaky(request: Request) -> Response:
        return Response(500) if chance.random() < 0.3 else await answer(request)

    async def body() -> None:
        nonlocal polls
        async with scene.client():
            scene.service.answer = flaky  # type: ignore[method-assign]
            for value in range(2, 2 + rounds):
                set_rules(scene, value)
                for _ in range(100):
                    polls += 1
                    await scene.pass_time(INTERVAL)
                    if values(settings) == [value] * number:
                        break
                else:
                    pytest.fail(f"not fresh after {polls} polls")

    scene.run(body)
    return polls / rounds


def test_many_settings_become_fresh_about_as_soon_as_few_on_a_bad_way(scene: Scene) -> None:
    few = polls_until_fresh(scene, 5, 30)
    many = polls_until_fresh(Scene(scene.backend), 150, 10)
    # 2.3 and 4.5 polls; when one part that failed cost all others, it took 32.
    assert few < 3
    assert many < 3 * few


def test_a_list_of_settings_that_fails_keeps_no_rules_away(scene: Scene) -> None:
    settings = parts_of(scene, 2)

    async def body() -> None:
        async with scene.client() as client:
            set_rules(scene, 2)
            arrived, go_on = scene.backend.event(), scene.backend.event()
            scene.service.hold("context_features", arrived, go_on)
            late = Setting("late", int, ["user"], 0)
            await arrived.wait()
            scene.service.faults = [Response(500)]
            go_on.set()
            await scene.backend.until(lambda: client.status.failures == 1, "the update ends")
            assert values(settings) == [2, 2]
            assert client.status.pending == ("late",)
            # The same for a setting that was deleted: the others come.
            scene.service.delete(settings[0].name)
            set_rules(scene, 3)
            await client.reload()
            assert values(settings)[1] == 3
            assert not client.status.pending
            assert late.get(user="jim") == 0

    scene.run(body)


def test_a_list_that_fails_after_a_deletion_keeps_no_rules_away(scene: Scene) -> None:
    settings = parts_of(scene, 3)

    async def body() -> None:
        async with scene.client() as client:
            scene.service.delete(settings[0].name)
            set_rules(scene, 2)
            # Features, three parts, and the first look-up.
            scene.service.faults = [None, None, None, None, Response(500)]
            with pytest.raises(UnexpectedStatusError):
                await client.reload()
            assert values(settings) == [1, 2, 2]
            await client.reload()
            assert client.status.declarations[settings[0].name].state is DeclarationState.CREATED

    scene.run(body)


def test_an_answer_that_lacks_a_setting_is_no_reason_to_ask_for_less(scene: Scene) -> None:
    settings = [Setting(name, int, ["user"], 0) for name in ("a", "b")]
    for setting in settings:
        scene.service.add_rule(setting.name, 1, user="jim")
    answer = scene.service.answer

    async def unchanged_half(request: Request) -> Response:
        if dict(request.headers).get("if-none-match") == '"half"':
            return Response(304)
        return await answer(request)

    async def body() -> None:
        async with scene.client() as client:
            set_rules(scene, 2)
            half = b'{"settings": {"a": {"rules": [], "default_value": 5}}}'
            # Features, the query, and the list.
            scene.service.faults = [None, Response(200, {"etag": '"half"'}, half), Response(500)]
            with pytest.raises(UnexpectedStatusError):
                await client.reload()
            assert values(settings) == [5, 1]
            scene.service.answer = unchanged_half  # type: ignore[method-assign]
            await client.reload()
            assert values(settings) == [2, 2]

    scene.run(body)


def test_a_declaration_that_does_not_reach_the_service_costs_no_other(scene: Scene) -> None:
    settings = [Setting(f"s{n}", int, ["user"], 0) for n in range(4)]
    for setting in settings:
        scene.service.add_rule(setting.name, 1, user="jim")

    async def body() -> None:
        # Features, a look-up of each setting, and the declarations, of which every second one fails.
        scene.service.faults = [None, *[None] * 4, unreachable(), None, unreachable(), None]
        async with scene.client(startup="continue") as client:
            assert client.status.failures == 1
            assert values(settings) == [0, 1, 0, 1]
            assert client.status.pending == ("s0", "s2")
            await client.reload()
            assert values(settings) == [1, 1, 1, 1]

    scene.run(body)


def test_what_came_is_in_force_while_a_start_still_waits_for_the_rest(scene: Scene) -> None:
    settings = parts_of(scene, 2)

    async def body() -> None:
        async with scene.client():
            pass
        set_rules(scene, 2)
        arrived, go_on = scene.backend.event(), scene.backend.event()
        scene.service.hold(f"query?settings={settings[1].name}", arrived, go_on)
        client = scene.client(startup="continue", startup_timeout=5)
        starting = scene.backend.beside(client.set_as_main)
        await arrived.wait()
        await scene.settled()
        scene.clock.advance(5)
        await scene.backend.until(lambda: starting.ended, "the start returns")
        assert values(settings) == [2, 1]
        go_on.set()
        await scene.backend.until(lambda: values(settings) == [2, 2], "the rest comes")
        await client.close()

    scene.run(body)


def test_a_client_is_ready_once_each_part_came_even_if_never_all_at_once(scene: Scene) -> None:
    settings = parts_of(scene, 2)

    async def body() -> None:
        async with scene.client():
            pass
        # Features, a look-up of each setting, and the parts, of which one after the other fails.
        scene.service.faults = [None, *[None] * 2, Response(500), None]
        async with scene.client(startup="continue") as client:
            assert not client.status.is_ready
            assert client.status.source is DataSource.DEFAULTS
            scene.service.faults = [None, None, Response(500)]
            await scene.pass_time(INTERVAL)
            assert client.status.failures == 2
            assert client.status.is_ready
            assert client.status.source is DataSource.SERVICE
            assert values(settings) == [1, 1]

    scene.run(body)


def test_a_client_is_not_ready_as_long_as_the_list_of_settings_fails(scene: Scene) -> None:
    settings = parts_of(scene, 2)

    async def body() -> None:
        scene.service.faults = [None, Response(500)]
        async with scene.client(startup="continue") as client:
            assert not client.status.is_ready
            await client.reload()
            assert client.status.is_ready
            assert values(settings) == [1, 1]

    scene.run(body)


def test_the_snapshot_keeps_each_part_that_came(scene: Scene, tmp_path: Path) -> None:
    settings = parts_of(scene, 2)
    path = tmp_path / "rules"

    async def body() -> None:
        async with scene.client(snapshot=path) as client:
            set_rules(scene, 2)
            scene.service.faults = [None, None, Response(500)]
            with pytest.raises(UnexpectedStatusError):
                await client.reload()
            await scene.settled()
        scene.service.fault = unreachable()
        async with scene.client(snapshot=path, startup="continue"):
            assert values(settings) == [2, 1]

    scene.run(body)


def test_the_snapshot_gets_a_part_of_which_the_service_knew_nothing_for_a_while(
    scene: Scene, tmp_path: Path
) -> None:
    settings = parts_of(scene, 2)
    path = tmp_path / "missing" / "rules"

    def kept() -> set[str]:
        return set(json.loads(path.read_bytes().partition(b"\n")[2])["settings"])

    async def body() -> None:
        async with scene.client(snapshot=path) as client:
            await scene.settled()
            path.parent.mkdir()
            set_rules(scene, 2)
            # Features, the parts, and the list.
            scene.service.faults = [None, Response(404), None, Response(500)]
            scene.service.rules[settings[0].name][0]["value"] = 1
            with pytest.raises(UnexpectedStatusError):
                await client.reload()
            await scene.settled()
            assert kept() == {settings[1].name}
            for _ in range(2):
                await scene.pass_time(INTERVAL)
            assert kept() == {each.name for each in settings}

    scene.run(body)


def test_a_snapshot_does_not_undo_what_came(scene: Scene, tmp_path: Path) -> None:
    settings = parts_of(scene, 2)
    path = tmp_path / "rules"

    async def body() -> None:
        async with scene.client(snapshot=path):
            await scene.settled()
        kept = path.read_bytes()
        set_rules(scene, 2)
        # Features, a look-up of each setting, and the parts, of which the second one fails.
        scene.service.faults = [None, *[None] * 2, None, Response(500)]
        async with scene.client(snapshot=path, startup="continue") as client:
            assert values(settings) == [2, 1]
            await scene.settled()
            path.write_bytes(kept)
            scene.service.fault = unreachable()
            client.track_contexts(user="jim")  # so that the file is read again
            await scene.pass_time(INTERVAL)
            assert values(settings) == [2, 1]

    scene.run(body)
