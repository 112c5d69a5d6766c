"""Break `heksher/_rules/table.py` in every small way, and check that a test fails each time.

`tox -e mutation` runs it. It works on a copy, since cosmic-ray overwrites the file with each mutant. It
fails if a mutant survives, unless the mutant is in the list of those that are equivalent to the
original. It also fails if a mutant in the list does not survive, so that the list stays true.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
MODULE = "heksher/_rules/table.py"
# The examples alone kill all mutants that can be killed, so the result does not depend on chance.
TESTS = ("tests/pure/test_rule_priority.py", "tests/properties/test_resolver_properties.py")

CONFIG = f"""
[cosmic-ray]
module-path = "{MODULE}"
timeout = 60.0
excluded-modules = []
test-command = "{sys.executable} -m pytest -x -q -p no:cacheprovider {" ".join(TESTS)}"

[cosmic-ray.distributor]
name = "local"
"""

#: Mutants that are equivalent to the original: the line before and after, and the reason.
EQUIVALENT = {
    (
        "return tuple(places), -1 if rule.rule_id is None else rule.rule_id",
        "return tuple(places), - 2 if rule.rule_id is None else rule.rule_id",
    ): "any number below 0 will do, since the service's ids are positive",
    (
        "return tuple(places), -1 if rule.rule_id is None else rule.rule_id",
        "return tuple(places), ~1 if rule.rule_id is None else rule.rule_id",
    ): "the same, since ~1 is -2",
}


def main() -> int:
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        results = mutate(Path(scratch))
    return report(results, time.monotonic() - begun)


def mutate(scratch: Path) -> list[dict[str, Any]]:
    """Test every mutant on a copy in *scratch*, and return the result of each."""
    skip = shutil.ignore_patterns("__pycache__", ".*", "transcripts")
    for folder in ("heksher", "tests"):
        shutil.copytree(ROOT / folder, scratch / folder, ignore=skip)
    shutil.copy(ROOT / "pyproject.toml", scratch)
    (scratch / "mutation.toml").write_text(CONFIG, encoding="utf-8")
    # Two mutants with the same length in the same second would share their bytecode.
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}

    def run(*command: str) -> str:
        done = subprocess.run(
            ("cosmic-ray", *command), cwd=scratch, env=environment, capture_output=True, text=True
        )
        if done.returncode != 0:
            sys.exit(f"cosmic-ray {' '.join(command)} failed:\n{done.stdout}{done.stderr}")
        return done.stdout

    run("init", "mutation.toml", "session.sqlite")
    # The tests have to pass without a mutant, or every mutant would count as killed.
    run("baseline", "mutation.toml")
    run("exec", "mutation.toml", "session.sqlite")
    # One line for each mutant: the change and its result.
    return [json.loads(line)[1] for line in run("dump", "session.sqlite").splitlines()]


def report(results: list[dict[str, Any]], seconds: float) -> int:
    """Print the figures and the survivors; return 0 if exactly the known ones survived."""
    survivors = [change(result) for result in results if result["test_outcome"] == "survived"]
    killed = sum(result["test_outcome"] == "killed" for result in results)
    print(
        f"{MODULE}: {len(results)} mutants, {killed} killed, {len(survivors)} survived, "
        f"{seconds:.0f} s"
    )
    for survivor in survivors:
        verdict = EQUIVALENT.get(
            survivor, "NEW: write a test that fails for it, or add it to EQUIVALENT with the reason"
        )
        print("  - {}\n  + {}\n    ({})".format(*survivor, verdict))
    gone = EQUIVALENT.keys() - survivors
    for known in gone:
        print(f"  it does not survive any more, remove it from EQUIVALENT: {known[1]}")
    # Neither killed nor survived: cosmic-ray itself failed.
    undecided = len(results) - killed - len(survivors)
    if undecided or not results:
        print(f"  {undecided} of {len(results)} mutants could not be tested")
    return int(bool(gone or undecided or not results or set(survivors) - EQUIVALENT.keys()))


def change(result: dict[str, Any]) -> tuple[str, str]:
    """Return the changed line before and after."""
    lines = result["diff"].splitlines()
    [before] = [line for line in lines if line.startswith("-") and not line.startswith("---")]
    [after] = [line for line in lines if line.startswith("+") and not line.startswith("+++")]
    return before[1:].strip(), after[1:].strip()


if __name__ == "__main__":
    sys.exit(main())
