"""The requests of a start, on every backend: no more than needed, and one at a time."""

from __future__ import annotations

import builtins
import contextlib
import importlib
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest
from support.harness import (
    HARNESSES,
    PATIENCE,
    AnyClient,
    Background,
    Harness,
    ThreadHarness,
)
from support.scenes import Scene

from heksher import Setting
from heksher._client.settings import ClientSettings
from heksher._client.snapshot import SnapshotFile
from heksher._wire import Request, Response
from heksher.backends import Event, run_blocking
from heksher.backends.base import LARGE
from heksher.exceptions import (
    ClientClosedError,
    DeclarationRejected,
    HeksherError,
    ServiceUnreachableError,
    StartupTimeoutError,
)
from heksher.status import ClientState


@pytest.fixture
def scene(backend: Harness) -> Scene:
    return Scene(backend)


def some_settings(number: int) -> list[Setting[int]]:
    return [Setting(f"s{n}", int, ["environment", "user"], n) for n in range(number)]


FEW = ["GET v1/context_features", "GET v1/settings", "GET v1/query"]


def test_settings_that_are_up_to_date_cost_no_request_of_their_own(scene: Scene) -> None:
    settings = some_settings(500)

    async def body() -> None:
        async with scene.client():
            pass
        scene.service.requests.clear()
        scene.service.add_rule("s499", 7, user="jim")
        async with scene.client():
            assert scene.service.log == FEW
            assert settings[499].get(environment="dev", user="jim") == 7

    scene.run(body)


def test_new_settings_are_declared_once_each_and_one_after_another(scene: Scene) -> None:
    settings = some_settings(30)
    under_way: list[Request] = []
    answer = scene.service.answer

    async def watching(request: Request) -> Response:
        under_way.append(request)
        assert under_way == [request]
        if not scene.backend.backend.blocking:
            await anyio.lowlevel.checkpoint()  # another request could start here
        try:
            return await answer(request)
        finally:
            under_way.remove(request)

    scene.service.answer = watching  # type: ignore[method-assign]

    async def body() -> None:
        async with scene.client():
            declarations = ["POST v1/settings/declare"] * len(settings)
            assert scene.service.log == [*FEW[:2], *declarations, *FEW[2:]]

    scene.run(body)


def test_a_start_goes_on_where_one_that_was_given_up_came_to(scene: Scene) -> None:
    settings = some_settings(5)

    async def body() -> None:
        passed, arrived, never = (scene.backend.event() for _ in range(3))
        passed.set()
        for _ in range(2):
            scene.service.hold("declare", scene.backend.event(), passed)
        scene.service.hold("declare", arrived, never)
        client = scene.client(startup_timeout=5)
        starting = scene.backend.beside(client.set_as_main)
        await arrived.wait()
        await scene.settled()
        scene.clock.advance(6)
        await scene.backend.until(lambda: starting.ended, "the start is given up")
        assert isinstance(starting.error, StartupTimeoutError)
        assert sorted(scene.service.settings) == ["s0", "s1", "s2"]
        scene.service.requests.clear()
        async with client:
            assert scene.service.count("POST v1/settings/declare") == 2
            assert [each.get(environment="dev", user="jim") for each in settings] == [*range(5)]

    scene.run(body)


def test_rules_that_the_service_has_are_in_force_before_new_settings_are_declared(
    scene: Scene,
) -> None:
    old = some_settings(3)

    async def body() -> None:
        async with scene.client():
            pass
        for setting in old:
            scene.service.add_rule(setting.name, 7, user="jim")
        new = [Setting(f"new{n}", int, ["user"], n) for n in range(300)]
        passed, arrived, go_on = (scene.backend.event() for _ in range(3))
        passed.set()
        for _ in range(150):
            scene.service.hold("declare", scene.backend.event(), passed)
        scene.service.hold("declare", arrived, go_on)
        client = scene.client(startup="continue", startup_timeout=5)
        starting = scene.backend.beside(client.set_as_main)
        await arrived.wait()
        await scene.settled()
        scene.clock.advance(6)
        await scene.backend.until(lambda: starting.ended, "the start returns")
        assert starting.error is None
        assert [each.get(environment="dev", user="jim") for each in old] == [7] * 3
        assert new[299].get(user="jim") == 299
        scene.service.add_rule("new299", 8, user="jim")
        go_on.set()
        await scene.backend.until(lambda: new[299].get(user="jim") == 8, "all are declared")
        await client.close()

    scene.run(body)


# --- declarations that the service could not answer -----------------------------------------------


