"""The embedded service to test against: in a process of its own or in this one, faults included.

Knows the command line, the protocol, and settings as an application declares them; nothing of the
service's inside. Needs the extra ``testing``. Nothing that an application runs imports this module.
"""

from __future__ import annotations

import queue
import re
import ssl
import subprocess
import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, Self

import httpx

from heksher._client.declarations import Catalogue, declaration_of, plan_declaration
from heksher._wire import declare
from heksher.exceptions import InvalidArgumentError
from heksher.setting import Setting

if TYPE_CHECKING:
    from heksher.testing.faults import Faults
    from heksher.testing.faults.proxy import FaultProxy

__all__ = ["DEADLINE", "LiveService"]

# Seconds. Generous: a slow machine must not fail a test, and no test waits for them to pass.
DEADLINE = 60.0

# What requests under way get when a service in this process is told to end.
_GRACE = 2

_NEEDED = ("h11", "starlette", "uvicorn", "sqlalchemy", "alembic")
_MISSING_EXTRA = "a service to test against needs more packages: pip install 'heksher[testing]'"

_READY = re.compile(r"heksher service on (http://\S+:(\d+))\n\Z")


class LiveService:
    """A service that runs, with all that a test does to it; as a context manager it ends with the block.

    ::

        with LiveService(features=["user"]) as service:
            service.declare(cache_ttl)
            service.add_rule(cache_ttl, 5, user="jim")
            client = heksher.ThreadHeksherClient(service.url, 30, ["user"])

    What the methods below ask goes to the service itself, past all faults. They raise
    ``AssertionError`` when it refuses. A setting is given as a `Setting`, or by name.

    Args:
        features: the context features, in order.
        in_process: whether the service runs in a thread of this process, which starts faster;
            otherwise in a process of its own, which can be killed.
        database: ``memory``, or what ``heksher serve --database`` takes.
        api_token: what requests must carry, if anything.
        proxy: whether there is a proxy for faults in front of it.
        tls: whether clients talk TLS to that proxy; see `ssl_context`.
        port: the port of the service itself, 0 for any free one.
        options: what else ``heksher serve`` is to take, for one in a process of its own.
    """

    def __init__(
        self,
        features: Sequence[str] = (),
        *,
        in_process: bool = False,
        database: str | Path = "memory",
        api_token: str | None = None,
        proxy: bool = True,
        tls: bool = False,
        port: int = 0,
        options: Sequence[str] = (),
    ) -> None:
        if tls and not proxy:
            raise InvalidArgumentError("tls=True: the proxy talks TLS, so there must be one")
        if in_process and options:
            raise InvalidArgumentError("options are those of heksher serve: use in_process=False")
        for package in _NEEDED:
            if find_spec(package) is None:
                raise ModuleNotFoundError(_MISSING_EXTRA, name=package)
        self._features = tuple(features)  # that it is started with
        self._is_in_memory = database == "memory"
        self._host: _Host = (
            _Thread(str(database), api_token, port)
            if in_process
            else _Process(str(database), api_token, port, options)
        )
        self._has_proxy = proxy
        self._tls = tls
        self._proxy: FaultProxy | None = None
        self._http: httpx.Client | None = None
        self._headers = httpx.Headers()
        if api_token is not None:
            self._headers = httpx.Headers([(b"api_token", api_token.encode())])

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    # --- its life ---------------------------------------------------------------------------------

    @property
    def url(self) -> str:
        """Where clients find it; the same for its whole life, also while it is stopped."""
        return self.direct_url if self._proxy is None else self._proxy.url

    @property
    def direct_url(self) -> str:
        """Where it is itself, behind the proxy for faults."""
        assert self._host.url, "it never ran"
        return self._host.url

    @property
    def port(self) -> int:
        """The port of the service itself, behind the proxy."""
        return self._host.port

    @property
    def process(self) -> subprocess.Popen[str] | None:
        """The process that it runs in, if it runs in one of its own."""
        return self._host.process

    @property
    def is_running(self) -> bool:
        """Whether it runs."""
        return self._host.is_running

    @property
    def log(self) -> str:
        """What it logged since it was started, if it runs in a process of its own."""
        return self._host.log

    def start(self) -> str:
        """Start it, or start it again, and wait until it accepts connections; its URL.

        After `stop` or `kill` a database in memory is empty, but for the context features that were
        assigned last.
        """
        assert not self.is_running, "it runs already"
        self._hang_up()  # if it ended by itself
        self._host.start(self._features)
        self._http = httpx.Client(
            base_url=self.direct_url, headers=self._headers, timeout=DEADLINE, trust_env=False
        )
        if self._proxy is not None and not self._proxy.is_closed:
            self._proxy.service_url = self.direct_url
            self._proxy.resume()
        elif self._has_proxy:
            self._proxy = self._new_proxy()
        return self.url

    def stop(self) -> int:
        """End it in order, as a supervisor does, and wait; its exit status.

        Connections are refused then, until it is started again.
        """
        assert self.is_running, "it does not run"
        return self._end(self._host.stop)

    def kill(self) -> None:
        """End it at once, with SIGKILL where it is a process of its own, if it runs."""
        if self.is_running:
            self._end(self._host.kill)

    def close(self) -> None:
        """End it, and the proxy in front of it."""
        try:
            self._close_proxy()
        finally:
            self.kill()
            self._hang_up()

    def renew(self, features: Sequence[str] = (), *, tls: bool = False) -> None:
        """Have it as if it were new: running, without settings, with another URL and no faults.

        Clients of the old URL find nobody there.
        """
        self._close_proxy()
        self._tls = tls
        if not self.is_running:
            self.start()
        elif self._has_proxy:
            self._proxy = self._new_proxy()
        self.empty(features)

    def _close_proxy(self) -> None:
        if self._proxy is not None:
            self._proxy.close()  # and kept: it still knows its address, and what came there

    def _new_proxy(self) -> FaultProxy:
        from heksher.testing.faults.proxy import FaultProxy

        return FaultProxy(self.direct_url, tls=self._tls)

    def _end(self, end: Callable[[], int]) -> int:
        if self._proxy is not None:
            self._proxy.pause()
        self._hang_up()
        return end()

    def _hang_up(self) -> None:
        if self._http is not None:
            self._http.close()
            self._http = None

    # --- faults -----------------------------------------------------------------------------------

    @property
    def faults(self) -> Faults:
        """The faults of the proxy in front of it, and the requests that came there."""
        if self._proxy is None:
            raise InvalidArgumentError(
                "there is no proxy for faults in front: make it with proxy=True"
            )
        return self._proxy.faults

    @property
    def ssl_context(self) -> ssl.SSLContext:
        """What a client needs to trust the proxy's certificates, with ``tls=True``.

        ::

            AsyncHeksherClient(service.url, 30, features, http_client_args={"verify": service.ssl_context})
        """
        if self._proxy is None or self._proxy.certificates is None:
            raise InvalidArgumentError("there is no TLS: make it with tls=True")
        return self._proxy.certificates.trusting()

    # --- what a test does to it -------------------------------------------------------------------

    @property
    def features(self) -> list[str]:
        """The context features, in order. Assigning makes them these, whatever there was."""
        found: list[str] = self.get("/context_features")["context_features"]
        return found

    @features.setter
    def features(self, wanted: Sequence[str]) -> None:
        there = self.features
        for feature in there:
            if feature not in wanted:
                self._expect("DELETE", f"/context_features/{feature}")
        for feature in wanted:
            if feature not in there:
                self.add_feature(feature)
        if self.features != list(wanted):
            for before, feature in pairwise(wanted):
                self.move_feature(feature, to_after=before)
        if self._is_in_memory:
            self._features = tuple(wanted)

    def declare(
        self,
        setting: Setting[Any] | str,
        type_: str = "int",
        default_value: Any = 0,
        features: Sequence[str] = ("user",),
        **more: Any,
    ) -> Any:
        """Declare a setting, as an application's client would; by name with what is given besides.

        The service's last answer, which must not be a conflict.
        """
        if isinstance(setting, Setting):
            answer: Any = None
            for declaration in plan_declaration(
                declaration_of(setting), Catalogue(())
            ).declarations:
                body = declare(declaration).request.body
                answer = self._expect("POST", "/settings/declare", content=body).json()
            return answer
        body_ = {
            "name": setting,
            "type": type_,
            "default_value": default_value,
            "configurable_features": list(features),
            **more,
        }
        return self._expect("POST", "/settings/declare", body_).json()

    def add_rule(self, setting: Setting[Any] | str, value: Any, /, **conditions: str) -> int:
        """Give a setting this value in every context that meets all conditions; the rule's id.

        A `Setting` that the service does not have is declared; one that is given by name must be
        there.
        """
        if isinstance(setting, Setting):
            self._see_to(setting)
            value = setting.type.encode(value)
        body = {"setting": _name(setting), "feature_values": conditions, "value": value}
        return int(self._expect("POST", "/rules", body).json()["rule_id"])

    def change_rule(self, rule_id: int, value: Any) -> None:
        """Give a rule another value."""
        self._expect("PUT", f"/rules/{rule_id}/value", {"value": value})

    def delete_rule(self, rule_id: int) -> None:
        """Delete a rule."""
        self._expect("DELETE", f"/rules/{rule_id}")

    def set_value(self, setting: Setting[Any] | str, value: Any) -> None:
        """Give a setting this value wherever no rule matches: as its default value there.

        It is what a newer version of an application would declare. A `Setting` that the service
        does not have is declared before.
        """
        if isinstance(setting, Setting):
            self._see_to(setting)
            value = setting.type.encode(value)
        there = self.get(f"/settings/{_name(setting)}")
        major, _, minor = there["version"].partition(".")
        self.declare(
            there["name"],
            there["type"],
            value,
            there["configurable_features"],
            metadata=there["metadata"],
            version=f"{major}.{int(minor) + 1}",
        )

    def rename(self, setting: Setting[Any] | str, new_name: str, version: str) -> None:
        """Give a setting another name, as an operator does."""
        body = {"name": new_name, "version": version}
        self._expect("PUT", f"/settings/{_name(setting)}/name", body)

    def delete_setting(self, setting: Setting[Any] | str) -> None:
        """Delete a setting with all its rules."""
        self._expect("DELETE", f"/settings/{_name(setting)}")

    def add_feature(self, name: str) -> None:
        """Add a context feature at the end."""
        self._expect("POST", "/context_features", {"context_feature": name})

    def move_feature(self, name: str, *, to_after: str) -> None:
        """Put a context feature directly after another one."""
        self._expect("PATCH", f"/context_features/{name}/index", {"to_after": to_after})

    def empty(self, features: Sequence[str] = ()) -> None:
        """Delete everything; afterwards there are just these context features."""
        for setting in self.get("/settings")["settings"]:
            self.delete_setting(setting["name"])
        self.features = list(features)

    def request(
        self,
        method: str,
        path: str,
        json: Any = None,
        headers: Mapping[str, str] | None = None,
        content: bytes | None = None,
    ) -> httpx.Response:
        """Send it a request, past the faults. A path without ``/api`` is one below ``/api/v1``."""
        assert self._http is not None, "it does not run"
        if not path.startswith("/api"):
            path = f"/api/v1{path}"
        if content is not None:
            headers = {"content-type": "application/json", **(headers or {})}
        body: dict[str, Any] = {} if json is None else {"json": json}
        return self._http.request(method, path, headers=headers, content=content, **body)

    def get(self, path: str) -> Any:
        """The JSON at *path*, which must be there."""
        return self._expect("GET", path).json()

    def _see_to(self, setting: Setting[Any]) -> None:
        if self.request("GET", f"/settings/{setting.name}").status_code == 404:
            self.declare(setting)

    def _expect(
        self, method: str, path: str, json: Any = None, content: bytes | None = None
    ) -> httpx.Response:
        response = self.request(method, path, json, content=content)
        if not response.is_success:  # not asserted: it must hold under python -O as well
            raise AssertionError(f"{method} {path}: {response.status_code} {response.text}")
        return response


