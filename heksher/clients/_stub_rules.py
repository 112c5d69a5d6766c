"""What a test may assign to a setting of a stub, and the rules that it stands for.

Pure. Knows neither the settings that have rules of a stub nor the stubs.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import combinations
from typing import Any
from unittest.mock import NonCallableMock

from heksher._given_rules import rules_from
from heksher._rules.table import TableRule
from heksher._text import joined
from heksher.exceptions import InvalidArgumentError
from heksher.setting import Setting


def assigned_rules(setting: Setting[Any], given: object) -> tuple[TableRule[Any], ...]:
    """Return the rules for what a test assigned: rules, or one value.

    Raises:
        InvalidArgumentError: these cannot be rules of this setting.
    """
    if isinstance(given, NonCallableMock):  # it looks like an empty collection
        return (TableRule(given, ()),)
    return tuple(rules_from(setting, given, lambda value, _: _as_answered(setting, value)))


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


def _as_answered(setting: Setting[Any], value: object) -> object:
    """Return *value* as it would be from the service, or unchanged if the setting's type has no such."""
    if isinstance(value, NonCallableMock):  # with a spec it may pass for a value of any type
        return value
    try:
        return setting.type.decode(setting.type.encode(value), [])
    except (TypeError, ValueError):
        return value
