"""A program that forks again and again while its client and two threads are busy.

``python busy_fork_program.py URL`` prints "done" if each child could use its client. The system ends a
process that hangs.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback

from heksher import Setting, ThreadHeksherClient

DEADLINE = 30  # seconds
CHILDREN = 20

ttl = Setting("ttl", int, ["user"], 60)


def work(client: ThreadHeksherClient, end: threading.Event) -> None:
    """Take all locks of the library again and again."""
    number = 0
    while not end.is_set():
        number += 1
        client.track_contexts(user=f"user {number % 5}")
        assert client.status.failures == 0
        with client.modification_lock:
            ttl.get(user="jim")


def child(client: ThreadHeksherClient) -> None:
    """Use everything that takes a lock, in a child."""
    signal.alarm(DEADLINE)
    assert ttl.get(user="jim") == 1
    client.reload()
    client.track_contexts(user="joe")
    Setting("of_the_child", int, ["user"], 1)
    with client.modification_lock:
        assert ttl.get(user="jim") == 1
    client.close()


def main(url: str) -> None:
    """Fork one child after another."""
    signal.alarm(3 * DEADLINE)
    sys.setswitchinterval(0.0001)  # so that threads are often interrupted while they hold a lock
    client = ThreadHeksherClient(url, 0.01, ["user"], startup="raise")
    client.track_contexts(user="jim")
    client.set_as_main()
    end = threading.Event()
    threads = [threading.Thread(target=work, args=[client, end]) for _ in range(2)]
    for thread in threads:
        thread.start()
    for _ in range(CHILDREN):
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                child(client)
                status = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(status)
        assert os.waitpid(pid, 0)[1] == 0
    end.set()
    for thread in threads:
        thread.join()
    client.close()
    print("done", flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
