"""Processes that lack what a client takes for granted: threads, and an httpx that can be imported soon."""

from __future__ import annotations

import importlib.abc
import sys
import threading
from typing import Literal

import pytest
from support.harness import PATIENCE, Harness
from support.misbehaving import MisbehavingServer, http
from support.scripted import ManualClock

from heksher import ThreadHeksherClient
from heksher.exceptions import BackendError, ServiceUnreachableError
from heksher.status import ClientState

BODY = http(b'{"version": "1"}')


def refuse_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the library start no thread, as in a process that has too many."""
    start = threading.Thread.start

    def start_others(thread: threading.Thread) -> None:
        if thread.name.startswith("heksher"):
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", start_others)


def test_without_threads_the_caller_does_their_work(
    backend: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def body() -> None:
        assert await backend.backend.in_thread(threading.get_ident) == threading.get_ident()

    refuse_threads(monkeypatch)
    backend.run(body)


def test_without_threads_a_request_is_made_if_it_can_be_bounded(
    backend: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def body() -> None:
        # Its name is looked up in a thread, if there is one.
        client = backend.client(server.url.replace("127.0.0.1", "localhost"), 60, ["user"])
        with monkeypatch.context() as patch:
            refuse_threads(patch)
            if backend.is_blocking:
                with pytest.raises(ServiceUnreachableError, match="can't start new thread"):
                    await client.ping()
            else:
                await client.ping()
        await client.ping()
        await client.close()

    with MisbehavingServer(BODY) as server:
        backend.run(body)


@pytest.mark.parametrize("startup", ["raise", "continue"])
def test_a_loop_that_gets_no_thread_is_an_error_of_this_library(
    monkeypatch: pytest.MonkeyPatch, startup: Literal["raise", "continue"]
) -> None:
    with MisbehavingServer(BODY) as server:
        client = ThreadHeksherClient(server.url, 60, ["user"], startup=startup)
        with monkeypatch.context() as patch:
            refuse_threads(patch)
            with pytest.raises(BackendError, match=r"no thread can be started.*can't start new"):
                client.set_as_main()
        assert client.status.state is ClientState.NEW
        client.ping()
        client.close()


class HangingImport(importlib.abc.MetaPathFinder):
    """Holds up an import of the library's transports until it may fail."""

    def __init__(self) -> None:
        self.has_begun = threading.Event()
        self.may_end = threading.Event()
        self.was_waited_for = False

    def find_spec(self, fullname: str, *_: object) -> None:
        if fullname == "heksher.backends._http":
            self.has_begun.set()
            self.was_waited_for |= not self.may_end.wait(PATIENCE)
            raise ImportError("the disk is gone")


@pytest.mark.parametrize("is_closed_first", [False, True])
def test_nothing_waits_for_an_import_that_hangs(
    backend: Harness, is_closed_first: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if backend.name == "gevent":
        pytest.skip("an import holds up all greenlets of its thread")
    for name in [name for name in sys.modules if name.startswith("heksher.backends._http")]:
        monkeypatch.delitem(sys.modules, name)
    hanging, clock = HangingImport(), ManualClock()
    monkeypatch.setattr(sys, "meta_path", [hanging, *sys.meta_path])

    async def body() -> None:
        client = backend.client(
            "http://127.0.0.1:9", 60, ["user"], clock=clock, startup="continue", startup_timeout=5
        )
        try:
            start = backend.beside(client.set_as_main)
            await backend.until(hanging.has_begun.is_set)
            await backend.until(lambda: clock.sleeping)
            if not is_closed_first:
                clock.advance(5)
                await backend.until(lambda: start.ended)
                assert start.error is None
                assert client.status.state is ClientState.RUNNING
            closing = backend.beside(client.close)
            await backend.until(lambda: client.status.state is ClientState.CLOSED)
        finally:
            hanging.may_end.set()
        await backend.until(lambda: start.ended and closing.ended)
        assert closing.error is None
        assert not hanging.was_waited_for

    backend.run(body)


@pytest.mark.parametrize("package", ["httpx", "httpcore", "certifi"])
def test_an_httpx_that_cannot_be_imported_is_told_as_such(
    backend: Harness, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a package that httpx needs in turn as well."""
    for name in list(sys.modules):
        if name.startswith(("heksher.backends._http", "httpx.", "httpcore", "certifi")) or (
            name == "httpx"
        ):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)

    async def body() -> None:
        client = backend.client("http://127.0.0.1:9", 60, ["user"])
        with pytest.raises(BackendError, match=f"httpx cannot be imported.*{package}.*install"):
            await client.ping()
        await client.close()

    backend.run(body)
