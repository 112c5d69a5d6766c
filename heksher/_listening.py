"""Callbacks that are called when settings change: `Setting.on_change`, and `on_change` of clients.

A listener remembers what its setting answered from when it looked last, and compares. So publishing rules
neither knows nor waits for listeners, and several publishes between two looks are one change. After
a publish, the client or the stub makes the listeners look, with no lock held: a callback may do anything.

Knows what a setting answers from, but neither `Setting` nor clients.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from contextvars import Context, copy_context
from dataclasses import dataclass
from typing import Any, Protocol, Self, TypeAlias, TypeVar

from heksher import _registry
from heksher._application_code import (
    ApplicationCodeError,
    call_application,
    call_plain_function,
    ends_caller,
    get_logger,
)
from heksher._rules.contexts import checked_value
from heksher._rules.getter import Published, SettingState
from heksher._rules.groups import grouped
from heksher._rules.plan import Plan, read
from heksher.exceptions import InvalidArgumentError, MissingFeatureError, UnknownFeatureError

_logger = get_logger(__name__)


#: What a setting answers, to be compared: the value in all other contexts, and the features and values of
#: each group of rules.
Content: TypeAlias = tuple[Any, list[tuple[tuple[str, ...], dict[Any, Any]]]]


@dataclass(frozen=True, slots=True)
class SettingsChanged:
    """Settings of a client changed: the event that a callback of ``client.on_change`` gets.

    Attributes:
        names: the names of the settings whose rules or default values changed, sorted.
    """

    names: tuple[str, ...]


class Subscription:
    """A callback's registration with ``on_change``. As a context manager it is cancelled on exit.

    You need not keep it: the setting or the client keeps the callback.
    """

    __slots__ = ("_cancel",)

    def __init__(self, cancel: Callable[[], None]) -> None:
        self._cancel = cancel

    def cancel(self) -> None:
        """Call the callback no more. A call that is under way goes on. Repeating it does nothing."""
        self._cancel()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.cancel()


class Listener(ABC):
    """A callback, and what it was told last.

    Args:
        what: what it listens to, for messages.
        callback: the application's function.

    Raises:
        InvalidArgumentError: *callback* is not an ordinary function.
    """

    def __init__(self, what: str, callback: Callable[[Any], object]) -> None:
        if not callable(callback) or _is_asynchronous(callback):
            raise InvalidArgumentError(
                f"{what}: invalid callback {callback!r}: expected an ordinary function of one argument"
                "; to await something, let it start a task"
            )
        self._what = what
        self._callback = callback
        self._is_cancelled = False

    def cancel(self) -> None:
        """Call nothing any more."""
        self._is_cancelled = True

    def look(self) -> None:
        """Call the callback if there is a change that it was not told of.

        Its calls never overlap: a change that is made during a call, in another thread or by the callback
        itself, is told after it, where that call was made.
        """
        while self._has_news() and not self._is_cancelled:
            this_call = object()
            if _calls.setdefault(self, this_call) is not this_call:
                return
            try:
                event = self._event()
                if event is not None:
                    self._call(event)
            finally:
                _calls.pop(self, None)

    def _call(self, event: object) -> None:
        name = f"{self._what}: the callback"
        try:
            call_application(name, call_plain_function, self._callback, event)
        except ApplicationCodeError as raised:
            cause = raised.__cause__
            if cause is not None and not ends_caller(cause):
                _logger.error("%s raised an error; updates go on", name, exc_info=cause)

    @abstractmethod
    def _has_news(self) -> bool:
        """Whether something was published since the last look."""

    @abstractmethod
    def _event(self) -> object | None:
        """Remember what is published now, and return the event to tell, or None if nothing changed."""


class SettingListener(Listener):
    """Listens to one setting.

    Args:
        what: as for `Listener`.
        callback: likewise.
        state: the setting's.
        read: returns what the callback cares for, and is compared.
        event: makes an event of the former and the new one.
    """

    def __init__(
        self,
        what: str,
        callback: Callable[[Any], object],
        state: SettingState[Any],
        read: Callable[[Published[Any]], Any],
        event: Callable[[Any, Any], object],
    ) -> None:
        super().__init__(what, callback)
        self._state = state
        self._read = read
        self._make_event = event
        self._seen = state.in_force

    def catch_up(self) -> None:
        """Tell nothing of what was published so far."""
        self._seen = self._state.in_force

    def _has_news(self) -> bool:
        return self._state.in_force is not self._seen

    def _event(self) -> object | None:
        before, self._seen = self._seen, self._state.in_force
        old, new = self._read(before), self._read(self._seen)
        return None if _are_equal(old, new) else self._make_event(old, new)


# The calls under way. `setdefault` of a dict takes no lock, and lets one thread of several win.
_calls: dict[Listener, object] = {}


def forget_calls() -> None:
    """In a forked child: forget the calls of threads that do not exist there."""
    _calls.clear()


ListenerT = TypeVar("ListenerT", bound=Listener)


class ClientListener(Listener):
    """Listens to all settings of one client.

    Args:
        what: as for `Listener`.
        callback: likewise.
        lock: held while a setting is noted and published.
    """

    def __init__(
        self, what: str, callback: Callable[[Any], object], lock: AbstractContextManager[Any]
    ) -> None:
        super().__init__(what, callback)
        self._lock = lock
        # The settings that were published since the last look, by their states: each one's name, and what
        # it answered from before.
        self._before: dict[SettingState[Any], tuple[str, Published[Any]]] = {}

    def note(self, name: str, state: SettingState[Any], before: Published[Any]) -> None:
        """Note what a setting answered from before a change. Called with the lock held."""
        self._before.setdefault(state, (name, before))

    def _has_news(self) -> bool:
        return bool(self._before)

    def _event(self) -> SettingsChanged | None:
        with self._lock:
            before, self._before = self._before, {}
        names = {
            name
            for state, (name, published) in before.items()
            if not _are_equal(content_of(published), content_of(state.in_force))
        }
        return SettingsChanged(tuple(sorted(names))) if names else None


class ClientListeners:
    """The listeners to one client, or to one stub.

    Args:
        lock: held while a setting is noted and published.
    """

    def __init__(self, lock: AbstractContextManager[Any]) -> None:
        self._lock = lock
        self.listeners: tuple[ClientListener, ...] = ()

    def add(self, what: str, callback: Callable[[SettingsChanged], object]) -> Subscription:
        """Have *callback* called when settings change.

        Raises:
            InvalidArgumentError: it is not an ordinary function.
        """
        return subscribe(self, ClientListener(what, callback, self._lock))

    def note(
        self, name: str, state: SettingState[Any], before: Published[Any] | None = None
    ) -> None:
        """Note a change of a setting, to call those who listen to it with the next `look`.

        Args:
            name: the setting's name.
            state: its state.
            before: what it answered from before the change. None: it is about to change, and the lock
                is held until it has.
        """
        with self._lock:
            for listener in self.listeners:
                listener.note(name, state, before or state.in_force)

    def look(self) -> None:
        """Call those for whom something changed."""
        for listener in self.listeners:
            listener.look()


class _Owner(Protocol[ListenerT]):
    listeners: tuple[ListenerT, ...]


def subscribe(owner: _Owner[ListenerT], listener: ListenerT) -> Subscription:
    """Add *listener* to those of *owner*."""

    def cancel() -> None:
        listener.cancel()
        with _registry.lock:
            owner.listeners = tuple(each for each in owner.listeners if each is not listener)

    with _registry.lock:
        owner.listeners = (*owner.listeners, listener)
    return Subscription(cancel)


class FixedContext:
    """A context that stays as it was when this was made, as far as it does not depend on the client.

    Args:
        setting: the setting's name.
        arguments: values by feature.
        plan: the setting's plan at this moment.

    Raises:
        UnknownFeatureError: an argument is no configurable feature of the setting.
        FeatureTypeError: the value of an argument or of a context variable is neither a string nor None.
    """

    def __init__(self, setting: str, arguments: Mapping[str, object], plan: Plan) -> None:
        unknown = sorted(arguments.keys() - set(plan.features))
        if unknown:
            raise UnknownFeatureError(setting, unknown, plan.features)
        self._setting = setting
        self._arguments = {
            feature: checked_value(setting, feature, value)
            for feature, value in arguments.items()
            if value is not ...
        }
        # For the other features. Which variables count is known once the client has started.
        is_complete = len(self._arguments) == len(plan.features)
        self._variables = Context() if is_complete else copy_context()
        self._context(plan, is_new=True)

    def value(self, published: Published[Any]) -> Any:
        """Return the value in this context. A feature without a value is None."""
        return published.plan.search.find(self._context(published.plan))

    def _context(self, plan: Plan, *, is_new: bool = False) -> dict[str, str | None]:
        context: dict[str, str | None] = {}
        for feature in plan.cohorts_last():
            if feature in self._arguments:
                context[feature] = self._arguments[feature]
                continue
            context[feature] = None
            try:
                value = self._variables.run(read, plan.sources.get(feature), context)
                if value is not ...:
                    context[feature] = checked_value(self._setting, feature, value)
            except MissingFeatureError:
                pass  # the source of a cohort has no value
            except Exception:
                if is_new:
                    raise
                # A later default is a variable whose value is no string. `get` says so, each time.
        return context


def content_of(published: Published[Any]) -> Content:
    """Return what can be compared of a setting's rules and its default value."""
    table = published.table
    default, groups = table.default, grouped(table.features, table.rules).ranked()
    content = [(group.features, group.values) for group in groups]
    if content and not content[0][0]:
        # A rule without conditions, which is the last to win, takes the place of the default value.
        default = content.pop(0)[1][()]
    return default, content


def _are_equal(one: object, other: object) -> bool:
    if one is other:
        return True
    try:
        return call_application("comparing values", lambda: bool(one == other))
    except ApplicationCodeError:
        return False


def _is_asynchronous(function: object) -> bool:
    return any(
        inspect.iscoroutinefunction(each) or inspect.isasyncgenfunction(each)
        for each in (function, getattr(function, "__call__", None))  # noqa: B004 - of an object's class
    )
