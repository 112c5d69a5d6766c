"""The types that checkers see for settings and their values. mypy and pyright check it; it never runs.

The last part has mistakes. Each checker expects an error there, and reports it if there is none.
"""

# pyright: reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

import typing
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from enum import Enum, IntEnum, IntFlag, StrEnum
from pathlib import Path
from typing import Any, Literal, assert_type

from heksher import (
    AsyncHeksherClient,
    Cohort,
    Explanation,
    HeksherEnum,
    HeksherFlags,
    HeksherMapping,
    HeksherSequence,
    Rule,
    Setting,
    SettingChanged,
    SettingType,
    Subscription,
    ThreadHeksherClient,
    ValueChanged,
    override,
)
from heksher.clients.stub import AsyncStubHeksherClient, SyncStubHeksherClient
from heksher.explanation import Candidate, ContextValue, ExplainedRule
from heksher.setting import Get
from heksher.setting_type import setting_type


class Shade(Enum):
    LIGHT = "light"
    DARK = 2


class Theme(StrEnum):
    BLUE = "blue"


class Level(IntEnum):
    LOW = 1


class Rights(IntFlag):
    READ = 1
    WRITE = 2


# --- primitives -----------------------------------------------------------------------------------

assert_type(Setting("x", int, ["user"], 1).get(user="a"), int)
assert_type(Setting("x", float, ["user"], 1.5).get(user="a"), float)
assert_type(Setting("x", float, ["user"], 1).get(user="a"), float)
assert_type(Setting("x", str, ["user"], "a").get(user="a"), str)
assert_type(Setting("x", bool, ["user"], True).get(user="a"), bool)

# --- enumerations and flags -----------------------------------------------------------------------

assert_type(Setting("x", Shade, ["user"], Shade.DARK).get(user="a"), Shade)
assert_type(Setting("x", Theme, ["user"], Theme.BLUE).get(user="a"), Theme)
assert_type(Setting("x", Level, ["user"], Level.LOW).get(user="a"), Level)
assert_type(Setting("x", Rights, ["user"], Rights.READ).get(user="a"), Rights)
assert_type(Setting("x", Rights, ["user"], Rights.READ | Rights.WRITE).get(user="a"), Rights)
assert_type(Setting("x", Rights, ["user"], Rights(0)).get(user="a"), Rights)
assert_type(Setting("x", HeksherEnum(Shade), ["user"], Shade.DARK).get(user="a"), Shade)
assert_type(Setting("x", HeksherFlags(Rights), ["user"], Rights.READ).get(user="a"), Rights)

# --- literals -------------------------------------------------------------------------------------

assert_type(Setting("x", Literal["a", "b"], ["user"], "a").get(user="a"), Literal["a", "b"])
assert_type(Setting("x", Literal["a"], ["user"], "a").get(user="a"), Literal["a"])
assert_type(Setting("x", Literal[1, 2], ["user"], 1).get(user="a"), Literal[1, 2])
assert_type(
    Setting("x", setting_type(Literal["a", 1]), ["user"], "a").get(user="a"), Literal["a", 1]
)

# --- sequences: values are tuples, which have no methods that change them --------------------------

assert_type(Setting("x", Sequence[int], ["user"], [1]).get(user="a"), Sequence[int])
assert_type(Setting("x", Sequence[int], ["user"], (1, 2)).get(user="a"), Sequence[int])
assert_type(Setting("x", list[int], ["user"], [1]).get(user="a"), Sequence[int])
assert_type(Setting("x", list[str], ["user"], []).get(user="a"), Sequence[str])
assert_type(Setting("x", tuple[int, ...], ["user"], (1, 2)).get(user="a"), Sequence[int])
assert_type(Setting("x", typing.List[int], ["user"], ()).get(user="a"), Sequence[int])  # noqa: UP006
assert_type(Setting("x", Sequence[float], ["user"], [1, 2.5]).get(user="a"), Sequence[float])
assert_type(Setting("x", Sequence[Shade], ["user"], [Shade.DARK]).get(user="a"), Sequence[Shade])
assert_type(
    Setting("x", Sequence[Literal["a", "b"]], ["user"], ["a"]).get(user="a"),
    Sequence[Literal["a", "b"]],
)
assert_type(Setting("x", HeksherSequence(int), ["user"], [1]).get(user="a"), Sequence[int])
assert_type(Setting("x", HeksherSequence(int), ["user"], ()).get(user="a"), Sequence[int])
assert_type(
    Setting("x", HeksherSequence(HeksherMapping(str)), ["user"], [{"a": "b"}]).get(user="a"),
    Sequence[Mapping[str, str]],
)

# --- mappings -------------------------------------------------------------------------------------

