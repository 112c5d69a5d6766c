"""HTTP around the route handlers: dispatch by method, bodies, worker threads, error responses.

Knows Starlette and nothing about settings. Handlers are plain functions from a ``Call`` to a
``Reply``. They run in worker threads, so they may block. The exception is what clients request all the
time: a ``CachedHandler`` runs in the event loop, and threads do only what it leaves as ``Slow``. The
OpenAPI document is generated from the declared return types of handlers.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import NoneType, UnionType
from typing import Any, Generic, TypeAlias, TypeVar, Union, get_args, get_origin, get_type_hints

import anyio
import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from heksher.service.domain.errors import DatabaseUnavailable, MetAnotherTransaction
from heksher.service.domain.json_values import Json
from heksher.service.domain.messages import Refused, ResponseBody
from heksher.service.domain.refusals import Refusal, malformed
from heksher.service.web import bodies
from heksher.service.web.openapi import Responses
from heksher.service.web.per_loop import PerLoop

_Result = TypeVar("_Result")
_Body_co = TypeVar("_Body_co", bound=ResponseBody, covariant=True)
_Encoded = TypeVar("_Encoded", bound="Encoded[ResponseBody]")
_Encoded_co = TypeVar("_Encoded_co", bound="Encoded[ResponseBody]", covariant=True)

# Path prefix of all routes of the protocol except health.
BASE = "/api/v1"

_TRUE = frozenset({"true", "1", "yes", "on", "t", "y"})
_FALSE = frozenset({"false", "0", "no", "off", "f", "n"})

# Maximum number of attempts at a request whose transactions conflict with others.
_MAX_ATTEMPTS = 5

# Maximum duration of a request, in seconds. Waiting for the database has shorter timeouts, so this one
# only matters if the database hangs without an error.
_REQUEST_TIMEOUT = 30.0

# Maximum number of threads for slow work, for each resource. Together they need fewer threads and
# connections to the database than there are, so other requests do not wait for them.
_MAX_SLOW = 4

# Number of bytes of a long body that are sent at a time.
_PIECE = 256 * 1024

# Value of Retry-After while the database is unavailable, in seconds.
_RETRY_AFTER = 2


@dataclass(frozen=True, slots=True)
class Call:
    """A request with its whole body. Of a repeated query parameter, the last value counts."""

    path: Mapping[str, str]
    query: Mapping[str, str]
    if_none_match: Sequence[str]
    content_type: str | None
    body: bytes

    def fields(self, *, unique_keys: bool = True) -> dict[str, Json]:
        """Parse the JSON body into its fields."""
        return bodies.read_object(self.body, self.content_type, unique_keys=unique_keys)

    def flag(self, name: str) -> bool:
        """Read a boolean query parameter; False if it is missing."""
        return flag(self.query, name)

    def name(self) -> str:
        """Return the name in the path: any string that a database can look up."""
        name = self.path["name"]
        if "\0" in name:
            raise malformed("invalid name: it must not contain U+0000")
        return name

    def key(self) -> str:
        """Return the metadata key in the path."""
        return bodies.metadata_key(self.path["key"])

    def rule_id(self) -> int:
        """Return the rule id in the path. Anything that int() accepts is accepted."""
        try:
            return int(self.path["id"])
        except (KeyError, ValueError) as error:
            raise malformed("invalid rule id: expected an integer") from error


def flag(query: Mapping[str, str], name: str) -> bool:
    """Read a boolean parameter of *query*; False if it is missing."""
    if name not in query:
        return False
    text = query[name].lower()
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise malformed(f"{name} must be true or false")


@dataclass(frozen=True, slots=True)
class Located(Generic[_Body_co]):
    """A 201 response: something was created at *path*, relative to the application's prefix."""

    body: _Body_co
    path: str


