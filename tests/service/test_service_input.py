"""Whatever is sent, the answer is no server's error, and what was kept stays readable."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transcript_replay import Request, call

from heksher.service import create_app

_VALUES = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(),
        st.sampled_from(
            ["a", "user", "int", "1.0", "2.0", "a\n", "\ud800", "\0", "Enum[1]", 2**64]
        ),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=5,
)

# What each route takes, with values that it accepts.
_BODIES: list[tuple[str, str, dict[str, Any]]] = [
    (
        "POST",
        "/settings/declare",
        {
            "name": "a",
            "configurable_features": ["user"],
            "type": "float",
            "default_value": 1,
            "metadata": {"k": 1},
            "alias": None,
            "version": "1.0",
        },
    ),
    (
        "POST",
        "/rules",
        {"setting": "a", "feature_values": {"user": "x"}, "value": 1, "metadata": {}},
    ),
    ("PUT", "/rules/1/value", {"value": 1}),
    ("PATCH", "/rules/1", {"value": 1}),
    ("PUT", "/settings/a/name", {"name": "a", "version": "1.0"}),
    ("POST", "/context_features", {"context_feature": "user"}),
    ("PATCH", "/context_features/user/index", {"to_after": "theme"}),
]
_READS = ["/query?include_metadata=1", "/settings?include_additional_data=1", "/context_features"]


def _statuses(requests: list[tuple[str, str, bytes]]) -> list[int]:
    """The statuses of the answers that a fresh service gives, one request after another."""

    async def main() -> list[int]:
        app = create_app(features=["user", "theme"])
        statuses: list[int] = []
        async with app.router.lifespan_context(app):
            for method, target, body in requests:
                path, mark, query = target.partition("?")
                request = Request(method, f"/api/v1{path}", query if mark else None, [], body)
                statuses.append((await call(app, request)).status)
        return statuses

    return asyncio.run(main())


_START = [(method, path, json.dumps(body).encode()) for method, path, body in _BODIES[:2]]
_END = [("GET", target, b"") for target in _READS]


@pytest.mark.parametrize(("method", "path", "body"), _BODIES, ids=[row[1] for row in _BODIES])
@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_fields_of_any_kind(
    method: str, path: str, body: dict[str, Any], data: st.DataObject
) -> None:
    changed = body | {data.draw(st.sampled_from(sorted(body))): data.draw(_VALUES)}
    requests = [*_START, (method, path, json.dumps(changed).encode()), *_END]
    statuses = _statuses(requests)
    assert max(statuses) < 500
    assert statuses[-len(_END) :] == [200] * len(_END)


@settings(deadline=None, max_examples=100)
@given(
    st.sampled_from(["GET", "DELETE"]),
    st.sampled_from(["/settings/{}", "/rules/{}", "/context_features/{}", "/query?settings={}",
                     "/query?context_filters={}", "/settings?include_additional_data={}",
                     "/rules/search?setting=a&feature_values={}"]),
    st.one_of(st.text(), st.integers().map(str), st.binary()),
)  # fmt: skip
def test_paths_and_queries_of_any_kind(method: str, target: str, text: str | bytes) -> None:
    assert max(_statuses([*_START, (method, target.format(quote(text)), b""), *_END])) < 500


@settings(deadline=None, max_examples=100)
@given(st.binary())
def test_bodies_of_any_bytes(body: bytes) -> None:
    assert max(_statuses([(method, path, body) for method, path, _ in _BODIES])) < 500
