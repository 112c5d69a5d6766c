"""The comparison with other libraries says which one is faster, and works without a missing library."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from doc_examples import PATIENCE, ROOT

BENCHMARKS = ROOT / "benchmarks"


@pytest.fixture
def peers(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(sys, "path", [str(BENCHMARKS), *sys.path])
    return importlib.import_module("peers.compare")


@pytest.mark.parametrize(
    ("theirs", "faster", "met"), [(90.0, "60.0 x", "yes"), (30.0, "20.0 x", "NO")]
)
def test_the_ratios_to_the_floors_are_compared(
    theirs: float, faster: str, met: str, peers: Any
) -> None:
    # On a busy machine, everything in one process may take twice as long as in the other.
    row = peers.Row(
        "a call",
        "a library",
        {"subject": theirs * 2e-7, "floor": 2e-7, "ratio": theirs},
        {"subject": 1.5e-7, "floor": 1e-7, "ratio": 1.5},
        50,
    )
    assert row.cells()[4:] == (faster, "at least 50 x", met)


@pytest.mark.integration
def test_a_library_that_cannot_be_installed_is_left_out(peers: Any, tmp_path: Path) -> None:
    missing = peers.Peer("missing", "Missing", (str(tmp_path / "there-is-none"),), "")
    asking = peers.Asking(tmp_path, [missing])
    assert asking.ask(missing, "look_ups") is None
    assert asking.left_out == {missing}
    assert asking.notes == ["Missing is left out: it could not be installed."]


@pytest.mark.integration
def test_the_runner_asks_this_library_and_the_function_by_hand() -> None:
    environment = {name: each for name, each in os.environ.items() if name != "PYTHONSAFEPATH"}
    done = subprocess.run(
        [sys.executable, "-m", "peers.runner", "ours", "look_ups"],
        env=environment,
        cwd=BENCHMARKS,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    shapes = json.loads(done.stdout)["times"]
    assert len(shapes) == 3
    for times in shapes.values():
        assert times["ratio"] > 0
        assert times["subject"] > 0
        assert times["floor"] > 0
