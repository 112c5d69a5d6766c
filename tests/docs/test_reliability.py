"""docs/reliability.md shows the results of the fault matrix for all faults in its table."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from doc_examples import DOCS, ROOT

PAGE = DOCS / "reliability.md"
FOLDER = ROOT / "tests" / "faults"


@pytest.fixture(autouse=True)
def _its_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(FOLDER), *sys.path])


def test_the_tables_on_the_page_are_those_of_the_saved_results() -> None:
    with_tables: Callable[[str], str] = importlib.import_module("write_reliability").with_tables
    page = PAGE.read_text()
    assert with_tables(page) == page


def test_the_saved_results_are_of_all_faults_at_all_moments_and_none_failed() -> None:
    cases: Sequence[Any] = importlib.import_module("fault_cases").CASES
    moments: Sequence[str] = [*importlib.import_module("fault_cases").Moment]
    results: list[dict[str, Any]] = importlib.import_module("write_reliability").saved()
    backends = {result["backend"] for result in results}
    wanted = {
        (case.name, moment, backend) for case in cases for moment in moments for backend in backends
    }
    found = [(result["fault"], result["moment"], result["backend"]) for result in results]
    assert sorted(found) == sorted(wanted)
    assert not [result for result in results if "failed" in result]
