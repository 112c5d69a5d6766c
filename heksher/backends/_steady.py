"""The machine's own clock, which goes on whatever is done to the others."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial


def _choose(*names: str) -> Callable[[], float]:
    for name in names:
        try:
            time.clock_gettime(number := getattr(time, name))
        except (AttributeError, OSError):
            continue
        return partial(time.clock_gettime, number)
    return time.monotonic


# Both return seconds since a fixed moment, and never go back. Tests that freeze `time.monotonic` leave
# them alone, as they do the real time that events wait for.

#: Goes on while the machine is suspended. On macOS that is the second one; Windows has neither, and there
#: `time.monotonic` goes on.
steady = _choose("CLOCK_BOOTTIME", "CLOCK_MONOTONIC")
#: The clock that the timers of event loops go by. The first one is macOS's, and stands still while the
#: machine is suspended, as they do.
monotonic = _choose("CLOCK_UPTIME_RAW", "CLOCK_MONOTONIC")
