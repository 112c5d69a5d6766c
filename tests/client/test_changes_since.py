"""Answers with the sections that changed since a revision, and what may go wrong with them, everywhere."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from urllib.parse import parse_qs

import pytest
from support.harness import Harness
from support.scenes import INTERVAL, Scene

from heksher import Setting
from heksher._wire import Request, Response
from heksher._wire.queries import MAX_QUERY_LENGTH
from heksher.testing.service import LiveService

FEATURES = "GET v1/context_features"
QUERY = "GET v1/query"


@pytest.fixture
def scene(backend: Harness) -> Scene:
    scene = Scene(backend)
    scene.service.is_embedded = True
    return scene


class Queries:
    """The queries that a service gets from now on, and its answers to them.

    Attributes:
        asked: the revision of each query, or None.
        brought: the names of the settings in each answer, or its status if it has none.
        change: changes each answer; it may raise.
    """

    def __init__(self, scene: Scene) -> None:
        self._answer = scene.service.answer
        self.asked: list[str | None] = []
        self.brought: list[list[str] | int] = []
        self.change: Callable[[Request, Response], Response] = lambda _request, response: response
        scene.service.answer = self._note  # type: ignore[method-assign]

    async def _note(self, request: Request) -> Response:
        response = await self._answer(request)
        path, _, query = request.target.partition("?")
        if path != "api/v1/query":
            return response
        since = parse_qs(query).get("since", [None])[0]
        response = self.change(request, response)
        self.asked.append(since)
        is_answer = response.status == 200 and response.body.endswith(b"}")
        self.brought.append(
            [*json.loads(response.body)["settings"]] if is_answer else response.status
        )
        return response

    def take(self) -> list[tuple[bool, list[str] | int]]:
        """Return and forget, of each query, whether it had a revision, and what its answer brought."""
        taken = [(each is not None) for each in self.asked]
        found = [*zip(taken, self.brought, strict=True)]
        self.asked.clear()
        self.brought.clear()
        return found


def three(scene: Scene) -> list[Setting[int]]:
    """Return settings a, b and c, each with a rule for jim."""
    settings = [Setting(name, int, ["environment", "user"], 0) for name in "abc"]
    for setting in settings:
        scene.service.add_rule(setting.name, 1, user="jim")
    return settings


def values(settings: list[Setting[int]]) -> list[int]:
    return [setting.get(environment="dev", user="jim") for setting in settings]


def change(scene: Scene, name: str, value: int) -> None:
    scene.service.rules[name][0]["value"] = value


EVERYTHING = (False, ["a", "b", "c"])


def without_header(name: str) -> Callable[[Request, Response], Response]:
    def strip(_request: Request, response: Response) -> Response:
        headers = {key: value for key, value in response.headers.items() if key != name}
        return replace(response, headers=headers)

    return strip


# --- what is asked for ----------------------------------------------------------------------------


def test_only_what_changed_is_sent(scene: Scene) -> None:
    settings = three(scene)

    async def body() -> None:
        async with scene.client() as client:
            queries = Queries(scene)
            for name, value, expected in (("b", 5, [1, 5, 1]), ("c", 6, [1, 5, 6])):
                change(scene, name, value)
                scene.service.requests.clear()
                await scene.pass_time(INTERVAL)
                assert queries.take() == [(True, [name])]
                assert values(settings) == expected
                # The context features are those of before, or everything would have come.
                assert scene.service.log == [QUERY]
            scene.service.requests.clear()
            await scene.pass_time(INTERVAL)
            assert queries.take() == [(True, 304)]
            assert scene.service.log == [QUERY]
            assert client.status.failures == 0

    scene.run(body)


def test_changes_of_settings_of_others_cost_nothing(scene: Scene) -> None:
    settings = three(scene)

    async def body() -> None:
        async with scene.client():
            queries = Queries(scene)
            for name in "de":
                scene.service.settings[name] = scene.service.settings["a"]
                scene.service.requests.clear()
                await scene.pass_time(INTERVAL)
                assert queries.take() == [(True, 304)]
                assert scene.service.log == [QUERY]
            assert values(settings) == [1, 1, 1]

    scene.run(body)


def test_the_original_service_is_not_asked_for_changes(scene: Scene) -> None:
    scene.service.is_embedded = False
    settings = three(scene)

    async def body() -> None:
        async with scene.client():
            queries = Queries(scene)
            change(scene, "b", 5)
            await scene.pass_time(INTERVAL)
            assert queries.take() == [EVERYTHING]
            assert values(settings) == [1, 5, 1]

    scene.run(body)


def test_rules_may_vanish_from_a_changed_setting(scene: Scene) -> None:
    settings = three(scene)

    async def body() -> None:
        async with scene.client():
            scene.service.rules["b"].clear()
            await scene.pass_time(INTERVAL)
            assert values(settings) == [1, 0, 1]

    scene.run(body)


def test_each_part_has_its_own_revision(scene: Scene) -> None:
    names = [f"{number:02}_{'x' * 200}" for number in range(MAX_QUERY_LENGTH // 150)]
    settings = [Setting(name, int, ["environment", "user"], 0) for name in names]
    for name in names:
        scene.service.add_rule(name, 1, user="jim")

    async def body() -> None:
        async with scene.client():
            queries = Queries(scene)
            change(scene, names[0], 2)
            await scene.pass_time(INTERVAL)
            assert queries.take() == [(True, [names[0]]), (True, 304)]
            # The second part fails, so that its revision is older than that of the first one.
            change(scene, names[0], 3)
            change(scene, names[-1], 3)
            scene.service.faults = [None, Response(500)]
            await scene.pass_time(INTERVAL)
            assert queries.take() == [(True, [names[0]]), (True, 500)]
            change(scene, names[0], 4)
            await scene.pass_time(INTERVAL)
            (first, second) = queries.take()
            assert first == (True, [names[0]])
            assert second[0] is False
            assert values(settings) == [4, *[1] * (len(names) - 2), 3]

    scene.run(body)


@pytest.mark.parametrize("reason", ["tracking", "setting", "features", "validator"])
def test_everything_is_asked_for_where_the_last_answer_was_to_another_question(
    scene: Scene, reason: str
) -> None:
    settings = three(scene)

    async def body() -> None:
        async with scene.client() as client:
            queries = Queries(scene)
            change(scene, "b", 5)
            if reason == "tracking":
                client.track_contexts(user=["jim"], environment="dev", theme="dark")
            elif reason == "setting":
                scene.service.add_rule("d", 1, user="jim")
                settings.append(Setting("d", int, ["environment", "user"], 0))
            elif reason == "validator":
                settings[0].add_validator(lambda value, _rule, _setting: value)
            else:
                scene.service.features.reverse()
            await scene.pass_time(INTERVAL)
            # A query that finds other features is begun anew.
            full = [each for each in queries.take() if not isinstance(each[1], int)][-1]
            assert len(full[1] if isinstance(full[1], list) else []) == len(settings)
            assert values(settings)[:3] == [1, 5, 1]

    scene.run(body)


def test_a_reload_asks_for_everything_after_changes(scene: Scene) -> None:
    settings = three(scene)

    async def body() -> None:
        async with scene.client() as client:
            queries = Queries(scene)
            await client.reload()
            assert queries.take() == [(False, 304)]
            change(scene, "b", 5)
            await scene.pass_time(INTERVAL)
            await scene.pass_time(INTERVAL)
            assert queries.take() == [(True, ["b"]), (True, 304)]
            await client.reload()
            await client.reload()
            assert queries.take() == [EVERYTHING, (False, 304)]
            assert values(settings) == [1, 5, 1]

    scene.run(body)


def test_renamed_and_deleted_settings_are_followed(scene: Scene) -> None:
    settings = three(scene)

    async def body() -> None:
        async with scene.client():
            change(scene, "a", 2)
            await scene.pass_time(INTERVAL)
            scene.service.rename("a", "new")
            change(scene, "new", 3)
            scene.service.delete("c")
            await scene.pass_time(INTERVAL)
            assert values(settings) == [3, 1, 0]
            change(scene, "new", 4)
            await scene.pass_time(INTERVAL)
            assert values(settings) == [4, 1, 0]

    scene.run(body)


@pytest.mark.integration
def test_polls_of_the_real_service_bring_only_changes(backend: Harness) -> None:
    """Also after polls that brought nothing."""
    size = 50_000
    large = Setting("large", str, ["user"], "x" * size)
    small = Setting("small", int, ["user"], 0)

    async def body() -> None:
        with LiveService(["user"], proxy=False) as service:
            async with backend.client(service.url, 0.05, ["user"]) as client:
                assert large.get(user="jim") == "x" * size
                received = client.status.bytes_received

                async def see(value: int) -> None:
                    service.set_value(small, value)
                    await backend.until(lambda: small.get(user="jim") == value)
                    polls = client.status.polls
                    await backend.until(lambda: client.status.polls > polls + 2)

                for value in range(1, 4):
                    await see(value)
                assert client.status.failures == 0
                assert client.status.bytes_received - received < size

    backend.run(body)


# --- what may go wrong ----------------------------------------------------------------------------


def test_a_partial_answer_without_its_header_is_completed(scene: Scene) -> None:
    settings = three(scene)

    async def body() -> None:
        async with scene.client() as client:
            queries = Queries(scene)
            queries.change = without_header("heksher-partial")
            change(scene, "b", 5)
            await scene.pass_time(INTERVAL)
            assert queries.take() == [(True, ["b"]), EVERYTHING]
            assert values(settings) == [1, 5, 1]
            assert not client.status.rejected_rules
            assert {each.state.value for each in client.status.declarations.values()} == {"created"}

    scene.run(body)


def test_an_answer_without_a_revision_ends_it(scene: Scene) -> None:
    settings = three(scene)

    async def body() -> None:
        async with scene.client():
            queries = Queries(scene)
            queries.change = without_header("heksher-revision")
            for value in (5, 6):
                change(scene, "b", value)
                await scene.pass_time(INTERVAL)
                assert values(settings) == [1, value, 1]
            assert queries.take() == [(True, ["b"]), EVERYTHING]

    scene.run(body)


def test_a_partial_answer_that_was_not_asked_for_counts_as_everything(scene: Scene) -> None:
    """It is an error of the service, which the status shows, and not a sign that nothing changed."""
    settings = three(scene)

    def confused(_request: Request, response: Response) -> Response:
        if response.status != 200:
            return response
        sections = json.loads(response.body)["settings"]
        body = json.dumps({"settings": {"b": sections["b"]}}).encode()
        return Response(200, {"heksher-partial": "1"}, body)

    async def body() -> None:
        async with scene.client() as client:
            queries = Queries(scene)
            queries.change = confused
            client.track_contexts(user="jim")
            change(scene, "b", 5)
            await scene.pass_time(INTERVAL)
            assert values(settings) == [1, 5, 1]
            assert sorted(rule.setting for rule in client.status.rejected_rules) == ["a", "c"]

    scene.run(body)


def test_other_parts_of_a_query_are_left_alone(scene: Scene) -> None:
    """Else what an answer says of a setting of another part would hold as long as that one is the same."""
    names = [f"{number:02}_{'x' * 200}" for number in range(MAX_QUERY_LENGTH // 150)]
    settings = [Setting(name, int, ["environment", "user"], 0) for name in names]
    for name in names:
        scene.service.add_rule(name, 1, user="jim")

    def confused(request: Request, response: Response) -> Response:
        if names[0] not in request.target or response.status != 200:
            return response
        sections = json.loads(response.body)["settings"]
        sections[names[-1]] = {"rules": [], "default_value": 7}
        return replace(response, body=json.dumps({"settings": sections}).encode())

    async def body() -> None:
        async with scene.client():
            queries = Queries(scene)
            queries.change = confused
            change(scene, names[0], 2)
            await scene.pass_time(INTERVAL)
            assert values(settings) == [2, *[1] * (len(names) - 1)]

    scene.run(body)


def broken(_request: Request, response: Response) -> Response:
    return replace(response, body=response.body[:-3])


def failing(_request: Request, _response: Response) -> Response:
    return Response(503)


@pytest.mark.parametrize("fault", [broken, failing])
def test_after_a_failure_everything_is_asked_for(
    scene: Scene, fault: Callable[[Request, Response], Response]
) -> None:
    settings = three(scene)

    async def body() -> None:
        async with scene.client() as client:
            queries = Queries(scene)
            change(scene, "b", 5)
            queries.change, sound = fault, queries.change
            await scene.pass_time(INTERVAL)
            assert client.status.failures == 1
            queries.take()
            queries.change = sound
            await scene.pass_time(INTERVAL)
            assert queries.take() == [EVERYTHING]
            assert values(settings) == [1, 5, 1]
            change(scene, "b", 6)
            await scene.pass_time(INTERVAL)
            assert queries.take() == [(True, ["b"])]

    scene.run(body)


@pytest.mark.parametrize("status", [200, 400, 403, 414])
def test_what_refuses_the_revision_costs_a_request(scene: Scene, status: int) -> None:
    settings = three(scene)

    def refuse(request: Request, response: Response) -> Response:
        return Response(status) if "since=" in request.target else response

    async def body() -> None:
        async with scene.client() as client:
            queries = Queries(scene)
            queries.change = refuse
            change(scene, "b", 5)
            await scene.pass_time(INTERVAL)
            # The second query finds out whether anything is answered.
            assert queries.take() == [(True, status), (False, ["a"]), EVERYTHING]
            assert values(settings) == [1, 5, 1]
            assert client.status.failures == 0
            change(scene, "b", 6)
            await scene.pass_time(INTERVAL)
            assert queries.take() == [EVERYTHING]
            assert values(settings) == [1, 6, 1]
            # It is tried again later.
            for _ in range(100):
                await scene.pass_time(INTERVAL)
            assert queries.take().count((True, status)) in (1, 2)

    scene.run(body)


def test_a_revision_that_cannot_be_sent_back_is_none(scene: Scene) -> None:
    settings = three(scene)

    def strange(_request: Request, response: Response) -> Response:
        return replace(response, headers={**response.headers, "heksher-revision": "r" * 5000})

    async def body() -> None:
        async with scene.client():
            queries = Queries(scene)
            queries.change = strange
            for value in (5, 6):
                change(scene, "b", value)
                await scene.pass_time(INTERVAL)
            assert queries.take() == [(True, ["b"]), EVERYTHING]
            assert values(settings) == [1, 6, 1]

    scene.run(body)


def test_an_old_division_of_the_settings_proves_nothing_later(scene: Scene) -> None:
    """The rules change while a long query is made, and back when it is divided again."""
    settings = three(scene)
    kept = [Setting(f"{number}_{'x' * 1000}", int, ["user"], 0) for number in range(4)]

    async def update(value: int) -> None:
        change(scene, "b", value)
        await scene.pass_time(INTERVAL)
        assert values(settings) == [1, value, 1]

    async def body() -> None:
        async with scene.client():
            scene.service.longest_target = 2_000
            await update(5)
            scene.service.longest_target = 10_000
            await scene.pass_time(3600)
            await update(6)
            scene.service.longest_target = 2_000
            await update(5)
            assert kept

    scene.run(body)


def test_a_snapshot_has_what_came_as_changes(scene: Scene, tmp_path: Path) -> None:
    settings = three(scene)
    path = tmp_path / "rules"

    async def body() -> None:
        async with scene.client(snapshot=path) as client:
            queries = Queries(scene)
            change(scene, "b", 5)
            await scene.pass_time(INTERVAL)
            assert queries.take() == [(True, ["b"])]
            assert client.status.snapshot is not None
            assert client.status.snapshot.error is None
            saved = json.loads(path.read_bytes().partition(b"\n")[2])["settings"]
            assert {name: each["rules"][0]["value"] for name, each in saved.items()} == {
                "a": 1,
                "b": 5,
                "c": 1,
            }
            # Without the file, changes do not suffice.
            path.unlink()
            change(scene, "c", 6)
            await scene.pass_time(INTERVAL)
            await scene.pass_time(INTERVAL)
            assert queries.take() == [(True, ["c"]), EVERYTHING]
            saved = json.loads(path.read_bytes().partition(b"\n")[2])["settings"]
            assert sorted(saved) == ["a", "b", "c"]
            assert values(settings) == [1, 5, 6]

    scene.run(body)
