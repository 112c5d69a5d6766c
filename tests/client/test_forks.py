"""What becomes of clients in a forked child that were not yet running when the process forked."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from misbehaving import MisbehavingServer, silence
from service_process import ServiceProcess

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here"),
]


def test_a_child_shares_no_connection_and_waits_for_no_thread_of_its_parent() -> None:
    program = Path(__file__).parents[1] / "forking_early_program.py"
    with ServiceProcess() as service, MisbehavingServer(silence) as silent:
        service.start(["environment", "user", "theme"])
        service.declare("ttl", "int", 60)
        service.add_rule("ttl", {"user": "jim"}, 1)
        ended = subprocess.run(
            [sys.executable, "-W", "error", str(program), service.url, silent.url],
            # What it shares with another program stands beside it.
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(program.parent), *sys.path])},
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert ended.stdout.splitlines() == [
        "child: its own connection",
        "child: not started here",
        "child: get answers 1",
        "child ended with 0",
        "parent: 1 connection",
        "parent: ClientClosedError",
    ]
    assert ended.returncode == 0
