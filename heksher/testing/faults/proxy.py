"""A TCP and TLS proxy in front of a service that applies faults to requests and connections.

h11 parses the clients' requests, and `_upstream` sends them to the service. One thread accepts
connections, and each connection has its own thread, so the proxy works beside any event loop. The
faults themselves are in `_kinds`, and the choice of a fault for a request is in `_plan`.
"""

from __future__ import annotations

import logging
import math
import select
import selectors
import socket
import struct
import threading
import time
from typing import Any, Self

import h11

from heksher.testing.faults._certificates import Certificates
from heksher.testing.faults._kinds import Answer, Certificate, End, Pause, Refuse
from heksher.testing.faults._plan import FaultRule, Faults
from heksher.testing.faults._upstream import Gone, Request, Upstream, shut_down

__all__ = ["Certificates", "FaultProxy"]

# Maximum wait for the proxy's own threads, in seconds. They normally react immediately.
_THREAD_TIMEOUT = 60.0

# While a client waits for a delayed answer, check this often, in seconds, whether it has disconnected.
_CHECK_INTERVAL = 0.25

# Pause after a failed accept, in seconds.
_ACCEPT_PAUSE = 0.1

# Maximum number of bytes to read at once.
_READ_SIZE = 65536

_logger = logging.getLogger("heksher.testing.faults")

# Users find it as a type of FaultProxy, so this is its public place.
Certificates.__module__ = __name__


class FaultProxy:
    """A proxy in front of the service at *service_url*. A context manager: closes on exit.

    ::

        with FaultProxy("http://127.0.0.1:8000") as proxy:
            proxy.faults.add(Status(503), nth=2)
            client = heksher.ThreadHeksherClient(proxy.url, 30, ["user"])

    Args:
        service_url: URL of the service. It may be changed at any time by assignment.
        host: address to listen on.
        port: port to listen on; 0 for any free port.
        tls: whether clients use TLS to connect to the proxy, which then has its own certificate
            authority.

    Attributes:
        url: URL of the proxy, for clients.
        faults: the rules of faults, and the seen requests.
        certificates: the certificate authority, with TLS.
    """

    def __init__(
        self, service_url: str, *, host: str = "127.0.0.1", port: int = 0, tls: bool = False
    ) -> None:
        self.service_url = service_url
        self.faults: Faults = Faults(has_tls=tls)
        self.certificates: Certificates | None = Certificates(host) if tls else None
        self._host = host
        self._port = port
        self._upstream = Upstream()
        self._lock = threading.Lock()
        self._connections: set[_Connection] = set()
        self._threads: list[threading.Thread] = []
        self._is_closed = False
        self._is_paused = False
        self._refusals: list[tuple[FaultRule, float]] = []
        # The listening socket. While connections are refused, it is bound but does not listen, so that
        # no other process can take the port.
        self._socket = self._bind()
        self._listens = False
        self._of_connections: tuple[FaultRule, ...] = ()
        self._port = self._socket.getsockname()[1]
        self._wake, self._woken = socket.socketpair()
        self._selector = (
            selectors.DefaultSelector()
        )  # unlike select(), it accepts file descriptors above 1023
        self._selector.register(self._woken, selectors.EVENT_READ)
        self._is_settled = threading.Condition()
        self._requested = 0  # how often `_settle` was called
        self._settled = 0  # how many of these calls are done
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
        """Refuse connections and end existing ones, as if no service were running."""
        self._is_paused = True
        self._settle()

    def resume(self) -> None:
        """Accept connections again."""
        self._is_paused = False
        self._settle()

    def close(self) -> None:
        """Close the proxy and all connections. Further calls do nothing."""
        with self._is_settled:
            if self._is_closed:
                return
            self._is_closed = True
        self.faults.clear()
        self._wake.send(b"x")
        self._acceptor.join(_THREAD_TIMEOUT)
        for thread in self._threads:
            thread.join(_THREAD_TIMEOUT)
        self._upstream.close()
        self._selector.close()
        self._wake.close()
        self._woken.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
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
        """Have the acceptor thread open or close the port according to the rules, and wait for it."""
        with self._is_settled:
            if self._is_closed:
                return
            self._requested += 1
            requested = self._requested
            self._wake.send(b"x")
            self._is_settled.wait_for(
                lambda: self._settled >= requested or self._is_closed, _THREAD_TIMEOUT
            )

    def _run(self) -> None:
        """Open and close the port, and accept. Only this thread uses the listening socket."""
        while not self._is_closed:
            self._open_or_close()
            for ready, _ in self._selector.select(self._time_to_refuse()):
                if ready.fileobj is self._woken:
                    self._woken.recv(_READ_SIZE)
                else:
                    self._accept()
        self._socket.close()
        self._end_connections()
        self._upstream.abort()
        with self._is_settled:
            self._is_settled.notify_all()

    def _open_or_close(self) -> None:
        requested = self._requested
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
        # Existing connections were established under other rules.
        if not should_listen or of_connections != self._of_connections:
            self._end_connections()
        self._of_connections = of_connections
        with self._is_settled:
            self._settled = requested
            self._is_settled.notify_all()

    def _time_to_refuse(self) -> float | None:
        """Return for how many more seconds connections are refused; None if they are accepted."""
        now = time.monotonic()
        with self._lock:
            self._refusals = [
                (rule, until)
                for rule, until in self._refusals
                if until > now and not rule.over.is_set()
            ]
            if not self._refusals:
                return None
            # Limited to what platforms accept as a timeout; this is called again afterwards.
            return min(max(until for _, until in self._refusals) - now, 3600.0)

    def _accept(self) -> None:
        try:
            accepted, _ = self._socket.accept()
        except (BlockingIOError, ConnectionError):
            return  # the client has disconnected already
        except OSError:
            self._pause_accepting()  # for example, no file descriptors are left
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
            self._pause_accepting()
            return
        # Kept until they have ended, so that close() can join them.
        self._threads = [*(each for each in self._threads if each.is_alive()), thread]

    def _pause_accepting(self) -> None:
        """Ignore waiting connections for a moment, instead of failing again in a busy loop."""
        self._selector.unregister(self._socket)
        self._selector.select(_ACCEPT_PAUSE)
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
        """Whether the proxy is closed."""
        return self._is_closed

    def refuse(self, rule: FaultRule, seconds: float) -> None:
        """Close the port for some seconds, or until the rule is removed."""
        with self._lock:
            self._refusals.append((rule, time.monotonic() + seconds))
        self._settle()

    def ask(self, request: Request, *, wants_body: bool) -> Answer:
        """Return the service's own answer."""
        return self._upstream.ask(self.service_url, request, wants_body=wants_body)


