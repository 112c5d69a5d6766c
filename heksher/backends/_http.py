"""The edge where httpx is: the only place that imports it, and that knows its errors.

Two transports, for event loops and for threads. Both bound every request as a whole, in time and in
size, and turn httpx's errors into this library's, which remain catchable as ``httpx.HTTPError``.

A client that an application hands in may come from another library of httpx's shape, which is
httpx2. That is imported nowhere: what is needed of it is reached from the objects that it made.
"""

from __future__ import annotations

import base64
import inspect
import os
import socket
import sys
import threading
import time
import weakref
import zlib
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import replace
from http.cookiejar import Cookie, CookieJar, DefaultCookiePolicy
from typing import Any, ClassVar, TypeAlias, TypeVar, cast
from urllib.parse import unquote, unquote_plus

import anyio
import anyio.lowlevel
import httpx

from heksher._text import one_line
from heksher._wire import Request, Response, unexpected_status
from heksher.backends._fork_lock import fork_lock
from heksher.backends.base import HttpOptions
from heksher.exceptions import (
    HeksherError,
    InvalidArgumentError,
    InvalidResponseError,
    ServiceUnreachableError,
    UnexpectedStatusError,
)

# How long saying goodbye to a connection may take.
_CLOSE_TIMEOUT = 2.0
_CONNECT_TIMEOUT = 5.0

# Headers of a request that hold no secret, and what an application may hand in with them.
_PUBLIC_HEADERS = frozenset(
    (
        *("accept", "accept-encoding", "accept-language", "connection", "content-length"),
        *("content-type", "host", "if-none-match", "transfer-encoding", "user-agent"),
    )
)

# And what stands in its query, unless an application's HTTP client adds to that.
_PUBLIC_PARAMETERS = frozenset(("settings", "context_filters", "include_additional_data"))

# What is kept of the cookies that the service sets, and sent with each request: what a proxy or a
# session needs, and no more than servers take.
_MOST_COOKIES = 20
_LONGEST_COOKIE = 4096

# How many pieces of a body are read before an event loop's other tasks have their turn.
_PIECES = 100

# What may be read of an answer's head: as much as HTTP libraries take for one, and here with all the
# provisional answers before it, which they read for ever. And how much of it at once.
_LARGEST_HEAD = 100 * 1024
_PIECE_OF_HEAD = 16 * 1024

# Of a coded body. It may become a thousand times as large, which takes a thread to find out, and more
# than starting one.
_LARGE_CODED = 4096

# What is kept of a refusal's body: it is searched for secrets, and all threads wait meanwhile.
_LARGEST_REFUSAL = 4 * 1024 * 1024

# Shorter ones hide nothing, and would cut holes into other words.
_SHORTEST_SECRET = 4

# Headers that speak of a body as it was sent, and not of the one that was read.
_OF_THE_CODED_BODY = ("content-encoding", "content-length", "transfer-encoding")


E = TypeVar("E", bound=HeksherError)

# Calls a function where no event loop waits for it.
InThread: TypeAlias = Callable[[Callable[[], Response]], Awaitable[Response]]


class HttpUnreachableError(ServiceUnreachableError, httpx.TransportError):
    """No answer came; as an error of httpx."""

    #: The most special class of an HTTP library that this error is one of.
    _theirs: ClassVar[type[Exception]] = httpx.TransportError

    def __init__(self, message: str, request: Any) -> None:
        # Not the other bases' __init__: where two HTTP libraries are mixed they call one another.
        Exception.__init__(self, message)
        self.request = request

    def __reduce__(self) -> Any:
        return _restored, (HttpUnreachableError, self._theirs, self.args), self.__dict__


class HttpInvalidResponseError(InvalidResponseError, httpx.DecodingError):
    """The answer's body is not what the protocol says; as an error of httpx."""

    _theirs: ClassVar[type[Exception]] = httpx.DecodingError

    def __init__(self, message: str, request: Any) -> None:
        Exception.__init__(self, message)
        self.request = request

    def __reduce__(self) -> Any:
        return _restored, (HttpInvalidResponseError, self._theirs, self.args), self.__dict__


