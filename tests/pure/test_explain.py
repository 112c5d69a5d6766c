"""What an explanation says: its parts, its text and its JSON. Properties hold it against `get`."""

from __future__ import annotations

import gc
import json
import weakref
from contextvars import ContextVar
from dataclasses import replace
from enum import Enum
from typing import Any, cast

import pytest
from support.explained import check_text, failure
from support.published import publish, published

from heksher import Setting
from heksher._rules import explaining
from heksher._rules.contexts import Defaults
from heksher._rules.table import Provenance, RuleTable, TableRule
from heksher._rules.tracking import TRACK_ALL, Tracking
from heksher.clients.stub import Rule, SyncStubHeksherClient
from heksher.exceptions import InvalidArgumentError, MissingFeatureError
from heksher.explanation import Candidate, ContextValue, ExplainedRule, FeatureSource, Reason
from heksher.status import DataSource, RejectedRule

FEATURES = ("environment", "user", "theme")
RULES = (
    TableRule(1, (("environment", "dev"),), 11),
    TableRule(2, (("user", "jim"),), 12),
    TableRule(3, (("environment", "dev"), ("user", "eve")), 13),
    TableRule(4, (("environment", "prod"), ("theme", "dark")), 14),
)


def ttl_setting(**options: Any) -> Setting[int]:
    return Setting("cache_ttl", int, options.pop("features", FEATURES), 60)


def served(rules: tuple[TableRule[int], ...] = RULES, **provenance: Any) -> Setting[int]:
    setting = ttl_setting()
    origin = replace(Provenance(DataSource.SERVICE, has_service_default=True), **provenance)
    publish(setting, RuleTable(50, rules, FEATURES, origin))
    return setting


def rule_of(number: int) -> ExplainedRule[int]:
    (rule,) = (each for each in RULES if each.rule_id == number)
    return ExplainedRule(number, rule.conditions, rule.value)


def test_the_winner_the_context_and_the_candidates() -> None:
    setting = served()
    theme: ContextVar[str] = ContextVar("theme", default="dark")
    publish(
        setting, published(setting).table, Defaults().adding({"environment": "dev", "theme": theme})
    )
    explanation = setting.explain(user="jim")
    assert (explanation.setting, explanation.value) == ("cache_ttl", 2)
    assert (explanation.reason, explanation.source) == (Reason.RULE, DataSource.SERVICE)
    assert explanation.rule == rule_of(12)
    assert explanation.context == {
        "environment": ContextValue("dev", FeatureSource.CONSTANT),
        "user": ContextValue("jim", FeatureSource.ARGUMENT),
        "theme": ContextValue("dark", FeatureSource.CONTEXT_VARIABLE),
    }
    assert explanation.candidates == (
        Candidate(rule_of(12), None),
        Candidate(rule_of(11), None),
        Candidate(rule_of(14), ("environment", "prod")),
        Candidate(rule_of(13), ("user", "eve")),
    )
    assert explanation.more_candidates == 0
    assert (explanation.rejected_rules, explanation.rejected_count) == ((), 0)
    assert (explanation.untracked, explanation.is_tracking_all) == ((), True)


def test_its_text() -> None:
    reason = "default value: expected an integer"
    setting = served(
        rejected=(RejectedRule("cache_ttl", 15, reason),),
        rejected_count=3,
        tracking=Tracking().adding({"environment": "dev", "user": "jim", "theme": TRACK_ALL}),
    )
    assert str(setting.explain(environment="dev", user="jim", theme=None)) == (
        """\
setting   cache_ttl
value     2
reason    rule 12 wins
source    service
context   environment  argument  'dev'
          user         argument  'jim'
          theme        argument  None
rules     >  12  2  user='jim'
             11  1  environment='dev'
             13  3  not met: user='eve'; met: environment='dev'
unused    rule 15: default value: expected an integer
          and 2 more
tracking  only rules for tracked contexts are known (track_contexts)"""
    )
    assert str(setting.explain(0, environment="prod", user="joe", theme="dark")) == (
        """\
setting   cache_ttl
value     4
reason    rule 14 wins
source    service
context   environment  argument  'prod'
          user         argument  'joe'
          theme        argument  'dark'
rules     and 3 more that match or miss by one condition
unused    rule 15: default value: expected an integer
          and 2 more
tracking  environment and user are not tracked here: rules may be missing"""
    )


