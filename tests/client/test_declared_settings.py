"""The results of declarations, and rules that cannot be used: in errors, the status and the log."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest
from support.harness import AnyClient, Harness
from support.scenes import INTERVAL, Scene
from support.scripted import unreachable

from heksher import Setting
from heksher._client.settings import Entry
from heksher._wire import Response
from heksher.exceptions import DeclarationRejected, ServiceError, StartupTimeoutError
from heksher.setting import QueriedRule
from heksher.setting_type import HeksherSequence
from heksher.status import DeclarationState, DeclaredSetting, RejectedRule


@pytest.fixture
def scene(backend: Harness) -> Scene:
    return Scene(backend)


def answer(status: int, body: Any) -> Response:
    return Response(status, {}, json.dumps(body).encode())


def state_of(client: AnyClient, name: str) -> DeclarationState:
    return client.status.declarations[name].state


DIFFERENCES = [
    {"level": "minor", "attribute": "default_value", "latest_value": 61},
    {"level": "major", "message": "something else"},
]
TOLD = ("default_value is 60 here and 61 on the service (minor)", "something else (major)")


# --- accepted -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "declared"),
    [
        ({"outcome": "created"}, DeclaredSetting(DeclarationState.CREATED, "1.1")),
        ({"outcome": "uptodate"}, DeclaredSetting(DeclarationState.UPTODATE, "1.1")),
        (
            {"outcome": "upgraded", "previous_version": "1.0", "differences": DIFFERENCES},
            DeclaredSetting(DeclarationState.UPGRADED, "1.0", TOLD),
        ),
        (
            {"outcome": "outdated", "latest_version": "3.1", "differences": DIFFERENCES},
            DeclaredSetting(DeclarationState.OUTDATED, "3.1", TOLD),
        ),
    ],
    ids=["created", "uptodate", "upgraded", "outdated"],
)
def test_each_outcome_stands_in_the_status_with_its_differences(
    scene: Scene, body: dict[str, Any], declared: DeclaredSetting
) -> None:
    ttl = Setting("ttl", int, ["user"], 60, version="1.1")
    scene.service.settings["ttl"] = stored("ttl", 61)
    scene.service.answers["ttl"] = answer(200, body)

    async def body_() -> None:
        async with scene.client() as client:
            assert client.status.declarations == {"ttl": declared}
            assert client.status.settings == {declared.state: ("ttl",)}
            assert client.status.refusals == {}
            # The service's default value is used, not the declared one.
            assert ttl.get(user="jim") == 61

    scene.run(body_)


def stored(name: str, default: Any, **changes: Any) -> dict[str, Any]:
    """Return a setting as in an answer of the service."""
    return {
        "name": name,
        "type": "int",
        "default_value": default,
        "version": "1.0",
        "configurable_features": ["user"],
        "metadata": {},
        "aliases": [],
        **changes,
    }


def test_a_setting_that_is_up_to_date_or_renamed_is_not_declared_and_stands_in_the_status(
    scene: Scene,
) -> None:
    settings = [Setting(name, int, ["user"], 60) for name in ("same", "old")]
    scene.service.settings["same"] = stored("same", 60)
    scene.service.settings["new"] = stored("new", 60, aliases=["old"], version="1.4")
    scene.service.add_rule("new", 5, user="jim")

    async def body() -> None:
        async with scene.client() as client:
            assert scene.service.count("POST v1/settings/declare") == 0
            assert client.status.declarations == {
                "same": DeclaredSetting(DeclarationState.UPTODATE, "1.0"),
                "old": DeclaredSetting(DeclarationState.RENAMED, "1.4"),
            }
            assert [setting.get(user="jim") for setting in settings] == [60, 5]

    scene.run(body)


def test_an_alias_that_the_service_does_not_know_stands_in_the_status_and_is_logged_once(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    ttl = Setting("ttl", int, ["user"], 60, alias="old")
    scene.service.answers["ttl"] = Response(500)
    note = "alias 'old' is unknown to the service and was left out"

    async def body() -> None:
        async with scene.client(startup="continue") as client:
            with pytest.raises(ServiceError):
                await client.reload()
            del scene.service.answers["ttl"]
            await client.reload()
            assert client.status.declarations["ttl"] == DeclaredSetting(
                DeclarationState.CREATED, "1.0", differences=(note,)
            )

    with caplog.at_level(logging.WARNING, "heksher"):
        scene.run(body)
    assert caplog.text.count(f"setting {ttl.name!r}: {note}") == 1


def test_a_setting_that_was_renamed_before_the_start_is_told(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    old = Setting("old", int, ["user"], 61, version="1.5")
    scene.service.settings["new"] = stored("new", 60, aliases=["old"], version="1.4")

    async def body() -> None:
        async with scene.client() as client:
            await client.reload()
            assert old.get(user="jim") == 60

    scene.run(body)
    assert caplog.text.count("setting 'old' is called 'new' on the service, at version 1.4") == 1


def test_a_rename_and_a_deletion_while_polling_stand_in_the_status(scene: Scene) -> None:
    settings = [Setting(name, int, ["user"], 60) for name in ("a", "b")]

    async def body() -> None:
        async with scene.client() as client:
            scene.service.rename("a", "a2")
            await client.reload()
            assert state_of(client, "a") is DeclarationState.RENAMED
            scene.service.rename("a2", "a")
            await client.reload()
            assert state_of(client, "a") is DeclarationState.UPTODATE
            scene.service.delete("b")
            await client.reload()
            assert state_of(client, "b") is DeclarationState.CREATED
            scene.service.add_rule("b", "no int", user="jim")
            await client.reload()
            assert len(client.status.rejected_rules) == 1
            scene.service.delete("b")
            await client.reload()
            assert state_of(client, "b") is DeclarationState.DELETED
            assert not client.status.rejected_rules

    scene.run(body)
    assert len(settings) == 2


# --- not accepted ---------------------------------------------------------------------------------

REFUSALS = [
    pytest.param(
        answer(409, {"outcome": "mismatch", "differences": DIFFERENCES}),
        DeclarationState.MISMATCH,
        [*TOLD, "raise the version"],
        id="mismatch",
    ),
    pytest.param(
        answer(409, {"outcome": "rejected", "previous_version": "1.7", "differences": DIFFERENCES}),
        DeclarationState.REJECTED,
        [*TOLD, "1.7", "major version"],
        id="rejected",
    ),
    pytest.param(
        answer(400, {"detail": "There was an error parsing the body"}),
        DeclarationState.REFUSED,
        ["HTTP 400", "error parsing the body", "Hint"],
        id="400",
    ),
    pytest.param(
        answer(404, {"detail": "alias A does not exist"}),
        DeclarationState.REFUSED,
        ["HTTP 404", "alias A does not exist", "Hint"],
        id="404",
    ),
    pytest.param(
        answer(409, {"detail": "alias A is an alias of unrelated setting C"}),
        DeclarationState.REFUSED,
        ["HTTP 409", "unrelated setting C", "Hint"],
        id="409",
    ),
    pytest.param(
        answer(422, {"detail": []}), DeclarationState.REFUSED, ["HTTP 422", "Hint"], id="422"
    ),
    pytest.param(
        Response(500, {}, b"Internal Server Error"),
        DeclarationState.FAILED,
        ["HTTP 500: Internal Server Error", "retried"],
        id="500",
    ),
    pytest.param(Response(200, {}, b"<html>"), DeclarationState.FAILED, ["retried"], id="no-json"),
]


@pytest.mark.parametrize(("refusal", "state", "parts"), REFUSALS)
def test_a_raising_start_names_the_setting_that_was_not_accepted_and_leaves_nothing_running(
    scene: Scene, refusal: Response, state: DeclarationState, parts: list[str]
) -> None:
    ttl = Setting("ttl", int, ["user"], 60)
    scene.service.answers["ttl"] = refusal

    async def body() -> None:
        client = scene.client()
        starting = scene.backend.beside(client.set_as_main)
        if state is DeclarationState.FAILED:
            # It is tried again until the time is over.
            await scene.backend.until(lambda: scene.clock.sleeping == 2, "caller and loop wait")
            scene.clock.advance(30)
        await scene.backend.until(lambda: starting.ended, "the start ends")
        if state is DeclarationState.FAILED:
            assert isinstance(starting.error, StartupTimeoutError)
        else:
            assert isinstance(starting.error, DeclarationRejected)
            assert list(starting.error.rejections) == ["ttl"]
            for part in ("'ttl'", "version 1.0", *parts):
                assert part in str(starting.error)
        assert client.status.state == "new"
        await client.close()

    scene.run(body)
    assert ttl.get(user="jim") == 60


@pytest.mark.parametrize(("refusal", "state", "parts"), REFUSALS)
def test_a_start_that_goes_on_tells_it_in_the_status_and_other_settings_are_unaffected(
    scene: Scene, refusal: Response, state: DeclarationState, parts: list[str]
) -> None:
    ttl = Setting("ttl", int, ["user"], 60)
    others = [Setting(name, int, ["user"], 1) for name in ("before", "zebra")]
    scene.service.answers["ttl"] = refusal
    for other in others:
        scene.service.add_rule(other.name, 2, user="jim")

    async def body() -> None:
        async with scene.client(startup="continue") as client:
            status = client.status
            assert status.declarations["ttl"].state is state
            assert list(status.refusals) == ["ttl"]
            for part in ("version 1.0", *parts):
                assert part in status.refusals["ttl"]
            assert "ttl" in str(status)
            assert [other.get(user="jim") for other in others] == [2, 2]
            assert ttl.get(user="jim") == 60
            if state is not DeclarationState.FAILED:
                # A refused declaration is not repeated.
                await client.reload()
                assert scene.service.count("POST v1/settings/declare") == 3

    scene.run(body)


def test_a_declaration_that_failed_is_tried_again_until_the_service_is_well(scene: Scene) -> None:
    ttl = Setting("ttl", int, ["user"], 60)
    scene.service.answers["ttl"] = Response(500, {}, b"Internal Server Error")

    async def body() -> None:
        async with scene.client(startup="continue") as client:
            assert client.status.failures == 1
            del scene.service.answers["ttl"]
            scene.service.add_rule("ttl", 5, user="jim")
            await client.reload()
            assert client.status.declarations["ttl"] == DeclaredSetting(
                DeclarationState.CREATED, "1.0"
            )
            assert client.status.failures == 0
            assert ttl.get(user="jim") == 5

    scene.run(body)


def test_an_upgrade_that_fails_for_now_does_not_keep_the_settings_rules_away(scene: Scene) -> None:
    ttl = Setting("ttl", int, ["user"], 60, version="1.1")
    scene.service.settings["ttl"] = stored("ttl", 60)
    scene.service.add_rule("ttl", 5, user="jim")
    scene.service.answers["ttl"] = Response(500, {}, b"Internal Server Error")

    async def body() -> None:
        async with scene.client(startup="continue") as client:
            assert state_of(client, "ttl") is DeclarationState.FAILED
            assert ttl.get(user="jim") == 5

    scene.run(body)


def test_a_service_that_goes_away_while_settings_are_declared_is_told_as_such(scene: Scene) -> None:
    settings = [Setting(name, int, ["user"], 60) for name in ("a", "b")]
    scene.service.answers["a"] = Response(422, {}, b"no")
    scene.service.faults = [None, None, None, unreachable()]

    async def body() -> None:
        client = scene.client()
        with pytest.raises(type(unreachable())):
            await client.set_as_main()
        await client.close()

    scene.run(body)
    assert len(settings) == 2


# --- context features -----------------------------------------------------------------------------


def test_a_setting_that_needs_a_feature_which_the_service_lacks_is_an_error_at_the_start(
    scene: Scene,
) -> None:
    ttl = Setting("ttl", int, ["user", "theme"], 60)
    scene.service.features = ["environment", "user"]

    async def body() -> None:
        client = scene.client()
        with pytest.raises(
            DeclarationRejected,
            match="the service has no context feature 'theme'; it has environment and user",
        ):
            await client.set_as_main()
        assert scene.service.count("POST v1/settings/declare") == 0
        await client.close()

    scene.run(body)
    assert ttl.get() == 60


def test_it_is_declared_as_soon_as_the_service_has_the_feature(scene: Scene) -> None:
    ttl = Setting("ttl", int, ["user", "theme"], 60)
    other = Setting("other", int, ["user"], 1)
    scene.service.features = ["environment", "user"]
    scene.service.add_rule("other", 2, user="jim")

    async def body() -> None:
        async with scene.client(startup="continue") as client:
            assert state_of(client, "ttl") is DeclarationState.REFUSED
            assert "add the missing features to the service" in client.status.refusals["ttl"]
            assert other.get(user="jim") == 2
            scene.service.features.append("theme")
            scene.service.add_rule("ttl", 5, theme="dark")
            await scene.pass_time(INTERVAL)
            assert state_of(client, "ttl") is DeclarationState.CREATED
            assert ttl.get(user="jim", theme="dark") == 5

    scene.run(body)


@pytest.mark.parametrize("fault", [Response(500), unreachable()], ids=["500", "away"])
def test_it_is_declared_later_if_the_service_has_the_feature_and_fails(
    scene: Scene, fault: Exception | Response
) -> None:
    ttl = Setting("ttl", int, ["user", "theme"], 60)
    scene.service.features = ["environment", "user"]

    async def body() -> None:
        async with scene.client(startup="continue") as client:
            scene.service.features.append("theme")
            # The answers to: context features, list of settings, declaration.
            scene.service.faults = [None, None, fault]
            with pytest.raises(ServiceError):
                await client.reload()
            assert scene.service.count("POST v1/settings/declare") == 1
            await client.reload()
            assert state_of(client, "ttl") is DeclarationState.CREATED

    scene.run(body)
    assert ttl.get(user="jim", theme="dark") == 60


@pytest.mark.parametrize(
    ("there", "parts"),
    [
        (["environment", "user", "theme"], None),
        (["user", "environment", "theme"], ["the order differs"]),
        (["environment", "user", "region", "theme"], ["the client lacks region"]),
        (["environment", "user"], ["the service lacks theme"]),
        (
            ["user", "environment", "region"],
            ["the client lacks region", "the service lacks theme", "the order differs"],
        ),
    ],
    ids=["equal", "order", "more", "fewer", "all"],
)
def test_a_client_with_other_features_than_the_service_works_and_warns_once(
    scene: Scene, there: list[str], parts: list[str] | None, caplog: pytest.LogCaptureFixture
) -> None:
    ttl = Setting("ttl", int, ["user"], 60)
    scene.service.features = there
    scene.service.add_rule("ttl", 5, user="jim")

    async def body() -> None:
        async with scene.client() as client:
            await client.reload()
            assert ttl.get(user="jim") == 5

    with caplog.at_level(logging.WARNING, "heksher"):
        scene.run(body)
    warned = [record.getMessage() for record in caplog.records]
    assert len(warned) == (0 if parts is None else 1)
    for part in parts or ():
        assert part in warned[0]


def test_a_client_without_any_feature_of_its_own_works_and_warns(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    ttl = Setting("ttl", int, ["user"], 60)
    scene.service.add_rule("ttl", 5, user="jim")

    async def body() -> None:
        client = scene.backend.client(
            "http://service.test", INTERVAL, [], backend=scene.library_backend(), clock=scene.clock
        )
        async with client:
            assert ttl.get(user="jim") == 5

    with caplog.at_level(logging.WARNING, "heksher"):
        scene.run(body)
    assert "the client lacks environment, user and theme" in caplog.text


# --- rules that are not used ----------------------------------------------------------------------


def test_a_raising_validator_costs_one_rule_and_nothing_of_other_settings(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    strict = Setting("strict", int, ["user"], 1)
    other = Setting("other", int, ["user"], 1)
    error = ValueError("too large")

    @strict.add_validator
    def at_most_100(value: int, rule: QueriedRule | None, setting: Setting[int]) -> int:
        if value > 100:
            raise error
        return value

    scene.service.add_rule("strict", 101, user="jim")
    number = scene.service.add_rule("strict", 100, user="joe")
    scene.service.add_rule("other", 2, user="jim")

    async def body() -> None:
        async with scene.client() as client:
            (rejected,) = client.status.rejected_rules
            assert rejected == RejectedRule("strict", number - 1, rejected.reason)
            assert rejected.error is error
            assert [strict.get(user="jim"), strict.get(user="joe")] == [1, 100]
            assert other.get(user="jim") == 2
            assert client.status.failures == 0
            # When the rule is deleted on the service, it disappears from the status.
            del scene.service.rules["strict"][0]
            await client.reload()
            assert client.status.rejected_rules == ()

    scene.run(body)
    assert "at_most_100 raised ValueError: too large" in caplog.text


def test_only_what_is_new_is_logged_when_one_of_several_unusable_rules_changes(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    ttl = Setting("ttl", int, ["user"], 60)
    scene.service.add_rule("ttl", "soon", user="jim")

    async def body() -> None:
        async with scene.client() as client:
            scene.service.add_rule("ttl", "later", user="joe")
            await client.reload()
            assert len(client.status.rejected_rules) == 2

    scene.run(body)
    assert caplog.text.count("'soon' is not an int") == 1
    assert caplog.text.count("'later' is not an int") == 1
    assert ttl.get(user="jim") == 60


def test_a_section_that_cannot_be_used_at_all_stands_in_the_status(scene: Scene) -> None:
    ttl = Setting("ttl", int, ["user"], 60)
    scene.service.add_rule("ttl", 5, user="jim")

    async def body() -> None:
        async with scene.client() as client:
            scene.service.rules["ttl"] = "no list"  # type: ignore[assignment]
            await client.reload()
            (rejected,) = client.status.rejected_rules
            assert (rejected.setting, rejected.rule_id) == ("ttl", None)
            assert ttl.get(user="jim") == 5

    scene.run(body)


def test_a_validator_that_is_added_later_counts_from_the_next_update(scene: Scene) -> None:
    ttl = Setting("ttl", int, ["user"], 60)
    scene.service.add_rule("ttl", 5, user="jim")

    async def body() -> None:
        async with scene.client() as client:
            ttl.add_validator(lambda value, rule, of: value * 2)
            assert ttl.get(user="jim") == 5
            # The rules have not changed, but are decoded again.
            await client.reload()
            assert ttl.get(user="jim") == 10

    scene.run(body)


def test_two_settings_of_one_name_each_have_their_validators(scene: Scene) -> None:
    one, two = (Setting("ttl", int, ["user"], 60) for _ in range(2))
    two.add_validator(lambda value, rule, of: 1 // 0)
    scene.service.add_rule("ttl", 5, user="jim")

    async def body() -> None:
        async with scene.client() as client:
            assert [one.get(user="jim"), two.get(user="jim")] == [5, 60]
            assert [each.rule_id for each in client.status.rejected_rules] == [1, None]

    scene.run(body)


def test_coercions_stand_in_the_status_with_their_path_and_are_logged_once(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    sizes = Setting("sizes", HeksherSequence(int), ["user"], [1])
    scene.service.add_rule("sizes", [1, 2, 3, "x"], user="jim")

    async def body() -> None:
        async with scene.client() as client:
            for _ in range(2):
                scene.service.add_rule("sizes", [4], user="joe")
                await client.reload()
                (coerced,) = client.status.coerced_rules
                assert (coerced.setting, coerced.rule_id) == ("sizes", 1)
                assert coerced.coercions[0].startswith("element 3: ")
                assert sizes.get(user="jim") == (1, 2, 3)

    scene.run(body)
    assert caplog.text.count("element 3: ") == 1


def test_the_log_names_no_more_rules_than_somebody_reads(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    ttl = Setting("ttl", int, ["user"], 60)
    for number in range(50):
        scene.service.add_rule("ttl", f"no int {number}", user=f"user{number}")

    async def body() -> None:
        async with scene.client() as client:
            assert len(client.status.rejected_rules) == 50
            assert ttl.get(user="user1") == 60

    scene.run(body)
    assert caplog.text.count("dropped: ") == 21
    assert "dropped: 30 more; status has the number, and lists the first 100" in caplog.text


def test_what_is_known_of_a_setting_changes_under_the_clients_lock(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = Setting("kept", int, ["user"], 1)
    lacking = Setting("lacking", int, ["theme"], 1)
    assign = Entry.__setattr__
    changed: list[str] = []
    made: set[int] = set()

    def assign_under_lock(entry: Entry, name: str, value: Any) -> None:
        if id(entry) in made:
            client = clients[0].client
            lock: Any = client._core.lock  # pyright: ignore[reportPrivateUsage]
            assert lock._is_owned(), name
            changed.append(name)
        assign(entry, name, value)
        if name == "coerced":  # the last attribute that the constructor assigns
            made.add(id(entry))

    monkeypatch.setattr(Entry, "__setattr__", assign_under_lock)
    clients: list[AnyClient] = []

    async def body() -> None:
        clients.append(scene.client(startup="continue"))
        scene.service.features.remove("theme")
        async with clients[0] as client:
            scene.service.rename("kept", "renamed")
            await client.reload()
            scene.service.delete("renamed")
            scene.service.features.append("theme")
            await client.reload()
            await client.reload()

    scene.run(body)
    assert (kept.get(user="jim"), lacking.get(theme="dark")) == (1, 1)
    assert {"current_name", "to_declare", "on_service", "lacking", "declared"} <= set(changed)
