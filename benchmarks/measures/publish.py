"""What does it cost to bring new rules into force?

An update leaves the rules in dicts (what that costs, `refresh.py` measures). A publish folds the constant
defaults in, writes the source of `get`, compiles it unless a setting of the same shape was published
before, and puts it in place. It happens once for each setting whose rules changed, in the background,
and never within a call. Measured by pytest-benchmark, whose options all work; the floor is a dict that
is filled by hand with the rules that are left after folding.

Conclude: multiply the microseconds per rule by the rules that change at once in your application.
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
    """As many rules for users, half of them in an environment that is the default."""
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
    """Fill a dict with the rules of *shape*."""
    began = time.perf_counter()
    by_user: dict[str, int] = {}
    for conditions, value in shape.rules:
        by_user[conditions["user"]] = value
    return time.perf_counter() - began