assert_type(Setting("x", Mapping[str, int], ["user"], {"a": 1}).get(user="a"), Mapping[str, int])
assert_type(Setting("x", dict[str, int], ["user"], {}).get(user="a"), Mapping[str, int])
assert_type(
    Setting("x", Mapping[str, Sequence[int]], ["user"], {"a": [1]}).get(user="a"),
    Mapping[str, Sequence[int]],
)
# Only the outermost type becomes immutable for checkers.
assert_type(
    Setting("x", dict[str, list[int]], ["user"], {"a": [1]}).get(user="a"), Mapping[str, list[int]]
)
assert_type(Setting("x", HeksherMapping(float), ["user"], {}).get(user="a"), Mapping[str, float])
assert_type(
    Setting("x", HeksherMapping(float), ["user"], {"a": 1}).get(user="a"), Mapping[str, float]
)
assert_type(
    Setting("x", HeksherMapping(Sequence[Theme]), ["user"], {"a": []}).get(user="a"),
    Mapping[str, Sequence[Theme]],
)

# --- other attributes of a setting ----------------------------------------------------------------

cache_ttl = Setting("cache_ttl", int, ["user"], 60)
assert_type(cache_ttl, Setting[int])
assert_type(cache_ttl.type, SettingType[int])
assert_type(cache_ttl.default_value, int)
ttl = cache_ttl.get
assert_type(ttl(user="a"), int)

tags = Setting("tags", list[str], ["user"], ["a"], {"owner": "me"}, "labels", "1.1", None)
assert_type(tags, Setting[Sequence[str]])
kept = tags.get
assert_type(kept(user="a"), Sequence[str])

assert_type(Setting("x", int, configurable_feature=["user"], default_value=1).get(user="a"), int)
assert_type(
    Setting(name="x", type=Shade, configurable_features=["user"], default_value=Shade.DARK).get(),
    Shade,
)


@cache_ttl.add_validator
def at_least_one(value: int, rule: object, setting: object) -> int:
    return max(value, 1)


def untyped(type_: Any, default_value: Any) -> object:
    """An unknown type accepts any default value, and `get` returns any value."""
    return Setting("x", type_, ["user"], default_value).get(user="a")


class OwnSetting(Setting[int]):
    """Subclasses of `Setting` are allowed."""


assert_type(OwnSetting("x", int, ["user"], 1).get(user="a"), int)

# --- types alone ----------------------------------------------------------------------------------

assert_type(setting_type(int), SettingType[int])
assert_type(setting_type(str), SettingType[str])
assert_type(setting_type(Shade), SettingType[Shade])
assert_type(setting_type(list[int]), SettingType[Sequence[int]])
assert_type(setting_type(tuple[int, ...]), SettingType[Sequence[int]])
assert_type(setting_type(Sequence[int]), SettingType[Sequence[int]])
assert_type(setting_type(dict[str, int]), SettingType[Mapping[str, int]])
assert_type(setting_type(Mapping[str, int]), SettingType[Mapping[str, int]])
assert_type(setting_type(HeksherSequence(int)), SettingType[Sequence[int]])
assert_type(HeksherSequence(int), HeksherSequence[int])
assert_type(HeksherSequence(HeksherEnum(Shade)), HeksherSequence[Shade])
assert_type(HeksherFlags(Rights).decode([], []), Rights)

# --- calls ----------------------------------------------------------------------------------------

user_id: str | None = None
cache_ttl.get(user=user_id)
cache_ttl.get(user=None)
cache_ttl.get(user=Theme.BLUE)
kept_get: Get[int] = cache_ttl.get
assert_type(kept_get(user=None), int)
wider: Get[object] = cache_ttl.get

# --- overrides ------------------------------------------------------------------------------------

with override(
    {
        cache_ttl: 5,
        Setting("x", str, ["theme"], "white"): [Rule({"theme": "dark", "user": None}, "black")],
    }
) as entered:
    assert_type(entered, None)
assert_type(Rule({}, 5), Rule[int])

# --- explanations ---------------------------------------------------------------------------------

explanation = cache_ttl.explain(user=None)
assert_type(explanation, Explanation[int])
assert_type(explanation.value, int)
assert_type(explanation.rule, ExplainedRule[int] | None)
assert_type(explanation.context, Mapping[str, ContextValue])
assert_type(explanation.candidates, tuple[Candidate[int], ...])
assert_type(cache_ttl.explain(5, user=user_id, limit="a").candidates[0].rule.value, int)

# --- listeners ------------------------------------------------------------------------------------


def value_changed(event: ValueChanged[int]) -> None:
    assert_type(event.setting, Setting[int])
    assert_type(event.old, int)
    assert_type(event.new, int)


def setting_changed(event: SettingChanged[Any]) -> int:
    return len(event.setting.name)


