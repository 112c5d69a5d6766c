"""`LiveService`: the operations of tests on a service, in a child process and in this one."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from enum import Enum
from pathlib import Path

import httpx
import pytest

from heksher import Setting, ThreadHeksherClient
from heksher.exceptions import InvalidArgumentError
from heksher.testing.service import DEADLINE, LiveService


class Color(Enum):
    RED = "red"
    BLUE = "blue"


@pytest.fixture(scope="module", params=[True, False], ids=["thread", "process"])
def shared(request: pytest.FixtureRequest) -> Iterator[LiveService]:
    with LiveService(in_process=request.param) as service:
        yield service


@pytest.fixture
def service(shared: LiveService) -> LiveService:
    shared.renew(["environment", "user"])
    return shared


def test_features_become_what_they_are_assigned(service: LiveService) -> None:
    for wanted in (["user", "theme", "environment"], [], ["a"], ["b", "a", "c"], ["c", "b", "a"]):
        service.features = wanted
        assert service.features == wanted


def test_a_feature_in_use_stays(service: LiveService) -> None:
    service.declare("a", features=["user"])
    with pytest.raises(AssertionError, match="DELETE /context_features/user: 409"):
        service.features = ["environment"]


def test_settings_as_they_are(service: LiveService) -> None:
    ttl = Setting("ttl", int, ["environment", "user"], 60, {"unit": "s"}, "old_ttl", "2.1")
    assert service.declare(ttl)["outcome"] == "upgraded"
    there = service.get("/settings/ttl")
    assert (there["version"], there["default_value"]) == ("2.1", 60)
    rule = service.add_rule(ttl, 5, environment="dev", user="jim")
    service.set_value(ttl, 30)
    with ThreadHeksherClient(service.url, 60, ["environment", "user"]) as client:
        client.set_defaults(environment="dev")
        assert ttl.get(user="jim") == 5
        assert ttl.get(user="eve") == 30
        service.change_rule(rule, 7)
        client.reload()
        assert ttl.get(user="jim") == 7
        service.delete_rule(rule)
        client.reload()
        assert ttl.get(user="jim") == 30


def test_a_setting_is_declared_where_it_is_needed(service: LiveService) -> None:
    service.add_rule(Setting("a", int, ["user"], 1), 2, user="jim")
    service.set_value(Setting("b", int, ["user"], 1), 2)
    found = service.get("/settings?include_additional_data=1")["settings"]
    assert [(each["name"], each["default_value"], each["version"]) for each in found] == [
        ("a", 1, "1.0"),
        ("b", 2, "1.1"),
    ]


def test_values_go_as_the_service_writes_them(service: LiveService) -> None:
    color = Setting("color", Color, ["user"], Color.RED)
    rule = service.add_rule(color, Color.BLUE, user="jim")
    assert service.get(f"/rules/{rule}")["value"] == "blue"
    service.set_value(color, Color.BLUE)
    assert service.get("/settings/color")["default_value"] == "blue"


def test_settings_by_name(service: LiveService) -> None:
    assert service.declare("a") == {"outcome": "created"}
    service.set_value("a", 5)
    service.set_value("a", 6)
    service.rename("a", "b", "1.3")
    assert service.get("/settings/a")["name"] == "b"
    service.delete_setting("b")
    with pytest.raises(AssertionError, match=r"POST /rules: 422 setting not found with name a"):
        service.add_rule("a", 5, user="jim")


def test_a_feature_may_be_called_anything(service: LiveService) -> None:
    service.features = ["setting", "value", "self"]
    service.declare("a", features=["setting", "value", "self"])
    assert service.add_rule("a", 5, setting="x", value="y", self="z")


def test_what_a_test_does_goes_past_the_faults(service: LiveService) -> None:
    service.faults.load("status(500)")
    service.declare("a")
    assert service.faults.requests == []
    assert httpx.get(f"{service.url}/api/health", trust_env=False).status_code == 500


def test_an_outage(service: LiveService) -> None:
    url = service.url
    service.declare("a")
    with httpx.Client(base_url=url, trust_env=False, timeout=DEADLINE) as client:
        assert client.get("/api/health").status_code == 200
        assert service.stop() == 0
        for _ in range(2):
            with pytest.raises(httpx.ConnectError):
                client.get("/api/health")
        assert not service.is_running
        service.start()
        assert service.url == url
        assert service.features == ["environment", "user"]
        assert service.get("/settings") == {"settings": []}
        assert client.get("/api/health").status_code == 200
    service.kill()
    service.kill()  # once more is harmless
    service.start()


def test_a_service_that_dies_resets_connections() -> None:
    with LiveService() as service, httpx.Client(trust_env=False, timeout=DEADLINE) as client:
        assert client.get(f"{service.url}/api/health").status_code == 200
        assert service.process is not None
        service.process.send_signal(signal.SIGKILL)
        service.process.wait(DEADLINE)
        with pytest.raises(httpx.TransportError):
            client.get(f"{service.url}/api/health")


def test_a_service_that_was_closed_still_tells_what_came(service: LiveService) -> None:
    url = service.url
    httpx.get(f"{url}/api/health", trust_env=False)
    service.close()
    assert service.url == url
    assert [request.path for request in service.faults.requests] == ["/api/health"]
    service.start()
    assert service.url != url
    assert httpx.get(f"{service.url}/api/health", trust_env=False).status_code == 200


def test_renewing_leaves_old_clients_behind(service: LiveService) -> None:
    old = service.url
    service.declare("a")
    service.renew(["x"])
    assert service.url != old
    assert (service.features, service.get("/settings")["settings"]) == (["x"], [])
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{old}/api/health", trust_env=False)


@pytest.mark.parametrize("in_process", [True, False])
def test_a_database_is_kept(tmp_path: Path, in_process: bool) -> None:
    database = tmp_path / "heksher.db"
    with LiveService(["user"], in_process=in_process, database=database) as service:
        service.declare("a")
        service.stop()
        service.start()
        assert service.get("/settings/a")["name"] == "a"


@pytest.mark.parametrize("in_process", [True, False])
def test_a_token(in_process: bool) -> None:
    with LiveService(["user"], in_process=in_process, api_token="s3cret-é") as service:
        if service.process is not None and Path("/proc").exists():
            command = Path(f"/proc/{service.process.pid}/cmdline").read_text()
            assert "serve" in command
            assert "s3cret" not in command  # other users can read it
        service.declare("a")
        url = f"{service.url}/api/v1/settings"
        assert httpx.get(url, trust_env=False).status_code == 401
        right = httpx.Headers([(b"api_token", "s3cret-é".encode())])
        assert httpx.get(url, trust_env=False, headers=right).status_code == 200


def test_without_a_proxy() -> None:
    with LiveService(in_process=True, proxy=False) as service:
        assert service.url == service.direct_url
        with pytest.raises(InvalidArgumentError, match="proxy=True"):
            _ = service.faults
        with pytest.raises(InvalidArgumentError, match="tls=True"):
            _ = service.ssl_context
    with pytest.raises(InvalidArgumentError, match="so use proxy=True"):
        LiveService(proxy=False, tls=True)


@pytest.mark.parametrize("in_process", [True, False])
def test_a_start_that_fails_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch, in_process: bool
) -> None:
    monkeypatch.setitem(sys.modules, "trustme", None)
    service = LiveService(in_process=in_process, tls=True)
    with pytest.raises(ModuleNotFoundError, match=r"heksher\[testing\]"), service:
        pass
    assert not service.is_running
    with pytest.raises(httpx.ConnectError):
        httpx.get(service.direct_url, trust_env=False)


PARENT = """
from heksher.testing.service import LiveService
service = LiveService()
service.start()
print(service.port, flush=True)
input()
"""


def test_a_service_ends_when_its_parent_is_killed() -> None:
    with (
        subprocess.Popen(
            [sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as parent,
        ExitStack() as stack,
    ):
        assert parent.stdin is not None and parent.stdout is not None
        stack.callback(parent.kill)
        port = int(parent.stdout.readline())
        connection = stack.enter_context(socket.create_connection(("127.0.0.1", port), DEADLINE))
        parent.kill()
        with suppress(ConnectionResetError):
            assert connection.recv(1) == b""  # only its process's end closes a new connection


def test_a_project_may_have_modules_and_variables_of_any_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
    monkeypatch.setenv("HEKSHER_API_TOKEN", "of production")
    monkeypatch.setenv("HEKSHER_SHUTDOWN_TIMEOUT", "soon")
    for name in ("secrets", "alembic", "heksher", "logging"):
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('of the project')")
    monkeypatch.chdir(tmp_path)
    with LiveService(["user"]) as service:
        assert service.features == ["user"]
        assert httpx.get(f"{service.url}/api/v1/query", trust_env=False).status_code == 200


def test_a_service_that_does_not_start() -> None:
    with pytest.raises(AssertionError, match="invalid context feature 'a-b'"):
        LiveService(["a-b"]).start()


_REFUSED = """
import sys
from heksher.testing.service import LiveService

def expect(what, text, call):
    try:
        call()
    except AssertionError as error:
        if text in str(error):
            return
        sys.exit(f"{what}: {error}")
    sys.exit(f"{what} passes")

service = LiveService(["user"], in_process=True)
expect("the address before the start", "never been started", lambda: service.url)
expect("a request before the start", "not running", lambda: service.get("/settings"))
with service:
    expect("a second start", "already running", service.start)
    expect("an unknown setting", "404", lambda: service.get("/settings/none"))
    expect("a rule without a setting", "422", lambda: service.add_rule("none", 1, user="jim"))
    expect("a declaration", "400", lambda: service.declare("late", version="2.0"))
    service.stop()
    expect("a second stop", "not running", service.stop)
    expect("a request after the end", "not running", lambda: service.get("/settings"))
"""


@pytest.mark.parametrize("option", ["-O", "-OO"])
def test_refusals_are_seen_without_assertions(option: str) -> None:
    command = [sys.executable, option, "-c", _REFUSED]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
