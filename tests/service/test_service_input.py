"""Whatever is sent, the answer is no server's error; a refusal names the field and keeps nothing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any, TypeAlias
from urllib.parse import quote

import pytest
from databases import Database
from hypothesis import given, settings
from hypothesis import strategies as st
from transcript_replay import Answer, Request, call

_VALUES = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(),
        st.sampled_from(
            ["a", "user", "int", "1.0", "2.0", "a\n", "\ud800", "\0", "Enum[1]", 2**64, "n" * 3000]
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
    ("POST", "/rules/1/metadata", {"metadata": {"k": 1}}),
    ("PUT", "/rules/1/metadata", {"metadata": {"k": 1}}),
    ("PUT", "/rules/1/metadata/k", {"value": 1}),
    ("PUT", "/settings/a/name", {"name": "a", "version": "1.0"}),
    ("PUT", "/settings/a/type", {"type": "int", "version": "1.1"}),
    (
        "PUT",
        "/settings/a/configurable_features",
        {"configurable_features": ["user", "theme"], "version": "2.0"},
    ),
    ("POST", "/settings/a/metadata", {"metadata": {"k": 1}, "version": "1.1"}),
    ("PUT", "/settings/a/metadata", {"metadata": {"k": 1}, "version": "1.1"}),
    ("DELETE", "/settings/a/metadata", {"version": "1.1"}),
    ("PUT", "/settings/a/metadata/k", {"value": 1, "version": "1.1"}),
    ("DELETE", "/settings/a/metadata/k", {"version": "1.1"}),
    ("POST", "/context_features", {"context_feature": "environment"}),
    ("PATCH", "/context_features/user/index", {"to_after": "theme"}),
]
_READS = ["/query?include_metadata=1", "/settings?include_additional_data=1", "/context_features"]


_Sent: TypeAlias = tuple[str, str, bytes]


def _answers(database: Database, requests: Sequence[_Sent]) -> list[Answer]:
    """The answers that a fresh service gives, one request after another."""

    async def main() -> list[Answer]:
        app = database.fresh_app(["user", "theme"])
        answers: list[Answer] = []
        async with app.router.lifespan_context(app):
            for method, target, body in requests:
                path, mark, query = target.partition("?")
                request = Request(method, f"/api/v1{path}", query if mark else None, [], body)
                answers.append(await call(app, request))
        return answers

    return asyncio.run(main())


_START = [(method, path, json.dumps(body).encode()) for method, path, body in _BODIES[:2]]
_STATE = [("GET", target, b"") for target in _READS]


def _answer(database: Database, sent: _Sent) -> Answer:
    """The answer to *sent*, after seeing that nothing changed if it is a refusal."""
    answers = _answers(database, [*_START, *_STATE, sent, *_STATE])
    before, (answer, *after) = answers[len(_START) : -len(_STATE) - 1], answers[-len(_STATE) - 1 :]
    assert answer.status < 500
    assert {each.status for each in (*before, *after)} == {200}
    if answer.status >= 400:
        assert [each.body for each in after] == [each.body for each in before]
    return answer


@pytest.mark.parametrize(
    ("method", "path", "body"), _BODIES, ids=[f"{row[0]} {row[1]}" for row in _BODIES]
)
def test_what_each_route_takes_is_taken(
    database: Database, method: str, path: str, body: dict[str, Any]
) -> None:
    if (method, path, body) == _BODIES[1]:
        body = body | {"feature_values": {"user": "y"}}  # "x" has its rule from the start
    assert _answer(database, (method, path, json.dumps(body).encode())).status < 300


@pytest.mark.parametrize(
    ("method", "path", "body"), _BODIES, ids=[f"{row[0]} {row[1]}" for row in _BODIES]
)
@settings(deadline=None, max_examples=20)
@given(data=st.data())
def test_fields_of_any_kind(
    database: Database, method: str, path: str, body: dict[str, Any], data: st.DataObject
) -> None:
    field = data.draw(st.sampled_from(sorted(body)))
    answer = _answer(
        database, (method, path, json.dumps(body | {field: data.draw(_VALUES)}).encode())
    )
    if answer.status == 422:
        assert field in answer.body.decode()


def _given_twice(field: str, body: dict[str, Any]) -> bytes:
    return json.dumps({"\0": body[field], **body}).replace('"\\u0000"', f'"{field}"', 1).encode()


@pytest.mark.parametrize(
    ("method", "path", "body"), _BODIES, ids=[f"{row[0]} {row[1]}" for row in _BODIES]
)
def test_fields_that_are_given_twice(
    database: Database, method: str, path: str, body: dict[str, Any]
) -> None:
    """An application may: its declarations were always read like that."""
    for field in body:
        answer = _answer(database, (method, path, _given_twice(field, body)))
        if path == "/settings/declare":
            assert answer.status == 200
        else:
            assert answer.status == 422
            assert f"the key '{field}' is given twice" in answer.body.decode()


@settings(deadline=None, max_examples=60)
@given(
    method=st.sampled_from(["GET", "DELETE"]),
    target=st.sampled_from(["/settings/{}", "/settings/{}/metadata", "/rules/{}", "/rules/{}/metadata",
                     "/rules/1/metadata/{}", "/context_features/{}", "/query?settings={}",
                     "/query?context_filters={}", "/settings?include_additional_data={}",
                     "/rules/search?setting=a&feature_values={}"]),
    text=st.one_of(st.text(), st.integers().map(str), st.binary()),
)  # fmt: skip
def test_paths_and_queries_of_any_kind(
    database: Database, method: str, target: str, text: str | bytes
) -> None:
    _answer(database, (method, target.format(quote(text)), b""))


@settings(deadline=None, max_examples=60)
@given(body=st.binary())
def test_bodies_of_any_bytes(database: Database, body: bytes) -> None:
    answers = _answers(database, [(method, path, body) for method, path, _ in _BODIES])
    assert max(answer.status for answer in answers) < 500
