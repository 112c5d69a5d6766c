"""A database that is locked, full, read-only or unreachable: 503, and recovery afterwards."""

from __future__ import annotations

import logging
import resource
import sqlite3
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio.to_thread
import pytest
from crowd import at_once, declaration, statuses
from starlette.testclient import TestClient
from support.databases import KeptDatabase, kept_on_postgresql
from support.service_process import DEADLINE, ServiceProcess

from heksher import __version__
from heksher.service import create_app
from heksher.service.domain.errors import CannotStartError, DatabaseUnavailable
from heksher.service.storage import Storage, engines, open_storage
from heksher.service.web import http
from heksher.service.web.routes import answers

if TYPE_CHECKING:
    from support.postgres import PostgresServer


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the timeout for locks and connections."""
    monkeypatch.setattr(engines, "LOCK_TIMEOUT", 0.2)


@pytest.fixture
def on_postgresql(postgres_server: PostgresServer) -> KeptDatabase:
    return kept_on_postgresql(postgres_server)


@contextmanager
def _served(database: KeptDatabase) -> Generator[TestClient]:
    with TestClient(create_app(database.url, ["user"])) as client:
        yield client


def _declare(client: TestClient, name: str, **more: Any) -> Any:
    """Return the outcome of a declaration, or the seconds after which to retry."""
    method, path, body = declaration(name, **more)
    answer = client.request(method, f"/api/v1{path}", json=body)
    if answer.status_code == 503:
        assert answer.text == "the database is unavailable at the moment: try again later"
        return int(answer.headers["retry-after"])
    return answer.json()["outcome"]


def _health(client: TestClient) -> tuple[int, Any]:
    answer = client.get("/api/health")
    return answer.status_code, answer.json()


def _database_name(database: KeptDatabase) -> str:
    return str(database.rows("SELECT current_database()")[0][0])


@pytest.mark.usefixtures("impatient")
def test_another_writer_that_does_not_end(
    kept_database: KeptDatabase, postgres_server: PostgresServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Reads continue, writes get 503."""
    caplog.set_level(logging.INFO, "heksher.service")
    connection: Any
    if kept_database.name == "SQLite":
        connection = sqlite3.connect(kept_database.url, isolation_level=None)
        begin = "BEGIN IMMEDIATE"
    else:
        connection = postgres_server.connect(_database_name(kept_database))
        begin = "BEGIN; LOCK TABLE rules IN ROW EXCLUSIVE MODE"
    with closing(connection), _served(kept_database) as client:
        connection.execute(begin)
        with ThreadPoolExecutor() as pool:
            sent = [pool.submit(_declare, client, "a") for _ in range(5)]
            assert [outcome.result(DEADLINE) for outcome in sent] == [2] * 5
        assert client.get("/api/v1/settings").json() == {"settings": []}
        assert _health(client) == (200, {"version": __version__, "last_write": "failed"})
        connection.execute("COMMIT")
        assert _declare(client, "a") == "created"
        assert _health(client) == (200, {"version": __version__})
    messages = [record.message for record in caplog.records if record.name == "heksher.service"]
    assert "the database refuses writes: " in messages[0]
    assert messages[1:] == ["the database accepts writes again"]


@pytest.mark.usefixtures("impatient")
def test_a_table_that_nobody_may_read(
    on_postgresql: KeptDatabase, postgres_server: PostgresServer
) -> None:
    with (
        _served(on_postgresql) as client,
        postgres_server.connect(_database_name(on_postgresql)) as connection,
    ):
        connection.execute("BEGIN; LOCK TABLE context_features IN ACCESS EXCLUSIVE MODE")
        assert _declare(client, "a") == 2
        assert client.get("/api/v1/context_features").status_code == 503
        assert client.get("/api/health").status_code == 500
        connection.execute("COMMIT")
        assert client.get("/api/health").status_code == 200
        assert _declare(client, "a") == "created"


