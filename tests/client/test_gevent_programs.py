"""Programs on gevent, patched and not: the life of a client, forks, and the workers of servers."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
from programs import PROGRAMS
from support.scenes import FEATURES

from heksher.testing.service import LiveService

pytest.importorskip("gevent", reason="heksher[gevent] is not installed")

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here"),
]

PROGRAM = PROGRAMS / "gevent_program.py"


@pytest.fixture(scope="module")
def service() -> Iterator[LiveService]:
    with LiveService(FEATURES, in_process=True, proxy=False) as service:
        yield service


def run(service: LiveService, *arguments: str) -> list[str]:
    """Run the program to its end, and return its output."""
    service.empty(FEATURES)
    service.declare("ttl", "int", 60)
    rule = service.add_rule("ttl", 1, user="jim")
    with subprocess.Popen(
        [sys.executable, "-W", "error", str(PROGRAM), *arguments, service.url],
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        said: list[str] = []
        # The pipe ends when all processes have ended; their alarms end those that hang.
        for line in process.stdout:
            said.append(line.rstrip("\n"))
            if said[-1] == "change the rule":
                service.change_rule(rule, 2)
    assert process.returncode == 0
    return said


@pytest.mark.parametrize(
    ("patch", "found"), [("first", "gevent"), ("late", "gevent"), ("never", "thread")]
)
def test_a_life_on_greenlets(service: LiveService, patch: str, found: str) -> None:
    assert run(service, patch, "life") == [
        found,
        "1 loop",
        "answers: [('jim', 60, 1), ('joe', 60, 60)]",
        "beside a busy pool: done",
        "looked up beside a busy pool: done",
        "change the rule",
        "while the lock is held: 1, gone on",
        "the new rule arrived",
        "0 loops, and no thread",
    ]


def test_reading_a_file_makes_no_hub_in_a_thread(service: LiveService) -> None:
    assert run(service, "first", "file") == ["1 hub"]


@pytest.mark.parametrize("patch", ["first", "late", "never"])
def test_a_fork_keeps_greenlets_and_makes_a_loop_of_the_childs_own(
    service: LiveService, patch: str
) -> None:
    said = run(service, patch, "forks")
    said.remove("change the rule")
    for who, reload in (("parent", "done"), ("child", "ClientClosedError")):
        lines = [line for line in said if line.startswith(who)]
        assert lines[:3] == [
            f"{who}: who waited has the lock",
            f"{who}: the reload: {reload}",
            f"{who}: 1 loop, get answers 1",
        ]
        assert lines[-1] == f"{who}: 0 loops"
    assert "child: the new rule arrived" in said


@pytest.mark.parametrize("patch", ["first", "never"])
def test_a_start_that_a_fork_cut_in_two_ends_in_the_parent_alone(
    service: LiveService, patch: str
) -> None:
    said = run(service, patch, "forks_early")
    for who, start in (("parent", "done"), ("child", "ClientNotStartedError")):
        assert [line for line in said if line.startswith(who)] == [
            f"{who}: the start: {start}",
            f"{who}: 1 loop, get answers 1",
            f"{who}: 0 loops",
        ]


def test_a_child_that_is_patched_goes_on_with_a_client_of_threads(service: LiveService) -> None:
    assert run(service, "never", "preload") == [
        "thread",
        "get answers 1",
        "change the rule",
        "the new rule arrived",
        "reloads returned",
        "the lock is had",
        "closed",
    ]


@pytest.mark.parametrize(
    ("patched", "outcome"),
    [
        ("thread", "patched the threads of this process and not its sockets"),
        ("socket", "done"),
    ],
)
def test_what_is_patched_in_part(service: LiveService, patched: str, outcome: str) -> None:
    backend, said = run(service, patched, "in_part")
    assert backend == "gevent"
    assert outcome in said
