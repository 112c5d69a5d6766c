"""The machine's own clock, which goes on whatever is done to the others."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial


def _choose() -> Callable[[], float]:
    # On macOS the second one goes on in a suspended machine, unlike `time.monotonic`. Windows has neither,
    # and there `time.monotonic` goes on.
    for name in ("CLOCK_BOOTTIME", "CLOCK_MONOTONIC"):
        try:
            time.clock_gettime(number := getattr(time, name))
        except (AttributeError, OSError):
            continue
        return partial(time.clock_gettime, number)
    return time.monotonic


#: Returns seconds since a fixed moment. It never goes back, and goes on while the machine is suspended.
#: Tests that freeze `time.monotonic` leave it alone, as they do the real time that events wait for.
steady = _choose()
