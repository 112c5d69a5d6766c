"""The kinds of faults between a client and a service: one frozen class for each.

A fault returns *steps*: what to send instead of the service's answer, when to wait, and how to end the
connection. The proxy executes them; this module knows no sockets, threads or clocks.
"""

import math
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from http import HTTPStatus
from typing import Annotated, ClassVar, Literal, Self, TypeAlias

import msgspec

Headers: TypeAlias = tuple[tuple[bytes, bytes], ...]

_Seconds: TypeAlias = Annotated[float, msgspec.Meta(ge=0)]
_Count: TypeAlias = Annotated[int, msgspec.Meta(ge=0)]
_Part: TypeAlias = Annotated[float, msgspec.Meta(ge=0, le=1)]

_JSON = (b"content-type", b"application/json")
_NO_BODY = frozenset({204, 304})
_MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Pause:
    """A step: nothing is sent for that many seconds, or ever if they are infinite."""

    seconds: float


class End(Enum):
    """A last step: the connection ends, even if the answer is incomplete."""

    CLOSE = "close"
    RESET = "reset"


Step: TypeAlias = bytes | Pause | End


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer with its whole body.

    Attributes:
        status: the status.
        headers: the headers; Content-Length is only among them if the request was HEAD.
        body: the body.
        is_of_head: whether the request was HEAD.
    """

    status: int
    headers: Headers = ()
    body: bytes = b""
    is_of_head: bool = False

    @property
    def has_body(self) -> bool:
        """Whether a body follows the head; it may be empty."""
        return self.status not in _NO_BODY and not self.is_of_head

    def with_header(self, name: bytes, value: bytes | None) -> Self:
        """Return the answer with this header in place of one with that name; without it for None."""
        others = tuple(pair for pair in self.headers if pair[0].lower() != name)
        return replace(self, headers=others if value is None else (*others, (name, value)))

    def head(self, framing: Headers | None = None) -> bytes:
        """Return all bytes before the body, with *framing* or else Content-Length to delimit it."""
        if framing is None or not self.has_body:
            framing = ((b"content-length", b"%d" % len(self.body)),) if self.has_body else ()
        try:
            reason = HTTPStatus(self.status).phrase
        except ValueError:
            reason = ""
        lines = [b"HTTP/1.1 %d %s" % (self.status, reason.encode())]
        lines += [name + b": " + value for name, value in (*self.headers, *framing)]
        return b"\r\n".join(lines) + b"\r\n\r\n"

    def wire(self) -> bytes:
        """Return all bytes of the answer."""
        return self.head() + (self.body if self.has_body else b"")


@dataclass(frozen=True)
class Fault(ABC):
    """A fault with its options.

    Attributes:
        word: its name in a fault text.
        asks_service: whether the service gets the request. If so, the service has acted on it, whatever
            the client receives.
        wants_body: whether If-None-Match and ``since=`` are removed from the request, so that the answer
            has a whole body.
        lasts: whether it goes on until it is removed; the connection is closed then.
        is_of_connections: whether it is decided when a client connects, before any request.
    """

    word: ClassVar[str]
    asks_service: ClassVar[bool] = True
    wants_body: ClassVar[bool] = False
    lasts: ClassVar[bool] = False
    is_of_connections: ClassVar[bool] = False

    @abstractmethod
    def steps(self, answer: Answer) -> Iterator[Step]:
        """Return what to do instead of sending the service's *answer*, which is empty without one."""


# --- instead of an answer -------------------------------------------------------------------------


@dataclass(frozen=True)
class Delay(Fault):
    """The answer is right and comes late, or never with infinity."""

    word = "delay"
    seconds: _Seconds = math.inf

    def steps(self, answer: Answer) -> Iterator[Step]:
        yield Pause(self.seconds)
        yield answer.wire()