class Encoded(Response, Generic[_Body_co]):
    """A 200 response with a body that is encoded already.

    It is sent in pieces, and a piece only when the client has read most of what was sent before. A server
    would otherwise keep a copy of the whole body for each slow client.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        start = {"status": self.status_code, "headers": self.raw_headers}
        await send({"type": "http.response.start", **start})
        for begin in range(0, len(self.body) or 1, _PIECE):
            end = begin + _PIECE
            piece = {"body": self.body[begin:end], "more_body": end < len(self.body)}
            await send({"type": "http.response.body", **piece})


class Tagged(Encoded[_Body_co]):
    """A 200 response with an encoded body, or a 304 without a body. Both have an ETag."""


@dataclass(frozen=True, slots=True)
class Slow(Generic[_Encoded_co]):
    """The rest of a handler that takes long: it runs on one of the few threads for slow work."""

    work: Callable[[], _Encoded_co]


MaybeSlow: TypeAlias = _Encoded | Slow[_Encoded]

# The result of a handler. None means 204.
Reply: TypeAlias = ResponseBody | Located[ResponseBody] | Encoded[ResponseBody] | None
Handler: TypeAlias = Callable[[Call], Reply]

# Runs in the event loop, so it must not block. It does not see the body of the request.
CachedHandler: TypeAlias = Callable[[Request], Awaitable[MaybeSlow[Encoded[ResponseBody]]]]


class Resource:
    """One path: an ASGI application that dispatches to a handler by method.

    Args:
        handlers: by method.
        cached: by method, the handlers of other methods, which run in the event loop.
        on_timeout: makes the answer if a handler of *handlers* times out. Without it, the response
            is 503.
    """

    def __init__(
        self,
        handlers: Mapping[str, Handler],
        cached: Mapping[str, CachedHandler] | None = None,
        on_timeout: Callable[[Call], ResponseBody] | None = None,
    ) -> None:
        self._handlers = dict(handlers)
        self._cached = dict(cached or {})
        self._on_timeout = on_timeout
        self._slow = PerLoop(lambda: anyio.CapacityLimiter(_MAX_SLOW))

    @property
    def handlers(self) -> Mapping[str, Handler | CachedHandler]:
        """The handlers of all methods."""
        return {**self._handlers, **self._cached}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        cached = self._cached.get(request.method)
        if cached is not None:
            response = await _answer_or_refuse(partial(cached, request))
            if isinstance(response, Slow):
                response = await _answer_in_thread(response.work, self._slow.get())
            await response(scope, receive, send)
            return
        handler = self._handlers.get(request.method)
        if handler is None:
            raise HTTPException(405, headers={"Allow": ", ".join(sorted(self.handlers))})
        try:
            body = await request.body()
        except ClientDisconnect:
            return  # no one is left to receive a response
        call = Call(
            path=request.path_params,
            query=request.query_params,
            if_none_match=request.headers.getlist("if-none-match"),
            content_type=request.headers.get("content-type"),
            body=body,
        )
        response = await _answer_in_thread(
            lambda: _as_response(handler(call)),
            on_timeout=None if self._on_timeout is None else partial(self._on_timeout, call),
        )
        if "location" in response.headers:  # relative to the application's own prefix
            response.headers["location"] = scope.get("root_path", "") + response.headers["location"]
        await response(scope, receive, send)


def responses(routes: Iterable[BaseRoute]) -> dict[str, Responses]:
    """List the responses of handlers that are not refusals, by method and path."""
    return {
        f"{method} {route.path}": _responses_of(handler)
        for route in routes
        if isinstance(route, Route) and isinstance(route.endpoint, Resource)
        for method, handler in route.endpoint.handlers.items()
    }


def _responses_of(handler: Handler | CachedHandler) -> Responses:
    """List what *handler* is declared to return, by status."""
    returned = get_type_hints(handler)["return"]
    is_union = get_origin(returned) in (Union, UnionType)
    found = defaultdict[int, tuple[type[ResponseBody] | None, ...]](tuple)
    for kind in get_args(returned) if is_union else (returned,):
        for status, body in _by_status(kind).items():
            if body not in found[status]:
                found[status] += (body,)
    return found


def _by_status(kind: Any) -> dict[int, type[ResponseBody] | None]:
    if kind is NoneType:
        return {204: None}
    origin, of = get_origin(kind), get_args(kind)
    if origin is Located:
        return {201: of[0]}
    if origin is Encoded:
        return {200: of[0]}
    if origin is Tagged:
        return {200: of[0], 304: None}
    if origin is Slow:
        return _by_status(of[0])
    return {kind.status: kind}


async def _answer_in_thread(
    work: Callable[[], Response],
    limiter: anyio.CapacityLimiter | None = None,
    on_timeout: Callable[[], ResponseBody] | None = None,
) -> Response:
    with anyio.move_on_after(_REQUEST_TIMEOUT):
        # On a timeout, the thread continues and its result is discarded.
        in_thread = partial(anyio.to_thread.run_sync, work, abandon_on_cancel=True, limiter=limiter)
        return await _answer_or_refuse(in_thread)
    return _unavailable() if on_timeout is None else _as_response(on_timeout())


async def _answer_or_refuse(answer: Callable[[], Awaitable[_Result]]) -> _Result | Response:
    """Await *answer*, again after conflicts of transactions; turn exceptions into responses."""
    for _ in range(_MAX_ATTEMPTS):
        try:
            return await answer()
        except Refusal as refusal:
            return _refused(refusal)
        except MetAnotherTransaction:
            continue
        except DatabaseUnavailable:
            break
    return _unavailable()


def _as_response(reply: Reply) -> Response:
    if reply is None:
        return Response(status_code=204)
    if isinstance(reply, Encoded):
        return reply
    if isinstance(reply, Located):
        return json_response(reply.body, 201, {"Location": reply.path})
    return json_response(reply, reply.status)


def _unavailable() -> Response:
    return PlainTextResponse(
        "the database is unavailable at the moment: try again later",
        503,
        headers={"Retry-After": str(_RETRY_AFTER)},
    )


def _refused(refusal: Refusal) -> Response:
    if refusal.text is not None:
        return PlainTextResponse(refusal.text, refusal.status)
    if refusal.body is not None:
        return json_response(refusal.body, refusal.status)
    return Response(status_code=refusal.status)


def json_response(
    body: msgspec.Struct, status: int, headers: Mapping[str, str] | None = None
) -> Response:
    """Make a response with *body* as JSON."""
    return Response(
        msgspec.json.encode(body), status, headers=headers, media_type="application/json"
    )


async def framework_error(_request: Request, error: Exception) -> Response:
    """Make the responses 404 and 405 in the protocol's form."""
    assert isinstance(error, HTTPException)
    return json_response(Refused(error.detail), error.status_code, error.headers)
