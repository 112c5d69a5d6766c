"""An application on a real server, as a process with workers, and the answers of the workers."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

from heksher.testing.service import DEADLINE

APPS = Path(__file__).parent / "apps"

# The number of requests at a time. Single requests would all go to the same idle worker.
_AT_ONCE = 4


def environment(url: str) -> dict[str, str]:
    """Return the environment of a program that finds its modules, and the service at *url*.

    It does not measure coverage: if a thread holds coverage's own lock during a fork, the child waits
    forever.
    """
    ours = {name: os.environ[name] for name in os.environ if not name.startswith("COVERAGE_")}
    path = os.pathsep.join([str(APPS), *sys.path])
    return {**ours, "HEKSHER_URL": url, "PYTHONPATH": path}


class Served:
    """The process of a server and its workers. As a context manager, all of them end with the block.

    Args:
        command: the server and its options; ``{fd}`` is replaced by the descriptor of the listening
            socket.
        url: the URL of the service.
        folder: the working directory, which also gets the log.
    """

    def __init__(self, command: Sequence[str], url: str, folder: Path) -> None:
        self._log = folder / "log.txt"
        with socket.create_server(("127.0.0.1", 0)) as listener, self._log.open("wb") as log:
            fd = listener.fileno()
            self.port: int = listener.getsockname()[1]
            self.process = subprocess.Popen(
                [sys.executable, *(part.format(fd=fd) for part in command)],
                cwd=folder,
                # Warnings in the servers and frameworks must not be errors.
                env={**environment(url), "PYTHONWARNINGS": "default"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[fd],
                start_new_session=True,  # so that its workers can be found after it has ended
            )
        self._pool = ThreadPoolExecutor(_AT_ONCE)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._pool.shutdown()
        if not self.is_gone:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        if exc is not None:
            exc.add_note(f"the server's log:\n{self.log}")

    @property
    def log(self) -> str:
        """The output of the server and its workers."""
        return self._log.read_text("utf-8", "replace")

    @property
    def is_gone(self) -> bool:
        """Whether neither the server nor a worker is left."""
        self.process.poll()
        try:
            os.killpg(self.process.pid, 0)
        except ProcessLookupError:
            return True
        return False

    def ask(self) -> list[tuple[int, int]]:
        """Make several requests at once; return the worker's process id and its value for each answer."""
        asked = [self._pool.submit(self._ask_once) for _ in range(_AT_ONCE)]
        return [answer for each in asked if (answer := each.result()) is not None]

    def _ask_once(self) -> tuple[int, int] | None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE)
        try:
            connection.request("GET", "/", headers={"Connection": "close"})
            response = connection.getresponse()
            body = response.read()
        except (OSError, http.client.HTTPException):
            return None  # not started yet, or just killed
        finally:
            connection.close()
        assert response.status == 200, (response.status, body)
        answer = json.loads(body)
        return answer["pid"], answer["value"]

    def ask_until(
        self, done: Callable[[dict[int, int]], bool], allowed: set[int], within: float = DEADLINE
    ) -> dict[int, int]:
        """Make requests until *done* accepts the latest values by worker, and return them.

        Every value must be one of the *allowed* ones.
        """
        deadline = time.monotonic() + within
        newest: dict[int, int] = {}
        while not done(newest):
            assert time.monotonic() < deadline, f"after {within} seconds still {newest}"
            assert self.process.poll() is None, f"the server ended with {self.process.returncode}"
            answers = self.ask()
            assert {value for _, value in answers} <= allowed, answers
            newest.update(answers)
        return newest

    def wait_until_gone(self) -> int:
        """Return the server's exit status once no process is left."""
        status = self.process.wait(DEADLINE)
        deadline = time.monotonic() + DEADLINE
        while not self.is_gone:
            assert time.monotonic() < deadline, "processes are left"
        return status
