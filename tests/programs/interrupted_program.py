"""A script that is ended with Ctrl-C: ``python interrupted_program.py BACKEND MOMENT URL``.

BACKEND is the name of a harness. MOMENT is what the script waits for when Ctrl-C arrives: ``sleep`` for
its own work; ``start``, ``reload`` or ``ping`` for an answer that never comes. It prints ``started``
once it has started, and waits for a line on stdin before the moment.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import time

import anyio
import trio

from heksher import AsyncHeksherClient, Setting, ThreadHeksherClient

FEATURES = ["user"]
# Seconds; longer than the test waits.
LONG = 3600.0

ttl = Setting("cache_ttl", int, FEATURES, 60)


def wait_for_a_word() -> None:
    print("started", flush=True)
    sys.stdin.readline()


def with_threads(moment: str, url: str) -> None:
    client = ThreadHeksherClient(
        url,
        LONG,
        FEATURES,
        backend="gevent" if sys.argv[1] == "gevent" else "thread",
        startup="raise",
        startup_timeout=LONG,
        request_timeout=LONG,
    )
    with client:
        wait_for_a_word()
        if moment == "sleep" and sys.argv[1] == "gevent":
            import gevent

            gevent.sleep(LONG)
        elif moment == "sleep":
            while True:
                # Many short sleeps, since a signal that arrives just before a sleep does not end it.
                time.sleep(0.05)
        elif moment == "reload":
            client.reload()
        else:
            client.ping()


async def in_event_loop(moment: str, url: str) -> None:
    client = AsyncHeksherClient(url, LONG, FEATURES, startup_timeout=LONG, request_timeout=LONG)
    async with client:
        wait_for_a_word()
        if moment == "sleep":
            await anyio.sleep(LONG)
        elif moment == "reload":
            await client.reload()
        else:
            await client.ping()


def main(backend: str, moment: str, url: str) -> None:
    if backend == "asyncio":
        asyncio.run(in_event_loop(moment, url))
    elif backend == "trio":
        trio.run(in_event_loop, moment, url)
    else:
        with_threads(moment, url)


if __name__ == "__main__":
    # If the tests run in the background of a shell, Ctrl-C is ignored, and programs inherit this.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    main(*sys.argv[1:])
