"""Clients that ask for what is new have what the service has, whatever happened before.

Two processes of the service share a database (one, if it is in memory). In between, they write, restart,
and are stopped for a restore of older data; operators change the database without them.

``--stories N`` tells N of them on each database.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from partial_client import FEATURES, Client, Process, a_setting
from support.databases import kept_on_postgresql, kept_on_sqlite

from heksher.service.domain.refusals import Refusal
from heksher.service.storage import Writer, open_storage

if TYPE_CHECKING:
    from support.postgres import PostgresServer

#: What happens, and numbers that choose of what it happens to, modulo their count.
Step: TypeAlias = tuple[str, int, int]

STORIES = {"memory": 3, "SQLite": 3, "PostgreSQL": 1}
_STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            ["ask"] * 8 + ["value"] * 4 + ["add", "remove", "default", "note", "new"]
            + ["delete", "rename", "features", "by hand", "restart", "back up", "restore"]
        ),
        st.integers(0, 11),
        st.integers(0, 11),
    ),
    min_size=12,
    max_size=24,
)  # fmt: skip
_QUERIES = [
    {},
    {"settings": "a,c", "include_metadata": "true"},
    {"settings": "a,b", "context_filters": "user:(x)"},
    {"context_filters": "theme:*"},
]


class Place:
    """A database and the processes on it.

    Args:
        url: the database.
        by_hand: changes it without a process.
        back_up, restore: called while no process runs.
    """

    def __init__(
        self,
        url: str,
        by_hand: Callable[[], object],
        back_up: Callable[[], object],
        restore: Callable[[], object],
    ) -> None:
        self.url, self.by_hand = url, by_hand
        self._back_up, self._restore = back_up, restore
        self._has_backup = False
        self.processes: list[Process] = []

    def start(self) -> None:
        count = 1 if self.url == "memory" else 2
        self.processes = [Process(open_storage(self.url)) for _ in range(count)]
        with self.processes[0].storage.writing() as writer:
            for record in writer.settings():
                writer.delete_setting(record.name)
            writer.put_features(FEATURES)
            for name in "abc":
                writer.add_setting(a_setting(name))
        self._has_backup = False

    def stop(self) -> None:
        for process in self.processes:
            process.storage.close()

    def restart(self, number: int) -> None:
        if self.url != "memory":
            self.processes[number].storage.close()
            self.processes[number] = Process(open_storage(self.url))

    def while_stopped(self, *, restores: bool) -> None:
        if self.url == "memory" or (restores and not self._has_backup):
            return
        self.stop()
        (self._restore if restores else self._back_up)()
        self._has_backup = True
        self.processes = [Process(open_storage(self.url)) for _ in self.processes]


@pytest.fixture(params=["memory", "SQLite", "PostgreSQL"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    by_hand = "UPDATE rules SET value = '1' || value"
    if request.param == "PostgreSQL":
        server: PostgresServer = request.getfixturevalue("postgres_server")
        kept = kept_on_postgresql(server)
        name = kept.url.partition("@/")[2].partition("?")[0]

        def copy(source: str, target: str) -> None:
            with server.connect() as connection:
                connection.execute(f"DROP DATABASE IF EXISTS {target} WITH (FORCE)".encode())
                connection.execute(f"CREATE DATABASE {target} TEMPLATE {source}".encode())

        return Place(
            kept.url,
            lambda: kept.rows(by_hand),
            lambda: copy(name, f"{name}_backup"),
            lambda: copy(f"{name}_backup", name),
        )
    path, backup = tmp_path / "heksher.db", tmp_path / "backup.db"
    kept = kept_on_sqlite(path)
    return Place(
        "memory" if request.param == "memory" else kept.url,
        (lambda: None) if request.param == "memory" else lambda: kept.rows(by_hand),
        lambda: shutil.copy(path, backup),
        lambda: shutil.copy(backup, path),
    )


def write(writer: Writer, kind: str, which: int, how: int) -> None:
    """Change something, if it is there."""
    records = writer.settings()
    record = records[which % len(records)] if records else a_setting("a")
    rules = [rule.id for rule in writer.rules([record.name])]
    rule = rules[how % len(rules)] if rules else 0
    if kind == "features":
        writer.put_features(FEATURES if how % 2 else FEATURES[::-1])
    elif kind == "new":
        name = "abcd"[how % 4]
        if writer.canonical_name(name) is None:
            writer.add_setting(a_setting(name))
    elif not records:
        return
    elif kind == "add":
        conditions = [{"user": "x"}, {"user": "y"}, {"theme": "x"}, {"user": "x", "theme": "y"}]
        writer.add_rule(record.name, str(how), conditions[how % 4], {})
    elif kind == "default":
        writer.replace_setting(record, dataclasses.replace(record, default_value=str(how)))
    elif kind == "delete":
        writer.delete_setting(record.name)
    elif kind == "rename":
        name = "abcd"[how % 4]
        if writer.canonical_name(name) in (None, record.name) and name != record.name:
            aliases = {*record.aliases, record.name} - {name}
            renamed = dataclasses.replace(record, name=name, aliases=tuple(sorted(aliases)))
            writer.replace_setting(record, renamed)
    elif rule and kind == "value":
        writer.put_rule_value(rule, str(how))
    elif rule and kind == "remove":
        writer.delete_rule(rule)
    elif rule and kind == "note":
        writer.put_rule_metadata(rule, {"n": how})


def check(process: Process, client: Client, query: dict[str, str]) -> None:
    """Ask for what is new, and compare with what a new client of a new process gets."""
    expected = Client(**query)
    with suppress(Refusal):  # a setting was deleted
        expected.ask(Process(process.storage))
        client.ask(process)
        assert (client.sections, client.tag) == (expected.sections, expected.tag)
        assert (client.since, client.features) == (expected.since, expected.features)


def test_clients_have_what_the_service_has(place: Place, request: pytest.FixtureRequest) -> None:
    given_number: int | None = request.config.getoption("--stories")
    number = given_number or STORIES[request.node.callspec.params["place"]]

    @settings(max_examples=number, deadline=None, phases=[Phase.generate])
    @given(_STEPS)
    def tell(steps: list[Step]) -> None:
        clients = [Client(**query) for query in _QUERIES]
        place.start()
        try:
            for kind, which, how in steps:
                process = place.processes[which % len(place.processes)]
                if kind == "ask":
                    check(process, clients[how % len(clients)], _QUERIES[how % len(clients)])
                elif kind == "restart":
                    place.restart(which % len(place.processes))
                elif kind in ("back up", "restore"):
                    place.while_stopped(restores=kind == "restore")
                elif kind == "by hand":
                    place.by_hand()
                else:
                    with process.storage.writing() as writer:
                        write(writer, kind, which // 2, how)
            for process in place.processes:
                for client, query in zip(clients, _QUERIES, strict=True):
                    check(process, client, query)
        finally:
            place.stop()

    tell()
