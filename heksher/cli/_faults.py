"""``heksher serve --faults``: the proxy that does what a text of faults says, in front of a service."""

from __future__ import annotations

import logging
import socket
import tempfile
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from heksher.exceptions import InvalidArgumentError
from heksher.service import CannotStartError
from heksher.testing.faults._text import read
from heksher.testing.faults.proxy import FaultProxy

logger = logging.getLogger("heksher.testing.faults")


@contextmanager
def in_front_of(listener: socket.socket, text: str, host: str, port: int) -> Generator[str]:
    """A proxy on *host* and *port*, to the service that *listener* is of; the proxy's URL.

    Raises:
        CannotStartError: the text cannot be read, the address cannot be had, or a package is missing
            that certificates need.
    """
    with ExitStack() as stack:
        try:
            told = read(text)
            has_tls = any(fault.is_of_connections for fault, _ in told.faults)
            service_url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            proxy = stack.enter_context(FaultProxy(service_url, host=host, port=port, tls=has_tls))
            rules = proxy.faults.load(text)
        except (InvalidArgumentError, ModuleNotFoundError) as error:
            raise CannotStartError(f"--faults: {error}") from error
        except OSError as error:
            reason = error.strerror or str(error)
            raise CannotStartError(f"cannot listen on {host} port {port}: {reason}") from error
        if proxy.certificates is not None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="heksher-")))
            file = folder / "authority.pem"
            file.write_bytes(proxy.certificates.authority_pem)
            logger.info("certificates are from the authority in %s, while this runs", file)
        # What the proxy asks with logs each request, and headers at level debug.
        for name in ("httpx", "httpcore"):
            logging.getLogger(name).setLevel(logging.WARNING)
        logger.warning("faults on demand, %d of them, seed %d", len(rules), proxy.faults.seed)
        yield proxy.url
