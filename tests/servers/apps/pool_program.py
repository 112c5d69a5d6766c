"""A program with a pool of processes that call `get` of a setting in a module.

``python pool_program.py METHOD`` prints a line for each round, with the latest value of each worker. It
ends when all values are 2.
"""

from __future__ import annotations

import json
import multiprocessing
import sys

from shop import answer, thread_client

WORKERS = 2


def start() -> None:
    """Start this process's client."""
    thread_client().set_as_main()


def worker(task: int) -> dict[str, int]:
    """Return this worker's process id and its value."""
    return answer()


def main(method: str) -> None:
    """Ask all workers again and again."""
    start()
    # A forked worker has its parent's client, which stays alive there. A spawned worker has no client.
    initializer = None if method == "fork" else start
    newest: dict[int, int] = {}
    with multiprocessing.get_context(method).Pool(WORKERS, initializer) as pool:
        while len(newest) < WORKERS or set(newest.values()) != {2}:
            for found in pool.imap_unordered(worker, range(4 * WORKERS)):
                newest[found["pid"]] = found["value"]
            print(json.dumps(newest), flush=True)
        pool.close()
        pool.join()


if __name__ == "__main__":
    main(sys.argv[1])
