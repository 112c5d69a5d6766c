"""A hostile service: nothing it sends reaches generated code, and nothing secret it gets is shown."""

from __future__ import annotations

import contextlib
import json
import linecache
import socket
import threading
import traceback
import weakref
from collections.abc import Callable, Iterator
from http.cookiejar import CookieJar, DefaultCookiePolicy
from types import CodeType
from typing import Any, cast

import httpx
import msgspec
import pytest
from support.harness import Harness, ThreadHarness
from support.misbehaving import Answer, MisbehavingServer, hang_up, http
from support.published import code_of
from support.scenes import Scene
from support.scripted import ScriptedService

from heksher import Setting, testing
from heksher._wire import Response
from heksher.backends._http import blocking_transport, head
from heksher.backends._http.slot import Slot, SlotTrace
from heksher.exceptions import HeksherError, InvalidSettingError, ServiceUnreachableError

CANARY = "canary"


@pytest.fixture
def scene(backend: Harness) -> Scene:
    return Scene(backend)


# Texts that would run code, or break the text around them.
_PAYLOADS = [
    "canary",
    "canary()",
    "__import__('canary')",
    "__canary__",
    "canary·",
    "canary\n    raise SystemExit",
    "canary=1):\n raise SystemExit\ndef canary(",
    "'canary'",
    '"""canary"""',
    "{canary}",
    "%(canary)s",
    "\\x63anary",
    "canary\0",
    "canary\u2028",
    "ｃanary canary",  # noqa: RUF001 (an identifier that Python would normalise)
    "canary" * 1_000,
]
_FRAMES = ["{}", "user, {}", "user={}", "*{}", "user: {}", "({}", "{}#"]
CRAFTED = [frame.format(payload) for frame in _FRAMES for payload in _PAYLOADS]


def generated() -> str:
    """Return all generated source that is in use."""
    return "".join(
        "".join(entry[2])
        for filename, entry in linecache.cache.items()
        if filename.startswith("<heksher") and len(entry) == 4
    )


def names_of(code: CodeType) -> Iterator[str]:
    """Yield all names in *code* and in the code that it contains."""
    yield from (*code.co_names, *code.co_varnames, *code.co_freevars, *code.co_cellvars)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from names_of(constant)


def test_there_are_a_hundred_crafted_names() -> None:
    assert len(set(CRAFTED)) >= 100


def test_no_name_of_the_services_reaches_generated_code(scene: Scene) -> None:
    ttl = Setting("cache_ttl", int, ["user", "theme"], 60)
    service = scene.service
    service.features += CRAFTED
    service.settings |= {
        name: {
            "name": name,
            "type": name,
            "default_value": name,
            "version": name,
            "configurable_features": [name],
            "metadata": {name: name},
            "aliases": [name],
        }
        for name in CRAFTED
    }

    async def body() -> None:
        async with scene.client() as client:
            for number, name in enumerate(CRAFTED):
                service.add_rule("cache_ttl", number, user=name)
                service.add_rule("cache_ttl", -1, theme="dark", **{name: name})
                service.add_rule(name, -1, user="jim")
            await client.reload()
            # As values of a feature they are ordinary texts.
            assert [ttl.get(user=name, theme="light") for name in CRAFTED] == [*range(len(CRAFTED))]
            assert ttl.get(user="jim", theme="dark") == 60
            assert client.status.rejected_count == len(CRAFTED)
            assert CANARY not in generated()
            assert not any(CANARY in name for name in names_of(code_of(ttl)))

    scene.run(body)


def test_no_name_of_the_applications_is_taken_that_is_no_plain_one() -> None:
    for name in CRAFTED:
        if name.isascii() and name.isidentifier():
            assert Setting("cache_ttl", int, [name], 60).get(**{name: "x"}) == 60
            testing.reset()
        else:
            with pytest.raises(InvalidSettingError, match="invalid context feature"):
                Setting("cache_ttl", int, [name], 60)


# --- its texts in logs and in the status ----------------------------------------------------------


# It would add lines to a log, control a terminal, and fill a disk.
_EVIL = f"{CANARY}\nERROR root: \x1b[2J\u202e{'x' * 300_000}"
_DIFFERENCES = [
    {"level": _EVIL, "attribute": _EVIL, "latest_value": _EVIL},
    {"level": "minor", "message": _EVIL},
    *({"level": "minor", "message": "x" * 1_000} for _ in range(100)),
    *({"level": "minor", "message": "x" * 20} for _ in range(20_000)),
]


