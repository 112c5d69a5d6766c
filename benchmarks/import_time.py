"""What does ``import heksher`` cost a program that starts?

Fresh interpreters import heksher, and msgspec alone, in turn, and say how long the import took: the
interpreter's own start is not counted. msgspec is what heksher cannot do without; httpx and anyio are
imported when a client is made. Files are in the operating system's cache, and compiled.

Conclude: that is what a command line that never makes a client pays for having settings.
"""

from __future__ import annotations

import statistics
import subprocess
import sys

from ratio_table import Ratios


def measure_the_import(ratios: Ratios) -> None:
    times: dict[str, list[float]] = {"heksher": [], "msgspec": []}
    for number in range(1 + (2 if ratios.quick else 25)):
        for module, milliseconds in times.items():
            taken = import_in_a_fresh_interpreter(module)
            if number:  # the first one may have to read and compile
                milliseconds.append(taken)
    ours, floor = (statistics.median(each) for each in times.values())
    ratios.add("import heksher (floor: import msgspec)", ours, floor, unit="ms", at_most=1.6)


def import_in_a_fresh_interpreter(module: str) -> float:
    """Milliseconds that the import of *module* takes."""
    code = (
        f"from time import perf_counter; began = perf_counter(); import {module}; "
        "print(1e3 * (perf_counter() - began))"
    )
    command = [sys.executable, "-c", code]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)  # noqa: S603
