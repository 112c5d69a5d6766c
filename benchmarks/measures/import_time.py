"""How long does ``import heksher`` take?

New interpreters import heksher, or only msgspec, in turn, and print how long the import took; the start
of the interpreter does not count. msgspec is the floor because heksher cannot work without it. httpx and
anyio are imported when a client is made. All modules are compiled, and in the operating system's cache.

Conclusion: this is what settings cost a command that never makes a client.
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
            if number:  # the first one compiles the modules
                milliseconds.append(taken)
    title = "import heksher (floor: import msgspec)"
    ratios.add(title, times["heksher"], times["msgspec"], unit="ms", at_most=1.6)


def import_in_a_fresh_interpreter(module: str, compiled: Path) -> float:
    """Return the milliseconds that importing *module* takes; *compiled* is the folder for bytecode."""
    code = (
        f"from time import perf_counter; began = perf_counter(); import {module}; "
        "print(1e3 * (perf_counter() - began))"
    )
    command = [sys.executable, "-c", code]
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": str(compiled)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)  # noqa: S603
    return float(done.stdout)
