"""The defects of heksher-py 0.2.2, one by one: each has tests that fail with its behaviour.

They run on every backend, with real HTTP to a service process where the protocol matters.
"""

from __future__ import annotations

import gc
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from contextvars import ContextVar
from functools import partial
from types import FrameType, ModuleType
from typing import Any, ClassVar

import httpx
import pytest
from programs import PROGRAMS
from support.harness import PATIENCE, AnyClient, Harness
from support.leftovers import Leftovers
from support.misreading import MisreadingService, misread

from heksher import TRACK_ALL, Setting, _registry
from heksher.exceptions import MissingFeatureError, ServiceUnreachableError
from heksher.status import ClientState, ClientStatus
from heksher.testing.service import LiveService

pytestmark = pytest.mark.integration

FEATURES = ["environment", "user", "theme"]
SOON = 0.1
NEVER = 3600.0


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveService]:
    database = tmp_path_factory.mktemp("service") / "settings.sqlite"
    with LiveService(FEATURES, database=database, proxy=False) as process:
        yield process


@pytest.fixture
def service(process: LiveService) -> LiveService:
    """A service without settings. All tests share its process, and some of them end it."""
    if not process.is_running:
        process.start()
    process.empty(FEATURES)
    return process


# --- 1: which rule wins ---------------------------------------------------------------------------


@pytest.mark.parametrize("winner_comes_first", [True, False])
def test_of_two_rules_that_tie_on_the_latest_feature_the_next_latest_one_decides(
    backend: Harness, service: LiveService, winner_comes_first: bool
) -> None:
    color = Setting("color", str, FEATURES, "white")
    rules = [
        ({"user": "jim", "theme": "dark"}, "by user and theme"),
        ({"environment": "dev", "theme": "dark"}, "by environment and theme"),
    ]

    async def body() -> None:
        client = backend.client(service.url, NEVER, FEATURES)
        client.track_contexts(environment=TRACK_ALL, user=TRACK_ALL, theme=TRACK_ALL)
        async with client:
            for conditions, value in rules if winner_comes_first else reversed(rules):
                service.add_rule("color", value, **conditions)
            await client.reload()
            assert color.get(environment="dev", user="jim", theme="dark") == "by user and theme"
            assert color.get(environment="dev", user="joe", theme="dark") == (
                "by environment and theme"
            )

    backend.run(body)


# --- 2: the order of a setting's features ---------------------------------------------------------


@pytest.mark.parametrize("client_order", [FEATURES, FEATURES[::-1]], ids=["equal", "reversed"])
def test_the_order_in_which_a_setting_lists_its_features_disturbs_no_update(
    backend: Harness, service: LiveService, client_order: list[str]
) -> None:
    backwards = Setting("backwards", str, ["theme", "user"], "white")
    others = [Setting(name, int, ["user"], 0) for name in ("a_first", "z_last")]

    async def body() -> None:
        client = backend.client(service.url, SOON, client_order)
        client.track_contexts(user=TRACK_ALL, theme=TRACK_ALL)
        async with client:
            service.add_rule("backwards", "by user", user="jim")
            service.add_rule("backwards", "by theme", theme="dark")
            service.add_rule("backwards", "by both", user="ann", theme="dark")
            await client.reload()
            assert backwards.get(user="jim", theme="dark") == "by theme", "the service's order"
            assert backwards.get(user="jim", theme="bright") == "by user"
            assert backwards.get(user="ann", theme="dark") == "by both"
            for other in others:
                service.add_rule(other.name, 1, user="jim")
            await backend.until(
                lambda: [other.get(user="jim") for other in others] == [1, 1],
                "later updates of every setting",
            )
            assert client.status.failures == 0

    backend.run(body)


# --- 3: changes by operators ----------------------------------------------------------------------


def _rename(service: LiveService) -> None:
    service.rename("common", "renamed", "1.0")


def _delete(service: LiveService) -> None:
    service.delete_setting("common")