def test_the_text_has_whole_ids_of_users_and_not_all_rules_that_nearly_match() -> None:
    users = [f"3f2504e0-4f89-41d3-9a0c-0305e82c{number:04}" for number in range(50)]
    setting = served(tuple(TableRule(1, (("user", each),), 1000) for each in users))
    explanation = setting.explain(environment="dev", user=users[7], theme=None)
    lines = str(explanation).splitlines()
    assert f"          user         argument  '{users[7]}'" in lines
    start = lines.index(f"rules     >  1000  1  user='{users[7]}'")
    assert len(lines[start:]) == 21
    assert lines[-1] == "          and 30 more that match or miss by one condition"
    assert (len(explanation.candidates), explanation.more_candidates) == (50, 0)


def test_the_rules_of_many_winners_are_made_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explaining, "MOST_REMEMBERED", 2)
    setting = served(
        tuple(TableRule(each, (("user", f"u{each}"),), 100 + each) for each in range(5))
    )
    for each in (0, 0, 1, 2, 3, 4, 0, 1, 1):
        explanation = setting.explain(environment=None, user=f"u{each}", theme=None)
        assert explanation.rule == ExplainedRule(100 + each, (("user", f"u{each}"),), each)


def test_no_rule_matches() -> None:
    context = {"environment": "", "user": None, "theme": None}
    explanation = served(RULES[2:]).explain(**context)
    assert (explanation.reason, explanation.value) == (Reason.SERVICE_DEFAULT, 50)
    assert explanation.rule is None
    assert "no rule matches: the service's default value" in str(explanation)
    assert "none matches or misses by one condition" in str(explanation)
    without = served(has_service_default=False).explain(**context)
    assert (without.reason, without.source) == (Reason.LOCAL_DEFAULT, DataSource.SERVICE)
    assert "no rule matches: the default value of the declaration" in str(without)


def test_no_client_has_started() -> None:
    explanation = ttl_setting().explain(user="jim")
    assert (explanation.value, explanation.reason) == (60, Reason.NOT_STARTED)
    assert explanation.source is DataSource.DEFAULTS
    assert explanation.context["theme"] == ContextValue(None, FeatureSource.MISSING)
    assert explanation.context["user"] == ContextValue("jim", FeatureSource.ARGUMENT)
    assert "no client has started: the default value of the declaration" in str(explanation)


def test_a_rule_without_conditions() -> None:
    setting = served((TableRule(7, (), 9),))
    explanation = setting.explain(environment=None, user=None, theme=None)
    assert explanation.rule == ExplainedRule(9, (), 7)
    assert "no condition" in str(explanation)


def test_it_does_not_change_later() -> None:
    setting = served()
    arguments = {"environment": "dev", "user": "jim", "theme": None}
    explanation = setting.explain(**arguments)
    publish(setting, RuleTable(0, (), FEATURES))
    assert explanation.rule == rule_of(12)
    assert len(explanation.candidates) == 3
    assert explanation.candidates is explanation.candidates
    with pytest.raises(AttributeError):
        explanation.value = 3  # type: ignore[misc]
    assert setting.explain(**arguments).value == 0


def test_nothing_of_a_table_is_kept_once_it_is_replaced() -> None:
    setting = served()

    value = cast(Any, frozenset([5]))  # which can be referred to weakly
    publish(setting, RuleTable(60, (TableRule(value, (("user", "jim"),)),), FEATURES))
    gone = weakref.ref(value)
    del value
    assert len(setting.explain(environment="dev", user="jim", theme=None).candidates) == 1
    publish(setting, RuleTable(0, (), FEATURES))
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize("limit", [-1, 1.5, True, None])
def test_an_invalid_limit_is_refused(limit: Any) -> None:
    with pytest.raises(
        InvalidArgumentError, match=r"'cache_ttl': invalid limit .*expected 0 or more"
    ):
        ttl_setting().explain(limit)


