"""Does a call leave anything behind?

Each shape is called ten thousand times. tracemalloc says how many bytes are held afterwards that were
not before, and ``sys.getallocatedblocks`` how many blocks, whether or not tracemalloc knows of them.
What the same loop keeps without a call is subtracted. The function by hand runs beside it. The same is
asked of updates that the service answers by "unchanged" (304), over an HTTP client whose transport is in
memory.

Conclude: nothing is kept, however often `get()` is called and the service asked, and so nothing grows.
"""

from __future__ import annotations

import gc
import sys
import tracemalloc

import httpx
import pytest
from machinery.answers import CONFIGURABLE, FEATURES, Answers
from machinery.interleaved import REPEATED, Loop, loop_of
from machinery.ours import checked
from machinery.ratio_table import Ratios, Row
from machinery.shapes import BY_NUMBER_OF_FEATURES, INTRODUCTION, Shape

from heksher import Setting, ThreadHeksherClient, testing

CALLS = 10_000
UPDATES = 200


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


def measure_what_unchanged_answers_keep(ratios: Ratios) -> None:
    updates = 20 if ratios.quick else UPDATES
    testing.reset()  # so that the client serves no other settings
    answers = Answers(1, 10)
    setting = Setting(answers.names[0], int, CONFIGURABLE, 60)

    def answer(request: httpx.Request) -> httpx.Response:
        if "if-none-match" in request.headers:
            return httpx.Response(304)
        answered = answers.answer(request)
        answered.headers["etag"] = '"1"'
        return answered

    options = {"transport": httpx.MockTransport(answer)}
    size, blocks = 0, 0
    with ThreadHeksherClient(
        "http://memory", 1e6, FEATURES, http_client_args=options, startup="raise"
    ) as client:
        tracemalloc.start()
        try:
            for _ in range(4):  # the first times, things are put aside to be used again
                before = held()
                for _ in range(updates):
                    client.reload()
                size, blocks = (now - then for now, then in zip(held(), before, strict=True))
        finally:
            tracemalloc.stop()
    assert setting.get(environment="dev", user="user7") == 7
    title = f"kept by {updates} unchanged answers"
    # One block for each would be hundreds.
    met = None if ratios.quick else blocks < updates / 10
    ratios.rows.append(Row(title, f"{size} B, {blocks} blocks", "", None, "none per answer", met))


def held() -> tuple[int, int]:
    """Return how many bytes and blocks are held."""
    gc.collect()  # what HTTP clients throw away is left to it
    return tracemalloc.get_traced_memory()[0], sys.getallocatedblocks()


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
