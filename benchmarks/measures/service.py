"""How many queries can the embedded service answer?

``heksher serve`` on an SQLite file is compared with a Starlette application that has the same bytes in
memory and sends them, or 304 if the request has the same ETag. Both run in processes of their own, on
the same server with the same options. wrk (``apt install wrk``) loads them in turn over eight
connections, for a second each. The table also shows the processor time per request, which other
programs disturb least. Without wrk nothing is measured, and the run says so. With ``--postgresql URL``,
the URL of an empty database, a service on PostgreSQL takes its turn as well, and all three are loaded
over 64 connections, too: there, queries share readings of the revision, the more of them the more
connections there are.

- Queries that match 121 rules of eleven settings: answers with a body, and with 304.
- Whole polls: all that a client asks for while nothing changes, which is one request.
- From 100 rules to 100,000: the same query while nothing changes, and the first query after a change. The
  floor is 100 rules. These measure latency, so they use one connection.

Conclusion: the ratios show what it costs to find out that nothing changed. A fleet of clients with a
current ETag costs the same for any number of rules.
"""

from __future__ import annotations

import http.client
import os
import re
import shutil
import sqlite3
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from machinery.ratio_table import Ratios, Row
from machinery.server import Server
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from heksher import Setting, ThreadHeksherClient, testing
from heksher.service.domain.records import SettingRecord
from heksher.service.storage import open_storage
from heksher.service.web.server import listen, serve

FEATURES = ["environment", "user", "theme"]
SETTINGS = [f"setting_{number}" for number in range(11)]
#: Numbers of connections; the first one is that of a row that names none.
CONNECTIONS = (8, 64)
#: The lowest ratios that meet the targets, by database, number of connections and status.
TARGETS = {
    ("SQLite", 8, 200): 0.5,
    ("SQLite", 8, 304): 0.7,
    ("PostgreSQL", 64, 200): 0.5,
    ("PostgreSQL", 64, 304): 0.5,
}

_FILTERS = "environment:(dev),user:*,theme:*"
QUERY = f"/api/v1/query?settings={','.join(SETTINGS)}&context_filters={_FILTERS}"

_WRK = shutil.which("wrk")
_SHOWN = {
    "median": "median of latencies",
    "slow": "99 % of latencies",
    "processor": "the server's processor",
}
_UNITS = {"us": 1e-3, "ms": 1.0, "s": 1e3}


@pytest.fixture(autouse=True)
def _needs_wrk() -> None:
    if _WRK is None:
        pytest.skip("wrk is not installed (apt install wrk)")


class Measured:
    """The results of one second of load.

    Attributes:
        per_second: answered requests per second.
        median, slow: the median and the 99th percentile of the latencies, in milliseconds.
        processor: the server's processor time per request, in microseconds.
    """

    def __init__(self, report: str, processor_seconds: float) -> None:
        assert "Non-2xx" not in report and "Socket errors" not in report, report
        found = re.search(r"Requests/sec:\s+([\d.]+)", report)
        requests = re.search(r"(\d+) requests in", report)
        assert found is not None and requests is not None, report
        self.per_second = float(found[1])
        self.processor = 1e6 * processor_seconds / int(requests[1])
        self.median = _milliseconds("50%", report)
        self.slow = _milliseconds("99%", report)


def _milliseconds(which: str, report: str) -> float:
    found = re.search(rf"{which}\s+([\d.]+)(us|ms|s)", report)
    assert found is not None, report
    return float(found[1]) * _UNITS[found[2]]


def load(server: Server, path: str, tag: str | None, *, connections: int) -> Measured:
    """Request *path* as often as possible for one second."""
    assert _WRK is not None
    command = [_WRK, "--threads", "1", "--connections", str(connections), "--duration", "1s"]
    if tag is not None:
        command += ["--header", f"If-None-Match: {tag}"]
    command += ["--latency", server.url + path]
    before = server.processor_seconds()
    done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603
    return Measured(done.stdout, server.processor_seconds() - before)


class Connection:
    """A connection to a server."""

    def __init__(self, server: Server) -> None:
        place = urlsplit(server.url)
        assert place.hostname is not None
        self._http = http.client.HTTPConnection(place.hostname, place.port)

    def ask(self, method: str, path: str, body: str | None = None) -> tuple[bytes, str]:
        """Make a request, and return the body and the ETag of the answer; fail unless it is a success."""
        self._http.request(method, path, body, {"Content-Type": "application/json"})
        answer = self._http.getresponse()
        content = answer.read()
        assert answer.status < 300, content
        return content, answer.headers.get("ETag", "")

    def close(self) -> None:
        """Close the connection."""
        self._http.close()


