"""How long a client waits: bounds, growth, jitter, and what the service asked for."""

from __future__ import annotations

import math
import random
from collections import Counter

import pytest

from heksher._client.history import first_delay, next_delay, retry_delay

LAST_CHANCE = math.nextafter(1.0, 0.0)


def test_the_first_poll_comes_anywhere_in_the_interval() -> None:
    assert first_delay(60, 0.0) == 0.0
    assert first_delay(60, 0.5) == 30.0
    assert round(first_delay(60, LAST_CHANCE), 6) == 60
    assert first_delay(60, LAST_CHANCE) <= 60


def test_later_polls_come_in_the_last_fifth_of_the_interval() -> None:
    assert round(next_delay(60, 0.0), 6) == 48
    assert round(next_delay(60, 0.5), 6) == 54
    assert round(next_delay(60, LAST_CHANCE), 6) == 60
    assert next_delay(60, LAST_CHANCE) <= 60


def test_retries_double_their_bound_from_a_second_to_the_interval() -> None:
    bounds = [round(retry_delay(60, LAST_CHANCE, failures), 6) for failures in range(1, 10)]
    assert bounds == [1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_with_an_interval_below_a_second_retries_start_with_the_interval() -> None:
    assert round(retry_delay(0.25, LAST_CHANCE, 1), 6) == 0.25
    assert round(retry_delay(0.25, LAST_CHANCE, 5), 6) == 0.25


@pytest.mark.parametrize("failures", [1, 4, 20])
def test_the_jitter_is_full(failures: int) -> None:
    top = retry_delay(60, LAST_CHANCE, failures)
    assert retry_delay(60, 0.0, failures) == 0.0
    assert round(retry_delay(60, 0.5, failures), 6) == round(top / 2, 6)


@pytest.mark.parametrize(("failures", "bound"), [(1, 1), (4, 8), (30, 60)])
def test_a_fleet_that_fails_at_one_moment_comes_back_evenly_spread(
    failures: int, bound: float
) -> None:
    generator = random.Random(7)
    number, parts = 100_000, 50
    delays = [retry_delay(60, generator.random(), failures) for _ in range(number)]
    assert min(delays) >= 0
    assert max(delays) <= bound
    assert sum(delays) / number == pytest.approx(bound / 2, rel=0.01)
    counts = Counter(int(delay / bound * parts) for delay in delays)
    assert sorted(counts) == [*range(parts)]
    # Pearson's test of uniformity: 85.35 is what one in a thousand uniform samples exceeds.
    expected = number / parts
    assert sum((count - expected) ** 2 / expected for count in counts.values()) < 85.35


@pytest.mark.parametrize("failures", [1025, 10**6, 10**30])
def test_any_number_of_failures_has_a_delay(failures: int) -> None:
    assert round(retry_delay(60, LAST_CHANCE, failures), 6) == 60


def test_what_the_service_asks_for_is_honoured_up_to_the_interval() -> None:
    assert retry_delay(60, 0.5, 1, retry_after=7) == 7
    assert retry_delay(60, 0.5, 1, retry_after=3600) == 60
    assert retry_delay(60, 0.5, 1, retry_after=0) == 0.5
    assert retry_delay(60, 0.5, 1, retry_after=None) == 0.5


def test_what_the_service_asks_for_does_not_shorten_the_backoff() -> None:
    assert retry_delay(60, 0.5, 6, retry_after=1) == 16
