"""A firewall or a gateway that lets no declaration through, on every backend: the client works without."""

from __future__ import annotations

import logging

import pytest
from support.harness import Harness
from support.scenes import INTERVAL, Scene

from heksher import Setting
from heksher._wire import Response
from heksher.exceptions import DeclarationRejected
from heksher.status import DeclarationState

HOUR = 3600.0
#: How firewalls refuse a method or a body, and gateways without a service to send it to.
STATUSES = [400, 403, 404, 405, 411, 413, 415, 418, 422, 451]

DECLARE = "POST v1/settings/declare"


@pytest.fixture
def scene(backend: Harness) -> Scene:
    return Scene(backend)


def settings_behind_a_firewall(scene: Scene, status: int) -> list[Setting[int]]:
    """Return a setting that the service has, and one whose declaration is refused."""
    settings = [Setting(name, int, ["user"], 0) for name in ("there", "refused")]
    for setting in settings:
        scene.service.add_rule(setting.name, 1, user="jim")
    scene.service.answers["refused"] = Response(status, {}, b"<h1>Forbidden</h1>")
    return settings


@pytest.mark.parametrize("status", STATUSES)
def test_rules_arrive_and_updates_succeed(
    scene: Scene, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    there, refused = settings_behind_a_firewall(scene, status)

    async def body() -> None:
        async with scene.client(startup="continue") as client:
            for value in range(2, 5):
                scene.service.rules["there"][0]["value"] = value
                await scene.pass_time(INTERVAL)
                assert there.get(user="jim") == value
                assert client.status.failures == 0
                assert client.status.staleness == 0
                assert (await scene.asked() or 0) >= 0.8 * INTERVAL, "no more polls than usual"
            assert client.status.declarations["refused"].state is DeclarationState.REFUSED
            assert client.status.pending == ()
            text = client.status.refusals["refused"]
            for part in (f"HTTP {status}", "Forbidden", "POST", "every hour", "reload()"):
                assert part in text
            assert refused.get(user="jim") == 0
            assert scene.service.count(DECLARE) == 2

    scene.run(body)
    errors = [each.message for each in caplog.records if each.levelno >= logging.ERROR]
    assert len(errors) == 1
    assert "'refused'" in errors[0]


@pytest.mark.parametrize("status", STATUSES)
def test_a_start_that_may_raise_names_the_setting(scene: Scene, status: int) -> None:
    settings = settings_behind_a_firewall(scene, status)

    async def body() -> None:
        client = scene.client(startup="raise")
        with pytest.raises(DeclarationRejected) as caught:
            await client.set_as_main()
        assert list(caught.value.rejections) == ["refused"]
        await client.close()

    scene.run(body)
    assert settings


def test_it_is_declared_again_by_reload(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    _, refused = settings_behind_a_firewall(scene, 403)

    async def body() -> None:
        async with scene.client(startup="continue") as client:
            for count in (3, 4):
                await client.reload()
                assert scene.service.count(DECLARE) == count
                assert client.status.declarations["refused"].state is DeclarationState.REFUSED
            del scene.service.answers["refused"]
            await client.reload()
            assert client.status.declarations["refused"].state is DeclarationState.CREATED
            assert refused.get(user="jim") == 1
            await client.reload()
            assert scene.service.count(DECLARE) == 5, "and not once more"

    scene.run(body)
    assert sum("Forbidden" in each.message for each in caplog.records) == 1, "logged once"


def test_it_is_declared_again_every_hour(scene: Scene) -> None:
    _, refused = settings_behind_a_firewall(scene, 405)

    async def body() -> None:
        async with scene.client(startup="continue"):
            for count in (3, 4):
                await scene.pass_time(HOUR - INTERVAL)
                assert scene.service.count(DECLARE) == count - 1
                await scene.pass_time(INTERVAL)
                assert scene.service.count(DECLARE) == count
            del scene.service.answers["refused"]
            await scene.pass_time(HOUR)
            assert refused.get(user="jim") == 1
            await scene.pass_time(HOUR)
            assert scene.service.count(DECLARE) == 5

    scene.run(body)


@pytest.mark.parametrize(
    "answer",
    [
        (404, b"default backend - 404"),
        (404, b"404 page not found"),
        (404, b'{"message":"no Route matched with those values"}'),
        (404, b'{"detail":"Not Found"}'),
        (404, b""),
        (400, b"<html><title>400 Bad Request</title>"),
        (422, b"[" * 100_000),
        (200, b"<html><title>Request Rejected</title>"),
    ],
    ids=lambda answer: f"{answer[0]} {answer[1][:20]}",
)
def test_a_gateway_that_answers_while_the_service_is_replaced_is_not_taken_for_it(
    scene: Scene, answer: tuple[int, bytes]
) -> None:
    settings = settings_behind_a_firewall(scene, 404)
    headers = {"content-type": "text/html; charset=utf-8"} if b"<html>" in answer[1] else {}
    scene.service.answers["refused"] = Response(answer[0], headers, answer[1])

    async def body() -> None:
        async with scene.client(startup="continue") as client:
            assert client.status.failures == 0
            del scene.service.answers["refused"]
            await client.reload()
            assert client.status.declarations["refused"].state is DeclarationState.CREATED
            assert settings[1].get(user="jim") == 1

    scene.run(body)


@pytest.mark.parametrize(
    "answer",
    [
        (404, b'{"detail":"alias A does not exist"}'),
        (400, b'{"detail":"There was an error parsing the body"}'),
        (409, b'{"detail":"alias A is an alias of unrelated setting C"}'),
        (422, b'{"detail":[{"loc":["body","type"]}]}'),
    ],
    ids=lambda answer: f"{answer[0]} {answer[1][:20]}",
)
def test_what_the_service_refuses_is_not_declared_again(
    scene: Scene, answer: tuple[int, bytes]
) -> None:
    settings = settings_behind_a_firewall(scene, 404)
    scene.service.answers["refused"] = Response(answer[0], {}, answer[1])

    async def body() -> None:
        async with scene.client(startup="continue") as client:
            await client.reload()
            await scene.pass_time(HOUR)
            assert scene.service.count(DECLARE) == 2
            assert "start again" in client.status.refusals["refused"]
            assert settings

    scene.run(body)


def test_what_somebody_else_declared_is_found_without_a_declaration(scene: Scene) -> None:
    _, refused = settings_behind_a_firewall(scene, 403)

    async def body() -> None:
        async with scene.client(startup="continue") as client:
            scene.service.settings["refused"] = {
                **scene.service.settings["there"],
                "name": "refused",
            }
            await client.reload()
            assert client.status.declarations["refused"].state is DeclarationState.UPTODATE
            assert refused.get(user="jim") == 1
            assert scene.service.count(DECLARE) == 2

    scene.run(body)


def test_a_refused_upgrade_keeps_no_rules_away(scene: Scene) -> None:
    settings = settings_behind_a_firewall(scene, 403)
    newer = Setting("newer", int, ["user"], 0, version="1.1")
    scene.service.answers["newer"] = Response(413, {}, b"too large")

    async def body() -> None:
        async with scene.client(startup="continue") as client:
            scene.service.settings["newer"] = {
                **scene.service.settings["there"],
                "name": "newer",
                "default_value": 7,
            }
            await client.reload()
            assert client.status.declarations["newer"].state is DeclarationState.REFUSED
            assert newer.get(user="jim") == 7
            assert client.status.failures == 0
            assert settings

    scene.run(body)


@pytest.mark.parametrize("status", [401, 407, 408, 425, 429, 500, 503])
def test_a_refusal_that_passes_is_a_failure(scene: Scene, status: int) -> None:
    there, _ = settings_behind_a_firewall(scene, status)

    async def body() -> None:
        async with scene.client(startup="continue") as client:
            assert there.get(user="jim") == 1
            assert client.status.failures == 1
            assert client.status.declarations["refused"].state is DeclarationState.FAILED
            await scene.pass_time(INTERVAL)
            assert scene.service.count(DECLARE) == 3

    scene.run(body)
