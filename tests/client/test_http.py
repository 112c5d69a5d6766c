"""The edge to HTTP: bounds, errors, redirects, credentials; against servers that misbehave."""

from __future__ import annotations

import base64
import gzip
import json
import socket
import sys
import threading
import time
import traceback
import zlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import anyio.lowlevel
import httpx
import pytest
from support.harness import (
    PATIENCE,
    AnyClient,
    AsyncioHarness,
    GeventHarness,
    Harness,
    TrioHarness,
)
from support.leftovers import Leftovers
from support.misbehaving import (
    OK,
    Answer,
    MisbehavingServer,
    endless,
    hang_up,
    http,
    silence,
    trickle,
)

from heksher import Setting, ThreadHeksherClient
from heksher._text import named
from heksher.backends._http.body import Body
from heksher.exceptions import (
    ClientClosedError,
    HeksherError,
    InvalidArgumentError,
    InvalidResponseError,
    ServiceUnreachableError,
    UnexpectedStatusError,
)
from heksher.status import ClientState
from heksher.testing.service import LiveService

FEATURES = ["user"]
HEALTHY = b'{"version":"test"}'


def make_client(backend: Harness, url: str, **options: Any) -> AnyClient:
    return backend.client(url, 60, FEATURES, **options)


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(silence, id="silence"),
        pytest.param(trickle(OK), id="trickling-headers"),
        pytest.param(
            trickle(OK + b"content-length: 100000\r\n\r\n" + b" " * 1000), id="trickling-body"
        ),
    ],
)
def test_a_whole_request_is_bounded_in_time(backend: Harness, answer: Answer) -> None:
    async def body() -> None:
        leftovers = Leftovers()
        client = make_client(backend, server.url, request_timeout=0.3)
        before = time.monotonic()
        with pytest.raises(ServiceUnreachableError, match=r"longer than 0\.3 seconds"):
            await client.ping()
        assert time.monotonic() - before < 5
        await client.close()
        await backend.until(lambda: leftovers.found()["threads"] == 0)

    with MisbehavingServer(answer) as server:
        backend.run(body)


def test_the_bound_also_holds_on_a_connection_that_was_used_before(backend: Harness) -> None:
    async def body() -> None:
        client = make_client(backend, server.url, request_timeout=1.0)
        await client.ping()
        with pytest.raises(ServiceUnreachableError, match="longer than"):
            await client.get_settings()
        # The client works as before.
        await client.ping()
        await client.close()

    with MisbehavingServer(http(HEALTHY)) as server:
        server.answer_by("api/v1/settings", silence)
        backend.run(body)


def test_one_thread_watches_all_requests_and_is_gone_after_the_last_one() -> None:
    before = threading.enumerate()  # another test's may take a while to end

    def watching_threads() -> list[threading.Thread]:
        begun = [thread for thread in threading.enumerate() if thread not in before]
        return [thread for thread in begun if thread.name == "heksher-deadline"]

    with MisbehavingServer(http(HEALTHY)) as server:
        server.answer_by("api/v1/settings", silence)
        client = ThreadHeksherClient(server.url, 60, FEATURES, request_timeout=1)
        client.ping()
        watching = watching_threads()
        client.ping()
        assert len(watching) == 1
        assert watching_threads() == watching
        # The thread ends after the last request, and the next request is bounded again.
        watching[0].join(PATIENCE)
        assert not watching_threads()
        with pytest.raises(ServiceUnreachableError, match="longer than"):
            client.get_settings()
        client.ping()
        client.close()
        assert not watching_threads()


GZIP = OK + b"content-encoding: gzip\r\n"


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        pytest.param(
            endless(b"x" * 4096), "is larger than max_response_bytes=100000", id="endless"
        ),
        pytest.param(
            http(gzip.compress(b" " * 10_000_000), GZIP),
            "decompressed, is larger than max_response_bytes=100000",
            id="bomb",
        ),
    ],
)
def test_an_answer_is_bounded_in_size(backend: Harness, answer: Answer, text: str) -> None:
    async def body() -> None:
        client = make_client(backend, server.url, max_response_bytes=100_000)
        with pytest.raises(InvalidResponseError, match=text):
            await client.ping()
        await client.close()

    with MisbehavingServer(answer) as server:
        backend.run(body)


