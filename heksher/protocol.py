"""The service's HTTP API v1 without I/O: what to send, and what an answer means.

An `Exchange` pairs a `Request` with the function that reads its `Response`. Nothing here opens a
connection, knows a URL beyond the path, or keeps state. JSON by msgspec; what a body must look like
is stated as types, and a body that differs is an `InvalidResponseError`.
"""

from __future__ import annotations

import logging
import re
from calendar import timegm
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import Any, Generic, TypeAlias, TypeVar
from urllib.parse import quote, unquote, urljoin

import msgspec

from heksher.exceptions import InvalidResponseError, UnexpectedStatusError

_logger = logging.getLogger(__name__)

T = TypeVar("T")
S = TypeVar("S")

#: JSON that was not decoded so far. ``bytes(...)`` is the text, a part of the answer's body until then.
Undecoded: TypeAlias = msgspec.Raw

#: What common proxies take as the longest URL, less room for the service's own address.
MAX_QUERY_LENGTH = 7_000


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


# --- errors ---------------------------------------------------------------------------------------


def unexpected_status(
    request: Request, response: Response, now: float | None = None
) -> UnexpectedStatusError:
    """Return the error for an answer whose status is not among ``request.expected``.

    Args:
        request: what was asked.
        response: what came.
        now: see `retry_after`.
    """
    path = request.target.partition("?")[0]
    text = excerpt(response.body, 200)
    mend = None if path == "api/v1/query" else _MENDS.get(response.status)
    return UnexpectedStatusError(
        f"{request.method} {path} was answered with HTTP {response.status}"
        + (f": {text}" if text else "")
        + (f" ({mend})" if mend else ""),
        response.status,
        retry_after(response, now),
    )


_CREDENTIALS = "does it want credentials? Give them by http_client_args, as headers or auth"
_MENDS = {
    401: _CREDENTIALS,
    403: _CREDENTIALS,
    404: "is service_url the address of a Heksher service? It goes without /api/v1",
}


def excerpt(body: bytes, limit: int) -> str:
    """Return the beginning of *body* as `one_line` of text."""
    return one_line(body[:limit].decode("utf-8", "replace"), limit)


def one_line(text: str, limit: int = 500) -> str:
    """Return the beginning of *text* as one line that does no harm to a log or a terminal."""
    line = "".join(
        character if character.isprintable() else "\ufffd"
        for character in " ".join(text[:limit].split())
    )
    return line if len(text) <= limit else f"{line}…"


def retry_after(response: Response, now: float | None = None) -> float | None:
    """Return the seconds of a Retry-After header, which may be a date; anything else counts as none.

    Args:
        response: what came.
        now: seconds since the epoch, for an answer that does not say when it was made. That comes
            first, for clocks differ.
    """
    text = response.headers.get("retry-after", "").strip()
    if text.isascii() and text.isdigit():
        return min(float(text), 1e9)  # many digits are an infinity, which nobody expects
    until, made = _moment(text), _moment(response.headers.get("date", ""))
    since = now if made is None else made
    return None if until is None or since is None else max(0.0, until - since)


def _moment(date: str) -> float | None:
    """Return a date of HTTP, in any of its three forms, in seconds since the epoch."""
    try:
        return float(timegm(parsedate_to_datetime(date).utctimetuple()))
    except (ValueError, TypeError, IndexError, OverflowError):  # whatever it makes of nonsense
        return None


_MOVED = frozenset((307, 308))
_MOVED_FOR_GET = frozenset((301, 302))


def redirected(base_url: str, request: Request, response: Response) -> Request | None:
    """Return the request to make instead, if the answer is a redirect that may be followed.

    Only to the same origin, and below the service's own address: whatever credentials the request
    carries are for there.

    Args:
        base_url: the service's address, with a slash at the end.
        request: what was asked.
        response: what came.
    """
    location = response.headers.get("location")
    if location is None or not (
        response.status in _MOVED or (response.status in _MOVED_FOR_GET and request.method == "GET")
    ):
        return None
    try:
        moved = urljoin(base_url + request.target, location)
    except ValueError:  # it is no URL
        return None
    if not moved.startswith(base_url):
        return None
    target = moved[len(base_url) :].partition("#")[0]
    # An absolute URL keeps its dots here, and loses them where it is sent or received.
    path = unquote(target.partition("?")[0]).replace("\\", "/")
    if not {".", ".."}.isdisjoint(path.split("/")):
        return None
    return replace(request, target=target)


