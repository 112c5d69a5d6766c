"""The edge where httpx is: the only place that imports it, and that knows its errors.

Two transports, for event loops and for threads. Both bound every request as a whole, in time and in
size, and turn httpx's errors into this library's, which remain catchable as ``httpx.HTTPError``.
"""

from __future__ import annotations

import socket
import threading
import time
import weakref
import zlib
from typing import Any

import anyio
import httpx

from heksher.backends.base import HttpOptions
from heksher.exceptions import (
    HeksherError,
    InvalidArgumentError,
    ServiceUnreachableError,
    UnexpectedStatusError,
)
from heksher.protocol import Request, Response, unexpected_status

# How long saying goodbye to a connection may take.
_CLOSE_TIMEOUT = 2.0
_CONNECT_TIMEOUT = 5.0


class HttpUnreachableError(ServiceUnreachableError, httpx.TransportError):
    """No answer came; as an error of httpx."""


class HttpStatusError(UnexpectedStatusError, httpx.HTTPStatusError):
    """The status means no success; as an error of httpx."""

    def __init__(
        self, error: UnexpectedStatusError, request: httpx.Request, response: httpx.Response
    ):
        httpx.HTTPStatusError.__init__(self, str(error), request=request, response=response)
        self.status = error.status
        self.retry_after = error.retry_after

    def __reduce__(self) -> Any:
        plain = UnexpectedStatusError(str(self), self.status, self.retry_after)
        return (HttpStatusError, (plain, self.request, self.response))


class _Ended(Exception):
    """A bound was reached, or the client was closed; the text says which."""


class _TransportBase:
    def __init__(self, options: HttpOptions) -> None:
        self._options = options

    def status_error(self, request: Request, response: Response) -> UnexpectedStatusError:
        """Return the error for a status that means no success."""
        as_request = httpx.Request(request.method, self._options.base_url + request.target)
        return HttpStatusError(
            unexpected_status(request, response),
            as_request,
            httpx.Response(response.status, content=response.body, request=as_request),
        )

    def _make_client(self, default: type[Any]) -> tuple[Any, bool]:
        """Return an HTTP client, and whether it is ours to close."""
        given = self._options.client
        if given is None:
            seconds = self._options.request_timeout
            # Connecting has a shorter bound: it is where a thread cannot be ended from outside, and
            # where httpcore leaves a socket open if it is cancelled instead of timed out.
            timeout = httpx.Timeout(seconds, connect=min(seconds / 2, _CONNECT_TIMEOUT))
            try:
                return default(**{"timeout": timeout, **self._options.client_args}), True
            except Exception as error:
                # Its text may show an argument's value, and that may be a password.
                said = str(error)
                reason = said if "unexpected keyword" in said else type(error).__name__
                raise InvalidArgumentError(
                    f"httpx.{default.__name__} does not take these http_client_args "
                    f"({', '.join(self._options.client_args)}): {reason}"
                ) from None
        is_ready = hasattr(given, "build_request") and not isinstance(given, type)
        client = given if is_ready else given()
        # Both have build_request(), and only an asynchronous one has aclose().
        if not hasattr(client, "build_request") or (
            hasattr(client, "aclose") != hasattr(default, "aclose")
        ):
            raise InvalidArgumentError(
                f"http_client={given!r} {'is' if is_ready else 'made'} a {type(client).__name__}; "
                f"an httpx.{default.__name__}, or what works like one, is wanted"
            )
        return client, not is_ready

    def _build(self, client: Any, request: Request, **extensions: Any) -> Any:
        return client.build_request(
            request.method,
            self._options.base_url + request.target,
            headers={"accept-encoding": "gzip", **dict(request.headers)},
            content=request.body,
            **({"extensions": extensions} if extensions else {}),
        )

    def _send_arguments(self) -> dict[str, Any]:
        # Redirects are the core's to follow: only it knows where credentials may go.
        arguments: dict[str, Any] = {"stream": True, "follow_redirects": False}
        if self._options.auth is not None:
            arguments["auth"] = self._options.auth
        return arguments

    def _unreachable(self, request: Request, error: BaseException | str) -> HttpUnreachableError:
        url = self._options.base_url + request.target.partition("?")[0]
        reason = error if isinstance(error, str) else str(error) or type(error).__name__
        if _shows_header(error):
            reason = "a header cannot be sent; does its value hold a line break?"
        return HttpUnreachableError(f"{request.method} {url} got no answer: {reason}")

    def _too_slow(self) -> str:
        return f"it took longer than {self._options.request_timeout:g} seconds"