@pytest.mark.parametrize(
    "answer",
    [
        Response(500, {}, b"Internal Server Error"),
        Response(503, {}, b""),
        Response(429, {}, b"slow down"),
        Response(200, {}, b"<html>"),
    ],
    ids=["500", "503", "429", "no-json"],
)
def test_a_declaration_that_failed_is_tried_again_with_jitter_while_a_start_may_raise(
    scene: Scene, answer: Response
) -> None:
    settings = some_settings(2)
    scene.service.answers["s1"] = answer

    def waits(pause: float) -> bool:
        return pause in scene.clock.asked and scene.clock.sleeping == 2

    async def body() -> None:
        client = scene.client()
        starting = scene.backend.beside(client.set_as_main)
        for pause in (0.5, 1.0, 2.0):  # half of 1, 2 and 4 seconds: the jitter
            await scene.backend.until(partial(waits, pause), "caller and loop wait")
            assert not starting.ended
            assert client.status.state is ClientState.STARTING
            if pause == 2.0:
                del scene.service.answers["s1"]
            scene.clock.advance(pause)
        await scene.backend.until(lambda: starting.ended, "the start ends")
        assert starting.error is None
        assert scene.service.count("POST v1/settings/declare") == 5  # s0 once
        assert settings[1].get(environment="dev", user="jim") == 1
        await client.close()

    scene.run(body)


def test_a_start_whose_declarations_fail_to_the_end_names_the_newest_error(
    scene: Scene, tmp_path: Path
) -> None:
    settings = some_settings(1)
    scene.service.answers["s0"] = Response(500, {}, b"Internal Server Error")

    async def body() -> None:
        client = scene.client(startup_timeout=5, snapshot=tmp_path / "rules")
        starting = scene.backend.beside(client.set_as_main)
        await scene.backend.until(lambda: scene.clock.sleeping == 2, "caller and loop wait")
        scene.clock.advance(5)
        await scene.backend.until(lambda: starting.ended, "the start is given up")
        assert isinstance(starting.error, StartupTimeoutError)
        assert "startup_timeout=5 seconds" in str(starting.error)
        assert str(starting.error).startswith("http://service.test/ did not answer")
        assert "HTTP 500: Internal Server Error" in str(starting.error)
        assert client.status.state is ClientState.NEW
        await client.close()

    scene.run(body)
    assert settings


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (Response(409, {}, b'{"outcome": "mismatch", "differences": []}'), DeclarationRejected),
        (Response(401, {}, b"no token"), DeclarationRejected),
        (Response(404, {}, b"no such page"), DeclarationRejected),
        (ServiceUnreachableError("scripted: gone"), ServiceUnreachableError),
    ],
    ids=["refused", "401", "404", "unreachable"],
)
def test_what_another_try_cannot_change_is_raised_at_once(
    scene: Scene, answer: Response | Exception, error: type[Exception]
) -> None:
    settings = some_settings(2)
    scene.service.answers["s0"] = Response(500, {}, b"Internal Server Error")
    if isinstance(answer, Response):
        scene.service.answers["s1"] = answer
    else:
        scene.service.faults = [None, None, None, answer]

    async def body() -> None:
        client = scene.client()
        with pytest.raises(error):
            await client.set_as_main()
        await client.close()

    scene.run(body)
    assert settings


# --- one start for many callers -------------------------------------------------------------------


async def begin_starts(scene: Scene, client: AnyClient, number: int) -> list[Background]:
    """Start *client* from several callers, of which one is held at a request; return when all wait."""
    starts = [scene.backend.beside(client.set_as_main)]
    await scene.settled()
    starts += [scene.backend.beside(client.set_as_main) for _ in range(number - 1)]
    await scene.backend.until(lambda: scene.waiting == number - 1, "all callers wait")
    return starts


def test_callers_that_start_one_client_at_the_same_time_share_its_start(scene: Scene) -> None:
    settings = some_settings(3)

    async def body() -> None:
        arrived, go_on = scene.backend.event(), scene.backend.event()
        scene.service.hold("v1/context_features", arrived, go_on)
        client = scene.client()
        starts = await begin_starts(scene, client, 5)
        go_on.set()
        await scene.backend.until(lambda: all(each.ended for each in starts), "all return")
        assert [each.error for each in starts] == [None] * 5
        assert scene.service.count("GET v1/context_features") == 1
        assert len(scene.service.transports) == 1
        assert client.status.state is ClientState.RUNNING
        await client.close()

    scene.run(body)
    assert settings


def test_callers_share_the_error_of_a_start_that_fails(scene: Scene) -> None:
    async def body() -> None:
        arrived, go_on = scene.backend.event(), scene.backend.event()
        scene.service.hold("v1/context_features", arrived, go_on)
        scene.service.faults = [ServiceUnreachableError("scripted: away")]
        client = scene.client()
        starts = await begin_starts(scene, client, 3)
        go_on.set()
        await scene.backend.until(lambda: all(each.ended for each in starts), "all return")
        errors = [each.error for each in starts]
        assert [str(error) for error in errors] == ["scripted: away"] * 3
        assert len({id(error) for error in errors}) == 3, "each raises an error of its own"
        assert scene.service.count("GET v1/context_features") == 1
        await client.set_as_main()  # it can be started again
        await client.close()

    scene.run(body)


