"""A program that forks while an asynchronous client runs: ``python forking_async_program.py LOOP URL``.

It prints a line for each step. The settings are not updated in the child until the child starts the
client in its own event loop. The test changes the rule to 2 after the fork.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import Any

import anyio
import anyio.to_thread

from heksher import AsyncHeksherClient
from heksher.exceptions import ClientNotStartedError
from programs.forking_program import DEADLINE, FEATURES, fork, say, ttl


def child(client: AsyncHeksherClient, loop: Any) -> None:
    """Use the parent's client in the child, first without and then with an event loop."""
    status = client.status
    say(f"child: get answers {ttl.get(user='jim')}")
    say(f"child: {status.state}, {status.source}, {json.dumps(status.as_dict())[:22]}...")
    say(f"child: {'no updates in this process' in str(status)}")
    sys.stdin.readline()
    signal.set_wakeup_fd(-1)  # it belongs to the parent's loop, and trio would warn of it
    say(f"child: get still answers {ttl.get(user='jim')}")
    anyio.run(start_in_child, client, backend=loop)
    say(f"child: {client.status.state}")


async def start_in_child(client: AsyncHeksherClient) -> None:
    """Start the client in an event loop of the child."""
    try:
        await client.reload()
    except ClientNotStartedError as error:
        # The client now has the clock of this event loop, which may have started at another number.
        staleness = client.status.staleness
        is_aging = staleness is not None and 0 < staleness < DEADLINE
        say(f"child: {'start it in this process' in str(error)}, {is_aging}")
    async with client:
        staleness = client.status.staleness
        say(
            f"child: {client.status.state}, fresh: {staleness is not None and staleness < DEADLINE}"
        )
        say(f"child: get answers {ttl.get(user='jim')}")
        await client.reload()


async def main(loop: Any, url: str) -> None:
    """Fork in a thread, since trio can run only once in each thread."""
    client = AsyncHeksherClient(url, 0.1, FEATURES)
    async with client:
        async with client.modification_lock:
            pid = await anyio.to_thread.run_sync(fork, lambda: child(client, loop))
        _, status = await anyio.to_thread.run_sync(os.waitpid, pid, 0)
        say(f"parent: child ended with {os.waitstatus_to_exitcode(status)}")
        await client.reload()
        say(f"parent: {client.status.state}, get answers {ttl.get(user='jim')}")
        say(f"parent: {client.status.failures} failures, {client.status.last_failure}")


if __name__ == "__main__":
    signal.alarm(3 * DEADLINE)
    anyio.run(main, sys.argv[1], sys.argv[2], backend=sys.argv[1])
