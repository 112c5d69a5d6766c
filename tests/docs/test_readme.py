"""The README's first steps run as they are pasted, and its numbers and links are those of the pages."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest
from doc_examples import DOCS, PATIENCE, README, ROOT

from heksher import Rule, Setting, override
from heksher.testing.faults._kinds import KINDS

TEXT = README.read_text(encoding="utf-8")


def section(heading: str) -> str:
    """Return the text below a heading of the README."""
    found = re.search(rf"^## {heading}\n(.*?)(?=^## )", TEXT, re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[1]


@contextmanager
def running(command: str, folder: Path) -> Generator[subprocess.Popen[str]]:
    """Run a command line in a shell, as in a terminal of its own."""
    process = subprocess.Popen(
        ["bash", "-c", f"exec {command}"],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={
            "PATH": "/usr/bin:/bin",
            "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
            "PYTHONUNBUFFERED": "1",
        },
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate(timeout=PATIENCE)


@pytest.mark.integration
@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is missing")
def test_the_first_steps_do_what_the_readme_says(tmp_path: Path) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = str(listener.getsockname()[1])
    steps = section("First steps").replace("8421", port)  # may be in use here
    serve, curl = re.findall(r"^```sh\n(.*?)\n```$", steps, re.MULTILINE | re.DOTALL)
    (start,) = re.findall(r"start it in a second terminal by `(.*?)`", steps)
    first, changed = re.findall(r"`(\d+ \d+)`", steps)[:2]
    assert first != changed
    (program,) = re.findall(r"^```python\n(.*?)^```$", steps, re.MULTILINE | re.DOTALL)
    (tmp_path / "example.py").write_text(program)
    (tmp_path / ".venv").symlink_to(sys.prefix)  # which has everything that the demo installs
    with running(serve, tmp_path) as service:
        assert service.stdout is not None
        assert service.stdout.readline() == f"heksher service on http://127.0.0.1:{port}\n"
        with running(start, tmp_path) as example:
            assert example.stdout is not None and example.stderr is not None
            assert example.stdout.readline() == f"{first}\n"
            subprocess.run(["bash", "-c", curl], check=True, timeout=PATIENCE, capture_output=True)
            while (line := example.stdout.readline()) == f"{first}\n":
                pass
            assert line == f"{changed}\n"
            service.terminate()
            assert service.wait(PATIENCE) == 0
            assert "updates" in example.stderr.readline()
            assert {example.stdout.readline() for _ in range(3)} == {f"{changed}\n"}


def test_the_rule_that_wins() -> None:
    rows = re.findall(r"^\| (.+=.+) \| (.+) \| (.+) \|$", section("Which rule wins"), re.MULTILINE)
    assert len(rows) == 3
    rules: list[Rule[int]] = []
    wins: list[int] = []
    for conditions, value, note in rows:
        names = dict(pair.split("=") for pair in conditions.strip("*").split(", "))
        rules.append(Rule(names, int(value.strip("*"))))
        if "wins" in note:
            wins.append(int(value.strip("*")))
        elif note == "matches":
            assert names == {"environment": "dev"}
    cache_ttl = Setting("cache_ttl", int, ["environment", "user"], 60)
    with override({cache_ttl: rules}):
        assert [cache_ttl.get(environment="dev", user="jim")] == wins


def test_the_numbers_are_those_of_the_pages() -> None:
    fast, outages, everywhere, _, testable = re.findall(
        r"^- .*$", section("Why this one"), re.MULTILINE
    )
    performance = (DOCS / "performance.md").read_text()
    look_ups = re.findall(
        r"^\| (?:cache_ttl|background_color|\w+ features?, 10 rules).*? \| at most .*$",
        performance,
        re.MULTILINE,
    )
    measured = re.findall(r"\*\*([\d.]+)\*\* \(([\d.]+) ns\)", "\n".join(look_ups))
    ratios, times = zip(*[map(float, pair) for pair in measured], strict=True)
    assert f"{min(ratios):.1f} to {max(ratios):.1f} times" in fast
    assert f"{min(times):.0f} to {max(times):.0f} ns" in fast
    (fastest,) = re.findall(r"The fastest of the SDKs takes (\d+) times", performance)
    assert f"The fastest of five flag SDKs takes {fastest} times" in fast
    reliability = (DOCS / "reliability.md").read_text()
    for number in re.findall(r"(\d+) (?:ways|possible cases)", outages):
        assert re.search(rf"\b{number}\b", reliability)
    servers = (DOCS / "servers.md").read_text().partition("| server | tried with |")[2]
    setups = servers.partition("\n\n")[0].count("\n| ")
    assert f"in {setups} setups" in everywhere
    assert f"in {len(KINDS)} ways" in testable


def headings(page: Path) -> set[str]:
    """Return the headings of a page in the form that links use."""
    return {
        re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        for heading in re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    }


def test_links_lead_somewhere() -> None:
    for page in (README, ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))):
        for target in re.findall(r"\]\(([^)]+)\)", page.read_text()):
            if target.startswith("https://"):
                continue
            name, _, heading = target.partition("#")
            other = page.parent / name if name else page
            assert other.is_file(), f"{page.name}: {target}"
            assert not heading or heading in headings(other), f"{page.name}: {target}"
