"""Promise three in full: every fault of the table, on every backend, at every moment.

``pytest tests/faults/test_fault_matrix.py`` runs each fault on each backend at one moment, alternating
between the moments. ``--all-moments`` runs all cells, and ``--save-faults`` saves the results for
docs/reliability.md.
"""

from __future__ import annotations

import json
import logging
import re
import ssl
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from fault_cases import CASES, GROUPS, STARTUP_TIMEOUT, TIMEOUT, Case, Moment
from fault_scene import FEATURES, Scene, logged, transitions
from support.harness import HARNESSES, PATIENCE, Harness

from heksher.exceptions import HeksherError
from heksher.status import ClientState
from heksher.testing.faults.proxy import FaultProxy
from heksher.testing.service import LiveService

#: Maximum CPU time of a call of `get`, in nanoseconds. A call that takes longer waits actively or loops.
LONGEST_GET = 50_000_000

#: Made once, because that takes longer than many cells.
TRUSTING_NOBODY = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

UPDATES = {True: "fail", False: "go on", None: "fail now and then"}

#: Maximum number of updates that may end without the newest state after a fault: the current one, and
#: one more. Each begins within an interval.
LATE = 2


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Generate the requested cells."""
    if "moment" not in metafunc.fixturenames:
        return
    cells: list[Any] = []
    for place, case in enumerate(CASES):
        for shift, harness in enumerate(HARNESSES):
            possible = [each for each in Moment if case.why_not(each, harness.name) is None]
            turn = possible[(place + shift) % len(possible)]
            for moment in Moment if metafunc.config.getoption("--all-moments") else [turn]:
                name = f"{case}-{harness.name}-{moment}"
                cells.append(pytest.param(case, harness, moment, id=name))
    metafunc.parametrize(("case", "harness", "moment"), cells)


@pytest.fixture(scope="module")
def shared_service() -> Iterator[LiveService]:
    """A service in a child process, so that it takes no time from the clients."""
    with LiveService(FEATURES, proxy=False) as service:
        yield service


@pytest.fixture(scope="module")
def _proxy_of_all(shared_service: LiveService) -> Iterator[FaultProxy]:
    with FaultProxy(shared_service.direct_url) as proxy:
        yield proxy


@pytest.fixture
def shared_proxy(shared_service: LiveService, _proxy_of_all: FaultProxy) -> FaultProxy:
    """The proxy in front of the service, reset."""
    proxy = _proxy_of_all
    proxy.service_url = shared_service.direct_url
    proxy.faults.clear()
    proxy.resume()
    return proxy


@pytest.fixture(scope="module")
def keep_result(request: pytest.FixtureRequest) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Save the last result of each cell, if results are to be saved."""
    results: dict[tuple[str, ...], dict[str, Any]] = {}

    def keep(result: dict[str, Any]) -> None:
        results[tuple(result[key] for key in ("fault", "backend", "moment"))] = result

    yield keep
    saved: Path | None = request.config.getoption("--save-faults")
    if saved is not None:
        saved.parent.mkdir(parents=True, exist_ok=True)
        saved.write_text("".join(json.dumps(result) + "\n" for result in results.values()))


def test_a_fault_costs_freshness_and_nothing_else(
    case: Case,
    harness: type[Harness],
    moment: Moment,
    shared_service: LiveService,
    shared_proxy: FaultProxy,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    keep_result: Callable[[dict[str, Any]], None],
) -> None:
    result: dict[str, Any] = {
        "group": next(group for group, cases in GROUPS.items() if case in cases),
        "fault": case.name,
        "backend": harness.name,
        "moment": str(moment),
    }
    if moment is Moment.START and case.at_start is not None:
        case = case.at_start
    why_not = case.why_not(moment, harness.name)
    if why_not is not None:
        keep_result({**result, "impossible": why_not})
        pytest.skip(why_not)
    keep_result({**result, "failed": True})  # until it has passed
    caplog.set_level(logging.INFO, "heksher")
    shared_service.empty(FEATURES)
    with ExitStack() as stack:
        proxy = shared_proxy
        if case.tls:
            proxy = stack.enter_context(FaultProxy(shared_service.direct_url, tls=True))
        given = options(case, proxy)
        scene = Scene(harness(), shared_service, proxy, given, tmp_path, stack)
        case.prepare(scene)
        scene.create_rules()
        cell = Cell(case, scene)
        scene.backend.run(lambda: cell.play(moment))
    check_log(scene, logged(caplog))
    keep_result(
        {
            **result,
            "updates": UPDATES[case.fails],
            "gets": scene.reader.calls,
            "get_cpu_us": round(scene.reader.cpu / 1e3, 1),
            "get_wall_ms": round(scene.reader.wall / 1e6, 2),
            "start_ms": round(scene.longest_start * 1e3),
            "close_ms": round(scene.longest_close * 1e3),
            "catch_up_ms": None if cell.catch_up is None else round(cell.catch_up * 1e3),
        }
    )


def options(case: Case, proxy: FaultProxy) -> dict[str, Any]:
    """Arguments for clients that detect problems quickly and ignore the machine's configuration."""
    trusting = TRUSTING_NOBODY if proxy.certificates is None else proxy.certificates.trusting()
    arguments: dict[str, Any] = {"trust_env": False, "verify": trusting}
    bounds = {
        "request_timeout": TIMEOUT if case.hangs else PATIENCE,
        "startup_timeout": case.startup_timeout,
        "max_response_bytes": 1_000_000,
    }
    return {"http_client_args": arguments, **bounds}


