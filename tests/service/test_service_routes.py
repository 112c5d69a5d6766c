"""What the recordings do not cover: methods of paths, locations of rules, unusual names."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from support.databases import Database
from transcript_replay import AS_JSON, Answer, Request, call

_DECLARED = {"name": "a", "configurable_features": ["user"], "type": "int", "default_value": 1}
_RULE = {"setting": "a", "feature_values": {"user": "x"}, "value": 2}


def _answers(database: Database, *requests: tuple[str, str, Any]) -> list[Answer]:
    """Declare a setting ``a``, add a rule, and return the answers to further requests."""

    async def main() -> list[Answer]:
        app = database.fresh_app(["user", "theme"])
        answers: list[Answer] = []
        async with app.router.lifespan_context(app):
            start = [("POST", "/settings/declare", _DECLARED), ("POST", "/rules", _RULE)]
            for method, path, body in (*start, *requests):
                content = b"" if body is None else json.dumps(body).encode()
                path, _, query = path.partition("?")
                request = Request(method, f"/api/v1{path}", query or None, AS_JSON, content)
                answers.append(await call(app, request))
        return answers[len(start) :]

    return asyncio.run(main())


@pytest.mark.parametrize(
    ("path", "methods"),
    [
        ("/context_features", "GET, POST"),
        ("/context_features/user", "DELETE, GET"),
        ("/context_features/user/index", "PATCH"),
        ("/settings", "GET"),
        ("/settings/declare", "DELETE, GET, POST"),
        ("/settings/a", "DELETE, GET"),
        ("/settings/a/name", "PUT"),
        ("/settings/a/type", "PUT"),
        ("/settings/a/configurable_features", "PUT"),
        ("/settings/a/metadata", "DELETE, GET, POST, PUT"),
        ("/settings/a/metadata/k", "DELETE, PUT"),
        ("/rules", "POST"),
        ("/rules/1", "DELETE, GET, PATCH"),
        ("/rules/1/value", "PUT"),
        ("/rules/1/metadata", "DELETE, GET, POST, PUT"),
        ("/rules/1/metadata/k", "DELETE, PUT"),
        ("/query", "GET"),
    ],
)
def test_allow_names_all_methods_of_a_path(database: Database, path: str, methods: str) -> None:
    (answer,) = _answers(database, ("TRACE", path, None))
    assert (answer.status, answer.headers["allow"]) == (405, methods)


def test_the_location_of_a_new_rule_leads_to_it(database: Database) -> None:
    new = _RULE | {"feature_values": {"user": "y"}}
    (created,) = _answers(database, ("POST", "/rules", new))
    location = created.headers["location"].removeprefix("/api/v1")
    _, found = _answers(database, ("POST", "/rules", new), ("GET", location, None))
    assert json.loads(found.body)["feature_values"] == [["user", "y"]]


@pytest.mark.parametrize("name", ["declare", "search", "metadata", "query"])
def test_settings_named_like_routes_are_changed_like_others(database: Database, name: str) -> None:
    *changed, found, deleted = _answers(
        database,
        ("POST", "/settings/declare", _DECLARED | {"name": name}),
        ("PUT", f"/settings/{name}/metadata/k", {"value": 1, "version": "1.1"}),
        (
            "PUT",
            f"/settings/{name}/configurable_features",
            {"configurable_features": ["theme"], "version": "2.0"},
        ),
        ("GET", f"/settings/{name}", None),
        ("DELETE", f"/settings/{name}", None),
    )
    assert [answer.status for answer in (*changed, deleted)] == [200, 204, 204, 204]
    assert json.loads(found.body) == {
        "name": name,
        "configurable_features": ["theme"],
        "type": "int",
        "default_value": 1,
        "metadata": {"k": 1},
        "aliases": [],
        "version": "2.0",
    }


def test_settings_are_listed_by_names_and_aliases(database: Database) -> None:
    renamed = {"name": "new", "version": "1.0"}
    other = {**_DECLARED, "name": "other"}
    listed = "/settings?include_additional_data=1&settings="
    _, _, found, short, nothing, malformed = _answers(
        database,
        ("POST", "/settings/declare", other),
        ("PUT", "/settings/a/name", renamed),
        ("GET", f"{listed}a,unknown,new", None),
        ("GET", "/settings?settings=other,a", None),
        ("GET", listed, None),
        ("GET", f"{listed}a,,b", None),
    )
    (setting,) = json.loads(found.body)["settings"]
    assert (setting["name"], setting["aliases"]) == ("new", ["a"])
    assert [sorted(each) for each in json.loads(short.body)["settings"]] == [
        ["default_value", "name", "type", "version"]
    ] * 2
    assert json.loads(nothing.body) == {"settings": []}
    assert malformed.status == 422


def test_any_change_gives_another_revision_and_nothing_else_does(database: Database) -> None:
    listed = "/settings?settings=a"
    lists = [("GET", path, None) for path in ("/context_features", listed, "/query", "/query")]
    move = ("PATCH", "/context_features/user/index", {"to_after": "theme"})
    change = ("PUT", "/rules/1/value", {"value": 3})
    answers = _answers(database, *lists, move, *lists, change, *lists)
    revisions = [answer.headers.get("heksher-revision") for answer in answers]
    first, second, third = (set(revisions[begin : begin + 4]) for begin in (0, 5, 10))
    assert len(first | second | third) == 3
    assert None not in first | second | third
    # A cache that keeps the revision of a stored answer, while its ETag is the same, misleads no one.
    tags = [answer.headers.get("etag") for answer in answers]
    assert tags[2] == tags[3] != tags[7]


def test_another_database_has_other_revisions(database: Database) -> None:
    seen = {
        _answers(database, ("GET", "/query", None))[0].headers["heksher-revision"] for _ in range(3)
    }
    assert len(seen) == 3


def test_metadata_that_is_loosely_equal_is_stored(database: Database) -> None:
    """A declaration would not change this, but the route does."""
    *_, setting, rule = _answers(
        database,
        ("PUT", "/settings/a/metadata", {"metadata": {"k": 1}, "version": "1.1"}),
        ("PUT", "/settings/a/metadata", {"metadata": {"k": True}, "version": "1.2"}),
        ("PUT", "/rules/1/metadata", {"metadata": {"k": 1}}),
        ("PUT", "/rules/1/metadata/k", {"value": True}),
        ("GET", "/settings/a/metadata", None),
        ("GET", "/rules/1/metadata", None),
    )
    assert setting.body == rule.body == b'{"metadata":{"k":true}}'


def test_a_value_of_the_wrong_type_is_told_apart_from_one_that_cannot_be_kept(
    database: Database,
) -> None:
    answers = _answers(
        database,
        ("PUT", "/rules/1/value", {"value": "\ud800"}),
        ("PUT", "/rules/1/value", {"value": 2**64}),
        ("PUT", "/rules/2/value", {"value": 2**64}),
    )
    assert [answer.status for answer in answers] == [400, 422, 404]
