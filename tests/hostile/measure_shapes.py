"""Measure what each hostile shape costs a client on each backend, and print a table.

``python tests/hostile/measure_shapes.py [--bytes N] [--backends thread,asyncio] [-k WORD] [--gzip]``

The default size is that of `max_response_bytes`. Each cell is a process of its own. The longest stop of
another thread, and the work of two updates, are in milliseconds of processor time. Memory is the peak,
less that of a client that has not started. The last column has the outcome.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from shapes import SHAPES

HERE = Path(__file__).parent
BACKENDS = "thread,gevent,asyncio,trio"
#: Milliseconds for which no answer may stop other threads.
MOST = 100


def measure(name: str, size: int, coding: str, backends: list[str]) -> list[dict[str, Any]]:
    """Return the results for one shape, by backend."""
    command = [sys.executable, str(HERE / "shape_server.py"), name, str(size), coding]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as server:
        try:
            assert server.stdout is not None
            port = server.stdout.readline().strip()
            return [client(backend, port) for backend in backends]
        finally:
            server.kill()


def client(backend: str, port: str) -> dict[str, Any]:
    """Return the result of one client."""
    done = subprocess.run(
        [sys.executable, str(HERE / "shape_client.py"), backend, port],
        capture_output=True,
        text=True,
        timeout=300,
    )
    if done.returncode:
        return {"stop": 9.999, "seconds": 0, "memory": 0, "error": f"died: {done.returncode}"}
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def outcome(result: dict[str, Any]) -> str:
    """Say in a few words what became of an answer."""
    if result["error"]:
        return f"refused: {result['error']}"
    return f"other={result['other']} victim={result['victim']!r} rejected={result['rejected']}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bytes", type=int, default=10 * 1024 * 1024 - 1024)
    parser.add_argument("--backends", default=BACKENDS)
    parser.add_argument("--gzip", action="store_true", help="answer in gzip")
    parser.add_argument("-k", default="", help="only shapes with this word")
    options = parser.parse_args()
    backends: list[str] = options.backends.split(",")
    coding = "gzip" if options.gzip else "plain"
    print(f"| shape | longest stop: {', '.join(backends)} | work | memory | outcome |")
    print("|---|---|---|---|---|")
    worst = 0.0
    for name in SHAPES:
        if options.k in name:
            results = measure(name, options.bytes, coding, backends)
            worst = max(worst, *(each["stop"] for each in results))
            stops = ", ".join(f"{1e3 * each['stop']:.0f}" for each in results)
            work = max(each["seconds"] for each in results)
            memory = max(each["memory"] for each in results)
            said = " / ".join(dict.fromkeys(map(outcome, results)))
            print(
                f"| {name} | {stops} ms | {1e3 * work:.0f} ms | {memory / 2**20:.0f} MiB | {said} |",
                flush=True,
            )
    print(f"\nThe longest stop: {1e3 * worst:.0f} ms, of {MOST} ms that it may take.")
    if 1e3 * worst > MOST:
        sys.exit(1)


if __name__ == "__main__":
    main()
