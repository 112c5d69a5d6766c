"""Route of the query: what clients poll."""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import lru_cache

import msgspec
from msgspec import UNSET
from starlette.datastructures import QueryParams
from starlette.requests import Request

from heksher.service.domain import filters, messages
from heksher.service.domain.refusals import Refusal, malformed
from heksher.service.storage import Reader, Storage
from heksher.service.web.http import Call, Tagged, flag
from heksher.service.web.query_cache import CachedAnswer, Query, QueryCache
from heksher.service.web.routes.stored import raw

_ENTITY_TAG = re.compile(r'(?:\A|,)\s*(?:W/)?("[^"]*")\s*(?=,|\Z)')

# Maximum number of query strings whose parsed form is cached.
_PARSED_QUERIES = 256


class QueryRoute:
    """Handlers for the query, which returns default values and rules."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._cache = QueryCache()

    def get(self, call: Call) -> Tagged[messages.QueryAnswer]:
        """Return the requested settings, each with the rules that pass the filters."""
        query = _parse_query(call.query)
        # Read before the data, so that the data is never older than the revision it is cached under.
        revision = self._storage.revision()
        answer = self._cache.get_or_make(query, revision, lambda: self._make(query))
        return _response(answer, call.if_none_match)

    def get_nowait(self, request: Request) -> Tagged[messages.QueryAnswer] | None:
        """Answer like `get` if that needs no waiting; None otherwise."""
        query = _parsed(request.scope["query_string"])
        revision = self._storage.revision_nowait()
        answer = None if revision is None else self._cache.get(query, revision)
        if answer is None:
            return None
        return _response(answer, request.headers.getlist("if-none-match"))

    def _make(self, query: Query) -> CachedAnswer:
        with self._storage.reading() as reader:
            names = None if query.names is None else _canonical(reader, query.names)
            try:
                passing = filters.Filter.of(query.items)
            except filters.RepeatedFeature as error:
                raise Refusal(400, str(error)) from error
            defaults = reader.defaults(names)
            rules = reader.rules(names, with_metadata=query.with_metadata)
        by_setting = defaultdict[str, list[messages.QueriedRule]](list)
        for rule in rules:
            if passing.passes(rule.conditions):
                by_setting[rule.setting].append(
                    messages.QueriedRule(
                        raw(rule.value),
                        rule.conditions,
                        rule.id,
                        rule.metadata if query.with_metadata else UNSET,
                    )
                )
        answer = messages.QueryAnswer(
            {
                name: messages.QueriedSetting(raw(default), by_setting[name])
                for name, default in defaults.items()
            }
        )
        body = msgspec.json.encode(answer)
        return CachedAnswer(body, f'"{hashlib.blake2b(body, digest_size=16).hexdigest()}"')


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
        None if items is None else tuple(sorted(items, key=lambda item: item.feature)),
        with_metadata,
    )


# Clients repeat their queries, and parsing takes longer than all other steps.
@lru_cache(_PARSED_QUERIES)
def _parsed(query_string: bytes) -> Query:
    return _parse_query(QueryParams(query_string))


def _response(answer: CachedAnswer, if_none_match: Sequence[str]) -> Tagged[messages.QueryAnswer]:
    headers = {"ETag": answer.tag}
    if _names_tag(if_none_match, answer.tag):
        return Tagged(status_code=304, headers=headers)
    return Tagged(answer.body, headers=headers, media_type="application/json")


def _canonical(reader: Reader, names: Sequence[str]) -> list[str]:
    found = reader.canonical_names(names)
    unknown = [name for name in dict.fromkeys(names) if name not in found]
    if unknown:
        raise Refusal(404, f"the following are not setting names: {unknown}")
    return list(dict.fromkeys(found.values()))


def _names_tag(header_lines: Sequence[str], tag: str) -> bool:
    """Whether If-None-Match contains *tag*, compared weakly, or is ``*``."""
    header = ",".join(header_lines)
    return header.strip() == "*" or tag in _ENTITY_TAG.findall(header)