class HttpStatusError(UnexpectedStatusError, httpx.HTTPStatusError):
    """The status means no success; as an error of httpx."""

    _theirs: ClassVar[type[Exception]] = httpx.HTTPStatusError

    def __init__(self, error: UnexpectedStatusError, request: Any, response: Any) -> None:
        Exception.__init__(self, str(error))
        self.status = error.status
        self.retry_after = error.retry_after
        self.request = request
        self.response = response

    def __reduce__(self) -> Any:
        return _restored, (HttpStatusError, self._theirs, self.args), self.__dict__


_mixtures: dict[tuple[type[Any], type[Any]], type[Any]] = {}


def _mixed(ours: type[E], theirs: type[Exception]) -> type[E]:
    """Return *ours* as a class that ``except theirs`` catches, too."""
    if issubclass(ours, theirs):
        return ours
    known = _mixtures.get((ours, theirs))
    if known is None:
        members = {"__doc__": ours.__doc__, "__module__": ours.__module__, "_theirs": theirs}
        made = type(ours.__name__, (ours, theirs), members)
        known = _mixtures.setdefault((ours, theirs), made)
    return known


def _restored(ours: type[E], theirs: type[Exception], args: tuple[Any, ...]) -> E:
    """Make an error that is copied or unpickled. A mixed class is found by what it was mixed of."""
    kind = _mixed(ours, theirs)
    return kind.__new__(kind, *args)


# What a library of httpx's shape has, as far as its errors go.
_SHAPE = {
    "RequestError",
    "TransportError",
    "TimeoutException",
    "DecodingError",
    "HTTPStatusError",
    "Request",
    "Response",
}


def _library_of(thing: object) -> Any:
    """Return the library of httpx's shape that *thing* comes from, or None."""
    for kind in type(thing).__mro__:
        library = sys.modules.get(kind.__module__.partition(".")[0])
        if getattr(library, "__dict__", {}).keys() >= _SHAPE:
            return library
    return None


def _kind_of(error: Exception, library: Any) -> type[Exception]:
    """Return which of the library's errors of requests *error* is."""
    if isinstance(error, _TooSlow):
        return cast("type[Exception]", library.TimeoutException)
    for kind in type(error).__mro__:
        # Not an application's subclass, which may need more than its bases do.
        is_theirs = getattr(library, kind.__name__, None) is kind
        if is_theirs and issubclass(kind, library.RequestError):
            return kind
    return cast("type[Exception]", library.TransportError)


class _Ended(Exception):
    """A bound was reached, or the client was closed; the text says which."""


class _TooSlow(_Ended):
    """The bound in time was reached."""


class _FewCookies(DefaultCookiePolicy):
    """Takes what cookies a service may need, and not one after another for ever."""

    def __init__(self, jar: CookieJar) -> None:
        super().__init__()
        self._jar = jar

    def set_ok(self, cookie: Cookie, request: Any) -> bool:
        """Whether *cookie*, which an answer sets, is kept."""
        here = {(each.domain, each.path, each.name) for each in self._jar}
        return (
            super().set_ok(cookie, request)
            and len(cookie.name) + len(cookie.path) + len(cookie.value or "") <= _LONGEST_COOKIE
            and (len(here) < _MOST_COOKIES or (cookie.domain, cookie.path, cookie.name) in here)
        )


class _TransportBase:
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
        kind = _mixed(HttpStatusError, library.HTTPStatusError)
        return kind(error, as_request, as_response)

    def invalid_response(
        self, request: Request, error: InvalidResponseError
    ) -> InvalidResponseError:
        """Return the error for an answer that cannot be read, for the reason that *error* tells."""
        library = self._library or httpx
        url = self._options.base_url + request.target
        kind = _mixed(HttpInvalidResponseError, library.DecodingError)
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
        timeout = httpx.Timeout(seconds, connect=min(seconds / 2, _CONNECT_TIMEOUT))
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
            jar.set_policy(_FewCookies(jar))
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
        self._library = _library_of(built) or self._library
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
        library = self._library or _library_of(error) or httpx
        url = self._options.base_url + request.target
        reason = one_line(_told(error))
        if _shows_header(error):
            reason = "a header cannot be sent; does its value hold a line break?"
        try:
            as_request = library.Request(request.method, url)
        except Exception:
            as_request = None  # what went wrong is that it takes the URL for none
        kind = _mixed(HttpUnreachableError, _kind_of(error, library))
        message = f"{request.method} {url.partition('?')[0]} got no answer: {reason}"
        return kind(message, as_request)

    async def _response(self, body: _Body, answer: Any, *, is_decoded: bool) -> Response:
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


