"""Which backend a client gets by name, and which names are refused."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import trio

from heksher import AsyncHeksherClient, ThreadHeksherClient
from heksher.backends import Backend, choose_async, choose_blocking
from heksher.backends._anyio import AsyncioBackend, TrioBackend
from heksher.backends._running import running_library
from heksher.backends._thread import ThreadBackend
from heksher.exceptions import BackendError

URL = "http://heksher:8000"


def name_of(backend: Backend | None) -> str | None:
    return None if backend is None else backend.name


def in_asyncio(choice: Any) -> str | None:
    async def choose() -> str | None:
        return name_of(choose_async(choice))

    return asyncio.run(choose())


def in_trio(choice: Any) -> str | None:
    async def choose() -> str | None:
        return name_of(choose_async(choice))

    return trio.run(choose)


# --- found ----------------------------------------------------------------------------------------


def test_the_library_that_runs_is_seen() -> None:
    async def look() -> str | None:
        return running_library()

    assert running_library() is None
    assert asyncio.run(look()) == "asyncio"
    assert trio.run(look) == "trio"
    assert running_library() is None


@pytest.mark.parametrize(
    "module",
    [
        None,  # as tests forbid an import
        ModuleType("trio"),  # the application's own, or one that another thread is importing
        SimpleNamespace(lowlevel=ModuleType("trio.lowlevel")),  # a version without the function
        SimpleNamespace(lowlevel=SimpleNamespace(current_task=lambda: 1 / 0)),
    ],
)
def test_a_trio_that_cannot_be_asked_is_not_what_runs(
    module: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "trio", module)
    assert running_library() is None
    assert in_asyncio("auto") == "asyncio"
    assert choose_async("auto") is None


def test_auto_is_what_runs_and_is_left_open_where_nothing_does() -> None:
    assert choose_async("auto") is None
    assert in_asyncio("auto") == "asyncio"
    assert in_trio("auto") == "trio"


@pytest.mark.parametrize("choice", ["asyncio", "trio"])
def test_a_name_can_be_chosen_before_anything_runs(choice: str) -> None:
    assert name_of(choose_async(choice)) == choice


def test_a_name_can_be_chosen_where_it_runs() -> None:
    assert in_asyncio("asyncio") == "asyncio"
    assert in_trio("trio") == "trio"


@pytest.mark.parametrize("choice", ["auto", "thread"])
def test_threads_are_the_choice_of_a_blocking_client(choice: str) -> None:
    assert name_of(choose_blocking(choice)) == "thread"


def test_greenlets_can_be_chosen_by_name() -> None:
    pytest.importorskip("gevent", reason="heksher[gevent] is not installed")
    assert name_of(choose_blocking("gevent")) == "gevent"


@pytest.mark.parametrize("backend", [AsyncioBackend(), TrioBackend()], ids=lambda each: each.name)
def test_a_ready_backend_is_taken_as_it_is(backend: Backend) -> None:
    assert choose_async(backend) is backend


def test_a_ready_blocking_backend_is_taken_as_it_is() -> None:
    backend = ThreadBackend()
    assert choose_blocking(backend) is backend


# --- refused --------------------------------------------------------------------------------------

ASYNC_NAMES = '"auto", "asyncio", "trio"'
BLOCKING_NAMES = '"auto", "thread", "gevent"'


class Nearly:
    """An object with only some methods of a backend."""

    name = "nearly"
    blocking = True

    def loop_key(self) -> object:
        return None


@pytest.mark.parametrize(
    ("backend", "parts"),
    [
        pytest.param("asincio", ["'asincio'", ASYNC_NAMES], id="misspelt"),
        pytest.param("", ["''", ASYNC_NAMES], id="empty"),
        pytest.param("Trio", ["'Trio'", ASYNC_NAMES], id="upper case"),
        pytest.param(
            "thread", ["'thread'", "ThreadHeksherClient", ASYNC_NAMES], id="name of the other kind"
        ),
        pytest.param(ThreadBackend(), ["'thread'", "AsyncHeksherClient"], id="of the other kind"),
        pytest.param(None, ["None", "heksher.backends.Backend"], id="None"),
        pytest.param(object(), ["object", "heksher.backends.Backend"], id="object"),
        pytest.param(Nearly(), ["Nearly", "heksher.backends.Backend"], id="nearly one"),
        pytest.param(asyncio, ["asyncio", "heksher.backends.Backend"], id="module"),
        pytest.param(AsyncioBackend, ["AsyncioBackend", "heksher.backends.Backend"], id="class"),
    ],
)
def test_an_asynchronous_client_refuses(backend: Any, parts: list[str]) -> None:
    with pytest.raises(BackendError) as caught:
        AsyncHeksherClient(URL, 60, ["user"], backend=backend)
    for part in parts:
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("backend", "parts"),
    [
        pytest.param("threads", ["'threads'", BLOCKING_NAMES], id="misspelt"),
        pytest.param(
            "asyncio", ["'asyncio'", "AsyncHeksherClient", BLOCKING_NAMES], id="asyncio by name"
        ),
        pytest.param("trio", ["'trio'", "AsyncHeksherClient", BLOCKING_NAMES], id="trio by name"),
        pytest.param(AsyncioBackend(), ["'asyncio'", "ThreadHeksherClient"], id="asyncio"),
        pytest.param(TrioBackend(), ["'trio'", "ThreadHeksherClient"], id="trio"),
        pytest.param(None, ["None", "heksher.backends.Backend"], id="None"),
        pytest.param(Nearly(), ["Nearly", "heksher.backends.Backend"], id="nearly one"),
        pytest.param(ThreadBackend, ["ThreadBackend", "heksher.backends.Backend"], id="class"),
    ],
)
def test_a_blocking_client_refuses(backend: Any, parts: list[str]) -> None:
    with pytest.raises(BackendError) as caught:
        ThreadHeksherClient(URL, 60, ["user"], backend=backend)
    for part in parts:
        assert part in str(caught.value)


def test_trio_is_refused_where_asyncio_runs() -> None:
    with pytest.raises(BackendError, match="backend='trio' was chosen, but asyncio runs here"):
        in_asyncio("trio")


def test_asyncio_is_refused_where_trio_runs() -> None:
    with pytest.raises(BackendError, match="backend='asyncio' was chosen, but trio runs here"):
        in_trio("asyncio")


def test_a_client_made_before_anything_runs_is_refused_where_the_other_library_runs() -> None:
    client = AsyncHeksherClient(URL, 60, ["user"], backend="trio")
    with pytest.raises(BackendError, match="backend='trio' was chosen, but asyncio runs here"):
        asyncio.run(client.ping())


WITHOUT_TRIO = """
import sys
from importlib.machinery import PathFinder

class WithoutTrio:
    def find_spec(self, name, path=None, target=None):
        return None if name.partition(".")[0] == "trio" else PathFinder.find_spec(name, path, target)

sys.meta_path[:] = [WithoutTrio() if each is PathFinder else each for each in sys.meta_path]
import heksher
from heksher.exceptions import BackendError
try:
    heksher.AsyncHeksherClient("http://heksher", 60, ["user"], backend="trio")
except BackendError as error:
    print(error)
heksher.AsyncHeksherClient("http://heksher", 60, ["user"], backend="asyncio")
heksher.ThreadHeksherClient("http://heksher", 60, ["user"])
assert "trio" not in sys.modules
"""


def test_without_trio_the_error_names_what_to_install_and_the_others_work() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", WITHOUT_TRIO],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "heksher[trio]" in done.stdout
    assert "not installed" in done.stdout