def test_callers_learn_that_the_client_was_closed_while_it_started(scene: Scene) -> None:
    async def body() -> None:
        scene.service.hold("v1/context_features", scene.backend.event(), scene.backend.event())
        client = scene.client()
        starts = await begin_starts(scene, client, 3)
        await client.close()
        await scene.backend.until(lambda: all(each.ended for each in starts), "all return")
        assert [type(each.error) for each in starts] == [ClientClosedError] * 3

    scene.run(body)


class Abandoned(BaseException):
    """Stands for what ends a caller in a thread or greenlet: Ctrl-C, GreenletExit."""


def test_a_waiting_caller_takes_over_if_the_one_that_starts_is_cancelled(scene: Scene) -> None:
    setting = Setting("s", int, ["user"], 1)
    scene.service.add_rule("s", 7, user="jim")

    async def body() -> None:
        scene.service.hold("v1/context_features", scene.backend.event(), scene.backend.event())
        client = scene.client()
        scope = None if scene.backend.is_blocking else anyio.CancelScope()
        interruption: list[Abandoned] = []

        async def begin() -> None:
            with scope or contextlib.suppress(Abandoned):
                await client.set_as_main()

        if scope is None:
            # The clock's wait is where a signal handler's exception comes out.
            wait = scene.clock.wait

            async def interruptible(event: Event, timeout: float | None) -> None:
                await wait(event, timeout)
                if interruption:
                    raise interruption.pop()

            scene.clock.wait = interruptible  # type: ignore[method-assign]
        first = scene.backend.beside(begin)
        await scene.settled()
        others = [scene.backend.beside(client.set_as_main) for _ in range(2)]
        await scene.backend.until(lambda: scene.waiting == 2, "all callers wait")
        if scope is None:
            interruption.append(Abandoned())
            scene.clock.advance(1_000)
        else:
            scope.cancel()
        await scene.backend.until(lambda: all(each.ended for each in [first, *others]), "all end")
        assert [each.error for each in others] == [None, None]
        assert client.status.state is ClientState.RUNNING
        assert setting.get(user="jim") == 7
        assert scene.service.count("GET v1/context_features") == 2, "one of them started again"
        await client.close()

    scene.run(body)


