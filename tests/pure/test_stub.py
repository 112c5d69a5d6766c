"""Stub clients as unit tests use them: rules in every form, and what is restored at the end."""

from __future__ import annotations

import dataclasses
import gc
import threading
import unittest.mock
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar, copy_context
from enum import Enum, IntFlag, StrEnum, auto
from typing import Any
from unittest.mock import AsyncMock, MagicMock, Mock

import pytest
from support.harness import AsyncioHarness, Harness, TrioHarness
from support.published import published

from heksher import Setting, _registry, testing
from heksher.clients.stub import AsyncStubHeksherClient, Rule, SyncStubHeksherClient
from heksher.exceptions import InvalidArgumentError, MissingFeatureError
from heksher.status import DataSource

EVE = {"user": "eve", "theme": "dark"}


@pytest.fixture
def ttl() -> Setting[int]:
    return Setting("cache_ttl", int, ["user", "theme"], 60)


def strict(setting: Setting[Any]) -> bool:
    """Return whether a feature without a value is an error, as with a started client."""
    try:
        setting.get()
    except MissingFeatureError:
        return True
    return False


# --- giving rules ---------------------------------------------------------------------------------


def test_a_plain_value_holds_in_every_context(ttl: Setting[int]) -> None:
    with SyncStubHeksherClient() as client:
        client[ttl].rules = 5
        assert ttl.get(**EVE) == 5
        assert ttl.get(user="jim", theme="light") == 5
    assert ttl.get(**EVE) == 60


@pytest.mark.parametrize("kind", [list, tuple])
def test_rules_decide_by_context(
    ttl: Setting[int], kind: Callable[[list[Rule[int]]], list[Rule[int]]]
) -> None:
    with SyncStubHeksherClient() as client:
        client[ttl].rules = kind(
            [
                Rule({"user": "jim"}, 1),
                Rule({"theme": "dark"}, 2),
                Rule({"user": "jim", "theme": "dark"}, 3),
            ]
        )
        assert ttl.get(user="jim", theme="light") == 1
        assert ttl.get(user="eve", theme="dark") == 2
        assert ttl.get(user="jim", theme="dark") == 3
        assert ttl.get(user="eve", theme="light") == 60


def test_a_rule_is_made_by_position_or_by_name_and_compares_by_value() -> None:
    assert Rule({"user": "jim"}, 1) == Rule(match_conditions={"user": "jim"}, value=1)
    assert Rule({"user": "jim"}, 1) != Rule({"user": "eve"}, 1)


def test_a_condition_of_none_wants_nothing(ttl: Setting[int]) -> None:
    with SyncStubHeksherClient() as client:
        client[ttl].rules = [Rule({"user": None, "theme": "dark"}, 1), Rule({"user": None}, 2)]
        assert ttl.get(user="jim", theme="dark") == 1
        assert ttl.get(user="jim", theme="light") == 2


def test_members_of_a_string_enumeration_are_conditions(ttl: Setting[int]) -> None:
    class User(StrEnum):
        JIM = "jim"

    with SyncStubHeksherClient() as client:
        client[ttl].rules = [Rule({"user": User.JIM}, 1)]
        assert ttl.get(user="jim", theme="dark") == 1


def test_a_kept_get_sees_the_rules(ttl: Setting[int]) -> None:
    get = ttl.get
    with SyncStubHeksherClient() as client:
        client[ttl].rules = 5
        assert get(**EVE) == 5
    assert get(**EVE) == 60


def test_the_latest_feature_ranks_highest_in_the_clients_order(ttl: Setting[int]) -> None:
    rules = [Rule({"user": "jim"}, 1), Rule({"theme": "dark"}, 2)]
    for client, expected in [
        (SyncStubHeksherClient(), 2),
        (SyncStubHeksherClient("http://heksher", 60, ["theme", "user"]), 1),
        (SyncStubHeksherClient(context_features=("theme", "user")), 1),
        (SyncStubHeksherClient("http://heksher", 60, ["plan", "theme"]), 1),  # user follows them
        (SyncStubHeksherClient("http://heksher", 60, ["user"]), 2),
        (SyncStubHeksherClient("http://heksher", 60, "theme"), 2),
        (SyncStubHeksherClient(1, 2, MagicMock(), 4, any=5), 2),
    ]:
        with client:
            client[ttl].rules = rules
            assert ttl.get(user="jim", theme="dark") == expected


