"""Do threads that call ``get()`` get into each other's way?

Eight threads call one setting as often as they can, and so does one thread; likewise the function by
hand. What counts is the number of calls a second of all threads together, ours divided by the floor's:
with eight threads this quotient must be what it is with one. Both lose alike by the interpreter's own
lock, where there is one.

Conclude: a ratio near 1 means that a look-up takes no lock and shares nothing that is written.
"""

from __future__ import annotations

import threading
import time

from machinery.interleaved import REPEATED, Loop, loop_of
from machinery.ours import checked
from machinery.ratio_table import Ratios
from machinery.shapes import INTRODUCTION

THREADS = 8


def measure_eight_threads(ratios: Ratios) -> None:
    shape = INTRODUCTION[0]
    names = checked(shape)
    times = 500 if ratios.quick else 40_000
    loops = {name: loop_of(f"{name}({shape.arguments})", names) for name in ("ours.get", "floor")}
    quotients: dict[int, list[float]] = {1: [], THREADS: []}
    for _ in range(3 if ratios.quick else 15):
        for threads in quotients:
            # All of the work is the same, however many do it.
            ours, floor = (
                calls_a_second(loop, threads, times // threads) for loop in loops.values()
            )
            quotients[threads].append(ours / floor)
    one, eight = quotients.values()
    ratios.add(
        f"{THREADS} threads, calls a second in all (floor: one thread)",
        eight,
        one,
        unit="x the floor",
        at_least=0.9,
    )


def calls_a_second(loop: Loop, threads: int, times: int) -> float:
    """Run *loop* in as many *threads* at once; calls a second, of all together."""
    ready = threading.Barrier(threads + 1)

    def run() -> None:
        ready.wait()
        loop(times)

    running = [threading.Thread(target=run) for _ in range(threads)]
    for thread in running:
        thread.start()
    ready.wait()
    began = time.perf_counter()
    for thread in running:
        thread.join()
    return threads * times * REPEATED / (time.perf_counter() - began)
