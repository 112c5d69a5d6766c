"""Services that are killed and started again within milliseconds: forks of a process with all imports."""

from __future__ import annotations

import multiprocessing
import signal
from multiprocessing.connection import Connection

import httpx
from support.service_process import DEADLINE

_FORKSERVER = multiprocessing.get_context("forkserver")
_FORKSERVER.set_forkserver_preload(["heksher.service.web.app", "heksher.service.web.server"])


class KillableService:
    """A service on *database* with the feature ``user``. It runs from the beginning.

    Attributes:
        url: its address, another one after each start.
    """

    def __init__(self, database: str) -> None:
        self._database = database
        self.start()

    def start(self) -> None:
        """Start it, and wait until it accepts connections."""
        receiver, sender = _FORKSERVER.Pipe(duplex=False)
        self._process = _FORKSERVER.Process(target=_serve, args=(self._database, sender))
        self._process.start()
        sender.close()
        with receiver:
            self.url = f"http://127.0.0.1:{receiver.recv()}"
        httpx.get(f"{self.url}/api/health", timeout=DEADLINE, trust_env=False)

    def kill(self) -> None:
        """Kill it, and wait until it has ended."""
        self._process.kill()
        self._process.join(DEADLINE)
        assert self._process.exitcode == -signal.SIGKILL
        self._process.close()


def _serve(database: str, port: Connection) -> None:
    """Run a service like ``heksher serve`` does, and report its port."""
    from heksher.service import create_app
    from heksher.service.web import server

    listener = server.listen("127.0.0.1", 0)
    port.send(listener.getsockname()[1])
    server.serve(create_app(database, ["user"]), listener, grace=0)
