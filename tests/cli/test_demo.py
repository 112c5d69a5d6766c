"""``heksher demo``: output, exit status, and leftovers."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

PATIENCE = 60.0


@pytest.fixture(autouse=True)
def _as_in_the_foreground() -> Iterator[None]:
    """Reset signals that background jobs of a shell ignore; children would inherit that."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGHUP)}
    for number in before:
        signal.signal(number, signal.default_int_handler)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def start_demo(
    tmp_path: Path, ignoring: signal.Signals | None = None, **environment: str
) -> subprocess.Popen[str]:
    if ignoring is not None:  # inherited by processes that are started from here on
        signal.signal(ignoring, signal.SIG_IGN)
    return subprocess.Popen(
        [sys.executable, "-m", "heksher", "demo"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path), **environment},
    )


def service_process(first_line: str) -> int:
    found = re.fullmatch(r"The service runs on http://\S+, process (\d+)\.\n", first_line)
    assert found is not None, first_line
    return int(found[1])


def is_running(process: int) -> bool:
    return Path(f"/proc/{process}").exists()


#: What the demo tells, in order, without the times.
STORY = """\
program   jim gets 60 and eve gets 60
operator  adds a rule: jim gets 5
program   jim gets 5 and eve gets 60
operator  kills the service
program   updates fail; jim gets 5 and eve gets 60
operator  starts it again and changes the rule to 6
program   jim gets 6 and eve gets 60
"""


def test_the_demo_tells_its_story_and_leaves_nothing(tmp_path: Path) -> None:
    demo = start_demo(tmp_path, COLUMNS="60")
    output, errors = demo.communicate(timeout=PATIENCE)
    assert (demo.returncode, errors) == (0, ""), output
    assert max(map(len, output.splitlines())) <= 60
    lines = output.splitlines(keepends=True)
    assert not is_running(service_process(lines[0]))
    assert "".join(re.findall(r"^ *[\d.]+ s  (.*\n)", output, re.MULTILINE)) == STORY
    others = re.findall(
        r"^  (\w+) +rule seen after \d\.\d\d s, its change after \d\.\d\d s$", output, re.MULTILINE
    )
    assert others == ["trio", "thread", *(["gevent"] if find_spec("gevent") else [])]
    assert re.search(r"never failed\. A call takes \d\.\d\d µs", " ".join(output.split()))
    assert lines[-1].startswith("All as expected, in ")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("number", "status", "after", "ignoring"),
    [
        (signal.SIGINT, 130, "The service", None),
        (signal.SIGINT, 130, "kills the service", None),
        (signal.SIGTERM, 143, "adds a rule", signal.SIGINT),  # as in a background job of a shell
        (signal.SIGHUP, 129, "starts it again", None),
    ],
    ids=lambda value: str(value).replace(" ", "-"),
)
def test_a_demo_that_is_interrupted_leaves_nothing(
    tmp_path: Path,
    number: signal.Signals,
    status: int,
    after: str,
    ignoring: signal.Signals | None,
) -> None:
    demo = start_demo(tmp_path, ignoring, PYTHONWARNINGS="error")
    assert demo.stdout is not None
    first = line = demo.stdout.readline()
    while after not in line:
        line = demo.stdout.readline()
        assert line, "it ended too soon"
    demo.send_signal(number)
    _, errors = demo.communicate(timeout=PATIENCE)
    assert (demo.returncode, errors) == (status, "")
    assert not is_running(service_process(first))
    assert list(tmp_path.iterdir()) == []


def test_a_proxy_and_an_ascii_terminal_are_in_nobodys_way(tmp_path: Path) -> None:
    demo = start_demo(
        tmp_path, HTTP_PROXY="http://127.0.0.1:9", PYTHONIOENCODING="ascii", PYTHONUTF8="0"
    )
    output, errors = demo.communicate(timeout=PATIENCE)
    assert (demo.returncode, errors) == (0, ""), output


def test_a_service_that_somebody_else_kills_is_reported(tmp_path: Path) -> None:
    demo = start_demo(tmp_path)
    assert demo.stdout is not None
    os.kill(service_process(demo.stdout.readline()), signal.SIGKILL)
    output, errors = demo.communicate(timeout=PATIENCE)
    assert (demo.returncode, errors) == (1, ""), output
    assert output.splitlines()[-1].startswith("NOT as expected, in ")


def test_a_reader_that_has_seen_enough_is_no_error_to_shout_about(tmp_path: Path) -> None:
    demo = start_demo(tmp_path)
    assert demo.stdout is not None
    service = service_process(demo.stdout.readline())
    demo.stdout.close()
    assert demo.stderr is not None
    with demo.stderr:
        assert demo.stderr.read() == ""
    assert demo.wait(PATIENCE) == 1
    assert not is_running(service)
