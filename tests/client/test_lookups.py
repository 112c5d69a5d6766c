"""Name look-ups: by threads of the client's own, and however many addresses a name has."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from time import monotonic
from typing import Any

import anyio
import httpx
import pytest
import trio
from httpcore._backends.auto import AutoBackend
from support.harness import PATIENCE, AsyncioHarness, Harness, TrioHarness
from support.leftovers import Leftovers
from support.misbehaving import MisbehavingServer, http

from heksher.exceptions import ServiceUnreachableError

HOST = "service.test"
BODY = http(b'{"version": "1"}')


class Names:
    """`socket.getaddrinfo`, which finds *addresses* for `HOST` once `released` is set.

    Attributes:
        addresses: the addresses of `HOST`.
        released: the event.
        asked: the number of look-ups of `HOST`.
    """

    def __init__(self) -> None:
        self.addresses = ["127.0.0.1"]
        self.released = threading.Event()
        self.released.set()
        self.asked = 0
        self._look_up = socket.getaddrinfo

    def getaddrinfo(self, host: Any, port: Any, *args: Any, **options: Any) -> Any:
        if (host.decode() if isinstance(host, bytes) else host) != HOST:
            return self._look_up(host, port, *args, **options)
        flags = options.get("flags", args[3] if len(args) > 3 else 0)
        if flags & socket.AI_NUMERICHOST:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        self.asked += 1
        self.released.wait(PATIENCE)
        if not self.addresses:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [
            found
            for each in self.addresses
            for found in self._look_up(each, port, *args, **options)
        ]


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Names:
    made = Names()
    monkeypatch.setattr(socket, "getaddrinfo", made.getaddrinfo)
    return made


@pytest.fixture
def server() -> Iterator[MisbehavingServer]:
    with MisbehavingServer(BODY) as made:
        yield made


def url_of(server: MisbehavingServer, host: str = HOST) -> str:
    return server.url.replace("127.0.0.1", host)


def test_a_look_up_that_hangs_is_one_thread_and_keeps_nothing_from_ending(
    backend: Harness, names: Names, server: MisbehavingServer
) -> None:
    names.released.clear()
    leftovers = Leftovers()

    async def body() -> None:
        client = backend.client(url_of(server), 60, ["user"], request_timeout=0.1)
        for _ in range(3):
            with pytest.raises(ServiceUnreachableError) as caught:
                await client.ping()
            assert isinstance(caught.value, httpx.TimeoutException)
        await client.close()

    backend.run(body)
    # An event loop has ended by now, and with it the threads of its pool.
    assert not names.released.is_set()
    assert names.asked == 1
    assert leftovers.found()["threads"] == 1
    names.released.set()

    async def gone() -> None:
        await backend.until(lambda: not leftovers.found()["threads"], "the thread ends")

    backend.run(gone)


def test_all_who_wait_for_a_name_get_it(
    backend: Harness, names: Names, server: MisbehavingServer
) -> None:
    names.released.clear()

    async def body() -> None:
        client = backend.client(url_of(server), 60, ["user"])
        pings = [backend.beside(client.ping) for _ in range(3)]
        await backend.until(lambda: names.asked, "it is looked up")
        names.released.set()
        await backend.until(lambda: all(ping.ended for ping in pings), "all are answered")
        assert [ping.error for ping in pings] == [None] * 3
        await client.close()

    backend.run(body)


def test_closing_ends_a_request_whose_name_is_looked_up(
    backend: Harness, names: Names, server: MisbehavingServer
) -> None:
    names.released.clear()

    async def body() -> None:
        client = backend.client(
            url_of(server), 60, ["user"], request_timeout=60, http_client_args={"timeout": None}
        )
        ping = backend.beside(client.ping)
        await backend.until(lambda: names.asked, "it is looked up")
        await client.close()
        await backend.until(lambda: ping.ended, "the ping ends")
        assert isinstance(ping.error, ServiceUnreachableError)
        names.released.set()

    backend.run(body)


@contextmanager
def _occupied(backend: Harness) -> Generator[None]:
    """Let work of the application occupy its whole pool of threads, as far as there is one."""
    over = threading.Event()
    with ExitStack() as stack:
        stack.callback(over.set)
        if isinstance(backend, AsyncioHarness):
            import asyncio

            loop = asyncio.get_running_loop()
            loop.set_default_executor(ThreadPoolExecutor(1))
            loop.run_in_executor(None, over.wait, PATIENCE)
        elif isinstance(backend, TrioHarness):
            limiter = trio.to_thread.current_default_thread_limiter()
            limiter.acquire_on_behalf_of_nowait(over)
            limiter.total_tokens = 1
            stack.callback(limiter.release_on_behalf_of, over)
        yield


def test_an_application_whose_pool_is_full_gets_updates(
    backend: Harness, names: Names, server: MisbehavingServer
) -> None:
    async def body() -> None:
        with _occupied(backend):
            client = backend.client(url_of(server), 60, ["user"], request_timeout=3)
            await client.ping()
            await client.close()

    backend.run(body)


def test_an_address_that_refuses_leaves_the_others(
    backend: Harness, names: Names, server: MisbehavingServer
) -> None:
    names.addresses = ["127.0.0.9", "127.0.0.1"]

    async def body() -> None:
        client = backend.client(url_of(server), 60, ["user"])
        await client.ping()
        names.addresses = ["127.0.0.9", "127.0.0.8"]
        await client.close()
        client = backend.client(url_of(server), 60, ["user"])
        with pytest.raises(ServiceUnreachableError, match=r"[Cc]onnection refused") as caught:
            await client.ping()
        assert isinstance(caught.value, httpx.ConnectError)
        await client.close()

    backend.run(body)


@pytest.mark.parametrize("harness", [AsyncioHarness, TrioHarness])
def test_an_address_that_is_silent_does_not_hold_up_the_others(
    harness: Callable[[], Harness],
    names: Names,
    server: MisbehavingServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names.addresses = ["127.0.0.9", "127.0.0.1"]
    connect = AutoBackend.connect_tcp
    tried: list[str] = []

    async def connect_tcp(backend: AutoBackend, host: str, *args: Any, **options: Any) -> Any:
        tried.append(host)
        if host == "127.0.0.9":
            await anyio.sleep_forever()
        return await connect(backend, host, *args, **options)

    monkeypatch.setattr(AutoBackend, "connect_tcp", connect_tcp)
    backend = harness()

    async def body() -> None:
        client = backend.client(url_of(server), 60, ["user"])
        await client.ping()
        assert tried == names.addresses
        await client.close()

    backend.run(body)


@pytest.mark.parametrize("harness", [AsyncioHarness, TrioHarness])
def test_a_link_local_address_keeps_its_interface(
    harness: Callable[[], Harness],
    names: Names,
    server: MisbehavingServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names.addresses = ["fe80::1%lo"]
    connect = AutoBackend.connect_tcp
    tried: list[str] = []

    async def connect_tcp(backend: AutoBackend, host: str, *args: Any, **options: Any) -> Any:
        tried.append(host)
        return await connect(backend, "127.0.0.1", *args, **options)

    monkeypatch.setattr(AutoBackend, "connect_tcp", connect_tcp)
    backend = harness()

    async def body() -> None:
        client = backend.client(url_of(server), 60, ["user"])
        await client.ping()
        assert tried == names.addresses
        await client.close()

    backend.run(body)


def test_a_request_ends_in_time_however_many_addresses_are_silent(
    backend: Harness, names: Names
) -> None:
    names.addresses = [f"127.0.0.{number}" for number in range(10, 30)]

    async def body() -> None:
        client = backend.client(f"http://{HOST}:{port}", 60, ["user"], request_timeout=0.6)
        before = monotonic()
        with pytest.raises(ServiceUnreachableError) as caught:
            await client.ping()
        assert monotonic() - before < 3
        assert isinstance(caught.value, httpx.TimeoutException)
        await client.close()

    with ExitStack() as stack:
        # Linux drops what comes once the queue of connections to accept is full.
        silent = stack.enter_context(socket.create_server(("0.0.0.0", 0), backlog=0))
        port = silent.getsockname()[1]
        for _ in range(3):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(("127.0.0.1", port))
        backend.run(body)


@pytest.mark.parametrize("host", [HOST, "a" * 70])
def test_a_name_without_an_address_is_an_error_of_both_families(
    backend: Harness, names: Names, host: str
) -> None:
    names.addresses = []

    async def body() -> None:
        client = backend.client(f"http://{host}", 60, ["user"])
        for _ in range(2):
            with pytest.raises(ServiceUnreachableError) as caught:
                await client.ping()
            assert isinstance(caught.value, httpx.TransportError)
            if host == HOST:
                assert isinstance(caught.value, httpx.ConnectError)
                assert "Name or service not known" in str(caught.value)
        await client.close()

    backend.run(body)


# Its main thread ends at once, and with it the pool of asyncio's threads.
OUTLIVING = """
import sys, threading, anyio, heksher

