"""How does heksher compare with other libraries for the same job?

Each library has its own environment and its own processes. There, `runner.py` measures a scenario with
the library, and the scenario's floor. Libraries may therefore share names, and one that cannot be
installed does not affect the others. What is compared is how many times as long as the floor each
library takes.

- Look-ups: two settings of an application. The floor is a function written by hand. All
  libraries are measured, each in three processes, since no two processes are equally fast.
- Updates: 100,000 rules in one answer. The floor is ``json.loads`` of it. Only heksher-py 0.2.2 is
  measured.
- Starts: 1,500 settings that the service already has. The floor is the same requests by httpx alone. Only
  heksher-py 0.2.2 is measured, and only on Linux, since processor time is measured.

``tox -e peers`` runs it; it needs a package index. ``--save FOLDER`` writes the tables there as JSON,
and the times of look-ups by number of rules. ``--check-targets`` fails for a missed target, and for a
library that could not be measured.

Conclusion: the tables show what you gain or lose by changing from one library to another.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import venv
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from peers.libraries import BEFORE, OURS, SDKS, Peer

#: The folder of `machinery` and `peers`.
BENCHMARKS = Path(__file__).resolve().parents[1]
#: The runner's name for the time of one declaration.
DECLARATION = "a declaration"
#: The number of processes in which look-ups are measured.
PROCESSES = 3


class Times(TypedDict):
    """Seconds of subject and floor, and their ratio."""

    subject: float
    floor: float
    ratio: float


class Answer(TypedDict):
    """The runner's output: times by title."""

    python: str
    times: dict[str, Times]


@dataclass(frozen=True)
class Row:
    """One line of a table: what was measured, the library, and how ours compares."""

    shape: str
    peer: str
    theirs: Times
    ours: Times
    at_least: float

    @property
    def faster(self) -> float:
        """How many times as fast ours is."""
        return self.theirs["ratio"] / self.ours["ratio"]

    @property
    def is_met(self) -> bool:
        """Whether that is enough."""
        return self.faster >= self.at_least

    def cells(self) -> tuple[str, ...]:
        """Return the cells of the line, in the order of `HEAD`."""
        return (
            self.shape,
            self.peer,
            figures(self.theirs),
            figures(self.ours),
            f"{self.faster:.1f} x",
            f"at least {self.at_least:g} x",
            "yes" if self.is_met else "NO",
        )


@dataclass(frozen=True)
class Table:
    """The comparisons of one scenario.

    Attributes:
        title: the scenario.
        rows: the comparisons.
        asked: what each library had to do, so that readers can judge whether it is fair.
    """

    title: str
    rows: list[Row]
    asked: dict[str, str]

    def cells(self) -> list[tuple[str, ...]]:
        """Return the lines below `HEAD`."""
        return [row.cells() for row in self.rows]


HEAD = ("what", "library", "its time / floor", "our time / floor", "we are faster", "target", "met")


def main() -> None:
    """Measure all libraries, and print the tables."""
    parser = argparse.ArgumentParser(description="Compare heksher with other libraries.")
    parser.add_argument("--save", type=Path, metavar="FOLDER", help="also write the results there")
    parser.add_argument("--check-targets", action="store_true", help="fail if a target is missed")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="heksher-peers-") as folder:
        asking = Asking(Path(folder), (OURS, BEFORE, *SDKS))
        tables = [look_ups(asking), updates(asking), starts(asking)]
        by_rules = look_ups_by_rules(asking)
    overall = compared_with_sdks(tables[0])
    for table in tables:
        print(f"\n{table.title}, {asking.python}")
        for line in (HEAD, ("---",) * len(HEAD), *table.cells()):
            print("| " + " | ".join(line) + " |")
        for peer, what in table.asked.items():
            print(f"{peer}: {what}")
    print("", overall, *asking.notes, sep="\n")
    if options.save is not None:
        results: dict[str, object] = {"python": asking.python}
        for table in tables:
            results[table.title] = {"rows": table.cells(), "asked": table.asked}
        save(options.save / "peers.json", {**results, "overall": overall, "notes": asking.notes})
        if by_rules is not None:
            save(options.save / "by_rules.json", by_rules)
    is_met = all(row.is_met for table in tables for row in table.rows)
    if options.check_targets and (asking.left_out or not is_met):
        sys.exit("peers: a target is missed, or a library could not be measured")


