"""Does a call leave anything behind?

Each shape is called ten thousand times. tracemalloc says how many bytes are held afterwards that were
not before, and ``sys.getallocatedblocks`` how many blocks, whether or not tracemalloc knows of them.
What the same loop keeps without a call is subtracted. The function by hand runs beside it.

Conclude: nothing is kept, however often `get()` is called, and so nothing grows.
"""

from __future__ import annotations

import gc
import sys
import tracemalloc

import pytest
from interleaved import REPEATED, Loop, loop_of
from ours import checked
from ratio_table import Ratios, Row
from shapes import BY_NUMBER_OF_FEATURES, INTRODUCTION, Shape

CALLS = 10_000


@pytest.mark.parametrize("shape", [*INTRODUCTION, BY_NUMBER_OF_FEATURES[-1]], ids=lambda s: s.title)
def measure_what_is_kept(shape: Shape, ratios: Ratios) -> None:
    names = checked(shape)
    kept: list[tuple[int, int]] = []
    for statement in ("pass", f"ours.get({shape.arguments})", f"floor({shape.arguments})"):
        loop = loop_of(statement, names)
        kept.append((bytes_kept(loop), blocks_kept(loop)))
    bare = kept.pop(0)
    figures = [(size - bare[0], blocks - bare[1]) for size, blocks in kept]
    ours, floor = (f"{size} B, {blocks} blocks" for size, blocks in figures)
    # The interpreter may keep a thing or two for itself; a byte for each call would be thousands.
    met = all(each < CALLS / 100 for each in figures[0])
    title = f"kept by {CALLS:,} calls: {shape.title}"
    ratios.rows.append(Row(title, ours, floor, None, "none", met))


def bytes_kept(loop: Loop) -> int:
    """Bytes that are held after *loop* and were not before."""
    gc.collect()
    kept = 0
    tracemalloc.start()
    try:
        for _ in range(2):  # the first time, the interpreter puts things aside to use them again
            before = tracemalloc.get_traced_memory()[0]
            loop(CALLS // REPEATED)
            kept = tracemalloc.get_traced_memory()[0] - before
        return kept
    finally:
        tracemalloc.stop()


def blocks_kept(loop: Loop) -> int:
    """Blocks of memory that are allocated after *loop* and were not before."""
    gc.collect()
    kept = 0
    gc.disable()
    try:
        for _ in range(2):
            before = sys.getallocatedblocks()
            loop(CALLS // REPEATED)
            kept = sys.getallocatedblocks() - before
        return kept
    finally:
        gc.enable()