def _declared(status: int, **body: Any) -> Callable[[ScriptedService], None]:
    answer = Response(status, {}, msgspec.json.encode(body))
    return lambda service: service.answers.update(cache_ttl=answer)


_RENAMED = {
    "name": _EVIL,
    "aliases": ["cache_ttl"],
    "type": _EVIL,
    "version": _EVIL,
    "default_value": 1,
}
_SAYINGS: dict[str, Callable[[ScriptedService], object]] = {
    "features": lambda service: service.features.append(_EVIL),
    "features-lack": lambda service: service.features.__setitem__(slice(None), [_EVIL]),
    "outdated": _declared(200, outcome="outdated", latest_version=_EVIL, differences=_DIFFERENCES),
    "rejected": _declared(409, outcome="rejected", latest_version=_EVIL, differences=_DIFFERENCES),
    "outcome": _declared(200, outcome=_EVIL),
    "refused": lambda service: service.answers.update(cache_ttl=Response(422, {}, _EVIL.encode())),
    "renamed": lambda service: service.settings.update({_EVIL: _RENAMED}),
    "rule": lambda service: [
        service.add_rule("cache_ttl", _EVIL, user="jim"),
        service.add_rule("cache_ttl", 1, **{_EVIL: "jim"}),
    ],
    "retry": lambda service: setattr(
        service, "fault", Response(503, {"retry-after": _EVIL, "location": _EVIL}, _EVIL.encode())
    ),
}


