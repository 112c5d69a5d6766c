"""Running the service with uvicorn: a socket, signals, one line on stdout when it is ready.

Knows neither the command line nor what the application does.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable
from types import FrameType

import h11
import uvicorn
from starlette.types import ASGIApp

from heksher.service.domain.errors import CannotStartError

# Connections that the kernel keeps until they are accepted.
_WAITING = 2048


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens on *host* and *port*, 0 being any free port.

    Raises:
        CannotStartError: the address cannot be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Not create_server(): a socket that doesn't say that it is TCP's gets no TCP_NODELAY from
    # asyncio, and then each answer waits 40 ms for the client's kernel to acknowledge its head.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if os.name == "posix":  # elsewhere this would let two servers have one port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(_WAITING)
    except (OSError, OverflowError, UnicodeError) as error:
        listener.close()
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise CannotStartError(f"cannot listen on {host} port {port}: {reason}") from error
    return listener


def serve(app: ASGIApp, listener: socket.socket, url: str | None = None, *, grace: int) -> int:
    """Serve *app* until SIGTERM or SIGINT arrives; the exit status to end with.

    From then on requests under way have *grace* seconds to finish. Prints the address on stdout,
    once connections are accepted, in a line that scripts read: *url*, where something stands in
    front of the listener.
    """
    address = url or _url(listener)

    def announce() -> None:
        sys.stdout.write(f"heksher service on {address}\n")
        sys.stdout.flush()

    logging.getLogger("uvicorn.error").addFilter(_is_news)
    server = Server(app, announce, grace=grace)

    # Also before uvicorn puts the same handler there, and after it took it away.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, server.handle_exit)
    server.run(sockets=[listener])
    return 0 if server.started or server.should_exit else 1


def _is_news(record: logging.LogRecord) -> bool:
    """No traceback where nothing went wrong here.

    Requests that the end cuts off: one line says how many there are. An answer that comes after the
    one that uvicorn gave to a malformed body: any client could fill the log.
    """
    error = None if record.exc_info is None else record.exc_info[1]
    if isinstance(error, h11.LocalProtocolError):
        record.msg, record.args = "An answer was not sent: %s", (error,)
        record.exc_info = None
    return not isinstance(error, asyncio.CancelledError)


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class Server(uvicorn.Server):
    """uvicorn as it is to serve the service, on sockets made by `listen`.

    Args:
        app: what to serve.
        on_ready: called once connections are accepted.
        grace: seconds for requests under way, when it is told to end.
    """

    def __init__(self, app: ASGIApp, on_ready: Callable[[], None], *, grace: int) -> None:
        config = uvicorn.Config(
            app,
            log_config=None,  # what is logged goes where the process sends it, and not to stdout
            access_log=False,
            lifespan="on",
            # How many asyncio accepts at a time. It goes on to that number without a file descriptor
            # left, too, and logs each try.
            backlog=1,
            ws="none",  # what would speak WebSocket logs headers
            timeout_graceful_shutdown=grace,
        )
        super().__init__(config)
        self._on_ready = on_ready

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002
        """End in order, also when the signal comes once more: that is bounded anyway."""
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            for listener in sockets or ():
                listener.listen(_WAITING)  # again: the kernel got the backlog above as well
            self._on_ready()
