"""Promise three for single faults: clients continue to answer, report the problem, and recover."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from support.harness import Harness

from heksher import Setting
from heksher.exceptions import HeksherError
from heksher.testing import faults as f
from heksher.testing.service import LiveService

FEATURES = ["environment", "user"]
QUERY = "/api/v1/query"
NEVER = 3600.0
#: Request timeout in seconds, for faults that nothing else ends. Short, because tests wait for it, but
#: long enough for a loaded machine to answer correct requests.
TIMEOUT = 0.7

pytestmark = pytest.mark.heksher_service(in_process=True, features=FEATURES)

#: Faults that make an update fail.
BREAKING: list[f.Fault] = [
    f.Delay(),
    f.Status(401),
    f.Status(404),
    f.Status(429, retry_after=1),
    f.Status(500),
    f.Status(503, retry_after="Wed, 21 Oct 2015 07:28:00 GMT"),
    f.Redirect(),
    f.Redirect(QUERY),  # a redirect loop
    f.Close(),
    f.Close(40),
    f.Reset(),
    f.Reset(40),
    f.CutShort(),
    f.CutShort(0),
    f.CutShort(honest=True),
    f.Endless(0.001),
    f.Endless(),
    f.Slow(),
    f.InvalidJson(),
    f.InvalidJson(""),
    f.WrongShape(),
    f.WrongShape("null"),
    f.WrongShape('{"settings": 5}'),
    f.ContentEncoding(),
    f.Bomb(20),
    f.Refuse(),
]

#: Faults that clients tolerate: the answer is usable.
HARMLESS: list[f.Fault] = [
    f.Delay(0.01),
    f.ContentType("text/html"),
    f.ContentType("application/json; charset=utf-16"),
    f.WrongETag(),
    f.WrongETag(None),
    f.Slow(0.0),
]


def options(fault: f.Fault) -> dict[str, Any]:
    """Arguments for clients that detect problems quickly."""
    if isinstance(fault, f.Delay | f.Slow | f.Endless):
        return {"request_timeout": TIMEOUT, "max_response_bytes": 1_000_000_000}
    return {"max_response_bytes": 1_000_000}


@pytest.mark.spread
@pytest.mark.parametrize("fault", BREAKING, ids=str)
def test_a_fault_costs_freshness_and_nothing_else(
    backend: Harness, heksher_service: LiveService, fault: f.Fault
) -> None:
    async def body() -> None:
        setting = Setting("ttl", int, FEATURES, 60)
        rule = heksher_service.add_rule(setting, 5, user="jim")
        client = backend.client(heksher_service.url, NEVER, FEATURES, **options(fault))
        client.set_defaults(environment="dev")
        async with client:
            assert setting.get(user="jim") == 5
            heksher_service.change_rule(rule, 7)
            with heksher_service.faults.add(fault) as trouble:
                with pytest.raises(httpx.HTTPError) as caught:
                    await client.reload()
                assert isinstance(caught.value, HeksherError)
                assert setting.get(user="jim") == 5
                assert setting.get(user="eve") == 60
                assert client.status.last_error is not None
                assert client.status.failures >= 1
                assert trouble.hits or fault == f.Refuse()
            await client.reload()
            assert setting.get(user="jim") == 7
            assert client.status.failures == 0

    backend.run(body)


@pytest.mark.spread
@pytest.mark.parametrize("fault", HARMLESS, ids=str)
def test_a_fault_that_is_borne(
    backend: Harness, heksher_service: LiveService, fault: f.Fault
) -> None:
    async def body() -> None:
        setting = Setting("ttl", int, FEATURES, 60)
        rule = heksher_service.add_rule(setting, 5, user="jim")
        client = backend.client(heksher_service.url, NEVER, FEATURES)
        client.set_defaults(environment="dev")
        async with client:
            with heksher_service.faults.add(fault) as trouble:
                for value in (7, 8):  # the second time with the ETag of the first answer
                    heksher_service.change_rule(rule, value)
                    await client.reload()
                    assert setting.get(user="jim") == value
                assert trouble.hits
            heksher_service.change_rule(rule, 9)
            await client.reload()
            assert setting.get(user="jim") == 9

    backend.run(body)


def test_an_answer_that_says_unchanged_is_believed_until_it_ends(
    backend: Harness, heksher_service: LiveService
) -> None:
    async def body() -> None:
        setting = Setting("ttl", int, FEATURES, 60)
        rule = heksher_service.add_rule(setting, 5, user="jim")
        client = backend.client(heksher_service.url, NEVER, FEATURES)
        client.set_defaults(environment="dev")
        async with client:
            heksher_service.change_rule(rule, 7)
            with heksher_service.faults.add(f.Status(304), path=QUERY):
                await client.reload()
                assert setting.get(user="jim") == 5
            await client.reload()
            assert setting.get(user="jim") == 7

    backend.run(body)


@pytest.mark.parametrize("problem", ["expired", "host", "unknown"])
@pytest.mark.heksher_service(in_process=True, features=FEATURES, tls=True)
def test_certificates(backend: Harness, heksher_service: LiveService, problem: Any) -> None:
    async def body() -> None:
        setting = Setting("ttl", int, FEATURES, 60)
        rule = heksher_service.add_rule(setting, 5, user="jim")
        arguments = {"verify": heksher_service.ssl_context}
        client = backend.client(heksher_service.url, NEVER, FEATURES, http_client_args=arguments)
        client.set_defaults(environment="dev")
        async with client:
            assert setting.get(user="jim") == 5
            heksher_service.change_rule(rule, 7)
            with heksher_service.faults.add(f.Certificate(problem)) as trouble:
                with pytest.raises(httpx.ConnectError, match="certificate"):
                    await client.reload()
                assert setting.get(user="jim") == 5
                assert trouble.hits
            await client.reload()
            assert setting.get(user="jim") == 7

    backend.run(body)


@pytest.mark.parametrize(
    "fault", [f.Status(503), f.Refuse(), f.Reset(), f.InvalidJson(), f.CutShort()], ids=str
)
def test_the_loop_recovers_by_itself(
    backend: Harness, heksher_service: LiveService, fault: f.Fault
) -> None:
    async def body() -> None:
        setting = Setting("ttl", int, FEATURES, 60)
        rule = heksher_service.add_rule(setting, 5, user="jim")
        client = backend.client(heksher_service.url, 0.05, FEATURES)
        client.set_defaults(environment="dev")
        async with client:
            with heksher_service.faults.add(fault):
                heksher_service.change_rule(rule, 7)
                await backend.until(lambda: client.status.failures >= 3, "updates fail")
                assert setting.get(user="jim") == 5
            await backend.until(lambda: setting.get(user="jim") == 7, "the rule arrives")

    backend.run(body)


@pytest.mark.parametrize(
    "fault", [f.Status(503), f.Refuse(), f.Close(), f.InvalidJson(), f.Delay()], ids=str
)
def test_a_start_under_a_fault(
    backend: Harness, heksher_service: LiveService, fault: f.Fault
) -> None:
    async def body() -> None:
        setting = Setting("ttl", int, FEATURES, 60)
        heksher_service.add_rule(setting, 5, user="jim")
        url = heksher_service.url
        with heksher_service.faults.add(fault):
            strict = backend.client(url, NEVER, FEATURES, startup="raise", startup_timeout=TIMEOUT)
            strict.set_defaults(environment="dev")
            with pytest.raises(HeksherError):
                await strict.set_as_main()
            client = backend.client(
                url, 0.05, FEATURES, startup="continue", startup_timeout=TIMEOUT
            )
            client.set_defaults(environment="dev")
            await client.set_as_main()
            assert setting.get(user="jim") == 60
        await backend.until(lambda: setting.get(user="jim") == 5, "the rule arrives")
        await client.close()
        await strict.close()

    backend.run(body)


def test_a_share_of_failures_under_a_stream_of_changes(
    backend: Harness, heksher_service: LiveService
) -> None:
    async def body() -> None:
        setting = Setting("ttl", int, FEATURES, 0)
        rule = heksher_service.add_rule(setting, 0, user="jim")
        client = backend.client(heksher_service.url, NEVER, FEATURES)
        client.set_defaults(environment="dev")
        faults = heksher_service.faults
        async with client:
            faults.load("status(500) share 0.2; reset share 0.2; cut-short share 0.2; seed 6")
            last = 0
            outcomes: set[bool] = set()
            for value in range(1, 40):
                heksher_service.change_rule(rule, value)
                try:
                    await client.reload()
                except HeksherError:
                    outcomes.add(False)
                else:
                    outcomes.add(True)
                    last = value
                assert setting.get(user="jim") == last
            assert outcomes == {True, False}
            assert all(each.hits for each in faults.rules)

    backend.run(body)
