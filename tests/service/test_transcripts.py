"""The service answers like the original, except for what ``differing_scenarios.txt`` lists."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass

import anyio
import httpx
import pytest
from support.databases import SQLITE, Database
from support.service_process import DEADLINE, ServiceProcess
from transcript_replay import (
    Answer,
    Difference,
    KnownDifferences,
    Request,
    Scenario,
    as_ranges,
    lines_of,
    replay,
    replay_in_process,
    replay_on_sqlite,
    scenarios,
)

_ALL = scenarios()
_KNOWN = KnownDifferences.read()


@dataclass
class _Count:
    """Numbers of replayed scenarios and steps on a database, and of equal answers."""

    scenarios: int = 0
    equal_scenarios: int = 0
    steps: int = 0
    equal_steps: int = 0

    def add(self, steps: int, differing: int) -> None:
        self.scenarios += 1
        self.equal_scenarios += not differing
        self.steps += steps
        self.equal_steps += steps - differing


@pytest.fixture(scope="module")
def counts(pytestconfig: pytest.Config) -> Iterator[defaultdict[str, _Count]]:
    """The counts of this run by database, printed after the last scenario."""
    counted = defaultdict[str, _Count](_Count)
    yield counted
    capture = pytestconfig.pluginmanager.get_plugin("capturemanager")
    with capture.global_and_fixture_disabled() if capture else nullcontext():
        for database, count in counted.items():
            print(
                f"\ntranscripts on {database}: {count.equal_scenarios} of {count.scenarios} "
                f"scenarios and {count.equal_steps} of {count.steps} steps are answered as recorded"
            )


def _check(scenario: Scenario, differences: dict[int, Difference]) -> None:
    """Fail if the differing steps or their answers are not exactly those in the list."""
    listed = {number: known.answer for number, known in _KNOWN.steps.get(scenario.key, {}).items()}
    found = {number: difference.answer for number, difference in differences.items()}
    if found == listed:
        return
    gone = as_ranges(sorted(listed.keys() - found.keys()))
    pytest.fail(
        f"the list is wrong; steps that do not differ: {gone or 'none'}; it should say\n"
        + "\n".join(lines_of(scenario, differences))
        + "\n\n"
        + "\n".join(
            f"step {number}: {difference.detail}"
            for number, difference in differences.items()
            if listed.get(number) != difference.answer
        )
    )


@pytest.mark.parametrize("scenario", _ALL, ids=lambda scenario: scenario.key)
def test_in_process(
    scenario: Scenario, database: Database, counts: defaultdict[str, _Count]
) -> None:
    if database is SQLITE:
        differences = replay_on_sqlite(scenario).differences
    else:
        app = database.fresh_app(scenario.features)
        differences = asyncio.run(replay_in_process(scenario, app))
    counts[database.name].add(len(scenario.steps), len(differences))
    _check(scenario, differences)


@pytest.mark.parametrize("scenario", scenarios("stories"), ids=lambda scenario: scenario.key)
def test_in_process_on_trio(scenario: Scenario, database: Database) -> None:
    pytest.importorskip("trio")
    app = database.fresh_app(scenario.features)
    _check(scenario, anyio.run(replay_in_process, scenario, app, backend="trio"))


def test_over_the_wire() -> None:
    """A few scenarios through sockets, uvicorn and a real HTTP client."""
    names = (
        "If-None-Match in all forms",
        "health: other methods",
        "methods of /settings/a",
        "trailing slash of /settings/a",
        "lone surrogates, duplicate keys, byte order mark, other encodings",
        "two applications at different versions of one setting",
    )
    chosen = [scenario for scenario in _ALL if scenario.name in names]
    assert len(chosen) == len(names)
    for scenario in chosen:
        with ServiceProcess() as service:
            url = service.start(features=scenario.features)
            with httpx.Client(base_url=url, timeout=DEADLINE, trust_env=False) as client:
                send = _Wire(client)
                _check(scenario, asyncio.run(replay(scenario, send, base=url)))


class _Wire:
    """Send with httpx, with only the headers that the protocol uses."""

    def __init__(self, client: httpx.Client) -> None:
        client.headers.clear()
        self._client = client

    async def __call__(self, request: Request) -> Answer:
        response = self._client.request(
            request.method,
            request.target,
            headers=httpx.Headers(
                [(name.encode(), value.strip().encode()) for name, value in request.headers]
            ),
            content=request.body or None,
        )
        return Answer(response.status_code, dict(response.headers), response.content)


def test_only_scenarios_that_exist_are_listed_and_no_fix_in_vain() -> None:
    assert _KNOWN.steps.keys() <= {scenario.key for scenario in _ALL}
    listed = {known.fix for steps in _KNOWN.steps.values() for known in steps.values()}
    assert listed == _KNOWN.fixes.keys()


def test_no_listed_answer_is_a_failure_of_the_server() -> None:
    assert [
        key
        for key, steps in _KNOWN.steps.items()
        if any(known.answer.startswith("5") for known in steps.values())
    ] == []
