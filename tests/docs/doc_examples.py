"""Read the examples in the documentation, and run them against a service of the test.

Examples run unchanged, except for the service's address. Warnings are errors there, too.
"""

from __future__ import annotations

import queue
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

import httpx

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
DOCS = ROOT / "docs"
ADDRESS = "http://127.0.0.1:8000"
#: The service of the README and of pages about web servers, which use port 8000 themselves.
OTHER_ADDRESS = "http://127.0.0.1:8421"

# Seconds. Generous, so that no test fails on a slow machine; tests do not wait that long.
PATIENCE = 60


def blocks(page: Path, language: str) -> list[str]:
    """Return all fenced blocks of *language* on a page, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE)


def examples(page: Path) -> dict[str, str]:
    """Return the Python blocks that have a name, ``<!-- example: NAME -->``."""
    marked = re.findall(
        r"^<!-- example: (\S+) -->\n```python\n(.*?)^```$",
        page.read_text(),
        re.DOTALL | re.MULTILINE,
    )
    return dict(marked)


def program(page: str) -> str:
    """Return the program of a page in docs/: all of its Python blocks but those that have a name."""
    named = examples(DOCS / page).values()
    return "\n".join(block for block in blocks(DOCS / page, "python") if block not in named)


def at(url: str, source: str) -> str:
    """Return *source* with the service at *url*."""
    assert ADDRESS in source or OTHER_ADDRESS in source
    return source.replace(ADDRESS, url).replace(OTHER_ADDRESS, url)


def run_python(source: str, *logs: str) -> list[str]:
    """Run a program that must succeed, and log only lines that begin with *logs*; return its output."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", source],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    strange = [line for line in done.stderr.splitlines() if not line.startswith(logs)]
    assert not strange, done.stderr
    return done.stdout.splitlines()


def promised_output(source: str) -> list[str]:
    """Return the output that a program promises: the comments after its calls of print()."""
    return re.findall(r"^ *print\(.*\)  # (.*)$", source, re.MULTILINE)


class Server:
    """A web server that runs an example, and its log."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        self._process = process
        self._lines: queue.Queue[str] = queue.Queue()
        self._log: list[str] = []
        self._pipe = process.stdout
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.url = self._find_url()

    @property
    def log(self) -> str:
        """Its output so far."""
        return "".join(self._log)

    def ask(self, path: str) -> str:
        """Return the body of the answer, which must be a success."""
        answer = httpx.get(f"{self.url}{path}", timeout=PATIENCE, trust_env=False)
        assert answer.is_success, answer.text
        return answer.text

    def ask_until(self, path: str, is_wanted: Callable[[str], bool]) -> str:
        """Make requests until an answer is the expected one."""
        deadline = time.monotonic() + PATIENCE
        while not is_wanted(answer := self.ask(path)):
            assert time.monotonic() < deadline, f"still {answer!r}"
            time.sleep(0.05)  # between two requests; the test does not depend on it
        return answer

    def end(self) -> None:
        """End it as a supervisor does, and wait."""
        self._process.terminate()
        try:
            self._process.wait(PATIENCE)
        finally:
            self._process.kill()
            self._process.wait()
            self._reader.join(PATIENCE)

    def _find_url(self) -> str:
        while True:
            try:
                line = self._lines.get(timeout=PATIENCE)
            except queue.Empty:
                line = ""
            if found := re.search(r"(?i)running on (http://127\.0\.0\.1:[1-9]\d*)", line):
                return found[1]
            if not line:
                self._process.kill()
                raise AssertionError(f"the server did not start:\n{self.log}")

    def _read(self) -> None:
        with self._pipe:
            for line in self._pipe:
                self._log.append(line)
                self._lines.put(line)
        self._lines.put("")


@contextmanager
def serving(source: str, folder: Path, *command: str) -> Generator[Server]:
    """Save *source* as ``example.py`` and start ``python -m`` *command* beside it."""
    (folder / "example.py").write_text(source)
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-m", *command],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    server = Server(process)
    try:
        yield server
    finally:
        server.end()
    assert "Traceback" not in server.log, server.log
    assert "Warning:" not in server.log, server.log
