"""``heksher serve`` as a process: options, the line on stdout, signals."""

from __future__ import annotations

import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx
import pytest
from support.service_process import DEADLINE, ServiceProcess

from heksher.service.storage import open_storage
from heksher.service.web import server


@pytest.fixture
def service() -> Iterator[ServiceProcess]:
    with ServiceProcess() as process:
        yield process


def _heksher(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command until it ends."""
    return subprocess.run(
        [sys.executable, "-m", "heksher", *arguments],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )


def _refusal(*arguments: str) -> str:
    """Return the single line in which the command says why it cannot start."""
    result = _heksher("serve", "--port", "0", *arguments)
    assert result.returncode == 2
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("heksher serve: error: ")
    return lines[0]


def test_it_answers_where_it_says(service: ServiceProcess) -> None:
    url = service.start(features=["environment", "user"])
    assert url == f"http://127.0.0.1:{service.port}"
    assert httpx.get(f"{url}/api/health", trust_env=False).status_code == 200
    assert service.get("/context_features") == {"context_features": ["environment", "user"]}
    assert service.declare("a") == {"outcome": "created"}
    rule = service.add_rule("a", 5, user="jim")
    service.change_rule(rule, 6)
    section = {"value": 6, "context_features": [["user", "jim"]], "rule_id": rule}
    assert service.get("/query")["settings"] == {"a": {"default_value": 0, "rules": [section]}}
    service.delete_rule(rule)
    service.rename("a", "b", "1.0")
    assert service.get("/settings/a")["aliases"] == ["a"]
    service.delete_setting("b")
    assert service.get("/settings") == {"settings": []}
    service.add_feature("theme")
    service.move_feature("environment", to_after="user")
    assert service.get("/context_features") == {
        "context_features": ["user", "environment", "theme"]
    }


def test_nothing_but_the_address_is_on_stdout() -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "heksher", "serve", "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        url = line.removeprefix("heksher service on ").removesuffix("\n")
        assert httpx.get(f"{url}/api/v1/query", trust_env=False).status_code == 200
        assert httpx.get(f"{url}/nowhere", trust_env=False).status_code == 404
        process.terminate()
        assert process.stdout.read() == ""
    assert process.returncode == 0


@pytest.mark.parametrize(
    ("redirection", "reason"),
    [
        (">&-", "it is closed"),
        ("<&- >&-", "it is closed"),
        (">/dev/full", "[Errno 28] No space left on device"),
    ],
)
def test_it_serves_without_a_stdout_and_logs_where(redirection: str, reason: str) -> None:
    serve = f'exec "{sys.executable}" -m heksher serve --port 0 {redirection}'
    with subprocess.Popen(["sh", "-c", serve], stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        found = None
        while found is None:
            line = process.stderr.readline()
            assert line, "it has ended"
            found = re.search(
                r"WARNING listening on (http://\S+); stdout cannot say so: (.*)", line
            )
        assert found[2] == reason
        assert httpx.get(f"{found[1]}/api/v1/query", trust_env=False).status_code == 200
        process.terminate()
        assert "Traceback" not in process.stderr.read()


def test_a_refusal_without_a_stderr_is_on_stdout() -> None:
    serve = f'exec "{sys.executable}" -m heksher serve --port 0 --features a-b 2>&-'
    ended = subprocess.run(
        ["sh", "-c", serve], stdout=subprocess.PIPE, text=True, timeout=DEADLINE, check=False
    )
    assert ended.returncode == 2
    assert ended.stdout.startswith("heksher serve: error: invalid context feature 'a-b'")


def test_a_file_keeps_everything(service: ServiceProcess, tmp_path: Path) -> None:
    service.start(features=["user"], database=tmp_path / "heksher.db")
    port = service.port
    service.declare("a", "Mapping<float>", {"b": 1, "a": 1.0}, metadata={"doc": [1.0]})
    first = service.add_rule("a", {"x": 1e300}, user="jim")
    service.delete_rule(service.add_rule("a", {}, user="joe"))
    service.rename("a", "b", "1.1")
    before = service.request("GET", "/query"), service.get("/settings?include_additional_data=1")
    assert service.stop() == 0
    service.start_again()
    assert service.port == port
    after = service.request("GET", "/query"), service.get("/settings?include_additional_data=1")
    assert after[0].content == before[0].content
    assert after[0].headers["etag"] == before[0].headers["etag"]
    assert after[1] == before[1]
    assert service.add_rule("a", {}, user="ann") == first + 2  # ids are not used again


def test_a_file_survives_being_killed(service: ServiceProcess, tmp_path: Path) -> None:
    service.start(features=["user"], database=tmp_path / "heksher.db")
    service.declare("a")
    service.kill()
    service.start_again()
    assert service.get("/settings")["settings"][0]["name"] == "a"


def test_features_are_added_to_those_of_the_database(
    service: ServiceProcess, tmp_path: Path
) -> None:
    database = tmp_path / "heksher.db"
    service.start(features=["b", "d"], database=database)
    service.stop()
    service.start(features=["a", "b", "c", "d"], database=database)
    assert service.get("/context_features")["context_features"] == ["a", "b", "c", "d"]
    service.stop()
    service.start(features=[], database=database)
    assert service.get("/context_features")["context_features"] == ["a", "b", "c", "d"]
    service.stop()
    line = _refusal("--database", str(database), "--features", "b,a,c,d")
    assert "do not match the database, which has a,b,c,d: " in line


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_signals_end_it(service: ServiceProcess, number: signal.Signals) -> None:
    service.start(options=["--shutdown-timeout", "1"])
    address = ("127.0.0.1", service.port)
    with (
        httpx.Client(base_url=service.url, trust_env=False) as kept_alive,
        socket.create_connection(address),
        socket.create_connection(address) as in_headers,
        socket.create_connection(address) as in_body,
    ):
        in_headers.sendall(b"GET /api/health HTTP/1.1\r\nhost: localhost\r\n")
        in_body.sendall(
            b"POST /api/v1/rules HTTP/1.1\r\nhost: localhost\r\ncontent-length: 9\r\n"
            b"expect: 100-continue\r\n\r\n"
        )
        assert in_body.recv(100).startswith(b"HTTP/1.1 100")  # it waits for the body now
        assert kept_alive.get("/api/health").status_code == 200
        assert service.process is not None
        service.process.send_signal(number)
        service.process.send_signal(number)  # a second signal
        assert service.process.wait(DEADLINE) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_signals_end_it_while_it_starts(tmp_path: Path, number: signal.Signals) -> None:
    tokens = tmp_path / "tokens"
    os.mkfifo(tokens)
    environment = {**os.environ, "HEKSHER_API_TOKEN_FILE": str(tokens)}
    with (
        subprocess.Popen(
            [sys.executable, "-m", "heksher", "serve", "--port", "0"],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process,
        tokens.open("w"),  # as soon as it reads, and while it continues to read
    ):
        process.send_signal(number)
        output = process.communicate(timeout=DEADLINE)
    assert (process.returncode, output) == (0, ("", ""))


def _logged(request: bytes, status: bytes) -> str:
    """Send *request*, which is answered with *status*, and return the log."""
    with subprocess.Popen(
        [sys.executable, "-m", "heksher", "serve", "--port", "0", "--api-token", "t"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        url = httpx.URL(process.stdout.readline().removeprefix("heksher service on ").rstrip())
        assert url.port is not None
        with socket.create_connection((url.host, url.port), DEADLINE) as client:
            client.sendall(request)
            assert client.recv(100).startswith(b"HTTP/1.1 " + status)
        process.terminate()
        return process.communicate(timeout=DEADLINE)[1]


def test_a_malformed_body_that_nobody_reads_is_told_in_one_line() -> None:
    log = _logged(
        b"POST /api/v1/rules HTTP/1.1\r\nhost: localhost\r\n"
        b"transfer-encoding: chunked\r\n\r\nzz\r\n",
        b"400",
    )
    assert "a response was not sent" in log
    assert "Traceback" not in log


@pytest.mark.parametrize("protocol", [b"h2c", b"websocket"])
def test_a_request_for_another_protocol_is_answered_and_not_told(protocol: bytes) -> None:
    log = _logged(
        b"GET /api/health HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\n"
        b"upgrade: %b\r\n\r\n" % protocol,
        b"200",
    )
    assert log.count("WARNING") == log.count("WARNING no context features") == 1


def test_what_the_end_cuts_off_is_told_in_one_line() -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "heksher", "serve", "--port", "0", "--shutdown-timeout", "1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        url = httpx.URL(process.stdout.readline().removeprefix("heksher service on ").rstrip())
        assert url.port is not None
        with socket.create_connection((url.host, url.port)) as in_body:
            in_body.sendall(
                b"POST /api/v1/rules HTTP/1.1\r\nhost: localhost\r\ncontent-length: 9\r\n"
                b"expect: 100-continue\r\n\r\n"
            )
            assert in_body.recv(100).startswith(b"HTTP/1.1 100")  # it waits for the body now
            process.terminate()
            _, log = process.communicate(timeout=DEADLINE)
    assert "Cancel 1 running task(s)" in log
    assert "Traceback" not in log
    assert process.returncode == 0


def test_what_else_uvicorn_could_run_on_is_not_loaded(
    service: ServiceProcess, tmp_path: Path
) -> None:
    """The bounds of connections are bounds of h11 and asyncio, whatever ``uvicorn[standard]`` brings."""
    for name in ("httptools", "uvloop"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('it is imported')")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    service.start(environment={"PYTHONPATH": path})
    assert service.get("/settings") == {"settings": []}


def test_the_token(service: ServiceProcess) -> None:
    url = service.start(api_token="s3cret-é")
    assert service.get("/settings") == {"settings": []}
    with httpx.Client(base_url=url, trust_env=False) as client:
        assert client.get("/api/health").status_code == 200
        for headers in (
            {},
            {"api_token": "wrong"},
            {"authorization": "Bearer wrong"},
            {"authorization": "Basic s3cret"},
        ):
            assert client.get("/api/v1/settings", headers=headers).status_code == 401
        right = httpx.Headers([(b"authorization", "Bearer s3cret-é".encode())])
        assert client.get("/api/v1/settings", headers=right).status_code == 200
    assert "s3cret" not in service.log


def test_a_port_in_use(service: ServiceProcess) -> None:
    service.start()
    assert f"port {service.port}: Address already in use" in _refusal("--port", str(service.port))


_BAD_OPTIONS: list[tuple[list[str], str]] = [
    (["--port", "x"], "--port: invalid number 'x': expected an integer"),
    (["--port", "65536"], "invalid number 65536: expected 0 to 65535"),
    (["--features", "user,a-b"], "invalid context feature 'a-b'"),
    (["--features", "user,,b"], "invalid context feature ''"),
    (["--features", "user,user"], "duplicate context feature"),
    (["--database", "mysql://x/y"], "expected the path of an SQLite file"),
    (["--database", "/nowhere/at/all.db"], "unable to open database file"),
    (["--api-token", ""], "empty token"),
    (["--host", "nowhere.invalid"], "cannot listen on nowhere.invalid"),
]


@pytest.mark.parametrize(
    ("arguments", "message"), _BAD_OPTIONS, ids=[" ".join(row[0]) for row in _BAD_OPTIONS]
)
def test_bad_options(arguments: list[str], message: str) -> None:
    assert message in _refusal(*arguments)


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("These are notes, and no database at all. " * 50)
    assert "file is not a database" in _refusal("--database", str(path))


def test_a_database_of_something_else(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE settings (name)")
    connection.commit()
    connection.close()
    assert "not a complete Heksher database" in _refusal("--database", str(path))


_MIGRATE = "run the original's migrations on it: alembic upgrade head"


@pytest.mark.parametrize(
    ("change", "revision", "message"),
    [
        ("UPDATE alembic_version SET version_num = '7713520cb02b'", "7713520cb02b", _MIGRATE),
        (
            "UPDATE alembic_version SET version_num = '2d75117ba1f8'; DROP TABLE rule_metadata; "
            "DROP TABLE setting_aliases; DROP TABLE setting_metadata",
            "2d75117ba1f8",
            _MIGRATE,
        ),
        ("UPDATE alembic_version SET version_num = '123456789abc'", "123456789abc", "Upgrade"),
        (
            "DELETE FROM alembic_version",
            "none",
            "its tables were made without the original's migrations",
        ),
        ("DROP TABLE alembic_version", "none", "alembic stamp 83f0f272313f"),
    ],
)
def test_a_database_of_another_revision(
    tmp_path: Path, change: str, revision: str, message: str
) -> None:
    path = tmp_path / "heksher.db"
    with closing(open_storage(str(path))):
        pass
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(change)
    refusal = _refusal("--database", str(path))
    assert f"the database is at revision {revision}, expected 83f0f272313f: " in refusal
    assert message in refusal


def test_the_database_of_another_application_with_alembic(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript("CREATE TABLE alembic_version (version_num); CREATE TABLE x (y)")
    expected = "not a Heksher database (tables: alembic_version, x): use another database"
    assert expected in _refusal("--database", str(path))


@pytest.mark.parametrize("missing", ["starlette", "uvicorn", "sqlalchemy"])
def test_a_missing_extra(missing: str) -> None:
    program = (
        f"import sys; sys.modules[{missing!r}] = None\n"
        "from heksher.cli import main\n"
        "sys.exit(main(['serve', '--port', '0']))"
    )
    result = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    assert result.returncode == 2
    assert result.stderr == (
        "heksher serve: error: the embedded service needs more packages: "
        "pip install 'heksher[service]'\n"
    )


def test_importing_the_service_and_the_command_is_light() -> None:
    program = (
        "import sys, heksher.cli, heksher.service\n"
        "print({'starlette', 'uvicorn', 'sqlalchemy', 'httpx', 'anyio'} & sys.modules.keys())"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert result.stdout == "set()\n"


def test_version() -> None:
    result = _heksher("--version")
    assert result.returncode == 0
    assert result.stdout.startswith("heksher 1.")


def test_no_command() -> None:
    result = _heksher()
    assert result.returncode == 2
    assert len(result.stderr.splitlines()) == 1


def test_answers_are_not_held_back() -> None:
    """Nagle's algorithm is turned off by asyncio, but only for sockets with the protocol TCP."""
    with server.listen("127.0.0.1", 0) as listener:
        assert listener.proto == socket.IPPROTO_TCP