@pytest.mark.parametrize("change", [_rename, _delete], ids=["renamed", "deleted"])
def test_a_setting_that_somebody_else_changes_keeps_no_other_from_its_updates(
    backend: Harness, service: LiveService, change: Callable[[LiveService], None]
) -> None:
    common = Setting("common", int, ["user"], 0)
    others = [Setting(name, int, ["user"], 0) for name in ("a_first", "z_last")]

    def all_have_the_rule_of(user: str) -> bool:
        return all(other.get(user=user) == 1 for other in others)

    async def body() -> None:
        client = backend.client(service.url, SOON, FEATURES)
        client.track_contexts(user=TRACK_ALL)
        async with client:
            service.add_rule("common", 1, user="jim")
            await client.reload()
            assert common.get(user="jim") == 1
            change(service)
            for user in ("jim", "joe"):
                for other in others:
                    service.add_rule(other.name, 1, user=user)
                await backend.until(partial(all_have_the_rule_of, user), "updates of the others")
                await client.reload()

    backend.run(body)


def test_a_setting_that_somebody_else_renamed_still_gets_its_rules(
    backend: Harness, service: LiveService
) -> None:
    common = Setting("common", int, ["user"], 0)

    async def body() -> None:
        client = backend.client(service.url, SOON, FEATURES)
        client.track_contexts(user=TRACK_ALL)
        async with client:
            service.rename("common", "renamed", "1.0")
            service.add_rule("renamed", 1, user="jim")
            await backend.until(lambda: common.get(user="jim") == 1, "a rule of the new name")

    backend.run(body)


def test_a_setting_that_somebody_else_deleted_is_there_again_and_gets_new_rules(
    backend: Harness, service: LiveService
) -> None:
    common = Setting("common", int, ["user"], 5)

    def is_there() -> bool:
        return any(each["name"] == "common" for each in service.get("/settings")["settings"])

    async def body() -> None:
        client = backend.client(service.url, SOON, FEATURES)
        client.track_contexts(user=TRACK_ALL)
        async with client:
            service.delete_setting("common")
            await backend.until(is_there, "it is declared anew")
            service.add_rule("common", 1, user="jim")
            await backend.until(lambda: common.get(user="jim") == 1, "a rule after the deletion")
            assert common.get(user="joe") == 5

    backend.run(body)


# --- 4: which rules arrive ------------------------------------------------------------------------


# In a filter, two of them vanish, one is read as another feature, and one as a feature that does not
# exist.
ODD_NAMES = ["user2", "_", "my_theme", "Mixed"]


@pytest.mark.parametrize("tracked", ["single values", "all values"])
@pytest.mark.parametrize("name", ODD_NAMES)
def test_rules_arrive_whatever_their_feature_is_called_though_the_service_misreads_the_name(
    backend: Harness, service: LiveService, name: str, tracked: str
) -> None:
    color = Setting("color", str, [name, "theme"], "white")
    service.add_feature(name)

    async def body() -> None:
        with MisreadingService(service.url) as original:
            client = backend.client(original.url, NEVER, [*FEATURES, name])
            # The original reads "my_theme" as "theme", so for it this name is repeated.
            client.track_contexts(theme=["dark"])
            client.track_contexts(**{name: TRACK_ALL if tracked == "all values" else ["dark"]})
            async with client:
                service.add_rule("color", "black", **{name: "dark"})
                service.add_rule("color", "red", **{name: "loud"})
                service.add_rule("color", "grey", theme="dark")
                await client.reload()
                assert color.get(**{name: "dark"}, theme="bright") == "black"
                assert color.get(**{name: "other"}, theme="dark") == "grey"
                untracked = "red" if tracked == "all values" else "white"
                assert color.get(**{name: "loud"}, theme="bright") == untracked
            sent = [each for each in original.filters if each is not None]
            assert [misread(each) for each in sent] == sent, "none is misread"

    backend.run(body)


def test_a_filter_that_the_service_reads_well_is_sent(
    backend: Harness, service: LiveService
) -> None:
    color = Setting("color", str, ["user", "theme"], "white")

    async def body() -> None:
        with MisreadingService(service.url) as original:
            client = backend.client(original.url, NEVER, FEATURES)
            client.track_contexts(user=TRACK_ALL, theme=["dark", "blue_2"])
            async with client:
                service.add_rule("color", "black", theme="dark")
                await client.reload()
                assert color.get(user="jim", theme="dark") == "black"
            assert set(original.filters) == {"theme:(blue_2,dark),user:*"}

    backend.run(body)


