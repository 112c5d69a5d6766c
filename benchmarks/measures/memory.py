"""Does a call keep any memory?

Each shape is called ten thousand times. tracemalloc says how many bytes are allocated then that were not
before, and ``sys.getallocatedblocks`` how many blocks, also those that tracemalloc does not see. What
the same loop keeps without a call is subtracted. The function written by hand is measured in the same
way, and so are updates that the service answers with "unchanged" (304), over an HTTP client whose
transport is in memory.

Conclusion: neither calls of `get()` nor unchanged answers keep anything, so memory does not grow.
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
    # The interpreter may keep a few objects of its own. One byte for each call would be thousands.
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
            for _ in range(4):  # the first rounds fill caches
                before = held()
                for _ in range(updates):
                    client.reload()
                size, blocks = (now - then for now, then in zip(held(), before, strict=True))
        finally:
            tracemalloc.stop()
    assert setting.get(environment="dev", user="user7") == 7
    title = f"kept by {updates} unchanged answers"
    # One block for each answer would be hundreds.
    met = None if ratios.quick else blocks < updates / 10
    ratios.rows.append(Row(title, f"{size} B, {blocks} blocks", "", None, "none per answer", met))


def held() -> tuple[int, int]:
    """Return how many bytes and blocks are allocated."""
    gc.collect()  # HTTP clients drop objects that refer to each other
    return tracemalloc.get_traced_memory()[0], sys.getallocatedblocks()


def bytes_kept(loop: Loop) -> int:
    """Return how many bytes are allocated after *loop* that were not before."""
    gc.collect()
    kept = 0
    tracemalloc.start()
    try:
        for _ in range(2):  # the first round fills the interpreter's free lists
            before = tracemalloc.get_traced_memory()[0]
            loop(CALLS // REPEATED)
            kept = tracemalloc.get_traced_memory()[0] - before
        return kept
    finally:
        tracemalloc.stop()


def blocks_kept(loop: Loop) -> int:
    """Return how many blocks of memory are allocated after *loop* that were not before."""
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