class _Body:
    """Collects an answer's body up to the bound, as it comes and decompressed."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._chunks: list[bytes] = []
        #: Bytes that came.
        self.size = 0

    @property
    def too_large(self) -> bool:
        return self.size > self._limit

    @property
    def pieces(self) -> int:
        return len(self._chunks)

    def add(self, chunk: bytes) -> None:
        self.size += len(chunk)
        if not self.too_large:
            self._chunks.append(chunk)

    def response(self, answer: Any, *, is_decoded: bool) -> Response:
        """Return the answer, whose body was added to its end."""
        if self.too_large:
            raise _Ended(f"the answer is larger than {self._limit} bytes")
        headers = _headers(answer)
        body = b"".join(self._chunks)
        coding = headers.get("content-encoding", "identity").strip().lower()
        if is_decoded or coding == "identity":
            pass
        elif coding == "gzip":
            body = self._decompress(body)
        else:
            raise _Ended(f"the answer is encoded as {coding!r}, which was not asked for")
        if not 200 <= answer.status_code < 300:
            body = _without_secrets(body[:_LARGEST_REFUSAL], answer.request)
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


def _without_secrets(said: bytes, request: Any) -> bytes:
    """Return what a service said without what the request's headers and query told.

    It becomes a part of messages, and some servers say back what they were told.
    """
    for told in _secrets_of(request):
        for secret in sorted(told, key=len, reverse=True):
            if len(secret) >= _SHORTEST_SECRET:
                plain = secret.encode("utf-8", "replace")
                # And as it stands in an HTTP library's message, which shows bytes.
                shown = repr(plain)[2:-1], repr(bytearray(plain))[len("bytearray(b'") : -2]
                for form in (plain, *map(str.encode, shown)):
                    said = said.replace(form, b"[secret]")
    return said


def _secrets_of(request: Any) -> Iterator[set[str]]:
    """Give what each header, and each part of the query, tells that may be a secret."""
    for name, value in request.headers.items():
        if name.lower() not in _PUBLIC_HEADERS:
            yield _secrets_in(value)
    for part in request.url.query.decode("ascii", "replace").split("&"):
        name, _, value = part.partition("=")
        if name not in _PUBLIC_PARAMETERS:
            yield {value, unquote(value), unquote_plus(value)}


def _secrets_in(value: str) -> set[str]:
    """Return what of a header's value may be one: all, what follows a scheme, cookies, a password."""
    secrets = {value, value.rpartition(" ")[2]}
    secrets.update(cookie.partition("=")[2].strip() for cookie in value.split(";"))
    scheme, _, coded = value.partition(" ")
    if scheme.lower() == "basic":
        try:
            secrets.add(base64.b64decode(coded).decode().partition(":")[2])
        except ValueError:
            pass  # it is none of ours
    return secrets


def _headers(answer: Any) -> dict[str, str]:
    return {name.lower(): value for name, value in answer.headers.items()}


def _was_read(answer: Any) -> bool:
    """Whether the body was read before: by an event hook, or as a test's transport has it ready."""
    return bool(getattr(answer, "is_stream_consumed", False))


def _refused(error: Exception, request: Any) -> Response | None:
    """Return the answer to *request* that an event hook took for an error, by raise_for_status()."""
    answer: Any = getattr(error, "response", None)
    # The answer to another request is no concern of ours: an auth flow may ask for a token.
    if answer is None or getattr(error, "request", None) is not request:
        return None
    # The body was read if the hook did it, and else is lost: the connection is closed.
    body: bytes = answer.content[:_LARGEST_REFUSAL] if _was_read(answer) else b""
    return Response(answer.status_code, _headers(answer), _without_secrets(body, request))


