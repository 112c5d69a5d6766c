"""The ASGI application in common servers, each as a process, alone and mounted."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from support.service_process import DEADLINE

TOKEN = {"api_token": "x"}

_ALONE = """
from heksher.service import create_app

app = create_app({database!r}, ["user"], api_token="x", body_limit=1000)
"""
_MOUNTED = """
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.routing import Mount

from heksher.service import create_app

service = create_app({database!r}, ["user"], api_token="x", body_limit=1000)


@asynccontextmanager
async def lifespan(app):
    async with service.router.lifespan_context(service):
        yield


app = Starlette(routes=[Mount("/below", service)], lifespan=lifespan)
"""
_COMMANDS = {
    "uvicorn": ["uvicorn", "--fd", "{fd}"],
    "hypercorn-asyncio": ["hypercorn", "--bind", "fd://{fd}"],
    "hypercorn-trio": ["hypercorn", "--worker-class", "trio", "--bind", "fd://{fd}"],
}


@contextmanager
def _served(server: str, folder: Path, program: str) -> Generator[str]:
    """Run an application in a server, which must shut down cleanly; return its URL."""
    (folder / "program.py").write_text(program.format(database=str(folder / "heksher.db")))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        fd = listener.fileno()
        command = [part.format(fd=fd) for part in _COMMANDS[server]]
        process = subprocess.Popen(
            [sys.executable, "-m", *command, "program:app"],
            cwd=folder,
            pass_fds=[fd],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": os.pathsep.join([str(folder), *sys.path])},
        )
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    try:
        yield url
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            _, log = process.communicate(timeout=DEADLINE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise
    assert process.returncode in (0, -signal.SIGTERM), log
    assert "Traceback" not in log, log


@pytest.mark.parametrize("prefix", ["", "/below"])
@pytest.mark.parametrize("server", _COMMANDS)
def test_the_application_under_a_server(server: str, tmp_path: Path, prefix: str) -> None:
    with (
        _served(server, tmp_path, _MOUNTED if prefix else _ALONE) as url,
        httpx.Client(base_url=url + prefix, timeout=DEADLINE, trust_env=False) as client,
    ):
        _use(client, prefix)


@pytest.mark.parametrize("server", ["hypercorn-asyncio", "hypercorn-trio"])
def test_with_http_2(server: str, tmp_path: Path) -> None:
    with (
        _served(server, tmp_path, _ALONE) as url,
        httpx.Client(
            base_url=url, timeout=DEADLINE, trust_env=False, http1=False, http2=True
        ) as client,
    ):
        _use(client, "")
        assert client.get("/api/health").http_version == "HTTP/2"


def _use(client: httpx.Client, prefix: str) -> None:
    assert client.get("/api/health").status_code == 200
    assert client.get("/api/v1/settings").status_code == 401
    client.headers.update(TOKEN)
    declaration = {
        "name": "a",
        "type": "int",
        "default_value": 0,
        "configurable_features": ["user"],
    }
    assert client.post("/api/v1/settings/declare", json=declaration).json() == {
        "outcome": "created"
    }
    rule = {"setting": "a", "feature_values": {"user": "jim"}, "value": 5}
    created = client.post("/api/v1/rules", json=rule)
    assert created.headers["location"] == f"{prefix}/api/v1/rules/1"
    answer = client.get("/api/v1/query")
    assert answer.json()["settings"]["a"]["rules"][0]["value"] == 5
    same = client.get("/api/v1/query", headers={"If-None-Match": answer.headers["etag"]})
    assert (same.status_code, same.content) == (304, b"")
    assert client.get("/docs").headers["content-type"] == "text/html; charset=utf-8"
    assert client.get("/openapi.json").json()["servers"] == [{"url": prefix or "/"}]
    assert client.get("/docs/files/swagger-ui-bundle.js").status_code == 200
    # With and without an announced length.
    assert client.post("/api/v1/rules", content=b"-" * 1001).status_code == 413
    assert client.post("/api/v1/rules", content=iter([b"-" * 600] * 2)).status_code == 413
    assert client.get("/api/v1/rules/1").status_code == 200
