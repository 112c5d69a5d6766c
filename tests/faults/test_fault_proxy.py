"""Each kind of fault, as seen by an HTTP client of a live service."""

from __future__ import annotations

import errno
import gzip
import math
import os
import select
import selectors
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from itertools import pairwise
from typing import Any

import httpx
import pytest

from heksher.testing import faults as f
from heksher.testing.faults._kinds import KINDS
from heksher.testing.faults.proxy import FaultProxy
from heksher.testing.service import DEADLINE, LiveService

QUERY = "/api/v1/query"
REQUEST = b"GET /api/v1/query HTTP/1.1\r\nhost: localhost\r\n\r\n"


@pytest.fixture(scope="module")
def upstream() -> Iterator[LiveService]:
    with LiveService(["user"], in_process=True, proxy=False) as service:
        service.declare("ttl", "int", 60)
        yield service


@pytest.fixture
def proxy(upstream: LiveService) -> Iterator[FaultProxy]:
    with FaultProxy(upstream.url) as proxy:
        yield proxy


@pytest.fixture
def client(proxy: FaultProxy) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=proxy.url, timeout=DEADLINE, trust_env=False) as client:
        yield client


@pytest.fixture
def real(upstream: LiveService) -> httpx.Response:
    """Return the service's own answer to a query."""
    return upstream.request("GET", QUERY)


def outcome(client: httpx.Client, path: str = QUERY, timeout: float = DEADLINE) -> str:
    """Return the status of a complete answer, or the kind of error."""
    try:
        return str(client.get(path, timeout=timeout).status_code)
    except httpx.TransportError as error:
        return type(error).__name__


def connect(proxy: FaultProxy) -> socket.socket:
    """Open a connection without HTTP and TLS."""
    return socket.create_connection(("127.0.0.1", int(proxy.url.rpartition(":")[2])), DEADLINE)


def threads() -> set[threading.Thread]:
    """Return the threads of proxies, without those of a service in this process."""
    return {each for each in threading.enumerate() if each.name.startswith("fault proxy")}


def census() -> Counter[str]:
    """Return the existing threads and sockets."""
    census: Counter[str] = Counter()
    census["threads"] = len(threads())
    for number in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):  # the descriptor that lists them
            census["sockets"] += os.readlink(f"/proc/self/fd/{number}").startswith("socket:")
    return census


def gone(before: Counter[str]) -> None:
    """Wait until there are no more than before. The service has its own ends of connections."""
    end = time.monotonic() + DEADLINE
    while left := census() - before:
        assert time.monotonic() < end, left


def test_without_faults_nothing_is_changed(client: httpx.Client, upstream: LiveService) -> None:
    for method, path, body in [
        ("GET", QUERY, None),
        ("HEAD", QUERY, None),
        ("GET", "/api/v1/settings/%61?x=%20y&z=a/b", None),
        ("POST", "/api/v1/settings/declare", {"name": "é"}),
        ("DELETE", "/api/v1/settings/none", None),
        ("POST", "/api/v1/rules", None),
    ]:
        through = client.request(method, path, json=body)
        direct = upstream.request(method, path, json=body)
        assert (through.status_code, through.content) == (direct.status_code, direct.content)
        left_out = {"date"}
        assert {k: v for k, v in through.headers.items() if k not in left_out} == {
            k: v for k, v in direct.headers.items() if k not in left_out
        }


def test_an_unchanged_answer_has_no_body(client: httpx.Client, real: httpx.Response) -> None:
    answer = client.get(QUERY, headers={"if-none-match": real.headers["etag"]})
    assert (answer.status_code, answer.content) == (304, b"")
    assert client.get(QUERY).status_code == 200  # on the same connection


