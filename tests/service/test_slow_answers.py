"""Requests whose answers take long to make leave threads and connections to all others."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from typing import Any

import httpx
import pytest
from support.databases import KeptDatabase
from support.service_process import DEADLINE

from heksher.service import create_app
from heksher.service.domain.records import RuleRecord, SettingRecord
from heksher.service.storage import Reader

# More than there are threads, and than there are connections.
MANY = 60

_ALL_SETTINGS = "/settings?include_additional_data=true"


def test_others_are_answered(kept_database: KeptDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    settings, rules = Reader.settings, Reader.rules
    begun, finish = [threading.Event(), threading.Event()], threading.Event()

    def slow_settings(reader: Reader, names: Sequence[str] | None = None) -> list[SettingRecord]:
        if names is None:
            begun[0].set()
            assert finish.wait(DEADLINE)
        return settings(reader, names)

    def slow_rules(*args: Any, **options: Any) -> list[RuleRecord]:
        begun[1].set()
        assert finish.wait(DEADLINE)
        return rules(*args, **options)

    async def statuses(client: httpx.AsyncClient) -> dict[str, int]:
        quick = ["/query", "/context_features", "/settings/a", "/rules/1", "../health"]
        found = {path: (await client.get(path)).status_code for path in quick}
        added = await client.post("/context_features", json={"context_feature": "theme"})
        return {**found, "POST": added.status_code}

    async def test() -> None:
        app = create_app(kept_database.url, ["user"])
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(
                transport=httpx.ASGITransport(app), base_url="http://service/api/v1/"
            ) as client,
        ):
            declaration = {
                "name": "a",
                "type": "int",
                "default_value": 0,
                "configurable_features": ["user"],
            }
            await client.post("/settings/declare", json=declaration)
            await client.post(
                "/rules", json={"setting": "a", "feature_values": {"user": "x"}, "value": 1}
            )
            await client.get("/query")  # it is cached from here on
            monkeypatch.setattr(Reader, "settings", slow_settings)
            monkeypatch.setattr(Reader, "rules", slow_rules)
            slow = [_ALL_SETTINGS, "/settings"] * MANY
            slow += [f"/query?context_filters=user:(u{number})" for number in range(MANY)]
            waiting = [asyncio.ensure_future(client.get(path)) for path in slow]
            for each in begun:
                assert await asyncio.to_thread(each.wait, DEADLINE)
            try:
                found = await statuses(client)
            finally:
                finish.set()
                answers = await asyncio.gather(*waiting)
            assert found == dict.fromkeys(found, 200) | {"POST": 204}
            assert {answer.status_code for answer in answers} == {200}

    asyncio.run(test())