@contextmanager
def started(*command: str) -> Generator[Server]:
    """Run a Python program that serves. It has this process's import path, whatever the environment."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    process = subprocess.Popen(  # noqa: S603
        [sys.executable, *command], env=environment, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        with process.stdout:
            yield Server(process.pid, process.stdout.readline().split()[-1])
    finally:
        process.terminate()
        process.wait()


def service(database: str) -> tuple[str, ...]:
    """Return the arguments of Python that serve *database*."""
    return ("-m", "heksher", "serve", "--port", "0", "--database", database)


# --- the floor ------------------------------------------------------------------------------------


def main(body_file: str, tag: str) -> int:
    """Serve the content of a file, or 304 to requests that have its ETag."""
    body = Path(body_file).read_bytes()
    headers = {"ETag": tag}

    async def answer(request: Request) -> Response:
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        return Response(body, headers=headers, media_type="application/json")

    app = Starlette(routes=[Route("/api/v1/query", answer)])
    return serve(app, listen("127.0.0.1", 0), grace=1)


# --- 121 rules ------------------------------------------------------------------------------------


def fill(database: str) -> None:
    """Add eleven settings, each with eleven rules that pass the query's filter and eleven that do not."""
    with closing(open_storage(database, FEATURES)) as storage, storage.writing() as writer:
        for name in SETTINGS:
            record = SettingRecord(name, "int", "0", "1.0", tuple(FEATURES), {}, ())
            writer.add_setting(record)
            for environment in ("dev", "production"):
                writer.add_rule(name, "1", {"environment": environment}, {})
                for number in range(10):
                    conditions = {"environment": environment, "user": f"user{number}"}
                    writer.add_rule(name, str(number), conditions, {})


def measure_queries(ratios: Ratios, tmp_path: Path, pytestconfig: pytest.Config) -> None:
    databases = {"SQLite": str(tmp_path / "heksher.db")}
    if (url := pytestconfig.getoption("--postgresql")) is not None:
        databases["PostgreSQL"] = str(url)
    with ExitStack() as stack:
        services = dict[str, Server]()
        body, tag = b"", ""
        for name, database in databases.items():
            fill(database)
            services[name] = stack.enter_context(started(*service(database)))
            with closing(Connection(services[name])) as connection:
                body, tag = connection.ask("GET", QUERY)
            assert body.count(b'"rule_id"') == 121
        file = tmp_path / "body"
        file.write_bytes(body)
        floor = stack.enter_context(started(__file__, str(file), tag))
        for server in () if ratios.quick else (*services.values(), floor):
            # Once before, since the interpreter specializes code when it runs.
            load(server, QUERY, tag, connections=CONNECTIONS[0])
        # SQLite alone needs no second number: no query waits for another one there.
        for connections in CONNECTIONS[: len(databases)]:
            for status, known in ((200, None), (304, tag)):
                found = _in_turn([*services.values(), floor], known, connections, ratios)
                for name, ours in services.items():
                    where = (
                        name
                        if connections == CONNECTIONS[0]
                        else f"{name}, {connections} connections"
                    )
                    what = f"query of 121 rules on {where}, {status}"
                    target = None if ratios.quick else TARGETS.get((name, connections, status))
                    _add_load(ratios, what, found[ours], found[floor], target)


def _in_turn(
    servers: Sequence[Server], tag: str | None, connections: int, ratios: Ratios
) -> dict[Server, list[Measured]]:
    found: dict[Server, list[Measured]] = {server: [] for server in servers}
    order = list(servers)
    for _ in range(1 if ratios.quick else 3):
        for server in order:
            found[server].append(load(server, QUERY, tag, connections=connections))
        order.reverse()
    return found


def _add_load(
    ratios: Ratios,
    what: str,
    ours: Sequence[Measured],
    floor: Sequence[Measured],
    target: float | None,
) -> None:
    ratios.add(
        what,
        [each.per_second for each in ours],
        [each.per_second for each in floor],
        unit="per s",
        at_least=target,
    )
    for which, unit in (("median", "ms"), ("slow", "ms"), ("processor", "us")):
        times, floors = ([getattr(each, which) for each in found] for found in (ours, floor))
        if all(floors):
            ratios.add(f"{what}: {_SHOWN[which]}", times, floors, unit=unit)


