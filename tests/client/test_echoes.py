"""A service that says back what it was sent: no secret of the request is shown or kept, on any backend."""

from __future__ import annotations

import json
import logging
import socket
import threading
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
from support.harness import Harness
from support.misbehaving import MisbehavingServer, hang_up

from heksher import Setting
from heksher.backends._http.redaction import is_safe_location, repeated_secret
from heksher.exceptions import HeksherError, InvalidResponseError, ServiceUnreachableError

TOKEN = "SUPER/SECRET+42"
PASSWORD = "hunter2pw"
CODED = "Ym9iOmh1bnRlcjJwdw=="
SESSION = "0123456789abcdef"
API_KEY = "Key-in-the-query"
SECRETS = [TOKEN, PASSWORD, CODED, SESSION, API_KEY]

FEATURES: dict[str, Any] = {"context_features": ["user"]}
STORED: dict[str, Any] = {
    "name": "n",
    "type": "int",
    "default_value": 1,
    "version": "1.0",
    "configurable_features": ["user"],
}


def rules_of(name: str, *rules: Any, default: Any = 1) -> dict[str, Any]:
    return {"settings": {name: {"default_value": default, "rules": [*rules]}}}


def rule(value: Any, *conditions: list[str]) -> dict[str, Any]:
    return {"value": value, "context_features": [*conditions], "rule_id": 1}


def escaped(text: str) -> bytes:
    """Return a JSON string in which each character is an escape."""
    return b'"%s"' % b"".join(b"\\u%04X" % ord(character) for character in text)


class Echo:
    """What the service says now: a body by path, and the line and the headers above each."""

    def __init__(self) -> None:
        self.bodies: dict[str, bytes | Callable[[str], Any]] = {}
        self.head: Callable[[str], str] = lambda _: "HTTP/1.1 200 OK"
        self.server: Any = None

    def say(self, connection: socket.socket, stop: threading.Event) -> None:
        request: str = self.server.requests[-1].decode()
        said = f"{request} {PASSWORD}".replace("\r\n", " ")
        path = request.split(" ")[1].partition("?")[0].rpartition("/")[2]
        usual: dict[str, Any] = {
            "context_features": FEATURES,
            "settings": {"settings": [STORED]},
            "query": rules_of("n"),
        }
        body = self.bodies.get(path, json.dumps(usual.get(path, {})).encode())
        if callable(body):
            made = body(said)
            body = made if isinstance(made, bytes) else json.dumps(made).encode()
        # A declaration has a body, which would be taken for the next request.
        end = "connection: close\r\n" if request.startswith("POST") else ""
        head = f"{self.head(said)}\r\n{end}content-length: {len(body)}\r\n\r\n"
        connection.sendall(head.encode("latin-1") + body)


Sayings = dict[str, bytes | Callable[[str], Any]]

