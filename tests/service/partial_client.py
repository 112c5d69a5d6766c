"""A client that asks the service, without HTTP, for what is new since its last answer."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from typing import Any
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response

from heksher.service.domain.records import SettingRecord
from heksher.service.storage import Storage
from heksher.service.web.http import Slow
from heksher.service.web.routes.answers import Answers
from heksher.service.web.routes.query import QueryRoute

FEATURES = ["user", "theme"]


def a_setting(name: str, **fields: Any) -> SettingRecord:
    record = SettingRecord(name, "int", "0", "1.0", tuple(FEATURES), {}, ())
    return dataclasses.replace(record, **fields)


def fill(storage: Storage) -> None:
    """Add settings ``a``, ``b`` and ``c``, each with one rule, whose ids are 1 to 3."""
    with storage.writing() as writer:
        for name in "abc":
            writer.add_setting(a_setting(name))
            writer.add_rule(name, "1", {"user": "x"}, {})


class Process:
    """A process of the service, as far as queries are concerned."""

    def __init__(self, storage: Storage) -> None:
        self.storage = storage
        self.query = QueryRoute(storage, Answers(storage))


class Client:
    """What a client has, and the query that it repeats.

    Attributes:
        since: the revision of the last answer.
        tag: the ETag of the last answer.
        sections: the sections of all settings.
        features: the context features, read after each answer that does not vouch for them.
    """

    def __init__(self, **query: str) -> None:
        self._query = query
        self.since: str | None = None
        self.tag = '"none"'
        self.sections: dict[str, Any] = {}
        self.features: list[str] = []

    def ask(self, process: Process) -> tuple[str, dict[str, Any]]:
        """Return what kind of answer it is, and its sections."""
        since = {} if self.since is None else {"since": self.since}
        query_string = urlencode(self._query | since).encode()
        headers = [(b"if-none-match", self.tag.encode())]
        request = Request({"type": "http", "query_string": query_string, "headers": headers})
        found = asyncio.run(process.query.get(request))
        response: Response = found.work() if isinstance(found, Slow) else found
        self.since = response.headers["heksher-revision"]
        self.tag = response.headers["etag"]
        is_partial = response.headers.get("heksher-partial") == "1"
        if not is_partial:
            with process.storage.reading() as reader:
                self.features = reader.features()
        if response.status_code == 304:
            return "unchanged", {}
        sections = json.loads(bytes(response.body))["settings"]
        if is_partial:
            self.sections = self.sections | sections
            return "partial", sections
        self.sections = sections
        return "whole", sections