backend, url = sys.argv[1:]
main = threading.main_thread()

async def ping():
    main.join()
    client = heksher.AsyncHeksherClient(url, 60, ["user"])
    await client.ping()
    await client.aclose()

def ping_blocking():
    main.join()
    client = heksher.ThreadHeksherClient(url, 60, ["user"], backend=backend)
    client.ping()
    client.close()

def run():
    if backend in ("asyncio", "trio"):
        anyio.run(ping, backend=backend)
    else:
        ping_blocking()
    print("answered")

threading.Thread(target=run).start()
"""


@pytest.mark.integration
@pytest.mark.parametrize("name", ["asyncio", "trio", "thread"])
def test_a_client_outlives_the_main_thread(name: str, server: MisbehavingServer) -> None:
    url = url_of(server, "localhost")
    ended = subprocess.run(
        [sys.executable, "-c", OUTLIVING, name, url],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=4 * PATIENCE,
    )
    assert (ended.stdout, ended.returncode) == ("answered\n", 0), ended.stderr


class OddError(Exception):
    """An error that cannot be copied: its class needs more than it keeps."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"{first} {second}")


def test_whatever_error_a_look_up_ends_with_is_told(
    backend: Harness, server: MisbehavingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **options: Any) -> Any:
        if options.get("flags"):
            raise socket.gaierror
        raise OddError("no", "names")

    monkeypatch.setattr(socket, "getaddrinfo", fail)

    async def body() -> None:
        client = backend.client(url_of(server), 60, ["user"])
        for _ in range(2):
            with pytest.raises(ServiceUnreachableError, match="no names"):
                await client.ping()
        await client.close()

    backend.run(body)


def test_a_look_up_that_takes_too_long_is_told_with_its_name(
    backend: Harness, names: Names, server: MisbehavingServer
) -> None:
    names.released.clear()

    async def body() -> None:
        client = backend.client(
            url_of(server),
            60,
            ["user"],
            http_client_args={"timeout": httpx.Timeout(PATIENCE, connect=0.05)},
        )
        with pytest.raises(ServiceUnreachableError) as caught:
            await client.ping()
        assert isinstance(caught.value, httpx.TimeoutException)
        assert str(caught.value).endswith(f"got no answer: the look-up of {HOST} takes too long")
        await client.close()

    backend.run(body)
    names.released.set()
