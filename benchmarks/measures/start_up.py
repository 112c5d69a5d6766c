"""How long does it take from making a client until its rules are published?

A client starts and closes, on asyncio, on trio and in threads. The embedded service runs in a process of
its own and is reached over the loopback interface. The floor is the time of the same requests by httpx
alone, one after another over one connection, with the HTTP client that suits the backend:
``httpx.AsyncClient`` in an event loop, ``httpx.Client`` in threads.

- Two settings, and 1,500 settings that the service already has. The floor repeats the
  requests of the start.
- 300 settings that are new to the service. The floor declares as many other new settings.
- 300 new settings with a service in memory, compared with 150: the time for each of them.

Conclusion: a ratio of 1 would be the cost of network and service alone. The rest is decoding and
compiling, which shows with 1,500 settings. New settings cost little more than their declarations, and
twice as many take twice as long.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeAlias

import httpx
import pytest
import trio
from machinery.answers import FEATURES, Answers
from machinery.ratio_table import Ratios

from heksher import AsyncHeksherClient, Setting, ThreadHeksherClient, testing
from heksher.service.domain.records import SettingRecord
from heksher.service.storage import open_storage
from heksher.status import DeclarationState
from heksher.testing.service import LiveService

Backend: TypeAlias = Literal["asyncio", "trio", "threads"]
BACKENDS: tuple[Backend, ...] = ("asyncio", "trio", "threads")
TOKEN = secrets.token_urlsafe()
#: trust_env: requests to this machine must not go through a proxy of the environment.
CLIENT_ARGS = {"headers": {"api_token": TOKEN}, "trust_env": False}
#: The file that the service keeps its data in.
DATABASE = "settings.sqlite"
#: A request: its method, its URL, and its body if it is a declaration.
Asked: TypeAlias = tuple[str, str, dict[str, Any] | None]


@pytest.fixture
def service(tmp_path: Path) -> Iterator[LiveService]:
    logging.getLogger("heksher").addHandler(logging.NullHandler())
    with LiveService(
        FEATURES, database=tmp_path / DATABASE, api_token=TOKEN, proxy=False
    ) as service:
        yield service


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    yield
    testing.reset()


# --- settings that the service has ----------------------------------------------------------------


def measure_a_start(service: LiveService, ratios: Ratios) -> None:
    settings: list[Setting[Any]] = [
        Setting("cache_ttl", int, ["environment", "user"], 60),
        Setting("background_color", str, ["environment", "theme"], "white"),
    ]
    compare_known("start and close", service, ratios, rounds=9)
    assert settings  # a client does not keep them alive


def measure_a_start_with_known_settings(
    service: LiveService, tmp_path: Path, ratios: Ratios
) -> None:
    number = 20 if ratios.quick else 1_500
    settings = new_settings(f"known{place}" for place in range(number))
    # Straight to the database, since declaring them takes longer than all that is measured.
    with (
        closing(open_storage(str(tmp_path / DATABASE), ())) as storage,
        storage.writing() as writer,
    ):
        for each in settings:
            features = tuple(each.configurable_features)
            writer.add_setting(SettingRecord(each.name, "int", "60", "1.0", features, {}, ()))
    compare_known(f"start with {number:,} settings known", service, ratios, rounds=5)
    assert settings


def compare_known(title: str, service: LiveService, ratios: Ratios, *, rounds: int) -> None:
    """Compare starts on each backend with the same requests by httpx alone."""
    asked = asked_by_a_start(service)
    for backend in BACKENDS:
        compare(
            ratios,
            f"{title}, {backend} (floor: its {len(asked)} requests)",
            partial(start, backend, service),
            partial(ask, backend, asked),
            rounds=rounds,
        )


# --- settings that are new to it ------------------------------------------------------------------


@pytest.mark.parametrize("backend", BACKENDS)
def measure_a_start_with_new_settings(
    backend: Backend, service: LiveService, ratios: Ratios
) -> None:
    number = 20 if ratios.quick else 300
    ours, floor = New(service, backend, number), Declared(service, backend, number)
    compare(
        ratios,
        f"start with {number} new settings, {backend} (floor: {number} posts)",
        ours.start,
        floor.post,
        ours.prepare,
        rounds=3,
        at_most=1.3,
    )


def measure_whether_new_settings_add_up(ratios: Ratios) -> None:
    number = 20 if ratios.quick else 300
    everything, half = NewInMemory(number), NewInMemory(number // 2)
    compare(
        ratios,
        f"start with {number} new settings in memory, for each of them (floor: with {number // 2})",
        everything.start,
        half.start,
        everything.prepare,
        half.prepare,
        rounds=15,
        at_most=1.2,
        for_each=(number, number // 2),
    )


class New:
    """Starts with settings that the service does not have; each start has new ones."""

    def __init__(self, service: LiveService, backend: Backend, number: int) -> None:
        self._service = service
        self._backend: Backend = backend
        self._number = number
        self._round = 0
        self._settings: list[Setting[int]] = []

    def prepare(self) -> None:
        """Define the settings of the next start, and forget those of the last one."""
        testing.reset()
        self._round += 1
        names = (f"ours{self._round}.{place}" for place in range(self._number))
        self._settings = new_settings(names)

    def start(self) -> None:
        """Start a client and close it."""
        declarations = start(self._backend, self._service)
        assert declarations == {each.name: DeclarationState.CREATED for each in self._settings}


class NewInMemory:
    """Starts with settings that are new to a service in memory, to measure only the client."""

    def __init__(self, number: int) -> None:
        self._answers = Answers(number, 0)
        self._settings: list[Setting[int]] = []
        self._declared = 0

    def prepare(self) -> None:
        """Define the settings of the next start, and forget those of the last one."""
        testing.reset()
        self._settings = new_settings(self._answers.names)

    def start(self) -> None:
        """Start a client and close it."""
        self._declared = 0
        options: dict[str, Any] = {"transport": httpx.MockTransport(self._answer)}
        with ThreadHeksherClient(
            "http://memory", 60, FEATURES, http_client_args=options, startup="raise"
        ):
            assert self._declared == len(self._settings)

    def _answer(self, request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/settings"):
            return httpx.Response(200, json={"settings": []})
        self._declared += request.method == "POST"
        return self._answers.answer(request)


class Declared:
    """Declares settings that the service does not have; each call has new ones."""

    def __init__(self, service: LiveService, backend: Backend, number: int) -> None:
        self._service = service
        self._backend: Backend = backend
        self._number = number
        self._round = 0

    def post(self) -> None:
        """Declare as many settings as a start does."""
        self._round += 1
        url = f"{self._service.url}/api/v1/settings/declare"
        names = [f"floor{self._round}.{index}" for index in range(self._number)]
        ask(self._backend, [("POST", url, declaration(name)) for name in names])


def new_settings(names: Iterable[str]) -> list[Setting[int]]:
    return [Setting(name, int, ["environment", "user"], 60) for name in names]


def declaration(name: str) -> dict[str, Any]:
    """Return the declaration that a client makes for one of `new_settings`."""
    return {
        "name": name,
        "configurable_features": ["environment", "user"],
        "type": "int",
        "default_value": 60,
        "metadata": {},
        "version": "1.0",
    }


# --- both -----------------------------------------------------------------------------------------


def compare(
    ratios: Ratios,
    title: str,
    ours: Callable[[], object],
    floor: Callable[[], object],
    *prepare: Callable[[], None],
    rounds: int,
    at_most: float | None = None,
    for_each: tuple[int, int] = (1, 1),
) -> None:
    """Measure two actions in turn, and add their ratio to the table.

    Args:
        ratios: the table.
        title: the title of the row.
        ours: the first action.
        floor: the second action.
        prepare: functions to call before *ours* and before *floor*; they are not measured.
        rounds: how often both are measured.
        at_most: the highest ratio that meets the target; None without a target.
        for_each: the numbers by which the times of *ours* and *floor* are divided.
    """
    before = dict(zip((ours, floor), prepare, strict=False))
    shares = dict(zip((ours, floor), for_each, strict=True))
    times: dict[Callable[[], object], list[float]] = {ours: [], floor: []}
    order = [ours, floor]
    for _ in range(1 if ratios.quick else rounds):
        for action in order:
            if (prepared := before.get(action)) is not None:
                prepared()
            gc.collect()
            began = time.perf_counter()
            action()
            times[action].append(1e3 * (time.perf_counter() - began) / shares[action])
        order.reverse()
    target = None if ratios.quick else at_most
    ratios.add(title, times[ours], times[floor], unit="ms", at_most=target)


def start(backend: Backend, service: LiveService) -> dict[str, DeclarationState]:
    """Start a client and close it; return the state of each declaration."""
    arguments = (service.url, 60, FEATURES)
    options: dict[str, Any] = {
        "http_client_args": CLIENT_ARGS,
        "startup": "raise",
        "startup_timeout": 300,
    }

    async def start_async() -> AsyncHeksherClient:
        async with AsyncHeksherClient(*arguments, **options) as client:
            return client

    def start_threads() -> ThreadHeksherClient:
        with ThreadHeksherClient(*arguments, **options) as client:
            return client

    client = start_threads() if backend == "threads" else run(backend, start_async)
    return {name: each.state for name, each in client.status.declarations.items()}


def ask(backend: Backend, asked: list[Asked]) -> None:
    """Make the requests one after another, with httpx alone."""

    async def ask_async() -> None:
        async with httpx.AsyncClient(**arguments) as client:
            for method, url, body in asked:
                (await client.request(method, url, json=body)).raise_for_status()

    def ask_blocking() -> None:
        with httpx.Client(**arguments) as client:
            for method, url, body in asked:
                client.request(method, url, json=body).raise_for_status()

    arguments: dict[str, Any] = CLIENT_ARGS
    if backend == "threads":
        ask_blocking()
    else:
        run(backend, ask_async)


def run(backend: Backend, main: Callable[[], Any]) -> Any:
    """Run *main* in an event loop of its own."""
    return asyncio.run(main()) if backend == "asyncio" else trio.run(main)


def asked_by_a_start(service: LiveService) -> list[Asked]:
    """Declare all settings, and return the requests of the next start."""
    start("threads", service)
    asked: list[Asked] = []

    def note(request: httpx.Request) -> None:
        assert request.method == "GET"
        asked.append((request.method, str(request.url), None))

    options: dict[str, Any] = {**CLIENT_ARGS, "event_hooks": {"request": [note]}}
    with ThreadHeksherClient(service.url, 60, FEATURES, http_client_args=options, startup="raise"):
        return asked
