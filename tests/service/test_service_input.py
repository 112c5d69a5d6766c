"""No request causes a server error, and a refusal names the field and stores nothing."""

from __future__ import annotations

import asyncio
import json
import math
import random
import string
from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.databases import Database, KeptDatabase
from transcript_replay import AS_JSON, Answer, Request, call

from heksher.service import create_app
from heksher.service.storage import tables

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

# The fields of each route, with valid values.
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
    """Send requests to a new service one after another; return the answers."""

    async def main() -> list[Answer]:
        app = database.fresh_app(["user", "theme"])
        answers: list[Answer] = []
        async with app.router.lifespan_context(app):
            for method, target, body in requests:
                path, mark, query = target.partition("?")
                request = Request(method, f"/api/v1{path}", query if mark else None, AS_JSON, body)
                answers.append(await call(app, request))
        return answers

    return asyncio.run(main())


_NEW_CONDITIONS = {"feature_values": {"user": "y"}}  # "x" has a rule from the start
_START = [(method, path, json.dumps(body).encode()) for method, path, body in _BODIES[:2]]
_STATE = [("GET", target, b"") for target in _READS]


def _answer(database: Database, sent: _Sent) -> Answer:
    """Send *sent* and return the answer. If it is a refusal, check that nothing has changed."""
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
        body = body | _NEW_CONDITIONS
    assert _answer(database, (method, path, json.dumps(body).encode())).status < 300


@pytest.mark.parametrize(
    ("method", "path", "body"), _BODIES, ids=[f"{row[0]} {row[1]}" for row in _BODIES]
)
@settings(deadline=None, max_examples=12)
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
    """Declarations may have duplicate keys, because they have always been accepted."""
    for field in body:
        answer = _answer(database, (method, path, _given_twice(field, body)))
        if path == "/settings/declare":
            assert answer.status == 200
        else:
            assert answer.status == 422
            assert f"duplicate key '{field}'" in answer.body.decode()


# --- values that no field accepts --------------------------------------------------------------------

_LONG = "".join(random.Random(0).choices(string.ascii_letters + string.digits, k=2651))
_NO_TEXTS = [None, [], ["a"], {}, {"a": "b"}, math.nan, math.inf]
_NO_WORDS = [*_NO_TEXTS, "", "a b", "a\n", "é", "a\0", "\0", "\ud800", "a:b"]
_NO_PAIRS: list[Any] = [["a"], [1], [[]], [["a"]], [["a", 1, 2]], [[None, 1]]]
_NO_OBJECTS = [None, 1, True, "a", "\ud800", *_NO_PAIRS]
_NO_NUMBERS_TO_KEEP = [2**64, -(2**63) - 1, math.nan, math.inf, -math.inf]
_NO_FLOATS = [*_NO_NUMBERS_TO_KEEP, None, True, "1", "\0", "\ud800", [], [1], {}, {"a": 1}]
_NO_METADATA_VALUES = [
    *_NO_NUMBERS_TO_KEEP,
    *("\0", "a\0", "\ud800", "\udfff"),
    *({"\0": 1}, {"\ud800": 1}, {"a": ["\0"]}, [[{"a": [2**64]}]], {"a": {"b": math.nan}}),
]
# For all fields except values of rules and metadata, which differ by route.
_NONE_OF_A_FIELD: dict[str, list[Any]] = {
    "name": [*_NO_WORDS, _LONG],
    "alias": [each for each in _NO_WORDS if each is not None] + ["a", _LONG],
    "setting": [*_NO_WORDS, "nothing", _LONG],
    "context_feature": [*_NO_WORDS, "a.b", 0.5, _LONG],
    "to_after": [*_NO_TEXTS, "nothing", "\0", "\ud800", _LONG],
    "version": [*_NO_WORDS, "1", "1.0.0", "1.0\n", "1.٣", "-1.0", 1, 2**64, "9" * 5000 + ".0", True],
    "type": [*_NO_WORDS, "integer", "Enum", "Enum[", "Enum[[1]]", "Enum[NaN]", 'Enum["\ud800"]',
             "Enum[" + "[" * 9000, "Flags[{}]", "Flags[null]", "Sequence<>", "Mapping<int",
             "Sequence<" * 9000 + "int" + ">" * 9000],
    "configurable_features": [None, "user", {}, {"user": 1}, [], [None], ["user", []], [{}],
                              ["nothing"], ["user", "\0"], ["\ud800"], [_LONG]],
    "default_value": _NO_FLOATS,
    "metadata": [*_NO_OBJECTS, *({"k": each} for each in _NO_METADATA_VALUES),
                 *({key: 1} for key in ("", "a b", "a\n", "é", "\0", "\ud800", "a.b", _LONG))],
    "feature_values": [*_NO_OBJECTS, {}, [], *({"user": each} for each in _NO_WORDS),
                       *({each: "y"} for each in ("", "a b", "é", "\0", "\ud800", "nothing", _LONG))],
}  # fmt: skip
_MAY_BE_MISSING = {"alias", "metadata"}
_BAD_BODIES = [
    (b"", 422),
    (b"{", 422),
    (b"\0", 422),
    (b"null", 422),
    (b'"a"', 422),
    (b"[1]", 422),
    (b"{}" + b" " * 2**20, 413),
    # Errors for which the protocol has its own text.
    (b'{"a": ' + b"[" * 300 + b"]" * 300 + b"}", 400),
    (b'{"a": ' + b"1" * 5000 + b"}", 400),
    (b'{"a": "\xff"}', 400),
]


