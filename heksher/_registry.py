"""The settings of this process, and the main client that serves them.

Knows settings and clients by protocols only. Holds settings weakly: a setting lives as long as the
application keeps it.
"""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, Protocol

from heksher._application_code import get_logger
from heksher.exceptions import DuplicateSettingError, InvalidSettingError

_logger = get_logger(__name__)


class RegisteredSetting(Protocol):
    """What the registry reads of a setting: its declaration."""

    name: str
    type: Any
    configurable_features: tuple[str, ...]
    metadata: Mapping[str, Any]
    alias: str | None
    version: str

    @property
    def default_value(self) -> Any: ...


class MainClient(Protocol):
    """What the registry needs of the client that serves the settings.

    The settings that it is given are the objects that were registered.
    """

    @property
    def listeners(self) -> Any:
        """Those who listen to the client."""

    def attach(self, settings: Iterable[Any]) -> None:
        """Serve these settings from now on. Called in any thread; must not block.

        Raises:
            DuplicateSettingError: a differing setting of the same name is served already.
        """

    def detach(self, settings: Iterable[Any] | None) -> None:
        """Stop serving these settings; None: all that came from the registry."""


class Origin(NamedTuple):
    """Where a setting was declared.

    Attributes:
        module: the name of the module whose code creates the setting; if that is a function which another
            module calls while it is loaded, both names.
        place: file and line, for messages.
    """

    module: str
    place: str


#: Guards this module. Reentrant, because the garbage collector may run a finalizer that makes a setting
#: while the lock is held. It is taken before a client's own lock, never inside it.
lock = threading.RLock()
_main: MainClient | None = None
_settings: dict[str, list[weakref.ref[RegisteredSetting]]] = {}
_origins: weakref.WeakKeyDictionary[RegisteredSetting, Origin] = weakref.WeakKeyDictionary()
# The name of the setting that has an alias, by alias.
_aliases: dict[str, str] = {}
# Number of names at which those without a living setting are removed; at least _MIN_NAMES.
_MIN_NAMES = 64
_prune_at = _MIN_NAMES
# The clients that were given a setting as their own, whichever the main client is.
_owners: weakref.WeakKeyDictionary[RegisteredSetting, weakref.WeakSet[MainClient]] = (
    weakref.WeakKeyDictionary()
)
# The clients that gave up the main client's place themselves, and so do not get it back.
_stepped_down: weakref.WeakSet[MainClient] = weakref.WeakSet()


def register(setting: RegisteredSetting, origin: Origin) -> None:
    """Enter a new setting, and attach it to the main client if there is one.

    If it raises, everything is as before.

    Args:
        setting: the setting.
        origin: where it is declared.

    Raises:
        DuplicateSettingError: another module has a differing setting of this name, or the main
            client has one as its own.
        InvalidSettingError: its name is another setting's alias, or its alias another one's name or
            alias.
    """
    with lock:
        _origins[setting] = origin
        _refuse_alias_conflicts(setting)
        same_name = _alive(setting.name)
        if any(_conflict(setting, other) for other in same_name):
            # A setting and its get hold each other, so one that the application has dropped may still
            # be waiting for the garbage collector.
            del same_name
            gc.collect()
            same_name = _alive(setting.name)
        for other in same_name:
            if _conflict(setting, other):
                raise DuplicateSettingError(
                    f"setting {setting.name!r} is declared at {origin.place} and, differently, at "
                    f"{origin_of(other).place}; rename one of them, or import one from the other module",
                    setting.name,
                )
        # The module was loaded again, or a cell of a notebook was run again.
        replaced = [other for other in same_name if not declared_alike(setting, other)]
        if _main is not None:
            _main.detach(replaced)
            try:
                _main.attach([setting])
            except BaseException:
                _main.attach(replaced)
                raise
        for other in replaced:
            _logger.warning(
                "setting %r is declared again, differently, at %s; it replaces the one declared at %s",
                setting.name,
                origin.place,
                origin_of(other).place,
            )
        if setting.alias is not None:
            _aliases[setting.alias] = setting.name
        kept = [other for other in same_name if other not in replaced]
        _settings[setting.name] = [weakref.ref(each) for each in (*kept, setting)]
        _prune()


def everything() -> list[Any]:
    """Return all settings of the process, also those that a client has as its own or `reset` forgot."""
    with lock:
        return list(_origins)


def origin_of(setting: RegisteredSetting) -> Origin:
    """Return where *setting* was declared."""
    return _origins[setting]