def test_chunked_requests_come_through(client: httpx.Client, upstream: LiveService) -> None:
    def body() -> Iterator[bytes]:
        yield b'{"setting": "ttl", "feature_values": '
        yield b'{"user": "jim"}, "value": 5}'

    headers = {"content-type": "application/json"}
    answer = client.post("/api/v1/rules", content=body(), headers=headers)
    assert answer.status_code == 201
    upstream.delete_rule(answer.json()["rule_id"])


def test_a_client_that_waits_to_send_its_body_is_told_to(proxy: FaultProxy) -> None:
    address = ("127.0.0.1", int(proxy.url.rpartition(":")[2]))
    with socket.create_connection(address) as connection:
        connection.sendall(
            b"POST /api/v1/rules HTTP/1.1\r\nhost: localhost\r\ncontent-length: 2\r\n"
            b"content-type: application/json\r\nexpect: 100-continue\r\n\r\n"
        )
        assert connection.recv(100).startswith(b"HTTP/1.1 100 ")
        connection.sendall(b"{}")
        assert connection.recv(100).startswith(b"HTTP/1.1 422 ")


def test_requests_that_come_at_once_are_answered_in_order(proxy: FaultProxy) -> None:
    proxy.faults.add(f.Status(418), nth=2)
    address = ("127.0.0.1", int(proxy.url.rpartition(":")[2]))
    with socket.create_connection(address) as connection:
        connection.sendall(b"GET /api/health HTTP/1.1\r\nhost: localhost\r\n\r\n" * 3)
        received = b""
        while received.count(b"HTTP/1.1") < 3:
            received += connection.recv(65536)
    statuses = [part[:3] for part in received.split(b"HTTP/1.1 ")[1:]]
    assert statuses == [b"200", b"418", b"200"]


@pytest.mark.parametrize("version", [b"1.0", b"1.1\r\nconnection: close"])
def test_a_client_that_asks_for_the_end_gets_it(proxy: FaultProxy, version: bytes) -> None:
    address = ("127.0.0.1", int(proxy.url.rpartition(":")[2]))
    with socket.create_connection(address) as connection:
        connection.sendall(b"GET /api/health HTTP/%s\r\nhost: localhost\r\n\r\n" % version)
        received = b"".join(iter(lambda: connection.recv(65536), b""))
    assert received.startswith(b"HTTP/1.1 200 ")
    assert b'"version"' in received


def test_what_is_no_http_ends_the_connection(proxy: FaultProxy) -> None:
    address = ("127.0.0.1", int(proxy.url.rpartition(":")[2]))
    with socket.create_connection(address) as connection:
        connection.sendall(b"What is this?\r\n\r\n")
        assert connection.recv(100) == b""
    assert proxy.faults.requests == []


# --- the kinds ------------------------------------------------------------------------------------


def test_delay(proxy: FaultProxy, client: httpx.Client, real: httpx.Response) -> None:
    with proxy.faults.add(f.Delay()), pytest.raises(httpx.ReadTimeout):
        client.get(QUERY, timeout=0.05)
    proxy.faults.add(f.Delay(0.01))
    assert client.get(QUERY).content == real.content


def test_a_delay_that_is_removed_ends(proxy: FaultProxy, client: httpx.Client) -> None:
    rule = proxy.faults.add(f.Delay())
    answers: list[str] = []
    asking = threading.Thread(target=lambda: answers.append(outcome(client)))
    asking.start()
    while not rule.hits:
        assert asking.is_alive()
    assert answers == []
    rule.remove()
    asking.join(DEADLINE)
    assert answers == ["200"]


@pytest.mark.parametrize("kind", [f.Status, f.Reset, f.CutShort, f.Refuse, f.WrongETag])
def test_any_fault_may_come_late(
    proxy: FaultProxy, client: httpx.Client, kind: Callable[[], f.Fault]
) -> None:
    with proxy.faults.add(kind(), nth=1):
        at_once = outcome(client)
    late = proxy.faults.add(kind(), delay=math.inf)
    assert outcome(client, timeout=0.05) == "ReadTimeout"
    outcomes: list[str] = []
    asking = threading.Thread(target=lambda: outcomes.append(outcome(client)))
    asking.start()
    while late.hits < 2:
        assert asking.is_alive()
    assert outcomes == []
    late.remove()
    asking.join(DEADLINE)
    assert outcomes == [at_once]  # its fault still applies
    with proxy.faults.add(kind(), nth=1, delay=0.01):
        assert outcome(client) == at_once