@pytest.mark.heksher_service(in_process=True, features=FEATURES)
def test_a_setting_whose_answer_is_too_large_costs_only_itself(
    backend: Harness, heksher_service: LiveService
) -> None:
    settings = [Setting(f"too_large_{number}", str, FEATURES, "") for number in range(20)]
    for setting in settings:
        # Two of them fit into one answer.
        heksher_service.add_rule(setting, "x" * 4000, user="jim")
    for user in range(4):
        heksher_service.add_rule(settings[7], "x" * 4000, user=str(user))

    async def body() -> None:
        client = make_client(backend, heksher_service.url, max_response_bytes=12_000)
        async with client:
            arrived = [setting for setting in settings if setting.get(user="jim")]
            assert arrived == settings[:7] + settings[8:]
            (dropped,) = client.status.rejected_rules
            assert dropped.setting == "too_large_7"
            assert "larger than max_response_bytes=12000" in str(dropped)

    backend.run(body)


@pytest.mark.parametrize("harness", [AsyncioHarness(), TrioHarness()], ids=["asyncio", "trio"])
def test_a_body_in_many_pieces_lets_other_tasks_have_their_turn(harness: Harness) -> None:
    """A piece may be a single byte, and a thousand of them may arrive at once."""
    turns: list[int] = []

    class Pieces(httpx.AsyncByteStream):
        read = 0

        async def __aiter__(self) -> AsyncIterator[bytes]:
            for _ in range(2000):
                self.read += 1
                yield b" "
            yield HEALTHY

    pieces = Pieces()
    transport = httpx.MockTransport(lambda _: httpx.Response(200, stream=pieces))

    async def take_turns() -> None:
        while pieces.read < 2000:
            turns.append(pieces.read)
            await anyio.lowlevel.checkpoint()

    async def body() -> None:
        client = make_client(
            harness, "http://service.test", http_client_args={"transport": transport}
        )
        others = harness.beside(take_turns)
        await client.ping()
        await harness.until(lambda: others.ended)
        await client.close()

    harness.run(body)
    assert len(set(turns)) > 10


def test_a_compressed_answer_is_read(backend: Harness) -> None:
    async def body() -> None:
        client = make_client(backend, server.url)
        await client.ping()
        await client.close()

    with MisbehavingServer(http(gzip.compress(HEALTHY), GZIP)) as server:
        backend.run(body)


FOUND = b'{"context_features": ["user"], "settings": []}'
MEMBERS = b"".join(gzip.compress(FOUND[at : at + 5]) for at in range(0, len(FOUND), 5))
#: What a server may send for `FOUND` when gzip is asked for, by RFC 9110, 1952 and 8259.
CODED = {
    "gzip": gzip.compress(FOUND),
    " GZIP ": gzip.compress(FOUND),
    "x-gzip": gzip.compress(FOUND),
    "gzip, identity,, ": gzip.compress(FOUND),
    "gzip\r\ncontent-encoding: x-gzip": gzip.compress(gzip.compress(FOUND)),
    "identity": FOUND,
    "": FOUND,
    # Of several members, which appending makes. What follows them and is none is ignored.
    "gzip ": MEMBERS,
    "gzip  ": MEMBERS + b"\0" * 9,
    # With a byte order mark.
    "identity ": b"\xef\xbb\xbf" + FOUND,
    "x-gzip ": gzip.compress(b"\xef\xbb\xbf" + FOUND),
}


@pytest.mark.parametrize("coding", CODED)
def test_a_body_in_any_coding_that_was_asked_for_is_read(backend: Harness, coding: str) -> None:
    async def body() -> None:
        client = make_client(backend, server.url, max_response_bytes=len(CODED[coding]) + 100)
        assert await client.get_settings() == {}
        await client.close()

    with MisbehavingServer(
        http(CODED[coding], OK + f"content-encoding: {coding}\r\n".encode())
    ) as server:
        backend.run(body)


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param((b" " * 600,) * 2, id="members"),
        pytest.param((b" " * 600, b"", b" " * 401), id="empty-members"),
        pytest.param((gzip.compress(b" " * 1001),), id="twice"),
    ],
)
def test_all_of_a_compressed_body_together_is_bounded(
    backend: Harness, answer: tuple[bytes, ...]
) -> None:
    async def body() -> None:
        client = make_client(backend, server.url, max_response_bytes=1000)
        with pytest.raises(
            InvalidResponseError, match="decompressed, is larger than max_response_bytes=1000"
        ):
            await client.ping()
        await client.close()

    coding = OK + b"content-encoding: gzip, gzip\r\n"
    if len(answer) > 1:
        coding = GZIP
    with MisbehavingServer(http(b"".join(map(gzip.compress, answer)), coding)) as server:
        backend.run(body)


