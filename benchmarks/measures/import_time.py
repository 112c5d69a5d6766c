"""What does ``import heksher`` cost a program that starts?

Fresh interpreters import heksher, and msgspec alone, in turn, and say how long the import took: the
interpreter's own start is not counted. msgspec is what heksher cannot do without; httpx and anyio are
imported when a client is made. All is compiled already, and in the operating system's cache.

Conclude: that is what a command line that never makes a client pays for having settings.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from machinery.ratio_table import Ratios


def measure_the_import(ratios: Ratios, tmp_path: Path) -> None:
    times: dict[str, list[float]] = {"heksher": [], "msgspec": []}
    for number in range(1 + (2 if ratios.quick else 25)):
        for module, milliseconds in times.items():
            taken = import_in_a_fresh_interpreter(module, tmp_path)
            if number:  # the first one reads and compiles
                milliseconds.append(taken)
    title = "import heksher (floor: import msgspec)"
    ratios.add(title, times["heksher"], times["msgspec"], unit="ms", at_most=1.6)


def import_in_a_fresh_interpreter(module: str, compiled: Path) -> float:
    """Milliseconds that the import of *module* takes, with the folder *compiled* for its code."""
    code = (
        f"from time import perf_counter; began = perf_counter(); import {module}; "
        "print(1e3 * (perf_counter() - began))"
    )
    command = [sys.executable, "-c", code]
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": str(compiled)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)  # noqa: S603
    return float(done.stdout)
