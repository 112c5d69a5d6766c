"""Stub clients, for unit tests of applications: settings answer from rules that a test assigns.

This module layers such rules over one another and takes them back. Which rule wins is decided in
`heksher._rules`, as for rules from a service. No I/O, no task, no thread. It imports ``unittest.mock``, so
nothing that an application runs may import it.
"""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Generic, Self, TypeVar, cast
from unittest.mock import AsyncMock, MagicMock, NonCallableMock

from heksher import _registry
from heksher._rules.contexts import Default, Defaults, plain_string
from heksher._rules.getter import Published
from heksher._rules.table import RuleTable, TableRule
from heksher.exceptions import InvalidArgumentError
from heksher.setting import Setting, state_of

__all__ = [
    "AsyncStubHeksherClient",
    "SyncStubHeksherClient",
    "Rule",
    "StubbedSetting",
    "SavedRules",
]

T = TypeVar("T")
# Covariant, so that a rule with a list fits a setting of sequences. Rules are not changed.
T_co = TypeVar("T_co", covariant=True)


@dataclass
class Rule(Generic[T_co]):
    """A rule for a stub: gives a setting another value in every context that meets all conditions.

    ``Rule({"user": "jim"}, 30)`` answers 30 to ``get(user="jim")``.

    Attributes:
        match_conditions: the value that each context feature must have. None sets no condition on the
            feature, as if it were not listed.
        value: the value of the setting where the rule wins.
    """

    match_conditions: Mapping[str, str | None]
    value: T_co


# --- layers of rules ------------------------------------------------------------------------------

# Guarded by the registry's lock, because the rules of a setting and the client that serves it are
# changed together.


class _Session:
    """One use of a stub, from its construction or its last end to its next end: stubs can be reused.

    It is the main client in the registry's sense. It serves no settings by itself, only those that a
    test assigns rules to.

    Attributes:
        state: the state of its stub.
        ended: whether its rules were taken back and its place given up, which is final.
        former: the main client before it, which gets the place back.
    """

    def __init__(self, state: _StubState) -> None:
        self.state = state
        self.ended = False
        self.former: _registry.MainClient | None = None
        with _registry.lock:
            _sessions.add(self)

    def attach(self, settings: Iterable[Setting[Any]]) -> None:
        """Do nothing. The client before it has stopped updating them, which is enough."""

    def detach(self, settings: Iterable[Setting[Any]] | None) -> None:
        """Do nothing. The rules of a stub last until it ends, whichever the main client is."""

    def unlink(self) -> None:
        """Have stubs that would give the place back to this one give it to the client before it."""
        for other in _sessions:
            if other.former is self:
                other.former = self.former


@dataclass(eq=False, slots=True)
class _Layer:
    """Rules that were assigned to a setting at once.

    Attributes:
        below: the layer before.
        session: the session of the stub that assigned them.
        rules: the rules.
        is_patch: whether they were assigned by `patch`, and end independently of the layers below.
        is_taken_back: whether they were taken back one by one, not with the whole session.
    """

    below: _Layer | None
    session: _Session
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
    top: _Layer | None = None


_sessions: weakref.WeakSet[_Session] = weakref.WeakSet()
_stacks: weakref.WeakKeyDictionary[Setting[Any], _Stack] = weakref.WeakKeyDictionary()


def _top_of(setting: Setting[Any]) -> _Layer | None:
    stack = _stacks.get(setting)
    return stack.top if stack is not None else None


def _put_on_top(setting: Setting[Any], layer: _Layer | None) -> None:
    """Publish *layer*, or the next one below it that is not over. Called with the lock held."""
    while layer is not None and layer.is_over:
        layer = layer.below
    stack = _stacks.get(setting)
    if layer is None:
        if stack is not None:
            state_of(setting).publish(stack.base)
            del _stacks[setting]
            _registry.resume(setting)
        return
    if stack is None:
        _registry.suspend(setting)  # first, so that no client publishes from here on
        stack = _stacks[setting] = _Stack(state_of(setting).published)
    stack.top = layer
    stub = layer.session.state
    table = RuleTable(stack.base.table.default, layer.rules, stub.order_for(setting))
    state = state_of(setting)
    state.publish(state.prepare(table, stub.defaults))


def _take_back(setting: Setting[Any], layer: _Layer) -> None:
    """End *layer* and what its stub assigned on top of it, but no patches and no other stub's layers."""
    with _registry.lock:
        top = each = _top_of(setting)
        above: list[_Layer] = []
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
        _put_on_top(setting, top)


