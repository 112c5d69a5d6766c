"""What the transports for event loops and for threads share. Does no I/O."""

from __future__ import annotations

import inspect
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, TypeAlias

import httpx

from heksher._text import one_line
from heksher._wire import Request, Response, unexpected_status
from heksher.backends._fork_lock import fork_lock
from heksher.backends._http.body import Body
from heksher.backends._http.clients import CONNECT_TIMEOUT, FewCookies
from heksher.backends._http.errors import (
    HttpInvalidResponseError,
    HttpStatusError,
    HttpUnreachableError,
    kind_of,
    library_of,
    mixed,
)
from heksher.backends._http.redaction import shows_header, told
from heksher.backends.base import HttpOptions
from heksher.exceptions import (
    InvalidArgumentError,
    InvalidResponseError,
    UnexpectedStatusError,
)

# How many pieces of a body are read before an event loop's other tasks have their turn.
PIECES = 100

# Of a coded body. It may become a thousand times as large, which takes a thread to find out, and more
# than starting one.
_LARGE_CODED = 4096

# Headers that speak of a body as it was sent, and not of the one that was read.
_OF_THE_CODED_BODY = ("content-encoding", "content-length", "transfer-encoding")


# Calls a function where no event loop waits for it.
InThread: TypeAlias = Callable[[Callable[[], Response]], Awaitable[Response]]


class TransportBase:
    #: The HTTP library that the client in use is of, as far as it is known.
    _library: Any = None

    def __init__(self, options: HttpOptions, in_thread: InThread | None = None) -> None:
        self._options = options
        self._in_thread = in_thread
        self._is_ready = options.has_ready_client

    def status_error(self, request: Request, response: Response) -> UnexpectedStatusError:
        """Return the error for a status that means no success."""
        library = self._library or httpx
        # With the service's address in its text: a program may talk to more than one.
        addressed = replace(request, target=self._options.base_url + request.target)
        as_request = library.Request(request.method, addressed.target)
        as_response = library.Response(
            response.status,
            # As bytes: text is taken for ASCII, and some servers send more than that.
            headers=[
                (name.encode(), value.encode())
                for name, value in response.headers.items()
                if name not in _OF_THE_CODED_BODY
            ],
            content=response.body,
            request=as_request,
        )
        error = unexpected_status(addressed, response, time.time())
        kind = mixed(HttpStatusError, library.HTTPStatusError)
        return kind(error, as_request, as_response)

    def invalid_response(
        self, request: Request, error: InvalidResponseError
    ) -> InvalidResponseError:
        """Return the error for an answer that cannot be read, for the reason that *error* tells."""
        library = self._library or httpx
        url = self._options.base_url + request.target
        kind = mixed(HttpInvalidResponseError, library.DecodingError)
        message = f"{request.method} {url.partition('?')[0]}: {error}"
        return kind(message, library.Request(request.method, url))

    def _make_client(self, default: type[Any]) -> tuple[Any, bool]:
        """Return an HTTP client, and whether it is ours to close."""
        given = self._options.client
        if given is None:
            return self._make_own(default), True
        client = given if self._is_ready else given()
        # Both have build_request(), and only an asynchronous one has aclose().
        if not hasattr(client, "build_request") or (
            hasattr(client, "aclose") != hasattr(default, "aclose")
        ):
            made: object = client
            if inspect.iscoroutine(client):
                client.close()  # or Python would complain that nobody awaited it
            # Not shown itself: a functools.partial shows its arguments, and they may hold a token.
            raise InvalidArgumentError(
                f"http_client= {'is' if self._is_ready else 'made'} an object of the class "
                f"{type(made).__module__}.{type(made).__name__}; "
                f"an httpx.{default.__name__}, or what works like one, is wanted"
            )
        return client, not self._is_ready

    def _make_own(self, default: type[Any]) -> Any:
        arguments = self._options.client_args
        seconds = self._options.request_timeout
        # Connecting has a shorter bound: it is where a thread cannot be ended from outside, and
        # where httpcore leaves a socket open if it is cancelled instead of timed out.
        timeout = httpx.Timeout(seconds, connect=min(seconds / 2, CONNECT_TIMEOUT))
        try:
            # It reads certificates, and OpenSSL has locks of its own.
            with fork_lock:
                client = default(**{"timeout": timeout, **arguments})
        except Exception as error:
            # Its text may show an argument's value, and that may be a password.
            said = str(error)
            reason = said if "unexpected keyword" in said else type(error).__name__
            if "proxies" in arguments:
                reason += "; proxy= and mounts= have taken the place of proxies="
            raise InvalidArgumentError(
                f"httpx.{default.__name__} does not take these http_client_args "
                f"({', '.join(arguments)}): {reason}"
                if arguments
                else f"httpx.{default.__name__} cannot be made: {reason}; it goes by the environment's "
                "HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, NO_PROXY, SSL_CERT_FILE and SSL_CERT_DIR"
            ) from None
        jar = client.cookies.jar
        if jar is not arguments.get("cookies"):  # else what it takes is the application's to say
            jar.set_policy(FewCookies(jar))
        return client

    def _build(self, client: Any, request: Request, **extensions: Any) -> Any:
        built = client.build_request(
            request.method,
            self._options.base_url + request.target,
            headers={"accept-encoding": "gzip", **dict(request.headers)},
            content=request.body,
            **({"extensions": extensions} if extensions else {}),
        )
        # From what it makes: that tells it of a client that is wrapped, too.
        self._library = library_of(built) or self._library
        query = request.target.partition("?")[2]
        if query and getattr(client, "params", None):
            # The client's own parameters have taken the place of the request's.
            both = b"&".join((built.url.query, query.encode()))
            built.url = built.url.copy_with(query=both)
        return built

    def _send_arguments(self) -> dict[str, Any]:
        # Redirects are the core's to follow: only it knows where credentials may go.
        arguments: dict[str, Any] = {"stream": True, "follow_redirects": False}
        if self._options.auth is not None:
            arguments["auth"] = self._options.auth
        return arguments

    def _unreachable(self, request: Request, error: Exception) -> HttpUnreachableError:
        library = self._library or library_of(error) or httpx
        url = self._options.base_url + request.target
        reason = one_line(told(error))
        if shows_header(error):
            reason = "a header cannot be sent; does its value hold a line break?"
        try:
            as_request = library.Request(request.method, url)
        except Exception:
            as_request = None  # what went wrong is that it takes the URL for none
        kind = mixed(HttpUnreachableError, kind_of(error, library))
        message = f"{request.method} {url.partition('?')[0]} got no answer: {reason}"
        return kind(message, as_request)

    async def _response(self, body: Body, answer: Any, *, is_decoded: bool) -> Response:
        """Return the answer, whose body was added to its end; a large one is unpacked aside."""
        if (
            self._in_thread is None
            or body.size < _LARGE_CODED
            or "content-encoding" not in answer.headers
        ):
            return body.response(answer, is_decoded=is_decoded)
        return await self._in_thread(lambda: body.response(answer, is_decoded=is_decoded))

    def _too_slow(self) -> str:
        return f"it took longer than {self._options.request_timeout:g} seconds"
