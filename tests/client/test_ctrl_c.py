"""Ctrl-C ends a script immediately, whatever its client waits for."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest
from programs import PROGRAMS
from support.harness import PATIENCE, Harness, ThreadHarness

from heksher.backends import run_blocking
from heksher.testing import faults
from heksher.testing.service import LiveService

PROGRAM = PROGRAMS / "interrupted_program.py"

pytestmark = [
    pytest.mark.integration,
    pytest.mark.heksher_service(in_process=True, features=["user"]),
]


@pytest.mark.parametrize("moment", ["sleep", "start", "reload", "ping"])
def test_ctrl_c_ends_a_script_at_once(
    backend: Harness, moment: str, heksher_service: LiveService
) -> None:
    silence = faults.Delay()
    waiting = heksher_service.faults.add(silence) if moment == "start" else None
    with subprocess.Popen(
        [sys.executable, PROGRAM, backend.name, moment, heksher_service.url],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as script:
        assert script.stdin is not None and script.stdout is not None
        try:
            if waiting is None:
                assert script.stdout.readline() == "started\n"
                waiting = heksher_service.faults.add(silence)
                script.stdin.write("\n")
                script.stdin.flush()
            if moment != "sleep":
                run_blocking(ThreadHarness().until(lambda: waiting.hits))
            script.send_signal(signal.SIGINT)
            try:
                _, errors = script.communicate(timeout=PATIENCE)
            except subprocess.TimeoutExpired:
                # Python handles signals between its instructions: one that arrives just before a blocking
                # call does not end it. People press Ctrl-C again.
                script.send_signal(signal.SIGINT)
                _, errors = script.communicate(timeout=PATIENCE)
        finally:
            script.kill()
    assert script.returncode == -signal.SIGINT
    assert errors.rstrip().endswith("KeyboardInterrupt")
    assert "heksher-client" not in errors  # no task, thread or greenlet of the library complains
    assert "Exception ignored" not in errors
