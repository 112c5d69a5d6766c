"""Middleware in front of the routes: tokens, body limit, access log; and the pages."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from heksher.service import create_app
from heksher.service.domain.errors import CannotStartError
from heksher.service.web.openapi import OPERATIONS

T = TypeVar("T")
LIMIT = 1024 * 1024
DECLARATION = {
    "name": "a",
    "type": "str",
    "default_value": "",
    "configurable_features": ["user"],
}


def _with(app: Starlette, use: Callable[[httpx.AsyncClient], Awaitable[T]]) -> T:
    """Run *use* with a client of a running application."""

    async def run() -> T:
        transport = httpx.ASGITransport(app)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://service") as client,
        ):
            return await use(client)

    return asyncio.run(run())


Headers = Sequence[tuple[bytes, bytes]]


def _statuses(app: Starlette, paths: Iterable[str], *headers: Headers) -> list[int]:
    """Send GETs for all combinations of paths and headers; return the answers."""

    async def get(client: httpx.AsyncClient) -> list[int]:
        return [
            (await client.get(path, headers=httpx.Headers([*each]))).status_code
            for each in headers
            for path in paths
        ]

    return _with(app, get)


# --- tokens ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("token", [b"first", b"s\xc3\xa9cond", b"third"])
@pytest.mark.parametrize("form", [b"api_token", b"bearer", b"Bearer"])
def test_any_of_several_tokens_lets_through(token: bytes, form: bytes) -> None:
    app = create_app(api_token=["first", "sécond", "third"])
    header = (form, token) if form == b"api_token" else (b"authorization", form + b" " + token)
    # One valid header is enough.
    several = [(b"api_token", b"x"), header]
    assert _statuses(app, ["/api/v1/settings"], [header], several) == [200, 200]


CLOSED = [
    "/api/v1/settings",
    "/api/v1/query",
    "/docs",
    "/redoc",
    "/docs/oauth2-redirect",
    "/docs/files/swagger-ui.css",
    "/openapi.json",
    "/nowhere",
    "/",
    "/api/health/",
    "/api//health",
    "/x/%2e%2e/api/health",
]


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [(b"api_token", b"")],
        [(b"api_token", b"firs")],
        [(b"api_token", b"firstsecond")],
        [(b"api_token", b"first,second")],
        [(b"authorization", b"first")],
        [(b"authorization", b"Basic first")],
        [(b"authorization", b"Bearer")],
    ],
)
def test_nothing_else_lets_through_but_to_health(headers: Headers) -> None:
    app = create_app(api_token=("first", "second"))
    answers = dict(zip(CLOSED, _statuses(app, CLOSED, headers), strict=True))
    assert answers == dict.fromkeys(CLOSED, 401)
    app = create_app(api_token=("first", "second"))
    assert _statuses(app, ["/api/health"], headers) == [200]


def test_a_refusal_says_what_is_wanted() -> None:
    response = _with(create_app(api_token="x"), lambda client: client.get("/api/v1/settings"))
    assert response.headers["www-authenticate"] == 'Bearer realm="heksher"'
    assert response.json() == {"detail": "Unauthorized"}


@pytest.mark.parametrize("token", ["", [], ["a", ""]])
def test_no_token_is_taken_for_one(token: str | list[str]) -> None:
    with pytest.raises(CannotStartError, match="expected one or more non-empty tokens"):
        create_app(api_token=token)


# --- bodies ---------------------------------------------------------------------------------------


def _declare(app: Starlette, length: int, *, chunked: bool) -> httpx.Response:
    """Declare a setting with a body of this many bytes."""
    bare = json.dumps({**DECLARATION, "metadata": {"x": ""}})
    body = json.dumps({**DECLARATION, "metadata": {"x": "-" * (length - len(bare))}}).encode()
    assert len(body) == length

    async def chunks() -> AsyncGenerator[bytes]:
        for start in range(0, length, 1000):
            yield body[start : start + 1000]

    async def send(client: httpx.AsyncClient) -> httpx.Response:
        return await client.post(
            "/api/v1/settings/declare",
            content=chunks() if chunked else body,
            headers={"content-type": "application/json"},
        )

    return _with(app, send)


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("limit", [None, 5000])
def test_a_body_may_be_as_long_as_the_limit(limit: int | None, chunked: bool) -> None:
    arguments: dict[str, Any] = {} if limit is None else {"body_limit": limit}
    app = create_app(features=["user"], **arguments)
    answer = _declare(app, limit or LIMIT, chunked=chunked)
    assert (answer.status_code, answer.json()) == (200, {"outcome": "created"})
    app = create_app(features=["user"], **arguments)
    answer = _declare(app, (limit or LIMIT) + 1, chunked=chunked)
    assert answer.status_code == 413
    assert answer.json() == {"detail": f"the body is longer than {limit or LIMIT} bytes"}
    assert answer.headers["connection"] == "close"


def test_the_token_comes_before_the_body() -> None:
    async def send(client: httpx.AsyncClient) -> int:
        return (await client.post("/api/v1/rules", content=b"-" * 100)).status_code

    assert _with(create_app(api_token="x", body_limit=10), send) == 401


# --- the access log -------------------------------------------------------------------------------


def _logged(
    caplog: pytest.LogCaptureFixture, path: str, **arguments: Any
) -> list[logging.LogRecord]:
    """Return what one GET logs, in all loggers."""
    with caplog.at_level(logging.DEBUG):
        _with(create_app(**arguments), lambda client: client.get(path))
    return [record for record in caplog.records if record.name.startswith("heksher")]


def test_a_request_is_one_line(caplog: pytest.LogCaptureFixture) -> None:
    (record,) = _logged(caplog, "/api/v1/settings?include_additional_data=1", access_log=True)
    assert record.levelno == logging.INFO
    method, path, status, milliseconds, size = record.message.split(" ", 4)
    assert (method, path, status) == ("GET", "/api/v1/settings", "200")
    assert float(milliseconds) > 0
    assert size == "ms 15 bytes"  # {"settings":[]}


def test_what_is_refused_is_logged_as_well(caplog: pytest.LogCaptureFixture) -> None:
    (record,) = _logged(caplog, "/api/v1/settings", access_log=True, api_token="x")
    assert record.message.startswith("GET /api/v1/settings 401 ")


def test_no_request_writes_lines_of_its_own(caplog: pytest.LogCaptureFixture) -> None:
    path = "/api/v1/settings/a%0AGET%20/x%20200%1b[31m%C3%A9"
    (record,) = _logged(caplog, path, access_log=True)
    assert record.message.startswith("GET /api/v1/settings/a%0AGET%20/x%20200%1B%5B31m%C3%A9 404 ")


@pytest.mark.parametrize(
    "path", ["/" + "a" * 500, "/" + "a" * 60_000, "/" + "%c3%a9" * 10_000, "/" + "%0a" * 20_000]
)
def test_a_long_path_is_cut(caplog: pytest.LogCaptureFixture, path: str) -> None:
    (record,) = _logged(caplog, path, access_log=True)
    assert len(record.message) < 600
    assert "… 404 " in record.message


def test_a_long_method_is_cut(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "heksher.service.access"):
        _with(create_app(access_log=True), lambda client: client.request("A" * 60_000, "/"))
    (record,) = [each for each in caplog.records if each.name == "heksher.service.access"]
    assert len(record.message) < 600


def test_without_it_nothing_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    assert _logged(caplog, "/api/v1/settings") == []


# --- mounted in another application ---------------------------------------------------------------


def _mounted(**arguments: Any) -> Starlette:
    service = create_app(features=["user"], **arguments)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncGenerator[None]:
        # Starlette runs only the lifespan of the outermost application.
        async with service.router.lifespan_context(service):
            yield

    return Starlette(routes=[Mount("/tools/heksher", service)], lifespan=lifespan)


def test_below_a_prefix_all_addresses_are_right() -> None:
    async def use(client: httpx.AsyncClient) -> None:
        prefix = "/tools/heksher"
        assert (await client.get(f"{prefix}/api/health")).status_code == 200
        await client.post(f"{prefix}/api/v1/settings/declare", json=DECLARATION)
        rule = {"setting": "a", "feature_values": {"user": "jim"}, "value": "x"}
        created = await client.post(f"{prefix}/api/v1/rules", json=rule)
        assert created.status_code == 201
        found = await client.get(created.url.join(created.headers["location"]))
        assert found.json()["value"] == "x"
        moved = await client.get(f"{prefix}/api/v1/settings/?include_additional_data=1")
        assert moved.status_code == 307
        assert moved.headers["location"] == (
            f"http://service{prefix}/api/v1/settings?include_additional_data=1"
        )
        document = await client.get(f"{prefix}/openapi.json")
        assert document.json()["servers"] == [{"url": prefix}]
        for page in ("docs", "redoc"):
            for address in _addresses((await client.get(f"{prefix}/{page}")).text):
                answer = await client.get(httpx.URL(f"http://service{prefix}/").join(address))
                assert answer.status_code == 200, address

    _with(_mounted(), use)


def _addresses(html: str) -> list[str]:
    """List what a page links to and loads."""
    found = [
        part.partition('"')[0] for mark in ('href="', 'src="') for part in html.split(mark)[1:]
    ]
    assert len(found) >= 3
    return found


def test_below_a_prefix_only_health_is_open() -> None:
    prefix = "/tools/heksher"
    paths = [f"{prefix}{path}" for path in (*CLOSED, f"{prefix}/api/health", "/api/health")]
    assert _statuses(_mounted(api_token="x"), paths, []) == [401] * (len(paths) - 1) + [200]


# --- the pages ------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", ["/docs", "/redoc"])
def test_a_page_loads_nothing_from_elsewhere(page: str) -> None:
    response = _with(create_app(), lambda client: client.get(page))
    assert not [address for address in _addresses(response.text) if ":" in address]
    assert "http" not in response.headers["content-security-policy"]


def test_without_the_extra_a_page_lists_the_operations(monkeypatch: pytest.MonkeyPatch) -> None:

    def nothing(_name: str) -> None:
        return None

    monkeypatch.setattr("importlib.util.find_spec", nothing)

    async def use(client: httpx.AsyncClient) -> None:
        for page in ("docs", "redoc"):
            response = await client.get(f"/{page}")
            assert response.status_code == 200
            assert re.findall('(?:href|src)="([^"]*)', response.text) == ["openapi.json"]
            assert response.text.count("<tr>") == len(OPERATIONS)
            assert (
                "<tr><td>PUT</td><td>/api/v1/settings/{name}/name</td>"
                "<td>Rename a setting; its former name becomes an alias</td></tr>"
            ) in response.text
            assert "pip install 'heksher[docs-ui]'" in response.text
        assert (await client.get("/docs/files/swagger-ui.css")).status_code == 404

    _with(create_app(), use)


def test_files_are_served_whole() -> None:
    """Thousands of ranges take seconds of work."""
    ranges = ",".join(f"{2 * start}-{2 * start}" for start in range(5000))

    async def use(client: httpx.AsyncClient) -> None:
        for name, media_type in (("swagger-ui.css", "text/css"), ("favicon.png", "image/png")):
            whole = await client.get(f"/docs/files/{name}")
            assert whole.headers["content-type"].partition(";")[0] == media_type
            answer = await client.get(f"/docs/files/{name}", headers={"range": f"bytes={ranges}"})
            assert (answer.status_code, answer.content) == (200, whole.content)

    _with(create_app(), use)


def test_only_the_files_of_the_pages_are_served() -> None:
    async def use(client: httpx.AsyncClient) -> None:
        for name in ("__init__.py", "..%2f__init__.py", "%2e%2e%2f__init__.py", "x.js"):
            assert (await client.get(f"/docs/files/{name}")).status_code == 404, name

    _with(create_app(), use)


def test_the_document_tells_of_the_token() -> None:
    async def get(client: httpx.AsyncClient) -> Mapping[str, Any]:
        found: Mapping[str, Any] = (
            await client.get("/openapi.json", headers={"api_token": "x"})
        ).json()
        return found

    found = _with(create_app(api_token="x"), get)
    assert found["security"] == [{"header": []}, {"bearer": []}]
    assert found["paths"]["/api/health"]["get"]["security"] == []
    assert "401" in found["paths"]["/api/v1/query"]["get"]["responses"]
    assert "401" not in found["paths"]["/api/health"]["get"]["responses"]


def test_the_document_does_not_ask_for_a_token_that_nobody_needs() -> None:
    found = _with(create_app(), lambda client: client.get("/openapi.json")).json()
    assert "security" not in found
    assert "401" not in found["paths"]["/api/v1/query"]["get"]["responses"]