def test_a_refusal_that_comes_late_waits_for_a_request(
    proxy: FaultProxy, client: httpx.Client
) -> None:
    proxy.faults.add(f.Refuse(), delay=0.01)
    assert [outcome(client) for _ in range(2)] == ["ReadError", "ConnectError"]


@pytest.mark.parametrize("status", [200, 204, 304, 401, 404, 429, 500, 503, 599])
def test_status(proxy: FaultProxy, client: httpx.Client, status: int) -> None:
    with proxy.faults.add(f.Status(status)):
        assert client.get(QUERY).status_code == status
        assert client.head(QUERY).status_code == status
    assert client.get(QUERY).status_code == 200  # on the same connection


def test_retry_after(proxy: FaultProxy, client: httpx.Client) -> None:
    date = "Wed, 21 Oct 2015 07:28:00 GMT"
    proxy.faults.add(f.Status(429, retry_after=2), nth=1)
    proxy.faults.add(f.Status(503, retry_after=date, body="later"), nth=2)
    answers = [client.get(QUERY) for _ in range(2)]
    assert [answer.headers["retry-after"] for answer in answers] == ["2", date]
    assert answers[1].text == "later"


def test_a_status_keeps_the_request_from_the_service(
    proxy: FaultProxy, client: httpx.Client, upstream: LiveService
) -> None:
    proxy.faults.add(f.Status(503))
    body = {"context_feature": "theme"}
    assert client.post("/api/v1/context_features", json=body).status_code == 503
    assert upstream.features == ["user"]


def test_redirect(proxy: FaultProxy, client: httpx.Client) -> None:
    proxy.faults.add(f.Redirect("/api/health", 302), path=QUERY)
    answer = client.get(QUERY)
    assert (answer.status_code, answer.headers["location"]) == (302, "/api/health")
    assert "version" in client.get(QUERY, follow_redirects=True).json()


@pytest.mark.parametrize("after", [0, 5, 100])
def test_close(proxy: FaultProxy, client: httpx.Client, after: int) -> None:
    with proxy.faults.add(f.Close(after)):
        assert outcome(client) == "RemoteProtocolError"
    assert outcome(client) == "200"


@pytest.mark.parametrize("after", [0, 5])
def test_reset(proxy: FaultProxy, client: httpx.Client, after: int) -> None:
    with proxy.faults.add(f.Reset(after)):
        assert outcome(client) == "ReadError"  # "Connection reset by peer"
    assert outcome(client) == "200"


def test_close_leaves_the_service_having_acted(
    proxy: FaultProxy, client: httpx.Client, upstream: LiveService
) -> None:
    proxy.faults.add(f.Close(), method="POST")
    with pytest.raises(httpx.RemoteProtocolError):
        client.post("/api/v1/context_features", json={"context_feature": "theme"})
    assert upstream.features == ["user", "theme"]
    upstream.features = ["user"]


