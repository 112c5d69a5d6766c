"""What can go wrong between a client and a service: one frozen class for each kind of fault.

A fault is asked for *steps*: what to send instead of the service's answer, when to wait, how to end
the connection. Nothing here does any of it, and nothing knows sockets, threads or clocks.
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
    """A step: nothing is sent for so long, infinity being for ever."""

    seconds: float


class End(Enum):
    """A last step: the connection ends, and with it an answer that is not complete."""

    CLOSE = "close"
    RESET = "reset"


Step: TypeAlias = bytes | Pause | End


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer with its whole body.

    Attributes:
        status: the status.
        headers: all but Content-Length, which is there only for HEAD.
        body: the body.
        is_of_head: whether the request was HEAD.
    """

    status: int
    headers: Headers = ()
    body: bytes = b""
    is_of_head: bool = False

    @property
    def has_body(self) -> bool:
        """Whether a body follows the head, be it an empty one."""
        return self.status not in _NO_BODY and not self.is_of_head

    def with_header(self, name: bytes, value: bytes | None) -> Self:
        """The same with this header instead of one of that name; without it for None."""
        others = tuple(pair for pair in self.headers if pair[0].lower() != name)
        return replace(self, headers=others if value is None else (*others, (name, value)))

    def head(self, framing: Headers | None = None) -> bytes:
        """All bytes before the body; *framing* says how long that is, if not its length does."""
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
        """All bytes."""
        return self.head() + (self.body if self.has_body else b"")


@dataclass(frozen=True)
class Fault(ABC):
    """One kind of fault, with what there is to choose about it.

    Attributes:
        word: its name in a text of faults.
        asks_service: whether the service gets the request. If so it has acted on it, whatever the
            client is told.
        wants_body: whether the service is asked without If-None-Match, so that there is a body.
        lasts: whether it goes on until it is taken away; the connection is closed then.
        is_of_connections: whether it is decided when a client connects, before there is a request.
    """

    word: ClassVar[str]
    asks_service: ClassVar[bool] = True
    wants_body: ClassVar[bool] = False
    lasts: ClassVar[bool] = False
    is_of_connections: ClassVar[bool] = False

    @abstractmethod
    def steps(self, answer: Answer) -> Iterator[Step]:
        """What becomes of *answer*, the service's; an empty one if the service was not asked."""


# --- instead of an answer -------------------------------------------------------------------------


@dataclass(frozen=True)
class Delay(Fault):
    """The answer is right and comes late; with infinity, never."""

    word = "delay"
    seconds: _Seconds = math.inf

    def steps(self, answer: Answer) -> Iterator[Step]:
        yield Pause(self.seconds)
        yield answer.wire()


@dataclass(frozen=True)
class Status(Fault):
    """Another status, from something between client and service, which does not get the request.

    Attributes:
        status: the status.
        retry_after: for the header Retry-After: seconds, or a date in HTTP's form.
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
        location: where to, a whole address or a path.
        status: the status.
    """

    word = "redirect"
    asks_service = False
    location: str = "http://elsewhere.invalid/"
    status: Annotated[int, msgspec.Meta(ge=300, le=399)] = 307

    def steps(self, answer: Answer) -> Iterator[Step]:
        location = (b"location", self.location.encode())
        yield Answer(self.status, (location,), is_of_head=answer.is_of_head).wire()


# --- answers that break off, or don't end ---------------------------------------------------------


@dataclass(frozen=True)
class Close(Fault):
    """The connection is closed before the answer, or in the middle of it.

    Attributes:
        after: how many bytes of the answer, its head included, are sent before.
    """

    word = "close"
    wants_body = True
    after: _Count = 0

    def steps(self, answer: Answer) -> Iterator[Step]:
        yield answer.wire()[: self.after]
        yield End.CLOSE


@dataclass(frozen=True)
class Reset(Fault):
    """The connection is reset, as by a machine that crashed or a firewall.

    Attributes:
        after: how many bytes of the answer, its head included, are sent before. The client may
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
        keep: which part of the body is sent, from 0 to 1.
        honest: whether Content-Length tells the shorter length, so that HTTP sees nothing wrong.
            Otherwise it promises all, and the connection is closed.
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
    """The body is right and then never ends: JSON's white space follows, as fast as it is taken.

    Attributes:
        pause: seconds between one KiB and the next.
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
        pause: seconds between one byte and the next.
    """

    word = "slow"
    pause: _Seconds = 1.0

    def steps(self, answer: Answer) -> Iterator[Step]:
        for byte in answer.wire():
            yield bytes((byte,))
            yield Pause(self.pause)


# --- answers with something wrong in them ---------------------------------------------------------


@dataclass(frozen=True)
class InvalidJson(Fault):
    """The body is no JSON, though its content type says so.

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
    """The body is JSON, and not what was asked for.

    Attributes:
        body: the body, some JSON.
    """

    word = "wrong-shape"
    wants_body = True
    body: str = '[{"settings": 1}]'

    def steps(self, answer: Answer) -> Iterator[Step]:
        changed = answer.with_header(*_JSON)
        yield replace(changed, body=self.body.encode()).wire()


@dataclass(frozen=True)
class ContentType(Fault):
    """The body is right, and its content type says something else.

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
    """The body is not encoded, and Content-Encoding says that it is.

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
    """A small compressed body that becomes a huge one.

    Attributes:
        mebibytes: how large it becomes; all white space.
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
    """The body is right, and its ETag is another one's; `Status` with 304 is the other half.

    Attributes:
        etag: the ETag, or None for an answer without one.
    """

    word = "etag"
    wants_body = True
    etag: str | None = '"wrong"'

    def steps(self, answer: Answer) -> Iterator[Step]:
        yield answer.with_header(b"etag", None if self.etag is None else self.etag.encode()).wire()


# --- no way to the service ------------------------------------------------------------------------


@dataclass(frozen=True)
class Refuse(Fault):
    """Connections are refused, as by a machine where the service does not run.

    One that asks for nothing closes the port at once, until it is taken away, whatever ``seconds``
    says. Any other resets the connection of the request that it meets, and all others, and then
    closes the port.

    Attributes:
        seconds: for how long.
    """

    word = "refuse"
    asks_service = False
    seconds: _Seconds = math.inf

    def steps(self, answer: Answer) -> Iterator[Step]:  # noqa: ARG002 (there is none)
        yield End.RESET


@dataclass(frozen=True)
class Certificate(Fault):
    """A certificate that a client must not accept; for a proxy with TLS.

    It is decided when a client connects: ``nth`` and the like count connections, and there is no
    method and no path to ask about.

    Attributes:
        problem: it has ``expired``, is for another ``host``, or comes from an ``unknown`` authority.
    """

    word = "certificate"
    is_of_connections = True
    problem: Literal["expired", "host", "unknown"] = "expired"

    def steps(self, answer: Answer) -> Iterator[Step]:
        yield answer.wire()


_CHUNKED: Headers = ((b"transfer-encoding", b"chunked"),)


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n" % len(data) + data + b"\r\n" if data else b""


#: All kinds, in the order in which they are told of.
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
