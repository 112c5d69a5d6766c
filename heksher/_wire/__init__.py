"""The service's HTTP API v1 without I/O: what to send, and what an answer means.

An `Exchange` pairs a `Request` with the function that reads its `Response`. Nothing here opens a
connection, knows a URL beyond the path, or keeps state. JSON by msgspec; what a body must look like
is stated as types, and a body that differs is an `InvalidResponseError`.

This module is the door: other packages import from here. Modules in here import one another.
"""

from __future__ import annotations

from heksher._wire.declarations import (
    Declaration,
    DeclarationAnswer,
    Difference,
    Outcome,
    declare,
)
from heksher._wire.decoding import Undecoded
from heksher._wire.errors import retry_after, unexpected_status
from heksher._wire.lookups import context_features, health, settings
from heksher._wire.messages import Exchange, Request, Response
from heksher._wire.queries import (
    MAX_QUERY_LENGTH,
    NotModified,
    QueryAnswer,
    RuleData,
    Section,
    UnknownNames,
    UnreadSection,
    open_section,
    query,
    query_target,
    split_names,
)
from heksher._wire.redirects import redirected

__all__ = [
    "Request",
    "Response",
    "Exchange",
    "unexpected_status",
    "retry_after",
    "redirected",
    "Undecoded",
    "health",
    "context_features",
    "settings",
    "Declaration",
    "DeclarationAnswer",
    "Difference",
    "Outcome",
    "declare",
    "MAX_QUERY_LENGTH",
    "RuleData",
    "Section",
    "UnreadSection",
    "QueryAnswer",
    "NotModified",
    "UnknownNames",
    "open_section",
    "query",
    "query_target",
    "split_names",
]
