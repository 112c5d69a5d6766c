"""What is sent and what comes back: a request, a response, and the two as one exchange. Plain data.

Knows nothing but their shape: neither JSON nor what any path or status means.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request.

    Attributes:
        method: GET or POST.
        target: path and query, percent-encoded, without a leading slash: relative to the service's
            address, which may have a path of its own.
        headers: pairs of name and value.
        body: the bytes to send, or None.
        expected: the statuses that mean something for this request; any other is an error.
    """

    method: str
    target: str
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes | None = None
    expected: frozenset[int] = frozenset((200,))


@dataclass(frozen=True, slots=True)
class Response:
    """One HTTP answer, read to its end.

    Attributes:
        status: the status.
        headers: values by lower-case name.
        body: the bytes, decompressed.
    """

    status: int
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Exchange(Generic[T]):
    """A request, and how to read the answer to it."""

    request: Request
    read: Callable[[Response], T]
