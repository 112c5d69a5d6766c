"""When to ask the service again. Pure: numbers in, seconds out; chance is handed in.

``chance`` is a number from [0, 1), uniformly random.
"""

from __future__ import annotations


def first_delay(interval: float, chance: float) -> float:
    """Seconds from the start to the first poll: anywhere in the interval, to spread a fleet."""
    return interval * chance


def next_delay(interval: float, chance: float) -> float:
    """Seconds from one successful update to the next poll: 0.8 to 1.0 of the interval."""
    return interval * (0.8 + 0.2 * chance)


def retry_delay(
    interval: float, chance: float, failures: int, retry_after: float | None = None
) -> float:
    """Seconds to wait after a failure: exponential backoff with full jitter.

    Args:
        interval: the update interval, which is the longest wait.
        chance: uniformly random.
        failures: failures in a row, at least 1.
        retry_after: seconds that the service asked for, honoured up to the interval.
    """
    # The exponent is bounded as well: 2.0 ** 1100 is an error.
    bound = min(interval, min(1.0, interval) * 2.0 ** min(failures - 1, 64))
    return max(bound * chance, min(retry_after or 0.0, interval))
