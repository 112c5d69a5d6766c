"""A live embedded service for tests, in a child process or in this one, with faults on demand.

Knows the protocol and settings as applications declare them, but not the internals of the service.
Needs the extra ``testing``. Applications do not import this module.

It raises ``AssertionError`` and never asserts: under ``python -O`` a refusal must fail a test, too.
"""

from __future__ import annotations

import ssl
import subprocess
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import httpx

from heksher._client.declarations import Catalogue, declaration_of, plan_declaration
from heksher._wire import declare
from heksher.exceptions import InvalidArgumentError
from heksher.setting import Setting
from heksher.testing._hosts import DEADLINE, Host, ProcessHost, ThreadHost

if TYPE_CHECKING:
    from heksher.testing.faults import Faults
    from heksher.testing.faults.proxy import FaultProxy

__all__ = ["DEADLINE", "LiveService"]

_NEEDED = ("h11", "starlette", "uvicorn", "sqlalchemy", "alembic")
_MISSING_EXTRA = "LiveService needs more packages: pip install 'heksher[testing]'"


class LiveService:
    """A live service and the operations on it that tests need. A context manager: stops on exit.

    ::

        with LiveService(features=["user"]) as service:
            service.declare(cache_ttl)
            service.add_rule(cache_ttl, 5, user="jim")
            client = heksher.ThreadHeksherClient(service.url, 30, ["user"], startup="raise")

    Requests of the methods below go directly to the service, past all faults. The methods raise
    ``AssertionError`` if the service refuses. Settings are passed as `Setting` or by name.

    Args:
        features: the context features, in order.
        in_process: whether the service runs in a thread of this process, which starts faster.
            Otherwise it runs in a child process, which can be killed.
        database: ``memory``, or any value for ``heksher serve --database``.
        api_token: token that requests must have; None for no token.
        proxy: whether to put a fault proxy in front of the service.
        tls: whether clients use TLS to connect to the proxy; see `ssl_context`.
        port: port of the service itself; 0 for any free port.
        options: further options for ``heksher serve``, for a service in a child process.
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
            raise InvalidArgumentError(
                "invalid tls=True: only the proxy supports TLS, so use proxy=True"
            )
        if in_process and options:
            raise InvalidArgumentError(
                "invalid options: they are for heksher serve, so use in_process=False"
            )
        for package in _NEEDED:
            if find_spec(package) is None:
                raise ModuleNotFoundError(_MISSING_EXTRA, name=package)
        self._features = tuple(features)  # for the next start
        self._is_in_memory = database == "memory"
        self._host: Host = (
            ThreadHost(str(database), api_token, port)
            if in_process
            else ProcessHost(str(database), api_token, port, options)
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

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    # --- start and stop ---------------------------------------------------------------------------

    @property
    def url(self) -> str:
        """The URL for clients. It never changes, even while the service is stopped."""
        return self.direct_url if self._proxy is None else self._proxy.url

    @property
    def direct_url(self) -> str:
        """The URL of the service itself, behind the fault proxy."""
        if not self._host.url:
            raise AssertionError("the service has never been started")
        return self._host.url

    @property
    def port(self) -> int:
        """The port of the service itself, behind the fault proxy."""
        return self._host.port

    @property
    def process(self) -> subprocess.Popen[str] | None:
        """The child process, if the service runs in one."""
        return self._host.process

    @property
    def is_running(self) -> bool:
        """Whether the service is running."""
        return self._host.is_running

    @property
    def log(self) -> str:
        """The log since the last start, if the service runs in a child process."""
        return self._host.log

    def start(self) -> str:
        """Start the service, or start it again, and wait until it accepts connections.

        After `stop` or `kill`, a database in memory is empty except for the context features, which
        are those that were last assigned.

        Returns:
            The URL for clients.
        """
        if self.is_running:
            raise AssertionError("the service is already running")
        self._hang_up()  # the service may have ended by itself
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
        """Stop the service gracefully, as a supervisor does, and wait until it has ended.

        Until the next start, connections are refused.

        Returns:
            The exit status.
        """
        if not self.is_running:
            raise AssertionError("the service is not running")
        return self._end(self._host.stop)

    def kill(self) -> None:
        """End the service immediately if it is running. A child process gets SIGKILL."""
        if self.is_running:
            self._end(self._host.kill)

    def close(self) -> None:
        """End the service and its proxy."""
        try:
            self._close_proxy()
        finally:
            self.kill()
            self._hang_up()

    def renew(self, features: Sequence[str] = (), *, tls: bool = False) -> None:
        """Make the service like new: running, without settings or faults, and at a new URL.

        The old URL refuses connections.
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
            self._proxy.close()  # kept for its URL and the requests that it has seen

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
        """The faults of the proxy, and the requests that it has seen."""
        if self._proxy is None:
            raise InvalidArgumentError(
                "no faults without a proxy: create the service with proxy=True"
            )
        return self._proxy.faults

    @property
    def ssl_context(self) -> ssl.SSLContext:
        """A context for clients that trusts the proxy's certificates. Needs ``tls=True``.

        ::

            AsyncHeksherClient(service.url, 30, features, http_client_args={"verify": service.ssl_context})
        """
        if self._proxy is None or self._proxy.certificates is None:
            raise InvalidArgumentError(
                "no certificates without TLS: create the service with tls=True"
            )
        return self._proxy.certificates.trusting()

    # --- operations -------------------------------------------------------------------------------

    @property
    def features(self) -> list[str]:
        """The context features, in order. Assign a list to replace them."""
        found: list[str] = self.get("/context_features")["context_features"]
        return found

    @features.setter
    def features(self, wanted: Sequence[str]) -> None:
        present = self.features
        for feature in present:
            if feature not in wanted:
                self._expect("DELETE", f"/context_features/{feature}")
        for feature in wanted:
            if feature not in present:
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
        """Declare a setting as an application's client would.

        A `Setting` brings all its properties. For a setting by name, the other arguments say what to
        declare.

        Returns:
            The service's last answer. A conflict raises an ``AssertionError``.
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
        """Add a rule that gives a setting *value* in all contexts that match the conditions.

        A `Setting` is declared first if the service does not have it. A setting given by name must
        exist.

        Returns:
            The id of the rule.
        """
        if isinstance(setting, Setting):
            self._ensure_declared(setting)
            value = setting.type.encode(value)
        body = {"setting": _name(setting), "feature_values": conditions, "value": value}
        return int(self._expect("POST", "/rules", body).json()["rule_id"])

    def change_rule(self, rule_id: int, value: Any) -> None:
        """Change the value of a rule."""
        self._expect("PUT", f"/rules/{rule_id}/value", {"value": value})

    def delete_rule(self, rule_id: int) -> None:
        """Delete a rule."""
        self._expect("DELETE", f"/rules/{rule_id}")

    def set_value(self, setting: Setting[Any] | str, value: Any) -> None:
        """Change the default value of a setting, which applies where no rule matches.

        The change is declared as by a newer version of an application. A `Setting` is declared first
        if the service does not have it.
        """
        if isinstance(setting, Setting):
            self._ensure_declared(setting)
            value = setting.type.encode(value)
        stored = self.get(f"/settings/{_name(setting)}")
        major, _, minor = stored["version"].partition(".")
        self.declare(
            stored["name"],
            stored["type"],
            value,
            stored["configurable_features"],
            metadata=stored["metadata"],
            version=f"{major}.{int(minor) + 1}",
        )

    def rename(self, setting: Setting[Any] | str, new_name: str, version: str) -> None:
        """Rename a setting, as an operator does."""
        body = {"name": new_name, "version": version}
        self._expect("PUT", f"/settings/{_name(setting)}/name", body)

    def delete_setting(self, setting: Setting[Any] | str) -> None:
        """Delete a setting with all its rules."""
        self._expect("DELETE", f"/settings/{_name(setting)}")

    def add_feature(self, name: str) -> None:
        """Add a context feature at the end."""
        self._expect("POST", "/context_features", {"context_feature": name})

    def move_feature(self, name: str, *, to_after: str) -> None:
        """Move a context feature directly after another one."""
        self._expect("PATCH", f"/context_features/{name}/index", {"to_after": to_after})

    def empty(self, features: Sequence[str] = ()) -> None:
        """Delete everything, then set these context features."""
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
        """Send a request past the faults. A path without ``/api`` is relative to ``/api/v1``."""
        if self._http is None:
            raise AssertionError("the service is not running")
        if not path.startswith("/api"):
            path = f"/api/v1{path}"
        if content is not None:
            headers = {"content-type": "application/json", **(headers or {})}
        body: dict[str, Any] = {} if json is None else {"json": json}
        return self._http.request(method, path, headers=headers, content=content, **body)

    def get(self, path: str) -> Any:
        """Return the JSON at *path*. Any error raises an ``AssertionError``."""
        return self._expect("GET", path).json()

    def _ensure_declared(self, setting: Setting[Any]) -> None:
        if self.request("GET", f"/settings/{setting.name}").status_code == 404:
            self.declare(setting)

    def _expect(
        self, method: str, path: str, json: Any = None, content: bytes | None = None
    ) -> httpx.Response:
        response = self.request(method, path, json, content=content)
        if not response.is_success:
            raise AssertionError(f"{method} {path}: {response.status_code} {response.text}")
        return response


def _name(setting: Setting[Any] | str) -> str:
    return setting.name if isinstance(setting, Setting) else setting