def test_all_rules_arrive_where_nothing_is_tracked(backend: Harness, service: LiveService) -> None:
    color = Setting("color", str, ["user", "theme"], "white")

    async def body() -> None:
        async with backend.client(service.url, SOON, FEATURES) as client:
            service.add_rule("color", "black", theme="dark")
            service.add_rule("color", "red", user="jim", theme="loud")
            await client.reload()
            assert color.get(user="joe", theme="dark") == "black"
            assert color.get(user="jim", theme="loud") == "red"
            service.add_rule("color", "navy", theme="blue")
            await backend.until(lambda: color.get(user="joe", theme="blue") == "navy", "by a poll")

    backend.run(body)


# --- 5: failures ----------------------------------------------------------------------------------


def test_updates_go_on_after_any_number_of_failed_reloads_and_polls(
    backend: Harness, service: LiveService
) -> None:
    ttl = Setting("ttl", int, ["user"], 60)

    def another_failure(client: AnyClient, before: ClientStatus) -> bool:
        return client.status.failures > before.failures

    async def body() -> None:
        leftovers = Leftovers()
        client = backend.client(service.url, SOON, FEATURES)
        client.track_contexts(user=TRACK_ALL)
        await client.set_as_main()
        rule = service.add_rule("ttl", 1, user="jim")
        await client.reload()
        service.kill()
        for _ in range(2):
            with pytest.raises(ServiceUnreachableError):
                await client.reload()
            await backend.until(partial(another_failure, client, client.status), "polls fail, too")
        assert ttl.get(user="jim") == 1
        service.start()
        service.change_rule(rule, 2)
        await backend.until(lambda: ttl.get(user="jim") == 2, "an update")
        service.change_rule(rule, 3)
        await client.reload()
        assert ttl.get(user="jim") == 3
        assert client.status.failures == 0
        await client.close()
        service.get("/settings")  # so that the test's own connection is in the first count
        await leftovers.gone(backend)

    backend.run(body)


def test_closing_after_failures_raises_nothing(backend: Harness, service: LiveService) -> None:
    ttl = Setting("ttl", int, ["user"], 60)

    async def body() -> None:
        client = backend.client(service.url, SOON, FEATURES)
        await client.set_as_main()
        service.kill()
        with pytest.raises(ServiceUnreachableError):
            await client.reload()
        await backend.until(lambda: client.status.failures >= 3, "polls fail, too")
        await client.close()
        assert client.status.state is ClientState.CLOSED
        assert ttl.get(user="jim") == 60

    backend.run(body)


# --- 6: hooks -------------------------------------------------------------------------------------


def _listen(client: AnyClient) -> list[Exception | None]:
    """Return a list that gets the calls of the client's hooks: None for a success, or the error."""
    heard: list[Exception | None] = []
    hooks: dict[str, Callable[..., None]] = {
        "on_update_ok": lambda: heard.append(None),
        "on_update_error": heard.append,
    }
    for name, hook in hooks.items():
        setattr(client.client, name, hook)
    return heard


def test_on_update_ok_is_called_after_successes_and_never_after_a_failure(
    backend: Harness, service: LiveService
) -> None:
    async def body() -> None:
        client = backend.client(service.url, SOON, FEATURES)
        heard = _listen(client)
        async with client:
            await backend.until(lambda: len(heard) >= 3, "two polls after the start")
            assert all(error is None for error in heard)
            service.kill()
            with pytest.raises(ServiceUnreachableError):
                await client.reload()
            failed = next(n for n, error in enumerate(heard) if error is not None)
            await backend.until(lambda: len(heard) >= failed + 4, "further polls fail")
            assert all(isinstance(error, ServiceUnreachableError) for error in heard[failed:])
            service.start()
            await backend.until(lambda: heard[-1] is None, "a success again")
            assert client.status.failures == 0

    backend.run(body)


