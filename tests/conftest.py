"""Fixtures for all tests: backends and databases, one after another, and a fresh process state."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

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

# The first is there anyway where heksher is installed.
pytest_plugins = ["heksher.pytest_plugin", "pytester"]

#: The folders whose tests are about programs, a service and its faults: what they find depends little
#: on the Python, and they take long, so that tox runs them on one Python only.
INTEGRATION = {"cli", "docs", "faults", "servers", "service", "soak"}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add what `tests/faults/test_fault_matrix.py` takes."""
    parser.addoption(
        "--all-moments", action="store_true", help="fault matrix: each fault at every moment"
    )
    parser.addoption(
        "--save-faults", type=Path, metavar="FILE", help="fault matrix: keep the results there"
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of those folders; others of the kind mark themselves."""
    for item in items:
        if item.path.parent.name in INTEGRATION:
            item.add_marker(pytest.mark.integration)


@pytest.fixture(autouse=True)
def _fresh_process() -> Iterator[None]:
    """No main client, no settings and no stub, before and after each test."""
    testing.reset()
    yield
    testing.reset()


@pytest.fixture(params=HARNESSES, ids=lambda harness: harness.name)
def backend(request: pytest.FixtureRequest) -> Harness:
    """One body for all backends: the test is run once on each."""
    harness: type[Harness] = request.param
    return harness()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A PostgreSQL server of this run's own; a test makes its database by `create_database`."""
    pytest.importorskip("psycopg", reason="heksher[postgres] is not installed")
    from support import postgres

    if postgres.binaries() is None:
        pytest.skip("PostgreSQL's server is not installed")
    with postgres.PostgresServer() as server:
        yield server


@pytest.fixture(scope="session", params=["SQLite", "PostgreSQL"])
def database(request: pytest.FixtureRequest) -> Database:
    """One body for all databases of the service: the test is run once on each."""
    if request.param == "SQLite":
        return SQLITE
    return on_postgresql(request.getfixturevalue("postgres_server"))


@pytest.fixture(params=["SQLite", "PostgreSQL"])
def kept_database(request: pytest.FixtureRequest, tmp_path: Path) -> KeptDatabase:
    """One body for all databases that outlive a service: a new one for each test."""
    if request.param == "SQLite":
        return kept_on_sqlite(tmp_path / "heksher.db")
    return kept_on_postgresql(request.getfixturevalue("postgres_server"))
