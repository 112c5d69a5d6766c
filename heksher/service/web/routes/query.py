"""The query: what clients poll."""

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

from heksher.service.domain import filters
from heksher.service.domain import messages as types
from heksher.service.domain.refusals import Refusal, malformed
from heksher.service.storage import Reader, Storage
from heksher.service.web.http import Call, Tagged, flag
from heksher.service.web.query_cache import Answer, QueryCache, Question
from heksher.service.web.routes.stored import raw

_ENTITY_TAG = re.compile(r'(?:\A|,)\s*(?:W/)?("[^"]*")\s*(?=,|\Z)')

# How many questions are remembered as they were read.
_QUESTIONS = 256


class Query:
    """What clients poll: default values and rules."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._cache = QueryCache()

    def get(self, call: Call) -> Tagged[types.QueryAnswer]:
        """The settings asked for, each with the rules that pass the filters."""
        question = _question(call.query)
        # Before the data, so that these are never older than what they are kept under.
        revision = self._storage.revision()
        answer = self._cache.get_or_make(question, revision, lambda: self._make(question))
        return _response(answer, call.if_none_match)

    def get_at_once(self, request: Request) -> Tagged[types.QueryAnswer] | None:
        """What `get` would answer, if nothing has to be waited for."""
        question = _known_question(request.scope["query_string"])
        revision = self._storage.revision_at_once()
        answer = None if revision is None else self._cache.get(question, revision)
        if answer is None:
            return None
        return _response(answer, request.headers.getlist("if-none-match"))

    def _make(self, question: Question) -> Answer:
        with self._storage.reading() as reader:
            names = None if question.names is None else _canonical(reader, question.names)
            try:
                passing = filters.Filter.of(question.items)
            except filters.RepeatedFeature as error:
                raise Refusal(400, str(error)) from error
            defaults = reader.defaults(names)
            rules = reader.rules(names, with_metadata=question.with_metadata)
        by_setting = defaultdict[str, list[types.QueriedRule]](list)
        for rule in rules:
            if passing.passes(rule.conditions):
                by_setting[rule.setting].append(
                    types.QueriedRule(
                        raw(rule.value),
                        rule.conditions,
                        rule.id,
                        rule.metadata if question.with_metadata else UNSET,
                    )
                )
        answer = types.QueryAnswer(
            {
                name: types.QueriedSetting(raw(default), by_setting[name])
                for name, default in defaults.items()
            }
        )
        body = msgspec.json.encode(answer)
        return Answer(body, f'"{hashlib.blake2b(body, digest_size=16).hexdigest()}"')


def _question(parameters: Mapping[str, str]) -> Question:
    names = parameters.get("settings")
    with_metadata = flag(parameters, "include_metadata")
    try:
        wanted = None if names is None else filters.parse_setting_names(names)
        items = filters.parse_filters(parameters.get("context_filters", "*"))
    except filters.MalformedParameter as error:
        raise malformed(str(error)) from error
    return Question(
        None if wanted is None else tuple(sorted(set(wanted))),
        None if items is None else tuple(sorted(items, key=lambda item: item.feature)),
        with_metadata,
    )


# Clients repeat themselves, and reading takes longer than all else.
@lru_cache(_QUESTIONS)
def _known_question(query_string: bytes) -> Question:
    return _question(QueryParams(query_string))


def _response(answer: Answer, if_none_match: Sequence[str]) -> Tagged[types.QueryAnswer]:
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
    """Whether If-None-Match names *tag*, compared weakly, or everything."""
    header = ",".join(header_lines)
    return header.strip() == "*" or tag in _ENTITY_TAG.findall(header)
