"""Defaults of context features, tracking, and the check of a list of features."""

from __future__ import annotations

from collections.abc import Iterator
from contextvars import ContextVar, copy_context
from enum import Enum, StrEnum
from typing import Any

import pytest
from support.property_helpers import admits
from werkzeug.local import LocalProxy

from heksher import ThreadHeksherClient
from heksher._rules.contexts import Defaults, checked_features, current_value
from heksher._rules.tracking import TRACK_ALL, Tracking
from heksher._wire import encode_context_filters
from heksher.clients.stub import SyncStubHeksherClient
from heksher.exceptions import InvalidArgumentError

# --- defaults -------------------------------------------------------------------------------------


def test_a_feature_without_a_default_has_no_value() -> None:
    assert Defaults().source_of("user") is None


@pytest.mark.parametrize("constant", ["dev", ""], ids=repr)
def test_a_constant_is_the_value(constant: str) -> None:
    defaults = Defaults().adding({"environment": constant})
    assert defaults.source_of("environment") == constant
    assert defaults.known_values() == {"environment": (constant,)}
    assert current_value(constant) == constant


def test_a_context_variable_is_read_at_every_call() -> None:
    theme: ContextVar[str | None] = ContextVar("theme")
    defaults = Defaults().adding({"theme": theme})
    assert defaults.known_values() == {}
    assert defaults.source_of("theme") is theme
    assert current_value(theme) is ...

    token = theme.set("dark")
    assert current_value(theme) == "dark"

    def elsewhere() -> object:
        theme.set(None)
        return current_value(theme)

    assert copy_context().run(elsewhere) is None
    assert current_value(theme) == "dark"
    theme.reset(token)
    assert current_value(theme) is ...


def test_a_context_variables_own_default_counts_while_it_is_unset() -> None:
    theme = ContextVar("theme", default="plain")
    assert current_value(theme) == "plain"

    def elsewhere() -> object:
        theme.set("dark")
        return current_value(theme)

    assert copy_context().run(elsewhere) == "dark"


def test_a_constant_of_a_subclass_becomes_the_string_that_it_is() -> None:
    class Old(str, Enum):  # noqa: UP042 - its str() is not its value
        DEV = "dev"

    for given in (Theme.DARK, Old.DEV):
        ((constant,),) = Defaults().adding({"theme": given}).known_values().values()
        assert type(constant) is str
        assert constant == given.value


def test_adding_leaves_the_defaults_before_as_they_were() -> None:
    before = Defaults().adding({"environment": "dev"})
    after = before.adding({"user": "jim"})
    assert before.known_values() == {"environment": ("dev",)}
    assert after.known_values() == {"environment": ("dev",), "user": ("jim",)}


def test_a_second_default_for_a_feature_is_refused() -> None:
    defaults = Defaults().adding({"environment": "dev"})
    with pytest.raises(ValueError, match=r"'environment'.*'dev'.*'prod'") as caught:
        defaults.adding({"user": "jim", "environment": "prod"})
    assert isinstance(caught.value, InvalidArgumentError)
    assert defaults.known_values() == {"environment": ("dev",)}


@pytest.mark.parametrize(
    "source",
    # A proxy passes for a string, but its value may be another one at the next call.
    [None, 5, b"dev", ["dev"], str, LocalProxy(lambda: "jim")],
    ids=lambda source: type(source).__name__,
)
def test_a_default_that_is_neither_a_string_nor_a_variable_is_refused(source: Any) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        Defaults().adding({"environment": source})
    for part in ("'environment'", repr(source), type(source).__name__, "string", "ContextVar"):
        assert part in str(caught.value)


# --- tracking -------------------------------------------------------------------------------------


class Theme(StrEnum):
    DARK = "dark"


def generated() -> Iterator[str]:
    yield "jim"
    yield "joe"


def test_with_nothing_tracked_everything_is() -> None:
    tracking = Tracking()
    assert tracking.covers("user", "jim")
    assert admits(tracking, [("user", "jim"), ("theme", "dark")])
    assert encode_context_filters(tracking.as_lists()) is None


@pytest.mark.parametrize(
    ("given", "covered", "left_out"),
    [
        pytest.param("jim", ["jim"], ["joe", "*", "j"], id="one value"),
        pytest.param(["jim", "joe"], ["jim", "joe"], ["jane"], id="list"),
        pytest.param({"jim", "joe"}, ["jim", "joe"], ["jane"], id="set"),
        pytest.param(generated(), ["jim", "joe"], ["jane"], id="generator"),
        pytest.param([], [], ["jim", ""], id="no value"),
        pytest.param("", [""], ["jim"], id="empty value"),
        pytest.param(Theme.DARK, ["dark"], ["light"], id="StrEnum"),
        pytest.param(TRACK_ALL, ["jim", "joe", ""], [], id="TRACK_ALL"),
        pytest.param(["jim", TRACK_ALL], ["jim", "joe"], [], id="TRACK_ALL in a list"),
    ],
)
def test_each_form_covers_its_values(given: Any, covered: list[str], left_out: list[str]) -> None:
    tracking = Tracking().adding({"user": given})
    assert [value for value in covered if not tracking.covers("user", value)] == []
    assert [value for value in left_out if tracking.covers("user", value)] == []
    assert not tracking.covers("theme", "dark")


