"""A TCP and TLS proxy in front of a service that executes faults.

h11 parses the requests of clients, httpx forwards them to the service, and trustme makes the
certificates. One thread accepts, and each connection has its own thread, so the proxy works next to any
event loop. `_kinds` says what happens to an answer, and `_plan` to which request.
"""

from __future__ import annotations

import datetime
import logging
import math
import select
import selectors
import socket
import ssl
import struct
import threading
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self
from weakref import WeakSet

import h11
import httpx

from heksher.testing.faults._kinds import Answer, Certificate, End, Pause, Refuse
from heksher.testing.faults._plan import FaultRule, Faults

__all__ = ["Certificates", "FaultProxy"]

# Seconds. Bounds the wait for things that happen immediately on a working machine; faults have their own
# times.
_PATIENCE = 60.0

# Seconds between two checks whether a waiting client is still connected.
_LOOK = 0.25

# Seconds until it accepts again after an error.
_REST = 0.1

# Bytes to read at once.
_READ = 65536

# Headers that concern only one connection and are not forwarded.
_HOP_BY_HOP = frozenset(
    {b"connection", b"keep-alive", b"transfer-encoding", b"te", b"trailer", b"upgrade"}
)

_MISSING_EXTRA = "a proxy with TLS needs more packages: pip install 'heksher[testing]'"

_logger = logging.getLogger("heksher.testing.faults")


class _Gone(Exception):
    """The connection has ended; this is not an error."""


@dataclass(frozen=True)
class _Request:
    method: str
    target: str
    headers: list[tuple[bytes, bytes]]
    body: bytes
    is_last: bool


