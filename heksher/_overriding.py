"""Other values for settings than clients publish: `override` while a block runs, and files of overrides.

A block's values beat all others. A file belongs to a client, so that stubs beat it.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

from heksher import _registry
from heksher._application_code import ApplicationCodeError, call_application
from heksher._given_rules import rules_from
from heksher._layers import changing, covered, put, put_on_top, renew
from heksher._rules.contexts import Defaults
from heksher._rules.getter import Layer, Level, Published
from heksher._rules.table import RuleTable, TableRule
from heksher._text import shown
from heksher.exceptions import InvalidArgumentError
from heksher.setting import QueriedRule, Setting, state_of


@dataclass(eq=False)
class _Override(Layer):
    """The rules that a block or a file has given to one setting, whose features are *features*."""

    features: tuple[str, ...]
    rules: list[TableRule[Any]]
    level: Level

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
    go on with their updates. Rules that they fetch during the block are in force after it. No client is
    needed: without one, a feature that is left out is not an error.

    Blocks can be nested, and may end in any order: of those that are running, the one that was entered
    last applies. Listeners are called when a block begins and when it ends, in the thread that runs it.

    Args:
        values: a value or rules for each setting. They are converted to the setting's type, and pass its
            validators.

    Raises:
        InvalidArgumentError: *values* is not a mapping, or a key is not a setting; a value is not of the
            setting's type, or a validator refuses it; a rule has a condition on a feature that the setting
            does not have, or on a value that is not a string; or two rules have the same conditions. No
            setting has changed then.
    """
    if not isinstance(values, Mapping):
        raise InvalidArgumentError(
            f"invalid overrides {shown(values)}: expected a dict of settings and their values"
        )
    layers = {
        setting: _layer_for(setting, given, _converted, Level.OVERRIDE)
        for setting, given in values.items()
    }
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


def overridden(*levels: Level) -> set[Setting[Any]]:
    """Return the settings that have an override of these levels, or of any."""
    wanted = levels or (Level.FILE, Level.OVERRIDE)
    with _registry.lock:
        return {each for each in covered if not state_of(each).layers.keys().isdisjoint(wanted)}


def override_of_file(setting: Setting[Any], given: object) -> Layer:
    """Return an override from values in JSON's types.

    Raises:
        InvalidArgumentError: as for `override`.
    """
    return _layer_for(setting, given, _decoded, Level.FILE)


def override_by_file(
    settings: Iterable[Setting[Any]], layers: Mapping[Setting[Any], Layer]
) -> None:
    """Replace the overrides of these settings that came from a file. Called with the lock held.

    Args:
        settings: the settings.
        layers: their new overrides. A setting without one has none of a file any more.
    """
    for setting in settings:
        present = state_of(setting).layers
        if setting in layers:
            put(setting, {**present, Level.FILE: (layers[setting],)})
        elif Level.FILE in present:
            put(setting, {**present, Level.FILE: ()})


def _converted(setting: Setting[Any], value: object) -> Any:
    """Return what a setting answers for a value of the application's."""
    return setting.type.decode(setting.type.encode(value), [])


def _decoded(setting: Setting[Any], value: object) -> Any:
    """Return what a setting answers for a value in JSON's types, all of which has to fit."""
    left_out: list[str] = []
    try:
        decoded = setting.type.decode(value, left_out)
        if left_out:
            raise ValueError("; ".join(left_out))
    except ValueError as error:
        parts = cast("list[object]", value) if isinstance(value, list) else [value]
        if dict in map(type, parts):
            hint = "rules are a list of tables with exactly when and value"
            raise ValueError(f"{error}; {hint}") from None
        raise
    setting.type.encode(decoded)  # refuses what JSON does not have, such as infinity
    return decoded


def _layer_for(
    setting: Setting[Any],
    given: object,
    decode: Callable[[Setting[Any], object], Any],
    level: Level,
) -> _Override:
    if not isinstance(setting, Setting):
        raise InvalidArgumentError(
            f"invalid setting {shown(setting)} of an override: expected a heksher.Setting"
        )

    def convert(value: object, conditions: tuple[tuple[str, str], ...]) -> Any:
        invalid = f"setting {setting.name!r}: invalid override {shown(value)}"
        try:
            converted = decode(setting, value)
        except (TypeError, ValueError) as error:
            raise InvalidArgumentError(f"{invalid}: {error}") from error
        try:
            for validator in state_of(setting).validators:
                rule = QueriedRule(None, conditions)
                converted = call_application("a validator", validator, converted, rule, setting)
        except ApplicationCodeError as error:
            raise InvalidArgumentError(f"{invalid}: {error}") from error.__cause__
        return converted

    return _Override(setting.configurable_features, rules_from(setting, given, convert), level)


override.__module__ = "heksher"  # users find it here
