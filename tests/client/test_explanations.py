"""What explanations say of a client's rules, on every backend: their source, and what is left out."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.harness import Harness
from support.scenes import Scene
from support.scripted import unreachable

from heksher import Setting
from heksher.explanation import ExplainedRule, Explanation, FeatureSource, Reason
from heksher.status import DataSource


@pytest.fixture
def scene(backend: Harness) -> Scene:
    return Scene(backend)


def ttl_setting() -> Setting[int]:
    return Setting("cache_ttl", int, ["environment", "user"], 60)


def explained(setting: Setting[int], user: str = "jim") -> Explanation[int]:
    explanation = setting.explain(environment="dev", user=user)
    assert explanation.value == setting.get(environment="dev", user=user)
    return explanation


def test_from_the_declaration_to_a_rule(scene: Scene) -> None:
    ttl = ttl_setting()
    scene.service.add_rule("cache_ttl", 5, user="jim")
    assert explained(ttl).reason is Reason.NOT_STARTED

    async def body() -> None:
        client = scene.client()
        client.set_defaults(environment="dev")
        async with client:
            explanation = ttl.explain(user="jim")
            assert explanation.rule is not None
            assert explanation.rule.conditions == (("user", "jim"),)
            assert explanation.rule.rule_id is not None
            assert explanation.source is DataSource.SERVICE
            assert explanation.context["environment"].source is FeatureSource.CONSTANT
            default = explained(ttl, "eve")
            assert (default.reason, default.value) == (Reason.SERVICE_DEFAULT, 60)
        assert explained(ttl).reason is Reason.RULE, "a client that is closed has started"

    scene.run(body)


def test_a_start_without_the_service(scene: Scene) -> None:
    ttl = ttl_setting()
    scene.service.fault = unreachable()

    async def body() -> None:
        async with scene.client(startup="continue"):
            explanation = explained(ttl)
            assert explanation.reason is Reason.LOCAL_DEFAULT
            assert explanation.source is DataSource.DEFAULTS

    scene.run(body)


def test_rules_of_a_snapshot_are_the_services_once_it_has_them_too(
    scene: Scene, tmp_path: Path
) -> None:
    ttl, other = ttl_setting(), Setting("page_size", int, ["user"], 20)
    scene.service.add_rule("cache_ttl", 5, user="jim")
    path = tmp_path / "rules.snapshot"

    async def body() -> None:
        async with scene.client(snapshot=path):
            pass
        scene.service.fault = unreachable()
        async with scene.client(snapshot=path, startup="continue") as client:
            before = explained(ttl)
            assert (before.value, before.source) == (5, DataSource.SNAPSHOT)
            assert "source    snapshot" in str(before)
            scene.service.fault = None
            scene.service.add_rule("page_size", 50, user="eve")
            await client.reload()
            assert client.status.source is DataSource.SERVICE
            assert (explained(ttl).value, explained(ttl).source) == (5, DataSource.SERVICE)
            assert other.explain(user="jim").source is DataSource.SERVICE
            assert before.source is DataSource.SNAPSHOT, "an explanation does not change"

    scene.run(body)


def test_the_same_rules_before_the_start_is_done(scene: Scene, tmp_path: Path) -> None:
    ttl = ttl_setting()
    scene.service.add_rule("cache_ttl", 5, user="jim")
    path = tmp_path / "rules.snapshot"

    async def body() -> None:
        async with scene.client(snapshot=path):
            pass
        async with scene.client(snapshot=path):
            assert explained(ttl).source is DataSource.SERVICE

    scene.run(body)


def test_rules_that_cannot_be_used(scene: Scene) -> None:
    ttl = ttl_setting()
    ttl.add_validator(lambda value, rule, setting: value if value < 100 else 1 // 0)
    scene.service.add_rule("cache_ttl", 500, user="jim")
    scene.service.add_rule("cache_ttl", 5, user="eve")

    async def body() -> None:
        async with scene.client() as client:
            explanation = explained(ttl)
            assert explanation.reason is Reason.SERVICE_DEFAULT
            (rejected,) = explanation.rejected_rules
            assert (rejected, explanation.rejected_count) == (client.status.rejected_rules[0], 1)
            assert "\n          raised ZeroDivisionError: integer division" in str(explanation)
            scene.service.rules["cache_ttl"].clear()
            await client.reload()
            assert explained(ttl).rejected_rules == ()

    scene.run(body)


def test_an_answer_that_cannot_be_used(scene: Scene) -> None:
    ttl = ttl_setting()
    scene.service.add_rule("cache_ttl", 5, user="jim")

    async def body() -> None:
        async with scene.client() as client:
            scene.service.rules["cache_ttl"] = None  # type: ignore[assignment]
            await client.reload()
            explanation = explained(ttl)
            assert explanation.value == 5, "the last rules stay"
            assert explanation.rejected_rules == client.status.rejected_rules != ()

    scene.run(body)


def test_what_is_not_tracked(scene: Scene) -> None:
    ttl = ttl_setting()
    scene.service.add_rule("cache_ttl", 5, user="jim")
    scene.service.add_rule("cache_ttl", 6, user="eve")

    async def body() -> None:
        client = scene.client()
        client.track_contexts(environment=["dev", "prod"], user="jim")
        async with client:
            tracked = explained(ttl)
            assert (tracked.untracked, tracked.is_tracking_all) == ((), False)
            assert [each.rule.value for each in tracked.candidates] == [5]
            left_out = explained(ttl, "eve")
            assert (left_out.value, left_out.untracked) == (60, ("user",))
            assert "user is not tracked here" in str(left_out)

    scene.run(body)


def test_a_second_client(scene: Scene) -> None:
    ttl = ttl_setting()
    number = scene.service.add_rule("cache_ttl", 5, user="jim")

    async def body() -> None:
        async with scene.client() as first, scene.client():
            rule = ExplainedRule(number, (("user", "jim"),), 5)
            assert explained(ttl).rule == rule
            await first.close()
            assert explained(ttl).rule == rule

    scene.run(body)