def _none_of(path: str, field: str) -> list[Any]:
    if field != "value":
        return _NONE_OF_A_FIELD[field]
    return _NO_METADATA_VALUES if "/metadata/" in path else _NO_FLOATS


def _bad_requests(method: str, path: str, body: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Bodies that this route must refuse, each with the field that the refusal must name."""
    for field in body:
        without = {name: value for name, value in body.items() if name != field}
        for value in _none_of(path, field):
            yield field, without | {field: value}
        is_optional = field in _MAY_BE_MISSING or (path, field) == ("/settings/declare", "version")
        if not is_optional:
            yield field, without


@pytest.mark.parametrize(
    ("type_", "value", "place"),
    [
        ("Sequence<str>", ["a", "\ud800"], "[1]"),
        ("Mapping<Sequence<float>>", {"a": [1], "b": [1, math.nan]}, ".b[1]"),
        ("Mapping<int>", {"a": 2**64}, ".a"),
        ("Mapping<int>", {"\ud800": 1}, ""),
    ],
)
def test_the_place_in_a_value_is_named(
    database: Database, type_: str, value: Any, place: str
) -> None:
    default: Any = [] if type_.startswith("S") else {}
    declared = _BODIES[0][2] | {"type": type_, "default_value": default}
    rule = _BODIES[1][2] | {"value": default}
    requests: list[tuple[str, str, Any]] = [
        ("POST", "/settings/declare", declared),
        ("POST", "/rules", rule),
        ("POST", "/settings/declare", declared | {"name": "b", "default_value": value}),
        ("POST", "/rules", rule | {"feature_values": {"user": "y"}, "value": value}),
        ("PUT", "/rules/1/value", {"value": value}),
        ("PUT", "/rules/1/metadata/k", {"value": value}),
        ("PUT", "/rules/1/metadata", {"metadata": {"k": value}}),
    ]
    sent = [(method, path, json.dumps(body).encode()) for method, path, body in requests]
    answers = _answers(database, sent)
    for answer, field in zip(
        answers[2:], ["default_value", "value", "value", "value", "metadata.k"], strict=True
    ):
        assert answer.status == 422
        assert json.loads(answer.body)["detail"][0]["msg"].startswith(f"{field}{place}: ")


def test_what_a_field_does_not_take_is_told_by_its_name_and_leaves_no_trace(
    kept_database: KeptDatabase,
) -> None:
    wrong: list[object] = []

    def stored() -> dict[str, object]:
        names = [table.name for table in tables.metadata.sorted_tables]
        return {name: kept_database.rows(f"SELECT * FROM {name}") for name in names}

    async def main() -> None:
        app = create_app(kept_database.url, ["user", "theme"])

        async def send(method: str, path: str, body: bytes) -> Answer:
            headers = [*AS_JSON, ("content-length", str(len(body)))]
            return await call(app, Request(method, f"/api/v1{path}", None, headers, body))

        async with app.router.lifespan_context(app):
            for method, path, content in _START:
                assert (await send(method, path, content)).status in (200, 201)
            before = stored()
            for method, path, body in _BODIES:
                if path in ("/settings/declare", "/rules"):
                    # Names that would be new.
                    body = body | {"name": "b"} if "name" in body else body | _NEW_CONDITIONS
                for field, bad in _bad_requests(method, path, body):
                    answer = await send(method, path, json.dumps(bad).encode())
                    names = answer.status in (404, 409) or field in answer.body.decode()
                    if not (400 <= answer.status < 500 and names):
                        wrong.append((method, path, field, bad, answer))
                for bad_body, status in _BAD_BODIES:
                    answer = await send(method, path, bad_body)
                    if answer.status != status:
                        wrong.append((method, path, bad_body[:20], answer))
                assert stored() == before, path
            health = await call(app, Request("GET", "/api/health", None, [], b""))
            assert health.status == 200

    asyncio.run(main())
    assert wrong == []


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
