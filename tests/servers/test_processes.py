"""Programs that start processes: pools, other programs, and many forks while threads are busy."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager

import pytest
from serving import APPS, environment
from support.misbehaving import MisbehavingServer, http

from heksher.testing.service import LiveService

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")


@contextmanager
def _running(
    program: str, *arguments: str, url: str
) -> Generator[Generator[str, None, None], None, None]:
    """Run a program that must succeed, and yield the lines of its output."""
    command = [sys.executable, "-W", "error"]
    # Newer Pythons warn of a fork with threads, which is what the test is about.
    command += ["-W", "ignore:This process:DeprecationWarning", str(APPS / program), *arguments]
    with subprocess.Popen(
        command,
        env=environment(url),
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        yield (line.rstrip() for line in process.stdout)
    assert process.returncode == 0


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_each_worker_of_a_pool_has_right_values(method: str, heksher_service: LiveService) -> None:
    service = heksher_service
    service.features = ["user"]
    service.declare("limit", "int", 60)
    rule = service.add_rule("limit", 1, user="jim")
    changed = False
    with _running("pool_program.py", method, url=service.url) as lines:
        for line in lines:
            values = list(json.loads(line).values())
            assert set(values) <= {1, 2}
            if len(values) == 2 and not changed:
                assert values == [1, 1]
                service.change_rule(rule, 2)
                changed = True
    assert changed


def test_no_child_asks_the_service_before_it_becomes_another_program() -> None:
    with MisbehavingServer(http(b'{"context_features":[],"settings":[]}')) as server:
        with _running("exec_program.py", server.url, url=server.url) as lines:
            assert next(lines) == "started"
            requests = len(server.requests)
            assert list(lines) == ["done"]
        assert len(server.requests) == requests > 0


def test_no_child_inherits_a_locked_lock(heksher_service: LiveService) -> None:
    service = heksher_service
    service.features = ["user"]
    service.declare("ttl", "int", 60)
    service.add_rule("ttl", 1, user="jim")
    with _running("busy_fork_program.py", service.url, url=service.url) as lines:
        assert list(lines) == ["done"]
