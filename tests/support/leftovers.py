"""Count the things that a client must not leave behind: tasks, threads, greenlets, sockets."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import threading
from collections import Counter
from typing import Any

import trio

from heksher.backends._running import running_library
from support.harness import Harness


class Leftovers:
    """A count of them at this moment, to compare with later counts."""

    def __init__(self) -> None:
        self._before = _census()

    def found(self) -> Counter[str]:
        """Return the numbers of those that exist now and did not exist at first."""
        return _census() - self._before

    async def gone(self, backend: Harness) -> None:
        """Return once nothing is left. Cancelled tasks need a moment to end."""
        await backend.until(lambda: not self.found(), f"nothing is left of {self.found()}")


def _census() -> Counter[str]:
    census: Counter[str] = Counter()
    # Other threads belong to the tests.
    census["threads"] = sum(t.name.startswith("heksher") for t in threading.enumerate())
    library = running_library()
    gevent: Any = sys.modules.get("gevent")
    if library == "asyncio":
        census["tasks"] = sum("heksher" in task.get_name() for task in asyncio.all_tasks())
    elif library == "trio":
        root = trio.lowlevel.current_root_task()
        assert root is not None
        system = [task for nursery in root.child_nurseries for task in nursery.child_tasks]
        census["tasks"] = sum("heksher" in task.name for task in system)
    elif gevent is not None:
        # Only where no event loop runs, since looking at all objects takes long.
        census["greenlets"] = sum(
            each.name.startswith("heksher") and not each.dead
            for each in gc.get_objects()
            if type(each) is gevent.Greenlet
        )
    for number in os.listdir("/proc/self/fd"):
        try:
            census["sockets"] += os.readlink(f"/proc/self/fd/{number}").startswith("socket:")
        except FileNotFoundError:
            pass  # the descriptor of the listing itself
    return census
