"""``heksher serve --faults``: a fault proxy in front of the service. Needs the extra ``testing``."""

from __future__ import annotations

import logging
import socket
import tempfile
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from heksher.exceptions import InvalidArgumentError
from heksher.service import CannotStartError
from heksher.testing.faults._text import parse_faults
from heksher.testing.faults.proxy import FaultProxy

logger = logging.getLogger("heksher.testing.faults")


@contextmanager
def in_front_of(listener: socket.socket, text: str, host: str, port: int) -> Generator[str]:
    """Run a proxy in front of a service while the block runs.

    Args:
        listener: the service's listening socket.
        text: the faults.
        host: address of the proxy.
        port: port of the proxy.

    Yields:
        The URL of the proxy.

    Raises:
        CannotStartError: the text is invalid, the address cannot be used, or the packages for
            certificates are missing.
    """
    with ExitStack() as stack:
        try:
            parsed = parse_faults(text)
            has_tls = any(fault.is_of_connections for fault, _ in parsed.faults)
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
            logger.info("the certificate of the authority is in %s, until this process ends", file)
        # The proxy's HTTP client logs each request, and headers at level DEBUG.
        for name in ("httpx", "httpcore"):
            logging.getLogger(name).setLevel(logging.WARNING)
        logger.warning("faults on demand: %d, seed %d", len(rules), proxy.faults.seed)
        yield proxy.url
