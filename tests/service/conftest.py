"""Fixtures of the tests of the service: the databases, one after another."""

from __future__ import annotations

import pytest
from databases import SQLITE, Database


@pytest.fixture(scope="session", params=["SQLite"])
def database() -> Database:
    """One body for all databases: the test is run once on each."""
    return SQLITE