assert_type(cache_ttl.on_change(value_changed, user="a"), Subscription)
assert_type(cache_ttl.on_change(setting_changed), Subscription)
cache_ttl.on_change(setting_changed, user=None)
cache_ttl.on_change(lambda event: event.new + 1, user=user_id)
with cache_ttl.on_change(print) as subscription:
    assert_type(subscription, Subscription)
    subscription.cancel()


def configure(
    client: AsyncHeksherClient
    | ThreadHeksherClient
    | AsyncStubHeksherClient
    | SyncStubHeksherClient,
) -> None:
    required: ContextVar[str] = ContextVar("required")
    optional: ContextVar[str | None] = ContextVar("optional", default=None)
    client.set_defaults(environment="dev", theme=required, user=optional)
    client.set_defaults(cohort=Cohort("user", steps=[1, 100], salt="x", per_setting=False))
    client.on_change(lambda event: assert_type(event.names, tuple[str, ...]))
    assert_type(Cohort("user").value_of("jim", "cache_ttl"), str | None)


def assign(stub: SyncStubHeksherClient | AsyncStubHeksherClient) -> None:
    stub.set(cache_ttl, 5)
    stub.set(Setting("x", float, ["user"], 1.5), 1)
    stub.set(Setting("x", Sequence[int], ["user"], []), [1])
    stub.set(Setting("x", Shade, ["user"], Shade.DARK), Shade.LIGHT)


# --- mistakes -------------------------------------------------------------------------------------

Setting("x", int, ["user"], "a")  # type: ignore[type-var]
Setting("x", str, ["user"], 1)  # type: ignore[type-var]
Setting("x", bool, ["user"], "true")  # type: ignore[type-var]
Setting("x", Shade, ["user"], "light")  # type: ignore[type-var]
Setting("x", Rights, ["user"], "READ")  # type: ignore[type-var]
Setting("x", HeksherEnum(Shade), ["user"], "light")  # type: ignore[misc]
Setting("x", HeksherSequence(int), ["user"], ["a"])  # type: ignore[misc]
Setting("x", HeksherMapping(int), ["user"], {1: 1})  # type: ignore[misc]
Setting("x", Sequence[int], ["user"], 1)  # type: ignore[type-var]
Setting("x", Mapping[str, int], ["user"], [])  # type: ignore[arg-type]
Setting("x", Literal["a", "b"], ["user"], 1)  # type: ignore[call-overload]
Setting("x", int | None, ["user"], 1)  # type: ignore[arg-type]
Setting("x", int, ["user"])  # type: ignore[call-overload]
HeksherEnum(int)  # type: ignore[type-var]
HeksherFlags(Shade)  # type: ignore[type-var]
kept(user="a").append("b")  # type: ignore[attr-defined]
cache_ttl.get(user=5)  # type: ignore[arg-type]
kept_get(user=5)  # type: ignore[arg-type]
cache_ttl.get("a")  # type: ignore[call-arg]
cache_ttl.explain(user=5)  # type: ignore[arg-type]
cache_ttl.explain("a")  # type: ignore[arg-type]
override({"cache_ttl": 5})  # type: ignore[dict-item]
override(cache_ttl)  # type: ignore[arg-type]
cache_ttl.on_change(value_changed, user=5)  # type: ignore[call-overload]
Setting("x", str, ["user"], "a").on_change(value_changed, user="a")  # type: ignore[arg-type]
explanation.value = 5  # type: ignore[misc]
narrower: Get[str] = cache_ttl.get  # type: ignore[assignment]


ThreadHeksherClient("file:///settings.toml", 60, ["user"], overrides=Path("local.toml"))
AsyncHeksherClient("http://heksher", 60, ["user"], snapshot="rules", overrides="local.toml")
ThreadHeksherClient("http://heksher", 60, ["user"], overrides=b"local.toml")  # type: ignore[arg-type]


def misconfigure(client: AsyncHeksherClient | ThreadHeksherClient) -> None:
    number: ContextVar[int] = ContextVar("number")
    client.set_defaults(user=number)  # type: ignore[arg-type]
    client.set_defaults(user=None)  # type: ignore[arg-type]
    client.set_defaults(cohort=Cohort("user", steps=[0.5, 1]))  # type: ignore[list-item]
    client.set_defaults(cohort=Cohort("user", (1, 100)))  # type: ignore[call-arg]


def misassign(stub: SyncStubHeksherClient | AsyncStubHeksherClient) -> None:
    stub.set(cache_ttl, "5")  # type: ignore[misc]
    stub.set(cache_ttl, None)  # type: ignore[misc]
    stub.set(Setting("x", Sequence[int], ["user"], []), ["a"])  # type: ignore[misc]
    stub.set(Setting("x", Shade, ["user"], Shade.DARK), "light")  # type: ignore[misc]
