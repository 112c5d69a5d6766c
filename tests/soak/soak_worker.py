"""One process of the soak: a client on one backend, eight readers, and their reports.

``python soak_worker.py BACKEND URL TRUTH NAP`` prints reports, each a JSON object on one line: one
``before`` the client starts, one per second while it is ``running``, and one when it has ``ended``,
which it does when stdin ends. The client's interval is short, so that it polls as often in minutes as
other clients in days.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

import anyio
import trio
from truth import CONTEXTS, DEFAULT, FEATURES, Truth

from heksher import AsyncHeksherClient, Setting, ThreadHeksherClient

INTERVAL = 0.2
READERS = 8
#: The number of calls of `get` in a row. Then a reader sleeps, so that all processes get processor time.
BURST = 50

OPTIONS: dict[str, Any] = {"startup": "continue", "request_timeout": 1.0}


class Reader:
    """Calls `get` in all contexts, and compares each value with the states that it may come from."""

    def __init__(self, setting: Setting[int], truth: Path) -> None:
        self._get = setting.get
        self._truth = Truth(truth)
        self._since = 0
        self.reads = self.longest_cpu = self.longest_wall = 0
        self.wrong: list[str] = []

    def burst(self) -> None:
        """Read some values and check them."""
        read: list[tuple[int, int]] = []
        for number in range(self.reads, self.reads + BURST):
            context = number % len(CONTEXTS)
            wall, cpu = time.perf_counter_ns(), time.thread_time_ns()
            try:
                read.append((context, self._get(**CONTEXTS[context])))
            except Exception as error:
                self.wrong.append(repr(error))
            self.longest_cpu = max(self.longest_cpu, time.thread_time_ns() - cpu)
            self.longest_wall = max(self.longest_wall, time.perf_counter_ns() - wall)
        self.reads += BURST
        # Each state is written to the file before the service gets it, so all values are in it now.
        self._truth.read_on()
        for context, value in read:
            state = self._truth.first_with(context, value, self._since)
            if state is None:
                self.wrong.append(
                    f"{value} in {CONTEXTS[context]}, which no state had since {self._since}"
                )
            else:
                self._since = state
        self._truth.forget_before(self._since)

    def values(self) -> list[int]:
        """Return the current values in all contexts."""
        return [self._get(**context) for context in CONTEXTS]


def main(backend: str, url: str, truth: str, nap: str) -> None:
    setting = Setting("soak", int, FEATURES, DEFAULT)
    readers = [Reader(setting, Path(truth)) for _ in range(READERS)]
    books = Books(readers, float(nap))
    run = {"asyncio": in_asyncio, "trio": in_trio, "thread": in_threads, "gevent": in_gevent}
    if backend == "gevent":
        import gevent

        gevent.sleep(0)  # so that the hub and its files are in the first report
    say("before", **books.counted())
    run[backend](url, books)
    gc.collect()
    say("ended", **books.counted())


def say(what: str, **told: Any) -> None:
    """Write one line at once."""
    print(json.dumps({"what": what, **told}), flush=True)


class Books:
    """The resources of the process and the findings of its readers."""

    def __init__(self, readers: list[Reader], nap: float) -> None:
        self.readers = readers
        self.nap = nap
        self.over = threading.Event()
        self.client: AsyncHeksherClient | ThreadHeksherClient | None = None
        threading.Thread(target=self._wait_for_the_end, daemon=True).start()

    def _wait_for_the_end(self) -> None:
        sys.stdin.readline()
        self.over.set()

    def counted(self) -> dict[str, Any]:
        status = None if self.client is None else self.client.status
        gc.collect()  # cycles that wait for the collector are not kept memory
        return {
            "reads": sum(reader.reads for reader in self.readers),
            "wrong": [wrong for reader in self.readers for wrong in reader.wrong][:10],
            "longest_cpu_us": max(reader.longest_cpu for reader in self.readers) / 1000,
            "longest_wall_us": max(reader.longest_wall for reader in self.readers) / 1000,
            "values": self.readers[0].values(),
            "blocks": sys.getallocatedblocks(),
            "resident": int(Path("/proc/self/statm").read_text().split()[1]) * 4096,
            "threads": threading.active_count(),
            "descriptors": len(os.listdir("/proc/self/fd")),
            "failures": None if status is None else status.failures,
            "error": None if status is None else str(status.last_error),
        }

    def tell(self) -> None:
        """Print a report."""
        say("running", **self.counted())


# --- the backends ---------------------------------------------------------------------------------


def in_asyncio(url: str, books: Books) -> None:
    asyncio.run(in_event_loop(url, books))


def in_trio(url: str, books: Books) -> None:
    trio.run(in_event_loop, url, books)


async def in_event_loop(url: str, books: Books) -> None:
    books.client = client = AsyncHeksherClient(url, INTERVAL, list(FEATURES), **OPTIONS)
    async with client, anyio.create_task_group() as group:
        for reader in books.readers:
            group.start_soon(read_in_loop, reader, books)
        while not books.over.is_set():
            books.tell()
            await anyio.sleep(1)


async def read_in_loop(reader: Reader, books: Books) -> None:
    while not books.over.is_set():
        reader.burst()
        await anyio.sleep(books.nap)


def in_threads(url: str, books: Books) -> None:
    def read(reader: Reader) -> None:
        while not books.over.wait(books.nap):
            reader.burst()

    with ThreadHeksherClient(url, INTERVAL, list(FEATURES), **OPTIONS) as books.client:
        threads = [threading.Thread(target=read, args=(reader,)) for reader in books.readers]
        for thread in threads:
            thread.start()
        while not books.over.wait(1):
            books.tell()
        for thread in threads:
            thread.join()


def in_gevent(url: str, books: Books) -> None:
    import gevent
    from gevent.pool import Group

    def read(reader: Reader) -> None:
        while not books.over.is_set():
            reader.burst()
            gevent.sleep(books.nap)

    with ThreadHeksherClient(
        url, INTERVAL, list(FEATURES), backend="gevent", **OPTIONS
    ) as books.client:
        group = Group()
        for reader in books.readers:
            group.spawn(read, reader)
        while not books.over.is_set():
            books.tell()
            gevent.sleep(1)
        group.join(raise_error=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