def save(file: Path, results: Mapping[str, object]) -> None:
    """Write *results* as JSON."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(results, indent=1) + "\n")


# --- scenarios ------------------------------------------------------------------------------------


class Asking:
    """The environments of the libraries.

    Attributes:
        left_out: the libraries that could not be installed, or failed.
        python: the name and version of the interpreter.
        notes: remarks for below the tables.
    """

    def __init__(self, folder: Path, peers: Iterable[Peer]) -> None:
        self.left_out: set[Peer] = set()
        self.python = ""
        self.notes: list[str] = []
        self._folder = folder
        for peer in peers:
            place = folder / peer.subject
            venv.create(place, with_pip=True)
            self._run(peer, "-m", "pip", "install", "--quiet", *peer.requirements)

    def ask(self, peer: Peer, scenario: str, *arguments: str) -> dict[str, Times] | None:
        """Run a scenario with a library; return its times, or None if the library is left out."""
        if peer in self.left_out:
            return None
        printed = self._run(peer, "-m", "peers.runner", peer.subject, scenario, *arguments)
        if printed is None:
            return None
        answer: Answer = json.loads(printed)
        self.python = answer["python"]
        return answer["times"]

    @contextmanager
    def service(self) -> Generator[tuple[str, str]]:
        """Run the embedded service; yield its URL and its process id."""
        features = ("--features", "environment,user,theme")
        command = (self._interpreter(OURS), "-m", "heksher", "serve", "--port", "0", *features)
        with subprocess.Popen(  # noqa: S603
            command,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        ) as process:
            assert process.stdout is not None
            try:
                words = process.stdout.readline().split()
                if not words:
                    sys.exit("peers: the service did not start")
                yield words[-1], str(process.pid)
            finally:
                process.terminate()

    def _interpreter(self, peer: Peer) -> Path:
        return self._folder / peer.subject / ("Scripts" if os.name == "nt" else "bin") / "python"

    def _run(self, peer: Peer, *arguments: str | Path) -> str | None:
        """Run the interpreter of *peer*, print the command, and return its output; None if it fails."""
        print("peers:", peer.title, *arguments, flush=True)
        done = subprocess.run(  # noqa: S603
            (self._interpreter(peer), *arguments),
            env=environment(),
            cwd=BENCHMARKS,
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        )
        if done.returncode == 0:
            return done.stdout
        if peer is OURS:
            sys.exit("peers: heksher itself failed")
        self.left_out.add(peer)
        why = "could not be installed" if "pip" in arguments else "failed"
        self.notes.append(f"{peer.title} is left out: it {why}.")
        print(f"peers: {self.notes[-1]}", flush=True)
        return None


def environment() -> dict[str, str]:
    """Return an environment in which neither these sources nor the packages installed here are found."""
    return {name: each for name, each in os.environ.items() if name[:6] != "PYTHON"}


def look_ups(asking: Asking) -> Table:
    """Measure look-ups with all libraries."""
    everyone = (OURS, BEFORE, *SDKS)
    answers: dict[Peer, list[dict[str, Times]]] = {peer: [] for peer in everyone}
    for _ in range(PROCESSES):
        for peer in everyone:
            times = asking.ask(peer, "look_ups")
            if times is not None:
                answers[peer].append(times)
    ours = middle(answers[OURS])
    rows = [
        Row(shape, peer.title, theirs, ours[shape], 50 if peer is BEFORE else 30)
        for peer in (BEFORE, *SDKS)
        if answers[peer]
        for shape, theirs in middle(answers[peer]).items()
    ]
    return Table("look-ups", rows, {peer.title: peer.look_ups for peer in everyone})


def middle(answers: list[dict[str, Times]]) -> dict[str, Times]:
    """Return the medians of the answers of several processes."""
    return {shape: middle_of([times[shape] for times in answers]) for shape in answers[0]}


def middle_of(times: list[Times]) -> Times:
    """Return the medians of *times*."""
    return {
        "subject": statistics.median(each["subject"] for each in times),
        "floor": statistics.median(each["floor"] for each in times),
        "ratio": statistics.median(each["ratio"] for each in times),
    }


def look_ups_by_rules(asking: Asking) -> dict[str, object] | None:
    """Return the nanoseconds of a look-up by number of rules, for a plot.

    All times are for the speed of our process: its floor times each library's ratio to its own floor.
    """
    ours, before = (asking.ask(peer, "look_ups_by_rules") for peer in (OURS, BEFORE))
    if ours is None or before is None:
        return None
    floor = [1e9 * times["floor"] for times in ours.values()]
    series = {
        title: [
            round(each["ratio"] * least, 1)
            for each, least in zip(times.values(), floor, strict=True)
        ]
        for title, times in ((OURS.title, ours), (BEFORE.title, before))
    }
    series["floor"] = [round(each, 1) for each in floor]
    return {"python": asking.python, "rules": [int(each) for each in ours], "series": series}


def updates(asking: Asking) -> Table:
    """Measure large updates."""
    ours, before = (asking.ask(peer, "updates") for peer in (OURS, BEFORE))
    rows: list[Row] = []
    if ours is not None and before is not None:
        rows = [Row(title, BEFORE.title, before[title], times, 3) for title, times in ours.items()]
    return Table("updates", rows, {peer.title: peer.updates for peer in (OURS, BEFORE)})


def starts(asking: Asking) -> Table:
    """Measure starts with settings that the service already has."""
    with asking.service() as service:
        ours, before = (asking.ask(peer, "starts", *service) for peer in (OURS, BEFORE))
    rows: list[Row] = []
    if ours is not None and before is not None:
        del ours[DECLARATION]
        declaration = before.pop(DECLARATION)["subject"]
        kind = min(before, key=lambda kind: before[kind]["ratio"])
        rows = [
            Row(f"on {own}", BEFORE.title, before[kind], each, 20) for own, each in ours.items()
        ]
        asking.notes.append(
            "The service of the starts is the one that this library embeds, with its data in memory; "
            f"a declaration by httpx alone takes {shown(declaration)} there. Of the clients of "
            f"{BEFORE.title}, the one on {kind} starts faster."
        )
    return Table("starts", rows, {peer.title: peer.starts for peer in (OURS, BEFORE)})


def compared_with_sdks(table: Table) -> str:
    """Return a sentence that compares heksher with the fastest SDK in its best case."""
    titles = [peer.title for peer in SDKS]
    times = min((row.faster for row in table.rows if row.peer in titles), default=0.0)
    return f"The fastest of the SDKs takes {times:.0f} times as long as heksher, in its best case."


def figures(times: Times) -> str:
    """Return the ratio of *times*, and both times."""
    ratio = times["ratio"]
    both = f"{shown(times['subject'])} / {shown(times['floor'])}"
    return f"{ratio:.{1 if ratio > 10 else 2}f} ({both})"


def shown(seconds: float) -> str:
    """Return *seconds* with a suitable unit."""
    for unit, size in (("s", 1), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 1e-9:.3g} ns"


if __name__ == "__main__":
    main()