def test_where_no_rule_matches_the_default_is_the_one_before(ttl: Setting[int]) -> None:
    with SyncStubHeksherClient() as outer, SyncStubHeksherClient() as inner:
        outer[ttl].rules = 5
        inner[ttl].rules = [Rule({"user": "jim"}, 1)]
        assert ttl.get(**EVE) == 60


def test_an_empty_collection_means_no_rules(ttl: Setting[int]) -> None:
    with SyncStubHeksherClient() as client:
        client[ttl].rules = 5
        client[ttl].rules = []
        assert ttl.get(**EVE) == 60
        assert strict(ttl)


def test_what_the_type_cannot_hold_is_answered_as_it_is(ttl: Setting[int]) -> None:
    number = Mock(spec=int)
    text = Setting("text", str, ["user"], "")
    ratio = Setting("ratio", float, ["user"], 0.5)
    things: list[Any] = [
        None,
        object(),
        MagicMock(),
        number,
        "five",
        "",
        {},
        {"a": 1},
        [1, 2],
        True,
    ]
    with SyncStubHeksherClient() as client:
        for thing in things:
            client[ttl].rules = thing
            assert ttl.get(**EVE) is thing
            client[ttl].rules = [Rule({}, thing)]
            assert ttl.get(**EVE) is thing
        client[text].rules = word = MagicMock(spec=str)
        client[ratio].rules = fraction = MagicMock(spec=float)
        assert text.get(user="jim") is word
        assert ratio.get(user="jim") is fraction


def test_what_the_type_can_hold_is_what_the_service_would_send() -> None:
    class Number(int):
        pass

    ratio = Setting("ratio", float, ["user"], 0.5)
    count = Setting("count", int, ["user"], 0)
    with SyncStubHeksherClient() as client:
        client[ratio].rules = 1
        assert type(ratio.get(user="jim")) is float
        client[count].rules = [Rule({}, Number(7))]
        assert count.get(user="jim") == 7
        assert type(count.get(user="jim")) is int


def test_values_with_parts() -> None:
    class Mode(Enum):
        FAST = "fast"
        SAFE = "safe"

    class Channel(IntFlag):
        MAIL = auto()
        PUSH = auto()

    mode = Setting("mode", Mode, ["user"], Mode.SAFE)
    channels = Setting("channels", Channel, ["user"], Channel.MAIL)
    sizes = Setting("sizes", Sequence[int], ["user"], [1])
    limits = Setting("limits", Mapping[str, int], ["user"], {"a": 1})
    with SyncStubHeksherClient() as client:
        client[mode].rules = Mode.FAST
        assert mode.get(user="jim") is Mode.FAST
        for value in (Channel.MAIL | Channel.PUSH, Channel(0)):
            client[channels].rules = value
            assert channels.get(user="jim") == value
        given_list, given_mapping = [2, 3], {"b": 2}
        client[sizes].rules = given_list
        client[limits].rules = [Rule({"user": "jim"}, given_mapping)]
        given_list.append(4)
        given_mapping["b"] = 5
        assert sizes.get(user="jim") == (2, 3)
        assert limits.get(user="jim") == {"b": 2}
        assert limits.get(user="eve") == {"a": 1}
        # Here, empty containers are values, and do not mean "no rules".
        client[sizes].rules = []
        client[limits].rules = {}
        assert sizes.get(user="jim") == ()
        assert limits.get(user="jim") == {}
        # A setting of sequences may have several rules, too.
        client[sizes].rules = [Rule({"user": "jim"}, [5]), Rule({}, [])]
        assert (sizes.get(user="jim"), sizes.get(user="eve")) == ((5,), ())


