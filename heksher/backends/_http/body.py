"""An answer's body within its bound: collected, decompressed and turned into a `Response`.

Does no I/O.
"""

from __future__ import annotations

import zlib
from typing import Any

from heksher._wire import Response
from heksher.backends._http.errors import Ended
from heksher.backends._http.redaction import without_secrets

# What is kept of a refusal's body: it is searched for secrets, and all threads wait meanwhile.
_LARGEST_REFUSAL = 4 * 1024 * 1024


class Body:
    """Collects an answer's body up to the bound, as it comes and decompressed."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._chunks: list[bytes] = []
        #: Bytes that came.
        self.size = 0

    @property
    def too_large(self) -> bool:
        return self.size > self._limit

    @property
    def pieces(self) -> int:
        return len(self._chunks)

    def add(self, chunk: bytes) -> None:
        self.size += len(chunk)
        if not self.too_large:
            self._chunks.append(chunk)

    def response(self, answer: Any, *, is_decoded: bool) -> Response:
        """Return the answer, whose body was added to its end."""
        if self.too_large:
            raise Ended(f"the answer is larger than {self._limit} bytes")
        headers = _headers(answer)
        body = b"".join(self._chunks)
        coding = headers.get("content-encoding", "identity").strip().lower()
        if is_decoded or coding == "identity":
            pass
        elif coding == "gzip":
            body = self._decompress(body)
        else:
            raise Ended(f"the answer is encoded as {coding!r}, which was not asked for")
        if not 200 <= answer.status_code < 300:
            body = without_secrets(body[:_LARGEST_REFUSAL], answer.request)
        return Response(answer.status_code, headers, body)

    def _decompress(self, body: bytes) -> bytes:
        # By hand and not by the HTTP client, which knows no bound: a small body can hold gigabytes.
        unzip = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
        try:
            decompressed = unzip.decompress(body, self._limit + 1)
        except zlib.error as error:
            raise Ended(f"the answer is no gzip: {error}") from None
        if len(decompressed) > self._limit:
            raise Ended(f"the answer is larger than {self._limit} bytes, decompressed")
        if not unzip.eof:
            raise Ended("the answer is cut short")
        return decompressed


def _headers(answer: Any) -> dict[str, str]:
    return {name.lower(): value for name, value in answer.headers.items()}


def was_read(answer: Any) -> bool:
    """Whether the body was read before: by an event hook, or as a test's transport has it ready."""
    return bool(getattr(answer, "is_stream_consumed", False))


def refused(error: Exception, request: Any) -> Response | None:
    """Return the answer to *request* that an event hook took for an error, by raise_for_status()."""
    answer: Any = getattr(error, "response", None)
    # The answer to another request is no concern of ours: an auth flow may ask for a token.
    if answer is None or getattr(error, "request", None) is not request:
        return None
    # The body was read if the hook did it, and else is lost: the connection is closed.
    body: bytes = answer.content[:_LARGEST_REFUSAL] if was_read(answer) else b""
    return Response(answer.status_code, _headers(answer), without_secrets(body, request))
