"""The service answers what the original answered, but for what ``differing_scenarios.txt`` lists."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass

import anyio
import httpx
import pytest
from service_process import DEADLINE, ServiceProcess
from transcript_replay import (
    Answer,
    Request,
    Scenario,
    as_ranges,
    known_differences,
    replay,
    replay_in_process,
    scenarios,
)

_ALL = scenarios()
_KNOWN = known_differences()


@dataclass
class _Count:
    """Scenarios and steps that were replayed, and how many of them were answered equally."""

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
def count(pytestconfig: pytest.Config) -> Iterator[_Count]:
    """The count of this run, which is shown when the last scenario is through."""
    counted = _Count()
    yield counted
    capture = pytestconfig.pluginmanager.get_plugin("capturemanager")
    with capture.global_and_fixture_disabled() if capture else nullcontext():
        print(
            f"\ntranscripts: {counted.equal_scenarios} of {counted.scenarios} scenarios and "
            f"{counted.equal_steps} of {counted.steps} steps are answered as recorded"
        )


def _check(scenario: Scenario, differences: dict[int, str]) -> None:
    """Differing in other steps than those that are listed is an error, in either direction."""
    expected, reason = _KNOWN.get(scenario.key, ("", ""))
    found = as_ranges(list(differences))
    if found == expected:
        return
    if not found:
        pytest.fail(f"no longer differs; remove its line: {scenario.key} :: {expected} :: {reason}")
    pytest.fail(
        f"differs in steps {found}, listed are {expected or 'none'}\n"
        + "\n".join(f"step {number}: {text}" for number, text in differences.items())
    )


@pytest.mark.parametrize("scenario", _ALL, ids=lambda scenario: scenario.key)
def test_in_process(scenario: Scenario, count: _Count) -> None:
    differences = asyncio.run(replay_in_process(scenario))
    count.add(len(scenario.steps), len(differences))
    _check(scenario, differences)


@pytest.mark.parametrize("scenario", scenarios("stories"), ids=lambda scenario: scenario.key)
def test_in_process_on_trio(scenario: Scenario) -> None:
    pytest.importorskip("trio")
    _check(scenario, anyio.run(replay_in_process, scenario, backend="trio"))


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
    """Sends through httpx, with no header but what the protocol looks at."""

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


def test_every_listed_difference_is_of_a_scenario_that_exists() -> None:
    assert _KNOWN.keys() <= {scenario.key for scenario in _ALL}