class _Connection:
    """A client's connection, which has its own thread."""

    def __init__(self, proxy: FaultProxy, accepted: socket.socket) -> None:
        self._proxy = proxy
        self._socket = accepted
        # Ending from another thread must not race with closing: after that, the file descriptor may
        # belong to another socket.
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
        except (Gone, OSError, h11.ProtocolError):
            pass  # the client has disconnected, which faults are meant to cause
        finally:
            self._close(reset=reset)

    def end(self) -> None:
        """End the connection from another thread."""
        with self._lock:
            if not self._is_over:
                shut_down(self._socket)

    def _close(self, *, reset: bool) -> None:
        with self._lock:
            self._is_over = True
            if reset:
                _reset_on_close(self._socket)
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

    def _read(self, unread: bytes) -> tuple[Request, bytes]:
        """Read the next request; return it with the bytes that came after it."""
        # A new parser for each request: h11 does not see the answers, which are not always valid HTTP.
        parser = h11.Connection(h11.SERVER)
        if unread:  # for h11, empty data means the end of the connection
            parser.receive_data(unread)
        head: h11.Request | None = None
        body = b""
        while True:
            event: Any = parser.next_event()
            if event is h11.NEED_DATA:
                if parser.they_are_waiting_for_100_continue:
                    go_on = h11.InformationalResponse(status_code=100, headers=[])
                    self._socket.sendall(parser.send(go_on))
                received = self._socket.recv(_READ_SIZE)
                if not received and head is None:
                    raise Gone
                parser.receive_data(received)
            elif isinstance(event, h11.Request):
                head = event
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                assert head is not None
                request = Request(
                    head.method.decode("ascii"),
                    head.target.decode("ascii"),
                    list(head.headers),
                    body,
                    is_last=parser.their_state is h11.MUST_CLOSE,
                )
                return request, parser.trailing_data[0]
            else:
                raise Gone

    def _answer(self, request: Request) -> None:
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
            self._is_over = (
                True  # so that refuse() does not end this connection: it has to be reset
            )
            self._proxy.refuse(rule, rule.fault.seconds)
            raise _Reset
        for step in rule.fault.steps(answer):
            match step:
                case Pause(seconds):
                    self._wait(rule, seconds)
                case End.CLOSE:
                    raise Gone
                case End.RESET:
                    raise _Reset
                case bytes():
                    self._socket.sendall(step)
            if self._proxy.is_closed or (rule.fault.lasts and rule.over.is_set()):
                raise Gone

    def _wait(self, rule: FaultRule, seconds: float) -> None:
        """Wait for some seconds, or until the rule is removed or the client disconnects."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0 and not rule.over.wait(
            min(left, _CHECK_INTERVAL)
        ):
            # A client that has only closed its sending side may still be waiting for the answer,
            # except if the answer never comes.
            if _has_disconnected(self._socket, or_half_closed=math.isinf(seconds)):
                raise Gone
        if self._proxy.is_closed:
            raise Gone


class _Reset(Exception):
    """The connection has to be reset."""


def _has_disconnected(connection: socket.socket, *, or_half_closed: bool) -> bool:
    """Whether the other end has closed the connection, as far as the platform can tell."""
    if not hasattr(select, "poll"):
        return False
    poller = select.poll()
    poller.register(connection, getattr(select, "POLLRDHUP", 0) if or_half_closed else 0)
    return bool(poller.poll(0))


def _reset_on_close(connection: socket.socket) -> None:
    """Make close() reset the connection. Unread data is discarded at both ends."""
    socket.socket.setsockopt(
        connection, socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
    )