def test_a_value_that_is_a_string_is_no_collection() -> None:
    text = Setting("text", str, ["user"], "default")
    with SyncStubHeksherClient() as client:
        client[text].rules = ""
        assert text.get(user="jim") == ""


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        ([Rule({"plan": "free"}, 1)], ["'plan'", "user and theme"]),
        ([Rule({"plan": None}, 1)], ["'plan'"]),
        ([Rule({"user": 5}, 1)], ["user=5", "a string"]),  # type: ignore[dict-item]
        ([Rule([("user", "jim")], 1)], ["a mapping"]),  # type: ignore[arg-type]
        ([Rule({}, 1), 2], ["2 is among rules"]),
        ([2, Rule({}, 1)], ["2 is among rules"]),
        ([Rule({}, 1), Rule({}, 2)], ["same conditions"]),
        (
            [
                Rule({"user": "jim", "theme": "dark"}, 1),
                Rule({"theme": "dark", "user": "jim"}, 2),
            ],
            ["same conditions", "'jim'"],
        ),
        ([Rule({"user": "jim", "theme": None}, 1), Rule({"user": "jim"}, 2)], ["same conditions"]),
    ],
)
def test_rules_that_cannot_be_are_refused_and_change_nothing(
    ttl: Setting[int], rules: Any, said: list[str]
) -> None:
    with SyncStubHeksherClient() as client:
        before = published(ttl)
        for give in (
            lambda: setattr(client[ttl], "rules", rules),
            lambda: client.patch(ttl, rules),
        ):
            with pytest.raises(InvalidArgumentError) as caught:
                give()
            assert [text for text in ["'cache_ttl'", *said] if text not in str(caught.value)] == []
            assert published(ttl) is before


def test_only_settings_can_be_stubbed() -> None:
    client = SyncStubHeksherClient()
    nothing: Any = "cache_ttl"
    with pytest.raises(InvalidArgumentError, match=r"'cache_ttl': expected a heksher\.Setting"):
        client[nothing]
    with pytest.raises(InvalidArgumentError, match=r"'cache_ttl': expected a heksher\.Setting"):
        client.patch(nothing, 5)


def test_set_gives_one_value_for_every_context(ttl: Setting[int]) -> None:
    sizes = Setting("sizes", Sequence[int], ["user"], [1])
    with SyncStubHeksherClient() as client:
        client.set(ttl, 5)
        client.set(sizes, [2, 3])
        assert ttl.get(**EVE) == 5
        assert sizes.get(user="jim") == (2, 3)
        client.set(ttl, 6)
        assert ttl.get(**EVE) == 6
        nothing: Any = "cache_ttl"
        with pytest.raises(InvalidArgumentError, match=r"expected a heksher\.Setting"):
            client.set(nothing, 5)
    assert ttl.get() == 60
    assert sizes.get() == (1,)


# --- context --------------------------------------------------------------------------------------


def test_a_setting_counts_as_started_from_its_first_rules_on(ttl: Setting[int]) -> None:
    other = Setting("other", int, ["user"], 1)
    with SyncStubHeksherClient() as client:
        assert ttl.get() == 60
        client[ttl].rules = 5
        with pytest.raises(MissingFeatureError, match="'user'"):
            ttl.get(theme="dark")
        with pytest.raises(TypeError, match="'plan'"):
            ttl.get(plan="free")
        assert other.get() == 1
    assert ttl.get() == 60


def test_defaults_count_for_rules_given_before_and_after(ttl: Setting[int]) -> None:
    theme: ContextVar[str] = ContextVar("theme")
    other = Setting("other", int, ["user"], 1)
    untouched = Setting("untouched", int, ["user"], 2)
    with SyncStubHeksherClient() as client:
        client[ttl].rules = [Rule({"user": "jim", "theme": "dark"}, 5)]
        client.set_defaults(user="jim", theme=theme)
        client[other].rules = [Rule({"user": "jim"}, 6)]
        inside = copy_context()
        inside.run(theme.set, "dark")
        assert inside.run(ttl.get) == 5
        assert inside.run(ttl.get, user="eve") == 60
        assert other.get() == 6
        with pytest.raises(MissingFeatureError, match="'theme'"):
            ttl.get()
        assert untouched.get() == 2
    assert ttl.get() == 60


def test_a_second_default_for_a_feature_is_refused(ttl: Setting[int]) -> None:
    with SyncStubHeksherClient() as client:
        client.set_defaults(user="jim")
        with pytest.raises(ValueError, match="'user' already has the default 'jim'"):
            client.set_defaults(theme="dark", user="eve")
        client[ttl].rules = 5
        with pytest.raises(MissingFeatureError, match="'theme'"):
            ttl.get()


def test_what_a_stub_has_no_use_for_is_taken(ttl: Setting[int]) -> None:
    with SyncStubHeksherClient("http://heksher", 60, ["user"], http_client_args={"verify": 1}) as c:
        c.track_contexts(user="jim", theme=["dark"], plan=object())
        c.add_settings([ttl])
        c.add_settings(None)
    assert ttl.get() == 60


