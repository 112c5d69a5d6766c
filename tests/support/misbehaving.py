"""A TCP server on this machine that answers with exactly the bytes that a test chooses."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable
from typing import Self

Answer = Callable[[socket.socket, threading.Event], None]

OK = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"


def http(body: bytes, head: bytes = OK) -> Answer:
    """Answer with *body*."""

    def answer(connection: socket.socket, stop: threading.Event) -> None:
        connection.sendall(head + b"content-length: %d\r\n\r\n" % len(body) + body)

    return answer


def trickle(data: bytes) -> Answer:
    """Answer with *data* byte by byte, again and again."""

    def answer(connection: socket.socket, stop: threading.Event) -> None:
        while not stop.wait(0.02):
            for byte in data:
                connection.sendall(bytes((byte,)))
                if stop.wait(0.02):
                    return

    return answer


def endless(chunk: bytes) -> Answer:
    """Answer with a body that never ends."""

    def answer(connection: socket.socket, stop: threading.Event) -> None:
        connection.sendall(OK + b"transfer-encoding: chunked\r\n\r\n")
        while not stop.is_set():
            connection.sendall(b"%x\r\n" % len(chunk) + chunk + b"\r\n")

    return answer


def silence(connection: socket.socket, stop: threading.Event) -> None:
    """Read the request and never answer."""
    stop.wait()


def hang_up(connection: socket.socket, stop: threading.Event) -> None:
    """Close the connection without an answer."""


class MisbehavingServer:
    """A server that gives *answer* to every request whose path has no answer of its own.

    Args:
        answer: the answer.
        tls: wraps each connection; None leaves them unencrypted.
    """

    def __init__(self, answer: Answer, tls: ssl.SSLContext | None = None) -> None:
        self._answer = answer
        self.tls = tls
        self._by_path: dict[str, Answer] = {}
        self.requests: list[bytes] = []
        self.received = 0
        self.connected = threading.Event()
        self._stop = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.url = f"http{'s' if tls else ''}://127.0.0.1:{self.port}"
        self._threads = [threading.Thread(target=self._accept)]
        self._connections: list[socket.socket] = []
        self._serving = 0
        self._lock = threading.Lock()

    def answer_by(self, path: str, answer: Answer) -> None:
        """Give *answer* to requests for *path*."""
        self._by_path[path] = answer

    def open_connections(self) -> int:
        """Return how many clients are connected."""
        return self._serving

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._connections.append(connection)
            with self._lock:
                self._serving += 1
            thread = threading.Thread(target=self._serve, args=(connection,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            if self.tls is not None:
                connection = self.tls.wrap_socket(connection, server_side=True)
                self._connections.append(connection)
            with connection:
                self._answer_requests(connection)
        except OSError:
            pass  # the client closed the connection, as some tests require
        finally:
            with self._lock:
                self._serving -= 1

    def _answer_requests(self, connection: socket.socket) -> None:
        while not self._stop.is_set():
            request = b""
            while b"\r\n\r\n" not in request:
                received = connection.recv(65536)
                if not received:
                    return
                request += received
                self.received += len(received)
            self.requests.append(request)
            self.connected.set()
            path = request.split(b" ", 2)[1].decode()
            answer = self._by_path.get(path.partition("?")[0].lstrip("/"), self._answer)
            answer(connection, self._stop)
            if answer is hang_up:
                return

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stop.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in list(self._connections):
            try:
                socket.socket.shutdown(connection, socket.SHUT_RDWR)
            except OSError:
                pass
        for thread in self._threads:
            thread.join()