def declared_alike(one: RegisteredSetting, other: RegisteredSetting) -> bool:
    """Whether two settings make the same declaration.

    Their Python types may differ: a module that is loaded again, or as ``__main__`` and by its name, has
    each of its Enum classes twice.
    """
    return (
        one.type.wire_name == other.type.wire_name
        and set(one.configurable_features) == set(other.configurable_features)
        and one.type.encode(one.default_value) == other.type.encode(other.default_value)
        and one.metadata == other.metadata
        and one.alias == other.alias
        and one.version == other.version
    )


def _conflict(one: RegisteredSetting, other: RegisteredSetting) -> bool:
    """Whether two settings of one name cannot both be declared: neither alike nor from the same module."""
    return origin_of(one).module != origin_of(other).module and not declared_alike(one, other)


def _refuse_alias_conflicts(setting: RegisteredSetting) -> None:
    """Raise an error if a name leads to *setting* and to another one: the service has one for both."""
    if not _alias_conflicts(setting):
        return
    gc.collect()
    for other, name in _alias_conflicts(setting):
        raise InvalidSettingError(
            f"setting {setting.name!r}, declared at {origin_of(setting).place}, and setting "
            f"{other.name!r}, declared at {origin_of(other).place}, are the same to the service, because "
            f"{name!r} is the alias of one of them; use one setting for both, or drop the alias"
        )


def _alias_conflicts(setting: RegisteredSetting) -> list[tuple[RegisteredSetting, str]]:
    """Return settings that share a name with *setting* through an alias, each with that name."""
    return [
        (other, name)
        for name in (setting.name, setting.alias)
        if name is not None
        for other in (*_alive(name), *_alive(_aliases.get(name, name)))
        if other.name != setting.name and name in (other.name, other.alias)
    ]


def move_to(setting: RegisteredSetting, client: MainClient) -> None:
    """Have *client* serve a setting as its own, whichever the main client is."""
    with lock:
        others = [other for other in _alive(setting.name) if other is not setting]
        _settings[setting.name] = [weakref.ref(other) for other in others]
        if _main is not None and _main is not client:
            _main.detach([setting])
        _owners.setdefault(setting, weakref.WeakSet()).add(client)


def clients_of(setting: RegisteredSetting) -> list[MainClient]:
    """Return the clients that serve a setting."""
    clients = list(_owners.get(setting, ()))
    if _main is not None and setting in _alive(setting.name):
        clients.append(_main)
    return clients


def main() -> MainClient | None:
    """Return the main client, if there is one."""
    return _main


def set_main(client: MainClient) -> MainClient | None:
    """Make *client* the main client, attach all settings to it, and return the one before it.

    If it raises, the one before stays the main client and keeps its settings.

    Raises:
        DuplicateSettingError: *client* has a differing setting of some name as its own.
    """
    global _main
    with lock:
        former = _main
        if former is client:
            return former
        try:
            client.attach([setting for name in list(_settings) for setting in _alive(name)])
        except BaseException:
            client.detach(None)
            raise
        _main = client
        if former is not None:
            former.detach(None)
        _stepped_down.discard(client)
        return former


def replace_main(client: MainClient, former: MainClient | None) -> None:
    """Make *former* the main client again if *client* is it, unless *former* has stepped down.

    Without *former*, there is no main client then.
    """
    global _main
    with lock:
        if _main is client:
            client.detach(None)
            _main = None
            if former is not None and former not in _stepped_down:
                set_main(former)


def step_down(client: MainClient) -> None:
    """Leave the main client's place, if *client* has it, and never get it back by `replace_main`."""
    global _main
    with lock:
        _stepped_down.add(client)
        if _main is client:
            _main = None


def reset() -> None:
    """Forget all settings, and the main client, which loses them. See `heksher.testing`."""
    global _main, _prune_at
    with lock:
        former, _main = _main, None
        if former is not None:
            former.detach(None)
        _settings.clear()
        _aliases.clear()
        _prune_at = _MIN_NAMES


def _alive(name: str) -> list[RegisteredSetting]:
    """Return the settings of one name that the application still holds."""
    return [setting for ref in _settings.get(name, ()) if (setting := ref()) is not None]


def _prune() -> None:
    """Forget the names of settings that are gone, each time that the number of names has doubled."""
    global _prune_at
    if len(_settings) >= _prune_at:
        for name in [name for name in _settings if not _alive(name)]:
            del _settings[name]
        for alias in [alias for alias, name in _aliases.items() if name not in _settings]:
            del _aliases[alias]
        _prune_at = max(_MIN_NAMES, 2 * len(_settings))
