"""What heksher-py 0.2.2 got wrong, point by point; each of these tests fails on its behaviour.

On every backend, with real HTTP to a service process wherever the wire has a part in it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import httpx
import pytest
from harness import AnyClient, Harness
from leftovers import Leftovers
from misreading import MisreadingService, misread
from service_process import ServiceProcess

from heksher import TRACK_ALL, Setting
from heksher.exceptions import ServiceUnreachableError
from heksher.status import ClientState, ClientStatus

FEATURES = ["environment", "user", "theme"]
SOON = 0.1
NEVER = 3600.0


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    with ServiceProcess() as process:
        process.start(FEATURES, tmp_path_factory.mktemp("service") / "settings.sqlite")
        yield process


@pytest.fixture
def service(process: ServiceProcess) -> ServiceProcess:
    """A service without settings; one process for all tests, of which some end it."""
    if process.process is None:
        process.start_again()
    process.empty(FEATURES)
    return process


# --- 1: which rule wins ---------------------------------------------------------------------------


@pytest.mark.parametrize("winner_comes_first", [True, False])
def test_of_two_rules_that_tie_on_the_latest_feature_the_next_latest_one_decides(
    backend: Harness, service: ServiceProcess, winner_comes_first: bool
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
                service.add_rule("color", conditions, value)
            await client.reload()
            assert color.get(environment="dev", user="jim", theme="dark") == "by user and theme"
            assert color.get(environment="dev", user="joe", theme="dark") == (
                "by environment and theme"
            )

    backend.run(body)


# --- 2: the order of a setting's features ---------------------------------------------------------


@pytest.mark.parametrize("client_order", [FEATURES, FEATURES[::-1]], ids=["equal", "reversed"])
def test_the_order_in_which_a_setting_lists_its_features_disturbs_no_update(
    backend: Harness, service: ServiceProcess, client_order: list[str]
) -> None:
    backwards = Setting("backwards", str, ["theme", "user"], "white")
    others = [Setting(name, int, ["user"], 0) for name in ("a_first", "z_last")]

    async def body() -> None:
        client = backend.client(service.url, SOON, client_order)
        client.track_contexts(user=TRACK_ALL, theme=TRACK_ALL)
        async with client:
            service.add_rule("backwards", {"user": "jim"}, "by user")
            service.add_rule("backwards", {"theme": "dark"}, "by theme")
            service.add_rule("backwards", {"user": "ann", "theme": "dark"}, "by both")
            await client.reload()
            assert backwards.get(user="jim", theme="dark") == "by theme", "the service's order"
            assert backwards.get(user="jim", theme="bright") == "by user"
            assert backwards.get(user="ann", theme="dark") == "by both"
            for other in others:
                service.add_rule(other.name, {"user": "jim"}, 1)
            await backend.until(
                lambda: [other.get(user="jim") for other in others] == [1, 1],
                "later updates of every setting",
            )
            assert client.status.failures == 0

    backend.run(body)


# --- 3: what operators do -------------------------------------------------------------------------


def _rename(service: ServiceProcess) -> None:
    service.rename("common", "renamed", "1.0")


def _delete(service: ServiceProcess) -> None:
    service.delete_setting("common")


@pytest.mark.parametrize("change", [_rename, _delete], ids=["renamed", "deleted"])
def test_a_setting_that_somebody_else_changes_keeps_no_other_from_its_updates(
    backend: Harness, service: ServiceProcess, change: Callable[[ServiceProcess], None]
) -> None:
    common = Setting("common", int, ["user"], 0)
    others = [Setting(name, int, ["user"], 0) for name in ("a_first", "z_last")]

    def all_have_the_rule_of(user: str) -> bool:
        return all(other.get(user=user) == 1 for other in others)

    async def body() -> None:
        client = backend.client(service.url, SOON, FEATURES)
        client.track_contexts(user=TRACK_ALL)
        async with client:
            service.add_rule("common", {"user": "jim"}, 1)
            await client.reload()
            assert common.get(user="jim") == 1
            change(service)
            for user in ("jim", "joe"):
                for other in others:
                    service.add_rule(other.name, {"user": user}, 1)
                await backend.until(partial(all_have_the_rule_of, user), "updates of the others")
                await client.reload()

    backend.run(body)


def test_a_setting_that_somebody_else_renamed_still_gets_its_rules(
    backend: Harness, service: ServiceProcess
) -> None:
    common = Setting("common", int, ["user"], 0)

    async def body() -> None:
        client = backend.client(service.url, SOON, FEATURES)
        client.track_contexts(user=TRACK_ALL)
        async with client:
            service.rename("common", "renamed", "1.0")
            service.add_rule("renamed", {"user": "jim"}, 1)
            await backend.until(lambda: common.get(user="jim") == 1, "a rule of the new name")

    backend.run(body)


def test_a_setting_that_somebody_else_deleted_is_there_again_and_gets_new_rules(
    backend: Harness, service: ServiceProcess
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
            service.add_rule("common", {"user": "jim"}, 1)
            await backend.until(lambda: common.get(user="jim") == 1, "a rule after the deletion")
            assert common.get(user="joe") == 5

    backend.run(body)


# --- 4: which rules arrive ------------------------------------------------------------------------


# Two of them vanish from a filter, one is read as a feature that there is, one as one that is not.
ODD_NAMES = ["user2", "_", "my_theme", "Mixed"]


@pytest.mark.parametrize("tracked", ["single values", "all values"])
@pytest.mark.parametrize("name", ODD_NAMES)
def test_rules_arrive_whatever_their_feature_is_called_though_the_service_misreads_the_name(
    backend: Harness, service: ServiceProcess, name: str, tracked: str
) -> None:
    color = Setting("color", str, [name, "theme"], "white")
    service.add_feature(name)

    async def body() -> None:
        with MisreadingService(service.url) as original:
            client = backend.client(original.url, NEVER, [*FEATURES, name])
            # With "my_theme", which is read as "theme", this is a repetition to the original.
            client.track_contexts(theme=["dark"])
            client.track_contexts(**{name: TRACK_ALL if tracked == "all values" else ["dark"]})
            async with client:
                service.add_rule("color", {name: "dark"}, "black")
                service.add_rule("color", {name: "loud"}, "red")
                service.add_rule("color", {"theme": "dark"}, "grey")
                await client.reload()
                assert color.get(**{name: "dark"}, theme="bright") == "black"
                assert color.get(**{name: "other"}, theme="dark") == "grey"
                untracked = "red" if tracked == "all values" else "white"
                assert color.get(**{name: "loud"}, theme="bright") == untracked
            sent = [each for each in original.filters if each is not None]
            assert [misread(each) for each in sent] == sent, "none is misread"

    backend.run(body)


def test_a_filter_that_the_service_reads_well_is_sent(
    backend: Harness, service: ServiceProcess
) -> None:
    color = Setting("color", str, ["user", "theme"], "white")

    async def body() -> None:
        with MisreadingService(service.url) as original:
            client = backend.client(original.url, NEVER, FEATURES)
            client.track_contexts(user=TRACK_ALL, theme=["dark", "blue_2"])
            async with client:
                service.add_rule("color", {"theme": "dark"}, "black")
                await client.reload()
                assert color.get(user="jim", theme="dark") == "black"
            assert set(original.filters) == {"theme:(blue_2,dark),user:*"}

    backend.run(body)


def test_all_rules_arrive_where_nothing_is_tracked(
    backend: Harness, service: ServiceProcess
) -> None:
    color = Setting("color", str, ["user", "theme"], "white")

    async def body() -> None:
        async with backend.client(service.url, SOON, FEATURES) as client:
            service.add_rule("color", {"theme": "dark"}, "black")
            service.add_rule("color", {"user": "jim", "theme": "loud"}, "red")
            await client.reload()
            assert color.get(user="joe", theme="dark") == "black"
            assert color.get(user="jim", theme="loud") == "red"
            service.add_rule("color", {"theme": "blue"}, "navy")
            await backend.until(lambda: color.get(user="joe", theme="blue") == "navy", "by a poll")

    backend.run(body)


# --- 5: failures ----------------------------------------------------------------------------------


def test_updates_go_on_after_any_number_of_failed_reloads_and_polls(
    backend: Harness, service: ServiceProcess
) -> None:
    ttl = Setting("ttl", int, ["user"], 60)

    def another_failure(client: AnyClient, before: ClientStatus) -> bool:
        return client.status.failures > before.failures

    async def body() -> None:
        leftovers = Leftovers()
        client = backend.client(service.url, SOON, FEATURES)
        client.track_contexts(user=TRACK_ALL)
        await client.set_as_main()
        rule = service.add_rule("ttl", {"user": "jim"}, 1)
        await client.reload()
        service.kill()
        for _ in range(2):
            with pytest.raises(ServiceUnreachableError):
                await client.reload()
            await backend.until(partial(another_failure, client, client.status), "polls fail, too")
        assert ttl.get(user="jim") == 1
        service.start_again()
        service.change_rule(rule, 2)
        await backend.until(lambda: ttl.get(user="jim") == 2, "an update")
        service.change_rule(rule, 3)
        await client.reload()
        assert ttl.get(user="jim") == 3
        assert client.status.failures == 0
        await client.close()
        service.get("/settings")  # the connection of the test's own was there before, too
        await leftovers.gone(backend)

    backend.run(body)


def test_closing_after_failures_raises_nothing(backend: Harness, service: ServiceProcess) -> None:
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


def test_a_client_whose_start_failed_is_closed_without_ado(backend: Harness) -> None:
    async def body() -> None:
        leftovers = Leftovers()
        client = backend.client("http://127.0.0.1:9", NEVER, FEATURES)
        with pytest.raises(ServiceUnreachableError):
            await client.set_as_main()
        await client.close()
        await leftovers.gone(backend)

    backend.run(body)


def test_a_client_that_only_asked_questions_closes_its_connections(
    backend: Harness, service: ServiceProcess
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
    backend: Harness, service: ServiceProcess
) -> None:
    made: list[httpx.Client | httpx.AsyncClient] = []

    def make() -> httpx.Client | httpx.AsyncClient:
        http = httpx.Client() if backend.name == "thread" else httpx.AsyncClient()
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
