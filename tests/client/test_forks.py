"""Clients in a forked child that were not running yet when the process forked."""

from __future__ import annotations

import os
import queue
import subprocess
import sys
import threading
import warnings
from types import SimpleNamespace
from typing import Any

import pytest
from programs import PROGRAMS
from support.harness import PATIENCE
from support.misbehaving import MisbehavingServer, http, silence
from support.scripted import ManualClock

from heksher import Setting, ThreadHeksherClient, ValueChanged
from heksher.backends import Event
from heksher.clients.stub import SyncStubHeksherClient
from heksher.testing.service import LiveService

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here"),
]


def test_a_child_shares_no_connection_and_waits_for_no_thread_of_its_parent() -> None:
    program = PROGRAMS / "forking_early_program.py"
    features = ["environment", "user", "theme"]
    with (
        LiveService(features, proxy=False) as service,
        MisbehavingServer(silence) as silent,
    ):
        service.declare("ttl", "int", 60)
        service.add_rule("ttl", 1, user="jim")
        ended = subprocess.run(
            [sys.executable, "-W", "error", str(program), service.url, silent.url],
            # It imports another program.
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
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


def test_a_child_that_uwsgi_forks_in_c_inherits_no_lock_locked() -> None:
    program = PROGRAMS / "forking_in_c_program.py"
    lines: list[str] = []
    with LiveService(["environment", "user", "theme"], proxy=False) as service:
        service.declare("ttl", "int", 60)
        rule = service.add_rule("ttl", 1, user="jim")
        with subprocess.Popen(
            [sys.executable, "-W", "error", str(program), service.url],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdin is not None and process.stdout is not None
            lines.append(process.stdout.readline())
            service.change_rule(rule, 2)
            lines += process.communicate("go on\n")[0].splitlines(keepends=True)
    assert lines == [
        "parent: get answers 1\n",
        "the application's own hook\n",
        "child: new rule arrived\n",
        "child: closed\n",
        "child ended with 0\n",
        "parent: closed\n",
    ]
    assert process.returncode == 0


@pytest.mark.parametrize(
    ("uwsgi", "rests"),
    [
        (SimpleNamespace(masterpid=os.getpid, opt={"master": True}), True),
        (SimpleNamespace(masterpid=os.getpid, opt={"py-call-uwsgi-fork-hooks": True}), False),
        (SimpleNamespace(masterpid=os.getppid, opt={"master": True}), False),
        (SimpleNamespace(), False),
    ],
    ids=["master", "master with Python's hooks", "worker", "somebody's stub"],
)
def test_a_client_rests_where_uwsgi_forks_past_pythons_hooks(
    uwsgi: Any, rests: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "uwsgi", uwsgi)
    asked: queue.Queue[float | None] = queue.Queue()

    class WatchedClock(ManualClock):
        async def wait(self, event: Event, timeout: float | None) -> None:
            if threading.current_thread().name == "heksher-client":
                asked.put(timeout)
            await super().wait(event, timeout)

    with MisbehavingServer(http(b'{"context_features":[],"settings":[]}')) as server:
        client = ThreadHeksherClient(server.url, 60, [], clock=WatchedClock(), random=lambda: 0.5)
        with client:
            assert asked.get(timeout=PATIENCE) == (None if rests else 30)


class SlowHeaders(dict[str, str]):
    """Headers that let another thread fork while an HTTP client is made with them."""

    def __init__(self) -> None:
        self.begun, self.wanted, self.done = (threading.Event() for _ in range(3))

    def items(self) -> Any:
        self.begun.set()
        assert self.wanted.wait(PATIENCE)
        sum(range(1_000_000))
        self.done.set()
        return super().items()


def test_a_fork_waits_for_an_http_client_that_is_being_made() -> None:
    headers = SlowHeaders()
    with MisbehavingServer(http(b'{"version":"test"}')) as server:
        client = ThreadHeksherClient(server.url, 60, [], http_client_args={"headers": headers})
        thread = threading.Thread(target=client.ping)
        thread.start()
        assert headers.begun.wait(PATIENCE)
        # It is registered last and therefore called first.
        os.register_at_fork(before=headers.wanted.set)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*multi-threaded", DeprecationWarning)
            child = os.fork()
        if child == 0:
            os._exit(0 if headers.done.is_set() else 1)
        _, status = os.waitpid(child, 0)
        thread.join()
        client.close()
    assert os.waitstatus_to_exitcode(status) == 0


def test_a_child_calls_a_listener_that_the_parent_was_calling_when_it_forked() -> None:
    ttl = Setting("ttl", int, ["user"], 60)
    heard: list[int] = []
    entered, go_on = threading.Event(), threading.Event()

    def callback(event: ValueChanged[int]) -> None:
        heard.append(event.new)
        if len(heard) == 1:
            entered.set()
            assert go_on.wait(PATIENCE)

    ttl.on_change(callback, user="jim")
    with SyncStubHeksherClient() as stub:
        thread = threading.Thread(target=stub.set, args=(ttl, 1))
        thread.start()
        assert entered.wait(PATIENCE)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*multi-threaded", DeprecationWarning)
            child = os.fork()
        if child == 0:
            stub.set(ttl, 2)
            os._exit(0 if heard == [1, 2] else 1)
        _, status = os.waitpid(child, 0)
        go_on.set()
        thread.join()
    assert os.waitstatus_to_exitcode(status) == 0


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
def test_a_child_says_that_nobody_refreshes_until_it_starts_the_client_itself(loop: str) -> None:
    program = PROGRAMS / "forking_async_program.py"
    with (
        LiveService(["environment", "user", "theme"], in_process=True, proxy=False) as service,
        subprocess.Popen(
            [sys.executable, "-W", "error", str(program), loop, service.url],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        said = [process.stdout.readline().strip() for _ in range(3)]
        service.add_rule("ttl", 2, user="jim")
        process.stdin.write("\n")
        process.stdin.close()
        said += process.stdout.read().splitlines()
    assert said == [
        "child: get answers 60",
        'child: inherited, service, {"state": "inherited",...',
        "child: True",
        "child: get still answers 60",
        "child: True, True",
        "child: running, fresh: True",
        "child: get answers 2",
        "child: closed",
        "parent: child ended with 0",
        "parent: running, get answers 2",
        "parent: 0 failures, None",
    ]
    assert process.returncode == 0
