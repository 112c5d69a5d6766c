"""Rules that stubs put over one another on settings, and the end of each.

Which rule wins is decided in `heksher._rules`, as for rules from a service. Knows neither what a test may
assign nor the public classes of stubs. No I/O, no task, no thread.

Everything here is guarded by the registry's lock, because the rules of a setting and the client that
serves it are changed together. `changing` takes it, and calls those who listen once it is free again.
"""

from __future__ import annotations

import weakref
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from heksher import _registry
from heksher._listening import ClientListeners
from heksher._rules.contexts import Default, Defaults
from heksher._rules.getter import Published
from heksher._rules.table import Provenance, RuleTable, TableRule
from heksher.setting import Setting, state_of
from heksher.status import DataSource


class Session:
    """One use of a stub, from its construction or its last end to its next end: stubs can be reused.

    It is the main client in the registry's sense. A setting without rules of any stub answers as before,
    or, if the stub is strict, from the *floor* of its main client's session: a layer without rules.

    Attributes:
        state: the state of its stub.
        ended: whether its rules were taken back and its place given up, which is final.
        former: the main client before it, which gets the place back.
    """

    def __init__(self, state: StubState) -> None:
        self.state = state
        self.ended = False
        self.former: _registry.MainClient | None = None
        self._floor = self._new_floor()

    def _new_floor(self) -> Layer:
        return Layer(None, self, (), is_patch=False)

    @property
    def listeners(self) -> ClientListeners:
        """Those who listen to the stub."""
        return self.state.listeners

    def attach(self, settings: Iterable[Setting[Any]]) -> None:
        """Put the floor below these settings if the stub is strict, except where there are rules.

        Otherwise do nothing. The client before it has stopped updating them, which is enough.
        """
        if not self.state.is_strict:
            return
        if _registry.main() is not self:
            settings = _registry.everything()  # it is about to become the main client
        for setting in settings:
            if setting not in _stacks:
                put_on_top(setting, self._floor)

    def detach(self, settings: Iterable[Setting[Any]] | None) -> None:
        """Take the floor away when another client becomes the main one.

        Otherwise do nothing. Rules last until the stub ends, whichever the main client is.
        """
        if settings is None and self.state.is_strict:
            self._floor.is_taken_back = True
            self._floor = self._new_floor()
            renew_all()

    def unlink(self) -> None:
        """Have stubs that would give the place back to this one give it to the client before it."""
        for other in _in_use:
            if other.former is self:
                other.former = self.former


@dataclass(eq=False, slots=True)
class Layer:
    """Rules that were assigned to a setting at once.

    Attributes:
        below: the layer before.
        session: the session of the stub that assigned them.
        rules: the rules.
        is_patch: whether they were assigned by `patch`, and end independently of the layers below.
        is_taken_back: whether they were taken back one by one, not with the whole session.
    """

    below: Layer | None
    session: Session
    rules: tuple[TableRule[Any], ...]
    is_patch: bool
    is_taken_back: bool = False

    @property
    def is_over(self) -> bool:
        return self.is_taken_back or self.session.ended


@dataclass(eq=False, slots=True)
class _Stack:
    """The layers of one setting.

    Attributes:
        base: what was published before the first rules of a stub.
        top: the layer that the setting answers from. Layers below it may be over already.
    """

    base: Published[Any]
    top: Layer | None = None


# The sessions that have something to undo. Many more may wait for the garbage collector.
_in_use: weakref.WeakSet[Session] = weakref.WeakSet()
_stacks: weakref.WeakKeyDictionary[Setting[Any], _Stack] = weakref.WeakKeyDictionary()
# The settings that were published, and whose listeners have yet to be called; the depth of `changing`.
_unseen: weakref.WeakKeyDictionary[Setting[Any], None] = weakref.WeakKeyDictionary()
_depth = 0


@contextmanager
def changing() -> Generator[None]:
    """Hold the registry's lock. On exit of the outermost block, call those who listen to what changed."""
    global _depth
    changed: list[Setting[Any]] = []
    listeners: list[ClientListeners] = []
    with _registry.lock:
        _depth += 1
        try:
            yield
        finally:
            _depth -= 1
            if not _depth:
                changed += [*_unseen]
                _unseen.clear()
                listeners += [session.state.listeners for session in _in_use]
    for setting in changed:
        for listener in state_of(setting).listeners:
            listener.look()
    for each in listeners:
        each.look()


