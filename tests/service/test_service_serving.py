"""``heksher serve`` in operation: environment, tokens, long bodies, logs, shutdown."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from support.service_process import DEADLINE, ServiceProcess

CANARY = "c4n4ry"


@pytest.fixture
def service() -> Iterator[ServiceProcess]:
    with ServiceProcess() as process:
        yield process


def _refusal(*arguments: str, **environment: str) -> str:
    """Return the error of a command that cannot start."""
    result = subprocess.run(
        [sys.executable, "-m", "heksher", "serve", *arguments],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
        env=os.environ | environment,
    )
    assert (result.returncode, result.stdout) == (2, "")
    assert len(result.stderr.splitlines()) == 1, result.stderr
    return result.stderr


def _connect(service: ServiceProcess) -> socket.socket:
    return socket.create_connection(("127.0.0.1", service.port), DEADLINE)


def _answer(connection: socket.socket) -> tuple[int, bytes]:
    """Read the response on a connection that is closed afterwards: status and body."""
    received = b""
    while part := connection.recv(65536):
        received += part
    head, _, body = received.partition(b"\r\n\r\n")
    return int(head.split()[1]), body


def _send_gigabytes(connection: socket.socket, chunk: bytes) -> None:
    """Send more than a server reads in a few seconds, but not endlessly."""
    for _ in range(20 * 2**30 // len(chunk)):
        connection.sendall(chunk)


def _wait_until_refused(service: ServiceProcess) -> None:
    """Wait until connections are refused, at the latest when the process ends."""
    while True:
        try:
            _connect(service).close()
        except ConnectionRefusedError:
            return
        except ConnectionResetError:  # it was queued, and is not accepted any more
            continue


# --- the environment ------------------------------------------------------------------------------


def test_the_environment_configures_it(service: ServiceProcess, tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text("first\nsecond\n")
    url = service.start(
        features=[],
        environment={
            "HEKSHER_HOST": "::1",
            "HEKSHER_FEATURES": "a,b",
            "HEKSHER_API_TOKEN_FILE": str(tokens),
            "HEKSHER_BODY_LIMIT": "100",
            "HEKSHER_ACCESS_LOG": "true",
        },
    )
    assert url.startswith("http://[::1]:")
    with httpx.Client(base_url=url, trust_env=False, headers={"api_token": "second"}) as client:
        found = client.get("/api/v1/context_features").json()
        assert found == {"context_features": ["a", "b"]}
        assert client.post("/api/v1/rules", content=b"-" * 101).status_code == 413
    service.stop()
    assert "POST /api/v1/rules 413 " in service.log


def test_what_the_environment_led_to_is_told() -> None:
    """The person who reads the error may not have set the variable."""
    message = _refusal(HEKSHER_FEATURES="a,a", HEKSHER_PORT="0")
    assert "duplicate context feature" in message
    assert "(from the environment: HEKSHER_PORT and HEKSHER_FEATURES)" in message


# --- without a token ------------------------------------------------------------------------------


@pytest.mark.parametrize("api_token", [None, "x"])
def test_a_service_that_is_open_to_all_warns_of_it(
    service: ServiceProcess, api_token: str | None
) -> None:
    service.start(api_token=api_token, options=["--host", "0.0.0.0"])
    service.stop()
    assert (f"anyone who can reach 0.0.0.0 port {service.port}" in service.log) == (not api_token)


def test_it_answers_to_allowed_names(service: ServiceProcess) -> None:
    environment = {"HEKSHER_ALLOWED_HOST": "heksher.example,heksher.test"}
    service.start(environment=environment)
    statuses = [
        service.request("GET", "/settings", headers={"host": host}).status_code
        for host in ("heksher.example", "heksher.test:80", "stranger.test")
    ]
    assert statuses == [200, 200, 421]
    service.stop()
    assert "anyone who can reach" not in service.log
    message = _refusal("--port", "0", "--allowed-host", "http://heksher.example")
    assert "invalid allowed host 'http://heksher.example': expected a name" in message


# --- long bodies ----------------------------------------------------------------------------------


def test_a_body_that_is_announced_as_too_long_is_refused_at_once(service: ServiceProcess) -> None:
    service.start()
    with _connect(service) as connection:
        connection.sendall(
            b"POST /api/v1/rules HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1048577\r\n"
            b"expect: 100-continue\r\n\r\n"
        )
        status, body = _answer(connection)
    assert status == 413
    assert json.loads(body) == {"detail": "the body is longer than 1048576 bytes"}


@pytest.mark.parametrize("chunked", [False, True])
def test_a_client_that_sends_all_before_it_reads_gets_the_answer(
    service: ServiceProcess, chunked: bool
) -> None:
    service.start()
    part = b"-" * 1_000_000
    with _connect(service) as connection:
        kind = b"transfer-encoding: chunked" if chunked else b"content-length: 9000000"
        connection.sendall(
            b"POST /api/v1/rules HTTP/1.1\r\nhost: localhost\r\n" + kind + b"\r\n\r\n"
        )
        for _ in range(9):
            connection.sendall(b"%x\r\n%s\r\n" % (len(part), part) if chunked else part)
        if chunked:
            connection.sendall(b"0\r\n\r\n")
        status, _ = _answer(connection)
    assert status == 413
    assert httpx.get(f"{service.url}/api/health", trust_env=False).status_code == 200


@pytest.mark.parametrize(
    ("path", "token"),
    [
        ("/api/v1/rules", "x"),  # too long
        ("/api/v1/query", "x"),  # no such method
        ("/nowhere", "x"),
        ("/api/v1/rules", "y"),
    ],
)
def test_a_body_without_end_is_not_read_for_ever(
    service: ServiceProcess, path: str, token: str
) -> None:
    service.start(api_token="x")
    chunk = b"%x\r\n%s\r\n" % (65536, b"-" * 65536)
    with _connect(service) as connection:
        connection.sendall(
            f"POST {path} HTTP/1.1\r\nhost: localhost\r\napi_token: {token}\r\n"
            "transfer-encoding: chunked\r\n\r\n".encode()
        )
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            _send_gigabytes(connection, chunk)


# --- logs -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", ["flag", "file", "variable"])
def test_no_log_shows_a_token(service: ServiceProcess, tmp_path: Path, given: str) -> None:
    environment: dict[str, str] = {}
    options = ["--log-level", "debug", "--access-log"]
    match given:
        case "flag":
            options += ["--api-token", CANARY]
        case "file":
            (tmp_path / "tokens").write_text(CANARY)
            options += ["--api-token-file", str(tmp_path / "tokens")]
        case _:
            environment["HEKSHER_API_TOKEN"] = CANARY
    url = service.start(database=tmp_path / "heksher.db", options=options, environment=environment)
    with httpx.Client(base_url=url, trust_env=False) as client:
        for path in ("/api/health", "/api/v1/settings", "/docs", "/nowhere", "/api/v1/rules/x"):
            for headers in (
                {"api_token": CANARY},
                {"authorization": f"Bearer {CANARY}"},
                {"api_token": f"almost {CANARY}"},
                {
                    "api_token": CANARY,
                    "connection": "upgrade",
                    "upgrade": "websocket",
                    "sec-websocket-version": "13",
                    "sec-websocket-key": "AAAAAAAAAAAAAAAAAAAAAA==",
                },
            ):
                client.get(path, params={"token": CANARY}, headers=headers)
        body = json.dumps({CANARY: CANARY}).encode()
        for content in (body, body[:-1], b"\xff" + body):
            client.post("/api/v1/rules", content=content, headers={"api_token": CANARY})
    with _connect(service) as connection:  # not HTTP
        connection.sendall(f"GET / HTTP/1.1\r\napi_token: {CANARY}\r\n{CANARY}\r\n\r\n".encode())
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65536):
            pass
    assert service.stop() == 0
    assert "GET /api/v1/settings 200 " in service.log
    assert " DEBUG " in service.log
    assert CANARY not in service.log


def test_a_misspelt_option_does_not_show_the_token() -> None:
    assert CANARY not in _refusal(f"--api-tokn={CANARY}")
    assert CANARY not in _refusal("--api-tokn", CANARY)
    assert "--api-tokn" in _refusal("--api-tokn", CANARY)


def test_no_error_shows_the_password_of_the_database() -> None:
    url = f"postgresql://somebody:{CANARY}@127.0.0.1:1/nothing"
    assert CANARY not in _refusal("--port", "0", "--log-level", "debug", "--database", url)


def test_the_log_level(service: ServiceProcess) -> None:
    service.start(options=["--log-level", "warning", "--access-log"])
    service.get("/settings")
    service.stop()
    assert service.log == ""


# --- shutdown -------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_requests_under_way_are_finished(service: ServiceProcess, number: signal.Signals) -> None:
    service.start()
    body = json.dumps(
        {"name": "a", "type": "int", "default_value": 0, "configurable_features": ["user"]}
    ).encode()
    with _connect(service) as connection:
        connection.sendall(
            b"POST /api/v1/settings/declare HTTP/1.1\r\nhost: localhost\r\nexpect: 100-continue\r\n"
            b"content-type: application/json\r\n"
            b"content-length: %d\r\n\r\n" % len(body)
        )
        assert connection.recv(100).startswith(b"HTTP/1.1 100")  # the request has begun
        assert service.process is not None
        service.process.send_signal(number)
        _wait_until_refused(service)  # new requests are refused
        connection.sendall(body)
        status, answer = _answer(connection)
    assert (status, json.loads(answer)) == (200, {"outcome": "created"})
    assert service.process.wait(DEADLINE) == 0