# --- removing rules -------------------------------------------------------------------------------


def test_a_patch_counts_from_the_call_on_and_until_it_is_left(ttl: Setting[int]) -> None:
    with SyncStubHeksherClient() as client:
        patch = client.patch(ttl, 5)
        assert ttl.get(**EVE) == 5
        with patch:
            assert ttl.get(**EVE) == 5
        assert ttl.get() == 60
        with patch:  # a patch that has ended does nothing
            assert ttl.get() == 60


def test_patches_of_one_setting_nest(ttl: Setting[int]) -> None:
    with SyncStubHeksherClient() as client:
        client[ttl].rules = 4
        with client.patch(ttl, 5):
            with client.patch(ttl, [Rule({"user": "eve"}, 6)]):
                assert ttl.get(**EVE) == 6
            assert ttl.get(**EVE) == 5
        assert ttl.get(**EVE) == 4


def test_a_patch_need_not_be_left(ttl: Setting[int]) -> None:
    with SyncStubHeksherClient() as client:
        client.patch(ttl, 5)
        assert ttl.get(**EVE) == 5
    assert ttl.get() == 60


def test_a_patch_is_left_when_its_block_raises(ttl: Setting[int]) -> None:
    with SyncStubHeksherClient() as client:
        with pytest.raises(KeyError), client.patch(ttl, 5):
            raise KeyError
        assert ttl.get() == 60


def test_of_patches_that_overlap_the_newest_one_counts(ttl: Setting[int]) -> None:
    with SyncStubHeksherClient() as client:
        first, second = client.patch(ttl, 5), client.patch(ttl, 6)
        first.__exit__(None, None, None)
        assert ttl.get(**EVE) == 6
        second.__exit__(None, None, None)
        assert ttl.get() == 60


def test_leaving_a_patch_takes_back_what_was_assigned_inside(ttl: Setting[int]) -> None:
    with SyncStubHeksherClient() as client:
        client[ttl].rules = 4
        with client.patch(ttl, 5):
            client[ttl].rules = 6
            client[ttl].rules = 7
            assert ttl.get(**EVE) == 7
        assert ttl.get(**EVE) == 4


def test_leaving_a_patch_leaves_alone_what_is_not_on_top_of_it(ttl: Setting[int]) -> None:
    with SyncStubHeksherClient() as outer, SyncStubHeksherClient() as inner:
        nothing = outer[ttl].rules
        with outer.patch(ttl, 5):
            inner[ttl].rules = 6
        assert ttl.get(**EVE) == 6
        with outer.patch(ttl, 7):
            outer[ttl].rules = nothing
            outer[ttl].rules = 8
        assert ttl.get(**EVE) == 8


def test_an_assignment_takes_the_place_of_the_one_before(ttl: Setting[int]) -> None:
    with SyncStubHeksherClient() as client:
        for value in (5, 6, 7):
            client[ttl].rules = value
            assert ttl.get(**EVE) == value
    assert ttl.get() == 60


def test_what_was_read_can_be_assigned_back(ttl: Setting[int]) -> None:
    with SyncStubHeksherClient() as client:
        nothing = client[ttl].rules
        client[ttl].rules = 5
        five = client[ttl].rules
        client[ttl].rules = 6
        six = client[ttl].rules
        for saved, expected in [(five, 5), (six, 6), (five, 5)]:
            client[ttl].rules = saved
            assert ttl.get(**EVE) == expected
        client[ttl].rules = nothing
        assert ttl.get() == 60
        client[ttl].rules = nothing
        client[ttl].rules = six
        assert ttl.get(**EVE) == 6
    assert ttl.get() == 60


def test_what_was_read_belongs_to_its_setting(ttl: Setting[int]) -> None:
    other = Setting("other", int, ["user"], 1)
    with SyncStubHeksherClient() as client:
        saved = client[other].rules
        assert "'other'" in repr(saved)
        assert "'cache_ttl'" in repr(client[ttl])
        with pytest.raises(InvalidArgumentError, match=r"'cache_ttl'.*'other'"):
            client[ttl].rules = saved


def test_pytests_monkeypatch(ttl: Setting[int]) -> None:
    with SyncStubHeksherClient() as client:
        for _ in range(2):
            with pytest.MonkeyPatch.context() as outer:
                outer.setattr(client[ttl], "rules", [Rule({"user": "eve"}, 5)])
                assert ttl.get(**EVE) == 5
                with pytest.MonkeyPatch.context() as inner:
                    inner.setattr(client[ttl], "rules", 6)
                    inner.setattr(client[ttl], "rules", 7)
                    assert ttl.get(**EVE) == 7
                assert ttl.get(**EVE) == 5
            assert ttl.get() == 60


