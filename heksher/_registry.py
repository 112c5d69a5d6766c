"""The settings of this process that wait for a main client or are served by it, and that client.

Knows clients only as a `MainClient`, so that `Setting` needs none of them. Holds settings weakly: a
setting lives as long as the application keeps it.
"""

from __future__ import annotations

import gc
import logging
import threading
import weakref
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Protocol

from heksher.exceptions import DuplicateSettingError, InvalidSettingError

if TYPE_CHECKING:
    from heksher.setting import Setting

_logger = logging.getLogger(__name__)


class MainClient(Protocol):
    """What the registry needs of the client that serves the settings."""

    def attach(self, settings: Iterable[Setting[Any]]) -> None:
        """Serve these settings from now on. Called in any thread, must not block."""

    def detach(self, settings: Iterable[Setting[Any]] | None) -> None:
        """Stop serving these settings; None: all that came from the registry."""


#: Guards this module. Reentrant: the garbage collector may run somebody's finalizer, and that make a
#: setting, while it is held. Taken before a client's own lock, never inside it.
lock = threading.RLock()
_settings: dict[str, list[weakref.ref[Setting[Any]]]] = {}
# The name of the setting that has an alias, by alias.
_aliases: dict[str, str] = {}
_main: MainClient | None = None
# How many names there have to be before those are forgotten that nobody uses any more.
_FEWEST = 64
_prune_at = _FEWEST
# What clients serve as their own, and who; what nobody serves for now; who gave its place up itself.
_owners: weakref.WeakKeyDictionary[Setting[Any], weakref.WeakSet[MainClient]] = (
    weakref.WeakKeyDictionary()
)
_suspended: weakref.WeakSet[Setting[Any]] = weakref.WeakSet()
_stepped_down: weakref.WeakSet[MainClient] = weakref.WeakSet()


def register(setting: Setting[Any]) -> None:
    """Enter a new setting, and hand it to the main client if there is one.

    Raises:
        DuplicateSettingError: another module has a differing setting of this name.
        InvalidSettingError: its name is another setting's alias, or its alias another one's name or
            alias.
    """
    with lock:
        _refuse_alias_conflicts(setting)
        same_name = _alive(setting.name)
        if any(_conflict(setting, other) for other in same_name):
            # A setting and its get hold each other, so that one that nobody holds any more may
            # still be waiting for the garbage collector.
            del same_name
            gc.collect()
            same_name = _alive(setting.name)
        replaced: list[Setting[Any]] = []
        for other in same_name:
            if declared_alike(setting, other):
                continue
            if _conflict(setting, other):
                raise DuplicateSettingError(
                    f"setting {setting.name!r} is declared at {setting.declared_at} and, differently, "
                    f"at {other.declared_at}; give one of them another name, or import one from the other",
                    setting.name,
                )
            # The module was loaded again, or a cell of a notebook was run again.
            _logger.warning(
                "setting %r is declared again, differently, at %s; it takes the place of the one at %s",
                setting.name,
                setting.declared_at,
                other.declared_at,
            )
            replaced.append(other)
        if setting.alias is not None:
            _aliases[setting.alias] = setting.name
        kept = [other for other in same_name if other not in replaced]
        _settings[setting.name] = [weakref.ref(each) for each in (*kept, setting)]
        _prune()
        main = _main
        if main is not None:
            if replaced:
                main.detach(replaced)
            main.attach([setting])


def _refuse_alias_conflicts(setting: Setting[Any]) -> None:
    """See that no name leads to two settings: the service would take it for one."""
    if not _alias_conflicts(setting):
        return
    gc.collect()
    for other, name in _alias_conflicts(setting):
        raise InvalidSettingError(
            f"setting {setting.name!r}, declared at {setting.declared_at}, and setting {other.name!r}, "
            f"declared at {other.declared_at}, are one and the same to the service, since {name!r} "
            "is the alias of one of them; use one of the settings for both, or drop the alias"
        )


