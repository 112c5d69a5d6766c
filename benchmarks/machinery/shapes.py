"""The scenarios: settings with rules, a call of each, and the same call as a function written by hand.

That function is the *floor*. It has its rules in dicts, in the form that suits the call best, and cannot
be updated. Each benchmark says how many times as long as its floor something takes.

Knows nothing of heksher, so that other libraries can be measured with it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

#: The context features in the service's order: a rule on a later one wins.
FEATURES = ("environment", "user", "theme")

#: In the floors: not in this dict.
NOTHING = object()

theme: ContextVar[str] = ContextVar("theme", default="bright")
visitor: ContextVar[Any] = ContextVar("visitor", default=None)

#: The highest ratios to a floor that meet the targets: a rule matches, no rule matches, values are None.
HIT, MISS, NONE = (1.7, 1.75, 2.5) if sys.version_info < (3, 12) else (1.5, 1.5, 2.5)

Rules = tuple[tuple[Mapping[str, str], Any], ...]


@dataclass(frozen=True)
class Shape:
    """One setting and one call of it.

    Attributes:
        title: its name in the table.
        name: the setting's name.
        features: the setting's features.
        default: the setting's default value; its type is the setting's type.
        rules: the conditions and the value of each rule.
        arguments: the arguments of the call, as Python source.
        value: the value that the call returns.
        floor: the function written by hand; it takes the same arguments.
        at_most: the highest ratio to the floor that meets the target; None without a target.
        defaults: the client's defaults for features that the call omits.
    """

    title: str
    name: str
    features: tuple[str, ...]
    default: Any
    rules: Rules
    arguments: str
    value: Any
    floor: Callable[..., Any]
    at_most: float | None
    defaults: Mapping[str, str | ContextVar[str]] = field(default_factory=dict[str, Any])


def _ttl_floor() -> Callable[..., int]:
    by_user = {"jim": 5, **{f"user{number}": number for number in range(5)}}

    def get(*, user: str | None = None) -> int:
        return by_user.get(user, 60)  # type: ignore[arg-type]

    return get


def _variable_ttl_floor() -> Callable[..., int]:
    by_user = {"jim": 5, **{f"user{number}": number for number in range(5)}}
    variable = visitor

    def get(*, user: str | None = None) -> int:
        return by_user.get(variable.get() if user is None else user, 60)

    return get


def _color_floor() -> Callable[..., str]:
    by_theme = {"dark": "black", "blue": "grey"}
    variable = theme

    def get(*, theme: str | None = None) -> str:
        return by_theme.get(variable.get() if theme is None else theme, "white")

    return get


def _one_floor() -> Callable[..., int]:
    by_user = {f"user{number}": number for number in range(10)}

    def get(*, user: str | None = None) -> int:
        return by_user.get(user, 0)  # type: ignore[arg-type]

    return get


def _two_floor() -> Callable[..., int]:
    by_user: dict[Any, Any] = {f"user{number}": number for number in range(5)}
    by_environment: dict[Any, int] = {f"env{number}": 10 + number for number in range(5)}

    def get(*, environment: str | None = None, user: str | None = None) -> int:
        value = by_user.get(user, NOTHING)
        if value is not NOTHING:
            return value  # type: ignore[no-any-return]
        return by_environment.get(environment, 0)

    return get


def _three_floor() -> Callable[..., int]:
    by_theme_and_user: dict[Any, Any] = {
        (f"theme{number}", "user1"): 20 + number for number in range(3)
    }
    by_user: dict[Any, Any] = {f"user{number}": number for number in range(4)}
    by_environment: dict[Any, int] = {f"env{number}": 10 + number for number in range(3)}

    def get(
        *, environment: str | None = None, user: str | None = None, theme: str | None = None
    ) -> int:
        value = by_theme_and_user.get((theme, user), NOTHING)
        if value is not NOTHING:
            return value  # type: ignore[no-any-return]
        value = by_user.get(user, NOTHING)
        if value is not NOTHING:
            return value  # type: ignore[no-any-return]
        return by_environment.get(environment, 0)

    return get


_INTRODUCTION: Mapping[str, str | ContextVar[str]] = {"environment": "dev", "theme": theme}
_TTL_RULES: Rules = (
    ({"user": "jim"}, 5),
    *(({"environment": "dev", "user": f"user{number}"}, number) for number in range(5)),
    *(({"environment": "prod", "user": f"user{number}"}, 100) for number in range(5)),
)
_COLOR_RULES: Rules = (
    ({"theme": "dark"}, "black"),
    ({"environment": "dev", "theme": "blue"}, "grey"),
    ({"environment": "prod", "theme": "blue"}, "navy"),
)

#: An application's two settings. The environment has a constant default, the theme a context variable.
INTRODUCTION = (
    Shape(
        "cache_ttl.get(user=...), a rule matches",
        "cache_ttl",
        ("environment", "user"),
        60,
        _TTL_RULES,
        "user='jim'",
        5,
        _ttl_floor(),
        HIT,
        _INTRODUCTION,
    ),
    Shape(
        "cache_ttl.get(user=...), no rule matches",
        "cache_ttl",
        ("environment", "user"),
        60,
        _TTL_RULES,
        "user='eve'",
        60,
        _ttl_floor(),
        MISS,
        _INTRODUCTION,
    ),
    Shape(
        "background_color.get(), a context variable",
        "background_color",
        ("environment", "theme"),
        "white",
        _COLOR_RULES,
        "",
        "white",
        _color_floor(),
        MISS,
        _INTRODUCTION,
    ),
)

#: Ten rules each, and no constant default that could be folded.
BY_NUMBER_OF_FEATURES = (
    Shape(
        "one feature, 10 rules",
        "one_feature",
        ("user",),
        0,
        tuple(({"user": f"user{number}"}, number) for number in range(10)),
        "user='user3'",
        3,
        _one_floor(),
        HIT,
    ),
    Shape(
        "two features, 10 rules",
        "two_features",
        ("environment", "user"),
        0,
        (
            *(({"user": f"user{number}"}, number) for number in range(5)),
            *(({"environment": f"env{number}"}, 10 + number) for number in range(5)),
        ),
        "environment='env3', user='eve'",
        13,
        _two_floor(),
        HIT,
    ),
    Shape(
        "three features, 10 rules",
        "three_features",
        FEATURES,
        0,
        (
            *(({"user": f"user{number}"}, number) for number in range(4)),
            *(({"environment": f"env{number}"}, 10 + number) for number in range(3)),
            *(({"theme": f"theme{number}", "user": "user1"}, 20 + number) for number in range(3)),
        ),
        "environment='env2', user='eve', theme='theme1'",
        12,
        _three_floor(),
        HIT,
    ),
)

#: Anonymous users: None is a value that meets no condition.
NO_VALUE = (
    Shape(
        "cache_ttl.get(user=None)",
        "cache_ttl",
        ("environment", "user"),
        60,
        _TTL_RULES,
        "user=None",
        60,
        _ttl_floor(),
        NONE,
        _INTRODUCTION,
    ),
    Shape(
        "cache_ttl.get(), a context variable that holds None",
        "cache_ttl",
        ("environment", "user"),
        60,
        _TTL_RULES,
        "",
        60,
        _variable_ttl_floor(),
        NONE,
        {"environment": "dev", "user": visitor},
    ),
    Shape(
        "three features, 10 rules, all None",
        BY_NUMBER_OF_FEATURES[-1].name,
        FEATURES,
        0,
        BY_NUMBER_OF_FEATURES[-1].rules,
        "environment=None, user=None, theme=None",
        0,
        _three_floor(),
        NONE,
    ),
)


def of_size(rules: int) -> Shape:
    """Return a shape with one feature and *rules* rules."""
    table = {f"user{number}": number for number in range(rules)}

    def floor(*, user: str | None = None) -> int:
        return table.get(user, 0)  # type: ignore[arg-type]

    return Shape(
        f"{rules:,} rules",
        f"with_{rules}_rules",
        ("user",),
        0,
        tuple(({"user": user}, number) for user, number in table.items()),
        "user='user3'",
        3,
        floor,
        None,
    )
