"""A program that forks as uWSGI does: in C, so that only uWSGI's hooks run, and not Python's.

``python forking_in_c_program.py URL`` prints a line for each step. Once it has started, the test changes
the rule to 2 and then writes a line to its input.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import traceback
from types import ModuleType
from typing import Any

from heksher import ThreadHeksherClient, _registry
from programs.forking_program import DEADLINE, FEATURES, say, ttl, wait_for

uwsgi: Any = ModuleType("uwsgi")
uwsgi.masterpid = os.getpid
uwsgi.opt = {"master": True}


def hold_locks(client: Any, held: threading.Event, done: threading.Event) -> None:
    """Hold the locks that the child would wait for, since this thread does not exist there."""
    with _registry.lock:
        for lock in client._core.locks:
            lock.acquire()
        held.set()
        done.wait()
        for lock in client._core.locks:
            lock.release()


def child(client: ThreadHeksherClient) -> None:
    """Use the parent's client in the child."""
    uwsgi.masterpid = os.getppid
    uwsgi.post_fork_hook()
    wait_for(2)  # at once: the parent's rules may be old
    say("child: new rule arrived")
    client.reload()
    client.close()
    say("child: closed")


def main(url: str) -> None:
    """Fork while another thread holds all locks."""
    signal.alarm(3 * DEADLINE)
    sys.modules["uwsgi"] = uwsgi
    uwsgi.post_fork_hook = lambda: say("the application's own hook")
    client = ThreadHeksherClient(url, 1000, FEATURES, startup="raise")
    client.set_as_main()
    say(f"parent: get answers {ttl.get(user='jim')}")
    sys.stdin.readline()
    held, done = threading.Event(), threading.Event()
    thread = threading.Thread(target=hold_locks, args=[client, held, done])
    thread.start()
    held.wait()
    pid = ctypes.PyDLL(None).fork()
    if pid == 0:
        status = 1
        try:
            signal.alarm(DEADLINE)
            child(client)
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    done.set()
    thread.join()
    _, status = os.waitpid(pid, 0)
    say(f"child ended with {os.waitstatus_to_exitcode(status)}")
    client.close()
    say("parent: closed")


if __name__ == "__main__":
    main(sys.argv[1])
