"""Rules that an application gives to a setting, for a stub or for an override, and what they stand for.

Pure. Knows neither stubs nor overrides.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

from heksher._rules.contexts import plain_string
from heksher._rules.table import TableRule
from heksher._text import joined
from heksher.exceptions import InvalidArgumentError
from heksher.setting import Setting

# Covariant, so that a rule with a list fits a setting of sequences. Rules are not changed.
T_co = TypeVar("T_co", covariant=True)


@dataclass
class Rule(Generic[T_co]):
    """A rule for an override or a stub: gives a setting another value where all conditions are met.

    ``Rule({"user": "jim"}, 30)`` answers 30 to ``get(user="jim")``.

    Attributes:
        match_conditions: the value that each context feature must have. None sets no condition on the
            feature, as if it were not listed.
        value: the value of the setting where the rule wins.
    """

    match_conditions: Mapping[str, str | None]
    value: T_co


Rule.__module__ = "heksher"  # users find it here


def rules_from(
    setting: Setting[Any],
    given: object,
    convert: Callable[[object, tuple[tuple[str, str], ...]], Any],
) -> list[TableRule[Any]]:
    """Return the rules for what was given to a setting: rules, or one value.

    Args:
        setting: the setting.
        given: the rules, or the value.
        convert: returns what the setting answers for a value that was given, and its conditions.

    Raises:
        InvalidArgumentError: these cannot be rules of this setting.
    """
    if not _is_rules(setting, given):
        return [TableRule(convert(given, ()), ())]
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
        value = convert(cast(Rule[object], rule).value, conditions)
        rules.append(TableRule(value, conditions))
    return rules


def _is_rules(setting: Setting[Any], given: object) -> bool:
    """Whether *given* is a collection of rules and not a value. Its first element decides."""
    if isinstance(given, (str, bytes, Mapping)) or not isinstance(given, Collection):
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