@pytest.mark.parametrize("startup", ["continue", "raise"])
def test_a_start_that_failed_is_told_as_a_failure(
    backend: Harness, service: LiveService, startup: str, caplog: pytest.LogCaptureFixture
) -> None:
    ttl = Setting("ttl", int, ["user"], 60)

    async def body() -> None:
        service.kill()
        client = backend.client(service.url, SOON, FEATURES, startup=startup)
        heard = _listen(client)
        if startup == "raise":
            with pytest.raises(ServiceUnreachableError):
                await client.set_as_main()
        else:
            await client.set_as_main()
            assert client.status.failures >= 1
            assert client.status.staleness is None
            assert isinstance(client.status.last_error, ServiceUnreachableError)
        assert heard
        assert all(isinstance(error, ServiceUnreachableError) for error in heard)
        assert {r.levelno for r in caplog.records if "fail" in r.message} == {logging.ERROR}
        if startup == "continue":
            service.start()
            await backend.until(lambda: heard[-1] is None, "it goes on trying")
            service.add_rule("ttl", 1, user="jim")
            await client.reload()
            assert ttl.get(user="jim") == 1
        await client.close()

    backend.run(body)


# --- 7: validators --------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [ValueError("too much"), KeyError("limit")])
def test_a_validator_that_raises_costs_its_rule_and_nothing_else(
    backend: Harness, service: LiveService, error: Exception
) -> None:
    validated = Setting("m_validated", int, ["user"], 0)
    others = [Setting(name, int, ["user"], 0) for name in ("a_first", "z_last")]

    @validated.add_validator
    def at_most_ten(value: int, rule: object, setting: object) -> int:  # pyright: ignore[reportUnusedFunction]
        if value > 10:
            raise error
        return value

    async def body() -> None:
        client = backend.client(service.url, SOON, FEATURES)
        client.track_contexts(user=TRACK_ALL)
        async with client:
            service.add_rule("m_validated", 5, user="joe")
            refused = service.add_rule("m_validated", 50, user="jim")
            for other in others:
                service.add_rule(other.name, 1, user="jim")
            await client.reload()
            assert [other.get(user="jim") for other in others] == [1, 1]
            assert validated.get(user="joe") == 5
            assert validated.get(user="jim") == 0
            (rejected,) = client.status.rejected_rules
            assert (rejected.setting, rejected.rule_id) == ("m_validated", refused)
            assert type(rejected.error) is type(error)
            assert type(error).__name__ in rejected.reason
            assert client.status.failures == 0
            service.change_rule(refused, 7)
            await backend.until(lambda: validated.get(user="jim") == 7, "the operator mends it")
            assert client.status.rejected_rules == ()

    backend.run(body)


def test_a_validator_that_refuses_the_default_of_the_service_leaves_no_other_setting_stale(
    backend: Harness, service: LiveService
) -> None:
    validated = Setting("m_validated", int, ["user"], 3)
    other = Setting("z_last", int, ["user"], 0)

    @validated.add_validator
    def at_most_ten(value: int, rule: object, setting: object) -> int:  # pyright: ignore[reportUnusedFunction]
        if value > 10:
            raise ValueError(value)
        return value

    async def body() -> None:
        client = backend.client(service.url, SOON, FEATURES)
        client.track_contexts(user=TRACK_ALL)
        async with client:
            # As by a newer version of the application, or by an operator.
            service.declare("m_validated", "int", 50, version="1.1")
            service.add_rule("z_last", 1, user="jim")
            service.add_rule("m_validated", 4, user="jim")
            await client.reload()
            assert other.get(user="jim") == 1
            assert validated.get(user="jim") == 4
            assert validated.get(user="joe") == 3
            assert [each.rule_id for each in client.status.rejected_rules] == [None]

    backend.run(body)


