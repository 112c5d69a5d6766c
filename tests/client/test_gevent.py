"""What only greenlets can show, in a process that gevent has not patched.

Everything else is in the tests that run on every backend. Patched programs are in
`test_gevent_programs.py`.
"""

from __future__ import annotations

import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from types import ModuleType
from typing import Any
from weakref import WeakSet

import pytest
from support.harness import PATIENCE, AnyClient, GeventHarness
from support.leftovers import Leftovers
from support.scenes import FEATURES, Scene

from heksher import Setting, ThreadHeksherClient, _wire
from heksher._client import forking
from heksher._client.run import Run
from heksher._client.update import Updater
from heksher.backends import Event, HttpOptions, _callers, choose_blocking, run_blocking
from heksher.backends.base import LARGE
from heksher.exceptions import (
    BackendError,
    ClientClosedError,
    HeksherError,
    ServiceUnreachableError,
)
from heksher.setting import QueriedRule
from heksher.status import ClientState
from heksher.testing import faults
from heksher.testing.service import LiveService

gevent = pytest.importorskip("gevent", reason="heksher[gevent] is not installed")

BEATS = 100


@pytest.fixture
def backend() -> GeventHarness:
    return GeventHarness()


@pytest.fixture
def scene(backend: GeventHarness) -> Scene:
    return Scene(backend)


@pytest.fixture(scope="module")
def service() -> Iterator[LiveService]:
    with LiveService(FEATURES, in_process=True) as service:
        yield service


def client_of(service: LiveService, *, direct: bool = False) -> ThreadHeksherClient:
    """Make a client; if *direct*, without the proxy for faults, which keeps connections for a while."""
    url = service.direct_url if direct else service.url
    return ThreadHeksherClient(url, 3600, FEATURES, backend="gevent", startup="raise")


def beat() -> None:
    """Let the hub run many times, which a request that blocks it would prevent."""
    for _ in range(BEATS):
        gevent.sleep(0.001)


