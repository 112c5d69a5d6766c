"""The layers that stubs put over settings, and the end of each.

Which rule wins is decided in `heksher._rules`, as for rules from a service. Knows neither what a test may
assign nor the public classes of stubs. No I/O, no task, no thread.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import chain, takewhile
from typing import Any, cast

from heksher import _registry
from heksher._layers import changing, covered, listening, put, put_on_top, renew, still_on
from heksher._listening import ClientListeners
from heksher._rules.contexts import Default, Defaults
from heksher._rules.getter import Layer, Level, Published
from heksher._rules.table import Provenance, RuleTable, TableRule
from heksher.setting import Setting, state_of
from heksher.status import DataSource

Rules = tuple[TableRule[Any], ...]


@dataclass(eq=False)
class StubLayer(Layer):
    """Rules that were assigned to a setting at once. A layer on the floor has none.

    Attributes:
        stub: the stub that put it there.
        rules: the rules.
        default: the default value of the setting's declaration.
        order: the context features in the order that ranks the rules.
        level: that of stubs, or the floor.
        is_patch: whether it ends independently of the layers below.
    """

    stub: StubState
    rules: Rules
    default: Any
    order: tuple[str, ...]
    level: Level
    is_patch: bool

    def over(self, below: Published[Any]) -> tuple[RuleTable[Any], Defaults, bool]:
        default, is_sent = below.table.default, below.table.provenance.has_service_default
        if self.stub.is_strict:
            default, is_sent = self.default, False
        provenance = Provenance(DataSource.SERVICE, has_service_default=is_sent)
        return RuleTable(default, self.rules, self.order, provenance), self.stub.defaults, True


# The stubs that have something to undo. Many more may wait for the garbage collector.
_in_use: weakref.WeakSet[StubState] = weakref.WeakSet()


class StubState:
    """What both kinds of stubs have in common behind their public methods.

    It is the main client in the registry's sense. If it is strict, it then lays a floor below the rules of
    all settings: a layer without rules. A stub can be used again after its end.

    Args:
        order: context features; the latest ranks highest.
        is_strict: whether all settings are to behave as with a started client while the stub is the main
            client, with the default values of their declarations.

    Attributes:
        order: as given.
        is_strict: as given.
        defaults: the values of features that calls of ``get()`` leave out.
        listeners: those who listen to the stub.
        ends: how often it has ended.
        former: the main client before it, which gets the place back.
    """

    def __init__(self, order: tuple[str, ...], *, is_strict: bool) -> None:
        self.order = order
        self.is_strict = is_strict
        self.defaults: Defaults = Defaults()
        self.listeners: ClientListeners = ClientListeners(_registry.lock)
        self.ends: int = 0
        self.former: _registry.MainClient | None = None
        self._layers: weakref.WeakSet[StubLayer] = weakref.WeakSet()

    # --- for the registry, which holds the lock ---

    def attach(self, settings: Iterable[Setting[Any]]) -> None:
        """Lay the floor below the rules of these settings if the stub is strict."""
        if self.is_strict:
            if _registry.main() is not self:
                settings = _registry.everything()  # it is about to become the main client
            for setting in settings:
                self._put(setting, (), Level.FLOOR)

    def detach(self, settings: Iterable[Setting[Any]] | None) -> None:
        """Take the floor away when another client becomes the main one. Rules last until the end."""
        if settings is None:
            self._end_layers(Level.FLOOR)

    # --- for the public classes ---

    def set_defaults(self, sources: Mapping[str, Default]) -> None:
        """Add defaults, also to rules that were assigned before."""
        with changing():
            self.defaults = self.defaults.adding(sources)
            renew([*covered])

    def assign(self, setting: Setting[Any], rules: Rules, *, is_patch: bool) -> StubLayer:
        """Put a layer with these rules on top."""
        with changing():
            self._use()
            return self._put(setting, rules, Level.STUB, is_patch)

    def take_place(self) -> None:
        """Become the main client, until `end`."""
        with changing():
            self._use()
            former = _registry.set_main(self)
            if former is not self:
                self._unlink()
                self.former = former

    def end(self) -> None:
        """Take all rules back, and give the main client's place back."""
        with changing():
            self.ends += 1
            self._end_layers(Level.FLOOR, Level.STUB)
            self._unlink()
            _registry.replace_main(self, self.former)
            _registry.step_down(self)
            self.former = None
            _in_use.discard(self)
            listening.discard(self.listeners)

    def _use(self) -> None:
        _in_use.add(self)
        listening.add(self.listeners)

    def _put(
        self, setting: Setting[Any], rules: Rules, level: Level, is_patch: bool = False
    ) -> StubLayer:
        order = tuple(dict.fromkeys((*self.order, *setting.configurable_features)))
        layer = StubLayer(self, rules, setting.default_value, order, level, is_patch)
        self._layers.add(layer)
        put_on_top(setting, layer)
        return layer

    def _end_layers(self, *levels: Level) -> None:
        ended = {layer for layer in self._layers if layer.level in levels}
        for layer in ended:
            layer.is_over = True
        layers_of = {each: chain(*state_of(each).layers.values()) for each in covered}
        renew([each for each, layers in layers_of.items() if not ended.isdisjoint(layers)])

    def _unlink(self) -> None:
        """Have stubs that would give the place back to this one give it to the client before it."""
        for other in _in_use:
            if other.former is self:
                other.former = self.former


def assigned_to(setting: Setting[Any]) -> tuple[StubLayer, ...]:
    """Return the layers that were assigned to a setting, the newest last."""
    return cast("tuple[StubLayer, ...]", state_of(setting).layers.get(Level.STUB, ()))


def put_back(setting: Setting[Any], layers: tuple[StubLayer, ...]) -> None:
    """Replace the layers that were assigned to a setting."""
    with changing():
        put(setting, {**state_of(setting).layers, Level.STUB: still_on(layers)})


def take_back(setting: Setting[Any], layer: StubLayer) -> None:
    """End *layer* and what its stub assigned on top of it, but no patches and no other stub's layers."""
    with changing():
        layers = assigned_to(setting)
        if layer in layers:  # else it has been replaced by another layer, which stays
            above = layers[layers.index(layer) + 1 :]
            for each in takewhile(lambda one: one.stub is layer.stub and not one.is_patch, above):
                each.is_over = True
        layer.is_over = True
        renew([setting])


def end_all() -> None:
    """End all stubs, as if each were closed. For `heksher.testing.reset`."""
    with changing():
        for stub in list(_in_use):
            stub.end()
