"""The README's examples, run as they stand there but for the service's address."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from service_process import ServiceProcess

README = Path(__file__).parents[2] / "README.md"
PATIENCE = 60


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README.read_text(), re.DOTALL | re.MULTILINE)


@pytest.fixture
def service() -> Iterator[ServiceProcess]:
    with ServiceProcess() as process:
        process.start(["environment", "user", "theme"])
        yield process


def run_python(source: str, service: ServiceProcess) -> list[str]:
    assert "http://127.0.0.1:8000" in source
    done = subprocess.run(
        [sys.executable, "-c", source.replace("http://127.0.0.1:8000", service.url)],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.split()


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
def test_the_asynchronous_example(service: ServiceProcess, loop: str) -> None:
    source = blocks("python")[0]
    assert source.endswith("asyncio.run(main())\n")
    if loop == "trio":  # "nothing changes but the import and the last line"
        source = "import trio\n" + source.replace("asyncio.run(main())", "trio.run(main)")
    assert run_python(source, service) == ["60", "white"]
    service.add_rule("cache_ttl", {"user": "jim"}, 5)
    assert run_python(source, service) == ["5", "white"]


def test_the_example_of_threads(service: ServiceProcess) -> None:
    first, second = blocks("python")[:2]
    definitions = first[first.index("from contextvars") : first.index("async def main")]
    assert run_python(definitions + second, service) == ["60"]


def test_the_rule_that_is_added_by_curl(service: ServiceProcess) -> None:
    service.declare("cache_ttl", features=["environment", "user"])
    (command,) = [block for block in blocks("sh") if block.startswith("curl ")]
    body = re.search(r"-d '(.*)'$", command, re.MULTILINE)
    assert body is not None
    assert "'content-type: application/json' http://127.0.0.1:8000/api/v1/rules" in command
    response = service.request("POST", "/rules", json=json.loads(body[1]))
    assert response.status_code == 201
