"""The transport for event loops, over ``httpx.AsyncClient``."""

from __future__ import annotations

from typing import Any

import anyio
import anyio.lowlevel
import httpx

from heksher._wire import Request, Response
from heksher.backends._http.body import Body, refused, was_read
from heksher.backends._http.errors import Ended, TooSlow
from heksher.backends._http.head import bound_heads, refuse_leftovers
from heksher.backends._http.redaction import cause
from heksher.backends._http.transport import PIECES, InThread, TransportBase
from heksher.backends.base import HttpOptions
from heksher.exceptions import HeksherError

# How long saying goodbye to a connection may take.
_CLOSE_TIMEOUT = 2.0


class AsyncTransport(TransportBase):
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
        raise self._unreachable(request, Ended("the client is closed"))

    async def _send(self, request: Request) -> Response:
        try:
            if self._client is None:
                self._client, self._is_ours = self._make_client(httpx.AsyncClient)
            with anyio.fail_after(self._options.request_timeout):
                built = self._build(self._client, request, trace=_Opening().trace)
                try:
                    answer = await self._client.send(built, **self._send_arguments())
                except Exception as error:
                    if (answered := refused(error, built)) is not None:
                        return answered
                    raise
                try:
                    refuse_leftovers(answer)
                    body = Body(self._options.max_response_bytes)
                    is_decoded = was_read(answer)
                    if is_decoded:
                        body.add(answer.content)
                    else:
                        await self._read(answer, body)
                finally:
                    await answer.aclose()
                return await self._response(body, answer, is_decoded=is_decoded)
        except TimeoutError:
            raise self._unreachable(request, TooSlow(self._too_slow())) from None
        except Ended as error:
            raise self._unreachable(request, error) from None
        except HeksherError:
            raise
        except Exception as error:
            # Whatever class it has: an HTTP client that was handed in has errors of its own.
            raise self._unreachable(request, error) from cause(error)

    @staticmethod
    async def _read(answer: Any, body: Body) -> None:
        try:
            async for chunk in answer.aiter_raw():
                body.add(chunk)
                if body.pieces % PIECES == 0:
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


class _Opening:
    """The connection that a request opens. httpcore leaves it open if its TLS handshake is cancelled."""

    _stream: Any = None

    async def trace(self, event: str, info: dict[str, Any]) -> None:
        """Close it then; httpcore's trace tells of it."""
        bound_heads(event, info)
        if event.endswith("connect_tcp.complete"):
            self._stream = info.get("return_value")
        elif event.endswith("start_tls.failed") and self._stream is not None:
            with anyio.move_on_after(_CLOSE_TIMEOUT, shield=True):
                await self._stream.aclose()
