"""What do many clients cost a service, and how soon does each of them see a change?

On demand: ``PYTHONPATH=. python benchmarks/load.py [--postgresql URL] [--seconds 20]``. Each row has real
clients on threads, in a few processes, which poll each second, and a service in a process of its own, all
on one machine:

- many: 500 clients of one setting, while nothing changes;
- large: 50 clients of all 1,000 settings, which have 100,000 rules; one of these is changed each second.

The table has polls a second, bytes of answers a second, how much of one processor the service uses, the
slowest write, and how long after a write was acknowledged the clients saw it: the median, and the slowest
client of all. Wanted of *large*: seen within 1.5 intervals, less than 1 MB a second, and no write over
0.5 s. It takes ten minutes for each database, most of them to start the clients of *large*.
"""

from __future__ import annotations

import argparse
import json
import logging
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import NamedTuple
from urllib.request import Request, urlopen

from changes import FEATURES, fill
from starts import served

from heksher import Setting, ThreadHeksherClient

PROCESSES = 2
#: Seconds between two polls, at most.
INTERVAL = 1.0
#: Seconds between two looks at the values.
LOOK = 0.005
#: Seconds in which clients have to have seen the last change, and in which one process starts its clients.
PATIENCE, START = 30.0, 600.0


class Row(NamedTuple):
    """What to measure."""

    name: str
    clients: int
    settings: int
    changes: bool


class Found(NamedTuple):
    """What the clients of one process found.

    Attributes:
        polls: how many they made.
        received: bytes of the answers to them.
        seen: by value, when each client first saw it or a later one, by the machine's monotonic clock.
    """

    polls: int
    received: int
    seen: dict[int, list[float]]


# --- clients --------------------------------------------------------------------------------------


def work(pipe: Connection, url: str, row: Row, clients: int) -> None:
    """Start clients, and then note what they do until there is an end to it."""
    logging.disable(logging.CRITICAL)
    names = [f"s{number}" for number in range(row.settings)]
    own = [[Setting(name, int, ["user"], 0) for name in names] for _ in range(clients)]
    with ExitStack() as stack:
        started: list[ThreadHeksherClient] = []
        for settings in own:
            client = ThreadHeksherClient(
                url, INTERVAL, FEATURES, startup="raise", startup_timeout=START
            )
            client.add_settings(settings)
            started.append(stack.enter_context(client))
        first = [settings[0] for settings in own]
        values = [setting.get(user="user0") for setting in first]
        pipe.send(None)  # only now are there changes
        pipe.recv()
        before = [client.status for client in started]
        seen = watched(pipe, first, values)
        pairs = [(old, client.status) for old, client in zip(before, started, strict=True)]
        pipe.send(
            Found(
                sum(new.polls - old.polls for old, new in pairs),
                sum(new.bytes_received - old.bytes_received for old, new in pairs),
                seen,
            )
        )


def watched(
    pipe: Connection, settings: list[Setting[int]], values: list[int]
) -> dict[int, list[float]]:
    """Note when each setting gets later *values*, until the other side says which one is the last."""
    seen: dict[int, list[float]] = {}
    last: int | None = None
    deadline = 0.0
    while last is None or (min(values) < last and time.monotonic() < deadline):
        if last is None and pipe.poll(LOOK):
            last = pipe.recv()
            deadline = time.monotonic() + PATIENCE
        elif last is not None:
            time.sleep(LOOK)
        now = time.monotonic()
        for place, setting in enumerate(settings):
            value = setting.get(user="user0")
            for each in range(values[place] + 1, value + 1):
                seen.setdefault(each, []).append(now)
            values[place] = value
    return seen


@contextmanager
def crowd(url: str, row: Row) -> Generator[list[Connection]]:
    """Start the clients of a row."""
    context = multiprocessing.get_context("spawn")
    pipes: list[Connection] = []
    processes: list[SpawnProcess] = []
    for number in range(PROCESSES):
        here, there = context.Pipe()
        clients = row.clients // PROCESSES + (number < row.clients % PROCESSES)
        process = context.Process(target=work, args=(there, url, row, clients), daemon=True)
        process.start()
        pipes.append(here)
        processes.append(process)
    try:
        for pipe in pipes:
            assert pipe.poll(START), "the clients do not start"
            pipe.recv()
        yield pipes
    finally:
        for process in processes:
            process.terminate()
            process.join()


# --- the table ------------------------------------------------------------------------------------


def change(url: str, value: int) -> float:
    """Change the first rule; return the seconds that it takes."""
    request = Request(  # noqa: S310
        f"{url}/api/v1/rules/1/value",
        json.dumps({"value": value}).encode(),
        {"Content-Type": "application/json"},
        method="PUT",
    )
    began = time.monotonic()
    with urlopen(request, timeout=60) as response:  # noqa: S310
        response.read()
    return time.monotonic() - began


def measure(database: str, shown: str, row: Row, seconds: float) -> None:
    """Measure a row, and print it."""
    written: dict[int, float] = {}
    slowest = 0.0
    with served(database) as service, crowd(service.url, row) as pipes:
        began, used = time.monotonic(), service.processor_seconds()
        for pipe in pipes:
            pipe.send(None)
        value = 1
        for second in range(int(seconds)):
            if row.changes:
                value += 1
                slowest = max(slowest, change(service.url, value))
                written[value] = time.monotonic()
            time.sleep(max(0.0, began + second + 1 - time.monotonic()))
        for pipe in pipes:
            pipe.send(value)
        found: list[Found] = [pipe.recv() for pipe in pipes]
        took, used = time.monotonic() - began, service.processor_seconds() - used
    waits = [
        seen - written[number]
        for each in found
        for number, moments in each.seen.items()
        for seen in moments
    ]
    assert len(waits) == len(written) * row.clients, "a client missed a change"
    cells = [
        shown,
        row.name,
        row.clients,
        f"{sum(each.polls for each in found) / took:.0f}",
        f"{sum(each.received for each in found) / took / 1e6:.3f} MB",
        f"{used / took:.0%}",
        *(
            [f"{slowest:.3f} s", f"{statistics.median(waits):.2f} s", f"{max(waits):.2f} s"]
            if waits
            else ["-"] * 3
        ),
    ]
    print("|", " | ".join(map(str, cells)), "|", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--postgresql", help="URL of an empty database")
    parser.add_argument("--seconds", type=float, default=20, help="of each row, once all started")
    parser.add_argument("--many", type=int, default=500, help="clients of one setting; 0: none")
    parser.add_argument("--large", type=int, default=50, help="clients of all settings; 0: none")
    parser.add_argument("--rules", type=int, default=100_000)
    parser.add_argument("--settings", type=int, default=1_000)
    arguments = parser.parse_args()
    rows = [
        Row("many", arguments.many, 1, changes=False),
        Row("large", arguments.large, arguments.settings, changes=True),
    ]
    heads = ["database", "row", "clients", "polls a second", "received a second"]
    heads += ["service's processor", "slowest write", "seen after, median", "seen after, slowest"]
    print("|", " | ".join(heads), "|")
    print("|" + "---|" * len(heads), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        databases = {"SQLite": str(Path(folder, "heksher.db"))}
        if arguments.postgresql:
            databases["PostgreSQL"] = arguments.postgresql
        for shown, database in databases.items():
            fill(database, arguments.rules, arguments.settings)
            for row in rows:
                if row.clients:
                    measure(database, shown, row, arguments.seconds)


if __name__ == "__main__":
    main()