def test_cut_short(proxy: FaultProxy, client: httpx.Client, real: httpx.Response) -> None:
    half = real.content[: len(real.content) // 2]
    with proxy.faults.add(f.CutShort()), client.stream("GET", QUERY) as answer:
        assert int(answer.headers["content-length"]) == len(real.content)
        pieces = answer.iter_raw()
        assert next(pieces) == half
        with pytest.raises(httpx.RemoteProtocolError):
            next(pieces)
    with proxy.faults.add(f.CutShort(honest=True)):
        assert client.get(QUERY).content == half


def test_endless(proxy: FaultProxy, client: httpx.Client, real: httpx.Response) -> None:
    rule = proxy.faults.add(f.Endless())
    received = b""
    with client.stream("GET", QUERY) as answer:
        for piece in answer.iter_raw():
            received += piece
            if len(received) > 1_000_000:
                break
    assert received.startswith(real.content)
    assert received.strip() == real.content
    with client.stream("GET", QUERY) as answer:
        rule.remove()
        with pytest.raises(httpx.RemoteProtocolError):
            answer.read()


def test_slow(proxy: FaultProxy, client: httpx.Client, real: httpx.Response) -> None:
    with proxy.faults.add(f.Slow(0.0001)):
        assert client.get(QUERY).content == real.content
    with proxy.faults.add(f.Slow(1000)):
        address = ("127.0.0.1", int(proxy.url.rpartition(":")[2]))
        with socket.create_connection(address) as connection:
            connection.sendall(b"GET /api/health HTTP/1.1\r\nhost: localhost\r\n\r\n")
            assert connection.recv(100) == b"H"


def test_invalid_json(proxy: FaultProxy, client: httpx.Client) -> None:
    proxy.faults.add(f.InvalidJson())
    answer = client.get(QUERY)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    with pytest.raises(ValueError, match="Expecting"):
        answer.json()


def test_wrong_shape(proxy: FaultProxy, client: httpx.Client) -> None:
    proxy.faults.add(f.WrongShape('{"settings": 5}'))
    assert client.get(QUERY).json() == {"settings": 5}


def test_content_type(proxy: FaultProxy, client: httpx.Client, real: httpx.Response) -> None:
    proxy.faults.add(f.ContentType("text/html"))
    answer = client.get(QUERY)
    assert (answer.headers["content-type"], answer.content) == ("text/html", real.content)


def test_content_encoding(proxy: FaultProxy, client: httpx.Client, real: httpx.Response) -> None:
    proxy.faults.add(f.ContentEncoding())
    with pytest.raises(httpx.DecodingError):
        client.get(QUERY)
    with client.stream("GET", QUERY) as answer:
        assert b"".join(answer.iter_raw()) == real.content


def test_bomb(proxy: FaultProxy, client: httpx.Client) -> None:
    proxy.faults.add(f.Bomb(3))
    with client.stream("GET", QUERY) as answer:
        packed = b"".join(answer.iter_raw())
    assert len(packed) < 10_000
    assert gzip.decompress(packed) == b" " * 3 * 1024 * 1024
    assert client.get(QUERY).content == b" " * 3 * 1024 * 1024


def test_wrong_etag(proxy: FaultProxy, client: httpx.Client, real: httpx.Response) -> None:
    with proxy.faults.add(f.WrongETag('"other"')):
        answer = client.get(QUERY)
        assert (answer.headers["etag"], answer.content) == ('"other"', real.content)
    with proxy.faults.add(f.WrongETag(None)):
        assert "etag" not in client.get(QUERY).headers


def test_what_spoils_a_body_gets_one(
    proxy: FaultProxy, client: httpx.Client, real: httpx.Response
) -> None:
    headers = {"if-none-match": real.headers["etag"]}
    since = f"{QUERY}?include_metadata=false&since={real.headers['heksher-revision']}"
    with proxy.faults.add(f.InvalidJson()):
        assert client.get(QUERY, headers=headers).status_code == 200
        assert "heksher-partial" not in client.get(since).headers
    assert client.get(QUERY, headers=headers).status_code == 304
    assert "heksher-partial" in client.get(since).headers


def test_refuse_at_once(proxy: FaultProxy, client: httpx.Client) -> None:
    assert outcome(client) == "200"
    with proxy.faults.add(f.Refuse()):
        assert outcome(client) == "ConnectError"
        assert outcome(client) == "ConnectError"
    assert outcome(client) == "200"
    assert len(proxy.faults.requests) == 2


def test_refuse_from_a_request_on(proxy: FaultProxy, client: httpx.Client) -> None:
    rule = proxy.faults.add(f.Refuse(), nth=2)
    assert [outcome(client) for _ in range(4)] == [
        "200",
        "ReadError",
        "ConnectError",
        "ConnectError",
    ]
    rule.remove()
    assert outcome(client) == "200"


def test_a_refusal_ends_by_itself(proxy: FaultProxy, client: httpx.Client) -> None:
    proxy.faults.add(f.Refuse(0.05), nth=1)
    assert outcome(client) == "ReadError"
    outcomes = [outcome(client)]
    while outcomes[-1] != "200":
        outcomes.append(outcome(client))
    assert set(outcomes) <= {"ConnectError", "200"}


def test_the_port_stays_its_own_while_nobody_may_connect(proxy: FaultProxy) -> None:
    address = ("127.0.0.1", int(proxy.url.rpartition(":")[2]))
    with proxy.faults.add(f.Refuse()):
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address)
        with socket.socket() as other, pytest.raises(OSError, match="in use"):
            other.bind(address)


