"""A client of a hostile service, and a thread that watches how long it is stopped.

``shape_client.py BACKEND PORT`` starts a client, updates it again, and prints the result as JSON.

The interpreter's lock is what stops other threads. The watching thread sleeps for half a millisecond,
again and again. Between two of its turns the processor time of the whole process is what others used,
so that a machine which is busy with something else does not count.
"""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import resource
import sys
import threading
import time
from collections.abc import Awaitable
from contextlib import suppress
from typing import Any

import trio

from heksher import AsyncHeksherClient, Setting, ThreadHeksherClient
from heksher.exceptions import HeksherError


class Watcher:
    """Measures the longest time for which a thread gets no turn, in seconds of processor time."""

    def __init__(self) -> None:
        self.longest = 0.0
        self._stop = False
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        before = time.process_time()
        while not self._stop:
            time.sleep(0.0005)
            now = time.process_time()
            self.longest = max(self.longest, now - before)
            before = now

    def stop(self) -> None:
        self._stop = True
        self._thread.join()


def peak_bytes() -> int:
    """Return the most memory that this process had at any time."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


async def update(client: Any) -> None:
    """Start *client* and update it once more, be it blocking or not."""

    async def done(result: Awaitable[object] | None) -> None:
        if result is not None:
            await result

    await done(client.set_as_main())
    with suppress(HeksherError):
        await done(client.reload())
    await done(client.close() if hasattr(client, "close") else client.aclose())


def main() -> None:
    backend, port = sys.argv[1:]
    logging.disable()
    victim = Setting("victim", str, ["user", "env"], "local")
    other = Setting("other", int, ["user"], 1)
    args: Any = (f"http://127.0.0.1:{port}", 1e6, ["user", "env"])
    options: Any = {"startup": "continue", "startup_timeout": 100, "request_timeout": 100}
    make: Any = ThreadHeksherClient if backend in ("thread", "gevent") else AsyncHeksherClient
    client = make(*args, backend=backend, **options)
    gc.collect()
    base, began = peak_bytes(), time.process_time()
    watcher = Watcher()

    match backend:
        case "asyncio":
            asyncio.run(update(client))
        case "trio":
            trio.run(update, client)
        case _:
            with suppress(StopIteration):
                update(client).send(None)  # it never suspends
    watcher.stop()
    error = client.status.last_error
    print(
        json.dumps(
            {
                "stop": watcher.longest,
                "seconds": time.process_time() - began,
                "memory": peak_bytes() - base,
                "other": other.get(user="u"),
                "victim": victim.get(user="u", env="e")[:5],
                "rejected": len(client.status.rejected_rules),
                "error": str(error)[:80] if error else "",
            }
        )
    )


if __name__ == "__main__":
    main()