BODIES: dict[str, Sayings] = {
    "feature": {"context_features": lambda said: {"context_features": ["user", said]}},
    "feature-twice": {"context_features": lambda said: {"context_features": [said, said]}},
    "value": {"query": lambda said: rules_of("n", rule(said))},
    "default": {"query": lambda said: rules_of("n", default=said)},
    "condition": {"query": lambda said: rules_of("n", rule(2, [said, "jim"]))},
    "no-rule": {"query": lambda said: rules_of("n", said)},
    "no-section": {"query": lambda said: {"settings": {"n": said}}},
    "unknown-setting": {"query": lambda said: rules_of(said)},
    "version": {"settings": lambda said: {"settings": [{**STORED, "version": said}]}},
    "renamed": {
        "settings": lambda said: {"settings": [{**STORED, "name": said, "aliases": ["n"]}]}
    },
    "no-setting": {"settings": lambda said: {"settings": [STORED, said]}},
    "declared": {
        "settings": lambda _: {"settings": []},
        "declare": lambda said: {
            "outcome": "outdated",
            "latest_version": said,
            "differences": [{"level": said, "attribute": said, "latest_value": said}],
        },
    },
    "outcome": {
        "settings": lambda _: {"settings": []},
        "declare": lambda said: {"outcome": said},
    },
    "escapes": {
        "query": lambda _: (
            b'{"settings": {"n": {"rules": [{"rule_id": 1, "context_features": [], '
            b'"value": [%s]}]}}}' % b", ".join(map(escaped, SECRETS))
        )
    },
    "escaped-slash": {
        "query": lambda said: json.dumps(rules_of("n", rule(said))).replace("/", "\\/").encode()
    },
    "no-json": {"query": lambda said: said.encode(), "settings": lambda said: said.encode()},
}
HEADS: dict[str, Callable[[str], str]] = {
    **{
        f"{status}": lambda _, status=status: f"HTTP/1.1 {status} No"  # type: ignore[misc]
        for status in (401, 409, 500)
    },
    "reason": lambda said: f"HTTP/1.1 200 \x1b[2J{said}",
    "refusal's-reason": lambda said: f"HTTP/1.1 500 \x1b[2J{said}",
    "header's-name": lambda _: f"HTTP/1.1 200 OK\r\n{TOKEN}: 1",
    "etag": lambda said: f'HTTP/1.1 200 OK\r\netag: "{TOKEN}"\r\nset-cookie: a={TOKEN}',
    "coding": lambda _: f"HTTP/1.1 200 OK\r\ncontent-encoding: {TOKEN}",
    "headers-of-refusal": lambda said: f"HTTP/1.1 503 Oh\r\nretry-after: {TOKEN}\r\nx-echo: {said}",
    "location": lambda _: f"HTTP/1.1 307 Moved\r\nlocation: /{TOKEN}",
    "query-of-location": lambda _: f"HTTP/1.1 307 Moved\r\nlocation: /api/health?x={TOKEN}",
    "odd-location": lambda _: "HTTP/1.1 307 Moved\r\nlocation: /\x1b[2J",
    "no-http": lambda said: said,
}


def all_behind(error: BaseException | None) -> Iterator[BaseException]:
    if error is not None:
        yield error
        yield from all_behind(error.__cause__)
        yield from all_behind(error.__context__)


def told_by(error: BaseException) -> Iterator[str]:
    """Yield all that an error can be made to say: its texts, and the requests and answers it holds."""
    yield from traceback.format_exception(error)
    for each in all_behind(error):
        yield f"{each!r} {each}"
        for holder in (each, getattr(each, "response", None)):
            held: dict[str, Any] = getattr(holder, "__dict__", {})
            for request in (held.get("request"), held.get("_request")):
                if request is not None:
                    yield f"{request.url} {request.headers.raw}"
        if (response := getattr(each, "response", None)) is not None:
            yield f"{response.headers.raw} {response.content}"


