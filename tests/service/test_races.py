"""Concurrent requests to two services on one database behave as if executed one after another."""

from __future__ import annotations

import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest
from crowd import Request, at_once, check_invariants, declaration, statuses
from support.databases import KeptDatabase, kept_on_postgresql, kept_on_sqlite
from support.service_process import ServiceProcess


class Services:
    """Two processes on one database."""

    def __init__(self, database: KeptDatabase, processes: list[ServiceProcess]) -> None:
        self.database = database
        self.one, self.other = processes
        self.urls = [self.one.url, self.other.url]

    def at_once(self, *requests: Request) -> dict[int, int]:
        """Send all requests at once, distributed over both services; count the answers by status."""
        return statuses(at_once(self.urls, requests))

    def get(self, path: str) -> Any:
        """Return the answer of both services, which must be the same."""
        answer = self.one.get(path)
        assert self.other.get(path) == answer
        return answer


@pytest.fixture(scope="module", params=["SQLite", "PostgreSQL"])
def pair(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Services]:
    """Both start at the same time on a database without tables."""
    if request.param == "SQLite":
        database = kept_on_sqlite(tmp_path_factory.mktemp("races") / "heksher.db")
    else:
        database = kept_on_postgresql(request.getfixturevalue("postgres_server"))
    with ExitStack() as stack:
        processes = [stack.enter_context(ServiceProcess()) for _ in range(2)]
        with ThreadPoolExecutor() as pool:
            starts = [
                pool.submit(process.start, features=["user"], database=database.url)
                for process in processes
            ]
        assert all(start.result() for start in starts)
        yield Services(database, processes)


@pytest.fixture
def services(pair: Services) -> Iterator[Services]:
    pair.one.empty(["user"])
    yield pair
    check_invariants(pair.database)


def rule(setting: str, user: str = "x", value: int = 1) -> Request:
    return "POST", "/rules", {"setting": setting, "feature_values": {"user": user}, "value": value}


def rename(setting: str, name: str, version: str = "1.0") -> Request:
    return "PUT", f"/settings/{setting}/name", {"name": name, "version": version}


def test_a_setting_is_created_once(services: Services) -> None:
    answers = at_once(services.urls, [declaration("a")] * 24)
    outcomes = sorted(answer.json()["outcome"] for answer in answers)
    assert outcomes == ["created"] + ["uptodate"] * 23
    different = [declaration("b", default_value=number) for number in range(12)]
    answers = at_once(services.urls, different)
    assert statuses(answers) == {200: 1, 409: 11}
    created = next(answer for answer in answers if answer.status_code == 200)
    wanted = different[answers.index(created)][2]["default_value"]
    assert services.get("/settings/b")["default_value"] == wanted


def test_a_rule_is_created_once(services: Services) -> None:
    services.one.declare("a")
    for user in ("x", "y", "z"):
        assert services.at_once(*[rule("a", user)] * 12) == {201: 1, 409: 11}
    ids = [found["rule_id"] for found in services.get("/query")["settings"]["a"]["rules"]]
    assert ids == [ids[0], ids[0] + 1, ids[0] + 2]  # refused requests have used up no ids


def test_a_feature_that_is_used_stays(services: Services) -> None:
    for number in range(5):
        services.one.add_feature("f")
        declared = declaration(f"s{number}", configurable_features=["f"])
        delete: Request = ("DELETE", "/context_features/f", None)
        answers = at_once(services.urls, [declared, delete, declared, delete])
        found = [answer.status_code for answer in answers]
        if services.get("/context_features")["context_features"] == ["user"]:
            assert sorted(found) == [204, 404, 404, 404]
        else:
            assert found == [200, 409, 200, 409]
            services.one.delete_setting(f"s{number}")
            services.one.request("DELETE", "/context_features/f")


def test_a_name_is_taken_once(services: Services) -> None:
    for number in range(8):
        services.one.declare(f"s{number}")
    renames = [rename(f"s{number}", "taken") for number in range(8)]
    assert services.at_once(*renames) == {204: 1, 409: 7}
    left = [
        name for name in (f"s{number}" for number in range(8)) if name not in _aliases(services)
    ]
    answers = at_once(services.urls, [rename(left[0], "new"), declaration("new", default_value=1)])
    # The first one gets the name. For the other one, it is a different setting or an existing name.
    assert [answer.status_code for answer in answers] in ([204, 409], [409, 200])


