"""A program that forks while its client runs: a parent and its children, as gunicorn has them.

``python forking_program.py URL`` says what it sees, a line for each thing, and never hangs for long. Who
runs it changes the rule: to 2 when both children are there, to 3 when they have ended.
"""

from __future__ import annotations

import os
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from functools import partial

from heksher import Setting, ThreadHeksherClient

# Seconds. A process that hangs is ended by the system after that.
DEADLINE = 30

FEATURES = ["environment", "user", "theme"]

ttl = Setting("ttl", int, ["user"], 60)


def say(text: str) -> None:
    """Write a line at once and as a whole; several processes write to the same pipe."""
    os.write(1, f"{text}\n".encode())


def wait_for(value: int) -> None:
    """Return once the rule has *value*; the alarm ends what waits too long."""
    while ttl.get(user="jim") != value:
        time.sleep(0.01)


def main(url: str) -> None:
    """Fork two children, and tell of them and of the parent."""
    signal.alarm(3 * DEADLINE)  # longer than the children, to tell of them
    client = ThreadHeksherClient(url, 0.1, FEATURES, startup="raise")
    client.track_contexts(user="jim")
    client.set_as_main()
    wait_for(1)
    children = [fork(partial(child, client, number)) for number in (1, 2)]
    wait_for(2)
    say("parent: new rule arrived")
    for number, pid in enumerate(children, 1):
        _, status = os.waitpid(pid, 0)
        say(f"child {number} ended with {os.waitstatus_to_exitcode(status)}")
    say("parent: children ended")
    wait_for(3)
    say("parent: newer rule arrived")
    client.reload()
    say("parent: reload returned")
    client.close()
    say("parent: closed")


def fork(in_child: Callable[[], None]) -> int:
    """Run a function in a new child process; the child's number."""
    with warnings.catch_warnings():
        # Newer Pythons warn of threads, which is what this is about.
        warnings.filterwarnings("ignore", ".*multi-threaded", DeprecationWarning)
        pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        signal.alarm(DEADLINE)  # a child does not have its parent's
        in_child()
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def child(client: ThreadHeksherClient, number: int) -> None:
    """Use, in a child, the client that the parent started."""
    say(f"child {number}: get answers {ttl.get(user='jim')}")
    wait_for(2)
    say(f"child {number}: new rule arrived")
    client.reload()
    say(f"child {number}: reload returned")
    client.close()
    say(f"child {number}: closed")


if __name__ == "__main__":
    main(sys.argv[1])