def _name(setting: Setting[Any] | str) -> str:
    return setting.name if isinstance(setting, Setting) else setting


# --- where it runs --------------------------------------------------------------------------------


class _Host(ABC):
    """Where a service runs. It keeps its port when it is started again."""

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


class _Process(_Host):
    """``heksher serve`` as a child process."""

    def __init__(
        self, database: str, api_token: str | None, port: int, options: Sequence[str]
    ) -> None:
        super().__init__(database, api_token, port)
        self._options = options
        self._lines: list[str] = []
        self._readers: list[_Lines] = []

    @property
    def is_running(self) -> bool:
        if self.process is not None and self.process.poll() is not None:
            self._wait()  # it ended by itself
        return self.process is not None

    @property
    def log(self) -> str:
        return "".join(self._lines)

    def start(self, features: Sequence[str]) -> None:
        command = [sys.executable, "-m", "heksher", "serve", "--port", str(self.port)]
        command += ["--database", self.database, *self._options]
        if features:
            command += ["--features", ",".join(features)]
        if self.api_token is not None:
            # One word with "=": a token that begins with a hyphen would look like an option.
            command.append(f"--api-token={self.api_token}")
        self.process = subprocess.Popen(  # noqa: S603 (our own command)
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
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


class _Thread(_Host):
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

        # The application first: it says which extra is missing.
        app = create_app(self.database, features, api_token=self.api_token)
        from heksher.service.web import server

        listener = server.listen("127.0.0.1", self.port)
        ready = threading.Event()
        self._server = server.Server(app, ready.set, grace=_GRACE)
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [listener]}, daemon=True
        )
        self._thread.start()
        assert ready.wait(DEADLINE), "the service did not start"
        self.port = listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def stop(self) -> int:
        assert self._thread is not None
        self._server.should_exit = True
        self._thread.join(DEADLINE)
        assert not self._thread.is_alive(), "the service does not end"
        self._thread = None
        return 0

    def kill(self) -> int:
        return self.stop()  # no thread can be killed
