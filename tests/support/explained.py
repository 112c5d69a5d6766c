"""Hold `Setting.explain` against `Setting.get` and against a plain reading of the rules."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import Context
from typing import Any

from heksher import Setting
from heksher._rules.table import RuleTable, TableRule
from heksher._text import width_of
from heksher.explanation import Candidate, Explanation, Reason
from support.published import published


def failure(
    call: Callable[..., object], *arguments: Any, **contexts: Any
) -> tuple[type, str] | None:
    """Return the type and the text of what a call raises; None if it returns."""
    try:
        call(*arguments, **contexts)
    except Exception as error:
        return type(error), str(error)
    return None


def check_explanation(
    setting: Setting[Any], arguments: dict[str, Any], inside: Context | None = None
) -> None:
    """Check that `explain` raises what `get` raises, and explains the value that it returns."""
    inside = Context() if inside is None else inside
    failed = failure(inside.run, setting.get, **arguments)
    assert failure(inside.run, setting.explain, **arguments) == failed
    if failed:
        return
    explanation: Explanation[Any] = inside.run(setting.explain, **arguments)
    assert explanation.value is inside.run(setting.get, **arguments)
    table = published(setting).table
    context = {feature: each.value for feature, each in explanation.context.items()}
    assert [*context] == [*setting.configurable_features]
    rules = without_duplicates(table)
    unmet = {
        rule: [each for each in rule.conditions if context[each[0]] != each[1]] for rule in rules
    }
    matching = [rule for rule in rules if not unmet[rule]]
    near = [rule for rule in rules if len(unmet[rule]) == 1]
    assert (explanation.reason is Reason.OVERRIDE) == table.provenance.is_override
    if matching:
        assert explanation.reason in (Reason.RULE, Reason.OVERRIDE)
        assert explanation.rule is not None
        assert (explanation.rule.rule_id, explanation.rule.value) == (
            matching[0].rule_id,
            matching[0].value,
        )
        assert set(explanation.rule.conditions) == set(matching[0].conditions)
    else:
        assert explanation.reason is not Reason.RULE
        assert explanation.rule is None
        assert explanation.value is table.default
    found = explanation.candidates
    assert explanation.more_candidates == 0
    listed = [simple(each) for each in found]
    assert listed[: len(matching)] == [(r.rule_id, r.value, None) for r in matching]
    # Rules with conditions on the same features have one priority, in any order.
    ranks = [rank_of(table, each) for each in found[len(matching) :]]
    assert ranks == sorted(ranks, reverse=True)
    expected = [(r.rule_id, r.value, unmet[r][0]) for r in near]
    assert sorted(listed[len(matching) :], key=repr) == sorted(expected, key=repr)

    some = inside.run(setting.explain, 2, **arguments)
    assert [simple(each) for each in some.candidates] == listed[:2]
    assert some.more_candidates == max(0, len(listed) - 2)


def simple(candidate: Candidate[Any]) -> tuple[int | None, Any, tuple[str, str] | None]:
    """Return a candidate's rule, value, and the condition that is not met."""
    return candidate.rule.rule_id, candidate.rule.value, candidate.unmet


def without_duplicates(table: RuleTable[Any]) -> list[TableRule[Any]]:
    """Return the rules of a table by priority; of rules with the same conditions the first one wins."""
    rules: dict[frozenset[tuple[str, str]], TableRule[Any]] = {}
    for rule in sorted(table.rules, key=table.priority, reverse=True):
        rules.setdefault(frozenset(rule.conditions), rule)
    return [*rules.values()]


def rank_of(table: RuleTable[Any], candidate: Candidate[Any]) -> tuple[int, ...]:
    rule = candidate.rule
    return table.priority(TableRule(rule.value, rule.conditions))[0]


def check_text(text: str) -> None:
    """Check that no line is too wide, and that all are harmless to a terminal."""
    for line in text.split("\n"):
        assert width_of(line) <= 80
        assert line.isprintable()
        assert line == line.rstrip()
