"""What the applications share: a setting, their clients, and the answer of a worker."""

from __future__ import annotations

import os

from heksher import AsyncHeksherClient, Setting, ThreadHeksherClient

INTERVAL = 0.1

limit = Setting("limit", int, ["user"], 60)


def thread_client() -> ThreadHeksherClient:
    """Return a new client for an application with threads."""
    return ThreadHeksherClient(os.environ["HEKSHER_URL"], INTERVAL, ["user"])


def async_client() -> AsyncHeksherClient:
    """Return a new client for an application on an event loop."""
    return AsyncHeksherClient(os.environ["HEKSHER_URL"], INTERVAL, ["user"])


def answer() -> dict[str, int]:
    """Return this process's id and the setting's value in it."""
    return {"pid": os.getpid(), "value": limit.get(user="jim")}