# Of how many parts that cannot be read it is said one by one why: what a reader takes in.
_MOST_PROBLEMS = 100
# The shortest rule there is has 45 bytes, the shortest setting more; and so many parts do no harm.
_LEAST_SIZE = 40
_MANY = 10_000
# Of what is bounded in number by itself: the list of context features.
_LARGEST_LIST = 1_000_000
# Of how many differences an answer to a declaration is believed to tell something.
_MOST_DIFFERENCES = 100
# Of what is decoded in one go, a rule or a setting. The interpreter lock is held for that long, and
# sixty megabytes of empty lists would stop every thread for seconds.
_LARGEST_PART = 4 * 1024 * 1024
# A type can be nested in two hundred others, and the JSON library reads some more levels than these.
_DEEPEST = 500


def _decode(body: bytes | Undecoded, type_: type[S], what: str) -> S:
    try:
        try:
            return msgspec.json.decode(body, type=type_)
        except RecursionError:
            if len(body) > _LARGEST_PART:
                raise
            # It skips nothing that is nested so deeply. One such value harms no other.
            return msgspec.json.decode(_flattened(bytes(body)), type=type_)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidResponseError(f"{what}: {error}") from error


_find_marks = re.compile(rb'\\.|"|[\[{]+|[\]}]', re.DOTALL).finditer


def _flattened(body: bytes) -> bytes:
    """Return JSON with null, which is a value of no type, for all that is nested more than *_DEEPEST*."""
    kept: list[bytes] = []
    begin = depth = 0
    is_text = False
    for mark in _find_marks(body):
        sign = mark[0]
        if sign == b'"':
            is_text = not is_text
        elif is_text:
            pass
        elif sign[0] in b"[{":
            if depth <= _DEEPEST < depth + len(sign):
                kept += (body[begin : mark.start() + _DEEPEST - depth], b"null")
            depth += len(sign)
        elif sign[0] in b"]}":
            depth -= 1
            if depth == _DEEPEST:
                begin = mark.end()
    return b"".join((*kept, body[begin:]))


def _check_size(part: bytes | Undecoded, what: str) -> None:
    if len(part) > _LARGEST_PART:
        raise InvalidResponseError(
            f"{what}: {len(part)} bytes, and {_LARGEST_PART} are read at most"
        )


def _decode_each(
    raws: Iterable[msgspec.Raw], type_: type[S], most: int
) -> tuple[list[S], list[str]]:
    """Decode what can be decoded, and say of the rest why not, of *most* one by one."""
    decoded: list[S] = []
    problems: list[str] = []
    untold = 0
    for raw in raws:
        try:
            _check_size(raw, "it is too large")
            decoded.append(_decode(raw, type_, "one"))
        except InvalidResponseError as error:
            if len(problems) < most:
                reason = error.__cause__ or error
                problems.append(f"{reason}: {excerpt(bytes(memoryview(raw)[:200]), 200)}")
            else:
                untold += 1
    if untold:
        problems.append(f"and {untold} more that cannot be read")
    return decoded, problems


