"""What lies over the rules that clients publish: overrides, and the rules of stubs.

A setting keeps what clients publish, and answers from its layers instead (`SettingState.layers`). So
updates go on below them, and are in force after the last layer has ended. Layers end in any order.

Everything here is guarded by the registry's lock, because the layers of a setting and the client that
serves it are changed together. `changing` takes it, and calls those who listen once it is free again.
"""

from __future__ import annotations

import weakref
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from typing import Any, TypeVar

from heksher import _registry
from heksher._listening import ClientListeners, SettingListener
from heksher._rules.getter import Layer, Layers
from heksher.setting import Setting, state_of

LayerT = TypeVar("LayerT", bound=Layer)

#: The settings that have layers.
covered: weakref.WeakSet[Setting[Any]] = weakref.WeakSet()
#: Those who listen to stubs that are in use. A stub need not be the main client.
listening: weakref.WeakSet[ClientListeners] = weakref.WeakSet()
# Those who are to be called at the end of `changing`; how deep it is nested.
_to_call: dict[SettingListener | ClientListeners, None] = {}
_depth = 0


@contextmanager
def changing() -> Generator[None]:
    """Hold the registry's lock. On exit of the outermost block, call those who listen to what changed."""
    global _depth
    to_call: list[SettingListener | ClientListeners] = []
    with _registry.lock:
        _depth += 1
        try:
            yield
        finally:
            _depth -= 1
            if not _depth:
                to_call += _to_call
                _to_call.clear()
    for each in to_call:
        each.look()


def call_listeners() -> None:
    """Call those who listen to what was changed while only the registry's lock was held."""
    with changing():
        pass


def put(setting: Setting[Any], layers: Layers) -> None:
    """Have a setting answer from *layers*. Called with the lock held."""
    state = state_of(setting)
    before = state.in_force
    state.cover({level: each for level, each in layers.items() if each})
    if state.layers:
        covered.add(setting)
    else:
        covered.discard(setting)
    clients = {*listening, *[client.listeners for client in _registry.clients_of(setting)]}
    for each in clients:
        each.note(setting.name, state, before)
    _to_call.update(dict.fromkeys((*state.listeners, *clients)))


def put_on_top(setting: Setting[Any], layer: Layer) -> None:
    """Have a setting answer from one more layer. Called with the lock held."""
    layers = state_of(setting).layers
    put(setting, {**layers, layer.level: (*layers.get(layer.level, ()), layer)})


def renew(settings: Iterable[Setting[Any]]) -> None:
    """Have settings answer from those of their layers that are not over. Called with the lock held."""
    for setting in settings:
        layers = state_of(setting).layers
        put(setting, {level: still_on(each) for level, each in layers.items()})


def still_on(layers: Iterable[LayerT]) -> tuple[LayerT, ...]:
    """Return those of *layers* that are not over."""
    return tuple([each for each in layers if not each.is_over])