@dataclass(frozen=True)
class Status(Fault):
    """Another status, as from a proxy. The service does not get the request.

    Attributes:
        status: the status.
        retry_after: the header Retry-After: seconds, or a date in HTTP's format.
        body: the body, as plain text.
    """

    word = "status"
    asks_service = False
    status: Annotated[int, msgspec.Meta(ge=200, le=999)] = 503
    retry_after: int | str | None = None
    body: str = "a fault on demand"

    def steps(self, answer: Answer) -> Iterator[Step]:
        headers: Headers = ((b"content-type", b"text/plain; charset=utf-8"),)
        if self.status == 401:
            headers += ((b"www-authenticate", b'Bearer realm="heksher"'),)
        if self.retry_after is not None:
            headers += ((b"retry-after", str(self.retry_after).encode()),)
        yield Answer(self.status, headers, self.body.encode(), answer.is_of_head).wire()


@dataclass(frozen=True)
class Redirect(Fault):
    """A redirect. The service does not get the request.

    Attributes:
        location: the target, a URL or a path.
        status: the status.
    """

    word = "redirect"
    asks_service = False
    location: str = "http://elsewhere.invalid/"
    status: Annotated[int, msgspec.Meta(ge=300, le=399)] = 307

    def steps(self, answer: Answer) -> Iterator[Step]:
        location = (b"location", self.location.encode())
        yield Answer(self.status, (location,), is_of_head=answer.is_of_head).wire()


# --- answers that end too early, or never ---------------------------------------------------------


@dataclass(frozen=True)
class Close(Fault):
    """The connection is closed before the answer, or in the middle of it.

    Attributes:
        after: the number of bytes of the answer, including its head, that are sent first.
    """

    word = "close"
    wants_body = True
    after: _Count = 0

    def steps(self, answer: Answer) -> Iterator[Step]:
        yield answer.wire()[: self.after]
        yield End.CLOSE


@dataclass(frozen=True)
class Reset(Fault):
    """The connection is reset, as by a crashed machine or a firewall.

    Attributes:
        after: the number of bytes of the answer, including its head, that are sent first. The client may
            lose them, too.
    """

    word = "reset"
    wants_body = True
    after: _Count = 0

    def steps(self, answer: Answer) -> Iterator[Step]:
        yield answer.wire()[: self.after]
        yield End.RESET


@dataclass(frozen=True)
class CutShort(Fault):
    """The end of the body is missing.

    Attributes:
        keep: the part of the body that is sent, from 0 to 1.
        honest: whether Content-Length is the shorter length, so that the answer is valid HTTP. Otherwise
            it is the whole length, and the connection is closed.
    """

    word = "cut-short"
    wants_body = True
    keep: _Part = 0.5
    honest: bool = False

    def steps(self, answer: Answer) -> Iterator[Step]:
        rest = answer.body[: int(len(answer.body) * self.keep)]
        if self.honest:
            yield replace(answer, body=rest).wire()
        else:
            yield answer.head() + rest
            yield End.CLOSE


@dataclass(frozen=True)
class Endless(Fault):
    """The body is right but never ends: white space follows it, as fast as the client reads.

    Attributes:
        pause: the seconds after each KiB.
    """

    word = "endless"
    wants_body = True
    lasts = True
    pause: _Seconds = 0.0

    def steps(self, answer: Answer) -> Iterator[Step]:
        if not answer.has_body:
            yield answer.wire()
            return
        yield answer.head(_CHUNKED) + _chunk(answer.body)
        space = _chunk(b" " * 1024)
        while True:
            if self.pause:
                yield Pause(self.pause)
            yield space


@dataclass(frozen=True)
class Slow(Fault):
    """The answer comes byte by byte.

    Attributes:
        pause: the seconds after each byte.
    """

    word = "slow"
    pause: _Seconds = 1.0

    def steps(self, answer: Answer) -> Iterator[Step]:
        for byte in answer.wire():
            yield bytes((byte,))
            yield Pause(self.pause)


# --- answers with a wrong part --------------------------------------------------------------------


@dataclass(frozen=True)
class InvalidJson(Fault):
    """The body is not JSON, although its content type is.

    Attributes:
        body: the body.
    """

    word = "invalid-json"
    wants_body = True
    body: str = '{"settings": {'

    def steps(self, answer: Answer) -> Iterator[Step]:
        changed = answer.with_header(*_JSON)
        yield replace(changed, body=self.body.encode()).wire()


