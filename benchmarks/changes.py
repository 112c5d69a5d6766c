"""What does one changed rule among many cost the service, beside an answer with everything?

On demand: ``PYTHONPATH=. python benchmarks/changes.py [--postgresql URL] [--rules 100000]``. ``heksher
serve`` is asked over one connection for what is new since the answer before, each time for the first time
since a change:

- everything: the order of the context features changed, so the service makes the whole answer again;
- one rule: it makes and sends one setting's rules;
- one rule, whole: the same, asked by a client that sends no ``since=``;
- one rule of others: the client has ten settings, and none of them changed, so the answer is a 304.

The kinds take turns. The table has medians: bytes of the body, the service's processor time, and the time
until the answer was read. The last column is the processor time beside that of everything. The target
for one rule is at most 2 % of the bytes and of the processor time.
"""

from __future__ import annotations

import argparse
import http.client
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from heksher.service.domain.records import SettingRecord
from heksher.service.storage import open_storage, tables

FEATURES = ["user", "theme"]


class Kind(NamedTuple):
    """A kind of update.

    Attributes:
        change: what happens before.
        query: the parameters of the query.
        sends_since: whether the client sends ``since=``.
        expected: the status of the answer, and its header ``Heksher-Partial``.
    """

    change: Callable[[Service], None]
    query: str
    sends_since: bool
    expected: tuple[int, str | None]


class Cost(NamedTuple):
    """Bytes, and milliseconds."""

    size: int
    processor: float
    latency: float


class Service:
    """A running service, and a client's connection to it."""

    def __init__(self, process: int, url: str) -> None:
        place = urlsplit(url)
        self._connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=120)
        self._process = process
        self._value = 1

    def change_everything(self) -> None:
        """Move a feature and move it back, which concerns all settings, and change a rule."""
        self.change_rule()
        for where in ("to_after", "to_before"):
            self._send("PATCH", "/context_features/user/index", {where: "theme"})

    def change_rule(self) -> None:
        self._value += 1
        self._send("PUT", "/rules/1/value", {"value": self._value})

    def update(self, kind: Kind) -> Cost:
        """Update a client after a change."""
        known, _ = self._ask(kind.query)
        kind.change(self)
        query, tag = kind.query, known.headers["ETag"]
        if kind.sends_since:
            query += f"&since={known.headers['Heksher-Revision']}"
        processor, began = self._processor(), time.perf_counter()
        answer, size = self._ask(query, tag)
        latency = 1e3 * (time.perf_counter() - began)
        found = answer.status, answer.headers["Heksher-Partial"]
        assert found == kind.expected, (found, kind)
        return Cost(size, self._processor() - processor, latency)

    def _send(self, method: str, path: str, body: object) -> None:
        headers = {"Content-Type": "application/json"}
        self._connection.request(method, f"/api/v1{path}", json.dumps(body), headers)
        response = self._connection.getresponse()
        response.read()
        assert response.status == 204

    def _ask(self, query: str, tag: str = '""') -> tuple[http.client.HTTPResponse, int]:
        self._connection.request("GET", f"/api/v1/query?{query}", headers={"If-None-Match": tag})
        response = self._connection.getresponse()
        return response, len(response.read())

    def _processor(self) -> float:
        """Return its processor time so far, in milliseconds."""
        threads = Path(f"/proc/{self._process}/task").glob("*/schedstat")
        return sum(int(each.read_text().split()[0]) for each in threads) / 1e6


def fill(database: str, rules: int, settings: int) -> None:
    """Divide *rules* rules among *settings* settings."""
    with closing(open_storage(database, FEATURES)) as storage, storage.writing() as writer:
        for number in range(settings):
            writer.add_setting(SettingRecord(f"s{number}", "int", "0", "1.0", ("user",), {}, ()))
        for table, rows in (
            (
                tables.rules,
                [{"id": 1 + n, "setting": f"s{n % settings}", "value": "1"} for n in range(rules)],
            ),
            (
                tables.conditions,
                [
                    {"rule": 1 + n, "context_feature": "user", "feature_value": f"user{n}"}
                    for n in range(rules)
                ],
            ),
        ):
            writer.connection.execute(table.insert(), rows)


@contextmanager
def served(database: str) -> Generator[Service]:
    command = [sys.executable, "-m", "heksher", "serve", "--port", "0", "--database", database]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603
        try:
            assert process.stdout is not None
            yield Service(process.pid, process.stdout.readline().split()[-1])
        finally:
            process.terminate()


def medians(costs: Sequence[Cost]) -> Cost:
    sizes, processors, latencies = zip(*costs, strict=True)
    return Cost(
        statistics.median(sizes), statistics.median(processors), statistics.median(latencies)
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--postgresql", help="URL of an empty database")
    parser.add_argument("--rules", type=int, default=100_000)
    parser.add_argument("--settings", type=int, default=1_000)
    parser.add_argument("--rounds", type=int, default=9)
    arguments = parser.parse_args()
    others = f"settings={','.join(f's{1 + number}' for number in range(10))}"
    kinds = {
        "everything": Kind(Service.change_everything, "", True, (200, None)),
        "one rule": Kind(Service.change_rule, "", True, (200, "1")),
        "one rule, whole": Kind(Service.change_rule, "", False, (200, None)),
        "one rule of others": Kind(Service.change_rule, others, True, (304, None)),
    }
    print("| database | changed | bytes | processor time | latency | beside everything |")
    print("|---|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        databases = {"SQLite": str(Path(folder, "heksher.db"))}
        if arguments.postgresql:
            databases["PostgreSQL"] = arguments.postgresql
        for shown, database in databases.items():
            fill(database, arguments.rules, arguments.settings)
            costs: dict[str, list[Cost]] = {name: [] for name in kinds}
            with served(database) as service:
                for _ in range(arguments.rounds):
                    for name, kind in kinds.items():
                        costs[name].append(service.update(kind))
            everything = medians(costs["everything"]).processor
            for name in kinds:
                size, processor, latency = medians(costs[name])
                print(
                    f"| {shown} | {name} | {size:,} | {processor:.1f} ms | {latency:.1f} ms "
                    f"| {processor / everything:.2%} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