def _alias_conflicts(setting: Setting[Any]) -> list[tuple[Setting[Any], str]]:
    """Return settings that share a name with *setting* by an alias, each with that name."""
    conflicts: list[tuple[Setting[Any], str]] = []
    if setting.alias is not None:
        conflicts += [(other, setting.alias) for other in _alive(setting.alias)]
        owners = _alive(_aliases.get(setting.alias, setting.name))
        conflicts += [
            (other, setting.alias)
            for other in owners
            if other.name != setting.name and other.alias == setting.alias
        ]
    owners = _alive(_aliases.get(setting.name, setting.name))
    conflicts += [(other, setting.name) for other in owners if other.alias == setting.name]
    return conflicts


def move_to(setting: Setting[Any], client: MainClient) -> None:
    """Take a setting out: *client* serves it from now on, whether it is the main one or not."""
    with lock:
        left = [weakref.ref(other) for other in _alive(setting.name) if other is not setting]
        if left:
            _settings[setting.name] = left
        else:
            _settings.pop(setting.name, None)
        if _main is not None and _main is not client:
            _main.detach([setting])
        _owners.setdefault(setting, weakref.WeakSet()).add(client)
        if setting in _suspended:
            client.detach([setting])


def suspend(setting: Setting[Any]) -> None:
    """Have no client serve this setting until `resume`: a stub's rules are in force."""
    with lock:
        _suspended.add(setting)
        for client in _servers(setting):
            client.detach([setting])


def resume(setting: Setting[Any]) -> None:
    """Give a suspended setting back to the clients that are to serve it by now."""
    with lock:
        _suspended.discard(setting)
        for client in _servers(setting):
            try:
                client.attach([setting])
            except DuplicateSettingError as error:
                # It was given one in between. Whoever undoes a stub can do nothing about that.
                _logger.warning("setting %r is not refreshed any more: %s", setting.name, error)


def set_main(client: MainClient) -> MainClient | None:
    """Make *client* the main client, hand it all settings, and return the one before it.

    Raises:
        DuplicateSettingError: *client* serves a differing setting of some name already. Then the
            one before it stays the main client, and keeps its settings.
    """
    global _main
    with lock:
        former = _main
        if former is client:
            return former
        try:
            everything = [setting for name in list(_settings) for setting in _alive(name)]
            client.attach([setting for setting in everything if setting not in _suspended])
        except DuplicateSettingError:
            client.detach(None)
            raise
        if former is not None:
            former.detach(None)
        _main = client
        _stepped_down.discard(client)
        return former


def main() -> MainClient | None:
    """Return the main client, if there is one."""
    return _main


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
    """Leave the place of the main client free, if *client* has it, and do not get it back."""
    global _main
    with lock:
        _stepped_down.add(client)
        if _main is client:
            _main = None


def reset() -> None:
    """Forget the main client, which loses its settings, and all settings. See `heksher.testing`."""
    global _main, _prune_at
    with lock:
        former, _main = _main, None
        if former is not None:
            former.detach(None)
        _settings.clear()
        _aliases.clear()
        _prune_at = _FEWEST


def declared_alike(one: Setting[Any], other: Setting[Any]) -> bool:
    """Whether two settings make the same declaration."""
    return (
        one.type == other.type
        and set(one.configurable_features) == set(other.configurable_features)
        and one.default_value == other.default_value
        and one.metadata == other.metadata
        and one.alias == other.alias
        and one.version == other.version
    )


def _conflict(one: Setting[Any], other: Setting[Any]) -> bool:
    return one.module != other.module and not declared_alike(one, other)


def _servers(setting: Setting[Any]) -> list[MainClient]:
    """Return who serves *setting*, or would if it were not suspended."""
    servers = list(_owners.get(setting, ()))
    if _main is not None and setting in _alive(setting.name):
        servers.append(_main)
    return servers


def _prune() -> None:
    """Forget the names of settings that are gone, now and then: by far fewer sweeps than settings."""
    global _prune_at
    if len(_settings) >= _prune_at:
        for name in [name for name in _settings if not _alive(name)]:
            del _settings[name]
        for alias in [alias for alias, name in _aliases.items() if name not in _settings]:
            del _aliases[alias]
        _prune_at = max(_FEWEST, 2 * len(_settings))


def _alive(name: str) -> list[Setting[Any]]:
    return [setting for ref in _settings.get(name, ()) if (setting := ref()) is not None]
