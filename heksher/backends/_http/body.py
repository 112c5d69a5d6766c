"""The body of an answer within its bounds: collected, decompressed, and turned into a `Response`.

Knows answers of HTTP libraries by their shape. Does no I/O.
"""

from __future__ import annotations

import codecs
import zlib
from typing import Any

from heksher._wire import Response
from heksher.backends._http.errors import RequestEnded
from heksher.backends._http.redaction import (
    is_safe_location,
    redact,
    redacted,
    repeated_secret,
)
from heksher.exceptions import InvalidResponseError

# Keep at most this many bytes of a refusal's body. It is searched for secrets, which takes a second for
# sixty megabytes, and no other thread runs during that.
_MAX_REFUSAL_BYTES = 4 * 1024 * 1024

# Undo at most this many codings of one body. Servers apply one; many would multiply the work.
_MAX_CODINGS = 4
# Other codings that have a name.
_OTHER_CODINGS = ("br", "compress", "deflate", "zstd")
# The bytes that a member of a gzip file begins with (RFC 1952).
_MEMBER = b"\x1f\x8b"
# Decompress this many bytes at a time.
_PIECE = 4096


class Body:
    """Collects the body of an answer, up to *limit* bytes as they come and again decompressed."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._chunks: list[bytes] = []
        #: How many bytes came, compressed or not.
        self.size = 0

    @property
    def is_too_large(self) -> bool:
        """Whether more bytes came than are allowed."""
        return self.size > self._limit

    @property
    def chunk_count(self) -> int:
        """How many chunks the bytes came in."""
        return len(self._chunks)

    def add(self, chunk: bytes) -> None:
        """Add the next chunk; it is dropped if the body is too large with it."""
        self.size += len(chunk)
        if not self.is_too_large:
            self._chunks.append(chunk)

    def response(self, answer: Any, *, is_decoded: bool, is_read: bool = True) -> Response:
        """Return *answer*, whose whole body was added.

        Args:
            answer: the HTTP library's.
            is_decoded: whether the body was decompressed already.
            is_read: whether the body counts, and not the status alone.

        Raises:
            RequestEnded: the body cannot be decompressed.
            InvalidResponseError: it is too large, or repeats a secret of the request.
        """
        if self.is_too_large:
            raise InvalidResponseError(
                f"the answer is larger than max_response_bytes={self._limit}"
            )
        headers = _headers(answer)
        is_success = 200 <= answer.status_code < 300
        body = b"".join(self._chunks)
        try:
            if body and not is_decoded:
                body = self._decoded(body, headers.get("content-encoding", ""))
        except (RequestEnded, InvalidResponseError):
            if is_success:
                raise
            body = b""  # what a refusal means, its status says
        if not is_success:
            body = redact(body[:_MAX_REFUSAL_BYTES], answer.request)
        elif is_read and (name := repeated_secret(body, answer.request)) is not None:
            raise InvalidResponseError(
                f"the answer is not used, since it repeats the secret {name!r} of the request"
            )
        return Response(answer.status_code, headers, body.removeprefix(codecs.BOM_UTF8))

    def _decoded(self, body: bytes, header: str) -> bytes:
        """Undo the codings of *body*, which *header* lists in the order in which they were applied."""
        codings = [name for each in header.split(",") if (name := each.strip().lower())]
        if len(codings) > _MAX_CODINGS:
            raise RequestEnded(f"the answer has {len(codings)} encodings")
        for coding in reversed(codings):
            if coding in ("gzip", "x-gzip"):
                body = self._unzipped(body)
            elif coding != "identity":
                # Others are not shown: a header may repeat a secret, in small letters here.
                shown = repr(coding) if coding in _OTHER_CODINGS else "something unknown"
                raise RequestEnded(f"the answer is encoded as {shown}, which was not asked for")
        return body

    def _unzipped(self, body: bytes) -> bytes:
        """Decompress all members of *body*; as in `gzip`, anything else behind them is ignored."""
        # Not left to the HTTP client, which knows no bound: a small body can hold gigabytes.
        parts: list[bytes] = []
        left = self._limit
        position = 0
        while position == 0 or body.startswith(_MEMBER, position):
            unzip = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
            while not unzip.eof:
                # In pieces, since what follows the end of a member is copied.
                piece = body[position : position + _PIECE]
                if not piece:
                    raise RequestEnded("the answer is cut short")
                try:
                    parts.append(unzip.decompress(piece, left + 1))
                except zlib.error as error:
                    raise RequestEnded(f"the answer is no gzip: {error}") from None
                left -= len(parts[-1])
                if left < 0:
                    raise InvalidResponseError(
                        f"the answer, decompressed, is larger than max_response_bytes={self._limit}"
                    )
                position += len(piece) - len(unzip.unused_data)
        return b"".join(parts)


def was_read(answer: Any) -> bool:
    """Whether the body was read already: by an event hook, or because a test's transport has it."""
    return bool(getattr(answer, "is_stream_consumed", False))


def refused_answer(error: Exception, request: Any) -> Response | None:
    """Return the answer to *request* that an event hook turned into *error*, or None.

    The documentation of httpx recommends a hook that calls ``raise_for_status()``. It also raises for
    statuses that mean something here, such as 304.
    """
    answer: Any = getattr(error, "response", None)
    # An answer to another request does not count: an auth flow may have asked for a token.
    if answer is None or getattr(error, "request", None) is not request:
        return None
    # A body that the hook did not read is lost: the connection is closed by now.
    body: bytes = answer.content[:_MAX_REFUSAL_BYTES] if was_read(answer) else b""
    return Response(answer.status_code, _headers(answer), redact(body, request))


def _headers(answer: Any) -> dict[str, str]:
    headers = {name.lower(): value for name, value in answer.headers.items()}
    if not 200 <= answer.status_code < 300:
        # They go into an error.
        for name in headers.keys() - {"location"}:
            headers[name] = redacted(headers[name], answer.request)
    if "location" in headers and not is_safe_location(headers["location"], answer.request):
        del headers["location"]
    return headers
