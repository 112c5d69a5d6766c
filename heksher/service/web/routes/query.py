"""Route of the query: what clients poll."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial

from msgspec import UNSET
from msgspec.json import encode
from starlette.datastructures import QueryParams
from starlette.requests import Request

from heksher.service.domain import filters, messages
from heksher.service.domain.refusals import Refusal, malformed
from heksher.service.storage import Reader, Storage
from heksher.service.web.answer_cache import CachedAnswer
from heksher.service.web.http import MaybeSlow, Tagged, flag
from heksher.service.web.routes.answers import Answers, size_of, tag_of
from heksher.service.web.routes.stored import raw
from heksher.service.web.sections import Form, Section, SectionCache

_ENTITY_TAG = re.compile(r'(?:\A|,)\s*(?:W/)?("[^"]*")\s*(?=,|\Z)')

# Maximum number of query strings whose parsed form is cached.
_PARSED_QUERIES = 256


@dataclass(frozen=True, slots=True)
class Query:
    """A query in normal form: queries with the same meaning are equal.

    Attributes:
        names: names or aliases of settings, sorted and without duplicates. None means all settings.
        form: the rest of it.
    """

    names: tuple[str, ...] | None
    form: Form

    @property
    def size(self) -> int:
        """The memory that it takes, in bytes, as an estimate."""
        strings = list(self.names or ())
        for item in self.form.items or ():
            strings += item.feature, *(item.values or ())
        return size_of(strings)


class QueryRoute:
    """Handlers for the query, which returns default values and rules."""

    def __init__(self, storage: Storage, answers: Answers) -> None:
        self._storage = storage
        self._answers = answers
        self._sections = SectionCache()

    async def get(self, request: Request) -> MaybeSlow[Tagged[messages.QueryAnswer]]:
        """Return the requested settings, each with the rules that pass the filters."""
        query_string, since = _without_since(request.scope["query_string"])
        query = _parsed(query_string)
        if_none_match = request.headers.getlist("if-none-match")
        return await self._answers.get(
            query, partial(self._make, query), partial(_tagged, if_none_match), since
        )

    def _make(self, query: Query, revision: str, since: str | None) -> CachedAnswer:
        storage = self._storage
        with self._sections.using(query.form) as kept, storage.reading() as reader:
            features = reader.features()  # from here on, the transaction sees no later changes
            names = (
                list(reader.defaults()) if query.names is None else _canonical(reader, query.names)
            )
            kept.forget(kept.revision and storage.changed_since(kept.revision, reader))
            missing = [name for name in names if name not in kept.by_name]
            kept.add(_sections(reader, missing, query.form))
            kept.revision = revision
            sections = {name: kept.by_name[name] for name in names}
            changed = None if since is None else storage.changed_since(since, reader)
        # The tag also stands for the features: a cache between service and clients may repeat the revision
        # of a stored answer for as long as it has the same tag.
        tag = tag_of(b"".join(section.digest for section in sections.values()) + encode(features))
        texts = [
            section.text for name, section in sections.items() if changed is None or name in changed
        ]
        body = b'{"settings":{' + b",".join(texts) + b"}}"
        return CachedAnswer(body, tag, is_partial=changed is not None)


def _sections(reader: Reader, names: Sequence[str], form: Form) -> dict[str, Section]:
    """Make the sections of these settings."""
    try:
        passing = filters.Filter.of(form.items)
    except filters.RepeatedFeature as error:
        raise Refusal(400, str(error)) from error
    by_setting = defaultdict[str, list[messages.QueriedRule]](list)
    for rule in reader.rules(names, passing, with_metadata=form.with_metadata):
        by_setting[rule.setting].append(
            messages.QueriedRule(
                raw(rule.value),
                rule.conditions,
                rule.id,
                rule.metadata if form.with_metadata else UNSET,
            )
        )
    return {
        name: Section(
            encode(name) + b":" + encode(messages.QueriedSetting(raw(default), by_setting[name]))
        )
        for name, default in reader.defaults(names).items()
    }


def _without_since(query_string: bytes) -> tuple[bytes, str | None]:
    """Take the parameter ``since`` out, which changes between requests for the same."""
    # Not by a regular expression, which takes longer than all the rest of an answer with 304.
    before, found, after = (b"&" + query_string).rpartition(b"&since=")
    if not found:
        return query_string, None
    since, _, behind = after.partition(b"&")
    return before[1:] + b"&" + behind, since.decode("latin-1")


def _parse_query(parameters: Mapping[str, str]) -> Query:
    names = parameters.get("settings")
    with_metadata = flag(parameters, "include_metadata")
    try:
        wanted = None if names is None else filters.parse_setting_names(names)
        items = filters.parse_filters(parameters.get("context_filters", "*"))
    except filters.MalformedParameter as error:
        raise malformed(str(error)) from error
    return Query(
        None if wanted is None else tuple(sorted(set(wanted))),
        Form(
            None if items is None else tuple(sorted(items, key=lambda item: item.feature)),
            with_metadata,
        ),
    )


# Clients repeat their queries, and parsing takes longer than all other steps.
@lru_cache(_PARSED_QUERIES)
def _parsed(query_string: bytes) -> Query:
    return _parse_query(QueryParams(query_string))


def _tagged(if_none_match: Sequence[str], answer: CachedAnswer) -> Tagged[messages.QueryAnswer]:
    headers = {"ETag": answer.tag}
    if answer.is_partial:
        headers["Heksher-Partial"] = "1"
    if _names_tag(if_none_match, answer.tag):
        return Tagged(status_code=304, headers=headers)
    return Tagged(answer.body, headers=headers, media_type="application/json")


def _canonical(reader: Reader, names: Sequence[str]) -> list[str]:
    found = reader.canonical_names(names)
    unknown = [name for name in dict.fromkeys(names) if name not in found]
    if unknown:
        raise Refusal(404, f"the following are not setting names: {unknown}")
    # Sorted, so that equal answers have equal tags.
    return sorted(set(found.values()))


def _names_tag(header_lines: Sequence[str], tag: str) -> bool:
    """Whether If-None-Match contains *tag*, compared weakly, or is ``*``."""
    header = ",".join(header_lines)
    return header.strip() == "*" or tag in _ENTITY_TAG.findall(header)
