"""``heksher serve --faults``: a process with a text of faults."""

from __future__ import annotations

import re
import ssl
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager

import httpx
import pytest

from heksher.testing.service import DEADLINE


@contextmanager
def serving(faults: str, *more: str) -> Generator[tuple[str, subprocess.Popen[str]]]:
    """Run the service with these faults; return the URL that it prints."""
    command = [sys.executable, "-m", "heksher", "serve", "--port", "0", "--faults", faults, *more]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().removeprefix("heksher service on ").rstrip(), process
        finally:
            process.kill()


def test_faults_happen_as_the_text_says() -> None:
    with (
        serving(
            "status(503, retry_after=2) on GET /api/v1/query first 2 delay 0.01",
            "--features",
            "user",
            "--log-level",
            "debug",
        ) as (url, process),
        httpx.Client(base_url=url, trust_env=False, timeout=DEADLINE) as client,
    ):
        answers = [client.get("/api/v1/query") for _ in range(3)]
        assert [answer.status_code for answer in answers] == [503, 503, 200]
        assert answers[0].headers["retry-after"] == "2"
        found = client.get("/api/v1/context_features?secret=x", headers={"api_token": "s3cret"})
        features = found.json()["context_features"]
        assert features == ["user"]
        process.terminate()
        _, log = process.communicate(timeout=DEADLINE)
    assert process.returncode == 0
    assert "faults on demand: 1, seed 0" in log
    assert log.count("Status(status=503") == 2
    # No queries, no headers, and no lines for the proxy's own requests.
    assert not re.search("secret|s3cret|content-length|HTTP Request", log)


def test_certificates_of_an_authority_that_is_told() -> None:
    with serving("certificate(expired) first 1") as (url, process):
        assert url.startswith("https://127.0.0.1:")
        assert process.stderr is not None
        lines = iter(process.stderr.readline, "")
        found = next(
            match[1] for line in lines if (match := re.search(r"the authority is in (\S+),", line))
        )
        trusted = ssl.create_default_context(cafile=found)
        with httpx.Client(
            base_url=url, verify=trusted, trust_env=False, timeout=DEADLINE
        ) as client:
            with pytest.raises(httpx.ConnectError, match="certificate has expired"):
                client.get("/api/health")
            assert client.get("/api/health").status_code == 200


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["statsu"], "--faults: invalid fault text: unknown fault 'statsu', did you"),
        (["certificate on GET"], "before there is a method or a path"),
        (
            ["reset", "--port", "{taken}"],
            "cannot listen on 127.0.0.1 port {taken}: Address already",
        ),
    ],
)
def test_what_cannot_be(arguments: list[str], message: str) -> None:
    with serving("reset") as (url, _):
        taken = url.rpartition(":")[2]
        given = [argument.format(taken=taken) for argument in arguments]
        command = [sys.executable, "-m", "heksher", "serve", "--port", "0", "--faults", *given]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=DEADLINE, check=False
        )
    assert done.returncode == 2
    assert done.stdout == ""
    (line,) = [
        each for each in done.stderr.splitlines() if each.startswith("heksher serve: error: ")
    ]
    assert message.format(taken=taken) in line
