"""Unit tests of `old_application` as teams have written them for heksher-py 0.2.2. pytest runs them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from unittest.mock import AsyncMock, MagicMock

import pytest
from old_application import Color, background, cache_ttl, colors

from heksher.clients.stub import AsyncStubHeksherClient, Rule, SyncStubHeksherClient


@pytest.fixture
def stub() -> Iterator[SyncStubHeksherClient]:
    with SyncStubHeksherClient("http://nowhere", 60, ["environment", "user", "theme"]) as client:
        yield client


def test_patch(stub: SyncStubHeksherClient) -> None:
    with stub.patch(background, Color.RED):
        assert background.get(theme="any") is Color.RED
    assert background.get(theme="any") is Color.BLUE


def test_patch_with_rules(stub: SyncStubHeksherClient) -> None:
    stub.set_defaults(environment="dev")
    rules = [Rule({"environment": None, "user": "jim"}, 5), Rule({"environment": "prod"}, 7)]
    with stub.patch(cache_ttl, rules):
        assert cache_ttl.get(user="jim") == 5
        assert cache_ttl.get(user="eve") == 60
        assert cache_ttl.get(environment="prod", user="eve") == 7


def test_monkeypatch(stub: SyncStubHeksherClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stub[cache_ttl], "rules", [Rule({"user": "jim"}, 5)])
    assert cache_ttl.get(environment="dev", user="jim") == 5


def test_rules_by_assignment(stub: SyncStubHeksherClient) -> None:
    before = stub[cache_ttl].rules
    stub[cache_ttl].rules = 9
    assert cache_ttl.get(environment="dev", user="jim") == 9
    stub[cache_ttl].rules = before
    assert cache_ttl.get(environment="dev", user="jim") == 60


def test_a_value_that_is_a_collection(stub: SyncStubHeksherClient) -> None:
    stub[colors].rules = (Color.RED,)
    assert colors.get(user="jim") == (Color.RED,)


def test_what_is_missing(stub: SyncStubHeksherClient) -> None:
    stub[cache_ttl].rules = 9
    with pytest.raises(RuntimeError):
        cache_ttl.get()
    with pytest.raises((TypeError, ValueError), match="usr"):
        cache_ttl.get(usr="jim")


def test_mocks(stub: SyncStubHeksherClient) -> None:
    stub.track_contexts(user="jim")
    stub.reload()
    stub.reload.assert_called_once_with()
    assert all(isinstance(mock, MagicMock) for mock in (stub.reload, stub.ping, stub.close))


def test_asynchronous_stub() -> None:
    async def body() -> None:
        async with AsyncStubHeksherClient() as client:
            client[cache_ttl].rules = 5
            await client.reload()
            await client.ping()
            client.reload.assert_awaited_once()
            assert isinstance(client.aclose, AsyncMock)
            assert cache_ttl.get(environment="dev", user="jim") == 5

    asyncio.run(body())
