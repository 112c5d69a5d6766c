"""What a client remembers of its updates, and when the next one is due.

Pure: numbers in, numbers out. The clocks' readings and the chance, a number from [0, 1) that is uniformly
random, are handed in. All times are in seconds; a *moment* is what the client's clocks show, a *date* is
seconds since the epoch.

Clocks cannot be trusted one by one. The clock of an event loop stands still while a laptop is suspended.
The wall clock is set, forward and back. Tests freeze either. So the time between two moments is the most
that any clock says. A clock that stood still or went back does not count then, and one that jumped forward
makes the next update due, whose success sets things right.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import TypeAlias

from heksher.exceptions import UnexpectedStatusError

#: What each clock shows; the client's comes first.
Moment: TypeAlias = tuple[float, ...]


def elapsed(since: Moment, now: Moment) -> float:
    """Return the seconds from one moment to another. Below 0: all clocks went back."""
    return max(map(operator.sub, now, since), default=0.0)


def first_delay(interval: float, chance: float) -> float:
    """Return the seconds from the start to the first poll: anywhere in the interval, to spread a fleet."""
    return interval * chance


def next_delay(interval: float, chance: float) -> float:
    """Return the seconds from a successful update to the next poll: 0.8 to 1.0 of the interval."""
    return interval * (0.8 + 0.2 * chance)


def retry_delay(
    interval: float, chance: float, failures: int, retry_after: float | None = None
) -> float:
    """Return the seconds to wait after a failure: exponential backoff with full jitter.

    Args:
        interval: the update interval, which is the longest wait.
        chance: uniformly random.
        failures: failures in a row, at least 1.
        retry_after: seconds that the service asked for, honoured up to the interval.
    """
    # The exponent is bounded as well: 2.0 ** 1100 is an error.
    bound = min(interval, min(1.0, interval) * 2.0 ** min(failures - 1, 64))
    return max(bound * chance, min(retry_after or 0.0, interval))


@dataclass(slots=True)
class History:
    """How the updates of one client went.

    Attributes:
        interval: seconds between updates.
        planned: the moment when the next poll was planned.
        delay: seconds from then to the poll, at most the interval.
        polls: updates that were begun, since the client was made.
        has_succeeded: whether an update has ended since the last start, and the newest one succeeded.
        failures: updates that failed in a row.
        retries: updates that failed in a row since the last `reload`; the next pause depends on it.
        last_error: the newest failure, also after a success.
        succeeded: the moment of the newest success.
        last_success: its date.
        last_failure: the date of the newest failure.
    """

    interval: float
    planned: Moment = ()
    delay: float = 0.0
    polls: int = 0
    has_succeeded: bool = False
    failures: int = 0
    retries: int = 0
    last_error: Exception | None = None
    succeeded: Moment | None = None
    last_success: float | None = None
    last_failure: float | None = None

    def begin_start(self) -> None:
        """Forget the failures of an earlier start."""
        self.failures = self.retries = 0
        self.has_succeeded = False
        self.last_error = None

    def begin_update(self, *, is_requested: bool) -> None:
        """Note that an update begins; *is_requested*: by `reload`, whose caller waits for it."""
        self.polls += 1
        if is_requested:
            self.retries = 0

    def note_success(self, now: Moment, date: float, chance: float) -> None:
        """Note a successful update, and when the next one is due."""
        delay = first_delay if self.succeeded is None else next_delay
        self.planned, self.delay = now, delay(self.interval, chance)
        self.has_succeeded = True
        self.failures = self.retries = 0
        self.succeeded, self.last_success = now, date

    def note_failure(self, error: Exception, now: Moment, date: float, chance: float) -> None:
        """Note a failed update, and when it is tried again."""
        self.has_succeeded = False
        self.failures += 1
        self.retries += 1
        self.last_error, self.last_failure = error, date
        retry_after = error.retry_after if isinstance(error, UnexpectedStatusError) else None
        delay = retry_delay(self.interval, chance, self.retries, retry_after)
        self.planned, self.delay = now, delay

    def resume(self, now: Moment, chance: float, *, is_due: bool) -> None:
        """Plan the first poll of a forked child.

        Not at once, unless it *is_due*: a server forks all its workers at one moment, and some forks
        end in an exec.
        """
        self.planned = now
        self.delay = 0.0 if is_due else first_delay(self.interval, chance)

    def left(self, now: Moment) -> float:
        """Return the seconds to the next poll, at most the interval; 0 or less: it is due."""
        if elapsed(self.planned, now) < 0:
            return 0.0  # all clocks went back, so the time since then is unknown
        # The sum first: if a clock shows exactly that, as a simulated one does, nothing may be left.
        due = [each + self.delay for each in self.planned]
        return min(map(operator.sub, due, now), default=0.0)

    def move_clock(self, offset: float) -> None:
        """Go on by another client's clock, which shows *offset* seconds more than the one before."""
        if self.succeeded is not None:
            first, *others = self.succeeded
            self.succeeded = (first + offset, *others)

    def staleness(self, now: Moment) -> float | None:
        """Return the seconds since the newest success, or None if there was none."""
        return None if self.succeeded is None else max(0.0, elapsed(self.succeeded, now))
