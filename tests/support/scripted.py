"""A service inside the test process that answers as the test says, and the backend that reaches it.

It is for tests of when the core makes requests, and of what it does with the answers. Other tests check
the answers of a real service.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any, TypeVar
from urllib.parse import parse_qs, unquote

import anyio.lowlevel

from heksher._wire import Request, Response, unexpected_status
from heksher.backends import Backend, Clock, Event, HttpOptions, Task, Transport
from heksher.exceptions import InvalidResponseError, ServiceUnreachableError, UnexpectedStatusError

T = TypeVar("T")


class ScriptedService:
    """A service that keeps settings and rules; to a client it looks like a real one.

    Attributes:
        features: the context features in their order.
        settings: the settings by current name, as in the answer of ``GET /settings``.
        rules: the rules by current name, as in the answer to a query.
        log: the method and the path of every request.
        faults: one entry for each request, taken from the front: an exception to raise, a response to
            give, or None for no fault.
        answers: the answers to declarations, by name, or by name and version.
        fault: the fault of every request for which `faults` has no entry; None for no fault.
        raising: what the next request raises, which may be no `Exception`; None for nothing.
        is_embedded: whether it does what the library's own service does beyond the original: it names
            revisions, sends changes since one of them, and lists settings by name.
        states: the context features and the sections at each revision that it has named.
        longest_target: the longest target of a query; a longer one is refused, as by a proxy.
        too_long: the status of that refusal.
    """

    def __init__(self, *features: str) -> None:
        self.features = list(features)
        self.settings: dict[str, dict[str, Any]] = {}
        self.rules: dict[str, list[dict[str, Any]]] = {}
        self.requests: list[Request] = []
        self.faults: list[Exception | Response | None] = []
        self.fault: Exception | Response | None = None
        self.raising: BaseException | None = None
        self.is_embedded = False
        self.states: dict[str, tuple[list[str], dict[str, str]]] = {}
        self.longest_target = math.inf
        self.too_long = 414
        self.answers: dict[str, Response] = {}
        self.transports: list[ScriptedTransport] = []
        self._holds: list[tuple[str, Event, Event, bool]] = []
        self._held: list[Event] = []
        self._next_id = 1

    @property
    def log(self) -> list[str]:
        return [
            f"{r.method} {r.target.partition('?')[0].removeprefix('api/')}" for r in self.requests
        ]

    def count(self, what: str) -> int:
        """Return the number of requests with this method and path."""
        return self.log.count(what)

    def add_rule(self, setting: str, value: Any, **conditions: str) -> int:
        number, self._next_id = self._next_id, self._next_id + 1
        self.rules.setdefault(setting, []).append(
            {
                "value": value,
                "context_features": [[name, conditions[name]] for name in conditions],
                "rule_id": number,
            }
        )
        return number

    def delete(self, name: str) -> None:
        del self.settings[name]
        self.rules.pop(name, None)

    def rename(self, name: str, new_name: str) -> None:
        data = self.settings.pop(name)
        data["aliases"] = [*data["aliases"], name]
        data["name"] = new_name
        self.settings[new_name] = data
        self.rules[new_name] = self.rules.pop(name, [])

    def hold(self, path: str, arrived: Event, go_on: Event, *, stuck: bool = False) -> None:
        """Hold back the next answer from *path* once it is ready: set *arrived*, and wait for *go_on*.

        A *stuck* answer waits even if the transport is told to end it, like a name look-up in a thread.
        """
        self._holds.append((path, arrived, go_on, stuck))

    def let_go(self) -> None:
        """Release the answers that are held back, as shutting down the sockets of real requests does."""
        for go_on in self._held:
            go_on.set()

    async def answer(self, request: Request) -> Response:
        self.requests.append(request)
        if self.raising is not None:
            error, self.raising = self.raising, None
            raise error
        response = self._answer(request)
        for hold in self._holds:
            path, arrived, go_on, stuck = hold
            if path in request.target:
                self._holds.remove(hold)
                if not stuck:
                    self._held.append(go_on)
                arrived.set()
                await go_on.wait()
                break
        if isinstance(response, Exception):
            raise response
        return response

    def _answer(self, request: Request) -> Response | Exception:
        fault = self.faults.pop(0) if self.faults else self.fault
        if fault is not None:
            return fault
        path, _, query = request.target.partition("?")
        parameters = {
            key: values[-1] for key, values in parse_qs(query, keep_blank_values=True).items()
        }
        if path == "api/health":
            return _json({"version": "scripted"})
        if path == "api/v1/context_features":
            return self._at_revision(_json({"context_features": self.features}))
        if path == "api/v1/settings":
            names = set[str | None](self.settings)
            if self.is_embedded and "settings" in parameters:
                names = {self._current(name) for name in parameters["settings"].split(",")}
            listed = [self.settings[name] for name in sorted(self.settings) if name in names]
            return self._at_revision(_json({"settings": listed}))
        if path == "api/v1/settings/declare":
            assert request.body is not None
            return self._declare(json.loads(request.body))
        if path.startswith("api/v1/settings/"):
            name = unquote(path.removeprefix("api/v1/settings/"))
            current = self._current(name)
            if current is None:
                return Response(404, {}, f"the setting {name} does not exist".encode())
            return _json(self.settings[current])
        assert path == "api/v1/query", path
        if len(request.target) > self.longest_target:
            return Response(self.too_long, {}, b"too long")
        return self._query(
            parameters["settings"],
            dict(request.headers).get("if-none-match"),
            parameters.get("since"),
        )

    def _declare(self, declared: dict[str, Any]) -> Response:
        name = declared["name"]
        if name in self.answers:
            return self.answers[name]
        if f"{name} {declared['version']}" in self.answers:
            return self.answers[f"{name} {declared['version']}"]
        if name in self.settings:
            return _json({"outcome": "uptodate"})
        if declared["version"] != "1.0":
            return Response(400, {}, b"newly created settings must have version 1.0")
        declared.pop("alias", None)
        self.settings[name] = {**declared, "aliases": []}
        return _json({"outcome": "created"})

    def _query(self, names: str, etag: str | None, since: str | None) -> Response:
        asked = [*filter(None, names.split(","))]
        current = [self._current(name) for name in asked]
        if None in current:
            return Response(404, {}, b"unknown")
        everything = self._sections()
        sections = {name: everything[name] for name in map(str, current)}
        answer = _json({"settings": sections})
        tag = f'"{hashlib.sha256(answer.body).hexdigest()}"'
        headers = {"etag": tag}
        features, earlier = self.states.get(since or "", ([], {}))
        is_known = features == self.features and asked == current and set(asked) <= earlier.keys()
        if self.is_embedded and is_known:
            headers["heksher-partial"] = "1"
            changed = {k: v for k, v in sections.items() if earlier[k] != json.dumps(v)}
            answer = _json({"settings": changed})
        if etag == tag:
            return self._at_revision(Response(304, headers))
        return self._at_revision(Response(200, headers, answer.body))

    def _sections(self) -> dict[str, Any]:
        return {
            name: {
                "default_value": self.settings[name]["default_value"],
                "rules": self.rules.get(name, []),
            }
            for name in self.settings
        }

    def _current(self, name: str) -> str | None:
        """Return the current name of the setting with this name or alias."""
        return next(
            (s["name"] for s in self.settings.values() if name in (s["name"], *s["aliases"])), None
        )

    def _at_revision(self, response: Response) -> Response:
        if not self.is_embedded:
            return response
        state = json.dumps([self.features, self.settings, self.rules]).encode()
        revision = hashlib.sha256(state).hexdigest()
        sections = {name: json.dumps(section) for name, section in self._sections().items()}
        self.states[revision] = ([*self.features], sections)
        return replace(response, headers={**response.headers, "heksher-revision": revision})


def _json(value: Any) -> Response:
    return Response(200, {"content-type": "application/json"}, json.dumps(value).encode())


def unreachable() -> ServiceUnreachableError:
    """Return the error that a transport raises if it cannot reach the service."""
    return ServiceUnreachableError("scripted: unreachable")


def refusal() -> Response:
    """Return the answer to a declaration that contradicts what the service has."""
    return Response(409, {}, b'{"outcome": "mismatch", "differences": []}')


class ScriptedTransport:
    """A transport that passes requests to a `ScriptedService`."""

    def __init__(self, service: ScriptedService, blocking: bool) -> None:
        self._service = service
        self._blocking = blocking
        self.closed = False

    async def send(self, request: Request) -> Response:
        if not self._blocking:
            # As in a real request, other tasks run here, and it can be cancelled.
            await anyio.lowlevel.checkpoint()
        if self.closed:
            raise ServiceUnreachableError("scripted: closed")
        return await self._service.answer(request)

    def status_error(self, request: Request, response: Response) -> UnexpectedStatusError:
        return unexpected_status(request, response)

    def invalid_response(
        self, request: Request, error: InvalidResponseError
    ) -> InvalidResponseError:
        return error

    def abort(self) -> None:
        self.closed = True
        self._service.let_go()

    def abandon(self) -> None:
        self.closed = True

    async def aclose(self) -> None:
        self.closed = True


class CountingEvent:
    """An event that counts its waiters."""

    def __init__(self, event: Event) -> None:
        self._event = event
        self.set = event.set
        self.clear = event.clear
        self.is_set = event.is_set
        self.waiting = 0

    async def wait(self, timeout: float | None = None) -> None:
        self.waiting += 1
        try:
            await self._event.wait(timeout)
        finally:
            self.waiting -= 1


class ScriptedBackend:
    """A third party's backend: tasks or threads of the library, and HTTP of a `ScriptedService`."""

    name = "scripted"

    def __init__(
        self, backend: Backend, service: ScriptedService, events: list[CountingEvent]
    ) -> None:
        self._backend = backend
        self._service = service
        self._events = events
        self.blocking = backend.blocking

    def loop_key(self) -> object:
        return self._backend.loop_key()

    def create_clock(self) -> Clock:
        return self._backend.create_clock()

    def create_event(self) -> Event:
        event = CountingEvent(self._backend.create_event())
        self._events.append(event)
        return event

    def create_transport(self, options: HttpOptions) -> Transport:
        transport = ScriptedTransport(self._service, self.blocking)
        self._service.transports.append(transport)
        return transport

    def create_task(self, main: Callable[[], Coroutine[Any, Any, None]]) -> Task:
        return self._backend.create_task(main)

    async def in_thread(self, function: Callable[[], T]) -> T:
        return await self._backend.in_thread(function)


