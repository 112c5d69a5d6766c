"""The embedded service in a process of its own, for tests of whatever talks to it.

Knows the command line and the protocol, nothing of the library or of the service's inside.
"""

from __future__ import annotations

import queue
import re
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import httpx

# Seconds. Generous: a slow machine must not fail a test, and no test waits for them to pass.
DEADLINE = 60.0

_READY = re.compile(r"heksher service on (http://\S+:(\d+))\n\Z")


class ServiceProcess:
    """``heksher serve`` as a child process; as a context manager it ends with the block.

    ::

        with ServiceProcess() as service:
            service.start(features=["user"])
            client = heksher.ThreadHeksherClient(service.url, 30, ["user"])
    """

    def __init__(self) -> None:
        self.process: subprocess.Popen[str] | None = None
        self.port = 0
        self.url = ""
        self._options: list[str] = []
        self._headers = httpx.Headers()
        self._http: httpx.Client | None = None
        self._log: list[str] = []
        self._readers: list[_Lines] = []

    def __enter__(self) -> ServiceProcess:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.kill()

    @property
    def log(self) -> str:
        """What the service wrote to stderr so far."""
        return "".join(self._log)

    def start(
        self,
        features: Sequence[str] = ("environment", "user", "theme"),
        database: str | Path = "memory",
        api_token: str | None = None,
        port: int = 0,
        options: Sequence[str] = (),
    ) -> str:
        """Start it and wait until it accepts connections; its URL, also as ``self.url``."""
        assert self.process is None, "it runs already"
        self._options = ["--database", str(database), *options]
        if features:
            self._options += ["--features", ",".join(features)]
        self._headers = httpx.Headers()
        if api_token is not None:
            self._options += ["--api-token", api_token]
            self._headers = httpx.Headers([(b"api_token", api_token.encode())])
        return self._launch(port)

    def start_again(self) -> str:
        """Start it after it ended, on the same port and database. One in memory is empty then."""
        assert self.port, "it never ran"
        return self._launch(self.port)

    def stop(self) -> int:
        """End it with SIGTERM, as a supervisor would, and wait; its exit status."""
        assert self.process is not None, "it does not run"
        self.process.terminate()
        return self._wait()

    def kill(self) -> None:
        """End it with SIGKILL, if it runs."""
        if self.process is not None:
            self.process.kill()
            self._wait()

    def request(
        self,
        method: str,
        path: str,
        json: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        """Send a request. A path without ``/api`` in front is one below ``/api/v1``."""
        assert self._http is not None, "it does not run"
        if not path.startswith("/api"):
            path = f"/api/v1{path}"
        body: dict[str, Any] = {} if json is None else {"json": json}
        return self._http.request(method, path, headers=headers, **body)

    def get(self, path: str) -> Any:
        """The JSON at *path*, which must be there."""
        return self._expect("GET", path).json()

    def declare(
        self,
        name: str,
        type_: str = "int",
        default_value: Any = 0,
        features: Sequence[str] = ("user",),
        **more: Any,
    ) -> Any:
        """Declare a setting; the answer, which must not be a conflict."""
        body = {
            "name": name,
            "type": type_,
            "default_value": default_value,
            "configurable_features": list(features),
            **more,
        }
        return self._expect("POST", "/settings/declare", body).json()

    def add_rule(self, setting: str, feature_values: Mapping[str, str], value: Any) -> int:
        """Add a rule; its id."""
        body = {"setting": setting, "feature_values": dict(feature_values), "value": value}
        return int(self._expect("POST", "/rules", body).json()["rule_id"])

    def change_rule(self, rule_id: int, value: Any) -> None:
        """Give a rule another value."""
        self._expect("PUT", f"/rules/{rule_id}/value", {"value": value})

    def delete_rule(self, rule_id: int) -> None:
        """Delete a rule."""
        self._expect("DELETE", f"/rules/{rule_id}")

    def rename(self, setting: str, new_name: str, version: str) -> None:
        """Give a setting another name, as an operator does."""
        self._expect("PUT", f"/settings/{setting}/name", {"name": new_name, "version": version})

    def delete_setting(self, name: str) -> None:
        """Delete a setting with all its rules."""
        self._expect("DELETE", f"/settings/{name}")

    def add_feature(self, name: str) -> None:
        """Add a context feature at the end."""
        self._expect("POST", "/context_features", {"context_feature": name})

    def move_feature(self, name: str, *, to_after: str) -> None:
        """Put a context feature directly after another one."""
        self._expect("PATCH", f"/context_features/{name}/index", {"to_after": to_after})

    def empty(self, features: Sequence[str]) -> None:
        """Delete everything; afterwards there are just these context features."""
        for setting in self.get("/settings")["settings"]:
            self.delete_setting(setting["name"])
        for feature in self.get("/context_features")["context_features"]:
            self._expect("DELETE", f"/context_features/{feature}")
        for feature in features:
            self.add_feature(feature)

    def _expect(self, method: str, path: str, json: Any = None) -> httpx.Response:
        response = self.request(method, path, json)
        assert response.is_success, f"{method} {path}: {response.status_code} {response.text}"
        return response

    def _launch(self, port: int) -> str:
        assert self.process is None, "it runs already"
        command = [sys.executable, "-m", "heksher", "serve", "--port", str(port), *self._options]
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None and self.process.stderr is not None
        self._log = []
        errors = _Lines(self.process.stderr, keep=self._log)
        output = _Lines(self.process.stdout)
        self._readers = [errors, output]
        line = output.first()
        ready = _READY.match(line)
        if ready is None:
            self.kill()
            raise AssertionError(f"no service; it said {line!r} and logged:\n{self.log}")
        self.url, self.port = ready[1], int(ready[2])
        self._http = httpx.Client(
            base_url=self.url, headers=self._headers, timeout=DEADLINE, trust_env=False
        )
        return self.url

    def _wait(self) -> int:
        assert self.process is not None
        if self._http is not None:
            self._http.close()
            self._http = None
        try:
            status = self.process.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise
        finally:
            self.process = None
            for reader in self._readers:
                reader.thread.join(DEADLINE)
        return status


class _Lines:
    """A thread that reads a pipe to its end, so that the child never waits for a reader."""

    def __init__(self, pipe: IO[str], keep: list[str] | None = None) -> None:
        self._pipe = pipe
        self._keep = keep
        self._first: queue.Queue[str] = queue.Queue()
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def first(self) -> str:
        """The first line; an empty text when the pipe ended without one."""
        return self._first.get(timeout=DEADLINE)

    def _read(self) -> None:
        with self._pipe:
            for number, line in enumerate(self._pipe):
                if number == 0:
                    self._first.put(line)
                if self._keep is not None:
                    self._keep.append(line)
        self._first.put("")