def _aliases(services: Services) -> set[str]:
    listed = services.get("/settings?include_additional_data=true")["settings"]
    return {alias for setting in listed for alias in setting["aliases"]}


def test_versions_never_go_down(services: Services) -> None:
    services.one.declare("a")
    upgrades = [declaration("a", default_value=n, version=f"1.{n}") for n in range(1, 25)]
    random.Random(1).shuffle(upgrades)
    answers = at_once(services.urls, upgrades)
    assert {answer.json()["outcome"] for answer in answers} <= {"upgraded", "outdated"}
    found = services.get("/settings/a")
    assert (found["version"], found["default_value"]) == ("1.24", 24)
    # Each upgrade was to a higher version than the one before it.
    previous = sorted(
        (_pair(body["previous_version"]), _pair(request[2]["version"]))
        for request, body in zip(upgrades, (answer.json() for answer in answers), strict=True)
        if body["outcome"] == "upgraded"
    )
    assert [before for before, _ in previous] == [(1, 0), *(after for _, after in previous[:-1])]


def _pair(version: str) -> tuple[int, int]:
    major, minor = version.split(".")
    return int(major), int(minor)


def test_features_are_added_and_moved_at_once(services: Services) -> None:
    names = [f"f{number}" for number in range(12)]
    added = [("POST", "/context_features", {"context_feature": name}) for name in names]
    assert services.at_once(*added, *added) == {204: 12, 409: 12}
    moves = [("PATCH", f"/context_features/{name}/index", {"to_before": "user"}) for name in names]
    assert services.at_once(*moves) == {204: 12}
    assert sorted(services.get("/context_features")["context_features"]) == [*sorted(names), "user"]


def test_everything_at_once(services: Services) -> None:
    """A random mixture of requests with few names, so that they collide."""
    chance = random.Random(6)
    names = ["a", "b", "c", "d"]
    for name in names:
        services.one.declare(name)
    first = services.one.add_rule("a", 0, user="v")
    requests = [_anything(chance, names, first) for _ in range(600)]
    answers = at_once(services.urls, requests, connections=12)
    assert max(answer.status_code for answer in answers) < 500
    assert {200, 201, 204, 404, 409} <= statuses(answers).keys()
    # Each created rule still exists, unless the rule or its setting was deleted.
    made = {answer.json()["rule_id"] for answer in answers if answer.status_code == 201}
    left = {number for (number,) in services.database.rows("SELECT id FROM rules")}
    assert left <= made | {first}
    services.get("/settings?include_additional_data=true")
    services.get("/query")


def _anything(chance: random.Random, names: list[str], first_rule: int) -> Request:
    some_rule = first_rule + chance.randrange(60)
    one, other = chance.choice(names), chance.choice(names)
    version = f"1.{chance.randrange(20)}"
    requests: list[Request] = [
        declaration(one, version=version, default_value=chance.randrange(3)),
        declaration(one, alias=other if other != one else None, version=version),
        rename(one, other, version),
        rule(one, chance.choice("xyz"), chance.randrange(5)),
        rule(one, chance.choice("xyz"), chance.randrange(5)),
        ("DELETE", f"/rules/{some_rule}", None),
        ("PUT", f"/rules/{some_rule}/value", {"value": chance.randrange(5)}),
        ("PUT", f"/settings/{one}/metadata", {"metadata": {other: 1}, "version": version}),
        ("PUT", f"/settings/{one}/type", {"type": "float", "version": version}),
        declaration(one),
    ]
    if chance.random() < 0.02:
        return "DELETE", f"/settings/{one}", None
    return chance.choice(requests)


def test_many_applications_start_at_once(services: Services) -> None:
    """500 new settings are declared on 50 connections."""
    requests = [declaration(f"setting_{number}") for number in range(500)]
    assert statuses(at_once(services.urls[:1], requests, connections=50)) == {200: 500}
    assert services.database.rows("SELECT count(*) FROM settings") == [(500,)]