# --- TLS ------------------------------------------------------------------------------------------


@pytest.fixture
def tls_proxy(upstream: LiveService) -> Iterator[FaultProxy]:
    with FaultProxy(upstream.url, tls=True) as proxy:
        yield proxy


@pytest.fixture
def tls_client(tls_proxy: FaultProxy) -> Iterator[httpx.Client]:
    assert tls_proxy.certificates is not None
    trusted = tls_proxy.certificates.trusting()
    with httpx.Client(
        base_url=tls_proxy.url, verify=trusted, timeout=DEADLINE, trust_env=False
    ) as client:
        yield client


def test_tls_is_right_without_faults(tls_proxy: FaultProxy, tls_client: httpx.Client) -> None:
    assert tls_proxy.url.startswith("https://127.0.0.1:")
    assert outcome(tls_client) == "200"


def test_nobody_trusts_the_authority_by_itself(tls_proxy: FaultProxy) -> None:
    with httpx.Client(base_url=tls_proxy.url, trust_env=False) as stranger:
        assert outcome(stranger) == "ConnectError"


@pytest.mark.parametrize(
    ("problem", "reason"),
    [
        ("expired", "certificate has expired"),
        ("host", "IP address mismatch"),
        ("unknown", "unable to get local issuer certificate"),
    ],
)
def test_certificates(
    tls_proxy: FaultProxy, tls_client: httpx.Client, problem: str, reason: str
) -> None:
    assert outcome(tls_client) == "200"
    with tls_proxy.faults.add(f.Certificate(problem)) as rule:  # type: ignore[arg-type]
        with pytest.raises(httpx.ConnectError, match=reason) as caught:
            tls_client.get(QUERY)  # although there was a connection
        assert isinstance(root(caught.value), ssl.SSLCertVerificationError)
        assert rule.hits == 1
    assert outcome(tls_client) == "200"


def root(error: BaseException) -> BaseException:
    while error.__context__ is not None:
        error = error.__context__
    return error


def test_a_certificate_for_the_nth_connection(
    tls_proxy: FaultProxy, tls_client: httpx.Client
) -> None:
    tls_proxy.faults.add(f.Certificate(), first=2)
    assert [outcome(tls_client) for _ in range(4)] == ["ConnectError", "ConnectError", "200", "200"]


@pytest.mark.parametrize("fault", [f.Close(), f.Close(50), f.Reset(), f.CutShort()], ids=str)
def test_breaks_under_tls(tls_proxy: FaultProxy, tls_client: httpx.Client, fault: f.Fault) -> None:
    with tls_proxy.faults.add(fault):
        assert outcome(tls_client) in ("RemoteProtocolError", "ReadError")
    assert outcome(tls_client) == "200"