def test_the_mock_modules_patch_object(ttl: Setting[int]) -> None:
    with SyncStubHeksherClient() as client:
        with unittest.mock.patch.object(client[ttl], "rules", 5):
            assert ttl.get(**EVE) == 5
            with unittest.mock.patch.object(client[ttl], "rules", [Rule({"user": "eve"}, 6)]):
                assert ttl.get(**EVE) == 6
            assert ttl.get(**EVE) == 5
            client[ttl].rules = 7
            assert ttl.get(**EVE) == 7
        assert ttl.get() == 60


def test_patch_object_on_one_stubbed_setting_that_is_kept(ttl: Setting[int]) -> None:
    with SyncStubHeksherClient() as client:
        kept = client[ttl]
        kept.rules = 4
        patch = unittest.mock.patch.object(kept, "rules", 5)
        for _ in range(2):
            with patch, unittest.mock.patch.object(kept, "rules", 6):
                assert ttl.get(**EVE) == 6
            assert ttl.get(**EVE) == 4
        with patch:
            kept.rules = 7
            assert ttl.get(**EVE) == 7
        assert ttl.get(**EVE) == 4


def test_patch_object_left_in_another_order(ttl: Setting[int]) -> None:
    with SyncStubHeksherClient() as client:
        client[ttl].rules = 4
        first = unittest.mock.patch.object(client[ttl], "rules", 5)
        second = unittest.mock.patch.object(client[ttl], "rules", 6)
        first.start()
        second.start()
        first.stop()
        assert ttl.get(**EVE) == 4
        second.stop()
        assert ttl.get(**EVE) == 4


def test_only_what_was_assigned_can_be_deleted(ttl: Setting[int]) -> None:
    with SyncStubHeksherClient() as client:
        client[ttl].rules = 5
        with pytest.raises(AttributeError):
            del client[ttl].rules
        assert ttl.get(**EVE) == 5
        kept = client[ttl]
        kept.rules = 6
        kept.rules = 7
        del kept.rules
        assert ttl.get(**EVE) == 5


# --- the end of a stub ----------------------------------------------------------------------------


def test_leaving_restores_what_was_published_before(ttl: Setting[int]) -> None:
    other = Setting("other", int, ["user"], 1)
    before = (published(ttl), published(other))
    with SyncStubHeksherClient() as client:
        client[ttl].rules = 5
        client[other].rules = [Rule({"user": "jim"}, 6)]
        client[other].rules = 7
    assert (published(ttl), published(other)) == before
    assert published(ttl) is before[0]


def test_leaving_by_an_error_restores_as_well(ttl: Setting[int]) -> None:
    client = SyncStubHeksherClient()
    client[ttl].rules = 5
    with pytest.raises(KeyError), client:
        raise KeyError
    assert ttl.get() == 60
    assert _registry.main() is None


def test_closing_restores_and_can_be_repeated(ttl: Setting[int]) -> None:
    client = SyncStubHeksherClient()
    client.set_as_main()
    client[ttl].rules = 5
    client.close()
    assert ttl.get() == 60
    assert _registry.main() is None
    client.close()
    assert client.close.call_count == 2
    assert ttl.get() == 60


def test_a_stub_that_a_test_gave_another_close_is_left_all_the_same(ttl: Setting[int]) -> None:
    with SyncStubHeksherClient() as client:
        client[ttl].rules = 5
        client.close = MagicMock()
    client.close.assert_called_once_with()
    assert ttl.get() == 60
    client = SyncStubHeksherClient()
    client[ttl].rules = 5
    client.close.side_effect = OSError("it hangs")
    with pytest.raises(OSError, match="it hangs"), client:
        assert ttl.get(**EVE) == 5
    assert ttl.get() == 60
    assert _registry.main() is None


def test_rules_may_come_before_the_stub_is_the_main_client(ttl: Setting[int]) -> None:
    client = SyncStubHeksherClient()
    client[ttl].rules = 5
    assert ttl.get(**EVE) == 5
    client.set_as_main()
    client.set_as_main()
    assert ttl.get(**EVE) == 5
    client.close()
    assert ttl.get() == 60


