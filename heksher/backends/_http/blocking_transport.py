"""The transport for threads and greenlets, over ``httpx.Client``."""

from __future__ import annotations

import threading
from functools import partial
from typing import Any

import httpx

from heksher._wire import Request, Response
from heksher.backends._http.body import Body
from heksher.backends._http.clients import make_client
from heksher.backends._http.deadline import DeadlineWatcher
from heksher.backends._http.errors import RequestEnded, client_closed
from heksher.backends._http.head import yield_to_greenlets
from heksher.backends._http.network import BlockingNetwork
from heksher.backends._http.slot import Slot, SlotTrace, Sockets
from heksher.backends._http.transport import CHUNKS_PER_TURN, InThread, TransportBase
from heksher.backends._lookups import Lookups
from heksher.backends._steady import steady
from heksher.backends.base import HttpOptions


class BlockingTransport(TransportBase):
    """Sends requests in the calling thread; another thread ends those that take too long.

    It does so by shutting the request's socket down. To know which socket that is, each HTTP client that
    is made here carries one request at a time, and another one is made when two threads send at once.
    Where there can be only one client, or one transport below all clients, any of its sockets may be the
    one, and all are shut down.

    Args:
        options: how to reach the service.
        lookups: looks up names.
        in_thread: calls what decompresses large answers; None: that happens in the calling thread.
    """

    def __init__(
        self, options: HttpOptions, lookups: Lookups, in_thread: InThread | None = None
    ) -> None:
        super().__init__(options, in_thread)
        self._lookups = lookups
        self._network = BlockingNetwork(lookups, options.request_timeout)
        # Guards the attributes below.
        self._lock = threading.Lock()
        self._idle: list[Slot] = []
        self._busy: set[Slot] = set()
        self._is_closed = False
        # The only client, if there can be only one, and whether it is to be closed here.
        self._shared: tuple[httpx.Client, bool] | None = None
        self._shared_sockets = Sockets()
        self._watcher = DeadlineWatcher(options.request_timeout, self._too_slow)

    async def _send_request(self, request: Request) -> Response:
        """Send *request* and read the whole answer, blocking."""
        slot = self._take_slot()
        trace = SlotTrace(slot)
        try:
            self._watcher.begin(slot)
            response = await self._exchange(slot.client, request, trace, partial(self._read, slot))
            # The end of the connection may be the end of the answer, and may have been made here.
            if slot.ended is not None:
                raise slot.ended()
            return response
        except Exception as error:
            if slot.ended is not None:
                raise slot.ended() from None
            if isinstance(error, RequestEnded) or steady() < slot.deadline:
                raise
            # A timeout of the HTTP client's was a little earlier than the watcher.
            raise self._too_slow() from None
        finally:
            self._watcher.end(slot)
            # A new client reads the certificates again.
            slot.is_spent = trace.failed_in_tls
            self._give_back(slot)

    async def _send(self, client: Any, built: Any, arguments: dict[str, Any]) -> Any:
        return client.send(built, **arguments)

    async def _close(self, answer: Any) -> None:
        answer.close()

    async def _read(self, slot: Slot, answer: Any, body: Body) -> None:
        # A client that was handed in may use a connection from before, which no event reports.
        slot.note_socket(getattr(answer, "extensions", {}).get("network_stream"))
        for chunk in answer.iter_raw():
            body.add(chunk)
            if body.is_too_large:
                break
            # A transport of the application's may have no socket that could be shut down.
            if steady() > slot.deadline:
                raise self._too_slow()
            if body.chunk_count % CHUNKS_PER_TURN == 0:
                yield_to_greenlets()

    def _take_slot(self) -> Slot:
        """Return a slot without a request, and count it as busy."""
        with self._lock:
            if self._is_closed:
                raise client_closed()
            slot = self._idle.pop() if self._idle else None
            if slot is not None:
                self._busy.add(slot)
                return slot
        slot = self._make_slot()
        with self._lock:
            self._busy.add(slot)
            is_closed = self._is_closed
        if is_closed:
            slot.end(client_closed)
        return slot

    def _make_slot(self) -> Slot:
        if self._options.makes_clients:
            return Slot(*make_client(self._options, httpx.Client, self._network))
        with self._lock:
            if self._is_closed:
                raise client_closed()
            if self._shared is None:
                self._shared = make_client(self._options, httpx.Client, self._network)
            client, _ = self._shared
        return Slot(client, False, self._shared_sockets)

    def _give_back(self, slot: Slot) -> None:
        with self._lock:
            self._busy.discard(slot)
            if not (self._is_closed or slot.ended or slot.is_spent):
                self._idle.append(slot)
                return
        slot.close()

    def abort(self) -> None:
        """End the requests in progress and refuse new ones."""
        with self._lock:
            self._is_closed = True
            busy = list(self._busy)
        for slot in busy:
            slot.end(client_closed)
        self._lookups.abort()
        self._watcher.stop()

    def abandon(self) -> None:
        """In a forked child, close the sockets, which the parent has open as well, and do nothing else.

        The parent goes on with the connections. Closing an HTTP client would say goodbye on them (TLS)
        and take locks that threads of the parent may have held during the fork, which are never released
        here.
        """
        self._is_closed = True
        for slot in (*self._idle, *self._busy):
            slot.abandon()
        if self._shared is not None and self._shared[1]:
            # A transport from `http_client_args` is used on in the child, and finds its sockets closed.
            self._shared_sockets.close()

    async def aclose(self) -> None:
        """Close the clients that were made here."""
        self.abort()
        with self._lock:
            idle, self._idle = self._idle, []
            shared, self._shared = self._shared, None
        for slot in idle:
            slot.close()
        if shared is not None and shared[1]:
            shared[0].close()
        self._watcher.join()