class AsyncTransport(_TransportBase):
    """Over ``httpx.AsyncClient``; a cancelled request is gone at once."""

    _client: Any = None
    _is_ours = False
    _closed = False

    def __init__(self, options: HttpOptions, in_thread: InThread) -> None:
        super().__init__(options, in_thread)
        # Requests that are under way, and what is set when there are none any more.
        self._busy: set[anyio.CancelScope] = set()
        self._idle: anyio.Event | None = None

    async def send(self, request: Request) -> Response:
        """Send *request* and read the whole answer."""
        if not self._closed:
            with anyio.CancelScope() as scope:
                self._busy.add(scope)
                try:
                    return await self._send(request)
                finally:
                    self._busy.discard(scope)
                    if self._idle is not None and not self._busy:
                        self._idle.set()
        raise self._unreachable(request, _Ended("the client is closed"))

    async def _send(self, request: Request) -> Response:
        try:
            if self._client is None:
                self._client, self._is_ours = self._make_client(httpx.AsyncClient)
            with anyio.fail_after(self._options.request_timeout):
                built = self._build(self._client, request, trace=_Opening().trace)
                try:
                    answer = await self._client.send(built, **self._send_arguments())
                except Exception as error:
                    if (refused := _refused(error, built)) is not None:
                        return refused
                    raise
                try:
                    _refuse_leftovers(answer)
                    body = _Body(self._options.max_response_bytes)
                    is_decoded = _was_read(answer)
                    if is_decoded:
                        body.add(answer.content)
                    else:
                        await self._read(answer, body)
                finally:
                    await answer.aclose()
                return await self._response(body, answer, is_decoded=is_decoded)
        except TimeoutError:
            raise self._unreachable(request, _TooSlow(self._too_slow())) from None
        except _Ended as error:
            raise self._unreachable(request, error) from None
        except HeksherError:
            raise
        except Exception as error:
            # Whatever class it has: an HTTP client that was handed in has errors of its own.
            raise self._unreachable(request, error) from _cause(error)

    @staticmethod
    async def _read(answer: Any, body: _Body) -> None:
        try:
            async for chunk in answer.aiter_raw():
                body.add(chunk)
                if body.pieces % _PIECES == 0:
                    # They may be of a byte each, and a thousand of them come at once.
                    await anyio.lowlevel.cancel_shielded_checkpoint()
                if body.too_large:
                    # And read on, from a closed connection: the error is what ends the generators
                    # inside httpx in order. One that is left alone is complained of by trio.
                    await answer.aclose()
        except Exception:
            if not body.too_large:
                raise

    def abort(self) -> None:
        """Do nothing: cancellation ends what is under way."""

    def abandon(self) -> None:
        """Do nothing: event loops do not live on in a forked child."""

    async def aclose(self) -> None:
        """End what is under way, and close the client, unless it was handed in ready."""
        self._closed = True
        client, self._client = self._client, None
        if self._busy:
            # First: the HTTP client closes no connection that a request has or is getting.
            self._idle = self._idle or anyio.Event()
            for scope in self._busy:
                scope.cancel()
            with anyio.move_on_after(_CLOSE_TIMEOUT, shield=True):
                await self._idle.wait()
        if client is not None and self._is_ours:
            with anyio.move_on_after(_CLOSE_TIMEOUT, shield=True):
                await client.aclose()


#: How much this task or thread may still read of an answer's head; None: what it reads is none.
_head_left: ContextVar[int | None] = ContextVar("heksher_head_left", default=None)
#: How much it has read of the last one.
_head_size: ContextVar[int] = ContextVar("heksher_head_size", default=0)


def _bound_heads(event: str, info: dict[str, Any]) -> None:
    """Bound what is read of a head, as httpcore's trace tells when that is, and from which stream.

    The streams of a client that was handed in also serve the application, which reads as before.
    """
    if event.startswith("http11.receive_response_headers."):
        _head_size.set(_LARGEST_HEAD - (_head_left.get() or 0))
        _head_left.set(_LARGEST_HEAD if event.endswith(".started") else None)
    elif event.endswith(
        ("connect_tcp.complete", "connect_unix_socket.complete", "start_tls.complete")
    ):
        stream: Any = info.get("return_value")
        with suppress(AttributeError, TypeError):  # another library's may be otherwise
            stream.read = _bounded(stream)


