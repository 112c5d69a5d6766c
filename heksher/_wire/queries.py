"""Asking for the rules of settings: how queries are split and sent, and how their answers are read."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import msgspec

from heksher._wire.decoding import (
    MOST_PROBLEMS,
    Undecoded,
    check_number,
    check_size,
    decode,
    decode_each,
)
from heksher._wire.messages import Exchange, Request, Response
from heksher.exceptions import InvalidResponseError

#: What common proxies take as the longest URL, less room for the service's own address.
MAX_QUERY_LENGTH = 7_000


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
        room = MOST_PROBLEMS
        for batch in _batches(self.rules):
            try:
                if len(batch) == 1:
                    check_size(batch[0], "the rule")
                rules = decode(b"[" + b",".join(batch) + b"]", list[RuleData], "the rules")
                problems: list[str] = []
            except InvalidResponseError:
                # One rule that cannot be read harms no other.
                rules, problems = decode_each(batch, RuleData, room)
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
    section = decode(raw, _Section, "the section")
    check_number(section.rules, len(raw), "the section")
    check_size(section.default_value, "the default value")
    return UnreadSection(section.rules, decode(section.default_value, object, "the default value"))


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
        answer = decode(response.body, _Query, "the answer to the query")
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
