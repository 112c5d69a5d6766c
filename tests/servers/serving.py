"""An application under a real server, as a process with all its workers, and what its workers answer."""

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

# Questions at a time: one at a time would go to the same idle worker again and again.
_AT_ONCE = 4


def environment(url: str) -> dict[str, str]:
    """Return the environment of a program that finds its modules, and the service at *url*.

    Coverage is not measured there: its own lock, if a thread holds it, is held for ever in a child.
    """
    ours = {name: os.environ[name] for name in os.environ if not name.startswith("COVERAGE_")}
    path = os.pathsep.join([str(APPS), *sys.path])
    return {**ours, "HEKSHER_URL": url, "PYTHONPATH": path}


class Served:
    """A server's process and its workers; as a context manager all of them end with the block.

    Args:
        command: the server and its options; ``{fd}`` stands for the socket that it is to listen on.
        url: the address of the service.
        folder: where it runs, and its log is.
    """

    def __init__(self, command: Sequence[str], url: str, folder: Path) -> None:
        self._log = folder / "log.txt"
        with socket.create_server(("127.0.0.1", 0)) as listener, self._log.open("wb") as log:
            fd = listener.fileno()
            self.port: int = listener.getsockname()[1]
            self.process = subprocess.Popen(
                [sys.executable, *(part.format(fd=fd) for part in command)],
                cwd=folder,
                # Of warnings in other people's programs only those about us are ours.
                env={**environment(url), "PYTHONWARNINGS": "default"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[fd],
                start_new_session=True,  # so that its workers can be found when it has ended
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
        """What the server and its workers wrote."""
        return self._log.read_text("utf-8", "replace")

    @property
    def is_gone(self) -> bool:
        """Whether there is no process left, neither the server's nor one of a worker."""
        self.process.poll()
        try:
            os.killpg(self.process.pid, 0)
        except ProcessLookupError:
            return True
        return False

    def ask(self) -> list[tuple[int, int]]:
        """Ask several times at once; of each answer the worker's number and the setting's value."""
        asked = [self._pool.submit(self._ask_once) for _ in range(_AT_ONCE)]
        return [answer for each in asked if (answer := each.result()) is not None]

    def _ask_once(self) -> tuple[int, int] | None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE)
        try:
            connection.request("GET", "/", headers={"Connection": "close"})
            response = connection.getresponse()
            body = response.read()
        except (OSError, http.client.HTTPException):
            return None  # not yet up, or killed meanwhile
        finally:
            connection.close()
        assert response.status == 200, (response.status, body)
        answer = json.loads(body)
        return answer["pid"], answer["value"]

    def ask_until(
        self, done: Callable[[dict[int, int]], bool], allowed: set[int], within: float = DEADLINE
    ) -> dict[int, int]:
        """Ask until the newest answers of the workers are as wanted, and return them by worker.

        Any answer must be one of those that are allowed.
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