@pytest.mark.spread
@pytest.mark.parametrize("case", [*BODIES, *HEADS])
def test_no_secret_that_is_said_back_is_shown_or_kept(
    backend: Harness, case: str, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    caplog.set_level(logging.DEBUG, "heksher")
    caplog.set_level(logging.INFO, "httpx")
    setting = Setting("n", int, ["user"], 1)
    snapshot = tmp_path / "rules"
    echo = Echo()
    shown: list[str] = []

    async def body() -> None:
        client = backend.client(
            server.url.replace("//", f"//bob:{PASSWORD}@"),
            60,
            ["user"],
            startup="continue",
            snapshot=snapshot,
            http_client_args={
                "headers": {"api_token": TOKEN, "cookie": f"a=b; session={SESSION}"},
            },
        )
        await client.set_as_main()
        for call in (client.ping, client.reload, client.get_settings):
            try:
                shown.append(str(await call()))
            except HeksherError as error:
                shown.extend(told_by(error))
        told = client.status
        shown.extend((repr(client.client), repr(setting), repr(told), str(told)))
        shown.append(json.dumps(told.as_dict()))
        assert type(setting.get(user="jim")) is int
        await client.close()
        if told.last_error is not None:
            shown.extend(told_by(told.last_error))

    echo.bodies = BODIES.get(
        case, {"health": str.encode, "query": str.encode, "declare": str.encode}
    )
    echo.head = HEADS.get(case, echo.head)
    with MisbehavingServer(echo.say) as server:
        echo.server = server
        backend.run(body)
    assert any(TOKEN.encode() in request for request in server.requests)
    shown.append(caplog.text)
    if snapshot.exists():
        shown.append(snapshot.read_text())
    for secret in SECRETS:
        for text in shown:
            assert secret.lower() not in text.lower(), text
    assert "\x1b" not in "".join(shown)


def test_an_answer_with_a_secret_costs_freshness_and_says_which(backend: Harness) -> None:
    setting = Setting("n", int, ["user"], 1)
    echo = Echo()

    async def body() -> None:
        arguments = {"headers": {"x-api-key": TOKEN}, "params": {"access_token": API_KEY}}
        async with backend.client(server.url, 60, ["user"], http_client_args=arguments) as client:
            echo.bodies = {"query": lambda _: rules_of("n", rule(2))}
            await client.reload()
            for name, secret in (("x-api-key", TOKEN), ("access_token", API_KEY)):
                repeating = rules_of("n", rule(3), rule(secret))
                echo.bodies = {"query": json.dumps(repeating).encode()}
                with pytest.raises(
                    InvalidResponseError, match=f"the secret '{name}' of the request"
                ):
                    await client.reload()
                assert setting.get(user="jim") == 2
            # What the body says does not count here.
            echo.bodies = {"health": lambda said: said.encode()}
            await client.ping()

    with MisbehavingServer(echo.say) as server:
        echo.server = server
        backend.run(body)


_SECRETS = """
    api-key api_key apikey x-api-keys accessKey x-key2 Ocp-Apim-Subscription-Key x-auth auth-v2 oauth_nonce
    authorization Proxy-Authorisation authentication x-amz-credential credentials jwt x-jwt-assertion
    passwd user_password passwort client_secret secrets PHPSESSID JSESSIONID ASPSESSIONIDQ sessionid sess
    mysess connect.sid sid hsid sig sign signed_request X-Amz-Signature x-hub-signature-256
    csrftoken XSRF-TOKEN tokens accessToken cookie mycookies
"""
_OTHERS = """
    x-design x-assigned-team designed inside side-by-side x-president resident author co-author authority
    keyboard keyword signal-level insignia x-region environment
"""


@pytest.mark.parametrize("name", [*_SECRETS.split(), *_OTHERS.split()])
def test_a_name_says_whether_its_value_is_a_secret(name: str) -> None:
    as_header = httpx.Request("GET", "https://h/", headers={name: TOKEN})
    as_parameter = httpx.Request("GET", f"https://h/?{name}={TOKEN}")
    is_secret = name in _SECRETS.split()
    # Names of headers have no capital letters.
    assert repeated_secret(TOKEN.encode(), as_header) == (name.lower() if is_secret else None)
    assert repeated_secret(TOKEN.encode(), as_parameter) == (name if is_secret else None)


def test_what_is_no_secret_for_certain_stays_in_an_answer(backend: Harness) -> None:
    """A header may have a word that settings use as well: rules must not change by it."""
    values = ["production", "production-eu1", "password", "12345678", "A-B", "https://eu-west-1.x"]
    setting = Setting("n", str, ["user"], "")
    echo = Echo()

    async def body() -> None:
        arguments = {
            "headers": {
                "x-environment": "production-eu1",
                "x-token": "production",
                "x-key": "12345678",
                "x-secret": "A-B",
                "x-signing-region": "eu-west-1",
            }
        }
        url = server.url.replace("//", "//heksher:password@")
        async with backend.client(url, 60, ["user"], http_client_args=arguments):
            assert [setting.get(user=f"u{number}") for number in range(6)] == values

    rules = [rule(value, ["user", f"u{number}"]) for number, value in enumerate(values)]
    stored = {**STORED, "type": "str", "default_value": ""}
    echo.bodies = {
        "settings": lambda _: {"settings": [stored]},
        "query": lambda _: rules_of("n", *rules, default=""),
    }
    with MisbehavingServer(echo.say) as server:
        echo.server = server
        backend.run(body)


def test_a_proxy_that_says_its_credentials_back_is_not_quoted(
    backend: Harness, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "heksher")
    caplog.set_level(logging.INFO, "httpx")

    def refuse(connection: socket.socket, stop: threading.Event) -> None:
        _, _, coded = proxy.requests[-1].partition(b"roxy-Authorization: ")
        coded = coded.partition(b"\r\n")[0]
        connection.sendall(
            b"HTTP/1.1 407 you sent %s\r\ncontent-length: %d\r\n\r\n%s" % (coded, len(coded), coded)
        )

    async def body() -> None:
        for scheme in ("http", "https"):
            client = backend.client(
                f"{scheme}://heksher.invalid",
                60,
                ["user"],
                http_client_args={"proxy": proxy.url.replace("//", f"//bob:{PASSWORD}@")},
            )
            with pytest.raises(HeksherError, match=r"407.*\[secret\]") as caught:
                await client.ping()
            for text in told_by(caught.value):
                assert CODED not in text
                assert PASSWORD not in text
            await client.close()

    with MisbehavingServer(refuse) as proxy:
        backend.run(body)
    assert all(CODED.encode() in request for request in proxy.requests)
    assert CODED not in caplog.text


def test_the_cause_of_an_error_stays_without_the_request(backend: Harness) -> None:
    async def body() -> None:
        arguments = {"headers": {"api_token": TOKEN}}
        client = backend.client(server.url, 60, ["user"], http_client_args=arguments)
        with pytest.raises(ServiceUnreachableError) as caught:
            await client.ping()
        assert isinstance(caught.value.__cause__, httpx.TransportError)
        assert caught.value.__context__ is None
        assert caught.value.__cause__.request is cast("Any", caught.value).request
        assert TOKEN not in "".join(told_by(caught.value))
        await client.close()

    with MisbehavingServer(hang_up) as server:
        backend.run(body)


def request_with(**headers: str) -> httpx.Request:
    url = "http://service.test/?api_key=a%2Fb%20c-d-e-f"
    return httpx.Request("GET", url, headers=[(k.encode(), v.encode()) for k, v in headers.items()])


@pytest.mark.parametrize("size", [0, 2**20 - 40, 2**20 - 10, 2**20, 3 * 2**20 + 1])
def test_a_secret_is_found_wherever_it_is_and_however_it_is_escaped(size: int) -> None:
    secret = 'a"b\\c/d+é-42'
    request = request_with(**{"x-token": secret, "x-key": TOKEN})
    filler = b"x" * size
    plain = json.dumps(secret, ensure_ascii=False).encode()
    for found in (plain, json.dumps(TOKEN).encode(), escaped(TOKEN), b"SUPER\\/SECRET\\u002b42"):
        assert repeated_secret(filler + found, request)
        assert repeated_secret(filler + found + filler, request)
    for other in (b"SUPER/SECRET+43", b"SUPER\\\\/SECRET+43", b"a/b c-d-e", filler):
        assert repeated_secret(filler + other, request) is None
    assert repeated_secret(filler + b"a/b c-d-e-f", request) == "api_key"


def test_a_location_may_keep_the_parameters_and_repeats_no_header() -> None:
    request = request_with(**{"x-token": TOKEN, "x-tenant": "tenant-number-1"})
    assert is_safe_location("/elsewhere?api_key=a%2Fb%20c-d-e-f", request)
    assert is_safe_location("/tenant-number-1/", request)
    assert not is_safe_location(f"/elsewhere?x={TOKEN}", request)


def test_an_error_has_no_request_if_the_url_is_none(backend: Harness) -> None:
    """The HTTP library refuses the URL, and so makes no request that an error could hold."""

    async def body() -> None:
        client = backend.client("http://service.test:1/" + "x" * 70_000, 60, ["user"])
        with pytest.raises(ServiceUnreachableError, match="URL too long"):
            await client.ping()
        await client.close()

    backend.run(body)
