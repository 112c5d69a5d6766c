"""Make settings of this library from shapes.

Rules are published as a client publishes them after an update, so no service is needed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from heksher import Setting
from heksher._rules.contexts import Defaults
from heksher._rules.groups import grouped
from heksher._rules.table import RuleTable, TableRule
from heksher.setting import state_of
from machinery.shapes import FEATURES, Shape


def setting_of(shape: Shape) -> Setting[Any]:
    """Return a setting that has the rules of *shape*."""
    kind: type[Any] = int if isinstance(shape.default, int) else str
    setting: Setting[Any] = Setting(shape.name, kind, shape.features, shape.default)
    publish(setting, table_of(shape), shape)
    return setting


def publish(setting: Setting[Any], table: RuleTable[Any], shape: Shape) -> None:
    """Publish the rules of *shape*, which are in *table*, as a client does."""
    state = state_of(setting)
    state.publish(state.prepare(table, Defaults(shape.defaults)))


def table_of(shape: Shape, order: tuple[str, ...] = FEATURES) -> RuleTable[Any]:
    """Return the rule table of *shape*.

    Args:
        shape: the rules and the setting's default value.
        order: the service's features, in its order.
    """
    rules = tuple(
        TableRule(value, tuple(conditions.items()), number)
        for number, (conditions, value) in enumerate(shape.rules, 1)
    )
    # Clients pass rules by group, as they decode them.
    return RuleTable(shape.default, grouped(order, rules), order)


def checked(shape: Shape) -> dict[str, Any]:
    """Return ``ours`` and ``floor`` of *shape* as names for statements.

    Raises:
        AssertionError: one of them returns a wrong value.
    """
    names: Mapping[str, Any] = {"ours": setting_of(shape), "floor": shape.floor}
    for call in ("ours.get", "floor"):
        value = eval(f"{call}({shape.arguments})", dict(names))  # noqa: S307 - our own code
        if value != shape.value:
            raise AssertionError(f"{shape.title}: {call} returns {value!r}, not {shape.value!r}")
    return dict(names)
