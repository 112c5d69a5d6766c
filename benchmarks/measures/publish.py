"""What does it cost to publish new rules?

An update puts the rules into dicts; `refresh.py` measures this part. A publish folds the constant
defaults, writes the source of `get`, compiles it unless a setting of the same shape was published
before, and installs it. This happens once for each setting whose rules changed, in the background, and
never during a call. pytest-benchmark measures it, and all its options work. The floor fills a dict with
the rules that remain after folding.

Conclusion: multiply the microseconds per rule by the number of rules that change at once in your
application.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import replace

import pytest
from machinery.ours import publish, setting_of, table_of
from machinery.ratio_table import Ratios
from machinery.shapes import Shape, of_size
from pytest_benchmark.fixture import BenchmarkFixture


@pytest.mark.parametrize("rules", [10, 1_000, 100_000])
def measure_a_publish(rules: int, ratios: Ratios, benchmark: BenchmarkFixture) -> None:
    shape = to_fold(min(rules, 1_000) if ratios.quick else rules)
    setting = setting_of(shape)
    assert setting.get(user="user1") == 1
    table = table_of(shape)
    benchmark(lambda: publish(setting, table, shape))
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


def to_fold(rules: int) -> Shape:
    """Return a shape with *rules* rules for users, half of which require the default environment."""
    shape = of_size(rules)
    return replace(
        shape,
        features=("environment", "user"),
        rules=tuple(
            ({"environment": "dev", **conditions} if number % 2 else conditions, value)
            for number, (conditions, value) in enumerate(shape.rules)
        ),
        defaults={"environment": "dev"},
    )


def seconds_by_hand(shape: Shape) -> float:
    """Return the seconds that it takes to fill a dict with the rules of *shape*."""
    began = time.perf_counter()
    by_user: dict[str, int] = {}
    for conditions, value in shape.rules:
        by_user[conditions["user"]] = value
    return time.perf_counter() - began
