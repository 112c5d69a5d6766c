"""A program with a pool of processes, which look settings up that are defined in the module.

``python pool_program.py METHOD`` says, a line for each round, what each worker found last; it ends
when all of them find 2.
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
    """Say which worker this is, and what it finds."""
    return answer()


def main(method: str) -> None:
    """Ask all workers, time and again."""
    start()
    # A forked worker has its parent's client, which lives on there; one that is spawned has none.
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
