"""Updates that the service answers with "unchanged" (304), on every backend: they do and keep nothing."""

from __future__ import annotations

import gc
import tracemalloc
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.harness import Harness
from support.published import code_of, published
from support.scenes import FEATURES, Scene

import heksher
from heksher import Setting
from heksher._rules import codegen, getter
from heksher._wire import Request, Response
from heksher._wire.queries import MAX_QUERY_LENGTH
from heksher.backends import run_blocking
from heksher.exceptions import UnexpectedStatusError
from heksher.setting import QueriedRule


@pytest.fixture
def scene(backend: Harness) -> Scene:
    return Scene(backend)


def statuses_of_queries(scene: Scene) -> list[int]:
    """Return a list that gets the status of each answer to a query from now on."""
    statuses: list[int] = []
    answer = scene.service.answer

    async def noting(request: Request) -> Response:
        response = await answer(request)
        if request.target.startswith("api/v1/query"):
            statuses.append(response.status)
        return response

    scene.service.answer = noting  # type: ignore[method-assign]
    return statuses


def test_nothing_is_read_decided_or_compiled(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    def note_calls(module: Any, name: str) -> None:
        function = getattr(module, name)

        def noting(*arguments: Any, **options: Any) -> Any:
            calls.append(name)
            return function(*arguments, **options)

        monkeypatch.setattr(module, name, noting)

    setting = Setting("cache_ttl", int, ["environment", "user"], 60)

    @setting.add_validator
    def note(value: int, rule: QueriedRule | None, of: Setting[int]) -> int:
        calls.append("validator")
        return value

    plain = Setting("plain", int, ["user"], 1)
    scene.service.add_rule("cache_ttl", 5, user="jim")
    scene.service.add_rule("plain", 2, user="jim")
    statuses = statuses_of_queries(scene)

    async def body() -> None:
        async with scene.client() as client:
            note_calls(getter, "decide")
            note_calls(codegen, "compile_source")
            calls.clear()
            before = [(published(each), code_of(each)) for each in (setting, plain)]
            for _ in range(3):
                await client.reload()
            assert statuses == [200, 304, 304, 304]
            assert not calls
            after = [(published(each), code_of(each)) for each in (setting, plain)]
            for old, new in zip(before, after, strict=True):
                assert all(one is other for one, other in zip(old, new, strict=True))
            # A changed answer is noticed in all of these ways.
            scene.service.add_rule("cache_ttl", 7, user="joe")
            await client.reload()
            assert statuses[4:] == [200]
            assert {"validator", "decide", "compile_source"} <= set(calls)
            assert setting.get(environment="dev", user="joe") == 7

    scene.run(body)


def blocks_held() -> int:
    """Return the number of blocks of memory that lines of the library allocated and that still exist."""
    gc.collect()
    ours = tracemalloc.Filter(True, str(Path(heksher.__file__).parent / "*"))
    snapshot = tracemalloc.take_snapshot().filter_traces([ours])
    return sum(each.count for each in snapshot.statistics("filename"))


# Many, since about thirty blocks belong to the calls under way, whose lines asyncio keeps in debug mode.
UPDATES = 400


def test_nothing_is_kept(backend: Harness, scene: Scene) -> None:
    settings = [Setting(f"s{n}", int, ["environment", "user"], n) for n in range(2)]
    scene.service.add_rule("s1", 5, user="jim")
    statuses: list[int] = []

    def answer(request: httpx.Request) -> httpx.Response:
        target = request.url.raw_path.decode().removeprefix("/")
        asked = Request(request.method, target, tuple(request.headers.items()), request.content)
        answered = run_blocking(scene.service.answer(asked))
        scene.service.requests.clear()
        statuses.append(answered.status)
        return httpx.Response(
            answered.status, headers=dict(answered.headers), content=answered.body
        )

    async def body() -> None:
        # With an HTTP client, so that everything around an update counts, too.
        options = {"http_client_args": {"transport": httpx.MockTransport(answer)}}
        async with backend.client("http://service.test", 1e6, FEATURES, **options) as client:

            async def update(times: int) -> None:
                for _ in range(times):
                    await client.reload()

            tracemalloc.start()
            try:
                await update(UPDATES // 8)
                before = blocks_held()
                statuses.clear()
                await update(UPDATES)
                kept = blocks_held() - before
                # The answers to: context features, query.
                assert statuses == [200, 304] * UPDATES
                # If each update kept something, it would be at least one block for each.
                assert kept < UPDATES / 10
                held = [client.status for _ in range(UPDATES)]
                assert blocks_held() - before >= len(held), "what is kept is seen"
            finally:
                tracemalloc.stop()
            assert settings[1].get(environment="dev", user="jim") == 5

    backend.run(body)


# --- a query in several parts -----------------------------------------------------------------------


def test_parts_of_a_query_may_be_unchanged_while_others_are_not(scene: Scene) -> None:
    settings = many_settings(scene)
    first, last = settings[0], settings[-1]
    statuses = statuses_of_queries(scene)

    def values() -> tuple[int, int]:
        return first.get(environment="dev", user="jim"), last.get(environment="dev", user="jim")

    async def body() -> None:
        async with scene.client() as client:
            assert statuses == [200, 200]
            assert values() == (1, 1)

            async def statuses_of_an_update() -> list[int]:
                statuses.clear()
                await client.reload()
                return list(statuses)

            scene.service.rules[last.name][0]["value"] = 2
            before = [published(each) for each in settings]
            assert await statuses_of_an_update() == [304, 200]
            assert values() == (1, 2)
            same = [published(each) is old for each, old in zip(settings, before, strict=True)]
            assert same == [*[True] * (len(settings) - 1), False]

            scene.service.rules[first.name][0]["value"] = 3
            assert await statuses_of_an_update() == [200, 304]
            assert values() == (3, 2)
            assert await statuses_of_an_update() == [304, 304]

            # A part that came is published, even if the next one fails.
            scene.service.rules[first.name][0]["value"] = 4
            scene.service.faults = [None, None, Response(500)]
            with pytest.raises(UnexpectedStatusError):
                await client.reload()
            assert values() == (4, 2)
            assert await statuses_of_an_update() == [304, 304]
            assert values() == (4, 2)

            # If a setting was deleted, all parts are requested again, and once more when it is declared.
            scene.service.delete(last.name)
            assert await statuses_of_an_update() == [304, 404, 200, 200, 304, 200]
            assert values() == (4, 0)
            scene.service.rules[first.name][0]["value"] = 5
            assert await statuses_of_an_update() == [200, 304]
            assert values() == (5, 0)

    scene.run(body)


def many_settings(scene: Scene) -> list[Setting[int]]:
    """Return settings with one rule each, so many that a query has two parts."""
    names = [f"{number:03}_{'x' * 100}" for number in range(MAX_QUERY_LENGTH // 80)]
    for name in names:
        scene.service.add_rule(name, 1, user="jim")
    return [Setting(name, int, ["environment", "user"], 0) for name in names]
