"""A program that forks only to run other programs, as most programs fork.

``python exec_program.py URL`` prints "started", and "done" when all of them have ended.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading

from heksher import ThreadHeksherClient

TIMES = 20
PROGRAM = ["/bin/sh", "-c", ":"]


def main(url: str) -> None:
    """Run another program many times, in every way."""
    # The first poll is due after half of the interval, so none happens here.
    client = ThreadHeksherClient(url, 1000, [], startup="raise", random=lambda: 0.5)
    client.set_as_main()
    print("started", flush=True)
    for _ in range(TIMES):
        child = os.fork()
        if child == 0:
            # The child has the client's thread, which waits.
            assert any(thread.name == "heksher-client" for thread in threading.enumerate())
            os.execv(PROGRAM[0], PROGRAM)
        _, status = os.waitpid(child, 0)
        assert status == 0
        # Only the first of these calls Python's hooks.
        subprocess.run(PROGRAM, check=True, preexec_fn=lambda: None)
        subprocess.run(PROGRAM, check=True)
        _, status = os.waitpid(os.posix_spawn(PROGRAM[0], PROGRAM, os.environ), 0)
        assert status == 0
    print("done", flush=True)
    os._exit(0)  # without closing connections


if __name__ == "__main__":
    main(sys.argv[1])
