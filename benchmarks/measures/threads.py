"""Do threads that call ``get()`` slow each other down?

Eight threads call one setting as often as they can, and then one thread; the same with the function
written by hand. Each number is the calls per second of all threads together, ours divided by the
floor's. This quotient must be the same with eight threads as with one. Where the interpreter has a
global lock, it slows both down equally.

Conclusion: with a ratio near 1, a call takes no lock and writes to nothing that threads share.
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
            # The total work does not depend on the number of threads.
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
    """Run *loop* in several threads at once, and return the calls per second of all together."""
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
