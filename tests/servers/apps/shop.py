"""What the applications of these tests have in common: a setting, and what a worker says of itself."""

from __future__ import annotations

import os

from heksher import AsyncHeksherClient, Setting, ThreadHeksherClient

INTERVAL = 0.1

limit = Setting("limit", int, ["user"], 60)


def thread_client() -> ThreadHeksherClient:
    """Return a client for an application of threads, not yet started."""
    return ThreadHeksherClient(os.environ["HEKSHER_URL"], INTERVAL, ["user"])


def async_client() -> AsyncHeksherClient:
    """Return a client for an application on an event loop, not yet started."""
    return AsyncHeksherClient(os.environ["HEKSHER_URL"], INTERVAL, ["user"])


def answer() -> dict[str, int]:
    """Return which process this is, and the setting's value in it."""
    return {"pid": os.getpid(), "value": limit.get(user="jim")}
