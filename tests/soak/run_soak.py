"""The soak: clients on every backend at the same time, and a service that changes and fails at random.

``python tests/soak/run_soak.py --minutes 20 --seed 7`` prints its findings. It exits with 1 if one is
bad: a wrong value, growing memory, a thread, socket or file that is left, or a client that did not catch
up. The seed determines the changes and the faults, and when they happen.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from random import Random
from statistics import linear_regression
from typing import Any

from truth import DEFAULT, FEATURES, VALUES, State, values_of

from heksher.testing import faults as f
from heksher.testing.service import DEADLINE, LiveService

FOLDER = Path(__file__).parent
BACKENDS = ("asyncio", "trio", "thread", "gevent")
MOST_RULES = 20

#: The seconds that a reader sleeps between two bursts.
NAP = 0.02

#: The number of blocks of memory by which a client may grow between warming up and the end.
MORE_BLOCKS = 3_000


def fault(random: Random) -> f.Fault:
    """Draw a fault."""
    kinds: list[f.Fault] = [
        f.Delay(random.choice([0.05, 0.5, 3.0])),
        f.Status(random.choice([401, 403, 404, 429, 500, 502, 503])),
        f.Status(429, retry_after=random.choice([0, 1, 3600])),
        f.Status(304),
        f.Redirect(random.choice(["/elsewhere", "http://elsewhere.invalid/", "/api/v1/query"])),
        f.Close(random.choice([0, 40, 200])),
        f.Reset(random.choice([0, 40, 200])),
        f.CutShort(random.random(), honest=random.random() < 0.5),
        f.Endless(0.01),
        f.Slow(random.choice([0.0, 0.01, 0.5])),
        f.InvalidJson(),
        f.WrongShape(random.choice(["null", "[]", "5", '{"settings": {"soak": 5}}'])),
        f.ContentType(),
        f.ContentEncoding(random.choice(["gzip", "br"])),
        f.Bomb(100),
        f.WrongETag(random.choice([None, '"wrong"', "x" * 5_000])),
        f.Refuse(),
    ]
    return random.choice(kinds)


class Worker:
    """A process with a client, and its reports."""

    def __init__(self, backend: str, url: str, truth: Path, nap: float) -> None:
        self.backend = backend
        self.told: list[dict[str, Any]] = []
        self.errors: list[str] = []
        self.process = subprocess.Popen(
            [sys.executable, FOLDER / "soak_worker.py", backend, url, truth, str(nap)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONSAFEPATH": ""},  # it imports a module of its folder
        )
        self._threads = [
            threading.Thread(target=read, daemon=True)
            for read in (self._listen, self._listen_to_log)
        ]
        for thread in self._threads:
            thread.start()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            for line in lines:
                self.told.append(json.loads(line))

    def _listen_to_log(self) -> None:
        assert self.process.stderr is not None
        with self.process.stderr as lines:
            self.errors.extend(lines)

    def end(self) -> None:
        """Ask it to end, and wait until it has."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(DEADLINE)
        for thread in self._threads:
            thread.join(DEADLINE)

    def find(self, newest: State) -> list[str]:
        """Return the bad findings; call it after `end`."""
        found: list[str] = []
        if self.process.returncode != 0 or not self.told or self.told[-1]["what"] != "ended":
            return [f"it ended with {self.process.returncode}: {''.join(self.errors[-20:])}"]
        before, ended = self.told[0], self.told[-1]
        running = [told for told in self.told if told["what"] == "running"]
        found += ended["wrong"]
        if ended["values"] != values_of(newest):
            found.append(f"it did not catch up: {ended['values']}, {running[-1]['error']}")
        for kind in ("threads", "descriptors"):
            if ended[kind] > before[kind]:
                found.append(f"{kind}: {before[kind]} before, {ended[kind]} after")
        if self.growth(running) > MORE_BLOCKS:
            found.append(f"its memory grew by {self.growth(running):.0f} blocks")
        return found

    @staticmethod
    def growth(running: list[dict[str, Any]], kind: str = "blocks") -> float:
        """Return by how much something grew between warming up and the end.

        It is the slope of a line through the minimum of each quarter of that time, since an update or an
        outage in progress also takes memory.
        """
        counts = [told[kind] for told in running[len(running) // 3 :]]
        width = len(counts) // 4
        if width == 0:
            return 0.0
        least = [min(counts[begin : begin + width]) for begin in range(0, 4 * width, width)]
        return linear_regression(range(4), least).slope * 4

    def lags_behind(self, values: list[int]) -> bool:
        """Return whether it still runs and its last report has other values."""
        running = self.process.poll() is None
        return running and not (self.told and self.told[-1]["values"] == values)


class Director:
    """Changes the service and makes it fail."""

    def __init__(self, service: LiveService, truth: Path, seed: int) -> None:
        self.service = service
        self.state: State = {}
        self.faults: Counter[str] = Counter()
        self.changes = 0
        self._random = Random(seed)
        self._rules: dict[str, int] = {}
        self._number = 0
        self._truth = truth.open("w")
        self._write(self.state)

    def close(self) -> None:
        self._truth.close()

    def _write(self, state: State) -> None:
        line = json.dumps({"number": self._number, "values": values_of(state)})
        self._truth.write(f"{line}\n")
        self._truth.flush()
        self._number += 1
        self.state = state

    def change(self) -> None:
        """Add, change or delete one rule."""
        value = self._number
        conditions = self._conditions()
        there = self._rules.get(conditions)
        delete = there is not None and self._random.random() < 0.5
        if len(self.state) >= MOST_RULES and there is None:
            conditions = self._random.choice([*self.state])
            there, delete = self._rules[conditions], True
        others = {each: self.state[each] for each in self.state if each != conditions}
        self._write(others if delete else {**others, conditions: value})
        if there is None:
            self._rules[conditions] = self.service.add_rule(
                "soak", value, **dict(json.loads(conditions))
            )
        elif delete:
            self.service.delete_rule(self._rules.pop(conditions))
        else:
            self.service.change_rule(there, value)
        self.changes += 1

    def _conditions(self) -> str:
        chosen = [each for each in FEATURES if self._random.random() < 0.5] or [FEATURES[0]]
        return json.dumps([(each, self._random.choice(VALUES[each])) for each in chosen])

    def go_on(self, seconds: float) -> None:
        """Change and break the service for that many seconds."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            drawn = self._random.random()
            if drawn < 0.6:
                self.change()
            elif drawn < 0.94:
                self._break()
            elif drawn < 0.97:
                self._suspend()
            else:
                self._kill()
            self._pass(0.3)

    def _pass(self, most: float) -> None:
        time.sleep(most * self._random.random())

    def _break(self) -> None:
        broken = fault(self._random)
        path = self._random.choice([None, None, "/api/v1/query", "/api/v1/context_features"])
        self.faults[broken.word] += 1
        with self.service.faults.add(
            broken, path=path, share=self._random.choice([None, 0.5]), delay=0.0
        ):
            for _ in range(self._random.randrange(4)):
                self._pass(0.5)
                self.change()

    def _suspend(self) -> None:
        assert self.service.process is not None
        self.faults["suspended"] += 1
        self.service.process.send_signal(signal.SIGSTOP)
        self._pass(2.0)
        self.service.process.send_signal(signal.SIGCONT)

    def _kill(self) -> None:
        self.faults["killed"] += 1
        self.service.kill()
        self._pass(1.0)
        self.service.start()


def soak(minutes: float, seed: int, nap: float = NAP) -> list[str]:
    """Run the soak, print the findings, and return the bad ones.

    With a longer *nap*, the readers read less and leave more processor time to other programs.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        truth = folder / "truth"
        service = stack.enter_context(LiveService(FEATURES, database=folder / "service.db"))
        service.declare("soak", "int", DEFAULT, FEATURES)
        director = Director(service, truth, seed)
        stack.callback(director.close)
        workers = [Worker(backend, service.url, truth, nap) for backend in BACKENDS]
        for worker in workers:
            stack.callback(worker.process.kill)
        director.go_on(60 * minutes)
        director.change()
        deadline = time.monotonic() + DEADLINE
        wanted = values_of(director.state)
        while time.monotonic() < deadline and any(each.lags_behind(wanted) for each in workers):
            time.sleep(0.05)
        for worker in workers:
            worker.end()
    print(
        f"seed {seed}, {minutes:g} minutes: {director.changes} changes; faults:",
        dict(director.faults),
    )
    wrong: list[str] = []
    for worker in workers:
        found = worker.find(director.state)
        wrong += [f"{worker.backend}: {each}" for each in found]
        print(f"{worker.backend:8} {figures(worker)}{found or 'well'}")
    return wrong


def figures(worker: Worker) -> str:
    """Return the figures of a worker's reports as one line; empty without reports."""
    running = [told for told in worker.told if told["what"] == "running"]
    if not running:
        return ""
    last = worker.told[-1]
    kept = worker.growth(running)
    resident = worker.growth(running, "resident") / 1024
    return (
        f"{last['reads']:>10,} reads, longest {last['longest_cpu_us']:.0f} us of processor time, "
        f"{last['longest_wall_us'] / 1000:.1f} ms in all; {kept:+.0f} blocks, {resident:+.0f} KiB; "
    )


def main() -> int:
    parser = argparse.ArgumentParser(description="Soak clients on every backend.")
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    return 1 if soak(given.minutes, given.seed) else 0


if __name__ == "__main__":
    sys.exit(main())
