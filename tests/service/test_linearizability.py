"""Answers are linearizable, while services, connections and databases are killed.

Each rule has one writer, and its values only grow. Two services share the database, and clients keep what
they know from one when they ask the other what is new. An answer must not be older than a write that was
acknowledged before the request, nor older than an answer that came before the request. The former is
what clients rely on, and the latter holds for writes whose acknowledgement was lost, too.

``--kills N`` does it longer than the gate.
"""

from __future__ import annotations

import json
import random
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import httpx
import pytest
from crowd import declaration
from killable import KillableService
from support.databases import kept_on_postgresql, kept_on_sqlite
from support.service_process import DEADLINE

if TYPE_CHECKING:
    from support.postgres import PostgresServer

WRITERS = 2  # each with a setting of its own
READERS = 4
KILLS = 4


class History:
    """What is known of the rules: a lower and an upper bound for the value of each.

    Attributes:
        acknowledged: counts the acknowledged writes.
        answers: the number of answers that were checked.
    """

    def __init__(self, rules: Sequence[int]) -> None:
        self.acknowledged = threading.Semaphore(0)
        self.answers = 0
        self._least = dict.fromkeys(rules, 1)
        self._most = dict.fromkeys(rules, 1)
        self._guard = threading.Lock()

    def write(self, rule: int, send: Callable[[int], bool]) -> None:
        """Write the next value of a rule. *send* says whether it was acknowledged."""
        self._most[rule] += 1
        value = self._most[rule]
        if send(value):
            self._note({rule: value})
            self.acknowledged.release()

    def read(self, send: Callable[[], Mapping[int, int] | None]) -> None:
        """Check an answer. *send* returns the values in it; None if there was no answer."""
        least = dict(self._least)
        values = send()
        most = dict(self._most)
        if values is not None:
            assert values.keys() == least.keys()
            for rule, value in values.items():
                assert least[rule] <= value <= most[rule], (rule, least, values, most)
            self._note(values)

    def _note(self, values: Mapping[int, int]) -> None:
        with self._guard:
            self.answers += 1
            for rule, value in values.items():
                self._least[rule] = max(self._least[rule], value)


class _Known(NamedTuple):
    """What a client knows from an answer."""

    tag: str = ""
    revision: str = ""
    sections: Mapping[str, Any] = {}


class Client:
    """A client that asks one of the services at random, and goes on when they fail."""

    def __init__(self, services: Sequence[KillableService], seed: int) -> None:
        self._services = services
        self._chance = random.Random(seed)
        self._http = httpx.Client(timeout=DEADLINE, trust_env=False)
        self._known = dict[str, _Known]()

    def write(self, rule: int, value: int) -> bool:
        """Set the value of a rule; return whether that was acknowledged."""
        answer = self.send("PUT", f"/rules/{rule}/value", json={"value": value})
        return answer is not None

    def read(self) -> Mapping[int, int] | None:
        """Query the values of all rules, mostly for what is new since the latest answer."""
        query = self._chance.choice(["/query?", "/query?settings=a,b"])
        known = self._known.get(query, _Known())
        since = known.revision if self._chance.random() < 0.8 else ""
        tag = known.tag if self._chance.random() < 0.5 else ""
        answer = self.send("GET", f"{query}&since={since}", headers={"If-None-Match": tag})
        if answer is None:
            return None
        sections = known.sections
        if answer.status_code == 200:
            sections = json.loads(answer.content)["settings"]
            if "heksher-partial" in answer.headers:
                assert since
                sections = known.sections | sections
        self._known[query] = _Known(
            answer.headers["etag"], answer.headers["heksher-revision"], sections
        )
        rules = [rule for section in sections.values() for rule in section["rules"]]
        return {rule["rule_id"]: rule["value"] for rule in rules}

    def send(self, method: str, path: str, **options: object) -> httpx.Response | None:
        """Send a request; None if the service or the database is down."""
        url = self._chance.choice(self._services).url
        try:
            answer = self._http.request(method, f"{url}/api/v1{path}", **options)  # type: ignore[arg-type]
        except httpx.TransportError:
            return None
        if answer.status_code == 503:
            return None
        assert answer.status_code in (200, 201, 204, 304), answer.text
        return answer

    def close(self) -> None:
        """Close its connections."""
        self._http.close()


def check(
    database: str, kills: Sequence[Callable[[Sequence[KillableService]], None]], seed: int
) -> None:
    """Write and read through two services, and kill at times that the writes determine."""
    with ExitStack() as stack:
        services = [KillableService(database) for _ in range(2)]
        for service in services:
            stack.callback(service.kill)
        clients = [Client(services, seed + number) for number in range(WRITERS + READERS)]
        for client in clients:
            stack.callback(client.close)
        rules = list[int]()
        for name in "ab":
            method, path, body = declaration(name)
            clients[0].send(method, path, json=body)
            rule = {"setting": name, "feature_values": {"user": "x"}, "value": 1}
            added = clients[0].send("POST", "/rules", json=rule)
            assert added is not None
            rules.append(added.json()["rule_id"])
        history = History(rules)
        end = threading.Event()

        def write(client: Client, rule: int) -> None:
            while not end.is_set():
                history.write(rule, lambda value: client.write(rule, value))

        def read(client: Client) -> None:
            while not end.is_set():
                history.read(client.read)

        pool = stack.enter_context(ThreadPoolExecutor(len(clients)))
        running = [
            pool.submit(write, client, rule)
            for client, rule in zip(clients[:WRITERS], rules, strict=True)
        ]
        running += [pool.submit(read, client) for client in clients[WRITERS:]]
        try:
            chance = random.Random(seed)
            for kill in kills:
                for _ in range(chance.randrange(3, 12)):
                    assert history.acknowledged.acquire(timeout=DEADLINE)
                while history.acknowledged.acquire(blocking=False):
                    pass
                kill(services)
            assert history.acknowledged.acquire(timeout=DEADLINE)
        finally:
            end.set()
        for each in running:
            each.result(DEADLINE)
        for client in clients[:WRITERS]:
            history.read(client.read)
        assert history.answers > len(kills)


@pytest.fixture
def kills(request: pytest.FixtureRequest) -> int:
    given: int | None = request.config.getoption("--kills")
    return KILLS if given is None else given


def _kill_service(chance: random.Random) -> Callable[[Sequence[KillableService]], None]:
    def kill(services: Sequence[KillableService]) -> None:
        service = chance.choice(services)
        service.kill()
        service.start()

    return kill


def test_on_sqlite(tmp_path: Path, kills: int) -> None:
    database = kept_on_sqlite(tmp_path / "heksher.db")
    chance = random.Random(1)
    check(database.url, [_kill_service(chance)] * kills, seed=1)


def test_on_postgresql(server: PostgresServer, kills: int) -> None:
    """Services, connections to the database, and now and then the whole server."""
    database = kept_on_postgresql(server)
    chance = random.Random(2)

    def cut_connections(_services: object) -> None:
        database.rows(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )

    def crash(_services: object) -> None:
        server.stop(signal.SIGQUIT)
        server.start()

    kinds = [_kill_service(chance), cut_connections, cut_connections, crash]
    check(database.url, [kinds[number % len(kinds)] for number in range(kills)], seed=2)


@pytest.fixture
def server(postgres_server: PostgresServer) -> Iterator[PostgresServer]:
    """Not the shared server of all tests: it is configured without durability."""
    with type(postgres_server)(fsync=True) as started:
        yield started