def check_log(scene: Scene, lines: list[str]) -> None:
    """Check that the log has one line for each transition and no repetitions."""
    counted = transitions(scene.ended)
    for what in ("fail", "succeed again"):
        told = [line for line in lines if re.match(rf"updates from \S+ {what},", line)]
        assert len(told) == counted[what], (lines, scene.ended)
    others = Counter(line for line in lines if not line.startswith(("updates from", "started on")))
    assert all(count <= scene.starts for count in others.values()), others
    assert not [line for line in lines if "unforeseen" in line]


class Cell:
    """A fault at a moment, and the assertions for all of them.

    Attributes:
        catch_up: seconds from the end of the fault until the newest state had arrived.
    """

    def __init__(self, case: Case, scene: Scene) -> None:
        self.case = case
        self.scene = scene
        self.catch_up: float | None = None
        self._holds_thread = case.holds_thread(scene.backend)
        # On a busy machine, a request with a short timeout may fail without a fault.
        self._tries = 3 if case.hangs else 1

    async def play(self, moment: Moment) -> None:
        scene = self.scene
        self._leftovers = scene.leftovers()
        scene.read_on()
        try:
            await {
                Moment.START: self._at_start,
                Moment.POLLING: self._while_polling,
                Moment.RELOAD: self._during_a_reload,
                Moment.CLOSING: self._while_closing,
            }[moment]()
        finally:
            scene.reader.end()
            await scene.close()
            await self.case.clean_up(scene)
        await scene.reading_ended()
        await self._leftovers.gone(scene.backend)
        reader = scene.reader
        assert not reader.wrong
        assert reader.cpu < LONGEST_GET
        assert scene.longest_start < PATIENCE
        assert scene.longest_close < PATIENCE

    async def _at_start(self) -> None:
        case, scene = self.case, self.scene
        await self._begin()
        strict = scene.add_client(startup="raise")
        raised = False
        try:
            await scene.start(strict)
        except HeksherError:
            raised = True
            if not self._holds_thread:
                await self._leftovers.gone(scene.backend)
        if case.fails is not None:
            assert raised == case.fails
        if raised:
            bounds = {"startup_timeout": STARTUP_TIMEOUT} if case.hangs else {}
            await scene.start(scene.add_client(startup="continue", **bounds))
        assert scene.client.status.state is ClientState.RUNNING
        await self._meet()
        await self._end()
        if raised and not case.is_final:
            await scene.client.close()
            await self._until_done(lambda: scene.start(strict))
            assert scene.is_newest

    async def _while_polling(self) -> None:
        await self._start()
        await self._begin()
        await self._meet()
        await self._end()

    async def _during_a_reload(self) -> None:
        case, scene = self.case, self.scene
        await self._start()
        await self._begin()
        raised = False
        try:
            await scene.client.reload()
        except HeksherError:
            raised = True
        if case.fails is not None:
            assert raised == case.fails
        if case.delivers and not raised:
            assert scene.is_newest
        await self._meet()
        await self._end()
        scene.write()
        await self._until_done(scene.client.reload)
        assert scene.is_newest

    async def _while_closing(self) -> None:
        case, scene = self.case, self.scene
        await self._start()
        await self._begin()
        await scene.backend.until(lambda: case.is_under_way(scene, self._began), "it is in it")
        await scene.close()
        assert scene.client.status.state is ClientState.CLOSED
        if not self._holds_thread:
            await self._leftovers.gone(scene.backend)
        await case.end(scene)

    async def _start(self) -> None:
        scene = self.scene
        await scene.start(scene.add_client(startup="continue"))
        await scene.newest()

    async def _until_done(self, call: Callable[[], Awaitable[None]]) -> None:
        for _ in range(self._tries - 1):
            try:
                await call()
            except HeksherError:
                continue
            return
        await call()

    async def _begin(self) -> None:
        """Start the fault, and write if possible."""
        case, scene = self.case, self.scene
        await case.begin(scene)
        self._began = len(scene.ended)
        if case.writable:
            scene.write()

    async def _meet(self) -> None:
        """Wait until the client has met the fault, and check what it reports."""
        case, scene = self.case, self.scene
        calls = scene.reader.calls
        if self._holds_thread:
            await scene.backend.until(lambda: case.is_under_way(scene, self._began), "it is in it")
        else:
            enough = 2 if case.fails is False or not case.hangs else 1
            await scene.backend.until(
                lambda: scene.count(self._began, failures=case.fails is not False) >= enough,
                "updates end",
            )
            await scene.tells(case.told)
        if case.delivers:
            await scene.newest()
        if case.fails is False:
            assert not scene.client.status.failures
        # The reader was not blocked.
        await scene.backend.until(lambda: scene.reader.calls > calls, "reading goes on")

    async def _end(self) -> None:
        """End the fault, and check that the client catches up."""
        case, scene = self.case, self.scene
        await case.end(scene)
        scene.write()
        mark, began = len(scene.ended), time.perf_counter()
        await scene.newest()
        self.catch_up = time.perf_counter() - began
        late = [each for each in scene.ended[mark:] if not each.is_newest]
        assert len(late) < LATE + self._tries, late
        await scene.backend.until(lambda: not scene.client.status.failures, "it is well again")