def test_a_reset_is_one_under_tls(tls_proxy: FaultProxy) -> None:
    """Python's ssl reports this differently from version to version, so the test checks the bytes."""
    tls_proxy.faults.add(f.Reset(5))
    assert tls_proxy.certificates is not None
    arriving, leaving = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = tls_proxy.certificates.trusting().wrap_bio(arriving, leaving, server_hostname="127.0.0.1")
    with connect(tls_proxy) as connection:
        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                connection.sendall(leaving.read())
                arriving.write(connection.recv(65536))
        tls.write(REQUEST)
        connection.sendall(leaving.read())
        with pytest.raises(ConnectionResetError):
            b"".join(iter(lambda: connection.recv(65536), b""))


def test_a_handshake_may_take_long(tls_proxy: FaultProxy, tls_client: httpx.Client) -> None:
    rule = tls_proxy.faults.add(f.Certificate("host"), delay=math.inf)
    tls_client.timeout = httpx.Timeout(0.05)
    with pytest.raises(httpx.ConnectTimeout):
        tls_client.get(QUERY)
    assert rule.hits == 1


def test_tls_names_its_extra() -> None:
    program = (
        "import sys; sys.modules['trustme'] = None\n"
        "from heksher.testing.faults.proxy import FaultProxy\n"
        "FaultProxy('http://127.0.0.1:1').close()\n"
        "FaultProxy('http://127.0.0.1:1', tls=True)"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=False
    )
    assert done.stderr.endswith(
        "ModuleNotFoundError: a proxy with TLS needs more packages: pip install 'heksher[testing]'\n"
    )


# --- closing --------------------------------------------------------------------------------------

LASTING: list[Callable[[], f.Fault]] = [f.Delay, f.Endless, f.Slow, f.Bomb]


@pytest.mark.parametrize("kind", LASTING)
def test_it_ends_whatever_goes_on(upstream: LiveService, kind: Callable[[], f.Fault]) -> None:
    with FaultProxy(upstream.url) as proxy:
        rule = proxy.faults.add(kind())
        address = ("127.0.0.1", int(proxy.url.rpartition(":")[2]))
        idle = socket.create_connection(address)
        busy = socket.create_connection(address)
        busy.sendall(b"GET /api/v1/query HTTP/1.1\r\nhost: localhost\r\n\r\n")
        while not rule.hits:
            pass
    with idle, busy:
        assert idle.recv(1) == b""
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address)
    proxy.close()  # once more is harmless


def test_it_ends_while_the_service_says_nothing() -> None:
    before = threads()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        with FaultProxy(f"http://127.0.0.1:{silent.getsockname()[1]}") as proxy:
            busy = connect(proxy)
            busy.sendall(REQUEST)
            asked, _ = silent.accept()
            assert asked.recv(4) == b"GET "
        with busy, asked:
            assert busy.recv(1) == b""
    assert threads() - before == set()


def test_it_ends_while_nobody_shakes_hands(upstream: LiveService) -> None:
    before = threads()
    with FaultProxy(upstream.url, tls=True) as proxy, connect(proxy) as silent:
        proxy.faults.add(f.Certificate("host"), nth=2)  # once it has arrived
        with connect(proxy) as another:
            proxy.close()
            assert another.recv(1) == b""
        assert silent.recv(1) == b""
    assert threads() - before == set()


def leave(connection: socket.socket) -> None:
    """Close the connection like a client that stops waiting."""
    connection.close()


