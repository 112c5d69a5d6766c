"""Measure how a service recovers when it is restarted under many clients. Run by hand:

    PYTHONPATH=tests python tests/service/measure_recovery.py --clients 500 --queries 500

The clients poll over connections of their own. The service is killed and started again, with nothing in
its cache. The clients reconnect at once, and again within half a second after each failure, which is much
more often than clients of the library do. Health is probed over a new connection each time, as container
platforms do it. Prints when the clients had their first answer, counted from the moment at which the
service accepted connections, and how long the probes in this time took.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from support.service_process import ServiceProcess

from heksher.service.domain.records import SettingRecord
from heksher.service.storage import open_storage

# Pauses of one client between two polls, and of the health probe, in seconds.
_PAUSE = 1.0
_PROBE_PAUSE = 0.1


async def _get(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str) -> int:
    """Send a request, and return the status of the answer."""
    writer.write(f"GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n".encode())
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = int(head.partition(b"content-length:")[2].split(b"\r\n")[0])
    body = await reader.readexactly(length)
    status = int(head.split()[1])
    if status not in (200, 503):
        sys.exit(f"{path}: unexpected status {status}: {body!r}")
    return status


class Crowd:
    """Clients that poll, and a probe."""

    def __init__(self, port: int, clients: int, queries: int) -> None:
        self._port = port
        self._clients = clients
        self._queries = queries
        self.forget()

    def forget(self) -> None:
        """Count from now on."""
        self.since = time.monotonic()
        self.all_answered = asyncio.Event()
        self.first: dict[int, float] = {}
        self.statuses = Counter[int]()
        self.probes: list[tuple[int, float]] = []

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._probe())
            for number in range(self._clients):
                group.create_task(self._poll(number))

    async def _poll(self, number: int) -> None:
        path = f"/api/v1/query?context_filters=user:(u{number % self._queries})"
        while True:
            with suppress(OSError, EOFError):
                reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
                try:
                    while True:
                        status = await _get(reader, writer, path)
                        self.statuses[status] += 1
                        if status == 200:
                            self.first.setdefault(number, time.monotonic() - self.since)
                            if len(self.first) == self._clients:
                                self.all_answered.set()
                        await asyncio.sleep(random.uniform(0.5, 1) * _PAUSE)
                finally:
                    writer.close()
            await asyncio.sleep(random.uniform(0, 0.5))

    async def _probe(self) -> None:
        while True:
            with suppress(OSError, EOFError):
                began = time.monotonic()
                reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
                try:
                    status = await _get(reader, writer, "/api/health")
                    # A probe may have waited for the service to start.
                    self.probes.append((status, time.monotonic() - max(began, self.since)))
                finally:
                    writer.close()
            await asyncio.sleep(_PROBE_PAUSE)


def _shown(seconds: Sequence[float]) -> str:
    ordered = sorted(seconds)
    slow = ordered[int(len(ordered) * 0.95)]
    return f"median {statistics.median(ordered):.2f} s, 95 % {slow:.2f} s, max {ordered[-1]:.2f} s"


async def _measure(service: ServiceProcess, clients: int, queries: int, repetitions: int) -> None:
    crowd = Crowd(service.port, clients, queries)
    running = asyncio.create_task(crowd.run())
    await crowd.all_answered.wait()
    for _ in range(repetitions):
        service.kill()
        await asyncio.sleep(1)  # how long the service is away
        await asyncio.to_thread(service.start_again)
        crowd.forget()
        await crowd.all_answered.wait()
        print("first answers:", _shown(list(crowd.first.values())))
        print("health probes:", _shown([took for _, took in crowd.probes]))
        print("  their statuses:", dict(Counter(status for status, _ in crowd.probes)))
        print("  statuses of queries:", dict(crowd.statuses))
    running.cancel()


def _fill(database: Path, settings: int) -> None:
    storage = open_storage(str(database), ["user"])
    with storage.writing() as writer:
        for number in range(settings):
            record = SettingRecord(f"s{number}", "int", "0", "1.0", ("user",), {}, ())
            writer.add_setting(record)
            for user in range(5):
                writer.add_rule(record.name, "1", {"user": f"u{user}"}, {})
    storage.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=500)
    parser.add_argument("--queries", type=int, default=500, help="number of different queries")
    parser.add_argument("--settings", type=int, default=200)
    parser.add_argument("--repetitions", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, ServiceProcess() as service:
        database = Path(folder) / "heksher.db"
        _fill(database, options.settings)
        service.start(features=[], database=database)
        asyncio.run(_measure(service, options.clients, options.queries, options.repetitions))


if __name__ == "__main__":
    main()
