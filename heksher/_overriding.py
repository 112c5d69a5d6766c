"""`override`: other values for settings while a block runs, whichever client or stub serves them."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from heksher import _registry
from heksher._application_code import ApplicationCodeError, call_application
from heksher._given_rules import rules_from
from heksher._layers import changing, covered, put_on_top, renew
from heksher._rules.contexts import Defaults
from heksher._rules.getter import Layer, Level, Published
from heksher._rules.table import RuleTable, TableRule
from heksher._text import shown
from heksher.exceptions import InvalidArgumentError
from heksher.setting import QueriedRule, Setting, state_of


@dataclass(eq=False)
class _Override(Layer):
    """The rules that a block has given to one setting, whose features are *features*."""

    features: tuple[str, ...]
    rules: list[TableRule[Any]]
    level = Level.OVERRIDE

    def over(self, below: Published[Any]) -> tuple[RuleTable[Any], Defaults, bool]:
        table = below.table.overridden(self.rules, self.features)
        return table, below.defaults, below.started


@contextmanager
def override(values: Mapping[Setting[Any], object], /) -> Generator[None]:
    """Give settings other values in the whole process while the block runs.

        with heksher.override({cache_ttl: 5, color: [Rule({"theme": "dark"}, "black")]}):
            assert cache_ttl.get(user="jim") == 5

    A setting gets one value for every context, or a list of `Rule`, with its present default value where
    none of them matches. Either replaces all rules of the setting, from a client or from a stub. Clients
    go on with their updates, and what they have read is in force after the block. It does not matter
    whether there is a client: without one, a feature that is left out is still no error.

    Blocks can be nested, and may end in any order: of those that are running, the one that was entered
    last applies. Listeners are called when a block begins and when it ends, in the thread that runs it.

    Args:
        values: a value or rules for each setting. They are converted to the setting's type, and pass its
            validators.

    Raises:
        InvalidArgumentError: a key is not a setting; a value is not of the setting's type, or a validator
            refuses it; a rule has a condition on a feature that the setting does not have, or on a value
            that is not a string; or two rules have the same conditions. No setting has changed then.
    """
    layers = {setting: _layer_for(setting, given) for setting, given in values.items()}
    try:
        with changing():
            for setting, layer in layers.items():
                put_on_top(setting, layer)
        yield
    finally:
        with changing():
            for layer in layers.values():
                layer.is_over = True
            renew(layers)


def overridden() -> set[Setting[Any]]:
    """Return the settings that have an override."""
    with _registry.lock:
        return {each for each in covered if Level.OVERRIDE in state_of(each).layers}


def _layer_for(setting: Setting[Any], given: object) -> _Override:
    if not isinstance(setting, Setting):
        raise InvalidArgumentError(
            f"invalid setting {shown(setting)} of an override: expected a heksher.Setting"
        )

    def convert(value: object, conditions: tuple[tuple[str, str], ...]) -> Any:
        invalid = f"setting {setting.name!r}: invalid override {shown(value)}"
        try:
            converted = setting.type.decode(setting.type.encode(value), [])
        except (TypeError, ValueError) as error:
            raise InvalidArgumentError(f"{invalid}: {error}") from error
        try:
            for validator in state_of(setting).validators:
                rule = QueriedRule(None, conditions)
                converted = call_application("a validator", validator, converted, rule, setting)
        except ApplicationCodeError as error:
            raise InvalidArgumentError(f"{invalid}: {error}") from error.__cause__
        return converted

    return _Override(setting.configurable_features, rules_from(setting, given, convert))


override.__module__ = "heksher"  # users find it here