def _bounded(stream: Any) -> Callable[..., Any]:
    """Return the method `read` of *stream* so that it keeps to what is left of a head."""
    read: Callable[..., Any] = stream.read.__func__
    # So that it dies as before; and no function is called then, in which a Ctrl-C would be lost.
    alive: weakref.ref[Any] = weakref.ref(stream)

    def most(wanted: int) -> int:
        left = _head_left.get()
        if left is None:
            return wanted
        if left <= 0:
            raise _Ended(f"the answer's head is larger than {_LARGEST_HEAD} bytes")
        return min(wanted, _PIECE_OF_HEAD)

    def count(data: bytes) -> bytes:
        left = _head_left.get()
        if left is not None:
            _head_left.set(left - len(data))
        return data

    if inspect.iscoroutinefunction(read):

        async def read_async(max_bytes: int, timeout: float | None = None) -> bytes:
            return count(await read(alive(), most(max_bytes), timeout))

        return read_async

    def read_blocking(max_bytes: int, timeout: float | None = None) -> bytes:
        _let_others_run()
        return count(read(alive(), most(max_bytes), timeout))

    return read_blocking


def _refuse_leftovers(answer: Any) -> None:
    """Refuse an answer that was there before it was asked for, behind the one before.

    HTTP libraries take what is left over on a connection for the next answer.
    """
    stream = getattr(answer, "extensions", {}).get("network_stream")
    read = getattr(stream, "read", None)
    if getattr(read, "__module__", None) == __name__ and _head_size.get() == 0:
        raise _Ended("more than one answer came to the request before")


def _let_others_run() -> None:
    """Give other greenlets their turn: gevent leaves none to them while there is something to read."""
    time.sleep(0)


class _Opening:
    """The connection that a request opens. httpcore leaves it open if its TLS handshake is cancelled."""

    _stream: Any = None

    async def trace(self, event: str, info: dict[str, Any]) -> None:
        """Close it then; httpcore's trace tells of it."""
        _bound_heads(event, info)
        if event.endswith("connect_tcp.complete"):
            self._stream = info.get("return_value")
        elif event.endswith("start_tls.failed") and self._stream is not None:
            with anyio.move_on_after(_CLOSE_TIMEOUT, shield=True):
                await self._stream.aclose()


