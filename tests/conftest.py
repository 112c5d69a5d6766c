"""Fixtures for all tests: each backend, each database, and a fresh process state."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest
from support.databases import (
    SQLITE,
    Database,
    KeptDatabase,
    kept_on_postgresql,
    kept_on_sqlite,
    on_postgresql,
)
from support.harness import HARNESSES, Harness

from heksher import testing

if TYPE_CHECKING:
    from support.postgres import PostgresServer

# pytest finds the first one by itself if heksher is installed.
pytest_plugins = ["heksher.pytest_plugin", "pytester"]

#: The folders whose tests start programs and services. They take long, and their results depend little on
#: the version of Python, so tox runs them on one Python only.
INTEGRATION = {"cli", "docs", "faults", "servers", "service", "soak"}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of the fault matrix, and of tests of the service that can do more."""
    parser.addoption(
        "--all-backends",
        action="store_true",
        help="run each case of a test that is marked `spread` on every backend",
    )
    parser.addoption(
        "--all-moments", action="store_true", help="fault matrix: each fault at every moment"
    )
    parser.addoption(
        "--kills", type=int, metavar="N", help="linearizability: kill something N times"
    )
    parser.addoption(
        "--stories", type=int, metavar="N", help="partial answers: tell N stories on each database"
    )
    parser.addoption(
        "--save-faults", type=Path, metavar="FILE", help="fault matrix: keep the results there"
    )
    parser.addoption(
        "--all-browsers",
        action="store_true",
        help="web pages: also in Firefox, which starts slowly",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark the tests in the folders of `INTEGRATION`, and spread the cases of tests marked `spread`."""
    for item in items:
        if item.path.parent.name in INTEGRATION:
            item.add_marker(pytest.mark.integration)
    # A test that is named runs in full, so that any of its cases can be named, too.
    if not config.getoption("--all-backends") and not any("::" in each for each in config.args):
        left_out = _on_other_backends(items)
        config.hook.pytest_deselected(items=[item for item in items if item in left_out])
        items[:] = [item for item in items if item not in left_out]


def _on_other_backends(items: list[pytest.Item]) -> set[pytest.Item]:
    """Return what a test marked `spread` leaves out: it runs each case on one backend.

    Neighbouring cases run on different backends. If there are fewer cases than backends, cases run on
    several, so that each backend is used.
    """
    tests: defaultdict[str, dict[str, dict[int, pytest.Item]]] = defaultdict(dict)
    for item in items:
        if isinstance(item, pytest.Function) and item.get_closest_marker("spread"):
            harness = cast("type[Harness]", item.callspec.params["backend"])
            case = item.callspec.id.replace(harness.name, "", 1)
            cases = tests[item.nodeid.partition("[")[0]]
            cases.setdefault(case, {})[HARNESSES.index(harness)] = item
    return {
        item
        for cases in tests.values()
        for number, of_backend in enumerate(cases.values())
        for backend, item in of_backend.items()
        if number % len(HARNESSES) != backend and backend % len(cases) != number
    }


@pytest.fixture(autouse=True)
def _fresh_process() -> Iterator[None]:
    """Remove the main client, all settings and all stubs, before and after each test."""
    testing.reset()
    yield
    testing.reset()


@pytest.fixture
def few_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a pytest that the test starts import only the plugins it names; all of them take seconds."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")


@pytest.fixture(params=HARNESSES, ids=lambda harness: harness.name)
def backend(request: pytest.FixtureRequest) -> Harness:
    """Run the test once on each backend."""
    harness: type[Harness] = request.param
    return harness()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """Run a PostgreSQL server for this run; a test makes its database with `create_database`."""
    pytest.importorskip("psycopg", reason="heksher[postgres] is not installed")
    from support import postgres

    if postgres.binaries() is None:
        pytest.skip("PostgreSQL's server is not installed")
    with postgres.PostgresServer() as server:
        yield server


@pytest.fixture(scope="session", params=["SQLite", "PostgreSQL"])
def database(request: pytest.FixtureRequest) -> Iterator[Database]:
    """Run the test once on each database of the service."""
    if request.param == "SQLite":
        yield SQLITE
    else:
        with on_postgresql(request.getfixturevalue("postgres_server")) as emptied:
            yield emptied


@pytest.fixture(params=["SQLite", "PostgreSQL"])
def kept_database(request: pytest.FixtureRequest, tmp_path: Path) -> KeptDatabase:
    """Run the test once on each database that outlives a service; each test gets a new one."""
    if request.param == "SQLite":
        return kept_on_sqlite(tmp_path / "heksher.db")
    return kept_on_postgresql(request.getfixturevalue("postgres_server"))
