"""Middleware in front of all routes: API token or protection from web pages, body limit, access log.

Each is an ASGI application that wraps another one. They know HTTP and nothing about settings.
"""

from __future__ import annotations

import hmac
import logging
import time
from collections.abc import Collection
from urllib.parse import quote

import anyio
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from heksher._text import one_line, shown
from heksher.service.domain.messages import Refused
from heksher.service.web.http import json_response
from heksher.service.web.origins import is_foreign_page, is_own_name

access: logging.Logger = logging.getLogger("heksher.service.access")

# How long the rest of a body that is too long is read and discarded, in seconds. A client that sends
# its whole body before it reads would otherwise lose the response when the connection is closed.
_DRAIN_TIMEOUT = 2.0

# Maximum number of characters of a method or a path in the access log.
_MAX_LOGGED = 500


def _announced(scope: Scope) -> tuple[int, bool]:
    """Return the announced length of the body, and whether the server enforces it."""
    length, is_bounded = 0, _is_http_1(scope)
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit():
            # Thirty digits exceed every limit, and int() refuses very long numbers.
            length = int(value[:30])
        elif name == b"transfer-encoding":
            is_bounded = False
    return length, is_bounded


def _closing(scope: Scope) -> dict[str, str]:
    """Return headers for a response that is sent before the body was read completely.

    A chunked body has no announced end, so its connection is closed instead of reading the rest.
    """
    _, is_bounded = _announced(scope)
    # HTTP/2 can end one stream without closing the connection.
    return {} if is_bounded or not _is_http_1(scope) else {"Connection": "close"}


def _is_http_1(scope: Scope) -> bool:
    return str(scope["http_version"]).startswith("1")


class TokenRequired:
    """Let only requests with a valid token through.

    The token is taken from the header ``api_token`` or is a bearer token. ``open_path``, the health
    check, needs none.
    """

    def __init__(self, app: ASGIApp, tokens: Collection[str], *, open_path: str) -> None:
        self._app = app
        # The exact bytes from the command line or the environment.
        self._tokens = [token.encode("utf-8", "surrogateescape") for token in tokens]
        self._open_path = open_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or self._is_open(scope) or self._has_token(scope):
            await self._app(scope, receive, send)
            return
        headers = {"WWW-Authenticate": 'Bearer realm="heksher"', **_closing(scope)}
        response = json_response(Refused("Unauthorized"), 401, headers)
        await response(scope, receive, send)

    def _is_open(self, scope: Scope) -> bool:
        return bool(scope["path"] == scope.get("root_path", "") + self._open_path)

    def _has_token(self, scope: Scope) -> bool:
        headers = Headers(scope=scope)
        offered = headers.getlist("api_token")
        for authorization in headers.getlist("authorization"):
            scheme, _, credentials = authorization.partition(" ")
            if scheme.lower() == "bearer":
                offered.append(credentials.strip())
        # Compare all pairs in constant time, so that timing reveals nothing about the tokens.
        equal = [
            hmac.compare_digest(text.encode("latin-1"), token)
            for text in offered
            for token in self._tokens
        ]
        return any(equal)


class OwnPagesOnly:
    """Refuse requests that a web page of another origin can have made; see the module ``origins``.

    For a service without tokens. A page of another origin does not know a token.
    """

    def __init__(self, app: ASGIApp, allowed_hosts: frozenset[str]) -> None:
        self._app = app
        self._allowed_hosts = allowed_hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self._app
        refusal = self._refusal(scope) if scope["type"] == "http" else None
        if refusal is not None:
            status, reason = refusal
            app = json_response(Refused(reason), status, _closing(scope))
        await app(scope, receive, send)

    def _refusal(self, scope: Scope) -> tuple[int, str] | None:
        """Return the status and the reason of a refusal."""
        # A dict, since each look-up in `Headers` goes through the list. Of several, the first one counts.
        headers: dict[str, str] = {}
        for name, value in scope["headers"]:
            headers.setdefault(name.decode("latin-1"), value.decode("latin-1"))
        host = headers.get("host", "")
        server = (scope.get("server") or ("",))[0]
        if not is_own_name(host, server, self._allowed_hosts):
            reason = (
                f"invalid Host {shown(host)}: not known as a name of this service; start it with "
                "--allowed-host (allowed_hosts of create_app), or with a token"
            )
            return 421, reason
        if is_foreign_page(scope["method"], headers):
            reason = (
                "a web page of another origin cannot use this service; if it is the service's own "
                "page behind a proxy, let the proxy pass on the header Host"
            )
            return 403, reason
        return None


class _TooLong(Exception):
    """A body exceeds the limit."""


class BodyLimit:
    """Answer 413 if a body has more than *limit* bytes, whether or not its length is announced."""

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self._app = app
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        announced, is_bounded = _announced(scope)
        if announced > self._limit:
            await self._refuse(scope, receive, send)
            return
        if is_bounded:
            await self._app(scope, receive, send)
            return
        length = 0
        is_read = started = False

        async def counted() -> Message:
            nonlocal length, is_read
            message = await receive()
            length += len(message.get("body", b""))
            if length > self._limit and not started:
                raise _TooLong
            is_read = not message.get("more_body", False)
            return message

        async def noted(message: Message) -> None:
            nonlocal started
            if not started and not is_read:
                closing = Headers(_closing(scope)).raw
                message = {**message, "headers": [*message["headers"], *closing]}
            started = True
            await send(message)

        try:
            await self._app(scope, counted, noted)
        except _TooLong:
            await self._refuse(scope, receive, send)

    async def _refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = json_response(Refused(f"the body is longer than {self._limit} bytes"), 413)
        if _is_http_1(scope):
            response.headers["Connection"] = "close"
        await send(
            {
                "type": "http.response.start",
                "status": response.status_code,
                "headers": response.raw_headers,
            }
        )
        # Send the response except for its end: after the end, servers do not pass on the rest of the
        # request body, which still has to be drained.
        await send({"type": "http.response.body", "body": response.body, "more_body": True})
        with anyio.move_on_after(_DRAIN_TIMEOUT):
            while (await receive()).get("more_body", False):
                pass
        await send({"type": "http.response.body", "body": b""})


class AccessLog:
    """Log each request when it has been answered: method, path, status, milliseconds, bytes.

    Headers and query strings are not logged: they may contain secrets or personal data. Long methods
    and paths are cut.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = 0
        sent = 0

        async def noted(message: Message) -> None:
            nonlocal status, sent
            if message["type"] == "http.response.start":
                status = message["status"]
            sent += len(message.get("body", b""))
            await send(message)

        began = time.perf_counter()
        try:
            await self._app(scope, receive, noted)
        finally:
            milliseconds = (time.perf_counter() - began) * 1000
            # Quoted, so that a path cannot inject lines into the log.
            path = quote(scope["path"][: _MAX_LOGGED + 1], safe="/:@!$&'()*+,;=~-._")
            access.info(
                "%s %s %s %.1f ms %d bytes",
                one_line(scope["method"], _MAX_LOGGED),
                one_line(path, _MAX_LOGGED),
                status or "no answer",
                milliseconds,
                sent,
            )
