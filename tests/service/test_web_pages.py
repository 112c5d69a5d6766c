"""Web pages of strangers cannot use a service without tokens; its own pages can. Also in real browsers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.types import Receive, Scope, Send
from support.browsers import STRANGER, Attempts, Browser, found_browser, visit
from support.service_process import ServiceProcess
from transcript_replay import Answer, Request, call

from heksher.service import CannotStartError, create_app
from heksher.service.web.origins import (
    checked_names,
    is_foreign_page,
    is_loopback,
    is_own_name,
)

PATH = "/api/v1/context_features"
AS_JSON = {"content-type": "application/json"}


# --- in browsers ----------------------------------------------------------------------------------


@pytest.fixture(params=["chromium", "firefox"])
def browser(request: pytest.FixtureRequest) -> Browser:
    """Run the test once in each browser. Firefox takes seconds to start."""
    found = found_browser(request.param)
    if found is None:
        pytest.skip(f"{request.param} is not installed")
    if request.param == "firefox" and not request.config.getoption("--all-browsers"):
        pytest.skip("only with --all-browsers")
    return found


def _adding(feature: str, url: str, how: str = "fetch", **options: Any) -> dict[str, Any]:
    body = json.dumps({"context_feature": feature})
    return {"how": how, "url": url, "options": {"method": "POST", "body": body, **options}}


def _across(url: str) -> Attempts:
    """Return what a page of another origin can try."""
    return {
        "read": {"how": "fetch", "url": url, "options": {}},
        "add with no type": _adding("a", url, mode="no-cors", bare=True),
        "add as text": _adding("b", url, mode="no-cors"),
        "add as JSON": _adding("c", url, headers=AS_JSON),
        "add by a beacon": _adding("d", url, "beacon"),
        "add by a form": {
            "how": "form",
            "url": url,
            "options": {"body": '{"context_feature": "e", "x": "="}'},
        },
    }


# What the service's own pages do, and after DNS rebinding those of a stranger.
_WITHIN: Attempts = {
    "read": {"how": "fetch", "url": PATH, "options": {}},
    "add": _adding("f", PATH, headers=AS_JSON),
    "delete": {"how": "fetch", "url": f"{PATH}/user", "options": {"method": "DELETE"}},
    "document": {"how": "fetch", "url": "/openapi.json", "options": {}},
}


def test_only_its_own_pages_use_a_service(browser: Browser, tmp_path: Path) -> None:
    with ServiceProcess() as service:
        url = service.start(features=["user", "theme"])
        local, far, rebound, own = visit(
            browser,
            tmp_path,
            url,
            [
                ("127.0.0.1", _across(url + PATH)),  # another port
                (STRANGER, _across(url + PATH)),
                (STRANGER, _WITHIN),
                ("localhost", _WITHIN),
            ],
        )
        assert service.features == ["theme", "f"]
    for came in (local, far):
        assert came["add with no type"] == came["add by a form"] == "sent"
        assert came["read"].startswith("TypeError")
    assert {text[:4] for text in rebound.values()} == {"421 "}
    assert {name: text[:4] for name, text in own.items()} == {
        "read": "200 ",
        "add": "204 ",
        "delete": "204 ",
        "document": "200 ",
    }


# --- by rules -------------------------------------------------------------------------------------

LOOPBACK = "127.0.0.1"
CONTAINER = "172.18.0.2"


@pytest.mark.parametrize("server", [LOOPBACK, CONTAINER])
@pytest.mark.parametrize(
    "host",
    [
        "localhost:8000",
        "LOCALHOST",
        "localhost.",
        "app.localhost",
        "127.0.0.1",
        "127.0.0.1:8000",
        "[::1]:8000",
        "10.1.2.3:8000",  # to have an address as its origin, a page must come from there
        "[fe80::1]",
        "",  # of no browser
    ],
)
def test_no_stranger_can_have_this_name(host: str, server: str) -> None:
    assert is_own_name(host, server, frozenset[str]())


@pytest.mark.parametrize("server", [LOOPBACK, CONTAINER])
@pytest.mark.parametrize(
    "host",
    [
        "stranger.test",
        "stranger.test:8000",
        "stranger.test.",
        "localhost.stranger.test",
        "127.0.0.1.stranger.test",
        "[stranger.test]:8000",
        "localhost, stranger.test",
        "localhost@stranger.test",
    ],
)
def test_a_stranger_can_have_this_name(host: str, server: str) -> None:
    assert not is_own_name(host, server, frozenset[str]())


@pytest.mark.parametrize(
    ("server", "is_own"),
    [(LOOPBACK, False), ("::1", False), (CONTAINER, True), ("/run/socket", True)],
)
def test_a_name_without_a_dot_is_for_other_machines(server: str, is_own: bool) -> None:
    assert is_own_name("heksher:8000", server, frozenset[str]()) == is_own


def test_loopback() -> None:
    for host in ("localhost", "127.0.0.1", "127.0.0.2", "::1"):
        assert is_loopback(host)
    for host in ("", "0.0.0.0", "::", "10.1.2.3", "heksher", "/run/socket"):
        assert not is_loopback(host)


@pytest.mark.parametrize("host", ["heksher.example", "Heksher.Example:8000", "heksher.example."])
def test_a_name_can_be_allowed(host: str) -> None:
    for given in (["my_service", "HEKSHER.example."], "heksher.example"):
        allowed = checked_names(given)
        assert is_own_name(host, LOOPBACK, allowed)
        assert not is_own_name(f"a.{host}", LOOPBACK, allowed)
    assert is_own_name(host, LOOPBACK, checked_names("*"))


@pytest.mark.parametrize("name", ["", "a:8000", "http://a", "*.example", "a/b", "é", "[::1]"])
def test_what_is_no_name_cannot_be_allowed(name: str) -> None:
    with pytest.raises(CannotStartError, match="expected a name without scheme and port"):
        create_app(allowed_hosts=["a", name])


HOST = {"host": "localhost:8000"}
OWN = "http://localhost:8000"


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "OPTIONS"])
@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://stranger.test"},
        {"origin": "http://localhost:8001"},
        {"origin": "http://localhost"},
        {"origin": "null"},
        {"origin": ""},
        {"origin": "http://["},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site", "sec-fetch-mode": "no-cors"},
        {"sec-fetch-site": "cross-site", "sec-fetch-mode": "cors", "origin": OWN},
    ],
)
def test_a_page_of_another_origin(method: str, headers: dict[str, str]) -> None:
    assert is_foreign_page(method, HOST | headers)


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"origin": OWN},
        {"origin": "https://localhost:8000"},  # of a proxy with TLS
        {"sec-fetch-site": "same-origin", "sec-fetch-mode": "cors", "origin": OWN},
        {"sec-fetch-site": "none", "sec-fetch-mode": "navigate"},  # typed by the user
        {"sec-fetch-mode": "cors"},  # of Node.js
    ],
)
def test_its_own_page_or_a_program(method: str, headers: dict[str, str]) -> None:
    assert not is_foreign_page(method, HOST | headers)


def test_a_link_is_followed_and_a_form_is_not_sent() -> None:
    headers = HOST | {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    assert not is_foreign_page("GET", headers)
    assert is_foreign_page("POST", headers)


# --- in the application ---------------------------------------------------------------------------


def _answers(app: Starlette, *requests: tuple[str, Mapping[str, str]]) -> list[Answer]:
    """Send GETs, each with only these headers."""

    async def at_loopback(scope: Scope, receive: Receive, send: Send) -> None:
        _default_host, *headers = scope["headers"]
        await app({**scope, "server": (LOOPBACK, 8000), "headers": headers}, receive, send)

    async def run() -> list[Answer]:
        async with app.router.lifespan_context(app):
            return [
                await call(at_loopback, Request("GET", path, None, [*headers.items()], b""))
                for path, headers in requests
            ]

    return asyncio.run(run())


PATHS = ["/docs", "/openapi.json", PATH, "/api/health", "/nowhere"]


def test_a_foreign_page_is_refused_everywhere_and_told_why() -> None:
    headers = HOST | {"origin": "http://stranger.test"}
    for answer in _answers(create_app(), *((path, headers) for path in PATHS)):
        assert answer.status == 403
        assert "let the proxy pass on the header Host" in json.loads(answer.body)["detail"]


def test_a_strangers_name_is_refused_everywhere_and_told_what_to_do() -> None:
    requests = [(path, {"host": "stranger.test"}) for path in PATHS]
    for answer in _answers(create_app(), *requests):
        assert answer.status == 421
        reason = json.loads(answer.body)["detail"]
        assert reason.startswith("invalid Host 'stranger.test': ")
        assert "--allowed-host" in reason
    allowed = _answers(create_app(allowed_hosts="stranger.test"), *requests)
    assert [answer.status for answer in allowed] == [200, 200, 200, 200, 404]


def test_no_host_is_of_no_browser() -> None:
    assert [answer.status for answer in _answers(create_app(), ("/docs", {}))] == [200]


def test_with_tokens_a_page_would_have_to_know_one() -> None:
    page = {"host": "stranger.test", "origin": "http://x.test", "sec-fetch-site": "cross-site"}
    with_token = page | {"api_token": "x"}
    answers = _answers(create_app(api_token="x"), (PATH, page), (PATH, with_token))
    assert [answer.status for answer in answers] == [401, 200]