def reset(connection: socket.socket) -> None:
    """Close the connection like the system does for a killed client."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def ignore(connection: socket.socket) -> None:
    """Read nothing."""


@pytest.mark.parametrize("behave", [ignore, leave, reset])
@pytest.mark.parametrize(
    "kind", [kind for kind in KINDS if kind is not f.Certificate], ids=lambda kind: kind.word
)
def test_nothing_is_left_whatever_a_client_does(
    upstream: LiveService, kind: type[f.Fault], behave: Callable[[socket.socket], None]
) -> None:
    before = census()
    with FaultProxy(upstream.url) as proxy:
        rule = proxy.faults.add(kind(), first=1)
        with connect(proxy) as connection:
            connection.sendall(REQUEST)
            while not rule.hits:
                pass
            behave(connection)
            proxy.close()
    gone(before)


@pytest.mark.skipif(not hasattr(select, "poll"), reason="this platform does not tell")
@pytest.mark.parametrize("behave", [leave, reset])
def test_nobody_waits_for_a_client_that_left(
    upstream: LiveService, behave: Callable[[socket.socket], None]
) -> None:
    with FaultProxy(upstream.url) as proxy:
        before = threads()
        rule = proxy.faults.add(f.Delay())
        connection = connect(proxy)
        connection.sendall(REQUEST)
        while not rule.hits:
            pass
        (waiting,) = threads() - before
        behave(connection)
        waiting.join(DEADLINE)
        assert not waiting.is_alive()


@pytest.mark.parametrize("fault", [f.Delay(0.3), f.Slow(0.0001), f.CutShort(), f.Bomb(1)], ids=str)
def test_who_has_asked_may_close_its_half(proxy: FaultProxy, fault: f.Fault) -> None:
    def body(*, half: bool) -> bytes:
        with connect(proxy) as connection:
            connection.sendall(REQUEST.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n"))
            if half:
                connection.shutdown(socket.SHUT_WR)
            received = b"".join(iter(lambda: connection.recv(65536), b""))
        return received.partition(b"\r\n\r\n")[2]

    proxy.faults.add(fault)
    assert body(half=True) == body(half=False) != b""


def test_files_of_any_number(upstream: LiveService) -> None:
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    with ExitStack() as stack, socket.socket() as some:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(limits[0], 2000), limits[1]))
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, limits)
        for _ in range(1100):
            stack.enter_context(some.dup())
        with FaultProxy(upstream.url) as proxy, httpx.Client(trust_env=False) as client:
            assert client.get(f"{proxy.url}{QUERY}").status_code == 200


def test_it_rests_while_it_can_accept_nobody(
    upstream: LiveService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without file descriptors, and then without threads, it does not loop."""
    told: list[object] = []

    class Selector(selectors.DefaultSelector):
        def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
            told.append(len(self.get_map()))
            return super().select(timeout)

    def failing(
        real: Callable[[Any], Any], error: Exception, is_meant: Callable[[Any], bool]
    ) -> Any:
        left = [error, error]

        def fail(self: Any) -> Any:
            if is_meant(self) and left:
                told.append(error)
                raise left.pop()
            return real(self)

        return fail

    monkeypatch.setattr(selectors, "DefaultSelector", Selector)
    with FaultProxy(upstream.url) as proxy, httpx.Client(trust_env=False) as client:
        port = httpx.URL(proxy.url).port
        full = OSError(errno.EMFILE, "Too many open files")
        accept = failing(socket.socket.accept, full, lambda self: self.getsockname()[1] == port)
        monkeypatch.setattr(socket.socket, "accept", accept)
        assert client.get(f"{proxy.url}{QUERY}").status_code == 200
        many = RuntimeError("can't start new thread")
        start = failing(
            threading.Thread.start, many, lambda self: self.name == "fault proxy connection"
        )
        monkeypatch.setattr(threading.Thread, "start", start)
        with httpx.Client(base_url=proxy.url, trust_env=False) as another:
            assert [outcome(another) for _ in range(3)][-1] == "200"
    after = [then for what, then in pairwise(told) if isinstance(what, Exception)]
    assert after == [1, 1, 1, 1]


def test_closing_leaves_no_thread(upstream: LiveService) -> None:
    before = threads()
    with FaultProxy(upstream.url) as proxy, httpx.Client(trust_env=False) as client:
        assert client.get(f"{proxy.url}{QUERY}").status_code == 200
        assert threads() - before
    assert threads() - before == set()
