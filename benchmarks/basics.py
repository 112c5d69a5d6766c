"""How long the import, a start and one ``get()`` take, each beside something to compare it with.

Run it with ``python benchmarks/basics.py``, after ``pip install '.[demo]'``. Times are of the machine
it runs on; what can be carried over to another one is the ratios, whose two sides are measured in
turn in one run. Each figure is the median of its rounds.
"""

from __future__ import annotations

import asyncio
import logging
import statistics
import subprocess
import sys
import tempfile
import time
import timeit
from collections.abc import Callable
from functools import partial
from pathlib import Path

import httpx
import trio

from heksher import AsyncHeksherClient, Setting, ThreadHeksherClient
from heksher.cli._demo import FEATURES, Service

ROUNDS = 15


def main() -> None:
    """Print all figures."""
    logging.getLogger("heksher").addHandler(logging.NullHandler())
    print(f"Python {sys.version.split()[0]}, median of {ROUNDS} rounds")
    show_import()
    with tempfile.TemporaryDirectory() as folder, Service(Path(folder)) as service:
        show_start(service)
        show_get(service)


def show_import() -> None:
    """A fresh interpreter that imports heksher, msgspec, or nothing."""
    times: dict[str, list[float]] = {"heksher": [], "msgspec": [], "sys": []}
    for _ in range(ROUNDS):
        for module, seconds in times.items():
            seconds.append(seconds_of(partial(run_python, f"import {module}")))
    heksher, msgspec, nothing = (statistics.median(seconds) for seconds in times.values())
    print(
        f"import heksher: {1e3 * (heksher - nothing):.1f} ms more than nothing; "
        f"{(heksher - nothing) / (msgspec - nothing):.2f} x import msgspec"
    )


def run_python(code: str) -> None:
    subprocess.run([sys.executable, "-c", code], check=True)  # noqa: S603 - our own code


def show_start(service: Service) -> None:
    """From a new client to rules in force, for two settings that the service has already."""
    settings = [
        Setting("cache_ttl", int, ["environment", "user"], 60),
        Setting("background_color", str, ["environment", "theme"], "white"),
    ]

    def client_arguments() -> tuple[str, float, list[str]]:
        return service.url, 60.0, FEATURES

    async def start_async() -> None:
        arguments = {"headers": service.headers}
        async with AsyncHeksherClient(*client_arguments(), http_client_args=arguments):
            pass

    def start_threads() -> None:
        arguments = {"headers": service.headers}
        with ThreadHeksherClient(*client_arguments(), http_client_args=arguments, startup="raise"):
            pass

    def bare_requests() -> None:
        with httpx.Client(headers=service.headers) as client:
            for path in (
                "settings?include_additional_data=true",
                "context_features",
                "query?settings=background_color,cache_ttl",
            ):
                client.get(f"{service.url}/api/v1/{path}").raise_for_status()

    start_threads()  # declares them
    subjects: dict[str, Callable[[], None]] = {
        "asyncio": lambda: asyncio.run(start_async()),
        "trio": lambda: trio.run(start_async),
        "threads": start_threads,
        "the three requests by httpx alone": bare_requests,
    }
    times: dict[str, list[float]] = {name: [] for name in subjects}
    for _ in range(ROUNDS):
        for name, subject in subjects.items():
            times[name].append(seconds_of(subject))
    medians = {name: statistics.median(seconds) for name, seconds in times.items()}
    bare = medians.pop("the three requests by httpx alone")
    for name, seconds in medians.items():
        print(
            f"start and close on {name}: {1e3 * seconds:.1f} ms; "
            f"{seconds / bare:.2f} x the three requests by httpx alone"
        )
    del settings


def show_get(service: Service) -> None:
    """``get()`` with one rule in force, beside the function that one would write by hand."""
    cache_ttl = Setting("cache_ttl", int, ["environment", "user"], 60)
    client = ThreadHeksherClient(
        service.url, 60, FEATURES, http_client_args={"headers": service.headers}, startup="raise"
    )
    client.set_defaults(environment="dev")
    with client:
        service.add_rule("cache_ttl", {"user": "jim"}, 5)
        client.reload()
    table = {"jim": 5}

    def by_hand(*, user: str) -> int:
        return table.get(user, 60)

    names = {"setting": cache_ttl, "by_hand": by_hand}
    ours: list[float] = []
    floor: list[float] = []
    calls = 20_000
    for _ in range(ROUNDS):
        ours.append(timeit.timeit('setting.get(user="jim")', globals=names, number=calls) / calls)
        floor.append(timeit.timeit('by_hand(user="jim")', globals=names, number=calls) / calls)
    one, hand = statistics.median(ours), statistics.median(floor)
    print(f"get(): {1e9 * one:.0f} ns; {one / hand:.0f} x a function written by hand")


def seconds_of(function: Callable[[], object]) -> float:
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
