"""What does it cost to bring new rules into force?

A publish makes dicts of the rules, with the constant defaults folded in, writes the source of `get`,
compiles it unless a setting of the same shape was published before, and puts it in place. It happens
once for each setting whose rules changed, in the background, and never within a call. Measured by
pytest-benchmark, whose options all work; the floor is a dict that is filled with the same rules.

Conclude: multiply the microseconds per rule by the rules that change at once in your application.
"""

from __future__ import annotations

import statistics
import time

import pytest
from ours import published, setting_of
from pytest_benchmark.fixture import BenchmarkFixture
from ratio_table import Ratios
from shapes import Shape, of_size


@pytest.mark.parametrize("rules", [10, 1_000, 100_000])
def measure_a_publish(rules: int, ratios: Ratios, benchmark: BenchmarkFixture) -> None:
    shape = of_size(min(rules, 1_000) if ratios.quick else rules)
    setting = setting_of(shape)
    state = published(shape)

    def publish() -> None:
        setting.published = state

    benchmark(publish)
    if benchmark.stats is None:  # --benchmark-disable
        return
    times: list[float] = benchmark.stats.stats.data  # pyright: ignore[reportUnknownMemberType]
    ours = statistics.median(times)
    floor = statistics.median(seconds_by_hand(shape) for _ in range(ratios.rounds))
    ratios.add(
        f"publish {shape.title}, for each rule",
        [1e6 * ours / len(shape.rules)],
        [1e6 * floor / len(shape.rules)],
        unit="µs",
    )


def seconds_by_hand(shape: Shape) -> float:
    """Fill a dict with the rules of *shape*."""
    began = time.perf_counter()
    by_user: dict[str, int] = {}
    for conditions, value in shape.rules:
        by_user[conditions["user"]] = value
    return time.perf_counter() - began
