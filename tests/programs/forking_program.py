"""A program that forks twice while its client runs, as gunicorn does.

``python forking_program.py URL`` prints a line for each step, and never hangs for long. The test changes
the rule to 2 when both children run, and to 3 when both have ended.
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

# Seconds. After them, the system ends a process that hangs.
DEADLINE = 30

FEATURES = ["environment", "user", "theme"]

ttl = Setting("ttl", int, ["user"], 60)
#: What a listener was told, in this process and before the fork.
told: list[tuple[int, int]] = []


def say(text: str) -> None:
    """Write a line with one system call, since several processes write to the same pipe."""
    os.write(1, f"{text}\n".encode())


def wait_for(value: int) -> None:
    """Return once the rule has *value*; the alarm ends a process that waits too long."""
    while ttl.get(user="jim") != value:
        time.sleep(0.01)


def main(url: str) -> None:
    """Fork two children, and print the steps of the parent and how the children ended."""
    signal.alarm(3 * DEADLINE)  # longer than for the children, to print how they ended
    client = ThreadHeksherClient(url, 0.1, FEATURES, startup="raise")
    client.track_contexts(user="jim")
    ttl.on_change(lambda event: told.append((event.old, event.new)), user="jim")
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
    say(f"parent: reload returned, told {told}")
    client.close()
    say("parent: closed")


def fork(in_child: Callable[[], None]) -> int:
    """Run a function in a new child process, and return the child's process id."""
    with warnings.catch_warnings():
        # Newer Pythons warn of a fork with threads, which is what the test is about.
        warnings.filterwarnings("ignore", ".*multi-threaded", DeprecationWarning)
        pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        signal.alarm(DEADLINE)  # a child does not inherit its parent's alarm
        in_child()
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def child(client: ThreadHeksherClient, number: int) -> None:
    """Use the parent's client in a child."""
    say(f"child {number}: get answers {ttl.get(user='jim')}")
    wait_for(2)
    say(f"child {number}: new rule arrived")
    client.reload()
    say(f"child {number}: reload returned, told {told}")
    client.close()
    say(f"child {number}: closed")


if __name__ == "__main__":
    main(sys.argv[1])