class _StubState:
    """What both kinds of stubs have in common behind their public methods.

    Args:
        order: context features; the latest ranks highest.
    """

    def __init__(self, order: tuple[str, ...]) -> None:
        self._order = order
        self.defaults: Defaults = Defaults()
        self.session: _Session = _Session(self)

    def order_for(self, setting: Setting[Any]) -> tuple[str, ...]:
        """Return the context features in the order that ranks the rules of *setting*."""
        return tuple(dict.fromkeys((*self._order, *setting.configurable_features)))

    def set_defaults(self, sources: Mapping[str, Default]) -> None:
        """Add defaults, also to rules that were assigned before."""
        with _registry.lock:
            self.defaults = self.defaults.adding(sources)
            for setting, stack in list(_stacks.items()):
                _put_on_top(setting, stack.top)

    def assign(
        self, setting: Setting[Any], rules: tuple[TableRule[Any], ...], *, is_patch: bool
    ) -> _Layer:
        """Put a layer with these rules on top."""
        with _registry.lock:
            layer = _Layer(_top_of(setting), self.session, rules, is_patch)
            _put_on_top(setting, layer)
            return layer

    def take_place(self) -> None:
        """Become the main client, until `end`."""
        with _registry.lock:
            former = _registry.set_main(self.session)
            if former is not self.session:
                self.session.unlink()
                self.session.former = former

    def end(self) -> None:
        """Take all rules back, and give the main client's place back."""
        with _registry.lock:
            session, self.session = self.session, _Session(self)
            session.ended = True
            for setting, stack in list(_stacks.items()):
                _put_on_top(setting, stack.top)
            session.unlink()
            _registry.replace_main(session, session.former)
            _registry.step_down(session)


def end_all() -> None:
    """End all stubs, as if each were closed. For `heksher.testing.reset`."""
    with _registry.lock:
        for session in list(_sessions):
            if not session.ended:
                session.state.end()


# --- checking what a test assigns -----------------------------------------------------------------


def _rules_from(setting: Setting[Any], given: object) -> tuple[TableRule[Any], ...]:
    """Return the rules for what a test assigned: rules, or one value.

    Raises:
        InvalidArgumentError: these cannot be rules of this setting.
    """
    if not _is_rules(setting, given):
        return (TableRule(_as_answered(setting, given), ()),)
    rules: list[TableRule[Any]] = []
    seen: set[frozenset[tuple[str, str]]] = set()
    for rule in cast(Collection[object], given):
        if not isinstance(rule, Rule):
            raise _mixed(setting, rule)
        conditions = _conditions_of(setting, cast(Rule[object], rule))
        if frozenset(conditions) in seen:
            raise InvalidArgumentError(
                f"setting {setting.name!r}: two rules have the same conditions "
                f"{dict(conditions)!r}: leave one out, since only one can win"
            )
        seen.add(frozenset(conditions))
        value = _as_answered(setting, cast(Rule[object], rule).value)
        rules.append(TableRule(value, conditions))
    return tuple(rules)


def _is_rules(setting: Setting[Any], given: object) -> bool:
    """Whether *given* is a collection of rules and not a value. Its first element decides."""
    # A mock looks like an empty collection.
    if isinstance(given, (str, bytes, Mapping, NonCallableMock)) or not isinstance(
        given, Collection
    ):
        return False
    elements = cast(Collection[object], given)
    if len(elements) == 0:
        return not _can_encode(setting, elements)
    if isinstance(next(iter(elements)), Rule):
        return True
    if isinstance(elements, (list, tuple)) and any(isinstance(each, Rule) for each in elements):
        raise _mixed(setting, elements[0])
    return False


def _mixed(setting: Setting[Any], element: object) -> InvalidArgumentError:
    return InvalidArgumentError(
        f"setting {setting.name!r}: {element!r} is among rules: "
        "expected either nothing but rules, or one value"
    )


def _conditions_of(setting: Setting[Any], rule: Rule[object]) -> tuple[tuple[str, str], ...]:
    if not isinstance(rule.match_conditions, Mapping):
        raise InvalidArgumentError(
            f"setting {setting.name!r}: invalid conditions {rule.match_conditions!r} of a rule: "
            "expected a mapping of context features to values"
        )
    conditions: list[tuple[str, str]] = []
    for feature, value in rule.match_conditions.items():
        if feature not in setting.configurable_features:
            raise InvalidArgumentError(
                f"setting {setting.name!r}: invalid condition on {feature!r}: expected one of "
                f"the setting's features, {', '.join(setting.configurable_features)}"
            )
        if value is None:
            continue
        if not isinstance(value, str):
            raise InvalidArgumentError(
                f"setting {setting.name!r}: invalid condition {feature}={value!r}: "
                "expected a string, or None for no condition on the feature"
            )
        conditions.append((feature, plain_string(value)))
    return tuple(conditions)