def make_large(scene: Scene, name: str) -> None:
    """Make the answer for a setting so large that it is decoded in a thread."""
    for number in range(LARGE // 60):
        scene.service.add_rule(name, number, user=f"user{number}")


def until(backend: GeventHarness, condition: Callable[[], object]) -> None:
    run_blocking(backend.until(condition))


# --- the hub runs while a greenlet waits ----------------------------------------------------------


@pytest.mark.parametrize("what", ["set_as_main", "reload", "ping", "get_settings"])
def test_greenlets_go_on_while_the_service_is_silent(
    service: LiveService, backend: GeventHarness, what: str
) -> None:
    client = client_of(service)
    if what == "reload":
        client.set_as_main()
    silence = service.faults.add(faults.Delay())
    asking = gevent.spawn(outcome, getattr(client, what))
    until(backend, lambda: silence.hits)
    beat()
    assert not asking.ready()
    client.close()
    assert isinstance(asking.get(timeout=PATIENCE), HeksherError)
    service.faults.clear()


def test_greenlets_go_on_while_a_large_answer_is_read(scene: Scene) -> None:
    setting = Setting("large", int, FEATURES, 60)
    beaten = threading.Event()
    waited: list[bool] = []

    @setting.add_validator
    def wait(value: int, rule: QueriedRule | None, of: Setting[int]) -> int:
        if not waited:
            waited.append(beaten.wait(PATIENCE))
        return value

    async def body() -> None:
        async with scene.client() as client:
            waited.clear()
            make_large(scene, "large")
            reload = scene.backend.beside(client.reload)
            await scene.backend.until(lambda: scene.polls == 2, "the rules are asked for")
            beat()
            beaten.set()
            await scene.backend.until(lambda: reload.ended, "it is read")
            assert reload.error is None

    waited.append(True)  # for the start, whose answer is small and decoded in the hub
    scene.run(body)
    assert waited == [True]


def test_thousands_of_greenlets_read_each_in_its_own_context(service: LiveService) -> None:
    ttl = Setting("per_greenlet", str, ["user"], "none")
    user: ContextVar[str] = ContextVar("user", default="nobody")
    service.declare(ttl)
    for name in ("ann", "ben", "nobody"):
        service.add_rule(ttl, name, user=name)
    answers: list[tuple[str, str, str]] = []

    def read(name: str) -> None:
        before = ttl.get()
        user.set(name)
        gevent.sleep(0)
        answers.append((name, before, ttl.get()))

    client = client_of(service)
    client.set_defaults(user=user)
    client.set_as_main()
    try:
        user.set("ann")  # only in this greenlet
        gevent.joinall([gevent.spawn(read, name) for name in ["ann", "ben"] * 2000], PATIENCE)
    finally:
        client.close()
    assert len(answers) == 4000
    assert set(answers) == {("ann", "nobody", "ann"), ("ben", "nobody", "ben")}


# --- calls from other threads and greenlets -------------------------------------------------------


def test_a_native_thread_uses_the_client_and_gets_no_hub(
    service: LiveService, backend: GeventHarness
) -> None:
    from gevent._hub_local import get_hub_if_exists

    client = client_of(service)
    client.set_as_main()
    hubs: list[object] = []

    def use() -> None:
        with client.modification_lock:
            client.ping()
        client.reload()
        client.close()
        hubs.append(get_hub_if_exists())

    thread = threading.Thread(target=use)
    thread.start()
    until(backend, lambda: not thread.is_alive())
    assert hubs == [None]
    assert client.status.state is ClientState.CLOSED


def test_a_client_that_a_native_thread_started_goes_on_without_it(
    service: LiveService, backend: GeventHarness
) -> None:
    ttl = Setting("by_a_thread", int, ["user"], 60)
    leftovers = Leftovers()
    client = client_of(service, direct=True)
    thread = threading.Thread(target=client.set_as_main)
    thread.start()
    until(backend, lambda: not thread.is_alive())
    service.add_rule(ttl, 5, user="jim")
    client.reload()
    assert ttl.get(user="jim") == 5
    client.close()
    run_blocking(leftovers.gone(backend))


def test_a_client_moves_between_hubs(service: LiveService, backend: GeventHarness) -> None:
    ended: list[BaseException | None] = []

    def use_in_a_hub() -> None:
        asking = [gevent.spawn(outcome, client.reload) for _ in range(10)]
        gevent.joinall(asking, PATIENCE)
        ended.extend(each.value for each in asking)
        gevent.get_hub().destroy(destroy_loop=True)

    client = client_of(service)
    client.set_as_main()
    threads = [threading.Thread(target=use_in_a_hub) for _ in range(3)]
    for thread in threads:
        thread.start()
    until(backend, lambda: not any(thread.is_alive() for thread in threads))
    client.close()
    assert ended == [None] * 30


def test_a_loop_that_another_thread_has_just_started_can_be_ended(backend: GeventHarness) -> None:
    async def main() -> None:
        steps.append("ended by itself")

    steps: list[str] = []
    task = backend.backend.create_task(main)
    thread = threading.Thread(target=lambda: run_blocking(task.start()))
    thread.start()
    thread.join()  # this blocks the hub, so that it has not started the loop yet
    task.cancel()
    assert run_blocking(task.wait(PATIENCE))
    assert steps == ["ended by itself"]


def test_greenlets_go_on_while_one_waits_for_the_end_of_a_thread(backend: GeventHarness) -> None:
    async def main() -> None:
        begun.set()
        waited.append(beaten.wait(PATIENCE))

    waited: list[bool] = []
    begun, beaten = threading.Event(), threading.Event()
    tasks: list[Any] = []

    def start() -> None:
        tasks.append(backend.backend.create_task(main))
        run_blocking(tasks[0].start())

    starting = threading.Thread(target=start)
    starting.start()
    until(backend, begun.is_set)
    waiting = gevent.spawn(lambda: run_blocking(tasks[0].wait(PATIENCE)))
    beat()
    beaten.set()
    assert waiting.get(timeout=PATIENCE)
    assert waited == [True]


def test_a_library_that_another_thread_imports_just_now_is_not_there_yet(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("greenlet", "gevent.monkey"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    assert _callers.thread() == _callers.caller() == threading.get_ident()
    assert choose_blocking("auto").name == "thread"


def test_a_child_that_is_forked_in_c_gets_a_hub_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls: list[str] = []
    uwsgi: Any = ModuleType("uwsgi")
    monkeypatch.setitem(sys.modules, "uwsgi", uwsgi)
    monkeypatch.setattr(forking, "_clients", WeakSet[forking.Forkable]())
    client = ThreadHeksherClient("http://heksher.test", 3600, FEATURES)
    monkeypatch.setattr(forking, "_process", 0)
    monkeypatch.setattr(gevent, "reinit", lambda: calls.append("reinit"))
    uwsgi.post_fork_hook()
    assert calls == ["reinit"]
    client.close()


@pytest.mark.parametrize("ending", ["destroyed", "left alone"])
def test_nobody_waits_for_a_hub_that_runs_no_more(
    ending: str, backend: GeventHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Patched sockets, as here, can only be used in one hub."""
    made: list[Any] = []

    def is_patched(name: str) -> bool:
        return name == "socket"

    def make() -> None:
        hub = gevent.get_hub()
        made.extend((backend.backend, hub))
        if ending == "destroyed":
            hub.destroy(destroy_loop=True)

    thread = threading.Thread(target=make)
    thread.start()
    until(backend, lambda: not thread.is_alive())
    monkeypatch.setattr("heksher.backends._gevent._CLOSE_TIMEOUT", 0.01)
    with monkeypatch.context() as patch:
        patch.setattr(gevent.monkey, "is_module_patched", is_patched)
        transport = made[0].create_transport(
            HttpOptions("http://heksher.test/", request_timeout=0.01)
        )
    with pytest.raises(BackendError, match="serves no greenlets"):
        run_blocking(transport.send(_wire.health().request))
    run_blocking(transport.aclose())
    if ending == "left alone":
        made[1].destroy(destroy_loop=True)


def test_other_greenlets_of_the_hooks_thread_may_reload(service: LiveService) -> None:
    client = client_of(service)
    client.set_as_main()
    others: list[Any] = []

    def reload_beside() -> None:
        client.on_update_ok = lambda: None
        others.append(gevent.spawn(outcome, client.reload))

    client.on_update_ok = reload_beside
    client.reload()
    assert others[0].get(timeout=PATIENCE) is None
    client.close()


def test_a_validator_in_another_thread_cannot_wait_for_its_own_update(scene: Scene) -> None:
    setting = Setting("large", int, FEATURES, 60)
    errors: list[BaseException | None] = []

    async def body() -> None:
        client = scene.client()
        await client.set_as_main()

        @setting.add_validator
        def reload(value: int, rule: QueriedRule | None, of: Setting[int]) -> int:
            if not errors:
                errors.append(outcome(client.client.reload))
            return value

        make_large(scene, "large")
        await client.reload()
        await client.close()

    scene.run(body)
    assert "was called by one, in a hook" in str(errors[0])


# --- killed and timed out -------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["set_as_main", "reload", "ping"])
@pytest.mark.parametrize("how", ["kill", "timeout"])
def test_a_greenlet_that_is_ended_leaves_the_client_usable(
    service: LiveService, backend: GeventHarness, what: str, how: str
) -> None:
    leftovers = Leftovers()
    client = client_of(service)
    if what == "reload":
        client.set_as_main()
    silence = service.faults.add(faults.Delay())
    if how == "kill":
        asking = gevent.spawn(getattr(client, what))
        until(backend, lambda: silence.hits)
        asking.kill(timeout=PATIENCE)
        assert isinstance(asking.value, gevent.GreenletExit)
    else:
        with pytest.raises(gevent.Timeout), gevent.Timeout(0.05):
            getattr(client, what)()
    running = ClientState.RUNNING if what == "reload" else ClientState.NEW
    assert client.status.state is running
    service.faults.clear()
    if what == "reload":  # the loop still waits for the answer that never comes
        service.renew(FEATURES)
    else:
        client.set_as_main()
        client.reload()
    client.close()
    until(backend, lambda: not leftovers.found().keys() & {"threads", "greenlets"})


def test_a_greenlet_that_is_ended_while_it_waits_for_the_lock_leaves_it_to_others(
    service: LiveService,
) -> None:
    client = client_of(service)
    lock = client.modification_lock
    with lock:
        waiting = gevent.spawn(lock.acquire)
        gevent.sleep(0)
        assert not waiting.ready()
        waiting.kill(timeout=PATIENCE)
    assert not lock.locked()
    client.close()


def test_a_client_whose_loop_is_killed_is_closed(
    service: LiveService, backend: GeventHarness
) -> None:
    import gc

    leftovers = Leftovers()
    client = client_of(service, direct=True)
    client.set_as_main()
    (loop,) = (
        each
        for each in gc.get_objects()
        if isinstance(each, gevent.Greenlet) and each.name == "heksher-client" and not each.dead
    )
    loop.kill(timeout=PATIENCE)
    assert client.status.state is ClientState.CLOSED
    with pytest.raises(ClientClosedError):
        client.reload()
    client.close()
    run_blocking(leftovers.gone(backend))


def test_a_hook_that_closing_ends_is_no_error(
    scene: Scene, backend: GeventHarness, caplog: pytest.LogCaptureFixture
) -> None:
    steps: list[str] = []

    def hook() -> None:
        steps.append("begun")
        try:
            gevent.sleep(PATIENCE)
        finally:
            steps.append("ended")

    async def body() -> None:
        async with scene.client() as client:
            client.client.on_update_ok = hook
            reload = backend.beside(client.reload)
            await backend.until(lambda: steps, "the hook is called")
        await backend.until(lambda: reload.ended, "the reload is given up")
        assert isinstance(reload.error, ClientClosedError)

    backend.run(body)
    assert steps == ["begun", "ended"]
    assert "raised an error" not in caplog.text


def test_ctrl_c_that_meets_the_loop_is_raised_in_the_program_and_ends_no_loop(
    scene: Scene, backend: GeventHarness
) -> None:
    ttl = Setting("cache_ttl", int, ["user"], 60)
    strikes = ["Ctrl-C"]

    def strike(value: int, rule: object, setting: object) -> int:
        if strikes:
            strikes.pop()
            raise KeyboardInterrupt
        return value

    async def body() -> None:
        async with scene.client() as client:
            ttl.add_validator(strike)
            scene.service.add_rule("cache_ttl", 5, user="jim")
            with pytest.raises(KeyboardInterrupt):
                await client.reload()
            await client.reload()
            assert ttl.get(user="jim") == 5
            assert client.status.failures == 0

    backend.run(body)


@pytest.mark.parametrize(
    ("owner", "method"),
    [
        (Updater, "load"),
        (Run, "_note_update"),
        (Run, "_save_snapshot"),
        (Run, "_wait_for_work"),
    ],
)
def test_ctrl_c_that_meets_the_loop_beside_an_update_ends_no_loop_either(
    scene: Scene,
    backend: GeventHarness,
    owner: type[Any],
    method: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ttl = Setting("cache_ttl", int, ["user"], 60)
    usual = getattr(owner, method)
    strikes: list[str] = []

    def strike(*args: Any) -> Any:
        if strikes:
            strikes.pop()
            raise KeyboardInterrupt
        return usual(*args)

    monkeypatch.setattr(owner, method, strike)

    async def reload_and_rest(client: AnyClient) -> None:
        await client.reload()
        gevent.sleep(PATIENCE)

    async def body() -> None:
        async with scene.client() as client:
            await scene.settled()
            scene.service.add_rule("cache_ttl", 5, user="jim")
            strikes.append("Ctrl-C")
            with pytest.raises(KeyboardInterrupt):
                await reload_and_rest(client)
            await client.reload()
            assert ttl.get(user="jim") == 5

    backend.run(body)


def test_nobody_waits_for_a_name_look_up(
    backend: GeventHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    looking, found = threading.Event(), threading.Event()

    def look_up(*args: Any, **options: Any) -> Any:
        looking.set()
        found.wait(PATIENCE)
        raise socket.gaierror("nothing is known of it")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    leftovers = Leftovers()
    client = ThreadHeksherClient(
        "http://heksher.test", 3600, FEATURES, backend="gevent", startup_timeout=0.05
    )
    client.set_as_main()  # it returns, and the client keeps trying
    until(backend, looking.is_set)
    client.close()
    assert leftovers.found()["greenlets"] == 0
    found.set()
    run_blocking(leftovers.gone(backend))


def test_a_process_that_can_have_no_more_threads_is_no_mystery(
    service: LiveService, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    client = client_of(service)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(ServiceUnreachableError, match="can't start new thread"):
            client.ping()
    client.ping()
    client.close()


# --- events ---------------------------------------------------------------------------------------


def test_an_event_is_seen_by_greenlets_of_any_hub_and_by_threads(backend: GeventHarness) -> None:
    event = backend.event()
    seen: list[str] = []

    def wait(name: str) -> None:
        run_blocking(event.wait(PATIENCE))
        seen.append(name)

    def in_another_hub() -> None:
        gevent.joinall([gevent.spawn(wait, "another hub") for _ in range(2)], PATIENCE)
        gevent.get_hub().destroy(destroy_loop=True)

    threads = [
        threading.Thread(target=in_another_hub),
        threading.Thread(target=wait, args=["no hub"]),
    ]
    for thread in threads:
        thread.start()
    greenlets = [gevent.spawn(wait, "this hub") for _ in range(2)]
    beat()
    assert seen == []
    setter = threading.Thread(target=event.set)
    setter.start()
    gevent.joinall(greenlets, PATIENCE)
    until(backend, lambda: not any(thread.is_alive() for thread in (*threads, setter)))
    assert sorted(seen) == ["another hub"] * 2 + ["no hub", "this hub", "this hub"]


def test_an_event_that_is_set_and_cleared_from_threads_all_the_time_loses_no_wakeup(
    backend: GeventHarness,
) -> None:
    there, back = backend.event(), backend.event()

    def play(mine: Event, others: Event) -> None:
        for _ in range(1000):
            run_blocking(mine.wait(PATIENCE))
            mine.clear()
            others.set()

    thread = threading.Thread(target=play, args=[there, back])
    thread.start()
    there.set()
    play(back, there)
    until(backend, lambda: not thread.is_alive())


def outcome(function: Callable[[], object]) -> BaseException | None:
    """Call it, and return the error that it raises."""
    try:
        function()
    except Exception as error:
        return error
    return None
