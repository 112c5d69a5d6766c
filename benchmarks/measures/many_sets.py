"""What do rules cost that use very many sets of features?

Fifteen features have 32,767 sets. Each table has one rule on each of N sets. Measured are a call that the
rule of the lowest rank answers, a call that no rule matches, the processor time of a publish, the longest
time for which it stops another thread, and the memory of rules and plan. Up to 16 sets each one has a
dict; with more there is one index.

Conclusion: with thousands of sets, a call takes microseconds, and a publish stops other threads for less
than 50 ms.
"""

from __future__ import annotations

import gc
import random
import threading
import time
import tracemalloc
from collections.abc import Generator
from contextlib import contextmanager

import pytest
from machinery.interleaved import nanoseconds
from machinery.ratio_table import Ratios, Row

from heksher import Setting
from heksher._rules.contexts import Defaults
from heksher._rules.groups import GroupedRules, SharedStrings
from heksher._rules.table import RuleTable
from heksher.setting import state_of

FEATURES = tuple(f"feature{number}" for number in range(15))

#: Milliseconds that a publish may stop other threads.
MOST_MILLISECONDS = 100


@pytest.mark.parametrize("sets", [1, 8, 16, 17, 64, 65, 512, 4096, 32_767])
def measure_rules_on_many_sets(sets: int, ratios: Ratios) -> None:
    if ratios.quick and sets > 512:
        pytest.skip("takes a minute; --quick leaves it out")
    setting = Setting(f"on_{sets}_sets", int, FEATURES, -1)
    state = state_of(setting)
    kept, table = kept_by_rules(setting, sets)
    stops = Stops()
    took: list[float] = []
    for _ in range(3):
        with stops.watched():
            began = time.thread_time()
            state.publish(state.prepare(table, Defaults()))
            took.append(1e3 * (time.thread_time() - began))
    lowest = dict.fromkeys(FEATURES, "y") | {FEATURES[0]: "x"}
    none = dict.fromkeys(FEATURES, "y")
    assert [setting.get(**lowest), setting.get(**none)] == [1, -1]
    times = nanoseconds(
        {
            name: f"get({', '.join(f'{key}={value!r}' for key, value in context.items())})"
            for name, context in (("lowest", lowest), ("none", none))
        },
        {"get": setting.get},
        rounds=3 if ratios.quick else 11,
        times=20,
    )
    lowest_us, none_us = (min(each) / 1e3 for each in times.values())
    figures = (
        f"{lowest_us:.2f} µs the lowest rule, {none_us:.2f} µs no rule, publish {min(took):.1f} ms, "
        f"stop {min(stops.longest):.1f} ms, {kept / 1e6:.2f} MB"
    )
    met = None if ratios.quick else min(stops.longest) <= MOST_MILLISECONDS
    target = f"stop at most {MOST_MILLISECONDS} ms"
    ratios.rows.append(Row(f"rules on {sets:,} sets of features", figures, "", None, target, met))


def kept_by_rules(setting: Setting[int], sets: int) -> tuple[int, RuleTable[int]]:
    """Publish a table of *sets* rules, each on another set; return the bytes kept, and the table."""
    masks = random.Random(1).sample(range(2, 1 << len(FEATURES)), sets - 1)  # noqa: S311
    state = state_of(setting)
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        rules = GroupedRules[int](FEATURES)
        for number, mask in enumerate([1, *masks], 1):
            names = tuple(name for place, name in enumerate(FEATURES) if mask >> place & 1)
            conditions = tuple((name, "x") for name in names)
            rules.group_of(names).extend(names, [number], [conditions], [number], SharedStrings())
        table = RuleTable(-1, rules, FEATURES)
        state.publish(state.prepare(table, Defaults()))
        gc.collect()
        return tracemalloc.get_traced_memory()[0] - before, table
    finally:
        tracemalloc.stop()


class Stops:
    """How long another thread has to wait: the longest time of each action, in milliseconds."""

    def __init__(self) -> None:
        self.longest: list[float] = []

    @contextmanager
    def watched(self) -> Generator[None]:
        """Watch one action."""
        begun, over = threading.Event(), threading.Event()
        gaps: list[float] = []

        def beat() -> None:
            last = time.perf_counter()
            while not over.is_set():
                begun.set()
                time.sleep(0.0005)
                now = time.perf_counter()
                gaps.append(1e3 * (now - last))
                last = now

        thread = threading.Thread(target=beat)
        thread.start()
        begun.wait()
        try:
            yield
        finally:
            over.set()
            thread.join()
        self.longest.append(max(gaps))