class BlockingTransport(_TransportBase):
    """Over ``httpx.Client``, with a watch over each request.

    The timeouts of httpx are per read, and a server that sends a byte a second meets them all. So
    another thread ends a request that takes too long by shutting its socket down. To know which
    socket that is, each HTTP client of ours carries one request at a time, and another is made when
    two threads ask at once. Where there can be just one client, or one transport below all clients,
    any of the sockets that were opened may be the one, and all are shut down.

    Args:
        options: how to reach the service.
        in_thread: where large answers are unpacked; None: where they are read.
    """

    def __init__(self, options: HttpOptions, in_thread: InThread | None = None) -> None:
        super().__init__(options, in_thread)
        self._lock = threading.Lock()
        self._idle: list[_Line] = []
        self._busy: set[_Line] = set()
        self._closed = False
        self._is_shared = self._is_ready or options.has_ready_transport
        self._shared: tuple[Any, bool] | None = None
        self._shared_sockets = _Sockets()
        self._watch = _Watch(options.request_timeout, self._too_slow())

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
        try:
            deadline = self._watch.begin(line)
        except RuntimeError as error:  # no thread can be had
            self._give_back(line)
            raise self._unreachable(request, error) from error
        try:
            response = await self._exchange(line, request, deadline)
            if line.ended is not None:  # and a body that lasts as long as its connection with it
                raise line.ended
            return response
        except Exception as error:
            if line.ended is not None:
                raise self._unreachable(request, line.ended) from None
            if isinstance(error, _Ended):
                raise self._unreachable(request, error) from None
            if time.monotonic() >= deadline:  # a timeout of the HTTP client came before the watch
                raise self._unreachable(request, _TooSlow(self._too_slow())) from None
            # Whatever class it has: an HTTP client that was handed in has errors of its own.
            raise self._unreachable(request, error) from _cause(error)
        finally:
            self._watch.end(line)
            self._give_back(line)

    async def _exchange(self, line: _Line, request: Request, deadline: float) -> Response:
        built = self._build(line.client, request, trace=line.trace)
        try:
            answer = line.client.send(built, **self._send_arguments())
        except Exception as error:
            if (refused := _refused(error, built)) is not None:
                return refused
            raise
        try:
            _refuse_leftovers(answer)
            # For a client that was handed in with a connection, which the trace doesn't tell of.
            line.take_note(getattr(answer, "extensions", {}).get("network_stream"))
            body = _Body(self._options.max_response_bytes)
            is_decoded = _was_read(answer)
            for chunk in (answer.content,) if is_decoded else answer.iter_raw():
                body.add(chunk)
                if body.too_large:
                    break
                # For one whose transport has no socket, or none that is known.
                if time.monotonic() > deadline:
                    raise _TooSlow(self._too_slow())
                if body.pieces % _PIECES == 0:
                    _let_others_run()
        finally:
            answer.close()
        return await self._response(body, answer, is_decoded=is_decoded)

    def _take(self) -> _Line:
        with self._lock:
            if self._closed:
                raise _Ended("the client is closed")
            line = self._idle.pop() if self._idle else None
            if line is not None:
                self._busy.add(line)
                return line
        line = self._make_line()
        with self._lock:
            self._busy.add(line)
            closed = self._closed
        if closed:
            line.end("the client is closed")
        return line

    def _make_line(self) -> _Line:
        if not self._is_shared:
            return _Line(*self._make_client(httpx.Client))
        with self._lock:
            if self._closed:
                raise _Ended("the client is closed")
            if self._shared is None:
                self._shared = self._make_client(httpx.Client)
            client, _ = self._shared
        return _Line(client, False, self._shared_sockets)

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
        self._watch.stop()

    def abandon(self) -> None:
        """In a forked child: close the sockets, which the parent has as well, and nothing else."""
        self._closed = True
        for line in (*self._idle, *self._busy):
            line.abandon()
        if self._shared is not None and self._shared[1]:
            # The transport from `http_client_args` goes on in the child, and finds them closed.
            self._shared_sockets.close()

    async def aclose(self) -> None:
        """Close all clients of ours. One that is stuck in a name look-up closes itself later."""
        self.abort()
        with self._lock:
            idle, self._idle = self._idle, []
            shared, self._shared = self._shared, None
        for line in idle:
            line.close()
        if shared is not None and shared[1]:
            shared[0].close()
        self._watch.join()


class _Watch:
    """Ends requests that take too long, from a thread that watches them all.

    Not a timer for each: to start a thread and to wait for its end takes longer than many a request.
    The thread ends once it finds nothing to watch, which is a request's bound after the last one.

    Args:
        seconds: what a request may take.
        why: what is said of one that took longer.
    """

    def __init__(self, seconds: float, why: str) -> None:
        self._seconds = seconds
        self._why = why
        # Guards what follows.
        self._changed = threading.Condition()
        # The moments by which lines have to be done, the earliest first.
        self._deadlines: dict[_Line, float] = {}
        self._thread: threading.Thread | None = None
        self._is_running = False
        self._is_stopped = False

    def begin(self, line: _Line) -> float:
        """Watch *line* from now on, and return the moment by which it has to be done.

        Raises:
            RuntimeError: no thread can be had.
        """
        with self._changed:
            deadline = time.monotonic() + self._seconds
            if not self._is_stopped:  # else whatever is under way was ended
                if not self._is_running:
                    thread = threading.Thread(
                        target=self._run, name="heksher-deadline", daemon=True
                    )
                    thread.start()
                    self._thread, self._is_running = thread, True
                self._deadlines[line] = deadline
            return deadline

    def end(self, line: _Line) -> None:
        """Watch *line* no longer. Once this returns, it is not ended from here any more."""
        with self._changed:
            self._deadlines.pop(line, None)

    def stop(self) -> None:
        """Have the thread end, and start none again. Does not block."""
        with self._changed:
            self._is_stopped = True
            self._deadlines.clear()
            self._changed.notify_all()

    def join(self) -> None:
        """After `stop`: wait for the thread's end."""
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    def _run(self) -> None:
        with self._changed:
            while self._deadlines:
                line, deadline = next(iter(self._deadlines.items()))
                left = deadline - time.monotonic()
                if left > 0:
                    self._changed.wait(left)
                else:
                    del self._deadlines[line]
                    line.end(self._why, _TooSlow)
            self._is_running = False