class FaultProxy:
    """A proxy in front of a service. As a context manager, it ends with the block.

    ::

        with FaultProxy("http://127.0.0.1:8000") as proxy:
            proxy.faults.add(Status(503), nth=2)
            client = heksher.ThreadHeksherClient(proxy.url, 30, ["user"])

    Args:
        service_url: the URL of the service. You may assign another one at any time.
        host: the address to listen on.
        port: the port to listen on; 0 for any free one.
        tls: whether clients connect with TLS. The proxy's authority issues the certificate.

    Attributes:
        url: the URL of the proxy.
        faults: the rules, and the requests so far.
        certificates: the proxy's authority; None without TLS.
    """

    def __init__(
        self, service_url: str, *, host: str = "127.0.0.1", port: int = 0, tls: bool = False
    ) -> None:
        self.service_url = service_url
        self.faults: Faults = Faults(has_tls=tls)
        self.certificates: Certificates | None = Certificates(host) if tls else None
        self._host = host
        self._port = port
        self._http = httpx.Client(trust_env=False)
        self._to_service: WeakSet[socket.socket] = WeakSet()
        self._lock = threading.Lock()
        self._connections: set[_Connection] = set()
        self._threads: list[threading.Thread] = []
        self._is_closed = False
        self._is_paused = False
        self._refusals: list[tuple[FaultRule, float]] = []
        # The socket that listens. While connections are refused, it only reserves the port, which another
        # process could take otherwise.
        self._socket = self._bind()
        self._listens = False
        self._of_connections: tuple[FaultRule, ...] = ()
        self._port = self._socket.getsockname()[1]
        self._wake, self._woken = socket.socketpair()
        self._selector = selectors.DefaultSelector()  # unlike select(), it takes any descriptor
        self._selector.register(self._woken, selectors.EVENT_READ)
        self._is_settled = threading.Condition()
        self._asked = 0
        self._settled = 0
        self._acceptor = threading.Thread(target=self._run, name="fault proxy", daemon=True)
        self._acceptor.start()
        self.faults.changed = self._settle
        self._settle()

    @property
    def url(self) -> str:
        """The URL of the proxy."""
        scheme = "http" if self.certificates is None else "https"
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"{scheme}://{host}:{self._port}"

    def pause(self) -> None:
        """Refuse new connections and end the existing ones, as if no service ran."""
        self._is_paused = True
        self._settle()

    def resume(self) -> None:
        """Accept connections again."""
        self._is_paused = False
        self._settle()

    def close(self) -> None:
        """End the proxy and all connections. Closing it twice is harmless."""
        with self._is_settled:
            if self._is_closed:
                return
            self._is_closed = True
        self.faults.clear()
        self._wake.send(b"x")
        self._acceptor.join(_PATIENCE)
        for thread in self._threads:
            thread.join(_PATIENCE)
        self._http.close()
        self._selector.close()
        self._wake.close()
        self._woken.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    # --- the port ---------------------------------------------------------------------------------

    def _bind(self) -> socket.socket:
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        bound = socket.socket(family, socket.SOCK_STREAM)
        bound.setblocking(False)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            bound.bind((self._host, self._port))
        except OSError:
            bound.close()
            raise
        return bound

    def _settle(self) -> None:
        """Let the port be opened or closed as the rules require, and wait until it is."""
        with self._is_settled:
            if self._is_closed:
                return
            self._asked += 1
            asked = self._asked
            self._wake.send(b"x")
            self._is_settled.wait_for(lambda: self._settled >= asked or self._is_closed, _PATIENCE)

    def _run(self) -> None:
        """Open and close the port, and accept. Only this thread uses the listening socket."""
        while not self._is_closed:
            self._open_or_close()
            for ready, _ in self._selector.select(self._time_to_refuse()):
                if ready.fileobj is self._woken:
                    self._woken.recv(_READ)
                else:
                    self._accept()
        self._socket.close()
        self._end_connections()
        # Also end the requests to the service that are in progress.
        with self._lock:
            for connection in self._to_service:
                _shut(connection)
        with self._is_settled:
            self._is_settled.notify_all()

    def _open_or_close(self) -> None:
        asked = self._asked
        should_listen = not (
            self._is_paused or self.faults.refuses_all or self._time_to_refuse() is not None
        )
        if should_listen and not self._listens:
            self._socket.listen(128)
            self._selector.register(self._socket, selectors.EVENT_READ)
        if self._listens and not should_listen:
            self._selector.unregister(self._socket)
            self._socket.close()
            self._socket = self._bind()
        self._listens = should_listen
        of_connections = self.faults.of_connections
        # The existing connections were accepted under other rules.
        if not should_listen or of_connections != self._of_connections:
            self._end_connections()
        self._of_connections = of_connections
        with self._is_settled:
            self._settled = asked
            self._is_settled.notify_all()

    def _time_to_refuse(self) -> float | None:
        """Return how many seconds connections are refused from now on; None if they are accepted."""
        now = time.monotonic()
        with self._lock:
            self._refusals = [
                (rule, until)
                for rule, until in self._refusals
                if until > now and not rule.over.is_set()
            ]
            if not self._refusals:
                return None
            # An hour at most, since platforms bound a timeout. The caller asks again.
            return min(max(until for _, until in self._refusals) - now, 3600.0)

    def _accept(self) -> None:
        try:
            accepted, _ = self._socket.accept()
        except (BlockingIOError, ConnectionError):
            return  # the client has disconnected
        except OSError:
            self._rest()  # for example, no file descriptor is left
            return
        connection = _Connection(self, accepted)
        thread = threading.Thread(
            target=self._serve, args=(connection,), name="fault proxy connection", daemon=True
        )
        with self._lock:
            self._connections.add(connection)
        try:
            thread.start()
        except RuntimeError:  # the limit of threads is reached
            with self._lock:
                self._connections.discard(connection)
            accepted.close()
            self._rest()
            return
        # Keep threads until they end, so that `close` can wait for all of them.
        self._threads = [*(each for each in self._threads if each.is_alive()), thread]

    def _rest(self) -> None:
        """Ignore waiting clients for a moment, instead of trying to accept them in a busy loop."""
        self._selector.unregister(self._socket)
        self._selector.select(_REST)
        self._selector.register(self._socket, selectors.EVENT_READ)

    def _serve(self, connection: _Connection) -> None:
        try:
            connection.serve()
        finally:
            with self._lock:
                self._connections.discard(connection)

    def _end_connections(self) -> None:
        with self._lock:
            connections = list(self._connections)
        for connection in connections:
            connection.end()

    # --- for the connections ----------------------------------------------------------------------

    @property
    def is_closed(self) -> bool:
        """Whether the proxy was closed."""
        return self._is_closed

    def refuse(self, rule: FaultRule, seconds: float) -> None:
        """Close the port for that many seconds, or until the rule is removed."""
        with self._lock:
            self._refusals.append((rule, time.monotonic() + seconds))
        self._settle()

    def ask(self, request: _Request, *, wants_body: bool) -> Answer:
        """Return the answer of the service."""
        left_out = {b"if-none-match"} if wants_body else set[bytes]()
        headers = [
            (name, value)
            for name, value in request.headers
            if name.lower() not in _HOP_BY_HOP | left_out
        ]
        url = httpx.URL(self.service_url)
        # Forward the target unchanged; httpx would normalize the parts of a URL.
        extensions = {
            "target": request.target.encode("ascii"),
            "timeout": httpx.Timeout(_PATIENCE).as_dict(),
            "trace": self._note_connection,
        }
        asked = httpx.Request(
            request.method, url, headers=headers, content=request.body, extensions=extensions
        )
        try:
            answered = self._http.send(asked, stream=True)
            try:
                body = b"".join(answered.iter_raw())
            finally:
                answered.close()
        except httpx.TransportError as error:
            raise _Gone from error  # without the service, the proxy does not answer either
        is_of_head = request.method == "HEAD"
        dropped = _HOP_BY_HOP | (set[bytes]() if is_of_head else {b"content-length"})
        kept = tuple(pair for pair in answered.headers.raw if pair[0].lower() not in dropped)
        return Answer(answered.status_code, kept, body, is_of_head)

    def _note_connection(self, event: str, info: dict[str, Any]) -> None:
        """Keep the socket of each new connection to the service."""
        if event not in ("connection.connect_tcp.complete", "connection.start_tls.complete"):
            return
        made = info["return_value"].get_extra_info("socket")
        with self._lock:
            self._to_service.add(made)
        if self._is_closed:
            _shut(made)  # it was not among those that closing has shut down