def test_a_stub_can_be_used_again(ttl: Setting[int]) -> None:
    client = SyncStubHeksherClient()
    client.set_defaults(user="jim")
    for value in (5, 6):
        with client:
            client[ttl].rules = value
            assert ttl.get(theme="dark") == value
        assert ttl.get() == 60
        assert _registry.main() is None
    client[ttl].rules = 7
    assert ttl.get(theme="dark") == 7
    client.close()
    assert ttl.get() == 60


def test_resets_leave_nothing_behind_for_stubs_that_were_closed() -> None:
    """Only the garbage collector removes a stub, and resets must not take longer until then."""
    for _ in range(10):
        with SyncStubHeksherClient():
            pass
    gc.collect()
    gc.disable()
    try:
        stubs = [SyncStubHeksherClient() for _ in range(10)]
        before = len(gc.get_objects())
        for _ in range(10):
            testing.reset()
        assert len(gc.get_objects()) - before < len(stubs)
    finally:
        gc.enable()


def test_nested_stubs_restore_in_order(ttl: Setting[int]) -> None:
    with SyncStubHeksherClient() as outer:
        outer.set_defaults(user="eve", theme="dark")
        outer[ttl].rules = 5
        first = _registry.main()
        with SyncStubHeksherClient() as inner:
            assert _registry.main() is not first
            assert ttl.get() == 5
            inner[ttl].rules = 6
            assert strict(ttl)
            assert ttl.get(**EVE) == 6
            outer[ttl].rules = 7
            assert ttl.get() == 7
            inner[ttl].rules = 8
        assert ttl.get() == 7
        assert _registry.main() is first
    assert ttl.get() == 60
    assert published(ttl).started is False
    assert _registry.main() is None


def test_stubs_closed_in_another_order(ttl: Setting[int]) -> None:
    first, second, third = (SyncStubHeksherClient() for _ in range(3))
    for value, client in enumerate((first, second, third)):
        client.set_as_main()
        client[ttl].rules = value
    place = _registry.main()
    second.close()
    first.close()
    assert ttl.get(**EVE) == 2
    assert _registry.main() is place
    third.close()
    assert ttl.get() == 60
    assert _registry.main() is None


def test_a_stub_that_is_closed_in_between_leaves_the_line(ttl: Setting[int]) -> None:
    with SyncStubHeksherClient():
        place = _registry.main()
        one, other = SyncStubHeksherClient(), SyncStubHeksherClient()
        one.set_as_main()
        other.set_as_main()
        one.close()
        other.close()
        assert _registry.main() is place

        one.set_as_main()
        other.set_as_main()
        one.set_as_main()
        one.close()
        other.close()
        assert _registry.main() is place


def test_a_stub_that_becomes_main_again_stands_in_line_once(ttl: Setting[int]) -> None:
    one, other = SyncStubHeksherClient(), SyncStubHeksherClient()
    one.set_as_main()
    place_of_one = _registry.main()
    other.set_as_main()
    place_of_other = _registry.main()
    one.set_as_main()
    assert _registry.main() is place_of_one
    one.close()
    assert _registry.main() is place_of_other
    one.set_as_main()
    other.close()
    one.close()
    assert _registry.main() is None


def test_nothing_comes_back_after_the_end(ttl: Setting[int]) -> None:
    client = SyncStubHeksherClient()
    client.set_as_main()
    kept = client[ttl]
    nothing = kept.rules
    monkeypatch = pytest.MonkeyPatch()
    first = client.patch(ttl, 5)
    five = client[ttl].rules
    patched = unittest.mock.patch.object(client[ttl], "rules", 6)
    patched.start()
    monkeypatch.setattr(client[ttl], "rules", 7)
    second = client.patch(ttl, 8)
    kept.rules = 9
    nine = kept.rules
    client.close()
    assert ttl.get() == 60

    def undo_all() -> None:
        first.__exit__(None, None, None)
        monkeypatch.undo()
        second.__exit__(None, None, None)
        patched.stop()
        del kept.rules
        for saved in (five, nine, nothing):
            client[ttl].rules = saved

    with SyncStubHeksherClient() as next_one:
        next_one[ttl].rules = 1
        undo_all()
        assert ttl.get(**EVE) == 1
    assert ttl.get() == 60