class _Line:
    """One request at a time over an HTTP client, and what it takes to end it from outside."""

    def __init__(self, client: Any, is_ours: bool, sockets: _Sockets | None = None) -> None:
        self.client = client
        self._is_ours = is_ours
        self._sockets = sockets or _Sockets()
        #: Why the request on it was ended from outside, or None.
        self.ended: _Ended | None = None

    def trace(self, event: str, info: dict[str, Any]) -> None:
        """Take note of each socket that the HTTP client opens, as httpcore's trace tells of it."""
        _bound_heads(event, info)
        if event.endswith(".complete"):
            self.take_note(info.get("return_value"))

    def take_note(self, stream: object) -> None:
        """Take note of the socket below *stream*, if it is a stream of httpcore's."""
        describe = getattr(stream, "get_extra_info", None)
        found = describe("socket") if describe is not None else None
        if isinstance(found, socket.socket):
            self._sockets.add(found)
            # After it was added: end() asks in the other order.
            if self.ended is not None:
                _shut_down(found)

    def end(self, why: str, kind: type[_Ended] = _Ended) -> None:
        """End the request that is under way, from another thread."""
        self.ended = kind(why)
        self._sockets.shut_down()

    def close(self) -> None:
        if self._is_ours:
            self.client.close()

    def abandon(self) -> None:
        """In a forked child: let the parent's connections go."""
        if self._is_ours:
            self._sockets.close()


class _Sockets:
    """Those that were opened and are still in use."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # No weak set: when one of its sockets dies, it calls a function, in which a Ctrl-C would be lost.
        self._opened: list[weakref.ref[socket.socket]] = []

    def add(self, opened: socket.socket) -> None:
        with self._lock:
            self._opened = [weakref.ref(each) for each in (*self._alive(), opened)]

    def _alive(self) -> list[socket.socket]:
        return [each for reference in self._opened if (each := reference()) is not None]

    def shut_down(self) -> None:
        with self._lock:
            alive = self._alive()
        for each in alive:
            _shut_down(each)

    def close(self) -> None:
        """Close them, without a lock, which nobody might be left to release."""
        for each in self._alive():
            each.close()


def _said(error: BaseException) -> str:
    """Return the text of *error*. Under trio it may be empty, and one that led to it says what is.

    But for a cancellation, which speaks of scopes and not of what took too long.
    """
    each: BaseException | None = error
    while each is not None:
        if isinstance(each, Exception) and (said := str(each)):
            reason = _systems_reason(each)
            return said if reason is None or reason in said else f"{said}: {reason}"
        each = each.__cause__ or each.__context__
    return type(error).__name__


def _systems_reason(error: BaseException) -> str | None:
    """Return the system's words for what led to *error*: of several attempts for the first one's end."""
    reason: str | None = None
    each: BaseException | None = error
    while each is not None:
        if isinstance(each, OSError) and each.errno is not None and each.errno > 0:
            reason = os.strerror(each.errno)
        causes = (
            cast("BaseExceptionGroup[BaseException]", each).exceptions[:1]
            if isinstance(each, BaseExceptionGroup)
            else ()
        )
        each = causes[0] if causes else each.__cause__ or each.__context__
    return reason


def _told(error: Exception) -> str:
    """Return the text of *error*, which may show what came, without secrets."""
    said = _said(error)
    try:
        request: Any = cast("Any", error).request
    except (AttributeError, RuntimeError):  # it has none, or was not told
        return said
    return _without_secrets(said.encode("utf-8", "replace"), request).decode("utf-8", "replace")


def _cause(error: Exception) -> Exception | None:
    """Return *error*, as the cause of one of ours, unless it shows a secret."""
    return None if _shows_header(error) or _told(error) != _said(error) else error


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
