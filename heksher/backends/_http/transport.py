"""What the two transports share: a request from the beginning to the end, and how failures are reported.

Knows neither event loops nor threads: the transports do the I/O, and one that blocks has coroutines that
never suspend.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, TypeAlias

import httpx

from heksher._text import counted, one_line
from heksher._wire import Request, Response, unexpected_status
from heksher.backends._http.body import Body, refused_answer, was_read
from heksher.backends._http.errors import (
    RequestEnded,
    RequestTooSlow,
    as_http_error,
    library_of,
    request_error_class,
)
from heksher.backends._http.head import RequestTrace
from heksher.backends._http.network import proxy_headers
from heksher.backends._http.redaction import (
    PROXY_HEADERS,
    redacted_text,
    safe_cause,
    shows_header,
)
from heksher.backends.base import LARGE, HttpOptions
from heksher.exceptions import (
    HeksherError,
    InvalidResponseError,
    ServiceUnreachableError,
    UnexpectedStatusError,
)

# Let other tasks or greenlets run after each this many chunks of a body: a chunk may be a byte.
CHUNKS_PER_TURN = 100

# Decompress bodies of at least this many bytes in a thread. They may become a thousand times as large,
# which takes longer than starting a thread does.
_LARGE_COMPRESSED = 4096

# Headers that describe a body as it was sent. They would be wrong beside the decompressed one.
_CODING_HEADERS = ("content-encoding", "content-length", "transfer-encoding")

#: Calls a function in a thread, so that no event loop waits for it.
InThread: TypeAlias = Callable[[Callable[[], Response]], Awaitable[Response]]


class TransportBase(ABC):
    """The base of both transports.

    Args:
        options: how to reach the service.
        in_thread: calls what decompresses large answers; None: that happens where they are read.
    """

    #: The HTTP library of the client in use, once it is known.
    _library: Any = None

    def __init__(self, options: HttpOptions, in_thread: InThread | None = None) -> None:
        self._options = options
        self._in_thread = in_thread

    def status_error(self, request: Request, response: Response) -> UnexpectedStatusError:
        """Return the error for a status that does not mean success."""
        library = self._library or httpx
        base_url = self._options.base_url
        as_request = library.Request(request.method, base_url + request.target)
        as_response = library.Response(
            response.status,
            # As bytes, because text is encoded as ASCII, and some servers send more than that.
            headers=[
                (name.encode(), value.encode())
                for name, value in response.headers.items()
                if name not in _CODING_HEADERS
            ],
            content=response.body,
            request=as_request,
        )
        error = unexpected_status(request, response, time.time(), base_url=base_url)
        return as_http_error(
            error, library.HTTPStatusError, request=as_request, response=as_response
        )

    def invalid_response(
        self, request: Request, error: InvalidResponseError
    ) -> InvalidResponseError:
        """Return the error for an answer that cannot be read, for the reason that *error* gives."""
        library = self._library or httpx
        url = self._options.base_url + request.target
        return as_http_error(
            InvalidResponseError(f"{request.method} {url.partition('?')[0]}: {error}"),
            library.DecodingError,
            request=library.Request(request.method, url),
        )

    async def send(self, request: Request) -> Response:
        """Send *request* and read the whole answer.

        Errors of this library pass: they are about an argument, and no answer to *request* would change
        that. Any other error means that there is no answer, whatever its class: an HTTP client that was
        handed in has errors of its own. `SystemExit` comes from the application's code in such a client,
        and would end the update loop without a line in the log.
        """
        cause: BaseException | None = None
        try:
            return await self._send_request(request)
        except InvalidResponseError as error:
            failure: Any = self.invalid_response(request, error)
        except HeksherError as error:
            error.__context__ = None
            raise
        except RequestEnded as error:
            failure = self._unreachable(request, error)
        except (Exception, SystemExit) as error:
            failure = self._unreachable(request, error)
            cause = safe_cause(error, getattr(failure, "_request", None))
        # Not where it was handled: that error would be the context, and it holds the request's headers.
        try:
            raise failure from cause
        finally:
            del failure, cause  # they lead to this frame

    @abstractmethod
    async def _send_request(self, request: Request) -> Response:
        """Send *request* and read the whole answer; raise errors as they are."""

    def _unreachable(self, request: Request, error: BaseException) -> ServiceUnreachableError:
        library = self._library or library_of(error) or httpx
        # Without the query: a redirect may have added a parameter that is secret.
        url = (self._options.base_url + request.target).partition("?")[0]
        reason = one_line(redacted_text(error))
        if shows_header(error):
            reason = "a header cannot be sent; does its value hold a line break?"
        try:
            as_request = library.Request(request.method, url)
        except Exception:
            as_request = None  # the URL itself is what the library refused
        message = f"{request.method} {one_line(url)} got no answer: {reason}"
        return as_http_error(
            ServiceUnreachableError(message),
            request_error_class(error, library),
            request=as_request,
        )

    def _too_slow(self) -> RequestEnded:
        return RequestTooSlow(
            f"it took longer than {counted(self._options.request_timeout, 'second')}"
        )

    def _build(self, client: Any, request: Request, trace: RequestTrace) -> Any:
        """Return *request* as a request of the client's library, whose steps are reported to *trace*."""
        built = client.build_request(
            request.method,
            self._options.base_url + request.target,
            headers={"accept-encoding": "gzip", **dict(request.headers)},
            content=request.body,
            extensions={"trace": trace.trace, PROXY_HEADERS: proxy_headers(client)},
        )
        # The library is known by what the client makes: the client itself may be a wrapper.
        self._library = library_of(built) or self._library
        query = request.target.partition("?")[2]
        if query and getattr(client, "params", None):
            # The client's own parameters have replaced those of the request.
            both = b"&".join((built.url.query, query.encode()))
            built.url = built.url.copy_with(query=both)
        return built

    async def _exchange(
        self,
        client: Any,
        request: Request,
        trace: RequestTrace,
        read: Callable[[Any, Body], Awaitable[None]],
    ) -> Response:
        """Send *request* and read the whole answer.

        Args:
            client: the HTTP client.
            request: what to send.
            trace: takes httpcore's trace of the request.
            read: adds all chunks of an answer to a body, or the first ones of a body that is too large.
        """
        answer = await self._answer(client, self._build(client, request, trace), trace)
        if isinstance(answer, Response):
            return answer
        try:
            trace.refuse_leftovers(answer)
            body = Body(self._options.max_response_bytes)
            is_decoded = was_read(answer)
            if is_decoded:
                body.add(answer.content)
            else:
                await read(answer, body)
        finally:
            await self._close(answer)
        # Decompress a large answer in a thread, and search it for secrets.
        is_coded = "content-encoding" in answer.headers
        finish = partial(body.response, answer, is_decoded=is_decoded, is_read=request.reads_body)
        if self._in_thread is None or body.size < (_LARGE_COMPRESSED if is_coded else LARGE):
            return finish()
        return await self._in_thread(finish)

    async def _answer(self, client: Any, built: Any, trace: RequestTrace) -> Any:
        """Return the HTTP client's answer, or a `Response` if a hook turned that into an error."""
        # The core follows redirects: only it knows to where credentials may be sent.
        arguments: dict[str, Any] = {"stream": True, "follow_redirects": False}
        if self._options.auth is not None:
            arguments["auth"] = self._options.auth
        try:
            try:
                return await self._send(client, built, arguments)
            except Exception as error:
                if not self._may_be_repeated(built, error, trace):
                    raise
            # As its auth flow has made it: the flow's own requests, for a token, are not made again.
            return await self._send(client, built, {**arguments, "auth": None})
        except Exception as error:
            if (refused := refused_answer(error, built)) is not None:
                return refused
            raise

    def _may_be_repeated(self, built: Any, error: Exception, trace: RequestTrace) -> bool:
        """Whether *error* means that *built* met a kept connection that was being closed."""
        library = self._library or httpx
        return (
            built.method == "GET"
            and trace.found_kept_connection_closed
            and isinstance(error, library.TransportError)
            and not isinstance(error, library.TimeoutException)
            # Else it is the error of a request of its auth flow.
            and getattr(error, "_request", built) is built
        )

    @abstractmethod
    async def _send(self, client: Any, built: Any, arguments: dict[str, Any]) -> Any:
        """Return the answer to *built* as the HTTP client gives it, its body not yet read."""

    @abstractmethod
    async def _close(self, answer: Any) -> None:
        """Give the connection of *answer* back, or close it if there is more to read."""
