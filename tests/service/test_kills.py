"""Services and databases that are killed while writing: no acknowledged write is lost."""

from __future__ import annotations

import random
import signal
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
from crowd import check_invariants, declaration, send
from killable import KillableService
from support.databases import kept_on_postgresql, kept_on_sqlite
from support.service_process import DEADLINE, ServiceProcess

if TYPE_CHECKING:
    from support.postgres import PostgresServer

_KILLS = 8
_WRITERS = 4


@dataclass
class _Acknowledged:
    """The writes that services have acknowledged."""

    settings: list[str] = field(default_factory=list[str])
    rules: list[tuple[int, str]] = field(default_factory=list[tuple[int, str]])
    news: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    def write_until_the_end(self, client: httpx.Client, url: str, prefix: str) -> None:
        """Declare settings and add rules to them until the service stops answering."""
        number = 0
        while True:
            name = f"{prefix}_{number}"
            rule = {"setting": name, "feature_values": {"user": "x"}, "value": number}
            try:
                method, path, body = declaration(name, metadata={"n": number})
                client.request(method, f"{url}/api/v1{path}", json=body).raise_for_status()
                self.settings.append(name)
                self.news.release()
                answer = client.post(f"{url}/api/v1/rules", json=rule).raise_for_status()
                self.rules.append((answer.json()["rule_id"], name))
                self.news.release()
            except httpx.TransportError:
                return
            number += 1


def test_killing_the_service_loses_nothing_on_sqlite(
    tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    kills = pytestconfig.getoption("--kills") or _KILLS
    database = kept_on_sqlite(tmp_path / "heksher.db")
    acknowledged = _Acknowledged()
    chance = random.Random(4)
    with (
        httpx.Client(timeout=DEADLINE, trust_env=False) as client,
        ThreadPoolExecutor(_WRITERS) as pool,
    ):
        for kill in range(kills):
            service = KillableService(database.url)
            writers = [
                pool.submit(
                    acknowledged.write_until_the_end, client, service.url, f"s{kill}_{writer}"
                )
                for writer in range(_WRITERS)
            ]
            for _ in range(chance.randrange(1, 9)):
                assert acknowledged.news.acquire(timeout=DEADLINE)
            service.kill()
            for writer in writers:
                writer.result(DEADLINE)
    with closing(sqlite3.connect(database.url)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
    check_invariants(database)
    assert len(acknowledged.settings) >= kills
    kept = {name for (name,) in database.rows("SELECT setting FROM setting_metadata")}
    assert [name for name in acknowledged.settings if name not in kept] == []
    kept_rules = set(database.rows("SELECT id, setting FROM rules"))
    assert [rule for rule in acknowledged.rules if rule not in kept_rules] == []


class _Writer:
    """Declare one setting after another, whatever the answers are."""

    def __init__(self, url: str, prefix: str) -> None:
        self.acknowledged: list[str] = []
        self.others: Counter[tuple[int, str | None]] = Counter()
        self._url = url
        self._prefix = prefix
        self._changed = threading.Condition()

    def run(self, end: threading.Event) -> None:
        number = 0
        with httpx.Client(base_url=self._url, timeout=DEADLINE, trust_env=False) as client:
            while not end.is_set():
                name = f"{self._prefix}_{number}"
                answer = send(client, declaration(name))
                with self._changed:
                    if answer.status_code == 200:
                        self.acknowledged.append(name)
                    else:
                        self.others[answer.status_code, answer.headers.get("retry-after")] += 1
                    self._changed.notify_all()
                number += 1

    def wait_for_acknowledgements(self, more: int) -> None:
        self._wait_for(more, lambda: len(self.acknowledged))

    def wait_for_others(self, more: int) -> None:
        self._wait_for(more, lambda: self.others.total())

    def _wait_for(self, more: int, count: Callable[[], int]) -> None:
        with self._changed:
            wanted = count() + more
            assert self._changed.wait_for(lambda: count() >= wanted, DEADLINE)


@pytest.mark.parametrize(
    "number", [signal.SIGINT, signal.SIGQUIT], ids=["ended", "ended at once, as if it crashed"]
)
def test_a_restart_of_postgresql_under_load(
    postgres_server: PostgresServer, number: signal.Signals
) -> None:
    # Not the shared server of all tests: it is configured without durability.
    with type(postgres_server)(fsync=True) as server, ServiceProcess() as service:
        database = kept_on_postgresql(server)
        service.start(features=["user"], database=database.url)
        writers = [_Writer(service.url, f"s{number}") for number in range(_WRITERS)]
        end = threading.Event()
        with ThreadPoolExecutor(_WRITERS) as pool:
            running = [pool.submit(writer.run, end) for writer in writers]
            try:
                for writer in writers:
                    writer.wait_for_acknowledgements(10)
                server.stop(number)
                for writer in writers:
                    writer.wait_for_others(3)
                assert service.request("GET", "/api/health").status_code == 500
                answer = service.request("GET", "/query")
                assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
                server.start()
                for writer in writers:
                    writer.wait_for_acknowledgements(10)
                assert service.request("GET", "/api/health").status_code == 200
            finally:
                end.set()
            for run in running:
                run.result(DEADLINE)
        for writer in writers:
            assert writer.others.keys() == {(503, "2")}
        kept = {name for (name,) in database.rows("SELECT name FROM settings")}
        lost = {name for writer in writers for name in writer.acknowledged} - kept
        assert lost == set()
        check_invariants(database)
        service.stop()
        # Logged at the beginning and the end of the outage, not for every request.
        lines = [line for line in service.log.splitlines() if "the database is" in line]
        assert "is unavailable: " in lines[0] and "is available again" in lines[-1]
        assert len(lines) < 10
        assert "Traceback" not in service.log
