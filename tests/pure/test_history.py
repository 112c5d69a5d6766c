"""When a client asks again: bounds, growth, jitter, Retry-After, and the history."""

from __future__ import annotations

import math
import random
from collections import Counter

import pytest

from heksher._client.history import History, first_delay, next_delay, retry_delay
from heksher.exceptions import ServiceUnreachableError, UnexpectedStatusError

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
    # Pearson's test of uniformity: one in a thousand uniform samples exceeds 85.35.
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


# --- the history ----------------------------------------------------------------------------------

MIDDLE = 0.5
START = (1000.0,)


def test_the_first_success_is_followed_by_a_poll_anywhere_in_the_interval() -> None:
    history = History(60)
    history.note_success(START, 1.7e9, MIDDLE)
    assert history.left(START) == 30
    history.note_success((1030.0,), 1.7e9, MIDDLE)
    assert history.left((1030.0,)) == 54


def test_failures_in_a_row_are_counted_until_a_success() -> None:
    history = History(60)
    error = ServiceUnreachableError("no answer")
    for count in (1, 2, 3):
        history.begin_update(is_requested=False)
        history.note_failure(error, START, 1.7e9, MIDDLE)
        assert (history.failures, history.last_error, history.last_failure) == (count, error, 1.7e9)
        assert history.left(START) == 2 ** (count - 1) * MIDDLE
    history.note_success((1010.0,), 1.8e9, MIDDLE)
    assert (history.failures, history.last_error, history.last_success) == (0, error, 1.8e9)
    assert history.polls == 3


def test_a_reload_begins_the_pauses_anew_and_goes_on_counting_failures() -> None:
    history = History(60)
    error = ServiceUnreachableError("no answer")
    for _ in range(5):
        history.note_failure(error, START, 1.7e9, MIDDLE)
    history.begin_update(is_requested=True)
    history.note_failure(error, START, 1.7e9, MIDDLE)
    assert history.left(START) == MIDDLE
    assert history.failures == 6


def test_the_service_may_ask_for_a_longer_pause() -> None:
    history = History(60)
    history.note_failure(UnexpectedStatusError("busy", 503, 40.0), START, 1.7e9, MIDDLE)
    assert history.left(START) == 40


def test_a_start_has_succeeded_when_its_newest_update_has() -> None:
    history = History(60)
    assert not history.has_succeeded
    history.note_success(START, 1.7e9, MIDDLE)
    assert history.has_succeeded
    history.note_failure(ServiceUnreachableError("no answer"), (1001.0,), 1.7e9, MIDDLE)
    assert not history.has_succeeded
    history.note_success((1002.0,), 1.7e9, MIDDLE)
    history.begin_start()
    assert not history.has_succeeded
    assert history.staleness((1012.0,)) == 10


def test_staleness_goes_on_by_another_clock() -> None:
    history = History(60)
    assert history.staleness((5.0,)) is None
    history.note_success(START, 1.7e9, MIDDLE)
    history.move_clock(-900)
    assert history.staleness((107.0,)) == 7
    assert history.staleness((99.0,)) == 0, "never below zero, whatever a clock says"


@pytest.mark.parametrize(("is_due", "left"), [(True, 0), (False, 30)])
def test_a_forked_child_polls_at_once_only_if_the_parent_rested(is_due: bool, left: float) -> None:
    history = History(60)
    history.resume(START, MIDDLE, is_due=is_due)
    assert history.left(START) == left


# --- clocks that cannot be trusted ----------------------------------------------------------------

#: The client's clock, and the wall clock.
BOTH = (1000.0, 1.7e9)
HOURS = 8 * 3600.0


def history_of_a_success(now: tuple[float, ...] = BOTH) -> History:
    """Return the history of a client that polls again after 54 seconds."""
    history = History(60)
    history.note_success(now, 1.7e9, MIDDLE)
    history.note_success(now, 1.7e9, MIDDLE)
    return history


@pytest.mark.parametrize(
    "now",
    [
        pytest.param((1010.0, 1.7e9 + HOURS), id="a machine was suspended"),
        pytest.param((1000.0 + HOURS, 1.7e9 + 10), id="the event loop's clock jumped"),
    ],
)
def test_the_largest_time_counts(now: tuple[float, ...]) -> None:
    history = history_of_a_success()
    assert history.left(now) == 54 - HOURS
    assert history.staleness(now) == HOURS
    history.note_success(now, 1.8e9, MIDDLE)
    assert history.left(now) == 54
    assert history.staleness(now) == 0, "a success sets it right"


@pytest.mark.parametrize(
    "now",
    [
        pytest.param((1010.0, 1.7e9), id="the wall clock is frozen"),
        pytest.param((1000.0, 1.7e9 + 10), id="the event loop's clock is frozen"),
        pytest.param((1010.0, 1.7e9 - HOURS), id="the wall clock was set back"),
    ],
)
def test_a_clock_that_stands_still_or_goes_back_does_not_count(now: tuple[float, ...]) -> None:
    history = history_of_a_success()
    assert history.left(now) == 44
    assert history.staleness(now) == 10


@pytest.mark.parametrize("begun", [(1.9e9, 1.9e9), (1.9e9,)])
def test_an_update_is_due_if_all_clocks_went_back(begun: tuple[float, ...]) -> None:
    """As at the end of a test that freezes the time in a later year."""
    history = history_of_a_success(begun)
    assert history.left(BOTH[: len(begun)]) == 0
    assert history.staleness(BOTH[: len(begun)]) == 0


def test_no_wait_is_longer_than_the_interval_whatever_the_clocks_show() -> None:
    generator = random.Random(7)
    for _ in range(1000):
        history = History(60)
        moments = [(generator.uniform(-1e9, 1e9), generator.uniform(0, 2e9)) for _ in range(2)]
        history.note_success(moments[0], 1.7e9, generator.random())
        assert history.left(moments[1]) <= 60


def test_only_the_clients_own_clock_is_exchanged() -> None:
    history = history_of_a_success()
    history.move_clock(-900)
    assert history.staleness((107.0, 1.7e9 + 8)) == 8
    assert history.staleness((109.0, 1.7e9 + 8)) == 9
