"""Types, versions and names of settings, with real HTTP to a real service process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum, IntFlag, StrEnum
from typing import Any, Literal, cast

import pytest
from support.harness import AnyClient, Harness

from heksher import Setting
from heksher.exceptions import DeclarationRejected
from heksher.setting import QueriedRule
from heksher.status import DeclarationState
from heksher.testing import reset
from heksher.testing.service import LiveService

pytestmark = pytest.mark.integration


@pytest.fixture
def service(heksher_service: LiveService) -> LiveService:
    heksher_service.features = ["environment", "user", "theme"]
    return heksher_service


def make_client(backend: Harness, service: LiveService, **options: Any) -> AnyClient:
    return backend.client(service.url, 3600, ["environment", "user", "theme"], **options)


def state_of(client: AnyClient, name: str) -> DeclarationState:
    return client.status.declarations[name].state


class Color(Enum):
    RED = "red"
    BLUE = "blue"


class Level(Enum):
    LOW = 1
    HALF = 0.5
    NONE = False


class Mode(StrEnum):
    FAST = "fast"
    SAFE = "safe"


class Access(IntFlag):
    NOTHING = 0
    READ = 1
    WRITE = 2
    ALL = 3
    SEE = 1


KINDS: list[tuple[Any, str, Any, Any, Any]] = [
    # the type, as the service spells it, a default, a rule's value on the wire, and here
    (int, "int", 1, 2, 2),
    (int, "int", -(2**63), 2**63 - 1, 2**63 - 1),
    (float, "float", 1, 2, 2.0),
    (str, "str", "", "é\n\"'", "é\n\"'"),
    (bool, "bool", False, True, True),
    (Color, 'Enum["blue","red"]', Color.RED, "blue", Color.BLUE),
    (Level, "Enum[0.5,1,false]", Level.LOW, False, Level.NONE),
    (Mode, 'Enum["fast","safe"]', Mode.FAST, "safe", Mode.SAFE),
    (
        Access,
        'Flags["ALL","NOTHING","READ","SEE","WRITE"]',
        Access.NOTHING,
        ["WRITE", "SEE"],
        Access.ALL,
    ),
    (Literal["a", 1], 'Enum["a",1]', "a", 1, 1),
    (Sequence[int], "Sequence<int>", [1], [2, 3], (2, 3)),
    (list[str], "Sequence<str>", [], ["a"], ("a",)),
    (tuple[Color, ...], 'Sequence<Enum["blue","red"]>', (), ["red"], (Color.RED,)),
    (Mapping[str, float], "Mapping<float>", {}, {"x": 1}, {"x": 1.0}),
    (
        dict[str, list[Access]],
        'Mapping<Sequence<Flags["ALL","NOTHING","READ","SEE","WRITE"]>>',
        {"x": [Access.ALL]},
        {"y": [["READ"], []]},
        {"y": (Access.READ, Access.NOTHING)},
    ),
]


def test_values_of_each_type_make_the_whole_way(backend: Harness, service: LiveService) -> None:
    settings: list[Setting[Any]] = [
        Setting(f"kind{number}", kind, ["user"], default)
        for number, (kind, _, default, _, _) in enumerate(KINDS)
    ]

    async def body() -> None:
        client = make_client(backend, service)
        client.set_defaults(user="jim")
        async with client:
            there = await client.get_settings()
            for setting, (_, spelling, _, raw, _) in zip(settings, KINDS, strict=True):
                assert there[setting.name].type == spelling
                assert setting.get() == setting.default_value
                assert type(setting.get()) is type(setting.default_value)
                service.add_rule(setting.name, raw, user="jim")
            await client.reload()
            for setting, (_, _, _, _, here) in zip(settings, KINDS, strict=True):
                assert setting.get() == here
                assert type(setting.get()) is type(here) or isinstance(setting.get(), Mapping)
            assert client.status.rejected_rules == ()
        # A second start finds everything as it is declared.
        reset()
        again: list[Setting[Any]] = [
            Setting(f"kind{number}", kind, ["user"], default)
            for number, (kind, _, default, _, _) in enumerate(KINDS)
        ]
        async with make_client(backend, service) as client:
            assert set(client.status.settings) == {DeclarationState.UPTODATE}
            assert again[5].get(user="jim") is Color.BLUE

    backend.run(body)


def test_values_that_come_out_cannot_be_changed(backend: Harness, service: LiveService) -> None:
    nested = Setting("nested", dict[str, list[int]], ["user"], {"a": [1]})

    async def body() -> None:
        async with make_client(backend, service) as client:
            service.add_rule("nested", {"b": [2]}, user="jim")
            await client.reload()

    backend.run(body)
    for user in ("jim", "joe"):
        value = nested.get(user=user)
        with pytest.raises(TypeError):
            cast("dict[str, Any]", value)["c"] = 1
        assert all(isinstance(element, tuple) for element in value.values())


# --- versions -------------------------------------------------------------------------------------


def test_an_outdated_application_uses_what_fits_of_the_newer_type(
    backend: Harness, service: LiveService
) -> None:
    class Newer(IntFlag):
        READ = 1
        WRITE = 2
        DELETE = 4

    class Older(IntFlag):
        READ = 1
        WRITE = 2

    seen: list[tuple[Any, Sequence[str], QueriedRule | None]] = []

    def on_coerce(
        value: Older,
        raw: Any,
        coercions: Sequence[str],
        rule: QueriedRule | None,
        setting: Setting[Older],
    ) -> Older:
        seen.append((raw, coercions, rule))
        return value

    async def body() -> None:
        newer = Setting("access", Newer, ["user"], Newer.DELETE | Newer.WRITE, version="2.0")
        ttl2 = Setting("ttl", float, ["user"], 0.5, version="2.0")
        async with make_client(backend, service) as client:
            assert set(client.status.settings) == {DeclarationState.UPGRADED}
            newest = service.add_rule("access", ["READ", "DELETE"], user="jim")
            service.add_rule("access", ["READ"], user="joe")
            no_int = service.add_rule("ttl", 1.5, user="jim")
            service.add_rule("ttl", 2.0, user="joe")
        del newer, ttl2
        reset()

        older = Setting("access", Older, ["user"], Older.READ, on_coerce=on_coerce)
        ttl = Setting("ttl", int, ["user"], 60)
        async with make_client(backend, service) as client:
            assert client.status.settings == {DeclarationState.OUTDATED: ("access", "ttl")}
            declared = client.status.declarations["ttl"]
            assert declared.service_version == "2.0"
            assert "type is 'int' here and 'float' on the service (major)" in declared.differences
            assert older.get(user="jim") == Older.READ
            assert older.get(user="joe") == Older.READ
            assert older.get(user="nobody") == Older.WRITE  # the service's default, coerced
            assert ttl.get(user="jim") == 60  # 1.5 is not an int, and neither is the default 0.5
            assert ttl.get(user="joe") == 2
            assert [rule.rule_id for _, _, rule in seen if rule is not None] == [newest]
            assert {(each.setting, each.rule_id) for each in client.status.rejected_rules} == {
                ("ttl", no_int),
                ("ttl", None),
            }

    backend.run(body)


def test_a_conflict_names_each_attribute_and_other_settings_go_on(
    backend: Harness, service: LiveService
) -> None:
    service.declare("ttl", "int", 60, metadata={"unit": "s"})
    service.add_rule("ttl", 5, user="jim")

    async def body() -> None:
        ttl = Setting("ttl", str, ["user"], "60")
        other = Setting("other", int, ["user"], 1)
        client = make_client(backend, service)
        with pytest.raises(DeclarationRejected) as raised:
            await client.set_as_main()
        for part in (
            "setting 'ttl'",
            "default_value is '60' here and 60 on the service",
            "metadata is {} here and {'unit': 's'} on the service",
            "incompatible with values for rules: [",
            "raise the version",
        ):
            assert part in str(raised.value)
        await client.close()
        assert other.get(user="jim") == 1

        async with make_client(backend, service, startup="continue") as client:
            assert state_of(client, "ttl") is DeclarationState.MISMATCH
            assert list(client.status.refusals) == ["ttl"]
            service.add_rule("other", 2, user="jim")
            await client.reload()
            assert other.get(user="jim") == 2
            # Its rules are asked for as well, as far as they are of its type.
            assert ttl.get(user="jim") == "60"

    backend.run(body)


def test_a_step_too_small_for_the_change_is_rejected(
    backend: Harness, service: LiveService
) -> None:
    service.declare("ttl", "int", 60)

    async def body() -> None:
        ttl = Setting("ttl", str, ["user"], "60", version="1.1")
        client = make_client(backend, service)
        with pytest.raises(DeclarationRejected, match="raise the major version"):
            await client.set_as_main()
        await client.close()
        del ttl
        reset()
        ttl = Setting("ttl", str, ["user"], "60", version="2.0")
        async with make_client(backend, service) as client:
            assert state_of(client, "ttl") is DeclarationState.UPGRADED
            assert service.get("/settings/ttl")["version"] == "2.0"
        assert ttl.get(user="jim") == "60"

    backend.run(body)


def test_a_setting_that_is_new_to_the_service_may_be_at_any_version_and_name_any_alias(
    backend: Harness, service: LiveService
) -> None:
    ttl = Setting("ttl", int, ["user"], 60, alias="never_heard_of", version="2.3")

    async def body() -> None:
        async with make_client(backend, service) as client:
            assert state_of(client, "ttl") is DeclarationState.UPGRADED
            there = service.get("/settings/ttl")
            assert (there["version"], there["aliases"]) == ("2.3", [])
        assert ttl.get(user="jim") == 60

    backend.run(body)


# --- names ----------------------------------------------------------------------------------------


def test_an_alias_takes_the_rules_over(backend: Harness, service: LiveService) -> None:
    service.declare("old", "int", 60)
    service.add_rule("old", 5, user="jim")

    async def body() -> None:
        ttl = Setting("ttl", int, ["user"], 60, alias="old", version="1.1")
        async with make_client(backend, service) as client:
            assert state_of(client, "ttl") is DeclarationState.UPGRADED
            assert ttl.get(user="jim") == 5
            assert service.get("/settings/ttl")["aliases"] == ["old"]
        del ttl
        reset()
        # The application as it was before the rename, started again: the name is not taken back.
        old = Setting("old", int, ["user"], 60)
        async with make_client(backend, service) as client:
            assert state_of(client, "old") is DeclarationState.RENAMED
            assert old.get(user="jim") == 5
            assert service.get("/settings/old")["name"] == "ttl"

    backend.run(body)


@pytest.mark.parametrize("version", ["1.0", "1.1", "2.0"], ids="declared at {}".format)
def test_an_operators_rename_is_not_declared_back_by_a_restart(
    backend: Harness, service: LiveService, version: str
) -> None:
    service.declare("ttl", "int", 60)
    service.add_rule("ttl", 5, user="jim")
    service.rename("ttl", "new_name", "1.0")

    async def body() -> None:
        ttl = Setting("ttl", int, ["user"], 60, version=version)
        async with make_client(backend, service) as client:
            assert ttl.get(user="jim") == 5
            service.add_rule("new_name", 6, user="joe")
            await client.reload()
            assert ttl.get(user="joe") == 6
            assert service.get("/settings/ttl")["name"] == "new_name"

    backend.run(body)