def _can_encode(setting: Setting[Any], value: object) -> bool:
    try:
        setting.type.encode(value)
    except (TypeError, ValueError):
        return False
    return True


def _as_answered(setting: Setting[Any], value: object) -> object:
    """Return *value* as it would be from the service, or unchanged if the setting's type has no such."""
    if isinstance(value, NonCallableMock):  # with a spec it may pass for a value of any type
        return value
    try:
        return setting.type.decode(setting.type.encode(value), [])
    except (TypeError, ValueError):
        return value


# --- what tests use -------------------------------------------------------------------------------


class SavedRules(Generic[T]):
    """What ``client[setting].rules`` returns: the rules at that moment, to be assigned back later."""

    __slots__ = ("layer", "session", "setting")

    def __init__(self, setting: Setting[T], layer: _Layer | None, session: _Session) -> None:
        self.setting: Setting[T] = setting
        self.layer: _Layer | None = layer
        self.session: _Session = session

    def __repr__(self) -> str:
        return f"<saved rules of setting {self.setting.name!r}>"


class StubbedSetting(Generic[T]):
    """A setting as a stub sees it: ``client[setting]``."""

    __slots__ = ("_begun", "_setting", "_state", "_was_read")

    def __init__(self, setting: Setting[T], state: _StubState) -> None:
        self._setting = setting
        self._state = state
        # The first layer of each series of assignments. Tools that undo an assignment read before it.
        self._begun: list[_Layer] = []
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
        value that it had before. An empty collection is a value if the setting's type has such a value;
        otherwise it stands for no rules.

        Values become what they would be if they came from the service: immutable, of the setting's
        type. A value that the type cannot have, such as a mock or None, is returned unchanged.
        Validators are not called.

        Raises:
            InvalidArgumentError: a rule has a condition on a feature that the setting does not have, or
                on a value that is not a string; two rules have the same conditions; there is something
                else among the rules; or saved rules belong to another setting. Nothing has changed
                then.
        """
        with _registry.lock:
            self._was_read = True
            return SavedRules(self._setting, _top_of(self._setting), self._state.session)

    @rules.setter
    def rules(self, given: T | Collection[Rule[T]] | SavedRules[T]) -> None:
        if isinstance(given, SavedRules):
            self._restore(cast(SavedRules[T], given))
            return
        rules = _rules_from(self._setting, given)
        with _registry.lock:
            layer = self._state.assign(self._setting, rules, is_patch=False)
            if self._was_read:
                self._begun.append(layer)
            self._was_read = False

    @rules.deleter
    def rules(self) -> None:
        # Called by unittest.mock to undo an assignment to a property.
        if not self._begun:
            raise AttributeError("there is no assignment of rules to undo")
        _take_back(self._setting, self._begun.pop())

    def _restore(self, saved: SavedRules[T]) -> None:
        if saved.setting is not self._setting:
            raise InvalidArgumentError(
                f"setting {self._setting.name!r}: the saved rules belong to setting "
                f"{saved.setting.name!r}: assign them to that one"
            )
        with _registry.lock:
            if not saved.session.ended:
                _put_on_top(self._setting, saved.layer)

    def __repr__(self) -> str:
        return f"<stubbed {self._setting!r}>"


class _Stub:
    """The public methods that both kinds of stubs have. Each adds how it is entered and closed."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        features = args[2] if len(args) > 2 else kwargs.get("context_features")
        self._state = _StubState(_names_in(features))

    def set_defaults(self, /, **features: str | ContextVar[str] | ContextVar[str | None]) -> None:
        """Set values of context features for calls of ``get()`` that leave them out.

        They apply to the settings that the stub assigns rules to, before or after this call.

        Args:
            **features: a string, or a context variable, which is read at each call.

        Raises:
            InvalidArgumentError: a feature already has a default, or the value is of another type. (It
                is a ``ValueError``.)
        """
        self._state.set_defaults(features)

    def track_contexts(self, /, *args: Any, **contexts: Any) -> None:
        """Do nothing: a stub fetches no rules."""

    def add_settings(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing: assign rules to stub a setting."""

    def patch(
        self, setting: Setting[T], value: T | Collection[Rule[T]]
    ) -> AbstractContextManager[Any]:
        """Assign rules to a setting, from this call until the returned context manager exits.

        Deprecated, use ``client[setting].rules``, which accepts the same and works with all tools for
        patching. Existing tests can keep it; no warning is emitted.

            with client.patch(cache_ttl, [Rule({"user": "jim"}, 30), Rule({}, 60)]):
                assert cache_ttl.get(user="jim") == 30

        On exit the setting answers as before, even if rules were assigned inside. If patches overlap,
        the newest one that has not exited applies.

        Args:
            setting: the setting.
            value: a value for every context, or a collection of `Rule`, as for `StubbedSetting.rules`.

        Returns:
            the context manager. It need not be entered; exiting it twice is harmless.

        Raises:
            InvalidArgumentError: as for `StubbedSetting.rules`.
        """
        rules = _rules_from(_checked(setting), value)
        layer = self._state.assign(setting, rules, is_patch=True)
        patch = ExitStack()
        patch.callback(_take_back, setting, layer)
        return patch

    def __getitem__(self, setting: Setting[T]) -> StubbedSetting[T]:
        """Return *setting* as this stub sees it, to assign to its ``rules``.

        Raises:
            InvalidArgumentError: it is not a setting.
        """
        return StubbedSetting(_checked(setting), self._state)


def _names_in(features: object) -> tuple[str, ...]:
    """Return the context features that the stub was created with, if they are a list of names."""
    if not isinstance(features, Sequence) or isinstance(features, str):
        return ()
    names = cast(Sequence[object], features)
    return tuple(name for name in names if isinstance(name, str))


def _checked(setting: Setting[T]) -> Setting[T]:
    if not isinstance(setting, Setting):
        raise InvalidArgumentError(f"invalid setting {setting!r}: expected a heksher.Setting")
    return setting


class SyncStubHeksherClient(_Stub):
    """A stub for `ThreadHeksherClient` in unit tests, without a service and without a thread.

    Inside its ``with`` block it is the main client, and settings answer from the rules that it assigns
    to them. At the end of the block, or by ``close()``, all these settings answer as before the first
    assignment, and the main client before is the main client again. Stubs can be nested.

        with SyncStubHeksherClient() as client:
            client.set_defaults(user="jim")
            client[cache_ttl].rules = [Rule({"user": "jim"}, 30), Rule({}, 60)]
            assert cache_ttl.get() == 30
            assert cache_ttl.get(user="eve") == 60

    From its first rules on, a setting is strict, as with a started client: a feature that has neither
    an argument nor a default raises `MissingFeatureError`. Other settings are not affected. While a
    setting has a stub's rules, no client updates it.

    Rules can be assigned before the block and after it as well; then ``close()`` takes them back. All
    methods can be called in any thread.

    Args:
        *args: as for `ThreadHeksherClient`. Only the third is used, the context features: they rank
            the rules in this order, as the service's order would. Features of a setting that are not
            among them follow in the setting's own order.
        **kwargs: likewise; only ``context_features`` is used, everything else is ignored.

    Attributes:
        reload, ping, close: mocks, for assertions, or to set a ``side_effect``.
    """

    reload: MagicMock
    ping: MagicMock
    close: MagicMock

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.reload = MagicMock(name="reload")
        self.ping = MagicMock(name="ping")
        self.close = MagicMock(name="close", side_effect=self._state.end)

    def set_as_main(self) -> None:
        """Become the main client, until the stub is closed."""
        self._state.take_place()

    def __enter__(self) -> Self:
        self.set_as_main()
        return self

    def __exit__(self, *exc_info: object) -> None:
        try:
            self.close()
        finally:
            self._state.end()  # the test may have given close() another side_effect


class AsyncStubHeksherClient(_Stub):
    """A stub for `AsyncHeksherClient` in unit tests, on asyncio and trio, without a service.

    It works like `SyncStubHeksherClient`, in an ``async with`` block:

        async with AsyncStubHeksherClient() as client:
            client[cache_ttl].rules = 5
            await handle_request()
            client.reload.assert_awaited_once()

    Args:
        *args: as for `AsyncHeksherClient`; only the context features are used.
        **kwargs: likewise.

    Attributes:
        reload, ping, aclose: mocks to be awaited, for assertions.
    """

    reload: AsyncMock
    ping: AsyncMock
    aclose: AsyncMock

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.reload = AsyncMock(name="reload")
        self.ping = AsyncMock(name="ping")
        self.aclose = AsyncMock(name="aclose", side_effect=self._state.end)

    async def set_as_main(self) -> None:
        """Become the main client, until the stub is closed."""
        self._state.take_place()

    async def close(self) -> None:
        """Await ``aclose()``. Deprecated, use that."""
        warnings.warn(
            "AsyncStubHeksherClient.close() is deprecated: await aclose() instead",
            DeprecationWarning,
            stacklevel=2,
        )
        await self.aclose()

    async def __aenter__(self) -> Self:
        await self.set_as_main()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        try:
            await self.aclose()
        finally:
            self._state.end()  # the test may have given aclose() another side_effect