def test_ctrl_c_while_a_start_is_prepared_leaves_a_client_that_can_be_started(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With thousands of settings, that takes long enough to be met."""
    setting = Setting("s", int, ["user"], 1)

    def interrupted(_: ClientSettings) -> None:
        raise KeyboardInterrupt

    async def body() -> None:
        client = scene.client()
        with monkeypatch.context() as patch:
            patch.setattr(ClientSettings, "begin_start", interrupted)
            with pytest.raises(KeyboardInterrupt):
                await client.set_as_main()
        assert client.status.state is ClientState.NEW
        scene.service.add_rule("s", 7, user="jim")
        await client.set_as_main()
        assert setting.get(user="jim") == 7
        await client.close()

    scene.run(body)


def test_nobody_waits_for_a_start_that_was_broken_off(scene: Scene) -> None:
    """As by a Ctrl-C that comes just when the start begins: its end was announced, and changed nothing."""

    async def body() -> None:
        arrived, go_on = scene.backend.event(), scene.backend.event()
        scene.service.hold("v1/context_features", arrived, go_on)
        client = scene.client()
        first = scene.backend.beside(client.set_as_main)
        await arrived.wait()
        run = client.client._core._run  # pyright: ignore[reportPrivateUsage]
        assert run is not None
        run.end_start()
        second = scene.backend.beside(client.set_as_main)
        await scene.backend.until(lambda: second.ended, "the second caller is refused")
        assert isinstance(second.error, HeksherError)
        go_on.set()
        await scene.backend.until(lambda: first.ended, "the first one goes on")
        await client.close()

    scene.run(body)


@pytest.mark.parametrize(
    "harness", [each for each in HARNESSES if each.is_blocking], ids=lambda harness: harness.name
)
def test_a_start_that_would_wait_for_itself_is_refused(harness: type[Harness]) -> None:
    """Only blocking clients can be started by a validator, which cannot await."""
    scene = Scene(harness())
    setting = Setting("s", int, ["user"], 1)
    scene.service.add_rule("s", 7, user="jim")
    refused: list[Exception] = []

    async def body() -> None:
        client = scene.client()

        @setting.add_validator
        def start_again(value: int, _rule: object, _setting: object) -> int:
            try:
                run_blocking(client.set_as_main())
            except HeksherError as error:
                refused.append(error)
            return value

        async with client:
            assert "being started" in str(refused[0])

    scene.run(body)


# --- what a start waits for -----------------------------------------------------------------------


async def late_start(scene: Scene, client: AnyClient, is_stuck: Callable[[], object]) -> str:
    """Start a client whose update gets stuck, let its time run out, and return what is said of it."""
    start = scene.backend.beside(client.set_as_main)
    await scene.backend.until(is_stuck, "the update is stuck")
    await scene.settled()
    scene.clock.advance(1_000)
    await scene.backend.until(lambda: start.ended, "the start returns")
    error = client.status.last_error
    assert isinstance(error, StartupTimeoutError)
    return str(error)


def test_a_start_that_waits_for_a_validator_says_so(scene: Scene) -> None:
    """Such a validator may import the module that starts the client, which waits for the start."""
    ttl = Setting("ttl", int, ["user"], 60)
    begun, go_on = threading.Event(), threading.Event()

    def check(value: int, *_: object) -> int:
        begun.set()
        assert go_on.wait(PATIENCE)
        return value

    ttl.add_validator(check)
    for number in range(LARGE // 60):  # so many that an event loop leaves them to a thread
        scene.service.add_rule("ttl", number, user=f"user{number}")

    async def body() -> None:
        client = scene.client(startup="continue", startup_timeout=5)
        said = await late_start(scene, client, begun.is_set)
        assert "<locals>.check, which the start waits for, did not return (if it imports" in said
        assert said.endswith(" within startup_timeout=5 seconds")
        assert "http://service.test" not in said
        go_on.set()
        await scene.backend.until(lambda: ttl.get(user="user7") == 7, "the client goes on")
        await client.close()

    scene.run(body)


def test_a_start_that_waits_for_the_modification_lock_says_so(scene: Scene) -> None:
    ttl = Setting("ttl", int, ["user"], 60)
    scene.service.add_rule("ttl", 5, user="jim")

    async def body() -> None:
        client = scene.client(startup="continue", startup_timeout=5)
        lock = client.client.modification_lock
        acquiring = lock.acquire()
        if not isinstance(acquiring, bool):
            await acquiring
        said = await late_start(scene, client, lambda: scene.waiting)
        assert said == (
            "modification_lock, which the start waits for, was not released within "
            "startup_timeout=5 seconds"
        )
        lock.release()
        await scene.backend.until(lambda: ttl.get(user="jim") == 5, "the client goes on")
        await client.close()

    scene.run(body)


def test_a_start_that_waits_for_a_disk_says_so(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Such as one of a file server that is gone."""
    ttl = Setting("ttl", int, ["user"], 60)
    scene.service.add_rule("ttl", 5, user="jim")
    begun, go_on = threading.Event(), threading.Event()

    def load(*_: object) -> None:
        begun.set()
        assert go_on.wait(PATIENCE)

    monkeypatch.setattr(SnapshotFile, "load", load)
    path = tmp_path / "rules"

    async def body() -> None:
        client = scene.client(startup="continue", startup_timeout=5, snapshot=path)
        said = await late_start(scene, client, begun.is_set)
        assert said == (
            f"loading the snapshot {path}, which the start waits for, did not end within "
            "startup_timeout=5 seconds"
        )
        go_on.set()
        await scene.backend.until(lambda: ttl.get(user="jim") == 5, "the client goes on")
        await client.close()

    scene.run(body)


def test_a_module_that_starts_a_client_and_is_imported_by_a_validator(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The import waits for the start, and the validator for the import."""
    backend = ThreadHarness()
    scene = Scene(backend)
    scene.service.add_rule("ttl", 5, user="jim")
    client = backend.client(
        "http://service.test",
        60,
        ["user"],
        backend=scene.library_backend(),
        startup="continue",
        startup_timeout=0.2,
    )
    ttl = Setting("ttl", int, ["user"], 60)

    def check(value: int, *_: object) -> int:
        importlib.import_module("heksher_shop_of_a_test")
        return value

    ttl.add_validator(check)
    (tmp_path / "heksher_shop_of_a_test.py").write_text("import builtins; builtins.start_shop()\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    importlib.invalidate_caches()

    def start() -> None:
        run_blocking(client.set_as_main())

    monkeypatch.setattr(builtins, "start_shop", start, raising=False)
    importlib.import_module("heksher_shop_of_a_test")
    assert "<locals>.check, which the start waits for" in str(client.status.last_error)
    run_blocking(backend.until(lambda: ttl.get(user="jim") == 5, "the client goes on"))
    run_blocking(client.close())
