"""Run the service with uvicorn: a socket, signals, a line on stdout when it is ready.

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
from functools import partial
from types import FrameType

import h11
import uvicorn
from starlette.types import ASGIApp

from heksher.service.domain.errors import CannotStartError
from heksher.service.web.connections import BoundedProtocol, Listener

# Maximum number of connections that wait in the kernel to be accepted.
_BACKLOG = 2048

# Maximum number of connections that asyncio accepts before it continues with requests. With one at a
# time, a service that all clients return to at once answers the last ones late.
_ACCEPTED_AT_ONCE = 64

logger: logging.Logger = logging.getLogger("heksher.service")


def listen(host: str, port: int) -> Listener:
    """Open a socket that listens on *host* and *port*. Port 0 means any free port.

    Raises:
        CannotStartError: the address cannot be used.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Not socket.create_server(): it leaves the protocol at 0, and asyncio sets TCP_NODELAY only on
    # sockets with IPPROTO_TCP. Without it, Nagle's algorithm holds back the body of each response
    # until the client has acknowledged the head, which delayed acknowledgement puts off by 40 ms.
    listener = Listener(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if os.name == "posix":  # on Windows this would let two servers share a port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(_BACKLOG)
    except (OSError, OverflowError, UnicodeError) as error:
        listener.close()
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise CannotStartError(f"cannot listen on {host} port {port}: {reason}") from error
    return listener


def serve(app: ASGIApp, listener: Listener, url: str | None = None, *, grace: int) -> int:
    """Serve *app* until SIGTERM or SIGINT arrives.

    Once connections are accepted, prints the address on stdout in a line that scripts can parse.

    Args:
        app: the application.
        listener: an open socket from `listen`.
        url: the address to print if it is not the listener's, because a proxy is in front of it.
        grace: seconds that unfinished requests have to complete after the signal.

    Returns:
        The exit status for the process.
    """
    address = url or _url(listener)

    def announce() -> None:
        try:
            if sys.stdout is None:
                raise OSError("it is closed")
            print(f"heksher service on {address}", flush=True)
        except OSError as error:
            logger.warning("listening on %s; stdout cannot say so: %s", address, error)

    logging.getLogger("uvicorn.error").addFilter(_is_news)
    server = Server(app, listener, announce, grace=grace)

    # uvicorn installs the same handler, but only while it runs. This covers the time before and after.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, server.handle_exit)
    server.run(sockets=[listener])
    return 0 if server.started or server.should_exit else 1


def _is_news(record: logging.LogRecord) -> bool:
    """Filter uvicorn's log: no warnings and tracebacks for what is not an error of the service.

    - Requests that are cancelled at shutdown. uvicorn logs their number anyway.
    - A response after uvicorn has already answered a malformed body. Any client could fill the log
      with these, so only one line remains.
    - Requests to upgrade to HTTP/2 or a WebSocket, which HTTP lets a server ignore. Java's HTTP client
      sends one with each request, and the advice to install another package would not help.
    """
    error = None if record.exc_info is None else record.exc_info[1]
    if isinstance(error, h11.LocalProtocolError):
        record.msg, record.args = "a response was not sent: %s", (error,)
        record.exc_info = None
    is_upgrade = record.getMessage().startswith(("Unsupported upgrade", "No supported WebSocket"))
    return not (is_upgrade or isinstance(error, asyncio.CancelledError))


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class Server(uvicorn.Server):
    """uvicorn with the settings of this service.

    Args:
        app: the application.
        listener: the socket that it is going to run on.
        on_ready: called once connections are accepted.
        grace: seconds that unfinished requests have to complete at shutdown.
    """

    def __init__(
        self, app: ASGIApp, listener: Listener, on_ready: Callable[[], None], *, grace: int
    ) -> None:
        config = uvicorn.Config(
            app,
            log_config=None,  # the process configures logging; uvicorn would log on stdout
            access_log=False,
            lifespan="on",
            # By default, uvicorn takes uvloop and httptools if they are installed. Not everything here
            # would work with them: the bounds of connections, what is logged, and what is tested.
            loop="asyncio",
            http=partial(BoundedProtocol, by_age=listener.by_age),  # type: ignore[arg-type]
            backlog=_ACCEPTED_AT_ONCE,
            ws="none",  # the WebSocket implementations log headers
            timeout_graceful_shutdown=grace,
        )
        super().__init__(config)
        self._on_ready = on_ready

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002
        """Shut down gracefully, even on a second signal; ``grace`` bounds how long it takes."""
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            for listener in sockets or ():
                listener.listen(_BACKLOG)  # asyncio passed the number above to the kernel as well
            self._on_ready()