# --- 8: after a fork ------------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_client_of_threads_goes_on_in_forked_children_and_in_the_parent(
    service: LiveService,
) -> None:
    service.declare("ttl", "int", 60)
    rule = service.add_rule("ttl", 1, user="jim")
    answers = [f"child {number}: get answers 1" for number in (1, 2)]
    program = PROGRAMS / "forking_program.py"
    with subprocess.Popen(
        [sys.executable, "-W", "error", str(program), service.url],
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        said: list[str] = []
        # The pipe ends when all processes have ended; their alarms end those that hang.
        for line in process.stdout:
            said.append(line.rstrip("\n"))
            if said[-1] in answers and all(answer in said for answer in answers):
                service.change_rule(rule, 2)
            if said[-1] == "parent: children ended":
                service.change_rule(rule, 3)
    for number in (1, 2):
        assert [line for line in said if line.startswith(f"child {number}")] == [
            f"child {number}: get answers 1",
            f"child {number}: new rule arrived",
            f"child {number}: reload returned, told [(60, 1), (1, 2)]",
            f"child {number}: closed",
            f"child {number} ended with 0",
        ]
    assert [line for line in said if line.startswith("parent")] == [
        "parent: new rule arrived",
        "parent: children ended",
        "parent: newer rule arrived",
        "parent: reload returned, told [(60, 1), (1, 2), (2, 3)]",
        "parent: closed",
    ]
    assert process.returncode == 0


# --- 9: closing, and connections ------------------------------------------------------------------


def test_a_client_that_was_never_started_is_closed_without_ado(backend: Harness) -> None:
    async def body() -> None:
        leftovers = Leftovers()
        client = backend.client("http://127.0.0.1:9", NEVER, FEATURES)
        await client.close()
        await client.close()
        assert client.status.state is ClientState.CLOSED
        await leftovers.gone(backend)

    backend.run(body)


def test_a_client_that_only_asked_questions_closes_its_connections(
    backend: Harness, service: LiveService
) -> None:
    async def body() -> None:
        leftovers = Leftovers()
        client = backend.client(service.url, NEVER, FEATURES)
        await client.ping()
        assert await client.get_settings() == {}
        assert leftovers.found()["sockets"] == 1
        await client.close()
        await leftovers.gone(backend)

    backend.run(body)


def test_one_http_client_serves_all_calls_and_is_closed_with_the_client(
    backend: Harness, service: LiveService
) -> None:
    made: list[httpx.Client | httpx.AsyncClient] = []

    def make() -> httpx.Client | httpx.AsyncClient:
        http = httpx.Client() if backend.is_blocking else httpx.AsyncClient()
        made.append(http)
        return http

    async def body() -> None:
        leftovers = Leftovers()
        async with backend.client(service.url, NEVER, FEATURES, http_client=make) as client:
            for _ in range(3):
                await client.ping()
                await client.get_settings()
                await client.reload()
            assert len(made) == 1
            assert leftovers.found()["sockets"] == 1
        assert made[0].is_closed
        await leftovers.gone(backend)

    backend.run(body)


# --- 10: the cost of get() ------------------------------------------------------------------------


class _Heard(logging.Handler):
    """A handler that keeps all records of the library, of every level."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@pytest.fixture
def heard() -> Iterator[_Heard]:
    """Set all loggers of the library to DEBUG, and return their handler."""
    handler = _Heard()
    loggers = [logging.getLogger(name) for name in list(logging.root.manager.loggerDict)]
    ours = [each for each in loggers if each.name.partition(".")[0] == "heksher"]
    levels = [each.level for each in ours]
    for each in ours:
        each.setLevel(logging.DEBUG)
    logging.getLogger("heksher").addHandler(handler)
    yield handler
    logging.getLogger("heksher").removeHandler(handler)
    for each, level in zip(ours, levels, strict=True):
        each.setLevel(level)


class _Reader:
    """Calls get() in all ways."""

    def __init__(self) -> None:
        self.theme: ContextVar[str] = ContextVar("theme", default="bright")
        self.color = Setting("color", str, FEATURES, "white")

    def configure(self, client: AnyClient) -> None:
        client.set_defaults(environment="dev", theme=self.theme)
        client.track_contexts(environment="dev", user=["jim", "joe"], theme=["dark", "bright"])

    def add_rules(self, service: LiveService) -> None:
        service.add_rule("color", "black", theme="dark")
        service.add_rule("color", "grey", user="jim", theme="dark")
        service.add_rule("color", "green", environment="dev", user="joe")

    def read(self) -> list[str]:
        """Return values for a matching rule, for no rule, for an untracked value, and for a default."""
        get = self.color.get
        return [
            get(user="jim", theme="dark"),
            get(user="jim"),
            get(user="nobody knows", theme="dark"),
            get(user="joe", theme="untracked"),
            get(environment="prod", user="joe"),
        ]

    answers: ClassVar = ["grey", "white", "black", "green", "white"]


def test_get_logs_nothing_at_any_level(
    backend: Harness, service: LiveService, heard: _Heard
) -> None:
    reader = _Reader()

    def read() -> list[str]:
        heard.records.clear()
        answers = reader.read()
        assert heard.records == []
        return answers

    async def body() -> None:
        read()
        client = backend.client(service.url, NEVER, FEATURES)
        reader.configure(client)
        async with client:
            assert heard.records, "the library does log"
            reader.add_rules(service)
            await client.reload()
            assert read() == reader.answers
            with pytest.raises(MissingFeatureError):
                reader.color.get()
            with pytest.raises(TypeError):
                reader.color.get(user="jim", galaxy="far")
            assert heard.records == []
        assert read() == reader.answers

    backend.run(body)


def test_get_calls_nothing_that_could_wait(backend: Harness, service: LiveService) -> None:
    reader = _Reader()
    modules: set[str] = set()
    functions: set[str] = set()

    def note(frame: FrameType, event: str, argument: Any) -> None:
        if event == "call":
            modules.add(frame.f_globals.get("__name__", "generated"))
        elif event == "c_call" and argument is not sys.setprofile:
            owner = argument.__self__
            kind = owner.__name__ if isinstance(owner, ModuleType) else type(owner).__name__
            functions.add(f"{kind}.{argument.__name__}")

    async def body() -> None:
        client = backend.client(service.url, NEVER, FEATURES)
        reader.configure(client)
        async with client:
            reader.add_rules(service)
            await client.reload()
            before = sys.getprofile()
            sys.setprofile(note)
            try:
                answers = reader.read()
            finally:
                sys.setprofile(before)
            assert answers == reader.answers

    backend.run(body)
    # Only the look-up: the frame of the reader, and modules that do no I/O and take no lock.
    assert modules <= {
        __name__,
        "generated",
        "heksher._rules.getter",
        "heksher._rules.table",
        "heksher._rules.contexts",
    }
    assert "builtins.open" not in functions
    owners = {name.partition(".")[0] for name in functions}
    assert owners <= {"builtins", "dict", "frozenset", "set", "tuple", "list", "str", "ContextVar"}


def test_get_answers_while_all_locks_are_held(
    backend: Harness, service: LiveService, heard: _Heard
) -> None:
    reader = _Reader()
    answers: list[list[str]] = []

    async def body() -> None:
        client = backend.client(service.url, NEVER, FEATURES)
        reader.configure(client)
        async with client:
            reader.add_rules(service)
            await client.reload()
            locks = _locks_of(client.client, reader.color, vars(_registry), heard)
            assert len(locks) >= 4, "of the core, the settings, the registry and the log handler"
            with ExitStack() as held:
                for lock in locks:
                    assert lock.acquire(timeout=PATIENCE)
                    held.callback(lock.release)
                # In another thread, since the holder of a reentrant lock could take it again.
                thread = threading.Thread(target=lambda: answers.append(reader.read()), daemon=True)
                thread.start()
                thread.join(PATIENCE)
                assert answers == [reader.answers]

    backend.run(body)


def _locks_of(*roots: object) -> list[Any]:
    """Return the locks that are reachable through objects of the library and plain containers."""
    kinds = (type(threading.Lock()), type(threading.RLock()))
    found: dict[int, object] = {}
    seen: set[int] = set()
    open_ends = list(roots)
    while open_ends:
        thing = open_ends.pop()
        if id(thing) in seen:
            continue
        seen.add(id(thing))
        if isinstance(thing, kinds):
            found[id(thing)] = thing
        elif isinstance(thing, (dict, list, tuple, logging.Handler)) or (
            type(thing).__module__.startswith("heksher.") and not isinstance(thing, type)
        ):
            open_ends += gc.get_referents(thing)
    return list(found.values())


def test_get_leaves_nothing_behind_not_even_for_the_garbage_collector(
    backend: Harness, service: LiveService
) -> None:
    reader = _Reader()

    async def body() -> None:
        client = backend.client(service.url, NEVER, FEATURES)
        reader.configure(client)
        async with client:
            reader.add_rules(service)
            await client.reload()
            for _ in range(100):
                reader.read()
            gc.collect()
            gc.disable()
            try:
                before = sys.getallocatedblocks()
                for _ in range(1000):
                    reader.read()
                left = sys.getallocatedblocks() - before
            finally:
                gc.enable()
            assert left < 100, "5000 calls"

    backend.run(body)
