"""``client[setting].rules`` of a stub: what a test may assign, and the rules that it stands for.

Knows nothing of the public classes of stubs.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import combinations
from typing import Any, Generic, TypeVar, cast
from unittest.mock import NonCallableMock

from heksher import _registry
from heksher._given_rules import Rule, rules_from
from heksher._rules.table import TableRule
from heksher._text import joined
from heksher.clients._stub_layers import (
    StubLayer,
    StubState,
    assigned_to,
    put_back,
    take_back,
)
from heksher.exceptions import InvalidArgumentError
from heksher.setting import Setting

T = TypeVar("T")


class SavedRules(Generic[T]):
    """What ``client[setting].rules`` returns: the rules at that moment, to be assigned back later."""

    __slots__ = ("layers", "setting", "stub", "use")

    def __init__(self, setting: Setting[T], stub: StubState) -> None:
        self.setting: Setting[T] = setting
        self.stub: StubState = stub
        self.use: int = stub.ends
        self.layers: tuple[StubLayer, ...] = assigned_to(setting)

    def __repr__(self) -> str:
        return f"<saved rules of setting {self.setting.name!r}>"


class StubbedSetting(Generic[T]):
    """A setting as a stub sees it: ``client[setting]``."""

    __slots__ = ("_begun", "_setting", "_state", "_was_read")

    def __init__(self, setting: Setting[T], state: StubState) -> None:
        self._setting = checked(setting)
        self._state = state
        # The first layer of each series of assignments. Tools that undo an assignment read before it.
        self._begun: list[StubLayer] = []
        self._was_read = True

    @property
    def rules(self) -> SavedRules[T]:
        """The rules that the setting answers from.

        Assign one value for every context, or a collection of `Rule`:

            client[cache_ttl].rules = 5
            client[cache_ttl].rules = [Rule({"user": "jim"}, 30), Rule({}, 60)]

        Reading returns the present rules. Assign them back to restore them; once the stub is closed,
        that does nothing. `unittest.mock.patch.object` and pytest's ``monkeypatch.setattr`` work too.

        A new assignment replaces the one before. Where no rule matches, the setting has the default
        value that it had before or, with a strict stub, that of its declaration. An empty collection is
        a value if the setting's type has such a value; otherwise it stands for no rules.

        Values become what they would be if they came from the service: immutable, of the setting's
        type. A value that the type cannot have, such as a mock or None, is returned unchanged.
        Validators are not called.

        Raises:
            InvalidArgumentError: a rule has a condition on a feature that the setting does not have, or
                on a value that is not a string; two rules have the same conditions; the stub is strict
                and does not know which of two rules wins; there is something else among the rules; or
                saved rules belong to another setting. Nothing has changed then.
        """
        with _registry.lock:
            self._was_read = True
            return SavedRules(self._setting, self._state)

    @rules.setter
    def rules(self, given: T | Collection[Rule[T]] | SavedRules[T]) -> None:
        if isinstance(given, SavedRules):
            self._restore(cast(SavedRules[T], given))
            return
        layer = assign(self._state, self._setting, given)
        if self._was_read:
            self._begun.append(layer)
        self._was_read = False

    @rules.deleter
    def rules(self) -> None:
        # Called by unittest.mock to undo an assignment to a property.
        if not self._begun:
            raise AttributeError("there is no assignment of rules to undo")
        take_back(self._setting, self._begun.pop())

    def _restore(self, saved: SavedRules[T]) -> None:
        if saved.setting is not self._setting:
            raise InvalidArgumentError(
                f"setting {self._setting.name!r}: the saved rules belong to setting "
                f"{saved.setting.name!r}: assign them to that one"
            )
        if saved.use == saved.stub.ends:
            put_back(self._setting, saved.layers)

    def __repr__(self) -> str:
        return f"<stubbed {self._setting!r}>"


SavedRules.__module__ = StubbedSetting.__module__ = "heksher.clients.stub"  # users find them there


def names_in(features: object) -> tuple[str, ...]:
    """Return the context features that a stub was created with, if they are a list of names."""
    if not isinstance(features, Sequence) or isinstance(features, str):
        return ()
    names = cast(Sequence[object], features)
    return tuple(name for name in names if isinstance(name, str))


def checked(setting: Setting[T]) -> Setting[T]:
    """Return *setting*.

    Raises:
        InvalidArgumentError: it is not a setting.
    """
    if not isinstance(setting, Setting):
        raise InvalidArgumentError(f"invalid setting {setting!r}: expected a heksher.Setting")
    return setting


def assign(
    stub: StubState, setting: Setting[Any], given: object, *, is_patch: bool = False
) -> StubLayer:
    """Assign rules, or one value, to a setting.

    Raises:
        InvalidArgumentError: it is not a setting, or these cannot be its rules.
    """
    rules = assigned_rules(checked(setting), given)
    if stub.is_strict:
        refuse_unranked(setting, rules, stub.order)
    return stub.assign(setting, rules, is_patch=is_patch)


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