class _Body:
    """Collects an answer's body up to the bound, as it comes and decompressed."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._chunks: list[bytes] = []
        self._size = 0

    @property
    def too_large(self) -> bool:
        return self._size > self._limit

    def add(self, chunk: bytes) -> None:
        self._size += len(chunk)
        if not self.too_large:
            self._chunks.append(chunk)

    def response(self, answer: Any) -> Response:
        """Return the answer, whose body was added to its end."""
        if self.too_large:
            raise _Ended(f"the answer is larger than {self._limit} bytes")
        headers = {name.lower(): value for name, value in answer.headers.items()}
        body = b"".join(self._chunks)
        coding = headers.get("content-encoding", "identity").strip().lower()
        if coding == "gzip":
            body = self._decompress(body)
        elif coding != "identity":
            raise _Ended(f"the answer is encoded as {coding!r}, which was not asked for")
        return Response(answer.status_code, headers, body)

    def _decompress(self, body: bytes) -> bytes:
        # By hand and not by the HTTP client, which knows no bound: a small body can hold gigabytes.
        unzip = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
        try:
            decompressed = unzip.decompress(body, self._limit + 1)
        except zlib.error as error:
            raise _Ended(f"the answer is no gzip: {error}") from None
        if len(decompressed) > self._limit:
            raise _Ended(f"the answer is larger than {self._limit} bytes, decompressed")
        if not unzip.eof:
            raise _Ended("the answer is cut short")
        return decompressed


class AsyncTransport(_TransportBase):
    """Over ``httpx.AsyncClient``; a cancelled request is gone at once."""

    _client: Any = None
    _is_ours = False
    _closed = False

    async def send(self, request: Request) -> Response:
        """Send *request* and read the whole answer."""
        try:
            if self._closed:
                raise _Ended("the client is closed")
            if self._client is None:
                self._client, self._is_ours = self._make_client(httpx.AsyncClient)
            with anyio.fail_after(self._options.request_timeout):
                answer = await self._client.send(
                    self._build(self._client, request), **self._send_arguments()
                )
                try:
                    body = _Body(self._options.max_response_bytes)
                    await self._read(answer, body)
                finally:
                    await answer.aclose()
                return body.response(answer)
        except TimeoutError:
            raise self._unreachable(request, self._too_slow()) from None
        except _Ended as error:
            raise self._unreachable(request, error) from None
        except HeksherError:
            raise
        except Exception as error:
            # Whatever class it has: an HTTP client that was handed in has errors of its own.
            raise self._unreachable(request, error) from None if _shows_header(error) else error

    @staticmethod
    async def _read(answer: Any, body: _Body) -> None:
        try:
            async for chunk in answer.aiter_raw():
                body.add(chunk)
                if body.too_large:
                    # And read on, from a closed connection: the error is what ends the generators
                    # inside httpx in order. One that is left alone is complained of by trio.
                    await answer.aclose()
        except Exception:
            if not body.too_large:
                raise

    def abort(self) -> None:
        """Do nothing: cancellation ends what is under way."""

    async def aclose(self) -> None:
        """Close the client, unless it was handed in ready."""
        self._closed = True
        client, self._client = self._client, None
        if client is not None and self._is_ours:
            with anyio.move_on_after(_CLOSE_TIMEOUT, shield=True):
                await client.aclose()


class BlockingTransport(_TransportBase):
    """Over ``httpx.Client``, with a watch over each request.

    The timeouts of httpx are per read, and a server that sends a byte a second meets them all. So a
    timer ends a request that takes too long by shutting its socket down. To know which socket that
    is, each HTTP client of ours carries one request at a time, and another is made when two threads
    ask at once.
    """

    def __init__(self, options: HttpOptions) -> None:
        super().__init__(options)
        self._lock = threading.Lock()
        self._idle: list[_Line] = []
        self._busy: set[_Line] = set()
        self._closed = False

    async def send(self, request: Request) -> Response:
        """Send *request* and read the whole answer, blocking."""
        try:
            line = self._take()
        except HeksherError:
            raise
        except _Ended as error:
            raise self._unreachable(request, error) from None
        except Exception as error:  # of the callable that makes a client
            raise self._unreachable(request, error) from error
        timer = threading.Timer(self._options.request_timeout, line.end, (self._too_slow(),))
        timer.daemon = True
        timer.name = "heksher-deadline"
        timer.start()
        try:
            return self._exchange(line, request)
        except Exception as error:
            if line.ended is not None:
                raise self._unreachable(request, line.ended) from None
            if isinstance(error, _Ended):
                raise self._unreachable(request, error) from None
            # Whatever class it has: an HTTP client that was handed in has errors of its own.
            raise self._unreachable(request, error) from None if _shows_header(error) else error
        finally:
            timer.cancel()
            timer.join()
            self._give_back(line)

    def _exchange(self, line: _Line, request: Request) -> Response:
        deadline = time.monotonic() + self._options.request_timeout
        answer = line.client.send(
            self._build(line.client, request, trace=line.trace), **self._send_arguments()
        )
        try:
            body = _Body(self._options.max_response_bytes)
            for chunk in answer.iter_raw():
                body.add(chunk)
                if body.too_large:
                    break
                # For a client that was handed in, where no socket may be known.
                if time.monotonic() > deadline:
                    raise _Ended(self._too_slow())
        finally:
            answer.close()
        return body.response(answer)

    def _take(self) -> _Line:
        with self._lock:
            if self._closed:
                raise _Ended("the client is closed")
            line = self._idle.pop() if self._idle else None
            if line is not None:
                self._busy.add(line)
                return line
        line = _Line(*self._make_client(httpx.Client))
        with self._lock:
            self._busy.add(line)
            closed = self._closed
        if closed:
            line.end("the client is closed")
        return line

    def _give_back(self, line: _Line) -> None:
        with self._lock:
            self._busy.discard(line)
            if not self._closed and line.ended is None:
                self._idle.append(line)
                return
        line.close()

    def abort(self) -> None:
        """End what is under way and refuse what comes."""
        with self._lock:
            self._closed = True
            busy = list(self._busy)
        for line in busy:
            line.end("the client is closed")

    async def aclose(self) -> None:
        """Close all clients of ours. One that is stuck in a name look-up closes itself later."""
        self.abort()
        with self._lock:
            idle, self._idle = self._idle, []
        for line in idle:
            line.close()


class _Line:
    """One HTTP client that carries one request at a time, and the sockets it opened."""

    def __init__(self, client: Any, is_ours: bool) -> None:
        self.client = client
        self._is_ours = is_ours
        self._lock = threading.Lock()
        self._sockets: weakref.WeakSet[socket.socket] = weakref.WeakSet()
        #: Why the request on it was ended from outside, or None.
        self.ended: str | None = None

    def trace(self, event: str, info: dict[str, Any]) -> None:
        """Take note of each socket that the HTTP client opens, as httpcore's trace tells of it."""
        if not event.endswith(".complete"):
            return
        describe = getattr(info.get("return_value"), "get_extra_info", None)
        found = describe("socket") if describe is not None else None
        if isinstance(found, socket.socket):
            with self._lock:
                self._sockets.add(found)
                ended = self.ended is not None
            if ended:
                _shut_down(found)

    def end(self, why: str) -> None:
        """End the request that is under way, from another thread."""
        with self._lock:
            self.ended = why
            sockets = list(self._sockets)
        for each in sockets:
            _shut_down(each)

    def close(self) -> None:
        if self._is_ours:
            self.client.close()


def _shows_header(error: object) -> bool:
    """Whether the text of *error* holds a header's value, which may be a token."""
    # By name: an HTTP client that was handed in has classes of its own.
    return type(error).__name__ == "LocalProtocolError"


def _shut_down(connection: socket.socket) -> None:
    try:
        # Past the TLS layer: its shutdown takes the session away from the thread that reads.
        socket.socket.shutdown(connection, socket.SHUT_RDWR)
    except OSError:
        pass  # closed already
