"""Asking for the rules of settings: how queries are formed and split, and how their answers are read.

An answer has one section per setting. Reading it goes from the outside to the inside, and each step is
cheap until there is a reason for the next one:

1. `query` splits the body into undecoded sections. The client compares a section with the last one that it
   used for the setting, by a hash of its bytes, and is done if they are equal: in most updates nothing
   changed, or a few settings did.
2. `decode_section` splits a section into its default value and its rules.
3. `Section.batches` decodes the rules, a batch at a time. msgspec holds the interpreter lock during a
   call: decoding a section of 100,000 rules (10 MB) at once would stop every other thread for 0.3
   seconds, and freeing its objects at once for another 0.06. A batch takes less than 10 ms, and is done
   with before the next one is decoded.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any
from urllib.parse import quote

import msgspec

from heksher._names import is_condition_value
from heksher._wire.decoding import Batch, Undecoded, bounded, decode, decode_objects, split
from heksher._wire.messages import Exchange, Request, Response

#: The characters of a query's target. Common proxies take URLs of 8,000 characters; the rest is room for
#: the service's own address.
MAX_QUERY_LENGTH = 7_000
# The characters of a filter. A longer one is not sent, so that there is room for names.
_MAX_FILTER_LENGTH = MAX_QUERY_LENGTH // 2
# The sections that an answer may have beyond the names that were asked for.
_MAX_UNASKED = 1_000
# Known sections that may be missing from an answer; then no more of them are searched for.
_MAX_MISSED = 3


# --- reading an answer ----------------------------------------------------------------------------


# gc=False: a rule holds JSON values only, which cannot form a cycle, so that the garbage collector need
# not visit a hundred thousand of them.
class RuleData(msgspec.Struct, frozen=True, gc=False):
    """A rule as the service sends it.

    Attributes:
        value: the decoded JSON value.
        context_features: the conditions, pairs of feature and value.
        rule_id: the service's number for it.
    """

    value: Any
    context_features: tuple[tuple[str, str], ...]
    rule_id: Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]


class _Section(msgspec.Struct):
    rules: Undecoded
    default_value: Undecoded = msgspec.Raw(b"null")


@dataclass(frozen=True, slots=True)
class Section:
    """One setting's part of an answer.

    Attributes:
        batches: the rules that pass the query's filter. Each batch is decoded when it is asked for, once.
            A rule that cannot be read costs only itself; if there are thousands, an InvalidResponseError
            is raised.
        default_value: the decoded JSON value; None if the service has no usable one.
    """

    batches: Iterator[Batch[RuleData]]
    default_value: Any = None


def decode_section(raw: bytes) -> Section:
    """Decode a section of an answer, except for its rules.

    Args:
        raw: the section; its text is `bounded`.

    Raises:
        InvalidResponseError: it is not a section.
    """
    section = split(raw, _Section, "the section")
    return Section(
        decode_objects(section.rules, RuleData, "the rules", "the rule"),
        decode(section.default_value, object, "the default value"),
    )


# --- asking ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class QueryAnswer:
    """The answer to a query.

    Attributes:
        sections: the undecoded section of each setting by its current name, so that a broken one costs
            only its own setting. Unlike a `Raw`, bytes know their hash after it was computed once.
        etag: see `Response.etag`.
        revision: see `Response.revision`.
        is_partial: whether settings without a section are unchanged. If the service says that nothing
            changed, there are no sections.
        has_same_features: whether the context features have not changed since the revision that was sent.
    """

    sections: Mapping[str, bytes]
    etag: str | None
    revision: str | None = None
    is_partial: bool = False
    has_same_features: bool = False


class UnknownNames:
    """The query failed because the service does not know one of the names."""


class _Name(str):
    """A key of an answer. msgspec does not know the type, and calls a hook for each, which counts."""

    __slots__ = ()


class _Query(msgspec.Struct):
    settings: dict[_Name, Undecoded]


def _split_answer(body: bytes, most: int) -> dict[str, bytes]:
    """Return the sections of an answer, of which there may be *most*."""
    names = 0

    def name_of(_: type[_Name], text: str) -> _Name:
        nonlocal names
        names += 1
        if names > most:
            raise ValueError(f"more than {most} settings")
        return _Name(text)

    what = "the answer to the query"
    sections = split(bounded(body, what), _Query, what, name_of).settings
    return {str(name): bytes(section) for name, section in sections.items()}


class KnownSections:
    """Recognises sections of the last answers by their text, before anything is decoded.

    To bound the depth of a body takes twice as long as to split it, and in most updates nearly all
    sections are the last ones again. What was bounded then is taken out of the body, and only the rest is
    bounded and split.
    """

    def __init__(self) -> None:
        # Length and hash of each section, by name, in the order of the answer.
        self._texts: dict[str, tuple[int, int]] = {}

    def keep_only(self, names: Container[str]) -> None:
        """Forget the sections of all other names."""
        self._texts = {name: text for name, text in self._texts.items() if name in names}

    def split(self, body: bytes, names: Collection[str]) -> dict[str, bytes]:
        """Return the sections of the answer to a query for *names*.

        Raises:
            InvalidResponseError: it is no answer.
        """
        asked = frozenset(names)
        most = len(asked) + _MAX_UNASKED
        rest, known = self._take_out(body, asked)
        sections = _split_answer(rest, most)
        if any(sections.get(name) != b"null" for name in known):
            # One of them was within another section.
            known, sections = {}, _split_answer(body, most)
        sections |= known
        is_whole = asked.issubset(sections)
        for name, section in sections.items():
            if name in asked:
                if is_whole:
                    # At the end, so that the order is that of the answer.
                    self._texts.pop(name, None)
                self._texts[name] = len(section), hash(section)
        return sections

    def _take_out(self, body: bytes, names: Container[str]) -> tuple[bytes, dict[str, bytes]]:
        """Return *body* with null in place of known sections, and these sections.

        The result is JSON if and only if *body* is, since each section is a value. A key cannot seem to
        be within a string: its quotes would end the string.
        """
        rest: list[bytes] = []
        known: dict[str, bytes] = {}
        begin = at = missed = 0
        for name, (length, hashed) in self._texts.items():
            key = b'"%b":' % name.encode()
            # Mostly it is the next one. A search that fails looks through all of the body.
            start = body.find(key, at) + len(key) if name in names else 0
            if start < len(key):
                missed += name in names
                if missed > _MAX_MISSED:
                    break
                continue
            at = start = start + body.startswith(b" ", start)
            text = body[start : start + length]
            if hash(text) == hashed:
                known[name] = text
                rest += (body[begin:start], b"null")
                begin = at = start + length
        return b"".join((*rest, body[begin:])) if rest else body, known


def query(
    names: Iterable[str],
    context_filters: str | None,
    etag: str | None,
    since: str | None = None,
    *,
    may_be_unknown: bool = True,
    known: KnownSections | None = None,
) -> Exchange[QueryAnswer | UnknownNames]:
    """Ask for the rules of settings.

    An ETag belongs to one target and covers only what the answer contains, which is rules and default
    values. Types, versions and the order of context features may change without a new tag. So the
    caller drops its tags whenever it would read the same answer differently.

    Args:
        names: the settings' current names. The service answers only if it knows all of them.
        context_filters: see `encode_context_filters`; None lets every rule pass.
        etag: the tag of the last answer for the same target, or None.
        since: the revision of the last answer for the same target, or None to get all sections. The
            service may leave out the sections that have not changed since then.
        may_be_unknown: whether a 404 is an `UnknownNames`; otherwise it is an unexpected status.
        known: the sections of the last answers; it notes those of this one.
    """
    names = (*names,)
    known = KnownSections() if known is None else known
    expected = {200}
    if etag is not None:  # without a tag, a 304 would make no sense
        expected.add(304)
    if may_be_unknown:
        expected.add(404)

    def read(response: Response) -> QueryAnswer | UnknownNames:
        # After a change of the context features, no answer is partial.
        is_partial = since is not None and "heksher-partial" in response.headers
        if response.status == 304:
            return QueryAnswer(
                {}, etag, response.revision, is_partial=True, has_same_features=is_partial
            )
        if response.status == 404:
            return UnknownNames()
        sections = known.split(response.body, names)
        return QueryAnswer(sections, response.etag, response.revision, is_partial, is_partial)

    target = query_target(names, context_filters)
    request = Request(
        "GET",
        target if since is None else f"{target}&since={quoted(since)}",
        headers=(("if-none-match", etag),) if etag is not None else (),
        expected=frozenset(expected),
    )
    return Exchange(request, read)


def query_target(names: Iterable[str], context_filters: str | None) -> str:
    """Return path and query of the request for these settings."""
    return _target(tuple(names), context_filters)


# Each poll asks for the same. In most clients these are few targets.
@lru_cache(32)
def _target(names: tuple[str, ...], context_filters: str | None) -> str:
    target = f"api/v1/query?settings={','.join(map(quoted, names))}"
    if context_filters is None:
        return target
    return f"{target}&context_filters={quote(context_filters, safe=',:*()')}"


def split_names(
    names: Sequence[str], context_filters: str | None, length: int = MAX_QUERY_LENGTH
) -> list[tuple[str, ...]]:
    """Split *names* so that each part fits into one query whose target has at most *length* characters.

    A name that is too long for any query is a part of its own.
    """
    return [*_split(tuple(names), context_filters, length)]


@lru_cache(4)
def _split(
    names: tuple[str, ...], context_filters: str | None, length: int
) -> Sequence[tuple[str, ...]]:
    room = length - len(query_target((), context_filters))
    parts: list[tuple[str, ...]] = []
    part: list[str] = []
    used = 0
    for name in names:
        needed = len(quoted(name)) + 1
        if part and used + needed > room:
            parts.append(tuple(part))
            part, used = [], 0
        part.append(name)
        used += needed
    return [*parts, tuple(part)] if part else parts


_is_plain = re.compile(r"[A-Za-z0-9_.]*").fullmatch


def quoted(name: str) -> str:
    """Return *name* as a part of a target."""
    # Only a name such as "a\n", to which the service lets a setting be renamed, needs quoting.
    # The test is much faster than quote().
    return name if _is_plain(name) else quote(name, safe="")


def encode_context_filters(tracked: Mapping[str, Iterable[str] | None]) -> str | None:
    """Return the query parameter ``context_filters`` for what a client tracks, or None for no filter.

    The filter only saves bytes: the client applies it to the answer as well. So there is none if it
    would be too long, or if the service might misread it. The service takes the lower-case letters
    before a colon for a feature's name, and refuses a value that no rule can have.

    Args:
        tracked: by feature the values that are tracked, None for all of them. If it is empty,
            everything is tracked.
    """
    parts: list[str] = []
    for feature, values in sorted(tracked.items()):
        if not (feature.isascii() and feature.isalpha() and feature.islower()):
            return None
        if values is None:
            parts.append(f"{feature}:*")
            continue
        usable = sorted(filter(is_condition_value, values))
        if usable:  # a feature that is left out passes no rule, and neither would an unusable value
            parts.append(f"{feature}:({','.join(usable)})")
    filters = ",".join(parts)
    return filters if tracked and len(filters) <= _MAX_FILTER_LENGTH else None