def _publish(setting: Setting[Any], published: Published[Any]) -> None:
    state = state_of(setting)
    for session in _in_use:
        session.state.listeners.note(setting.name, state)
    if state.listeners:
        _unseen[setting] = None
    state.publish(published)


def top_of(setting: Setting[Any]) -> Layer | None:
    stack = _stacks.get(setting)
    return stack.top if stack is not None else None


def put_on_top(setting: Setting[Any], layer: Layer | None) -> None:
    """Publish *layer*, or the next one below it that is not over. Called with the lock held."""
    while layer is not None and layer.is_over:
        layer = layer.below
    stack = _stacks.get(setting)
    if layer is None:
        if stack is not None:
            _publish(setting, stack.base)
            del _stacks[setting]
            _registry.resume(setting)
            if isinstance(main := _registry.main(), Session):
                main.attach([setting])  # also one that the registry gives to no main client
        return
    if stack is None:
        _registry.suspend(setting)  # first, so that no client publishes from here on
        stack = _stacks[setting] = _Stack(state_of(setting).published)
    stack.top = layer
    stub = layer.session.state
    default = setting.default_value if stub.is_strict else stack.base.table.default
    is_sent = stack.base.table.provenance.has_service_default and not stub.is_strict
    provenance = Provenance(DataSource.SERVICE, has_service_default=is_sent)
    table = RuleTable(default, layer.rules, stub.order_for(setting), provenance)
    _publish(setting, state_of(setting).prepare(table, stub.defaults))


def renew_all() -> None:
    """Publish what each setting has to answer from now. Called with the lock held."""
    for setting, stack in list(_stacks.items()):
        put_on_top(setting, stack.top)


def take_back(setting: Setting[Any], layer: Layer) -> None:
    """End *layer* and what its stub assigned on top of it, but no patches and no other stub's layers."""
    with changing():
        top = each = top_of(setting)
        above: list[Layer] = []
        while each is not None and each is not layer:
            above.append(each)
            each = each.below
        layer.is_taken_back = True
        if each is None:
            return  # it has been replaced by another layer, which stays
        for other in reversed(above):
            if other.is_patch or other.session is not layer.session:
                break
            other.is_taken_back = True
        put_on_top(setting, top)


class StubState:
    """What both kinds of stubs have in common behind their public methods.

    Args:
        order: context features; the latest ranks highest.
        is_strict: whether all settings are to behave as with a started client while the stub is the main
            client, with the default values of their declarations.

    Attributes:
        order: as given.
        is_strict: as given.
        defaults: the values of features that calls of ``get()`` leave out.
        session: the present use of the stub.
        listeners: those who listen to the stub.
    """

    def __init__(self, order: tuple[str, ...], *, is_strict: bool) -> None:
        self.order = order
        self.is_strict = is_strict
        self.defaults: Defaults = Defaults()
        self.session: Session = Session(self)
        self.listeners: ClientListeners = ClientListeners(_registry.lock)

    def order_for(self, setting: Setting[Any]) -> tuple[str, ...]:
        """Return the context features in the order that ranks the rules of *setting*."""
        return tuple(dict.fromkeys((*self.order, *setting.configurable_features)))

    def set_defaults(self, sources: Mapping[str, Default]) -> None:
        """Add defaults, also to rules that were assigned before."""
        with changing():
            self.defaults = self.defaults.adding(sources)
            renew_all()

    def assign(
        self, setting: Setting[Any], rules: tuple[TableRule[Any], ...], *, is_patch: bool
    ) -> Layer:
        """Put a layer with these rules on top."""
        with changing():
            _in_use.add(self.session)
            layer = Layer(top_of(setting), self.session, rules, is_patch)
            put_on_top(setting, layer)
            return layer

    def take_place(self) -> None:
        """Become the main client, until `end`."""
        with changing():
            _in_use.add(self.session)
            former = _registry.set_main(self.session)
            if former is not self.session:
                self.session.unlink()
                self.session.former = former

    def end(self) -> None:
        """Take all rules back, and give the main client's place back."""
        with changing():
            session, self.session = self.session, Session(self)
            session.ended = True
            _in_use.discard(session)
            renew_all()
            session.unlink()
            _registry.replace_main(session, session.former)
            _registry.step_down(session)


def end_all() -> None:
    """End all stubs, as if each were closed. For `heksher.testing.reset`."""
    with changing():
        for session in list(_in_use):
            session.state.end()
