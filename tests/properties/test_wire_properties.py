"""The protocol's functions with any input: bodies, redirects, and any number of names."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from hypothesis import event, example, given
from hypothesis import strategies as st
from support.property_helpers import modest
from support.reading import read_section

from heksher import _wire
from heksher._wire import Declaration, Exchange, Request, Response
from heksher._wire.queries import MAX_QUERY_LENGTH
from heksher.exceptions import HeksherError, InvalidResponseError

pytestmark = pytest.mark.integration

# --- bodies ---------------------------------------------------------------------------------------

EXCHANGES: list[Exchange[Any]] = [
    _wire.health(),
    _wire.context_features(),
    _wire.settings(),
    _wire.declare(Declaration("a", "int", ("user",), 1)),
    _wire.query(["a"], None, '"t"'),
]
#: The keys of the protocol, so that some of the JSON is nearly valid.
KEYS = st.sampled_from(
    [
        "version",
        "context_features",
        "settings",
        "name",
        "type",
        "default_value",
        "configurable_features",
        "metadata",
        "aliases",
        "outcome",
        "differences",
        "level",
        "attribute",
        "latest_value",
        "message",
        "rules",
        "value",
        "rule_id",
    ]
)
ATOMS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=5),
    st.sampled_from(["created", "mismatch", "minor", "user", "1.0"]),
)
JSON = st.recursive(
    ATOMS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=6),
    max_leaves=25,
)
bodies = st.one_of(
    st.binary(),
    JSON.map(lambda value: json.dumps(value).encode()),
    st.dictionaries(KEYS, JSON, max_size=6).map(lambda value: json.dumps(value).encode()),
    st.tuples(JSON.map(json.dumps), st.binary(max_size=3)).map(
        lambda two: two[0].encode() + two[1]
    ),
)


@modest
@given(bodies, st.text(max_size=5))
@example(b'{"settings":{"a":' + b"9" * 5000 + b"}}", "")
@example(b"[" * 100_000, "")
def test_no_body_does_more_than_an_error_of_the_library(body: bytes, etag: str) -> None:
    for exchange in EXCHANGES:
        for status in exchange.request.expected:
            failure = failure_of(exchange, Response(status, {"etag": etag}, body))
            event(type(failure).__name__)
            assert len(str(failure)) < 2000
    try:
        read_section(body)
    except InvalidResponseError:
        pass


def failure_of(exchange: Exchange[Any], response: Response) -> HeksherError | None:
    try:
        exchange.read(response)
    except HeksherError as error:
        return error
    return None


@modest
@given(bodies, st.integers(100, 599), st.text(max_size=20))
def test_every_unexpected_status_can_be_told(body: bytes, status: int, retry_after: str) -> None:
    response = Response(status, {"retry-after": retry_after}, body)
    error = _wire.unexpected_status(EXCHANGES[0].request, response)
    assert error.status == status
    assert error.retry_after is None or error.retry_after >= 0
    assert len(str(error)) < 1000


# --- redirects ------------------------------------------------------------------------------------

BASES = ("http://heksher:8000/", "http://heksher/base/", "https://heksher/a/b/")
MARKS = ["http", "https", "HTTP", "ftp", "javascript", ":", "/", "//", "\\", "@", ";", "?", "#"]
DOTS = [".", "..", "../", "/../", "./", "%2e", "%2E%2e", "%2f", "%5c", "%00"]
HOSTS = ["heksher", "evil", "heksher.evil", "evil@", "user:password@", ":80", ":8000", "[::1]", "["]
PATHS = ["base", "a", "b", "api", "/base/", "/a/b/", "/a/b", *BASES, "//heksher/base/"]
BLANKS = ["", " ", "\t", "\n", "\r", "\x00", "\x7f", "\u2100", "\u3002", "é"]
PIECES = st.sampled_from([*MARKS, *DOTS, *HOSTS, *PATHS, *BLANKS])
locations = st.one_of(
    st.text(),
    st.lists(PIECES, max_size=10).map("".join),
    st.tuples(st.sampled_from(BASES), st.lists(PIECES, max_size=8).map("".join)).map("".join),
)


@modest
@given(st.sampled_from(BASES), locations, st.sampled_from([301, 302, 307, 308]))
@example("http://heksher/base/", "http://heksher/base/../x", 307)
@example("http://heksher/base/", "http://heksher/base/%2e%2e/x", 307)
@example("http://heksher/base/", "http://[::1", 307)
@example("http://heksher/base/", "//heksher/base/a/../../x", 307)
def test_no_redirect_leads_out_of_the_services_address(
    base_url: str, location: str, status: int
) -> None:
    request = Request("GET", "api/v1/query?settings=a", (("authorization", "secret"),))
    moved = _wire.redirected(base_url, request, Response(status, {"location": location}))
    if moved is None:
        event("not followed")
        return
    assert (moved.method, moved.headers, moved.body) == ("GET", request.headers, None)
    base = httpx.URL(base_url)
    try:
        # The parser of the HTTP client, which is not the one that `redirected` uses.
        there = httpx.URL(base_url + moved.target)
    except httpx.InvalidURL:
        event("followed to nowhere")
        return
    event("followed")
    assert (there.scheme, there.host, there.port) == (base.scheme, base.host, base.port)
    assert there.userinfo == b""
    assert there.path.startswith(base.path)
    assert ".." not in there.path.replace("\\", "/").split("/")


# --- long queries ---------------------------------------------------------------------------------

names = st.text("abc_.1", min_size=1, max_size=30) | st.text(min_size=1, max_size=10)
long_names = st.integers(1, 8000).map("x".__mul__)


@modest
@given(
    st.lists(names | long_names, max_size=40),
    st.one_of(st.none(), st.text("ab:*(),", max_size=30), st.integers(0, 8000).map("y".__mul__)),
)
def test_splitting_keeps_each_name_once_and_every_part_short(
    all_names: list[str], filters: str | None
) -> None:
    parts = _wire.split_names(all_names, filters)
    assert [name for part in parts for name in part] == all_names
    assert () not in parts
    for part in parts:
        target = _wire.query_target(part, filters)
        assert len(target) <= MAX_QUERY_LENGTH or len(part) == 1
        assert target.isascii() and target.isprintable()


@modest
@given(st.lists(names, min_size=1, max_size=5), st.text("ab:*(), &=#é", max_size=20))
def test_a_query_is_read_back_as_it_was_meant(all_names: list[str], filters: str) -> None:
    read = httpx.URL("http://heksher/" + _wire.query_target(all_names, filters)).params
    assert dict(read) == {"settings": ",".join(all_names), "context_filters": filters}
