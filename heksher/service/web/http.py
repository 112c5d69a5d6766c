"""The HTTP around the routes: methods of a path, bodies, worker threads, forms of errors.

Knows Starlette and nothing about settings. Handlers are plain functions from a ``Call`` to a
``Reply``; they run in worker threads, so they may block. What needs no waiting can be answered in the
event loop. What a handler is declared to return is what the OpenAPI document says of it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
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
from heksher.service.domain.messages import Answer, Refused
from heksher.service.domain.refusals import Refusal, malformed
from heksher.service.web import bodies
from heksher.service.web.openapi import Answers

_Request = TypeVar("_Request")
_Response = TypeVar("_Response", Response, Response | None)
_Body_co = TypeVar("_Body_co", bound=Answer, covariant=True)

# Where the routes of the protocol live.
BASE = "/api/v1"

_TRUE = frozenset({"true", "1", "yes", "on", "t", "y"})
_FALSE = frozenset({"false", "0", "no", "off", "f", "n"})

# How often a request is tried whose transaction was undone because of another one's.
_TRIES = 5

# Seconds that a request takes at most. What waits for a database gives up before, unless the database
# stands still without saying so.
_PATIENCE = 30.0

# Seconds after which to come again while the database is not available.
_RETRY_AFTER = 2


@dataclass(frozen=True, slots=True)
class Call:
    """A request, read to its end. Of a repeated query parameter the last one is there."""

    path: Mapping[str, str]
    query: Mapping[str, str]
    if_none_match: Sequence[str]
    content_type: str | None
    body: bytes

    def fields(self, *, unique_keys: bool = True) -> dict[str, Json]:
        """The fields of the JSON body."""
        return bodies.read_object(self.body, self.content_type, unique_keys=unique_keys)

    def flag(self, name: str) -> bool:
        """A boolean query parameter, false when it is missing."""
        return flag(self.query, name)

    def name(self) -> str:
        """The name in the path. Any text, but none that a database could not look up."""
        name = self.path["name"]
        if "\0" in name:
            raise malformed("no name holds U+0000")
        return name

    def key(self) -> str:
        """The key of metadata in the path."""
        return bodies.metadata_key(self.path["key"])

    def rule_id(self) -> int:
        """The id in the path, read leniently."""
        try:
            return int(self.path["id"])
        except (KeyError, ValueError) as error:
            raise malformed("the id of a rule is a number") from error


def flag(query: Mapping[str, str], name: str) -> bool:
    """A boolean parameter of *query*, false when it is missing."""
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
    """201: something was made, and is at *path*, below the prefix of the application."""

    body: _Body_co
    path: str


class Tagged(Response, Generic[_Body_co]):
    """200, with a body that was encoded before, or 304, which has none; with an ETag."""


# What a handler returns; None: there is nothing to say, 204.
Reply: TypeAlias = Answer | Located[Answer] | Tagged[Answer] | None
Handler: TypeAlias = Callable[[Call], Reply]

# One that runs in the event loop, waits for nothing and reads no body; None: it takes a handler.
AtOnce: TypeAlias = Callable[[Request], Tagged[Answer] | None]


class Resource:
    """One path: an ASGI application that hands each method to its handler.

    Args:
        handlers: by method.
        at_once: what is asked before the handler of a method, if there is something.
        too_late: what answers when a handler takes longer than anybody waits; else that is 503.
    """

    def __init__(
        self,
        handlers: Mapping[str, Handler],
        at_once: Mapping[str, AtOnce] | None = None,
        too_late: Handler | None = None,
    ) -> None:
        self.handlers = dict(handlers)
        self._at_once = dict(at_once or {})
        self._too_late = too_late

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        handler = self.handlers.get(request.method)
        if handler is None:
            raise HTTPException(405, headers={"Allow": ", ".join(sorted(self.handlers))})
        at_once = self._at_once.get(request.method)
        if at_once is not None:
            response = _response_of(at_once, request)
            if response is not None:
                await response(scope, receive, send)
                return
        try:
            body = await request.body()
        except ClientDisconnect:
            return  # nobody is left to answer
        call = Call(
            path=request.path_params,
            query=request.query_params,
            if_none_match=request.headers.getlist("if-none-match"),
            content_type=request.headers.get("content-type"),
            body=body,
        )
        response = await _answer_in_thread(handler, call, self._too_late)
        if "location" in response.headers:  # of what this application has, below its own prefix
            response.headers["location"] = scope.get("root_path", "") + response.headers["location"]
        await response(scope, receive, send)


def answers(routes: Iterable[BaseRoute]) -> dict[str, Answers]:
    """What the handlers of routes answer if they refuse nothing, by method and path."""
    return {
        f"{method} {route.path}": _answers_of(handler)
        for route in routes
        if isinstance(route, Route) and isinstance(route.endpoint, Resource)
        for method, handler in route.endpoint.handlers.items()
    }


def _answers_of(handler: Handler) -> Answers:
    """By status what *handler* is declared to return."""
    returned = get_type_hints(handler)["return"]
    is_union = get_origin(returned) in (Union, UnionType)
    found = defaultdict[int, tuple[type[Answer] | None, ...]](tuple)
    for kind in get_args(returned) if is_union else (returned,):
        for status, body in _by_status(kind).items():
            found[status] += (body,)
    return found


def _by_status(kind: Any) -> dict[int, type[Answer] | None]:
    if kind is NoneType:
        return {204: None}
    origin, of = get_origin(kind), get_args(kind)
    if origin is Located:
        return {201: of[0]}
    if origin is Tagged:
        return {200: of[0], 304: None}
    return {kind.status: kind}


async def _answer_in_thread(handler: Handler, call: Call, too_late: Handler | None) -> Response:
    def answer(call: Call) -> Response:
        return _response(handler(call))

    with anyio.move_on_after(_PATIENCE):
        # Who is left in the thread goes on alone, and nobody learns what came of it.
        return await anyio.to_thread.run_sync(_response_of, answer, call, abandon_on_cancel=True)
    return _unavailable() if too_late is None else _response(too_late(call))


def _response_of(
    answer: Callable[[_Request], _Response], request: _Request
) -> _Response | Response:
    for _ in range(_TRIES):
        try:
            return answer(request)
        except Refusal as refusal:
            return _refused(refusal)
        except MetAnotherTransaction:
            continue
        except DatabaseUnavailable:
            break
    return _unavailable()


def _response(reply: Reply) -> Response:
    if reply is None:
        return Response(status_code=204)
    if isinstance(reply, Tagged):
        return reply
    if isinstance(reply, Located):
        return json_response(reply.body, 201, {"Location": reply.path})
    return json_response(reply, reply.status)


def _unavailable() -> Response:
    return PlainTextResponse(
        "the database is not available at the moment",
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
    """*body* as JSON."""
    return Response(
        msgspec.json.encode(body), status, headers=headers, media_type="application/json"
    )


async def framework_error(_request: Request, error: Exception) -> Response:
    """404 and 405, in the form that the protocol gives them."""
    assert isinstance(error, HTTPException)
    return json_response(Refused(error.detail), error.status_code, error.headers)