@dataclass(frozen=True)
class WrongShape(Fault):
    """The body is JSON of the wrong shape.

    Attributes:
        body: the body.
    """

    word = "wrong-shape"
    wants_body = True
    body: str = '[{"settings": 1}]'

    def steps(self, answer: Answer) -> Iterator[Step]:
        changed = answer.with_header(*_JSON)
        yield replace(changed, body=self.body.encode()).wire()


@dataclass(frozen=True)
class ContentType(Fault):
    """The body is right, but its content type is wrong.

    Attributes:
        value: the content type.
    """

    word = "content-type"
    wants_body = True
    value: str = "text/html; charset=utf-16"

    def steps(self, answer: Answer) -> Iterator[Step]:
        yield answer.with_header(b"content-type", self.value.encode()).wire()


@dataclass(frozen=True)
class ContentEncoding(Fault):
    """The body is not encoded, but Content-Encoding says that it is.

    Attributes:
        value: the content encoding.
    """

    word = "content-encoding"
    wants_body = True
    value: str = "gzip"

    def steps(self, answer: Answer) -> Iterator[Step]:
        yield answer.with_header(b"content-encoding", self.value.encode()).wire()


@dataclass(frozen=True)
class Bomb(Fault):
    """A small compressed body that is huge when decompressed.

    Attributes:
        mebibytes: its decompressed size; it is all white space.
    """

    word = "bomb"
    wants_body = True
    mebibytes: Annotated[int, msgspec.Meta(ge=1)] = 100

    def steps(self, answer: Answer) -> Iterator[Step]:
        if not answer.has_body:
            yield answer.wire()
            return
        yield answer.with_header(b"content-encoding", b"gzip").head(_CHUNKED)
        packer = zlib.compressobj(9, zlib.DEFLATED, zlib.MAX_WBITS | 16)
        space = b" " * _MIB
        for _ in range(self.mebibytes):
            if packed := packer.compress(space):
                yield _chunk(packed)
        yield _chunk(packer.flush()) + b"0\r\n\r\n"


@dataclass(frozen=True)
class WrongETag(Fault):
    """The body is right, but its ETag is wrong. For a wrong 304, use `Status`.

    Attributes:
        etag: the ETag; None for an answer without one.
    """

    word = "etag"
    wants_body = True
    etag: str | None = '"wrong"'

    def steps(self, answer: Answer) -> Iterator[Step]:
        yield answer.with_header(b"etag", None if self.etag is None else self.etag.encode()).wire()


# --- no connection to the service -----------------------------------------------------------------


@dataclass(frozen=True)
class Refuse(Fault):
    """Connections are refused, as by a machine on which the service does not run.

    Without conditions it closes the port at once and until it is removed, whatever ``seconds`` is. With
    conditions, a request that meets them resets all connections and then closes the port.

    Attributes:
        seconds: how long connections are refused.
    """

    word = "refuse"
    asks_service = False
    seconds: _Seconds = math.inf

    def steps(self, answer: Answer) -> Iterator[Step]:  # noqa: ARG002 (the service did not answer)
        yield End.RESET


@dataclass(frozen=True)
class Certificate(Fault):
    """A certificate that clients must not accept; the proxy needs TLS.

    It is decided when a client connects: ``nth``, ``every``, ``first`` and ``share`` count connections,
    and there can be no condition on method or path.

    Attributes:
        problem: ``expired``; ``host``, for another host; or ``unknown``, from an unknown authority.
    """

    word = "certificate"
    is_of_connections = True
    problem: Literal["expired", "host", "unknown"] = "expired"

    def steps(self, answer: Answer) -> Iterator[Step]:
        yield answer.wire()


_CHUNKED: Headers = ((b"transfer-encoding", b"chunked"),)


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n" % len(data) + data + b"\r\n" if data else b""


#: All kinds, in the order of the documentation.
KINDS: Sequence[type[Fault]] = (
    Delay,
    Status,
    Redirect,
    Close,
    Reset,
    CutShort,
    Endless,
    Slow,
    InvalidJson,
    WrongShape,
    ContentType,
    ContentEncoding,
    Bomb,
    WrongETag,
    Refuse,
    Certificate,
)