class ManualClock:
    """A clock that the test advances."""

    def __init__(self) -> None:
        self._now = 1000.0
        self._sleepers: list[tuple[float, Event]] = []
        # The sleepers that `advance` has woken.
        self._woken: list[tuple[float, Event]] = []
        #: The timeouts of all waits, in order.
        self.asked: list[float | None] = []

    def now(self) -> float:
        return self._now

    async def wait(self, event: Event, timeout: float | None) -> None:
        sleeper = (self._now + (timeout if timeout is not None else math.inf), event)
        self.asked.append(timeout)
        self._sleepers.append(sleeper)
        try:
            await event.wait()
        finally:
            self._sleepers.remove(sleeper)
            if sleeper in self._woken:
                self._woken.remove(sleeper)
                event.clear()  # it was only set to end the wait

    @property
    def sleeping(self) -> int:
        """The number of waits."""
        return len(self._sleepers)

    def advance(self, seconds: float) -> None:
        """Let time pass, and wake the waits that it ends."""
        self._now += seconds
        self._wake(self._now)

    def wake_all(self) -> None:
        """End all waits without letting time pass: real time passed, which this clock did not notice."""
        self._wake(math.inf)

    def _wake(self, until: float) -> None:
        for deadline, event in list(self._sleepers):
            if deadline <= until and not event.is_set():
                self._woken.append((deadline, event))
                event.set()