def test_many_members_take_no_longer_than_one_for_each_byte_of_them() -> None:
    """Each member's end must not copy all that follows."""
    many = gzip.compress(b"") * 200_000
    whole = Body(len(many))
    whole.add(many)
    request = httpx.Request("GET", "http://service.test")
    answer = httpx.Response(200, headers={"content-encoding": "gzip"}, request=request)
    began = time.process_time()
    assert whole.response(answer, is_decoded=False).body == b""
    assert time.process_time() - began < 5


@pytest.mark.parametrize("coding", ["gzip", "br"])
def test_an_answer_that_has_no_body_needs_no_decoding(backend: Harness, coding: str) -> None:
    """Of an answer that says "not modified", the coding is that of the body which it does not have."""
    head = b"etag: x\r\ncontent-type: application/json\r\n"
    body_ = b'{"settings": {"limit": {"rules": [], "default_value": 5}}}'

    def query(connection: socket.socket, stop: threading.Event) -> None:
        if b"if-none-match" in server.requests[-1].lower():
            named = f"content-encoding: {coding}\r\n\r\n".encode()
            connection.sendall(b"HTTP/1.1 304 Not Modified\r\n" + head + named)
        else:
            http(body_, b"HTTP/1.1 200 OK\r\n" + head)(connection, stop)

    async def body() -> None:
        limit = Setting("limit", int, FEATURES, 1)
        async with make_client(backend, server.url) as client:
            for _ in range(2):
                await client.reload()
                assert limit.get(user="jim") == 5
        assert any(b"if-none-match" in request.lower() for request in server.requests)

    listed: dict[str, object] = {
        "name": "limit",
        "type": "int",
        "default_value": 1,
        "version": "1.0",
        "configurable_features": FEATURES,
        "metadata": {},
        "aliases": [],
    }
    with MisbehavingServer(http(b'{"outcome": "uptodate", "latest_version": "1.0"}')) as server:
        server.answer_by("api/v1/context_features", http(FOUND))
        server.answer_by("api/v1/settings", http(json.dumps({"settings": [listed]}).encode()))
        server.answer_by("api/v1/query", query)
        backend.run(body)


def test_a_refusal_counts_even_if_its_text_cannot_be_read(backend: Harness) -> None:
    head = b"HTTP/1.1 401 Unauthorized\r\ncontent-encoding: br\r\n"

    async def body() -> None:
        client = make_client(backend, server.url)
        with pytest.raises(UnexpectedStatusError) as caught:
            await client.ping()
        assert caught.value.status == 401
        await client.close()

    with MisbehavingServer(http(b"?", head)) as server:
        backend.run(body)


