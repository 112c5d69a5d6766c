"""Updates of much that bring little: what did not change is not read again; on every backend."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from harness import AnyClient, Harness
from scenes import INTERVAL, Scene

from heksher import TRACK_ALL, Setting
from heksher.clients.stub import SyncStubHeksherClient
from heksher.protocol import Response
from heksher.setting import QueriedRule


@pytest.fixture
def scene(backend: Harness) -> Scene:
    return Scene(backend)


class Many:
    """Settings with a rule and a validator each, which counts its calls."""

    def __init__(self, scene: Scene, number: int) -> None:
        self.calls: Counter[str] = Counter()
        self.settings: list[Setting[int]] = []
        for index in range(number):
            name = f"s{index}"
            setting = Setting(name, int, ["environment", "user"], index)
            setting.add_validator(self.validate)
            scene.service.add_rule(name, 100 + index, user="jim")
            self.settings.append(setting)

    def validate(self, value: int, rule: QueriedRule | None, setting: Setting[int]) -> int:
        self.calls[setting.name] += 1
        if value == 13:
            raise ValueError("bad luck")
        return value

    @property
    def published(self) -> list[Any]:
        return [setting.published for setting in self.settings]

    def read_since(self) -> set[str]:
        """Return the settings whose sections were read since the last call."""
        names = set(self.calls)
        self.calls.clear()
        return names


def changed(before: list[Any], after: list[Any]) -> list[int]:
    return [index for index, each in enumerate(after) if each is not before[index]]


def test_only_what_changed_is_read_and_published(scene: Scene) -> None:
    many = Many(scene, 10)

    async def body() -> None:
        async with scene.client():
            assert many.read_since() == {f"s{index}" for index in range(10)}
            before = many.published
            scene.service.add_rule("s3", 7, user="joe")
            await scene.pass_time(INTERVAL)
            assert many.read_since() == {"s3"}
            assert changed(before, many.published) == [3]
            assert many.settings[3].get(environment="dev", user="joe") == 7
            # Another ETag, and the rules of before.
            scene.service.rules["s3"].pop()
            await scene.pass_time(INTERVAL)
            assert many.read_since() == {"s3"}
            assert many.settings[3].get(environment="dev", user="joe") == 3

    scene.run(body)


def test_a_default_of_the_service_is_part_of_what_is_compared(scene: Scene) -> None:
    many = Many(scene, 2)

    async def body() -> None:
        async with scene.client():
            many.read_since()
            scene.service.settings["s1"]["default_value"] = 55
            await scene.pass_time(INTERVAL)
            assert many.read_since() == {"s1"}
            assert many.settings[1].get(environment="dev", user="joe") == 55

    scene.run(body)


async def _add_a_validator(scene: Scene, client: AnyClient, many: Many) -> None:
    many.settings[1].add_validator(lambda value, rule, of: value)


async def _track(scene: Scene, client: AnyClient, many: Many) -> None:
    client.track_contexts(user=TRACK_ALL)


async def _reorder(scene: Scene, client: AnyClient, many: Many) -> None:
    scene.service.features = ["user", "environment", "theme"]


async def _rename(scene: Scene, client: AnyClient, many: Many) -> None:
    scene.service.rename("s1", "renamed")


async def _delete(scene: Scene, client: AnyClient, many: Many) -> None:
    rules = scene.service.rules["s1"]
    scene.service.delete("s1")
    scene.service.rules["s1"] = rules


async def _stub(scene: Scene, client: AnyClient, many: Many) -> None:
    with SyncStubHeksherClient() as stub:
        stub[many.settings[1]].rules = 5


async def _add_to_the_client(scene: Scene, client: AnyClient, many: Many) -> None:
    client.add_settings([many.settings[1]])


@pytest.mark.parametrize(
    ("change", "read"),
    [
        (_add_a_validator, {"s1"}),
        (_track, {"s0", "s1", "s2"}),
        (_reorder, {"s0", "s1", "s2"}),
        (_rename, set[str]()),
        (_delete, {"s1"}),
        (_stub, {"s0", "s1", "s2"}),
        (_add_to_the_client, {"s1"}),
    ],
)
def test_what_would_be_read_differently_is_read_again_and_nothing_else(
    scene: Scene, change: Any, read: set[str]
) -> None:
    many = Many(scene, 3)

    async def body() -> None:
        async with scene.client() as client:
            many.read_since()
            await change(scene, client, many)
            await client.reload()
            await client.reload()
            assert many.read_since() == read
            assert many.settings[1].get(environment="dev", user="jim") == 101
            assert many.settings[1].get(environment="dev", user="joe") == 1

    scene.run(body)


def test_what_another_client_published_meanwhile_is_replaced(scene: Scene) -> None:
    many = Many(scene, 2)
    elsewhere = Scene(scene.backend)
    elsewhere.service.add_rule("s1", 500, user="jim")

    async def body() -> None:
        async with scene.client() as client:
            client.add_settings([many.settings[1]])
            await client.reload()
            async with elsewhere.client() as other:
                other.add_settings([many.settings[1]])
                await other.reload()
                assert many.settings[1].get(environment="dev", user="jim") == 500
                scene.service.add_rule("s0", 1, user="ann")
                await client.reload()
                assert many.settings[1].get(environment="dev", user="jim") == 101

    scene.run(body)


def test_reports_of_what_was_not_read_again_stay(scene: Scene) -> None:
    many = Many(scene, 3)
    # Of two settings of one name one has no validator, and uses what the other one refuses.
    twin = Setting("s1", int, ["environment", "user"], 1)
    scene.service.add_rule("s1", 13, user="joe")
    scene.service.add_rule("s1", "no int", user="ann")

    async def body() -> None:
        async with scene.client() as client:
            before = client.status.rejected_rules
            assert len(before) == 2
            scene.service.add_rule("s0", 1, user="ann")
            await client.reload()
            assert client.status.rejected_rules == before
            # Read again for this one alone; what is said of the other one is still true.
            twin.add_validator(lambda value, rule, of: value)
            await client.reload()
            assert client.status.rejected_rules == before
            assert twin.get(environment="dev", user="joe") == 13
            assert many.settings[1].get(environment="dev", user="joe") == 1

    scene.run(body)


def test_a_section_that_was_broken_once_is_reported_no_longer(scene: Scene) -> None:
    many = Many(scene, 2)

    async def body() -> None:
        async with scene.client() as client:
            rules = scene.service.rules["s1"]
            scene.service.rules["s1"] = {}  # type: ignore[assignment]
            await client.reload()
            assert len(client.status.rejected_rules) == 1
            scene.service.rules["s1"] = rules
            await client.reload()
            assert client.status.rejected_rules == ()
            assert many.settings[1].get(environment="dev", user="jim") == 101

    scene.run(body)


def test_a_start_reads_everything_that_a_failed_one_had_read(scene: Scene) -> None:
    many = Many(scene, 2)

    async def body() -> None:
        client = scene.client()
        scene.service.answers["s1"] = Response(422, {}, b"not this one")
        with pytest.raises(Exception, match="HTTP 422"):
            await client.set_as_main()
        del scene.service.answers["s1"]
        many.read_since()
        async with client:
            assert many.read_since() == {"s0", "s1"}
            assert many.settings[0].get(environment="dev", user="jim") == 100

    scene.run(body)
