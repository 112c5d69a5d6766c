"""What starts and polls ask for, at the original service and at the library's own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from support.harness import Harness
from support.scenes import INTERVAL, Scene

from heksher import Setting
from heksher._wire import Request, Response
from heksher.status import DeclarationState

FEATURES = "GET v1/context_features"
QUERY = "GET v1/query"


@pytest.fixture
def scene(backend: Harness) -> Scene:
    return Scene(backend)


def own_settings(number: int) -> list[Setting[int]]:
    return [Setting(f"own{place}", int, ["environment", "user"], 0) for place in range(number)]


def store(scene: Scene, *names: str) -> None:
    """Let the service have settings of these names that no client has to declare."""
    for name in names:
        scene.service.settings[name] = {
            "name": name,
            "configurable_features": ["environment", "user"],
            "type": "int",
            "default_value": 0,
            "metadata": {},
            "aliases": [],
            "version": "1.0",
        }


def looked_up(scene: Scene) -> list[str]:
    """Return the targets of all requests about settings."""
    return [
        each.target.removeprefix("api/v1/settings")
        for each in scene.service.requests
        if each.method == "GET" and each.target.startswith("api/v1/settings")
    ]


LISTED = "?include_additional_data=true"


# --- starts ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("is_embedded", "number", "asked"),
    [
        pytest.param(False, 2, ["/own0", "/own1"], id="original"),
        pytest.param(False, 30, [LISTED], id="original, many"),
        pytest.param(True, 2, [f"{LISTED}&settings=own0,own1"], id="embedded"),
    ],
)
def test_a_start_asks_for_what_it_needs(
    scene: Scene, is_embedded: bool, number: int, asked: list[str]
) -> None:
    scene.service.is_embedded = is_embedded
    kept = own_settings(number)
    store(scene, "other", *(setting.name for setting in kept))

    async def body() -> None:
        async with scene.client() as client:
            assert looked_up(scene) == asked
            assert scene.service.count("POST v1/settings/declare") == 0
            declared = client.status.declarations.values()
            assert [each.state for each in declared] == [DeclarationState.UPTODATE] * number

    scene.run(body)


def test_a_long_list_of_names_is_split(scene: Scene) -> None:
    scene.service.is_embedded = True
    kept = [Setting(f"{'long' * 100}{place}", int, ["user"], 0) for place in range(40)]

    async def body() -> None:
        async with scene.client():
            parts = looked_up(scene)
            assert len(parts) > 1
            assert max(map(len, parts)) < 7_100
            assert scene.service.count("POST v1/settings/declare") == len(kept)

    scene.run(body)


@pytest.mark.parametrize("is_embedded", [False, True])
@pytest.mark.parametrize("status", [403, 404, 414])
def test_where_names_are_refused_all_settings_are_listed(
    scene: Scene, is_embedded: bool, status: int
) -> None:
    scene.service.is_embedded = is_embedded
    kept = own_settings(2)
    store(scene, "own0", "own1")
    answer = scene.service.answer

    async def refuse(request: Request) -> Response:
        if "own0" in request.target and "query" not in request.target:
            scene.service.requests.append(request)
            return Response(status, {}, b"404 page not found")
        return await answer(request)

    scene.service.answer = refuse  # type: ignore[method-assign]

    async def body() -> None:
        async with scene.client():
            assert looked_up(scene)[-1] == LISTED
            assert scene.service.count("POST v1/settings/declare") == 0

    scene.run(body)
    assert kept


@pytest.mark.parametrize(
    ("is_embedded", "asked"),
    [(False, "/later"), (True, f"{LISTED}&settings=later")],
    ids=["original", "embedded"],
)
def test_a_setting_that_is_defined_later_is_looked_up_alone(
    scene: Scene, is_embedded: bool, asked: str
) -> None:
    scene.service.is_embedded = is_embedded
    kept = own_settings(30)
    store(scene, "other", "later", *(setting.name for setting in kept))

    async def body() -> None:
        async with scene.client() as client:
            scene.service.requests.clear()
            kept.append(Setting("later", int, ["environment", "user"], 0))
            await scene.pass_time(INTERVAL)
            assert looked_up(scene) == [asked]
            assert client.status.declarations["later"].state is DeclarationState.UPTODATE

    scene.run(body)


@pytest.mark.parametrize("is_embedded", [False, True])
def test_renamed_and_deleted_settings_are_looked_up_alone(scene: Scene, is_embedded: bool) -> None:
    scene.service.is_embedded = is_embedded
    renamed, deleted = own_settings(2)
    store(scene, "own0", "own1", "other")

    async def body() -> None:
        async with scene.client() as client:
            scene.service.rename("own0", "new")
            scene.service.delete("own1")
            scene.service.add_rule("new", 5, user="jim")
            scene.service.requests.clear()
            await scene.pass_time(INTERVAL)
            assert renamed.get(environment="e", user="jim") == 5
            assert client.status.declarations["own0"].state is DeclarationState.RENAMED
            assert client.status.declarations["own1"].state is DeclarationState.CREATED
            assert LISTED not in looked_up(scene)

    scene.run(body)
    assert deleted.name == "own1"


# --- polls ----------------------------------------------------------------------------------------


def polls_of(scene: Scene, *stories: Callable[[], object]) -> list[list[str]]:
    """Start a client with one setting; return what it asks for in each poll, after each story."""
    kept = own_settings(1)
    store(scene, "own0", "other")
    found: list[list[str]] = []

    async def body() -> None:
        async with scene.client():
            for story in stories:
                story()
                scene.service.requests.clear()
                await scene.pass_time(INTERVAL)
                found.append(scene.service.log)

    scene.run(body)
    assert kept
    return found


def nothing() -> None:
    pass


def test_a_poll_is_one_request_until_the_features_change(scene: Scene) -> None:
    scene.service.is_embedded = True

    def change_rules() -> None:
        scene.service.add_rule("other", 1, user="jim")

    def change_features() -> None:
        scene.service.features.append("new")

    polls = polls_of(scene, nothing, change_rules, change_features, nothing)
    assert polls == [[QUERY], [QUERY], [QUERY, FEATURES, QUERY], [QUERY]]


def test_a_poll_of_the_original_service_is_two_requests(scene: Scene) -> None:
    assert polls_of(scene, nothing, nothing) == [[FEATURES, QUERY]] * 2


def test_a_service_that_is_replaced_by_the_original_is_asked_for_both(scene: Scene) -> None:
    scene.service.is_embedded = True

    def replaced() -> None:
        scene.service.is_embedded = False

    assert polls_of(scene, replaced, nothing) == [[QUERY, FEATURES], [FEATURES, QUERY]]


@pytest.mark.parametrize(
    ("stripped", "polls"),
    [
        (FEATURES, [[FEATURES, QUERY], [QUERY]]),
        (QUERY, [[FEATURES, QUERY], [FEATURES, QUERY]]),
    ],
)
def test_a_proxy_that_strips_the_revision_costs_at_most_a_request(
    scene: Scene, stripped: str, polls: list[list[str]]
) -> None:
    scene.service.is_embedded = True
    answer = scene.service.answer

    async def strip(request: Request) -> Response:
        response = await answer(request)
        if stripped.removeprefix("GET ") in request.target:
            headers = {k: v for k, v in response.headers.items() if k != "heksher-revision"}
            return replace(response, headers=headers)
        return response

    scene.service.answer = strip  # type: ignore[method-assign]
    assert [sorted(poll) for poll in polls_of(scene, nothing, nothing)] == polls


@pytest.mark.parametrize("is_embedded", [False, True])
def test_rules_are_published_with_the_order_of_their_time(scene: Scene, is_embedded: bool) -> None:
    """Also if the features change between two parts of a query, and the first one is unchanged."""
    scene.service.is_embedded = is_embedded
    kept = [
        Setting(f"{'long' * 50}{place}", int, ["environment", "user"], 0) for place in range(60)
    ]
    store(scene, *(setting.name for setting in kept))
    for setting in kept:
        scene.service.add_rule(setting.name, 1, environment="dev")
        scene.service.add_rule(setting.name, 2, user="jim")

    def values() -> set[int]:
        return {setting.get(environment="dev", user="jim") for setting in kept}

    async def body() -> None:
        async with scene.client() as client:
            assert values() == {2}
            arrived, go_on = scene.backend.event(), scene.backend.event()
            scene.service.hold("query", arrived, go_on)
            scene.service.requests.clear()
            poll = scene.backend.beside(client.reload)
            await arrived.wait()
            scene.service.features = ["user", "environment", "theme"]
            go_on.set()
            await scene.backend.until(lambda: poll.ended)
            assert poll.error is None
            if not is_embedded:
                await client.reload()
            assert values() == {1}

    scene.run(body)


def test_features_that_change_all_the_time_end_an_update(scene: Scene) -> None:
    scene.service.is_embedded = True
    kept = own_settings(1)
    store(scene, "own0")
    answer = scene.service.answer

    async def change(request: Request) -> Response:
        if "query" in request.target:
            scene.service.features.reverse()
            scene.service.add_rule("other", 1)
        return await answer(request)

    async def body() -> None:
        async with scene.client() as client:
            scene.service.answer = change  # type: ignore[method-assign]
            scene.service.requests.clear()
            await scene.pass_time(INTERVAL)
            assert scene.polls == 3
            assert "features changed during each of 3 queries" in str(client.status.last_error)

    scene.run(body)
    assert kept


def test_a_missing_feature_is_noticed_by_the_poll_that_follows(scene: Scene) -> None:
    scene.service.is_embedded = True
    scene.service.features = ["environment", "theme"]
    lacking: Setting[Any] = Setting("lacking", int, ["user"], 0)
    own = Setting("own0", int, ["environment"], 0)

    async def body() -> None:
        async with scene.client(startup="continue") as client:
            scene.service.features.append("user")
            await scene.pass_time(INTERVAL)
            assert client.status.declarations["lacking"].state is DeclarationState.CREATED

    scene.run(body)
    assert [each.name for each in (lacking, own)] == ["lacking", "own0"]
