"""How does ``get()`` compare with libraries that do the same?

Each library gets an environment of its own and a process of its own, in which `peer_runner.py` asks it
for the settings of the introduction, with the same rules, and a function written by hand beside it. So
a name that two of them share, or one that cannot be installed, harms nothing. What is compared is how
many times as long as the function by hand each of them takes.

Run it by ``tox -e peers``; it needs a package index, once. ``--save FILE`` keeps the table as JSON,
``--check-targets`` fails for a target that is missed, and for a library that could not be asked.

Conclude: what you gain, or lose, by changing from one to the other, in the call that you make most.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import venv
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Peer:
    """A library to ask.

    Attributes:
        subject: its name for `peer_runner.py`.
        requirements: for pip.
        asked: what it was asked to do, in fairness to it.
        at_least: how many times as fast we are to be; None for no target.
    """

    subject: str
    requirements: tuple[str, ...]
    asked: str
    at_least: float | None = None


class Answer(TypedDict):
    """What the runner prints: nanoseconds of subject and floor, and their ratio, by shape."""

    python: str
    times: dict[str, dict[str, float]]


OURS = Peer("ours", (str(HERE.parent),), "rules published as after an update")
PEERS = (
    Peer(
        "heksher-0.2.2",
        ("heksher==0.2.2", "pydantic<2"),
        "ThreadHeksherClient, all contexts tracked, the same rules, no update running",
        50,
    ),
    Peer(
        "openfeature",
        ("openfeature-sdk==0.10.0",),
        "openfeature-sdk 0.10.0, in-memory provider, whose evaluator calls the function by hand; "
        "constants in the API's context, the context variable in the transaction's",
        30,
    ),
)
HEAD = (
    "shape",
    "peer",
    "a call",
    "its floor",
    "ratio",
    "our ratio",
    "we are faster",
    "target",
    "met",
)


def main() -> None:
    """Ask everyone, and print the table."""
    parser = argparse.ArgumentParser(description="Compare get() with other libraries.")
    parser.add_argument("--save", type=Path, metavar="FILE", help="write the table as JSON, too")
    parser.add_argument("--check-targets", action="store_true", help="fail if a target is missed")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="heksher-peers-") as folder:
        answers = {peer.subject: ask(peer, Path(folder)) for peer in (OURS, *PEERS)}
    ours = answers[OURS.subject]
    if ours is None:
        sys.exit("peers: this library itself could not be asked")
    rows = [row for peer in PEERS for row in compared(peer, answers[peer.subject], ours)]
    print(f"\n{ours['python']}, median of 31 rounds")
    for line in (HEAD, ("---",) * len(HEAD), *rows):
        print("| " + " | ".join(line) + " |")
    for peer in PEERS:
        print(f"{peer.subject}: {peer.asked}")
    if options.save is not None:
        asked = {peer.subject: peer.asked for peer in PEERS}
        results = {"python": ours["python"], "rows": rows, "asked": asked}
        options.save.write_text(json.dumps(results, indent=1) + "\n")
    lacking = [peer.subject for peer in PEERS if answers[peer.subject] is None]
    if options.check_targets and (lacking or any(row[-1] == "NO" for row in rows)):
        sys.exit("peers: a target is missed, or a library could not be asked")


def ask(peer: Peer, folder: Path) -> Answer | None:
    """What the runner says of *peer*, or None if that cannot be found out."""
    place = folder / peer.subject
    venv.create(place, with_pip=True)
    python = place / ("Scripts" if os.name == "nt" else "bin") / "python"
    # Neither the sources here nor what is installed beside this script.
    environment = {name: each for name, each in os.environ.items() if name[:6] != "PYTHON"}
    try:
        run(environment, python, "-m", "pip", "install", "--quiet", *peer.requirements)
        printed = run(environment, python, HERE / "peer_runner.py", peer.subject)
    except subprocess.CalledProcessError as error:
        print(f"peers: {peer.subject} is left out: exit code {error.returncode}", flush=True)
        return None
    answer: Answer = json.loads(printed)
    return answer


def run(environment: dict[str, str], *command: str | Path) -> str:
    """Run *command*, show it, and return what it prints."""
    print("peers:", *command, flush=True)
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)  # noqa: S603
    return done.stdout


def compared(peer: Peer, answer: Answer | None, ours: Answer) -> list[tuple[str, ...]]:
    """The lines of the table for *peer*."""
    rows: list[tuple[str, ...]] = []
    if answer is None:
        return rows
    for shape, times in answer["times"].items():
        theirs, own = times["ratio"], ours["times"][shape]["ratio"]
        target, met = "", ""
        if peer.at_least is not None:
            target = f"at least {peer.at_least:g}"
            met = "yes" if theirs / own >= peer.at_least else "NO"
        rows.append(
            (
                shape,
                peer.subject,
                f"{times['subject']:.0f} ns",
                f"{times['floor']:.1f} ns",
                f"{theirs:.1f}",
                f"{own:.2f}",
                f"{theirs / own:.1f} x",
                target,
                met,
            )
        )
    return rows


if __name__ == "__main__":
    main()
