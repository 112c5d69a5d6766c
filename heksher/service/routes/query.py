"""The query: what clients poll."""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Sequence

import msgspec
from starlette.responses import Response

from heksher.service import filters
from heksher.service.errors import Refusal, malformed
from heksher.service.http import Call
from heksher.service.records import RuleRecord
from heksher.service.routes.stored import raw
from heksher.service.storage import Reader, Storage

_ENTITY_TAG = re.compile(r'(?:\A|,)\s*(?:W/)?("[^"]*")\s*(?=,|\Z)')


class Query:
    """What clients poll: default values and rules."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def get(self, call: Call) -> Response:
        """The settings asked for, each with the rules that pass the filters."""
        with_metadata = call.flag("include_metadata")
        names = call.query.get("settings")
        try:
            wanted = None if names is None else filters.parse_setting_names(names)
            items = filters.parse_filters(call.query.get("context_filters", "*"))
        except filters.MalformedParameter as error:
            raise malformed(str(error)) from error
        with self._storage.reading() as reader:
            canonical = None if wanted is None else _canonical(reader, wanted)
            try:
                passing = filters.Filter.of(items)
            except filters.RepeatedFeature as error:
                raise Refusal(400, str(error)) from error
            defaults = reader.defaults(canonical)
            rules = reader.rules(canonical, with_metadata=with_metadata)
        by_setting: defaultdict[str, list[dict[str, object]]] = defaultdict(list)
        for rule in rules:
            if passing.passes(rule.conditions):
                by_setting[rule.setting].append(_queried(rule, with_metadata=with_metadata))
        body = msgspec.json.encode(
            {
                "settings": {
                    name: {"default_value": raw(default), "rules": by_setting[name]}
                    for name, default in defaults.items()
                }
            }
        )
        tag = f'"{hashlib.blake2b(body, digest_size=16).hexdigest()}"'
        if _names_tag(call.if_none_match, tag):
            return Response(status_code=304, headers={"ETag": tag})
        return Response(body, headers={"ETag": tag}, media_type="application/json")


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


def _queried(rule: RuleRecord, *, with_metadata: bool) -> dict[str, object]:
    section: dict[str, object] = {
        "value": raw(rule.value),
        "context_features": rule.conditions,
        "rule_id": rule.id,
    }
    if with_metadata:
        section["metadata"] = rule.metadata
    return section
