"""Strict stubs: all settings behave as with a started client, and everything is undone at the end."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextvars import ContextVar, copy_context
from typing import Any

import pytest
from support.harness import AsyncioHarness, Harness, TrioHarness
from support.published import published

from heksher import Setting, _registry, testing
from heksher._rules.getter import SettingState
from heksher.clients.stub import AsyncStubHeksherClient, Rule, SyncStubHeksherClient
from heksher.exceptions import InvalidArgumentError, MissingFeatureError


@pytest.fixture
def ttl() -> Setting[int]:
    return Setting("cache_ttl", int, ["user", "theme"], 60)


@pytest.fixture
def size() -> Setting[int]:
    return Setting("page_size", int, ["user"], 20)


def is_strict(setting: Setting[int]) -> bool:
    """Whether a feature without a value is an error."""
    try:
        setting.get()
    except MissingFeatureError:
        return True
    return False


def test_a_setting_without_rules_needs_every_feature(ttl: Setting[int]) -> None:
    with SyncStubHeksherClient(strict=True):
        with pytest.raises(MissingFeatureError, match="'theme'"):
            ttl.get(user="jim")
        assert ttl.get(user="jim", theme="dark") == 60
    assert ttl.get() == 60


def test_a_stub_is_lenient_unless_it_is_asked_to_be_strict(ttl: Setting[int]) -> None:
    for stub in (SyncStubHeksherClient(), SyncStubHeksherClient(strict=False)):
        with stub:
            assert ttl.get() == 60


def test_a_strict_stub_is_strict_while_it_is_the_main_client(ttl: Setting[int]) -> None:
    stub = SyncStubHeksherClient(strict=True)
    assert ttl.get() == 60
    stub.set_as_main()
    stub.set_as_main()
    assert is_strict(ttl)
    stub.close()
    assert ttl.get() == 60
    with stub:
        assert is_strict(ttl)
    assert ttl.get() == 60


@pytest.mark.parametrize("harness", [AsyncioHarness, TrioHarness], ids=lambda each: each.name)
def test_a_strict_stub_of_the_async_client(ttl: Setting[int], harness: type[Harness]) -> None:
    async def main() -> None:
        async with AsyncStubHeksherClient(strict=True) as stub:
            assert is_strict(ttl)
            stub.set_defaults(user="jim")
            assert ttl.get(theme="dark") == 60
            with pytest.raises(InvalidArgumentError, match="the rank of"):
                stub[ttl].rules = [Rule({"user": "jim"}, 1), Rule({"theme": "dark"}, 2)]
        assert ttl.get() == 60

    harness().run(main)


def test_defaults_apply_to_settings_without_rules(ttl: Setting[int], size: Setting[int]) -> None:
    theme: ContextVar[str] = ContextVar("theme")
    with SyncStubHeksherClient(strict=True) as stub:
        stub.set_defaults(user="jim", theme=theme)
        assert size.get() == 20
        with pytest.raises(MissingFeatureError, match="'theme'"):
            ttl.get()
        inside = copy_context()
        inside.run(theme.set, "dark")
        assert inside.run(ttl.get) == 60


def test_a_setting_that_is_defined_during_the_test() -> None:
    with SyncStubHeksherClient(strict=True) as stub:
        made = Setting("made", int, ["user"], 1)
        assert is_strict(made)
        assert made.get(user="jim") == 1
        stub[made].rules = 2
        assert made.get(user="jim") == 2
    assert made.get() == 1


def test_a_setting_that_is_declared_again_during_the_test() -> None:
    first = Setting("made", int, ["user"], 1)
    with SyncStubHeksherClient(strict=True):
        second = Setting("made", int, ["user", "theme"], 2)
        assert is_strict(second)
    assert (first.get(), second.get()) == (1, 2)


def test_features_whose_names_cannot_be_parameters() -> None:
    odd = Setting("odd", int, ["class", "1st"], 1)
    with SyncStubHeksherClient(strict=True) as stub:
        with pytest.raises(MissingFeatureError, match="'1st'"):
            odd.get(**{"class": "a"})
        stub.set_defaults(**{"1st": "b"})
        assert odd.get(**{"class": "a"}) == 1
    assert odd.get() == 1


def test_settings_that_reset_forgot_are_strict_as_well(ttl: Setting[int]) -> None:
    testing.reset()
    with SyncStubHeksherClient(strict=True) as stub:
        assert is_strict(ttl)
        before = stub[ttl].rules
        stub[ttl].rules = 5
        stub[ttl].rules = before
        assert is_strict(ttl)
        with SyncStubHeksherClient(strict=True) as inner:
            inner.set_defaults(user="jim")
            assert is_strict(ttl)
            assert ttl.get(theme="dark") == 60
        assert is_strict(ttl)
        with SyncStubHeksherClient():
            assert not is_strict(ttl)
        assert is_strict(ttl)
    assert ttl.get() == 60


def test_a_setting_stays_strict_after_its_rules(ttl: Setting[int]) -> None:
    with SyncStubHeksherClient(strict=True) as stub:
        nothing = stub[ttl].rules
        with stub.patch(ttl, 5):
            assert ttl.get(user="jim", theme="dark") == 5
        assert is_strict(ttl)
        stub[ttl].rules = 6
        stub[ttl].rules = nothing
        assert is_strict(ttl)
        with pytest.MonkeyPatch.context() as monkeypatch:
            monkeypatch.setattr(stub[ttl], "rules", 7)
        assert is_strict(ttl)


def test_rules_of_another_stub_that_end_leave_a_strict_setting(ttl: Setting[int]) -> None:
    other = SyncStubHeksherClient()
    nothing = other[ttl].rules
    other[ttl].rules = 5
    with SyncStubHeksherClient(strict=True) as stub:
        stub.set_defaults(user="jim")
        assert ttl.get(user="jim", theme="dark") == 5
        other.close()
        assert ttl.get(theme="dark") == 60
        assert is_strict(ttl)
        other[ttl].rules = nothing
        assert is_strict(ttl)
    assert ttl.get() == 60


def test_rules_that_come_before_the_stub_is_the_main_client(
    ttl: Setting[int], size: Setting[int]
) -> None:
    stub = SyncStubHeksherClient(strict=True)
    stub[ttl].rules = 5
    assert size.get() == 20
    with stub:
        assert ttl.get(user="jim", theme="dark") == 5
        assert is_strict(size)


def test_the_main_stub_decides_about_settings_without_rules(
    ttl: Setting[int], size: Setting[int]
) -> None:
    with SyncStubHeksherClient(strict=True) as outer:
        outer[size].rules = 5
        with SyncStubHeksherClient() as lenient:
            assert ttl.get() == 60
            made = Setting("made", int, ["user"], 1)
            assert made.get() == 1
            assert size.get(user="jim") == 5
            with SyncStubHeksherClient(strict=True) as strict:
                strict.set_defaults(user="jim")
                assert made.get() == 1
                assert is_strict(ttl)
                assert ttl.get(theme="dark") == 60
                lenient[ttl].rules = 7
                assert ttl.get(user="jim", theme="dark") == 7
            assert made.get() == 1
        assert is_strict(made)
        assert is_strict(ttl)
        assert ttl.get(user="jim", theme="dark") == 60
    assert [published(each).started for each in (ttl, size, made)] == [False, False, False]


def test_strict_stubs_closed_in_another_order(ttl: Setting[int]) -> None:
    first, second = SyncStubHeksherClient(strict=True), SyncStubHeksherClient(strict=True)
    first.set_as_main()
    second.set_as_main()
    first.close()
    assert is_strict(ttl)
    second.close()
    assert ttl.get() == 60
    assert _registry.main() is None


def test_strict_stubs_that_take_turns(ttl: Setting[int]) -> None:
    first, second = SyncStubHeksherClient(strict=True), SyncStubHeksherClient(strict=True)
    first.set_defaults(user="jim")
    second.set_defaults(theme="dark")
    first.set_as_main()
    second.set_as_main()
    assert ttl.get(user="jim") == 60
    first.set_as_main()
    assert ttl.get(theme="dark") == 60
    assert is_strict(ttl)
    first.close()
    assert ttl.get(user="jim") == 60
    second.close()
    assert ttl.get() == 60


def test_what_was_published_before_is_restored(ttl: Setting[int], size: Setting[int]) -> None:
    before = [published(ttl), published(size)]
    stub = SyncStubHeksherClient(strict=True)
    stub[ttl].rules = [Rule({"user": "jim"}, 5)]
    stub.set_defaults(user="jim")
    with pytest.raises(KeyError), stub:
        raise KeyError
    assert published(ttl) is before[0]
    assert published(size) is before[1]


def test_reset_ends_strict_stubs(ttl: Setting[int], size: Setting[int]) -> None:
    outer, inner = SyncStubHeksherClient(strict=True), SyncStubHeksherClient(strict=True)
    outer.set_as_main()
    inner.set_as_main()
    inner[ttl].rules = 5
    testing.reset()
    assert [each.get() for each in (ttl, size)] == [60, 20]
    made = Setting("made", int, ["user"], 1)
    assert made.get() == 1
    inner.close()
    outer.close()
    assert [each.get() for each in (ttl, size, made)] == [60, 20, 1]


@pytest.mark.parametrize("fails_at", [1, 2, 3])
def test_a_start_that_fails_halfway_changes_nothing(
    ttl: Setting[int], size: Setting[int], monkeypatch: pytest.MonkeyPatch, fails_at: int
) -> None:
    prepare: Callable[..., Any] = SettingState[int].prepare
    calls = 0

    def failing(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == fails_at:
            raise MemoryError
        return prepare(*args, **kwargs)

    other = Setting("other", int, ["user"], 1)
    stub = SyncStubHeksherClient(strict=True)
    monkeypatch.setattr(SettingState, "prepare", failing)
    with pytest.raises(MemoryError):
        stub.set_as_main()
    assert _registry.main() is None
    assert [each.get() for each in (ttl, size, other)] == [60, 20, 1]
    with stub:
        assert is_strict(ttl)
    assert ttl.get() == 60


def test_settings_that_other_threads_define_meanwhile() -> None:
    made: list[Setting[int]] = []
    wrong: list[str] = []
    barrier = threading.Barrier(3)

    def work(number: int) -> None:
        barrier.wait()
        for each in range(50):
            setting = Setting(f"made_{number}_{each}", int, ["user"], each)
            made.append(setting)
            if setting.get(user="jim") != each:
                wrong.append(setting.name)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    barrier.wait()
    for _ in range(20):
        with SyncStubHeksherClient(strict=True):
            wrong += [setting.name for setting in list(made) if not is_strict(setting)]
    with SyncStubHeksherClient(strict=True):
        for thread in threads:
            thread.join()
        wrong += [setting.name for setting in made if not is_strict(setting)]
    assert wrong == []
    assert len(made) == 100
    assert not any(published(setting).started for setting in made)


# --- the rank of rules ----------------------------------------------------------------------------

FEATURES = ["environment", "user", "theme"]


def ranked(order: list[str] | None, *conditions: dict[str, str | None]) -> None:
    """Assign rules with these conditions to a setting of a strict stub with this order."""
    setting = Setting("cache_ttl", int, FEATURES, 60)
    with SyncStubHeksherClient(context_features=order, strict=True) as stub:
        stub[setting].rules = 5
        before = published(setting)
        rules = [Rule(each, number) for number, each in enumerate(conditions)]
        try:
            stub[setting].rules = rules
        except InvalidArgumentError:
            assert published(setting) is before
            with pytest.raises(InvalidArgumentError):
                stub.patch(setting, rules)
            assert published(setting) is before
            raise


UNRANKED: list[tuple[list[str] | None, list[dict[str, str | None]], str]] = [
    (None, [{"user": "jim"}, {"theme": "dark"}], "'user' and 'theme'"),
    ([], [{"user": "jim"}, {"theme": "dark"}], "'user' and 'theme'"),
    (["environment", "user"], [{"user": "jim"}, {"theme": "dark"}], "'theme'"),
    (
        None,
        [{"user": "jim", "environment": "dev"}, {"user": "jim", "theme": "dark"}],
        "'environment' and 'theme'",
    ),
    (None, [{"user": "jim"}, {"user": "eve"}, {"theme": "dark"}], "'user' and 'theme'"),
    (
        None,
        [{"user": "jim"}, {"theme": "dark"}, {"theme": "dark", "user": "jim"}],
        "'user' and 'theme'",
    ),
]
RANKED: list[tuple[list[str] | None, list[dict[str, str | None]]]] = [
    # The order says which wins.
    (FEATURES, [{"user": "jim"}, {"theme": "dark"}, {"environment": "dev"}]),
    (["theme", "plan", "user"], [{"user": "jim"}, {"theme": "dark"}]),
    (
        ["user", "theme"],
        [{"environment": "dev", "user": "jim"}, {"environment": "dev", "theme": "a"}],
    ),
    # The one with more conditions wins in every order.
    (None, [{}, {"user": "jim"}, {"user": "jim", "theme": "dark"}]),
    (
        None,
        [{"user": None}, {"user": "jim", "environment": None}, {"user": "jim", "theme": "dark"}],
    ),
    (None, [{"user": "jim", "theme": "dark"}, {"user": "jim"}, {}]),
    # No context matches both.
    (None, [{"user": "jim", "theme": "dark"}, {"user": "eve", "environment": "dev"}]),
    (None, [{"user": "jim"}, {"user": "eve"}]),
]


@pytest.mark.parametrize(("order", "conditions", "features"), UNRANKED)
def test_rules_without_a_known_rank_are_refused(
    order: list[str] | None, conditions: list[dict[str, str | None]], features: str
) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        ranked(order, *conditions)
    message = str(caught.value)
    assert f"setting 'cache_ttl': the rank of {features} is unknown" in message
    for text in (str(conditions[0]), "heksher_features", "context_features="):
        assert text in message


@pytest.mark.parametrize(("order", "conditions"), RANKED)
def test_rules_with_a_known_rank_are_taken(
    order: list[str] | None, conditions: list[dict[str, str | None]]
) -> None:
    ranked(order, *conditions)


def test_a_lenient_stub_ranks_by_the_settings_own_order(ttl: Setting[int]) -> None:
    with SyncStubHeksherClient() as stub:
        stub[ttl].rules = [Rule({"user": "jim"}, 1), Rule({"theme": "dark"}, 2)]
        assert ttl.get(user="jim", theme="dark") == 2