# --- polls ----------------------------------------------------------------------------------------


def asked_by_a_poll(server: Server) -> list[tuple[str, str | None]]:
    """Return the path and the ETag of each request that a client makes while nothing changes."""
    asked: list[tuple[str, str | None]] = []

    def note(request: httpx.Request) -> None:
        asked.append((request.url.raw_path.decode(), request.headers.get("if-none-match")))

    settings = [Setting(name, int, FEATURES, 0) for name in SETTINGS]
    options: dict[str, Any] = {"event_hooks": {"request": [note]}}
    with ThreadHeksherClient(
        server.url, 3600, FEATURES, http_client_args=options, startup="raise"
    ) as client:
        asked.clear()
        client.reload()
        assert {each.state for each in client.status.declarations.values()} == {"uptodate"}
    del settings
    testing.reset()
    return asked


def measure_polls(ratios: Ratios, tmp_path: Path) -> None:
    database, file = str(tmp_path / "heksher.db"), tmp_path / "body"
    fill(database)
    file.write_bytes(b"{}")
    connections = CONNECTIONS[0]
    with started(*service(database)) as ours:
        ((path, tag),) = asked_by_a_poll(ours)  # one request
        assert tag is not None
        with started(__file__, str(file), tag) as floor:
            found: dict[Server, list[float]] = {ours: [], floor: []}
            for _ in range(1 if ratios.quick else 3):
                for server, target in ((ours, path), (floor, QUERY)):
                    measured = load(server, target, tag, connections=connections)
                    found[server].append(measured.per_second)
    ratios.add(
        "whole polls on SQLite, while nothing changes",
        found[ours],
        found[floor],
        unit="per s",
        at_least=None if ratios.quick else 0.5,
    )


# --- growth ---------------------------------------------------------------------------------------


def fill_with(path: Path, rules: int) -> None:
    """Add one setting with *rules* rules, each for another user."""
    open_storage(str(path), FEATURES).close()
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("INSERT INTO settings VALUES ('s', 'int', '0', '1.0')")
        connection.execute("INSERT INTO configurable VALUES ('s', 'user')")
        numbers = range(1, rules + 1)
        connection.executemany(
            "INSERT INTO rules VALUES (?, 's', ?)", [(each, str(each)) for each in numbers]
        )
        connection.executemany(
            "INSERT INTO conditions VALUES (?, 'user', ?)",
            [(each, f"user{each}") for each in numbers],
        )


def measure_growth(ratios: Ratios, tmp_path: Path) -> None:
    path = "/api/v1/query"
    found: dict[tuple[int, str], list[float]] = {}
    sizes = (100,) if ratios.quick else (100, 1_000, 10_000, 100_000)
    rounds = 1 if ratios.quick else 3
    for rules in sizes:
        database = tmp_path / f"{rules}.db"
        fill_with(database, rules)
        with started(*service(str(database))) as ours, closing(Connection(ours)) as connection:
            first: list[float] = []
            for number in range(rounds + 1):
                connection.ask("PUT", "/api/v1/rules/1/value", f'{{"value": {number}}}')
                first.append(_taken(lambda: connection.ask("GET", path)))
            found[rules, "first after a change"] = first[1:]
            _, tag = connection.ask("GET", path)
            for what, known in (("304", tag), ("200", None)):
                # The median of thousands of requests.
                found[rules, what] = [load(ours, path, known, connections=1).median]
    for what in ("304", "200", "first after a change"):
        for rules in sizes:
            _add_growth(ratios, f"query of {rules:,} rules, {what}", found, rules, what)


def _add_growth(
    ratios: Ratios, title: str, found: dict[tuple[int, str], list[float]], rules: int, what: str
) -> None:
    ours, floor = (statistics.median(found[size, what]) for size in (rules, 100))
    ratios.rows.append(
        Row(f"{title} (floor: 100)", f"{ours:.2f} ms", f"{floor:.2f} ms", ours / floor)
    )


def _taken(action: Callable[[], object]) -> float:
    began = time.perf_counter()
    action()
    return 1e3 * (time.perf_counter() - began)


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