def unpacked_in(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that gets the thread in which each answer is decompressed."""
    unpack = zlib.decompressobj
    threads: list[int] = []

    def watched(*args: Any, **options: Any) -> Any:
        threads.append(threading.get_ident())
        return unpack(*args, **options)

    monkeypatch.setattr(zlib, "decompressobj", watched)
    return threads


def ping_for_a_large_compressed_answer(backend: Harness) -> None:
    async def body() -> None:
        client = make_client(backend, server.url)
        await client.ping()
        await client.close()

    with MisbehavingServer(http(gzip.compress(HEALTHY + b" " * 10_000_000), GZIP)) as server:
        backend.run(body)


def test_a_large_compressed_answer_is_unpacked_where_no_event_loop_waits(
    backend: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = unpacked_in(monkeypatch)
    ping_for_a_large_compressed_answer(backend)
    (thread,) = threads
    assert (thread == threading.get_ident()) is (backend.name == "thread")


def test_a_large_compressed_answer_over_patched_sockets_is_unpacked_outside_of_the_hub(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    harness = GeventHarness()
    from gevent import monkey

    def is_module_patched(module: str) -> bool:
        return module == "socket"

    monkeypatch.setattr(monkey, "is_module_patched", is_module_patched)
    threads = unpacked_in(monkeypatch)
    ping_for_a_large_compressed_answer(harness)
    (thread,) = threads
    assert thread != threading.get_ident()


def test_a_service_may_say_when_to_come_again_by_a_date_alone(backend: Harness) -> None:
    async def body() -> None:
        client = make_client(backend, server.url)
        with pytest.raises(UnexpectedStatusError) as caught:
            await client.ping()
        assert caught.value.retry_after is not None
        assert caught.value.retry_after + time.time() == pytest.approx(253402300799, abs=60)
        await client.close()

    head = b"HTTP/1.1 503 No\r\nretry-after: Fri, 31 Dec 9999 23:59:59 GMT\r\n"
    with MisbehavingServer(http(b"{}", head)) as server:
        backend.run(body)


def test_a_query_that_is_refused_gives_no_hint_on_address_or_credentials(backend: Harness) -> None:
    # By then other requests have succeeded, so both are right.
    async def body() -> None:
        client = make_client(backend, server.url)
        client.add_settings([setting])
        with pytest.raises(UnexpectedStatusError, match=r"HTTP 403: no$"):
            await client.set_as_main()
        await client.close()

    setting = Setting("refused_query", int, FEATURES, 1)
    with MisbehavingServer(http(b"no", b"HTTP/1.1 403 No\r\n")) as server:
        server.answer_by("api/v1/context_features", http(b'{"context_features":["user"]}'))
        server.answer_by("api/v1/settings", http(b'{"settings":[]}'))
        server.answer_by("api/v1/settings/declare", http(b'{"outcome":"created"}'))
        backend.run(body)


@pytest.mark.parametrize("body", [HEALTHY, b"", b"OK", b"{", b"[]", b"\xff"])
def test_a_service_is_healthy_if_the_status_says_so(backend: Harness, body: bytes) -> None:
    async def body_of_test() -> None:
        client = make_client(backend, server.url)
        await client.ping()
        for status in (202, 404, 500):
            server.answer_by("api/health", http(body, b"HTTP/1.1 %d No\r\n" % status))
            with pytest.raises(UnexpectedStatusError, match=f"api/health returned HTTP {status}"):
                await client.ping()
        await client.close()

    with MisbehavingServer(http(body)) as server:
        backend.run(body_of_test)


@pytest.mark.parametrize(
    ("answer", "error", "text"),
    [
        pytest.param(hang_up, ServiceUnreachableError, "no answer", id="hang-up"),
        pytest.param(
            http(b"{}", b"HTTP/1.1 503 No\r\nretry-after: 7\r\n"),
            UnexpectedStatusError,
            "503",
            id="503",
        ),
        pytest.param(http(b"<html>"), InvalidResponseError, "settings", id="no-json"),
        pytest.param(
            http(b"x", b"nonsense\r\n"), ServiceUnreachableError, "no answer", id="no-http"
        ),
        pytest.param(
            http(b"no gzip", GZIP), ServiceUnreachableError, "no gzip", id="bad-compression"
        ),
        pytest.param(
            http(gzip.compress(HEALTHY)[:-9], GZIP),
            ServiceUnreachableError,
            "cut short",
            id="cut-compression",
        ),
        pytest.param(
            http(HEALTHY, OK + b"content-encoding: br\r\n"),
            ServiceUnreachableError,
            "'br'",
            id="unasked-encoding",
        ),
    ],
)
def test_what_goes_wrong_is_named_and_can_be_caught_as_both_families(
    backend: Harness, answer: Answer, error: type[HeksherError], text: str
) -> None:
    async def body() -> None:
        client = make_client(backend, server.url)
        with pytest.raises(error, match=text) as caught:
            await client.get_settings()
        assert isinstance(caught.value, httpx.HTTPError)
        # Its class is one of both families, and is shown under the name that users can import.
        assert named(caught.value).startswith(f"{error.__name__}: GET {server.url}/api/")
        assert repr(caught.value).startswith(f"{error.__name__}(")
        assert (type(caught.value).__module__, type(caught.value).__qualname__) == (
            "heksher.exceptions",
            error.__qualname__,
        )
        if isinstance(caught.value, UnexpectedStatusError):
            assert caught.value.status == 503
            assert caught.value.retry_after == 7
            assert isinstance(caught.value, httpx.HTTPStatusError)
            assert caught.value.response.status_code == 503
        await client.close()

    with MisbehavingServer(answer) as server:
        backend.run(body)


def test_nobody_listening_is_an_error_of_both_families(backend: Harness) -> None:
    async def body() -> None:
        client = make_client(backend, "http://127.0.0.1:9")
        with pytest.raises(ServiceUnreachableError, match=r"[Cc]onnection refused") as caught:
            await client.ping()
        assert isinstance(caught.value, httpx.TransportError)
        await client.close()

    backend.run(body)


def test_redirects_are_followed_to_the_same_origin_only(backend: Harness) -> None:
    async def body() -> None:
        headers = {"api_token": "secret"}
        client = make_client(backend, home.url, http_client_args={"headers": headers})
        home.answer_by("api/health", moved("/api/moved"))
        home.answer_by("api/moved", http(HEALTHY))
        await client.ping()
        home.answer_by("api/moved", moved(f"{abroad.url}/api/health"))
        with pytest.raises(UnexpectedStatusError, match="307"):
            await client.ping()
        home.answer_by("api/moved", moved("/api/moved"))
        with pytest.raises(UnexpectedStatusError, match="307"):
            await client.ping()
        assert abroad.requests == []
        assert all(b"api_token: secret" in request for request in home.requests)
        await client.close()

    with MisbehavingServer(hang_up) as home, MisbehavingServer(http(HEALTHY)) as abroad:
        backend.run(body)


def moved(location: str) -> Answer:
    return http(b"", f"HTTP/1.1 307 Moved\r\nlocation: {location}\r\n".encode())


def test_credentials_in_the_url_become_auth_and_are_never_shown(
    backend: Harness, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", "heksher")

    async def body() -> None:
        url = server.url.replace("http://", "http://jim:s%40cret@")
        client = make_client(backend, url, startup="continue")
        await client.ping()
        await client.set_as_main()
        shown = f"{client.client!r} {client.status} {client.status.last_error!r}"
        assert "s%40cret" not in shown
        assert "s@cret" not in shown
        await client.close()

    with MisbehavingServer(http(HEALTHY)) as server:
        backend.run(body)
    token = base64.b64encode(b"jim:s@cret")
    assert all(b"Basic " + token in request for request in server.requests)
    assert not any("cret" in record.getMessage() for record in caplog.records)


def test_the_service_may_live_below_a_path(backend: Harness) -> None:
    async def body() -> None:
        client = make_client(backend, f"{server.url}/settings/service/")
        await client.ping()
        await client.close()

    with MisbehavingServer(http(HEALTHY)) as server:
        backend.run(body)
    assert server.requests[0].startswith(b"GET /settings/service/api/health ")


@pytest.mark.parametrize("name", ["haeders", 5])
def test_http_client_args_that_httpx_does_not_take_are_named(backend: Harness, name: Any) -> None:
    async def body() -> None:
        client = make_client(backend, "http://127.0.0.1:9", http_client_args={name: {}})
        with pytest.raises(InvalidArgumentError, match=f"http_client_args \\({name}\\)"):
            await client.ping()
        await client.close()

    backend.run(body)


def test_a_package_that_httpx_needs_for_an_argument_is_named(
    backend: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "socksio", None)  # as if it were not installed
    proxy = "socks5://jim:tops3cret@127.0.0.1:9"

    async def body() -> None:
        client = make_client(backend, "http://127.0.0.1:9", http_client_args={"proxy": proxy})
        with pytest.raises(InvalidArgumentError, match="'socksio' package is not installed") as it:
            await client.ping()
        assert "s3cret" not in str(it.value)
        await client.close()

    backend.run(body)


@pytest.mark.parametrize("as_factory", [False, True], ids=["ready", "factory"])
def test_a_ready_http_client_is_used_and_not_closed_and_a_made_one_is_closed(
    backend: Harness, as_factory: bool
) -> None:
    made: list[Any] = []
    kind: type[Any] = httpx.Client if backend.is_blocking else httpx.AsyncClient

    def make() -> Any:
        made.append(kind(headers={"x-mine": "yes"}))
        return made[-1]

    async def body() -> None:
        given: Any | Callable[[], Any] = make if as_factory else make()
        client = make_client(backend, server.url, http_client=given)
        await client.ping()
        await client.close()
        assert len(made) == 1
        assert made[0].is_closed is as_factory
        if not as_factory:
            if kind is httpx.Client:
                made[0].close()
            else:
                await made[0].aclose()

    with MisbehavingServer(http(HEALTHY)) as server:
        backend.run(body)
    assert b"x-mine: yes" in server.requests[0]


def test_closing_ends_a_real_request_that_hangs(backend: Harness) -> None:
    async def body() -> None:
        leftovers = Leftovers()
        client = make_client(backend, server.url, startup="continue", startup_timeout=60)
        starting = backend.beside(client.set_as_main)
        await backend.until(server.connected.is_set, "the request arrives")
        before = time.monotonic()
        await client.close()
        assert time.monotonic() - before < 3
        await backend.until(lambda: starting.ended)
        assert isinstance(starting.error, ClientClosedError)
        assert client.status.state is ClientState.CLOSED
        await backend.until(lambda: leftovers.found()["threads"] + leftovers.found()["tasks"] == 0)

    with MisbehavingServer(silence) as server:
        backend.run(body)


def test_no_connection_is_left_after_closing(backend: Harness) -> None:
    async def body() -> None:
        client = make_client(backend, server.url)
        await client.ping()
        assert server.open_connections() == 1
        await client.close()
        await backend.until(lambda: server.open_connections() == 0, "the connection is closed")

    with MisbehavingServer(http(HEALTHY)) as server:
        backend.run(body)


def test_a_stalled_tls_handshake_is_bounded_in_time(backend: Harness) -> None:
    async def body() -> None:
        client = make_client(backend, server.url.replace("http", "https"), request_timeout=0.3)
        before = time.monotonic()
        with pytest.raises(ServiceUnreachableError):
            await client.ping()
        assert time.monotonic() - before < 3
        await client.close()

    with MisbehavingServer(silence) as server:
        backend.run(body)


def test_any_number_of_seconds_will_do(backend: Harness) -> None:
    async def body() -> None:
        client = backend.client(
            server.url,
            1e12,
            FEATURES,
            startup="continue",
            startup_timeout=1e12,
            request_timeout=1e12,
        )
        await client.ping()
        await client.set_as_main()
        for _ in range(2):
            with pytest.raises(InvalidResponseError):
                await client.reload()
        assert client.status.state is ClientState.RUNNING
        await client.close()

    with MisbehavingServer(http(HEALTHY)) as server:
        backend.run(body)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        pytest.param(
            {"headers": {"api_token": "tops3cret\n"}}, ServiceUnreachableError, id="line-break"
        ),
        pytest.param({"headers": {"api_token": "tops3cret\xe4"}}, InvalidArgumentError, id="ascii"),
        pytest.param({"auth": ["jim", "tops3cret"]}, InvalidArgumentError, id="auth"),
        pytest.param({"proxy": "http://jim:tops3cret/@host"}, InvalidArgumentError, id="proxy"),
    ],
)
def test_no_message_about_http_client_args_shows_a_secret(
    backend: Harness,
    arguments: dict[str, Any],
    error: type[HeksherError],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("DEBUG", "heksher")

    async def body() -> None:
        client = make_client(backend, server.url, http_client_args=arguments, startup="continue")
        with pytest.raises(error) as caught:
            await client.ping()
        shown = "".join(traceback.format_exception(caught.value))
        assert "s3cret" not in shown
        if error is InvalidArgumentError:
            with pytest.raises(error) as caught:
                await client.set_as_main()
            assert "s3cret" not in "".join(traceback.format_exception(caught.value))
        else:
            await client.set_as_main()
        assert isinstance(client.status.last_error, error)
        assert "s3cret" not in "".join(traceback.format_exception(client.status.last_error))
        await client.close()

    with MisbehavingServer(http(HEALTHY)) as server:
        backend.run(body)
    assert "s3cret" not in caplog.text


def test_a_callable_that_makes_no_client_is_an_error_of_this_library(backend: Harness) -> None:
    def fail() -> Any:
        raise RuntimeError("no client today")

    async def body() -> None:
        client = make_client(backend, "http://127.0.0.1:9", http_client=fail)
        with pytest.raises(ServiceUnreachableError, match="no client today"):
            await client.ping()
        await client.close()

    backend.run(body)


@pytest.mark.parametrize("where", ["callable", "hook"])
def test_an_exit_in_what_the_application_hands_in_ends_no_update_loop(
    backend: Harness, where: str
) -> None:
    def exit_at_once(*_: object) -> Any:
        raise SystemExit("enough")

    async def exit_in_time(*_: object) -> None:
        exit_at_once()

    hook = exit_at_once if backend.is_blocking else exit_in_time
    hooks = {"event_hooks": {"request": [hook]}}

    async def body() -> None:
        client = backend.client(
            "http://127.0.0.1:9",
            1e12,
            FEATURES,
            startup="continue",
            http_client=exit_at_once if where == "callable" else None,
            http_client_args=hooks if where == "hook" else None,
        )
        with pytest.raises(ServiceUnreachableError, match="SystemExit"):
            await client.ping()
        await client.set_as_main()
        for _ in range(2):
            with pytest.raises(ServiceUnreachableError, match="SystemExit"):
                await client.reload()
        assert client.status.state is ClientState.RUNNING
        await client.close()

    backend.run(body)


def test_the_class_of_an_http_client_is_a_callable_that_makes_one(backend: Harness) -> None:
    kind = httpx.Client if backend.is_blocking else httpx.AsyncClient

    async def body() -> None:
        leftovers = Leftovers()
        client = make_client(backend, server.url, http_client=kind)
        await client.ping()
        await client.close()
        await backend.until(lambda: leftovers.found()["sockets"] == 0)

    with MisbehavingServer(http(HEALTHY)) as server:
        backend.run(body)


@pytest.mark.parametrize("startup", ["raise", "continue"])
@pytest.mark.parametrize("what", ["nonsense", "the other kind", "unknown arguments"])
def test_an_http_client_that_cannot_work_is_an_error_at_the_start_and_no_outage(
    backend: Harness, startup: str, what: str
) -> None:
    other: Any = httpx.AsyncClient if backend.is_blocking else httpx.Client
    every: dict[str, tuple[str, Any]] = {
        "nonsense": ("http_client", lambda: 0),
        "the other kind": ("http_client", other),
        "unknown arguments": ("http_client_args", {"haeders": {}}),
    }
    options = dict((every[what],))

    async def body() -> None:
        leftovers = Leftovers()
        client = make_client(backend, "http://127.0.0.1:9", startup=startup, **options)
        with pytest.raises(InvalidArgumentError, match="http_client"):
            await client.set_as_main()
        await client.close()
        await leftovers.gone(backend)

    backend.run(body)


@pytest.mark.parametrize("connected", [False, True])
def test_closing_ends_a_ping_that_is_under_way_with_its_connection(
    backend: Harness, connected: bool
) -> None:
    async def body() -> None:
        leftovers = Leftovers()
        client = make_client(backend, server.url)
        if connected:
            await client.ping()
        server.answer_by("api/health", silence)
        server.connected.clear()
        ping = backend.beside(client.ping)
        await backend.until(server.connected.is_set, "the ping has arrived")
        await client.close()
        await backend.until(lambda: ping.ended, "the ping ends")
        assert isinstance(ping.error, ServiceUnreachableError)
        assert "the client is closed" in str(ping.error)
        await client.close()
        # The server, which is in this process, keeps its end of the connection open.
        await backend.until(lambda: leftovers.found()["sockets"] <= 1, "the socket is closed")
        with pytest.raises(ClientClosedError):
            await client.ping()

    with MisbehavingServer(http(HEALTHY)) as server:
        backend.run(body)


def test_an_http_client_that_the_environment_forbids_is_told_as_such(
    backend: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALL_PROXY", "nonsense://nowhere:1")

    async def body() -> None:
        client = make_client(backend, "http://127.0.0.1:1")
        with pytest.raises(InvalidArgumentError, match=r"cannot be made: .*HTTP_PROXY"):
            await client.ping()
        await client.close()

    backend.run(body)