def test_a_rule_is_admitted_only_if_every_condition_is_tracked() -> None:
    tracking = Tracking().adding({"user": ["jim", "joe"], "theme": TRACK_ALL})
    assert admits(tracking, [("user", "jim"), ("theme", "anything")])
    assert admits(tracking, [("theme", "anything")])
    assert admits(tracking, [])
    assert not admits(tracking, [("user", "jane"), ("theme", "anything")])
    assert not admits(tracking, [("environment", "dev"), ("user", "jim")])


def test_calls_add_up() -> None:
    first = Tracking().adding({"user": "jim"})
    second = first.adding({"user": ["joe"], "theme": TRACK_ALL}).adding({"theme": TRACK_ALL})
    assert [user for user in ("jim", "joe", "jane") if second.covers("user", user)] == [
        "jim",
        "joe",
    ]
    assert second.covers("theme", "dark")
    assert not second.covers("environment", "dev")
    # The first one has not changed.
    assert not first.covers("user", "joe")
    assert not first.covers("theme", "dark")


@pytest.mark.parametrize(
    ("one", "other"),
    [("jim", TRACK_ALL), (TRACK_ALL, ["jim"]), ([], TRACK_ALL)],
    ids=["values, then all", "all, then values", "none, then all"],
)
def test_all_and_single_values_of_a_feature_exclude_each_other(one: Any, other: Any) -> None:
    tracking = Tracking().adding({"user": one})
    with pytest.raises(InvalidArgumentError, match=r"'user'.*not both"):
        tracking.adding({"user": other})


@pytest.mark.parametrize(
    ("given", "named"),
    [(5, "5"), (None, "None"), ([5], "5"), ([None, "jim"], "None"), (b"ab", "97")],
    ids=repr,
)
def test_a_tracked_value_that_is_no_string_is_refused(given: Any, named: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        Tracking().adding({"user": given})
    assert "user" in str(caught.value)
    assert named in str(caught.value)
    assert "string" in str(caught.value)


@pytest.mark.parametrize(
    ("contexts", "text"),
    [
        pytest.param({"user": "jim"}, "user:(jim)", id="one value"),
        pytest.param({"user": {"joe", "jim"}}, "user:(jim,joe)", id="values are sorted"),
        pytest.param({"user": TRACK_ALL}, "user:*", id="all values"),
        pytest.param(
            {"user": TRACK_ALL, "environment": ["dev"]},
            "environment:(dev),user:*",
            id="features are sorted",
        ),
        pytest.param({"user": ["jim", "a b", "é", "*)"]}, "user:(jim)", id="no rule has these"),
        pytest.param({"user": ["a-b"], "theme": "dark"}, "theme:(dark)", id="nothing usable"),
        pytest.param({"user": []}, "", id="nothing at all, which passes no rule"),
    ],
)
def test_the_filter_is_the_querys(contexts: dict[str, Any], text: str) -> None:
    assert encode_context_filters(Tracking().adding(contexts).as_lists()) == text


@pytest.mark.parametrize("feature", ["my_feature", "user2", "UPPER", "Mixed", "_", "é", "a b"])
def test_no_filter_is_sent_if_the_service_would_misread_the_feature(feature: str) -> None:
    tracking = Tracking().adding({feature: "x", "user": "jim"})
    assert encode_context_filters(tracking.as_lists()) is None
    # The client applies it instead.
    assert admits(tracking, [(feature, "x")])
    assert not admits(tracking, [(feature, "y")])


# --- lists of features ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given",
    [["b", "a"], ("b", "a"), {"b": 1, "a": 2}, iter(["b", "a"])],
    ids=["list", "tuple", "dict", "iterator"],
)
def test_a_list_of_features_keeps_its_order(given: Any) -> None:
    assert checked_features(given) == ("b", "a")


@pytest.mark.parametrize(
    ("given", "parts"),
    [
        pytest.param("user", ["'user'", "['user']"], id="one string"),
        pytest.param([], ["at least one"], id="empty"),
        pytest.param(None, ["None", "list of names"], id="None"),
        pytest.param(5, ["5", "list of names"], id="number"),
        pytest.param(["user", 5], ["5", "int", "string"], id="no string"),
        pytest.param([None], ["None", "string"], id="None in it"),
        pytest.param(["user", "theme", "user"], ["'user'", "twice"], id="twice"),
        pytest.param(["my-user"], ["'my-user'", "letters, digits and underscores"], id="bad name"),
        pytest.param([""], ["''", "letters"], id="empty name"),
        pytest.param(["user\n"], ["'user\\n'", "letters"], id="line feed"),
        pytest.param(["a.b"], ["'a.b'", "letters"], id="dot"),
    ],
)
def test_an_unusable_list_of_features_is_refused(given: Any, parts: list[str]) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        checked_features(given)
    for part in parts:
        assert part in str(caught.value)


@pytest.mark.parametrize("kind", [ThreadHeksherClient, SyncStubHeksherClient])
def test_a_feature_may_be_named_self(kind: type[Any]) -> None:
    client = kind("http://service.test", 60, ["self"])
    client.set_defaults(self="a")
    client.track_contexts(self="a")
    with pytest.raises(ValueError, match="'self' already has the default 'a'"):
        client.set_defaults(self="b")
    client.close()