def _check_number(parts: Sequence[msgspec.Raw], size: int, what: str) -> None:
    """Refuse a text of *size* bytes that has more parts than could mean anything.

    Each part takes far more room here than there: a million of them in two megabytes are an attack.
    """
    if len(parts) > max(_MANY, size // _LEAST_SIZE):
        raise InvalidResponseError(f"{what}: {len(parts)} parts in {size} bytes make no sense")


# --- health ---------------------------------------------------------------------------------------


class _Health(msgspec.Struct):
    version: str


def health() -> Exchange[str]:
    """Ask whether the service is well; answered with its version."""

    def read(response: Response) -> str:
        return _decode(response.body, _Health, "the answer to the health check").version

    return Exchange(Request("GET", "api/health"), read)


# --- context features -----------------------------------------------------------------------------


class _Features(msgspec.Struct):
    context_features: list[str]


def context_features() -> Exchange[tuple[str, ...]]:
    """Ask for the context features; answered in the order that ranks rules, lowest first."""

    def read(response: Response) -> tuple[str, ...]:
        # Each is a bit in the ranks of rules, and compared with those here.
        if len(response.body) > _LARGEST_LIST:
            raise InvalidResponseError(
                f"the list of context features: {len(response.body)} bytes make no sense"
            )
        answer = _decode(response.body, _Features, "the list of context features")
        if len(answer.context_features) > _MANY:
            raise InvalidResponseError(
                f"the list of context features: {len(answer.context_features)} make no sense"
            )
        if len(set(answer.context_features)) != len(answer.context_features):
            raise InvalidResponseError("the list of context features names one twice")
        return tuple(answer.context_features)

    return Exchange(Request("GET", "api/v1/context_features"), read)


# --- settings -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SettingData:
    """A setting as the service has it.

    Attributes:
        name: the current name.
        type: the type in the service's spelling.
        default_value: as JSON says it.
        version: ``major.minor``.
        configurable_features: in the service's order.
        metadata: as JSON says it.
        aliases: other names that lead to the setting.
    """

    name: str
    type: str
    default_value: Any
    version: str
    configurable_features: list[str] = field(default_factory=list[str])
    metadata: dict[str, Any] = field(default_factory=dict[str, Any])
    aliases: list[str] = field(default_factory=list[str])


class _Settings(msgspec.Struct):
    settings: list[msgspec.Raw]


def settings() -> Exchange[dict[str, SettingData]]:
    """Ask for all settings of the service, with everything but their rules; by name."""

    def read(response: Response) -> dict[str, SettingData]:
        answer = _decode(response.body, _Settings, "the list of settings")
        _check_number(answer.settings, len(response.body), "the list of settings")
        read, problems = _decode_each(answer.settings, SettingData, _MOST_PROBLEMS)
        # One that cannot be read harms no other: it counts as one that is not there.
        for problem in problems:
            _logger.warning("the list of settings: left out: %s", problem)
        return {setting.name: setting for setting in read}

    return Exchange(Request("GET", "api/v1/settings?include_additional_data=true"), read)


# --- declaration ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Declaration:
    """How an application believes a setting to be.

    Attributes:
        name: the setting's name.
        type: its type in normal spelling.
        configurable_features: names, in any order.
        default_value: as JSON says it.
        metadata: as JSON says it.
        alias: another name that the service may know it under.
        version: ``major.minor``.
    """

    name: str
    type: str
    configurable_features: tuple[str, ...]
    default_value: Any
    metadata: Mapping[str, Any] = field(default_factory=dict[str, Any])
    alias: str | None = None
    version: str = "1.0"


class Outcome(StrEnum):
    """What became of a declaration. The last one stands for a refusal without an outcome."""

    CREATED = "created"
    UPTODATE = "uptodate"
    UPGRADED = "upgraded"
    OUTDATED = "outdated"
    MISMATCH = "mismatch"
    REJECTED = "rejected"
    REFUSED = "refused"


class Difference(msgspec.Struct, frozen=True):
    """Where a declaration differs from what the service has.

    Attributes:
        level: minor, major or mismatch.
        attribute: what differs, if the service named it.
        latest_value: what the service has there, as JSON says it.
        message: what the service says instead of the two.
    """

    level: str
    attribute: str | None = None
    latest_value: Any = None
    message: str | None = None


@dataclass(frozen=True, slots=True)
class DeclarationAnswer:
    """What the service says to a declaration.

    Attributes:
        outcome: what became of it.
        differences: between the declaration and what the service has, or had.
        service_version: the version that the service has, or had, if it told.
        text: the reason of a refusal without an outcome, in the service's words.
    """

    outcome: Outcome
    differences: tuple[Difference, ...] = ()
    service_version: str | None = None
    text: str = ""

    @property
    def accepted(self) -> bool:
        """Whether the application may rely on the setting as it declared it, or a newer one."""
        return self.outcome not in (Outcome.MISMATCH, Outcome.REJECTED, Outcome.REFUSED)


class _Declared(msgspec.Struct):
    outcome: str | None = None
    differences: list[Difference] = []
    latest_version: str | None = None
    previous_version: str | None = None


def declare(declaration: Declaration) -> Exchange[DeclarationAnswer]:
    """Declare a setting."""
    wire: dict[str, Any] = {
        "name": declaration.name,
        "configurable_features": list(declaration.configurable_features),
        "type": declaration.type,
        "default_value": declaration.default_value,
        "metadata": dict(declaration.metadata),
        "version": declaration.version,
    }
    if declaration.alias is not None:
        wire["alias"] = declaration.alias
    what = f"the answer to the declaration of setting {declaration.name!r}"

    def read(response: Response) -> DeclarationAnswer:
        text = excerpt(response.body, 1000)
        if response.status not in (200, 409):
            return DeclarationAnswer(Outcome.REFUSED, text=f"HTTP {response.status}: {text}")
        _check_size(response.body, what)
        answer = _decode(response.body, _Declared, what)
        if answer.outcome is None and response.status == 409:
            # An alias that belongs to another setting has a body of another kind.
            return DeclarationAnswer(Outcome.REFUSED, text=f"HTTP 409: {text}")
        try:
            outcome = Outcome(answer.outcome or "")
        except ValueError:
            raise InvalidResponseError(
                f"{what} has the unknown outcome {answer.outcome!r:.200}"
            ) from None
        return DeclarationAnswer(
            outcome,
            tuple(answer.differences[:_MOST_DIFFERENCES]),
            answer.latest_version or answer.previous_version,
        )

    request = Request(
        "POST",
        "api/v1/settings/declare",
        headers=(("content-type", "application/json"),),
        body=msgspec.json.encode(wire),
        expected=frozenset((200, 400, 404, 409, 422)),
    )
    return Exchange(request, read)


# --- query ----------------------------------------------------------------------------------------


# Nothing in a rule can lead back to it, so that the garbage collector need not look at each.
class RuleData(msgspec.Struct, frozen=True, gc=False):
    """A rule as the service tells it.

    Attributes:
        value: as JSON says it.
        context_features: the conditions, pairs of feature and value.
        rule_id: the service's number for it.
    """

    value: Any
    context_features: tuple[tuple[str, str], ...]
    rule_id: int


@dataclass(frozen=True, slots=True)
class Section:
    """One setting's part of the answer to a query.

    Attributes:
        rules: all that pass the query's filter.
        default_value: as JSON says it; null where the service has no usable one.
        problems: one text for each rule that cannot be read.
    """

    rules: tuple[RuleData, ...]
    default_value: Any = None
    problems: tuple[str, ...] = ()


# How many rules are decoded at once, and of how many bytes. The interpreter lock is held for that long,
# so that other threads would wait for all of a large section, and for the end of all its objects.
_BATCH = 500
_LARGEST_BATCH = 256 * 1024


class _Section(msgspec.Struct):
    rules: list[msgspec.Raw]
    default_value: msgspec.Raw = msgspec.Raw(b"null")


@dataclass(frozen=True, slots=True)
class UnreadSection:
    """One setting's part of the answer to a query, its rules undecoded.

    Attributes:
        rules: one text of JSON each.
        default_value: as JSON says it; null where the service has no usable one.
    """

    rules: Sequence[Undecoded]
    default_value: Any = None

    def read(self) -> Iterator[Section]:
        """Decode the rules, a few at a time."""
        room = _MOST_PROBLEMS
        for batch in _batches(self.rules):
            try:
                if len(batch) == 1:
                    _check_size(batch[0], "the rule")
                rules = _decode(b"[" + b",".join(batch) + b"]", list[RuleData], "the rules")
                problems: list[str] = []
            except InvalidResponseError:
                # One rule that cannot be read harms no other.
                rules, problems = _decode_each(batch, RuleData, room)
                room = max(0, room - len(problems))
            yield Section(tuple(rules), self.default_value, tuple(problems))


def _batches(parts: Sequence[Undecoded]) -> Iterator[Sequence[Undecoded]]:
    """Split *parts*; where there are large ones, each stands alone."""
    for start in range(0, len(parts), _BATCH):
        batch = parts[start : start + _BATCH]
        if sum(map(len, batch)) <= _LARGEST_BATCH:
            yield batch
        else:
            yield from ([part] for part in batch)


def open_section(raw: bytes | Undecoded) -> UnreadSection:
    """Decode one setting's section of an answer but for its rules.

    Raises:
        InvalidResponseError: it is no section.
    """
    section = _decode(raw, _Section, "the section")
    _check_number(section.rules, len(raw), "the section")
    _check_size(section.default_value, "the default value")
    return UnreadSection(section.rules, _decode(section.default_value, object, "the default value"))


@dataclass(frozen=True, slots=True)
class QueryAnswer:
    """Rules and default values of the settings that were asked for.

    Attributes:
        sections: the undecoded section of each setting by its current name, so that one that is
            broken harms no other.
        etag: to be sent with the same query the next time, or None.
    """

    sections: Mapping[str, Undecoded]
    etag: str | None


class NotModified:
    """The answer to a query is still the one that its ETag stands for."""


class UnknownNames:
    """The query failed since the service does not have one of the names in it."""


# Of an ETag that is sent back: servers take some kilobytes of headers in all.
_LONGEST_TAG = 1000


class _Query(msgspec.Struct):
    settings: dict[str, msgspec.Raw]


def query(
    names: Iterable[str],
    context_filters: str | None,
    etag: str | None,
    *,
    may_be_unknown: bool = True,
) -> Exchange[QueryAnswer | NotModified | UnknownNames]:
    """Ask for the rules of settings.

    Args:
        names: of the settings, all of which the service has to know.
        context_filters: in the query's own language; None lets every rule pass.
        etag: of the answer to the same query before, or None.
        may_be_unknown: whether it means something that the service does not know a name.
    """

    def read(response: Response) -> QueryAnswer | NotModified | UnknownNames:
        if response.status == 304:
            return NotModified()
        if response.status == 404:
            return UnknownNames()
        answer = _decode(response.body, _Query, "the answer to the query")
        tag = response.headers.get("etag")
        # One that cannot be sent back would fail every later query.
        is_usable = (
            tag is not None and tag.isascii() and tag.isprintable() and len(tag) <= _LONGEST_TAG
        )
        return QueryAnswer(answer.settings, tag if is_usable else None)

    request = Request(
        "GET",
        query_target(names, context_filters),
        headers=(("if-none-match", etag),) if etag is not None else (),
        # Without an ETag there is nothing that could have stayed as it was.
        expected=frozenset(
            (200, *((304,) if etag is not None else ()), *((404,) if may_be_unknown else ()))
        ),
    )
    return Exchange(request, read)


def query_target(names: Iterable[str], context_filters: str | None) -> str:
    """Return path and query of the request for these settings."""
    target = f"api/v1/query?settings={','.join(map(_quoted, names))}"
    if context_filters is None:
        return target
    return f"{target}&context_filters={quote(context_filters, safe=',:*()')}"


def _quoted(name: str) -> str:
    # A setting may have been renamed to what the service takes and a URL does not: "a\n". All others
    # are as they are, and asking first is what takes less time.
    return name if _is_plain(name) else quote(name, safe="")


_is_plain = re.compile(r"[A-Za-z0-9_.]*").fullmatch


def split_names(names: Sequence[str], context_filters: str | None) -> list[tuple[str, ...]]:
    """Split *names* so that each part fits into one query of at most `MAX_QUERY_LENGTH`.

    A name that fits into none alone stands alone.
    """
    room = MAX_QUERY_LENGTH - len(query_target((), context_filters))
    parts: list[tuple[str, ...]] = []
    part: list[str] = []
    length = 0
    for name in names:
        needed = len(_quoted(name)) + 1
        if part and length + needed > room:
            parts.append(tuple(part))
            part, length = [], 0
        part.append(name)
        length += needed
    return [*parts, tuple(part)] if part else parts
