"""Where a service for tests runs: in a child process, or in a thread of this one.

Knows the command line and how to start and stop the service. Knows no settings, faults or requests.
"""

from __future__ import annotations

import os
import queue
import re
import subprocess
import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import IO, Any

# Maximum wait for a service to start, stop or answer, in seconds. Generous, because a slow machine must
# not fail a test. Tests that pass never wait this long.
DEADLINE = 60.0

# How long unfinished requests may take when a service in this process stops, in seconds.
_GRACE = 2

_READY = re.compile(r"heksher service on (http://\S+:(\d+))\n\Z")


class Host(ABC):
    """A place where a service runs. It keeps its port when it is started again."""

    def __init__(self, database: str, api_token: str | None, port: int) -> None:
        self.database = database
        self.api_token = api_token
        self.port = port
        self.url = ""
        self.process: subprocess.Popen[str] | None = None

    @property
    @abstractmethod
    def is_running(self) -> bool: ...

    @property
    @abstractmethod
    def log(self) -> str: ...

    @abstractmethod
    def start(self, features: Sequence[str]) -> None: ...

    @abstractmethod
    def stop(self) -> int: ...

    @abstractmethod
    def kill(self) -> int: ...


class ProcessHost(Host):
    """``heksher serve`` as a child process, which ends when this process does.

    The project's surroundings are not for the service: with ``-P``, no module in the working directory
    takes the place of another one, and variables that would be options are left out.

    Attributes:
        environment: the variables that the child gets.
    """

    def __init__(
        self, database: str, api_token: str | None, port: int, options: Sequence[str]
    ) -> None:
        super().__init__(database, api_token, port)
        self._options = options
        self.environment = {
            name: value for name, value in os.environ.items() if not name.startswith("HEKSHER_")
        }
        self._lines: list[str] = []
        self._readers: list[_Lines] = []

    @property
    def is_running(self) -> bool:
        if self.process is not None and self.process.poll() is not None:
            self._wait()  # the process has ended by itself
        return self.process is not None

    @property
    def log(self) -> str:
        return "".join(self._lines)

    def start(self, features: Sequence[str]) -> None:
        command = [sys.executable, "-P", "-m", "heksher.cli._child", "serve"]
        command += ["--port", str(self.port), "--database", self.database, *self._options]
        if features:
            command += ["--features", ",".join(features)]
        environment = self.environment
        if self.api_token is not None:
            # Not on the command line: other users of the machine can see it there.
            environment = environment | {"HEKSHER_API_TOKEN": self.api_token}
        self.process = subprocess.Popen(  # noqa: S603 (our own command)
            command,
            stdin=subprocess.PIPE,  # it ends the child when this process ends
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        assert self.process.stdout is not None and self.process.stderr is not None
        self._lines = []
        errors = _Lines(self.process.stderr, keep=self._lines)
        output = _Lines(self.process.stdout)
        self._readers = [errors, output]
        line = output.first()
        ready = _READY.match(line)
        if ready is None:
            self.kill()
            raise AssertionError(
                f"the service did not start; it printed {line!r} and logged:\n{self.log}"
            )
        self.url, self.port = ready[1], int(ready[2])

    def stop(self) -> int:
        assert self.process is not None
        self.process.terminate()
        return self._wait()

    def kill(self) -> int:
        assert self.process is not None
        self.process.kill()
        return self._wait()

    def _wait(self) -> int:
        assert self.process is not None
        try:
            status = self.process.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise
        finally:
            if self.process.stdin is not None:
                self.process.stdin.close()
            self.process = None
            for reader in self._readers:
                reader.thread.join(DEADLINE)
        return status


class _Lines:
    """A thread that reads a pipe to its end, so that the child never blocks on a full pipe."""

    def __init__(self, pipe: IO[str], keep: list[str] | None = None) -> None:
        self._pipe = pipe
        self._keep = keep
        self._first: queue.Queue[str] = queue.Queue()
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def first(self) -> str:
        """Wait for the first line; empty if the pipe ends without one."""
        return self._first.get(timeout=DEADLINE)

    def _read(self) -> None:
        with self._pipe:
            for number, line in enumerate(self._pipe):
                if number == 0:
                    self._first.put(line)
                if self._keep is not None:
                    self._keep.append(line)
        self._first.put("")


class ThreadHost(Host):
    """The service in a thread of this process."""

    def __init__(self, database: str, api_token: str | None, port: int) -> None:
        super().__init__(database, api_token, port)
        self._server: Any = None
        self._thread: threading.Thread | None = None

    @property
    def is_running(self) -> bool:
        return self._thread is not None

    @property
    def log(self) -> str:
        return ""

    def start(self, features: Sequence[str]) -> None:
        from heksher.service import create_app

        # First, because its error names a missing extra.
        app = create_app(self.database, features, api_token=self.api_token)
        from heksher.service.web import server

        listener = server.listen("127.0.0.1", self.port)
        ready = threading.Event()
        self._server = server.Server(app, listener, ready.set, grace=_GRACE)
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [listener]}, daemon=True
        )
        self._thread.start()
        if not ready.wait(DEADLINE):
            raise AssertionError("the service did not start in time")
        self.port = listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def stop(self) -> int:
        assert self._thread is not None
        self._server.should_exit = True
        self._thread.join(DEADLINE)
        if self._thread.is_alive():
            raise AssertionError("the service did not stop in time")
        self._thread = None
        return 0

    def kill(self) -> int:
        return self.stop()  # threads cannot be killed