class _Connection:
    """The connection of a client, from its handshake to its end, in its own thread."""

    def __init__(self, proxy: FaultProxy, accepted: socket.socket) -> None:
        self._proxy = proxy
        self._socket = accepted
        # Guards the end: a descriptor must not be shut down after it was closed and reused.
        self._lock = threading.Lock()
        self._is_over = False

    def serve(self) -> None:
        """Answer requests until the connection ends."""
        reset = False
        try:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._shake_hands()
            unread = b""
            while True:
                request, unread = self._read(unread)
                self._answer(request)
                if request.is_last:
                    break
        except _Reset:
            reset = True
        except (_Gone, OSError, h11.ProtocolError):
            pass  # the client has disconnected, which faults provoke
        finally:
            self._close(reset=reset)

    def end(self) -> None:
        """End it now, from another thread."""
        with self._lock:
            if not self._is_over:
                _shut(self._socket)

    def _close(self, *, reset: bool) -> None:
        with self._lock:
            self._is_over = True
            if reset:
                _linger_not(self._socket)
            self._socket.close()

    def _shake_hands(self) -> None:
        certificates = self._proxy.certificates
        if certificates is None:
            return
        rule = self._proxy.faults.meet_connection()
        problem = None
        if rule is not None and isinstance(rule.fault, Certificate):
            problem = rule.fault.problem
            _logger.info("%s", rule.fault)
            self._wait(rule, rule.when.delay)
        context = certificates.context(problem)
        with self._lock:
            secured = context.wrap_socket(
                self._socket, server_side=True, do_handshake_on_connect=False
            )
            self._socket = secured
        secured.do_handshake()

    def _read(self, unread: bytes) -> tuple[_Request, bytes]:
        """Return the next request, and the bytes after it."""
        # Each request has its own parser, since answers are not always HTTP, and h11 does not see them.
        parser = h11.Connection(h11.SERVER)
        if unread:  # to h11, no bytes mean the end of the connection
            parser.receive_data(unread)
        head: h11.Request | None = None
        body = b""
        while True:
            event: Any = parser.next_event()
            if event is h11.NEED_DATA:
                if parser.they_are_waiting_for_100_continue:
                    go_on = h11.InformationalResponse(status_code=100, headers=[])
                    self._socket.sendall(parser.send(go_on))
                received = self._socket.recv(_READ)
                if not received and head is None:
                    raise _Gone
                parser.receive_data(received)
            elif isinstance(event, h11.Request):
                head = event
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                assert head is not None
                request = _Request(
                    head.method.decode("ascii"),
                    head.target.decode("ascii"),
                    list(head.headers),
                    body,
                    is_last=parser.their_state is h11.MUST_CLOSE,
                )
                return request, parser.trailing_data[0]
            else:
                raise _Gone

    def _answer(self, request: _Request) -> None:
        path, _, query = request.target.partition("?")
        headers = {
            name.decode("latin-1"): value.decode("latin-1") for name, value in request.headers
        }
        rule = self._proxy.faults.meet_request(request.method, path, query, headers)
        if rule is None:
            self._socket.sendall(self._proxy.ask(request, wants_body=False).wire())
            return
        _logger.info("%s: %s %s", rule.fault, request.method, path)
        if rule.fault.asks_service:
            answer = self._proxy.ask(request, wants_body=rule.fault.wants_body)
        else:
            answer = Answer(0, is_of_head=request.method == "HEAD")
        self._wait(rule, rule.when.delay)
        if isinstance(rule.fault, Refuse):
            # So that the connection ends by the reset, after the port was closed.
            self._is_over = True
            self._proxy.refuse(rule, rule.fault.seconds)
            raise _Reset
        for step in rule.fault.steps(answer):
            match step:
                case Pause(seconds):
                    self._wait(rule, seconds)
                case End.CLOSE:
                    raise _Gone
                case End.RESET:
                    raise _Reset
                case bytes():
                    self._socket.sendall(step)
            if self._proxy.is_closed or (rule.fault.lasts and rule.over.is_set()):
                raise _Gone

    def _wait(self, rule: FaultRule, seconds: float) -> None:
        """Wait for that many seconds or until the rule is removed; end if the client disconnects."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0 and not rule.over.wait(min(left, _LOOK)):
            # A client that has only stopped sending may still wait for an answer, if there will be one.
            if _has_left(self._socket, or_sends_no_more=math.isinf(seconds)):
                raise _Gone
        if self._proxy.is_closed:
            raise _Gone


class _Reset(Exception):
    """The connection has to be reset."""


def _shut(connection: socket.socket) -> None:
    """Shut a connection down below TLS, even if another thread reads or writes."""
    try:
        socket.socket.shutdown(connection, socket.SHUT_RDWR)
    except OSError:
        pass  # the client has closed it


def _has_left(connection: socket.socket, *, or_sends_no_more: bool) -> bool:
    """Return whether the client has disconnected; False if the platform cannot tell."""
    if not hasattr(select, "poll"):
        return False
    poller = select.poll()
    poller.register(connection, getattr(select, "POLLRDHUP", 0) if or_sends_no_more else 0)
    return bool(poller.poll(0))


def _linger_not(connection: socket.socket) -> None:
    """Make closing the connection a reset, which drops unread data at both ends."""
    socket.socket.setsockopt(
        connection, socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
    )


class Certificates:
    """The proxy's authority, and the right and wrong certificates that it issues."""

    def __init__(self, host: str) -> None:
        try:
            import trustme
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(_MISSING_EXTRA, name=error.name) from error

        self._authority = trustme.CA()
        self._host = host
        self._contexts: dict[str | None, ssl.SSLContext] = {}
        self._lock = threading.Lock()

    @property
    def authority_pem(self) -> bytes:
        """The authority's certificate, for clients that take a file of trusted certificates."""
        return self._authority.cert_pem.bytes()

    def trusting(self) -> ssl.SSLContext:
        """Return a client's context that trusts only this authority."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._authority.configure_trust(context)  # pyright: ignore[reportUnknownMemberType]
        return context

    def context(self, problem: str | None) -> ssl.SSLContext:
        """Return a server's context, with a right certificate or with one that has this problem."""
        with self._lock:
            if problem not in self._contexts:
                self._contexts[problem] = self._make(problem)
            return self._contexts[problem]

    def _make(self, problem: str | None) -> ssl.SSLContext:
        import trustme

        authority = trustme.CA() if problem == "unknown" else self._authority
        names = (
            ["elsewhere.invalid"]
            if problem == "host"
            else [self._host, "localhost", "127.0.0.1", "::1"]
        )
        expires = None
        if problem == "expired":
            expires = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
        certificate = authority.issue_cert(*names, not_after=expires)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificate.configure_cert(context)  # pyright: ignore[reportUnknownMemberType]
        return context
