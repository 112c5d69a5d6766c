"""Length limits of names: longer ones are refused before anything is stored."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import random
import string
from typing import Any

import pytest
from starlette.types import ASGIApp
from support.databases import Database
from transcript_replay import AS_JSON, Answer, Request, call

from heksher.service.domain import limits
from heksher.service.domain.messages import Malformed
from heksher.service.domain.records import SettingRecord
from heksher.service.domain.refusals import Refusal

_MOST = limits.MAX_INDEXED


def _unpackable(length: int, seed: int = 0) -> str:
    """A name that cannot be compressed."""
    letters = string.ascii_letters + string.digits
    return "".join(random.Random(seed).choices(letters, k=length))


def _setting(name: str, **more: Any) -> SettingRecord:
    setting = SettingRecord(name, "int", "1", "1.0", ("u",), {}, ())
    return dataclasses.replace(setting, **more)


@pytest.mark.parametrize(
    "setting",
    [
        _setting(_unpackable(_MOST - 1)),
        _setting("a", features=("u", _unpackable(_MOST - 1))),
        _setting("a", metadata={"k": 1, _unpackable(_MOST - 1): 1}),
        _setting("n" * 5000),
        _setting("ab" * 50_000, features=("u" * 5000,)),
    ],
)
def test_settings_that_fit(setting: SettingRecord) -> None:
    limits.check_setting(setting)


@pytest.mark.parametrize(
    ("setting", "field"),
    [
        (_setting(_unpackable(_MOST)), "configurable_features"),
        (_setting("ab", features=("u", _unpackable(_MOST - 1))), "configurable_features"),
        (_setting("ab", metadata={"k": 1, _unpackable(_MOST - 1): 1}), "metadata"),
        (_setting(_unpackable(6000)), "name"),
    ],
)
def test_settings_that_do_not_fit(setting: SettingRecord, field: str) -> None:
    with pytest.raises(Refusal) as info:
        limits.check_setting(setting)
    assert info.value.status == 422
    assert isinstance(info.value.body, Malformed)
    assert field in info.value.body.detail[0].msg


async def _send(app: ASGIApp, method: str, path: str, body: Any = None) -> Answer:
    content = b"" if body is None else json.dumps(body).encode()
    return await call(app, Request(method, f"/api/v1{path}", None, AS_JSON, content))


def test_names_too_long_are_refused_by_every_route_and_nothing_is_kept(database: Database) -> None:
    long = _unpackable(_MOST + 1)
    declared = {"name": "a", "configurable_features": ["u"], "type": "int", "default_value": 1}
    rule = {"setting": "a", "feature_values": {"u": "x"}, "value": 1}
    requests: list[tuple[str, str, Any]] = [
        ("POST", "/context_features", {"context_feature": long}),
        ("POST", "/settings/declare", declared | {"name": long}),
        ("POST", "/settings/declare", declared | {"metadata": {long: 1}, "version": "1.1"}),
        ("POST", "/settings/declare", declared | {"name": long, "alias": "a", "version": "1.1"}),
        ("PUT", "/settings/a/name", {"name": long, "version": "1.1"}),
        ("POST", "/settings/a/metadata", {"metadata": {long: 1}, "version": "1.1"}),
        ("PUT", "/settings/a/metadata", {"metadata": {long: 1}, "version": "1.1"}),
        ("PUT", f"/settings/a/metadata/{long}", {"value": 1, "version": "1.1"}),
        ("POST", "/rules", rule | {"feature_values": {"u": "y"}, "metadata": {long: 1}}),
        ("POST", "/rules/1/metadata", {"metadata": {long: 1}}),
        ("PUT", "/rules/1/metadata", {"metadata": {long: 1}}),
        ("PUT", f"/rules/1/metadata/{long}", {"value": 1}),
    ]

    async def state(app: ASGIApp) -> list[bytes]:
        paths = ("/context_features", "/settings/a", "/settings", "/rules/1", "/query")
        return [(await _send(app, "GET", path)).body for path in paths]

    async def main() -> None:
        app = database.fresh_app(["u"])
        async with app.router.lifespan_context(app):
            await _send(app, "POST", "/settings/declare", declared)
            await _send(app, "POST", "/rules", rule)
            before = await state(app)
            for method, path, body in requests:
                answer = await _send(app, method, path, body)
                assert (answer.status, answer.body[:10]) == (422, b'{"detail":'), (method, path)
                assert b"too long" in answer.body
            assert await state(app) == before

    asyncio.run(main())


def test_values_of_conditions_may_be_of_any_length(database: Database) -> None:
    value = _unpackable(20_000)

    async def main() -> None:
        app = database.fresh_app(["u"])
        async with app.router.lifespan_context(app):
            declared = {"name": "a", "configurable_features": ["u"], "type": "str"}
            await _send(app, "POST", "/settings/declare", declared | {"default_value": "d"})
            rule = {"setting": "a", "feature_values": {"u": value}, "value": "v"}
            assert (await _send(app, "POST", "/rules", rule)).status == 201
            found = json.loads((await _send(app, "GET", "/rules/1")).body)
            assert found["feature_values"] == [["u", value]]

    asyncio.run(main())
