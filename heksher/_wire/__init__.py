"""The service's HTTP API v1 without I/O: which requests to send, and how to read their responses.

An `Exchange` pairs a `Request` with the function that reads its `Response`. Nothing in this package opens
a connection, keeps state, or knows a URL beyond the path, a client, a backend or a setting. The form
of a body is a msgspec type; a body that differs from it is an `InvalidResponseError`.

Other packages import from here; the modules of this package import one another directly.
"""

from __future__ import annotations

from heksher._wire.declarations import Declaration, DeclarationAnswer, Difference, declare
from heksher._wire.decoding import Batch, bounded, split
from heksher._wire.errors import unexpected_status
from heksher._wire.lookups import ContextFeatures, context_features, health, setting, settings
from heksher._wire.messages import Exchange, Request, Response
from heksher._wire.queries import (
    MAX_QUERY_LENGTH,
    KnownSections,
    QueryAnswer,
    RuleData,
    Section,
    UnknownNames,
    decode_section,
    encode_context_filters,
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
    "redirected",
    "bounded",
    "split",
    "health",
    "ContextFeatures",
    "context_features",
    "setting",
    "settings",
    "Declaration",
    "DeclarationAnswer",
    "Difference",
    "declare",
    "MAX_QUERY_LENGTH",
    "encode_context_filters",
    "split_names",
    "query_target",
    "query",
    "KnownSections",
    "QueryAnswer",
    "UnknownNames",
    "decode_section",
    "Section",
    "Batch",
    "RuleData",
]
