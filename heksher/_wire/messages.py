"""HTTP messages as plain data: a request, its response, and both as one exchange.

Knows only their shape: neither JSON nor what a path or a status means.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")

# The characters of a header's value that is sent back. Servers take a few kilobytes of headers in all, and
# URLs of 8,000 characters.
_MAX_RETURNED = 1000


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request.

    Attributes:
        method: GET or POST.
        target: path and query, percent-encoded, without a leading slash. It is relative to the
            service's address, which may have a path of its own.
        headers: pairs of name and value.
        body: the bytes to send, or None.
        expected: the statuses that the request's exchange can read; any other status is an error.
        reads_body: whether the exchange reads the body of the answer.
    """

    method: str
    target: str
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes | None = None
    expected: frozenset[int] = frozenset((200,))
    reads_body: bool = True


@dataclass(frozen=True, slots=True)
class Response:
    """One HTTP response, read to its end.

    Attributes:
        status: the status code.
        headers: values by lower-case name.
        body: the decompressed bytes.
    """

    status: int
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    body: bytes = b""

    @property
    def etag(self) -> str | None:
        """The tag to send with the next request for the same target, or None."""
        return self._returnable("etag")

    @property
    def revision(self) -> str | None:
        """A name of the service's state, if it sends one: the answer is at least as new as that state.

        The original service sends none.
        """
        return self._returnable("heksher-revision")

    def _returnable(self, name: str) -> str | None:
        """Return a header's value, unless every later request would fail if it was sent back."""
        value = self.headers.get(name, "")
        is_sound = value.isascii() and value.isprintable() and len(value) <= _MAX_RETURNED
        return value if value and is_sound else None


@dataclass(frozen=True, slots=True)
class Exchange(Generic[T]):
    """A request, and the function that reads its response."""

    request: Request
    read: Callable[[Response], T]