def test_features_may_have_the_names_of_parameters() -> None:
    setting: Setting[int] = Setting("cache_ttl", int, ["self", "limit", "contexts", "class"], 60)
    context = setting.explain(3, self="a", limit="b", contexts="c", **{"class": "d"}).context
    assert [each.value for each in context.values()] == ["a", "b", "c", "d"]


def test_an_error_is_that_of_get_and_names_no_other_one() -> None:
    setting = served()
    with pytest.raises(MissingFeatureError) as caught:
        setting.explain(user="jim")
    assert caught.value.__context__ is None
    assert failure(setting.explain, usr="jim") == failure(setting.get, usr="jim")


def test_a_publish_between_two_errors_hides_none() -> None:
    """What `explain` found missing may not be missing for `get` a moment later."""
    setting = served()

    def publish_defaults(*_: object) -> str:
        publish(setting, RuleTable(0, (), FEATURES), started=False)
        return "x"

    proxy: Any = _Proxy(publish_defaults)
    with pytest.raises(MissingFeatureError, match="'theme'"):
        setting.explain(environment=proxy, user="jim")


class _Proxy:
    """An object that is a string to ``isinstance``, and calls a function when it is converted."""

    def __init__(self, function: Any) -> None:
        self._function = function

    __class__ = str  # type: ignore[assignment]

    def __str__(self) -> str:
        return cast(str, self._function())


class Color(Enum):
    RED = "red"


def test_values_that_json_does_not_have_become_texts() -> None:
    setting = Setting("color", Color, ["user"], Color.RED)
    odd = cast(Color, {1, float("nan")})
    rules = tuple(
        TableRule(value, (("user", name),), number)
        for number, (name, value) in enumerate({"a": Color.RED, "b": odd}.items())
    )
    publish(setting, RuleTable(Color.RED, rules, ("user",)))
    shown = setting.explain(user="b").as_dict()
    assert json.loads(json.dumps(shown, allow_nan=False)) == {
        "setting": "color",
        "value": shown["value"],
        "reason": "rule",
        "source": "defaults",
        "rule": {"rule_id": 1, "conditions": {"user": "b"}, "value": shown["value"]},
        "context": {"user": {"value": "b", "source": "argument"}},
        "candidates": [
            {"rule_id": 1, "conditions": {"user": "b"}, "value": shown["value"], "unmet": None},
            {"rule_id": 0, "conditions": {"user": "a"}, "value": "red", "unmet": {"user": "a"}},
        ],
        "more_candidates": 0,
        "rejected_rules": [],
        "rejected_count": 0,
        "untracked": [],
        "is_tracking_all": True,
    }
    assert shown["value"] in ("{1, nan}", "{nan, 1}")


STRANGE = ["\x1b[2J\n", "\u202eabc", "日本語" * 40, "x" * 500, "\ud800", "e\u0301" * 60, ""]


@pytest.mark.parametrize("text", STRANGE, ids=ascii)
def test_the_texts_of_strangers_are_harmless(text: str) -> None:
    setting = Setting("greeting", str, ["user", "a_feature_with_a_rather_long_name"], "hello")
    rules = tuple(
        TableRule(text, (("user", user),), number) for number, user in enumerate([text, "b"])
    )
    origin = Provenance(rejected=(RejectedRule("greeting", 5, text),), rejected_count=10**6)
    features = tuple(setting.configurable_features)
    publish(setting, RuleTable(text, rules, features, origin))
    explanation = setting.explain(user=text, a_feature_with_a_rather_long_name=text)
    check_text(str(explanation))
    assert repr(explanation).isprintable()
    json.dumps(explanation.as_dict())


def test_stubs() -> None:
    setting = ttl_setting()
    with SyncStubHeksherClient("http://heksher", 60, FEATURES) as client:
        client.set_defaults(environment="dev", theme="dark")
        client[setting].rules = [Rule({"user": "jim"}, 5), Rule({}, 7)]
        explanation = setting.explain(user="jim")
        assert explanation.rule == ExplainedRule(None, (("user", "jim"),), 5)
        assert explanation.source is DataSource.SERVICE
        assert "reason    a rule wins" in str(explanation)
        client[setting].rules = []
        assert setting.explain(user="jim").reason is Reason.LOCAL_DEFAULT
    assert setting.explain(user="jim").reason is Reason.NOT_STARTED