def test_a_database_that_stands_still(
    on_postgresql: KeptDatabase, postgres_server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that keeps its connections but does not answer."""
    begun, ended = list[Any](), list[Any]()
    run_sync = anyio.to_thread.run_sync

    async def counted(work: Callable[[], object], **options: Any) -> object:
        def noted() -> object:
            begun.append(work)
            try:
                return work()
            finally:
                ended.append(work)

        return await run_sync(noted, **options)

    monkeypatch.setattr(anyio.to_thread, "run_sync", counted)
    with _served(on_postgresql) as client:
        _declare(client, "a")
        with monkeypatch.context() as impatient, postgres_server.standing_still():
            impatient.setattr(http, "_REQUEST_TIMEOUT", 0.3)
            impatient.setattr(answers, "_REVISION_TIMEOUT", 0.3)
            assert _declare(client, "b") == 2
            assert client.get("/api/v1/query").status_code == 503
            assert client.get("/api/health").status_code == 500
        _wait_until(lambda: len(ended) == len(begun) > 3)  # requests abandoned in their threads
        assert _declare(client, "c") == "created"
        assert client.get("/api/health").status_code == 200


def test_a_deadlock_with_somebody_is_tried_again(
    on_postgresql: KeptDatabase, postgres_server: PostgresServer
) -> None:
    with (
        _served(on_postgresql) as client,
        postgres_server.connect(_database_name(on_postgresql)) as connection,
        ThreadPoolExecutor() as pool,
    ):
        _declare(client, "a")
        # The other transaction detects deadlocks late, so the service's own is rolled back.
        connection.execute("SET deadlock_timeout = '1h'; BEGIN")
        connection.execute("SELECT 1 FROM settings WHERE name = 'a' FOR UPDATE")
        outcome = pool.submit(_declare, client, "a", version="1.1", default_value=2)
        _wait_until(lambda: bool(connection.execute(_SOMEBODY_WAITS_FOR_A_ROW).fetchall()))
        connection.execute("INSERT INTO rules (setting, value) VALUES ('a', '5')")
        connection.execute("COMMIT")
        assert outcome.result(DEADLINE) == "upgraded"
        assert client.get("/api/v1/settings/a").json()["default_value"] == 2


_SOMEBODY_WAITS_FOR_A_ROW = (
    b"SELECT 1 FROM pg_locks WHERE NOT granted AND locktype IN ('transactionid', 'tuple')"
)


def _wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end, "it does not happen"


def test_connections_that_were_cut_are_not_noticed_by_clients(
    on_postgresql: KeptDatabase, postgres_server: PostgresServer
) -> None:
    name = _database_name(on_postgresql)
    with _served(on_postgresql) as client, postgres_server.connect() as connection:
        for number in range(3):
            cut = connection.execute(
                "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = %s",
                [name],
            ).fetchall()
            assert cut and set(cut) == {(True,)}
            assert _declare(client, f"s{number}") == "created"
            for path in ("query", "settings/s0", "context_features"):
                connection.execute(
                    "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity "
                    "WHERE datname = %s",
                    [name],
                )
                assert client.get(f"/api/v1/{path}").status_code == 200


def test_a_database_that_can_only_be_read(
    on_postgresql: KeptDatabase, postgres_server: PostgresServer
) -> None:
    name = _database_name(on_postgresql)
    with _served(on_postgresql) as client, postgres_server.connect() as connection:
        for setting, outcome in (("on", 2), ("off", "created")):
            connection.execute(
                f"ALTER DATABASE {name} SET default_transaction_read_only = {setting}".encode()
            )
            connection.execute(
                "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = %s",
                [name],
            )
            assert _declare(client, "a") == outcome
            assert client.get("/api/v1/query").status_code == 200
            assert _health(client) == (
                200,
                {"version": __version__} | ({"last_write": "failed"} if outcome == 2 else {}),
            )


def test_a_full_disk(tmp_path: Path) -> None:
    """Simulate a full disk by a limit on file sizes."""
    path = tmp_path / "heksher.db"
    with ServiceProcess() as service:
        url = service.start(features=["user"], database=path)
        service.declare("a")
        assert service.process is not None
        size = max(file.stat().st_size for file in tmp_path.iterdir())
        _, most = resource.prlimit(service.process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(service.process.pid, resource.RLIMIT_FSIZE, (size, most))
        declarations = [declaration(f"s{number}") for number in range(20)]
        answers = at_once([url], declarations, connections=4)
        assert statuses(answers).keys() == {503} or statuses(answers).keys() == {200, 503}
        stored = {
            request[2]["name"]
            for request, answer in zip(declarations, answers, strict=True)
            if answer.status_code == 200
        }
        listed = service.get("/settings")["settings"]
        assert {setting["name"] for setting in listed} == {"a"} | stored
        resource.prlimit(service.process.pid, resource.RLIMIT_FSIZE, (most, most))
        assert statuses(at_once([url], declarations, connections=4)) == {200: 20}


# --- a file that was deleted or replaced ----------------------------------------------------------


def _other_file(folder: Path) -> Path:
    path = folder / "other.db"
    open_storage(str(path), ["user"]).close()
    return path


@pytest.mark.parametrize("kind", ["deleted", "replaced"])
def test_a_file_that_is_deleted_or_replaced(kind: str, tmp_path: Path) -> None:
    """No answers from the old file and no writes that would be lost; recovery when it is back."""
    path, aside = tmp_path / "heksher.db", tmp_path / "aside.db"
    with ServiceProcess() as service:
        service.start(features=["user"], database=path)
        service.declare("a")
        assert service.request("GET", "/query").status_code == 200
        path.rename(aside)
        if kind == "replaced":
            _other_file(tmp_path).rename(path)
        for _ in range(2):  # cached answers are not used either
            answer = service.request("GET", "/query")
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
            assert service.request("GET", "/settings").status_code == 503
            assert service.request("GET", "/api/health").status_code == 500
            method, below, body = declaration("b")
            assert service.request(method, below, json=body).status_code == 503
        assert path.exists() == (kind == "replaced")  # and no new file is created in its place
        aside.rename(path)
        assert service.request("GET", "/api/health").status_code == 200
        assert service.declare("b") == {"outcome": "created"}
        assert [setting["name"] for setting in service.get("/settings")["settings"]] == ["a", "b"]
        service.stop()
    lines = [line for line in service.log.splitlines() if "the database" in line]
    assert len(lines) == 2, service.log
    assert f"the database's file {path} was deleted or replaced" in lines[0]
    assert lines[1].endswith("the database's file is at its path again")
    assert "Traceback" not in service.log


def test_a_file_that_is_replaced_while_it_is_used(tmp_path: Path) -> None:
    """Commits to the old file are not acknowledged, and data read from it is not sent."""
    path, aside = tmp_path / "heksher.db", tmp_path / "aside.db"
    with closing(open_storage(str(path), ["user"])) as storage:

        def write() -> None:
            with storage.writing() as writer:
                path.rename(aside)
                writer.put_features(["user", "theme"])

        def read() -> None:
            with storage.reading() as reader:
                assert reader.features() == ["user", "theme"]
                _other_file(tmp_path).rename(path)

        with pytest.raises(DatabaseUnavailable):
            write()
        aside.rename(path)
        with pytest.raises(DatabaseUnavailable):
            read()


# --- kinds of databases ---------------------------------------------------------------------------


def test_urls_of_sqlite(tmp_path: Path) -> None:
    path = tmp_path / "100%.db"
    open_storage(f"sqlite:///{path}", ["user"]).close()
    with closing(open_storage(str(path))) as storage, storage.reading() as reader:
        assert reader.features() == ["user"]
    for text in ("memory", ":memory:", "sqlite://", "sqlite:///:memory:"):
        open_storage(text).close()
    assert [file.name for file in tmp_path.iterdir()] == ["100%.db"]


@pytest.mark.parametrize("name", ["file:a.db", "a?b#c.db", "a b%20.db", "é\n.db", "~"])
def test_all_connections_have_the_same_file(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Any file name works, and changing the directory does not matter."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(tmp_path)
    with closing(open_storage(name, ["user"])) as storage:
        monkeypatch.chdir(elsewhere)
        before = storage.revision()
        with storage.writing() as writer:
            writer.put_features(["user", "theme"])
        assert storage.revision() != before
        assert list(elsewhere.iterdir()) == []
        files = {file.name for file in tmp_path.iterdir()}
        assert files == {name, f"{name}-wal", f"{name}-shm", "elsewhere"}


def test_another_scheme_of_postgresql(on_postgresql: KeptDatabase) -> None:
    for scheme in ("postgres", "postgresql+psycopg"):
        open_storage(on_postgresql.url.replace("postgresql", scheme, 1)).close()


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://jane:s3cret@127.0.0.1:1/heksher",
        "postgresql://jane:s3%63ret@127.0.0.1:1/heksher",
        "postgresql://127.0.0.1:1/heksher?user=jane&password=s3cret",
        "postgresql://jane:a@s3cret@127.0.0.1:1/heksher",
        "postgresql://jane:s3cret@127.0.0.1:port/heksher",
        "postgresql://jane@127.0.0.1:s3cret/heksher",
        "mysql://jane:s3cret@127.0.0.1:1/heksher",
        "sqlite://jane:s3cret@/heksher",
        "://s3cret",
    ],
)
def test_no_password_is_shown(url: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with pytest.raises(CannotStartError) as caught:
        create_app(url)
    assert "s3cret" not in "".join(traceback.format_exception(caught.value))
    assert "s3cret" not in caplog.text
    if "127.0.0.1:1/heksher" in url and url.startswith("postgresql://") and "a@" not in url:
        assert "127.0.0.1:1/heksher: connection failed" in str(caught.value)


def test_no_password_is_shown_by_the_command() -> None:
    url = "postgresql://jane:s3cret@127.0.0.1:1/heksher"
    result = subprocess.run(
        [sys.executable, "-m", "heksher", "serve", "--port", "0", "--database", url],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    assert (result.returncode, result.stdout) == (2, "")
    assert "cannot open the database postgresql://jane:***@127.0.0.1:1/heksher" in result.stderr
    assert "s3cret" not in result.stderr


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1"])
def test_an_encoding_that_lacks_characters(postgres_server: PostgresServer, encoding: str) -> None:
    name = f"in_{encoding.lower()}"
    statement = f"CREATE DATABASE {name} ENCODING {encoding} LOCALE 'C' TEMPLATE template0"
    with postgres_server.connect() as connection:
        connection.execute(statement.encode())
    message = f"the database {name} has the encoding {encoding}, expected UTF8: create it with"
    with pytest.raises(CannotStartError, match=message):
        open_storage(postgres_server.url(name))
    postgres_server.drop_database(name)


def test_a_host_that_goes_away_is_noticed_unless_the_url_says_otherwise(
    on_postgresql: KeptDatabase,
) -> None:
    """Even if everything has been sent and only the answer is missing."""
    for more, idle in (("", "10"), ("&keepalives_idle=77", "77")):
        engine = engines.database_of(on_postgresql.url + more).engine
        with closing(engine.raw_connection()) as connection:
            known: Any = connection.driver_connection
            found = known.info.get_parameters()
        engine.dispose()
        assert (found["keepalives_idle"], found["keepalives_interval"]) == (idle, "10")


def test_a_driver_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(CannotStartError, match=r"pip install 'heksher\[postgres\]'"):
        create_app("postgresql://127.0.0.1/heksher")


# --- the revision ---------------------------------------------------------------------------------


def test_a_revision_for_every_commit(kept_database: KeptDatabase) -> None:
    with (
        closing(open_storage(kept_database.url, ["a"])) as one,
        closing(open_storage(kept_database.url)) as other,
    ):
        for writer, reader in ((one, other), (other, one), (one, one)):
            before = reader.revision()
            with reader.reading() as reading:
                features = reading.features()
            assert reader.revision() == before
            with pytest.raises(ZeroDivisionError):
                _write_and_fail(writer)
            assert reader.revision() == before
            with writer.writing() as writing:
                writing.put_features([*features, f"f{len(features)}"])
                assert reader.revision() == before
            assert reader.revision() != before


def _write_and_fail(storage: Storage) -> None:
    with storage.writing() as writer:
        writer.put_features([])
        raise ZeroDivisionError


def test_a_revision_in_memory() -> None:
    with closing(open_storage("memory")) as storage:
        before = storage.revision()
        with storage.writing() as writer:
            writer.put_features(["a"])
        assert storage.revision() != before