@pytest.mark.parametrize(
    "order", [(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)]
)
@pytest.mark.parametrize("is_closed_after", [0, 1, 2, 3])
def test_patches_are_left_in_any_order(
    ttl: Setting[int], order: tuple[int, int, int], is_closed_after: int
) -> None:
    client = SyncStubHeksherClient()
    client.set_as_main()
    client[ttl].rules = 5
    patches = [client.patch(ttl, number) for number in range(3)]
    left: set[int] = set()
    for step, number in enumerate(order):
        if step == is_closed_after:
            client.close()
        patches[number].__exit__(None, None, None)
        left.add(number)
        if step >= is_closed_after:
            assert ttl.get() == 60
        else:
            assert ttl.get(**EVE) == max({0, 1, 2} - left, default=5)
    client.close()
    assert ttl.get() == 60


def test_a_setting_made_inside_is_an_ordinary_one_afterwards() -> None:
    with SyncStubHeksherClient() as client:
        made = Setting("made", int, ["user"], 1)
        client[made].rules = 2
        assert made.get(user="jim") == 2
    assert made.get() == 1


def test_patches_in_several_threads(ttl: Setting[int]) -> None:
    others = [Setting(f"other_{number}", int, ["user"], number) for number in range(4)]
    wrong: list[object] = []
    barrier = threading.Barrier(len(others))

    def work(setting: Setting[int]) -> None:
        barrier.wait()
        for value in range(100, 400):
            with client.patch(setting, value), client.patch(ttl, value):
                if setting.get(user="jim") != value:
                    wrong.append((setting, value))
                if not 100 <= ttl.get(**EVE) < 400:
                    wrong.append((ttl, value))
            client.set_defaults(**{f"{setting.name}_{value}": "x"})

    with SyncStubHeksherClient() as client:
        threads = [threading.Thread(target=work, args=(setting,)) for setting in others]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []
        assert [setting.get() for setting in (ttl, *others)] == [60, 0, 1, 2, 3]


# --- mocks ----------------------------------------------------------------------------------------


def test_the_calls_of_a_sync_stub_can_be_asserted() -> None:
    with SyncStubHeksherClient() as client:
        client.reload.assert_not_called()
        client.reload()
        client.ping()
        client.ping()
        client.close.assert_not_called()
    client.reload.assert_called_once_with()
    assert client.ping.call_count == 2
    client.close.assert_called_once_with()
    other = SyncStubHeksherClient()
    other.ping.side_effect = ConnectionError
    with pytest.raises(ConnectionError):
        other.ping()


def test_a_test_can_give_a_stub_another_status() -> None:
    with SyncStubHeksherClient() as client:
        client.status = dataclasses.replace(client.status, source=DataSource.DEFAULTS)
        assert not client.status.is_ready
        assert SyncStubHeksherClient().status.is_ready


@pytest.mark.parametrize("harness", [AsyncioHarness, TrioHarness], ids=lambda each: each.name)
def test_an_async_stub(ttl: Setting[int], harness: type[Harness]) -> None:
    async def main() -> None:
        async with AsyncStubHeksherClient("http://heksher", 60, ["theme", "user"]) as client:
            client.set_defaults(user="jim")
            client[ttl].rules = [Rule({"user": "jim"}, 1), Rule({"theme": "dark"}, 2)]
            assert ttl.get(theme="dark") == 1
            with client.patch(ttl, 5):
                assert ttl.get(theme="dark") == 5
            await client.reload()
            await client.ping()
            client.aclose.assert_not_awaited()
        assert _registry.main() is None
        assert ttl.get() == 60
        client.reload.assert_awaited_once_with()
        client.ping.assert_awaited_once_with()
        client.aclose.assert_awaited_once_with()

        await client.set_as_main()
        client[ttl].rules = 6
        await client.aclose()
        assert ttl.get() == 60

        async with AsyncStubHeksherClient() as client:
            client[ttl].rules = 7
            client.aclose = AsyncMock()
        assert ttl.get() == 60

    harness().run(main)


def test_close_of_an_async_stub_is_deprecated(ttl: Setting[int]) -> None:
    async def main() -> None:
        client = AsyncStubHeksherClient()
        await client.set_as_main()
        client[ttl].rules = 5
        with pytest.warns(DeprecationWarning, match="await aclose"):
            await client.close()
        client.aclose.assert_awaited_once_with()
        assert ttl.get() == 60

    AsyncioHarness().run(main)