@pytest.mark.parametrize("saying", _SAYINGS)
def test_what_it_says_is_told_in_short_lines(
    scene: Scene, saying: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", "heksher")
    setting = Setting("cache_ttl", int, ["user"], 60)
    shown: list[str] = []

    def strings(of: object) -> Iterator[str]:
        if isinstance(of, str):
            yield of
        elif isinstance(of, dict):
            members = cast("dict[str, object]", of)
            yield from strings([*members, *members.values()])
        elif isinstance(of, list):
            for each in cast("list[object]", of):
                yield from strings(each)

    async def body() -> None:
        _SAYINGS[saying](scene.service)
        client = scene.client(startup="continue")
        await client.set_as_main()
        with contextlib.suppress(HeksherError):
            await client.reload()
        assert setting.get(user="jim") in (60, 1)
        shown.extend(strings(json.loads(json.dumps(client.status.as_dict()))))
        shown.append(str(client.status))
        await client.close()

    scene.run(body)
    messages = [record.getMessage() for record in caplog.records]
    assert "unforeseen" not in "".join(messages)
    for text in (*shown, *messages):
        assert text.isprintable(), text[:200]
        assert len(text) < 5_000, text[:200]


def test_no_answer_is_shown_whole_because_it_is_none(backend: Harness) -> None:
    def answer(connection: socket.socket, stop: threading.Event) -> None:
        connection.sendall(b"\x1b[2J" + b"x" * 50_000 + b"\r\n\r\n")

    async def body() -> None:
        client = backend.client(server.url, 60, ["user"])
        with pytest.raises(HeksherError, match="no answer") as caught:
            await client.ping()
        assert str(caught.value).isprintable()
        assert len(str(caught.value)) < 1000
        await client.close()

    with MisbehavingServer(answer) as server:
        backend.run(body)


def test_no_location_is_shown_whole(backend: Harness) -> None:
    async def body() -> None:
        client = backend.client(server.url, 60, ["user"])
        with pytest.raises(HeksherError, match="no answer") as caught:
            await client.ping()
        assert len(str(caught.value)) < 1000
        await client.close()

    moved = b"HTTP/1.1 307 M\r\nlocation: /%s\r\n" % (b"x" * 50_000)
    with MisbehavingServer(hang_up) as server:
        server.answer_by("api/health", http(b"", moved))
        backend.run(body)


# --- answers without end --------------------------------------------------------------------------


def test_the_head_of_an_answer_is_bounded_with_all_that_is_provisional(backend: Harness) -> None:
    """An HTTP library reads provisional answers without end, and under gevent nothing else would run."""
    early = b"HTTP/1.1 103 Early Hints\r\nlink: %s\r\n\r\n" % (b"x" * 8_000)
    head = early * 5 + b"HTTP/1.1 200 OK\r\nx: %s\r\n" % (b"x" * 30_000)
    good = http(b'{"version": "1", "x": "%s"}' % (b"x" * 300_000), head)

    def endless(connection: socket.socket, stop: threading.Event) -> None:
        while True:
            connection.sendall(early)

    async def body() -> None:
        client = backend.client(server.url, 60, ["user"])
        for _ in range(3):  # the count starts again with each head
            await client.ping()
        server.answer_by("api/health", endless)
        with pytest.raises(HeksherError, match="head is larger than 102400 bytes"):
            await client.ping()
        await client.close()

    with MisbehavingServer(good) as server:
        backend.run(body)


def test_a_connection_whose_heads_are_bounded_dies_as_any_other() -> None:
    class Stream:
        def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
            return b"x" * max_bytes

    stream = Stream()
    alive = weakref.ref(stream)
    trace = SlotTrace(Slot(object(), False)).trace
    trace("connection.connect_tcp.complete", {"return_value": stream})
    assert len(stream.read(10**6)) == 10**6
    trace("http11.receive_response_headers.started", {})
    assert len(stream.read(10**6)) < 10**5
    trace("http11.receive_response_headers.complete", {})
    assert len(stream.read(10**6)) == 10**6
    # A Ctrl-C in a function that is called when the stream dies would be lost.
    assert all(each.__callback__ is None for each in weakref.getweakrefs(stream))
    del stream
    assert alive() is None


def test_greenlets_have_their_turn_while_an_answer_of_many_pieces_is_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Sockets that gevent has patched only switch to other greenlets if there is nothing to read."""
    turns: list[None] = []
    for module in (head, blocking_transport):
        monkeypatch.setattr(module, "yield_to_greenlets", lambda: turns.append(None))
    chunks = b"1\r\n \r\n" * 5_000 + b"10\r\n" + b'{"version": "1"}' + b"\r\n0\r\n\r\n"

    def answer(connection: socket.socket, stop: threading.Event) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + chunks)

    harness = ThreadHarness()

    async def body() -> None:
        client = harness.client(server.url, 60, ["user"])
        await client.ping()
        await client.close()

    with MisbehavingServer(answer) as server:
        harness.run(body)
    assert len(turns) > 40


def test_what_comes_behind_an_answer_is_not_taken_for_the_next_one(backend: Harness) -> None:
    def answer(connection: socket.socket, stop: threading.Event) -> None:
        head = b"HTTP/1.1 %s\r\ncontent-length: 16\r\n\r\n"
        good, bad = head % b"200 OK" + b'{"version": "1"}', head % b"401 No" + b"X" * 16
        connection.sendall(good + bad)

    async def body() -> None:
        client = backend.client(server.url, 60, ["user"])
        for _ in range(2):
            await client.ping()
            with pytest.raises(ServiceUnreachableError, match="more than one answer"):
                await client.ping()
        await client.close()

    with MisbehavingServer(answer) as server:
        backend.run(body)


def test_an_answer_that_the_bound_in_time_cuts_short_is_none(backend: Harness) -> None:
    """Its body ends with the connection, which the bound closes here."""

    def answer(connection: socket.socket, stop: threading.Event) -> None:
        connection.sendall(b'HTTP/1.1 200 OK\r\n\r\n{"version": "1"}')
        stop.wait()

    async def body() -> None:
        client = backend.client(server.url, 60, ["user"], request_timeout=0.2)
        with pytest.raises(HeksherError, match="it took longer than"):
            await client.ping()
        await client.close()

    with MisbehavingServer(answer) as server:
        backend.run(body)


# --- cookies --------------------------------------------------------------------------------------


def test_few_of_its_cookies_are_kept(backend: Harness) -> None:
    """Enough cookies for a proxy or a session are sent back, and no more."""
    answers = 0

    def answer(connection: socket.socket, stop: threading.Event) -> None:
        nonlocal answers
        answers += 1
        names = [f"c{answers}_{number}={'x' * 20}" for number in range(30)]
        cookies = [f"turn={answers}", f"long={'x' * 10_000}", *names]
        head = "".join(f"set-cookie: {each}\r\n" for each in cookies)
        http(b'{"version": "1"}', b"HTTP/1.1 200 OK\r\n" + head.encode())(connection, stop)

    async def body() -> None:
        client = backend.client(
            server.url, 60, ["user"], http_client_args={"cookies": {"session": CANARY}}
        )
        for _ in range(5):
            await client.ping()
        await client.close()

    with MisbehavingServer(answer) as server:
        backend.run(body)
    (sent,) = (
        line.partition(b": ")[2].split(b"; ")
        for line in server.requests[-1].split(b"\r\n")
        if line.lower().startswith(b"cookie: ")
    )
    assert {b"session=canary", b"turn=4"} <= set(sent)
    assert 10 < len(sent) < 30
    assert max(map(len, sent)) < 100


def test_whose_cookie_jar_is_handed_in_says_what_it_takes(backend: Harness) -> None:
    jar = CookieJar(DefaultCookiePolicy(allowed_domains=[]))

    async def body() -> None:
        client = backend.client(server.url, 60, ["user"], http_client_args={"cookies": jar})
        await client.ping()
        await client.close()

    cookies = b"HTTP/1.1 200 OK\r\nset-cookie: a=b\r\n"
    with MisbehavingServer(http(b'{"version": "1"}', cookies)) as server:
        backend.run(body)
    assert [*jar] == []


# --- secrets --------------------------------------------------------------------------------------


STATUSES = [b"200 OK", b"307 Moved", b"401 No", b"403 No", b"409 No", b"422 No", b"500 Oh"]


@pytest.mark.spread
@pytest.mark.parametrize("status", STATUSES, ids=lambda status: status[:3].decode())
@pytest.mark.parametrize(
    "headers",
    [
        {"secret": CANARY},
        {"secret": f"Bearer {CANARY}"},
        {"cookie": f"first=one; second={CANARY}; third=three"},
    ],
    ids=["alone", "bearer", "cookie"],
)
def test_a_secret_that_is_said_back_is_shown_nowhere(
    backend: Harness, status: bytes, headers: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", "heksher")
    setting = Setting("cache_ttl", int, ["user"], 60)
    shown: list[str] = []

    def say_it_back(connection: socket.socket, stop: threading.Event) -> None:
        # The secrets as they were sent, and decoded.
        body = f"cookie {CANARY}, user jim, password {CANARY}, ".encode() + server.requests[-1]
        head = b"HTTP/1.1 %s\r\nlocation: /%s\r\ncontent-length: %d\r\n\r\n"
        connection.sendall(head % (status, CANARY.encode(), len(body)) + body)

    async def body() -> None:
        client = backend.client(
            server.url.replace("//", f"//jim:{CANARY}@"),
            60,
            ["user"],
            startup="continue",
            http_client_args={"headers": headers},
        )
        await client.set_as_main()
        for call in (client.ping, client.reload, client.get_settings):
            try:
                await call()
            except HeksherError as error:
                shown.extend([*traceback.format_exception(error), repr(error)])
        told = client.status
        shown.extend((repr(client.client), repr(setting), repr(told), str(told)))
        await client.close()

    with MisbehavingServer(say_it_back) as server:
        server.answer_by("api/v1/context_features", http(b'{"context_features": ["user"]}'))
        server.answer_by("api/v1/settings", http(b'{"settings": []}'))
        backend.run(body)
    assert any(CANARY.encode() in request for request in server.requests)
    assert CANARY not in "".join(shown)
    assert CANARY not in caplog.text


def test_a_secret_in_the_query_that_is_said_back_is_shown_nowhere(backend: Harness) -> None:
    shown: list[str] = []

    def say_it_back(connection: socket.socket, stop: threading.Event) -> None:
        body = f"no such key: {CANARY} /?; user jim; ".encode() + server.requests[-1]
        connection.sendall(b"HTTP/1.1 403 No\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body))

    async def body() -> None:
        parameters = {"key": f"{CANARY} /?"}
        client = backend.client(server.url, 60, ["user"], http_client_args={"params": parameters})
        for call in (client.ping, client.get_settings):
            with pytest.raises(HeksherError, match=r"no such key: \[secret]; user jim") as caught:
                await call()
            shown.extend([*traceback.format_exception(caught.value), repr(caught.value)])
        await client.close()

    with MisbehavingServer(say_it_back) as server:
        backend.run(body)
    assert all(CANARY.encode() in request for request in server.requests)
    assert CANARY not in "".join(shown)


def test_a_refusal_is_searched_for_secrets_no_further_than_anybody_reads(backend: Harness) -> None:
    """All threads wait for the search, which takes a second for sixty megabytes."""

    async def body() -> None:
        client = backend.client(
            server.url, 60, ["user"], http_client_args={"headers": {"x": f"{'x' * 50}y"}}
        )
        with pytest.raises(httpx.HTTPStatusError, match=r"HTTP 500: x+") as caught:
            await client.ping()
        assert len(caught.value.response.content) == 4 * 2**20
        await client.close()

    with MisbehavingServer(http(b"x" * 5 * 2**20, b"HTTP/1.1 500 Oh\r\n")) as server:
        backend.run(body)


def test_a_secret_in_a_refusal_that_an_event_hook_has_read_is_shown_nowhere(
    backend: Harness,
) -> None:
    def read_and_refuse(response: Any) -> None:
        response.read()
        response.raise_for_status()

    async def read_and_refuse_async(response: Any) -> None:
        await response.aread()
        response.raise_for_status()

    async def body() -> None:
        hook = read_and_refuse if backend.is_blocking else read_and_refuse_async
        arguments = {"headers": {"x": CANARY}, "event_hooks": {"response": [hook]}}
        client = backend.client(server.url, 60, ["user"], http_client_args=arguments)
        with pytest.raises(HeksherError, match=r"HTTP 500: you said \[secret]") as caught:
            await client.ping()
        assert CANARY not in "".join(traceback.format_exception(caught.value))
        await client.close()

    said = f"you said {CANARY}".encode()
    with MisbehavingServer(http(said, b"HTTP/1.1 500 Oh\r\n")) as server:
        backend.run(body)


NO_ANSWERS = [
    b"%s\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n%s\r\n\r\n",
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n%s\r\n",
    b"HTTP/1.1 307 Moved\r\nlocation: http://[%s]/\r\ncontent-length: 0\r\n\r\n",
]


def say(what: bytes) -> Answer:
    return lambda connection, stop: connection.sendall(what)


def test_a_secret_in_what_is_no_answer_is_shown_nowhere(backend: Harness) -> None:
    secret = f"{CANARY}'\\"
    shown: list[str] = []

    async def body() -> None:
        client = backend.client(
            server.url, 60, ["user"], http_client_args={"headers": {"x": secret}}
        )
        for no_answer in NO_ANSWERS:
            server.answer_by("api/health", say(no_answer % secret.encode()))
            with pytest.raises(HeksherError, match=r"\[secret]") as caught:
                await client.ping()
            shown.extend([*traceback.format_exception(caught.value), repr(caught.value)])
        await client.close()

    with MisbehavingServer(hang_up) as server:
        backend.run(body)
    assert len(server.requests) == len(NO_ANSWERS)
    assert CANARY not in "".join(shown)


def test_credentials_follow_no_redirect_to_another_origin(backend: Harness) -> None:
    """In any header, and in any spelling of the other origin."""

    async def body() -> None:
        client = backend.client(
            home.url.replace("//", "//jim:password@"),
            60,
            ["user"],
            startup="continue",
            http_client_args={"headers": {"x-some-token": CANARY, "cookie": CANARY}},
        )
        for location in elsewhere:
            home.answer_by(
                "api/health", http(b"", b"HTTP/1.1 307 M\r\nlocation: %s\r\n" % location)
            )
            with pytest.raises(HeksherError):
                await client.ping()
        await client.close()

    with MisbehavingServer(hang_up) as home, MisbehavingServer(http(b'{"version": "1"}')) as abroad:
        there, here = abroad.url.encode(), home.url.encode()
        elsewhere = [
            there + b"/api/health",
            there[len("http:") :] + b"/api/health",
            here + b"@" + there[len("http://") :] + b"/api/health",
            here.replace(b"http:", b"https:") + b"/api/health",
            b"http:\\\\" + there[len("http://") :],
            b"/\\" + there[len("http://") :],
            here.replace(b"127.0.0.1", b"127.0.0.2") + b"/api/health",
            here + b"0/api/health",
            b"file:///etc/passwd",
        ]
        backend.run(body)
    assert abroad.requests == []
    assert len(home.requests) >= len(elsewhere)
