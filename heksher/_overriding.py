"""`override`: other values for settings while a block runs, whichever client or stub serves them.

A setting keeps what clients publish, and answers from the override instead (`SettingState.override`). So
updates go on while the block runs, and are in force after it.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any

from heksher import _registry
from heksher._application_code import ApplicationCodeError, call_application
from heksher._given_rules import rules_from
from heksher._listening import ClientListeners
from heksher._rules.table import TableRule
from heksher._text import shown
from heksher.exceptions import InvalidArgumentError
from heksher.setting import QueriedRule, Setting, state_of

# The settings of each block that is running.
_blocks: dict[object, tuple[Setting[Any], ...]] = {}


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
    rules = {setting: _rules_for(setting, given) for setting, given in values.items()}
    block = object()
    try:
        with _registry.lock:
            _blocks[block] = tuple(rules)
            listeners = [_put(each, (*state_of(each).overrides, rules[each])) for each in rules]
        _call(rules, listeners)
        yield
    finally:
        with _registry.lock:
            _blocks.pop(block, None)
            listeners = [
                _put(each, tuple(one for one in state_of(each).overrides if one is not rules[each]))
                for each in rules
            ]
        _call(rules, listeners)


def overridden() -> set[Setting[Any]]:
    """Return the settings that have an override."""
    with _registry.lock:
        return {setting for block in _blocks.values() for setting in block}


def _put(
    setting: Setting[Any], overrides: tuple[list[TableRule[Any]], ...]
) -> list[ClientListeners]:
    """Put overrides in force, and return those who listen to the setting's clients."""
    state = state_of(setting)
    before = state.in_force
    state.override(overrides)
    told = [client.listeners for client in _registry.clients_of(setting)]
    for each in told:
        each.note(setting.name, state, before)
    return told


def _call(settings: Mapping[Setting[Any], object], told: list[list[ClientListeners]]) -> None:
    for setting in settings:
        for listener in state_of(setting).listeners:
            listener.look()
    for listeners in dict.fromkeys(each for some in told for each in some):
        listeners.look()


def _rules_for(setting: Setting[Any], given: object) -> list[TableRule[Any]]:
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

    return rules_from(setting, given, convert)


override.__module__ = "heksher"  # users find it here
