"""How long does a client take from its making to rules in force?

A client starts, fetches the rules of the README's two settings, which the service knows already, and
closes; on asyncio, on trio and in threads. The service is the embedded one, in a process of its own,
reached over the loopback interface. The floor are the three requests that a start consists of, made by
httpx alone with a client of its own.

Conclude: a ratio of 1 would be the network's price alone. What is above it is the event loop's start,
and the reading and compiling of what came.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio
from ratio_table import Ratios

from heksher import AsyncHeksherClient, Setting, ThreadHeksherClient
from heksher.cli._demo import FEATURES, Service


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    logging.getLogger("heksher").addHandler(logging.NullHandler())
    with Service(tmp_path) as service:
        yield service


def measure_a_start(service: Service, ratios: Ratios) -> None:
    settings: list[Setting[Any]] = [
        Setting("cache_ttl", int, ["environment", "user"], 60),
        Setting("background_color", str, ["environment", "theme"], "white"),
    ]
    bare = partial(three_requests, service, ",".join(sorted(each.name for each in settings)))
    subjects: dict[str, Callable[[], object]] = {
        "asyncio": lambda: asyncio.run(start(service)),
        "trio": lambda: trio.run(start, service),
        "threads": lambda: start_threads(service),
    }
    start_threads(service)  # declares them
    everyone: list[Callable[[], object]] = [*subjects.values(), bare]
    times: dict[Callable[[], object], list[float]] = {subject: [] for subject in everyone}
    for _ in range(1 if ratios.quick else 15):
        for subject, taken in times.items():
            began = time.perf_counter()
            subject()
            taken.append(1e3 * (time.perf_counter() - began))
    for name, subject in subjects.items():
        title = f"start and close, {name} (floor: three requests)"
        ratios.add(title, times[subject], times[bare], unit="ms")


async def start(service: Service) -> None:
    """Start a client and close it."""
    arguments = {"headers": service.headers}
    async with AsyncHeksherClient(service.url, 60, FEATURES, http_client_args=arguments):
        pass


def start_threads(service: Service) -> None:
    """Start a client of threads and close it."""
    arguments = {"headers": service.headers}
    with ThreadHeksherClient(
        service.url, 60, FEATURES, http_client_args=arguments, startup="raise"
    ):
        pass


def three_requests(service: Service, names: str) -> None:
    """Ask what a start asks."""
    with httpx.Client(headers=service.headers) as client:
        for path in (
            "settings?include_additional_data=true",
            "context_features",
            f"query?settings={names}",
        ):
            client.get(f"{service.url}/api/v1/{path}").raise_for_status()
