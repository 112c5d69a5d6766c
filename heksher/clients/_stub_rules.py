"""What a test may assign to a setting of a stub, and the rules that it stands for.

Pure. Knows neither the settings that have rules of a stub nor the stubs.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Generic, TypeVar, cast
from unittest.mock import NonCallableMock

from heksher._rules.contexts import plain_string
from heksher._rules.table import TableRule
from heksher._text import joined
from heksher.exceptions import InvalidArgumentError
from heksher.setting import Setting

# Covariant, so that a rule with a list fits a setting of sequences. Rules are not changed.
T_co = TypeVar("T_co", covariant=True)


@dataclass
class Rule(Generic[T_co]):
    """A rule for a stub: gives a setting another value in every context that meets all conditions.

    ``Rule({"user": "jim"}, 30)`` answers 30 to ``get(user="jim")``.

    Attributes:
        match_conditions: the value that each context feature must have. None sets no condition on the
            feature, as if it were not listed.
        value: the value of the setting where the rule wins.
    """

    match_conditions: Mapping[str, str | None]
    value: T_co


def rules_from(setting: Setting[Any], given: object) -> tuple[TableRule[Any], ...]:
    """Return the rules for what a test assigned: rules, or one value.

    Raises:
        InvalidArgumentError: these cannot be rules of this setting.
    """
    if not _is_rules(setting, given):
        return (TableRule(_as_answered(setting, given), ()),)
    rules: list[TableRule[Any]] = []
    seen: set[frozenset[tuple[str, str]]] = set()
    for rule in cast(Collection[object], given):
        if not isinstance(rule, Rule):
            raise _mixed(setting, rule)
        conditions = _conditions_of(setting, cast(Rule[object], rule))
        if frozenset(conditions) in seen:
            raise InvalidArgumentError(
                f"setting {setting.name!r}: two rules have the same conditions "
                f"{dict(conditions)!r}: leave one out, since only one can win"
            )
        seen.add(frozenset(conditions))
        value = _as_answered(setting, cast(Rule[object], rule).value)
        rules.append(TableRule(value, conditions))
    return tuple(rules)


def refuse_unranked(
    setting: Setting[Any], rules: Sequence[TableRule[Any]], order: Collection[str]
) -> None:
    """Refuse rules of which the service's order decides, where that order is not known.

    Of two rules that match one context, the one with the latest feature that the other lacks wins. If
    all conditions of one are also on features of the other, that is the other, in every order.

    Args:
        setting: the setting.
        rules: its rules.
        order: the context features whose rank is known.

    Raises:
        InvalidArgumentError: one context can match two rules, and either may win.
    """
    if set(setting.configurable_features) <= set(order):
        return
    for first, second in combinations([dict(rule.conditions) for rule in rules], 2):
        if first.keys() <= second.keys() or second.keys() <= first.keys():
            continue
        unknown = (first.keys() ^ second.keys()) - set(order)
        if unknown and all(first[each] == second[each] for each in first.keys() & second.keys()):
            names = [repr(each) for each in setting.configurable_features if each in unknown]
            raise InvalidArgumentError(
                f"setting {setting.name!r}: the rank of {joined(names)} is unknown, and it "
                f"decides between the rules {first!r} and {second!r}: list the service's context "
                "features, in its order, in pytest's option heksher_features, in "
                "@pytest.mark.heksher_stub(features=[...]), or in the stub's context_features="
            )


def _is_rules(setting: Setting[Any], given: object) -> bool:
    """Whether *given* is a collection of rules and not a value. Its first element decides."""
    # A mock looks like an empty collection.
    if isinstance(given, (str, bytes, Mapping, NonCallableMock)) or not isinstance(
        given, Collection
    ):
        return False
    elements = cast(Collection[object], given)
    if len(elements) == 0:
        return not _can_encode(setting, elements)
    if isinstance(next(iter(elements)), Rule):
        return True
    if isinstance(elements, (list, tuple)) and any(isinstance(each, Rule) for each in elements):
        raise _mixed(setting, elements[0])
    return False


def _mixed(setting: Setting[Any], element: object) -> InvalidArgumentError:
    return InvalidArgumentError(
        f"setting {setting.name!r}: {element!r} is among rules: "
        "expected either nothing but rules, or one value"
    )


def _conditions_of(setting: Setting[Any], rule: Rule[object]) -> tuple[tuple[str, str], ...]:
    if not isinstance(rule.match_conditions, Mapping):
        raise InvalidArgumentError(
            f"setting {setting.name!r}: invalid conditions {rule.match_conditions!r} of a rule: "
            "expected a mapping of context features to values"
        )
    conditions: list[tuple[str, str]] = []
    for feature, value in rule.match_conditions.items():
        if feature not in setting.configurable_features:
            raise InvalidArgumentError(
                f"setting {setting.name!r}: invalid condition on {feature!r}: expected one of "
                f"the setting's features, {joined(setting.configurable_features)}"
            )
        if value is None:
            continue
        if not isinstance(value, str):
            raise InvalidArgumentError(
                f"setting {setting.name!r}: invalid condition {feature}={value!r}: "
                "expected a string, or None for no condition on the feature"
            )
        conditions.append((feature, plain_string(value)))
    return tuple(conditions)


def _can_encode(setting: Setting[Any], value: object) -> bool:
    try:
        setting.type.encode(value)
    except (TypeError, ValueError):
        return False
    return True


def _as_answered(setting: Setting[Any], value: object) -> object:
    """Return *value* as it would be from the service, or unchanged if the setting's type has no such."""
    if isinstance(value, NonCallableMock):  # with a spec it may pass for a value of any type
        return value
    try:
        return setting.type.decode(setting.type.encode(value), [])
    except (TypeError, ValueError):
        return value
