"""Stub clients, for the unit tests of applications: settings answer by rules that a test gives them.

Here stands how such rules come into force, one above the other, and how they are taken back. Which
rule wins is decided in `rules.py`, as for rules from a service. No I/O, no task, no thread; loads
``unittest.mock``, so that nothing that an application runs imports it.
"""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from contextvars import ContextVar
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Generic, Self, TypeVar, cast
from unittest.mock import AsyncMock, MagicMock, NonCallableMock

from heksher import _registry
from heksher._rules.contexts import Defaults
from heksher._rules.getter import Published
from heksher._rules.table import RuleTable, TableRule
from heksher.exceptions import InvalidArgumentError
from heksher.setting import Setting, state_of

__all__ = ["AsyncStubHeksherClient", "Rule", "SyncStubHeksherClient"]

T = TypeVar("T")
# So that a rule with a list fits a setting of sequences. Nobody changes a rule.
T_co = TypeVar("T_co", covariant=True)


@dataclass
class Rule(Generic[T_co]):
    """A rule for a stub: gives a setting another value in every context that meets all conditions.

    ``Rule({"user": "jim"}, 30)`` answers 30 to ``get(user="jim")``.

    Attributes:
        match_conditions: the value that is wanted, by context feature. None wants nothing of the
            feature, as if it were not there.
        value: the value of the setting where the rule wins.
    """

    match_conditions: Mapping[str, str | None]
    value: T_co


# --- what is in force -----------------------------------------------------------------------------

# All of it is guarded by the registry's lock: what is in force and who serves go together.


class _Stint:
    """A stub from its construction to its end, then the next: a stub that was closed can go on.

    It stands for the stub where a main client is wanted. A stub serves what a test gives it rules
    for, and nothing by itself.

    Attributes:
        state: of the stub whose it is.
        ended: whether its rules and its place are given up, for good.
        former: the main client before it, which gets the place back.
    """

    def __init__(self, state: _StubState) -> None:
        self.state = state
        self.ended = False
        self.former: _registry.MainClient | None = None
        with _registry.lock:
            _stints.add(self)

    def attach(self, settings: Iterable[Setting[Any]]) -> None:
        """Nothing to do; the client before it stops refreshing them, which is all that is wanted."""

    def detach(self, settings: Iterable[Setting[Any]] | None) -> None:
        """Nothing to do: the rules of a stub last until it ends, whoever is the main client."""

    def leave_line(self) -> None:
        """See that stubs that would give the place back to this one give it to the one before."""
        for other in _stints:
            if other.former is self:
                other.former = self.former


@dataclass(eq=False, slots=True)
class _Layer:
    """Rules that a setting was given once.

    Attributes:
        below: what was in force before.
        stint: of the stub that gave them.
        rules: the rules.
        is_patch: whether they came by `patch`, to end independently of what is assigned beneath.
        is_taken_back: whether they were taken back, alone.
    """

    below: _Layer | None
    stint: _Stint
    rules: tuple[TableRule[Any], ...]
    is_patch: bool
    is_taken_back: bool = False

    @property
    def is_over(self) -> bool:
        return self.is_taken_back or self.stint.ended


@dataclass(eq=False, slots=True)
class _Stack:
    """What is in force for one setting, and what was before all stubs.

    Attributes:
        base: what was published before the first rules of a stub.
        top: the layer in force. Those below it may be over already.
    """

    base: Published[Any]
    top: _Layer | None = None


_stints: weakref.WeakSet[_Stint] = weakref.WeakSet()
_stacks: weakref.WeakKeyDictionary[Setting[Any], _Stack] = weakref.WeakKeyDictionary()


def _top_of(setting: Setting[Any]) -> _Layer | None:
    stack = _stacks.get(setting)
    return stack.top if stack is not None else None


def _put_on_top(setting: Setting[Any], layer: _Layer | None) -> None:
    """Put *layer*, or what is left of it and those below it, in force. Called with the lock held."""
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
        _registry.suspend(setting)  # first, so that nobody else publishes any more
        stack = _stacks[setting] = _Stack(state_of(setting).published)
    stack.top = layer
    stub = layer.stint.state
    table = RuleTable(stack.base.table.default, layer.rules, stub.order_for(setting))
    state = state_of(setting)
    state.publish(state.prepare(table, stub.defaults))


def _take_back(setting: Setting[Any], layer: _Layer) -> None:
    """End *layer* with what its stub assigned on top of it; patches and other stubs stay in force."""
    with _registry.lock:
        top = each = _top_of(setting)
        above: list[_Layer] = []
        while each is not None and each is not layer:
            above.append(each)
            each = each.below
        layer.is_taken_back = True
        if each is None:
            return  # something else was put in its place, and stays there
        for other in reversed(above):
            if other.is_patch or other.stint is not layer.stint:
                break
            other.is_taken_back = True
        _put_on_top(setting, top)


class _StubState:
    """What a stub knows and does, without its face.

    Args:
        order: context features; the latest ranks highest.
    """

    def __init__(self, order: tuple[str, ...]) -> None:
        self._order = order
        self.defaults: Defaults = Defaults()
        self.stint: _Stint = _Stint(self)

    def order_for(self, setting: Setting[Any]) -> tuple[str, ...]:
        """Return the context features in the order that ranks the rules of *setting*."""
        return tuple(dict.fromkeys((*self._order, *setting.configurable_features)))

    def set_defaults(self, sources: Mapping[str, str | ContextVar[str]]) -> None:
        """Add defaults, also to the rules in force."""
        with _registry.lock:
            self.defaults = self.defaults.adding(sources)
            for setting, stack in list(_stacks.items()):
                _put_on_top(setting, stack.top)

    def give(
        self, setting: Setting[Any], rules: tuple[TableRule[Any], ...], *, is_patch: bool
    ) -> _Layer:
        """Put these rules on top."""
        with _registry.lock:
            layer = _Layer(_top_of(setting), self.stint, rules, is_patch)
            _put_on_top(setting, layer)
            return layer

    def take_place(self) -> None:
        """Become the main client, until `end`."""
        with _registry.lock:
            former = _registry.set_main(self.stint)
            if former is not self.stint:
                self.stint.leave_line()
                self.stint.former = former

    def end(self) -> None:
        """Take all rules back, and give the main client's place to who had it before."""
        with _registry.lock:
            stint, self.stint = self.stint, _Stint(self)
            stint.ended = True
            for setting, stack in list(_stacks.items()):
                _put_on_top(setting, stack.top)
            stint.leave_line()
            _registry.replace_main(stint, stint.former)
            _registry.step_down(stint)


def end_all() -> None:
    """End all stubs, as if each were closed. For `heksher.testing.reset`."""
    with _registry.lock:
        for stint in list(_stints):
            if not stint.ended:
                stint.state.end()


# --- what a test gives ----------------------------------------------------------------------------


def _rules_from(setting: Setting[Any], given: object) -> tuple[TableRule[Any], ...]:
    """Return the rules that *given* stands for, checked.

    Raises:
        InvalidArgumentError: they cannot be this setting's rules.
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
                f"setting {setting.name!r}: two rules have the same conditions, "
                f"{dict(conditions)!r}; the service keeps one of them, so leave one out"
            )
        seen.add(frozenset(conditions))
        value = _as_answered(setting, cast(Rule[object], rule).value)
        rules.append(TableRule(value, conditions))
    return tuple(rules)


def _is_rules(setting: Setting[Any], given: object) -> bool:
    """Whether *given* is a collection of rules, and no value. Its first element decides."""
    # A mock claims to be a collection, and to be empty.
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
        f"setting {setting.name!r}: {element!r} stands among rules; "
        "either rules alone are wanted, or one value"
    )


def _conditions_of(setting: Setting[Any], rule: Rule[object]) -> tuple[tuple[str, str], ...]:
    if not isinstance(rule.match_conditions, Mapping):
        raise InvalidArgumentError(
            f"setting {setting.name!r}: the conditions of a rule are {rule.match_conditions!r}; "
            "a mapping of context features to values is wanted"
        )
    conditions: list[tuple[str, str]] = []
    for feature, value in rule.match_conditions.items():
        if feature not in setting.configurable_features:
            raise InvalidArgumentError(
                f"setting {setting.name!r}: a rule has a condition on {feature!r}, which is no "
                f"configurable feature of the setting; {', '.join(setting.configurable_features)} are"
            )
        if value is None:
            continue
        if not isinstance(value, str):
            raise InvalidArgumentError(
                f"setting {setting.name!r}: a rule wants {feature}={value!r}; "
                "a string is wanted, or None for a rule that does not care"
            )
        conditions.append((feature, value))
    return tuple(conditions)


def _can_encode(setting: Setting[Any], value: object) -> bool:
    try:
        setting.type.encode(value)
    except (TypeError, ValueError):
        return False
    return True


def _as_answered(setting: Setting[Any], value: object) -> object:
    """Return *value* as the setting would have it from the service; what it cannot have, as it is."""
    if isinstance(value, NonCallableMock):  # may pass for anything by its spec
        return value
    try:
        return setting.type.decode(setting.type.encode(value), [])
    except (TypeError, ValueError):
        return value


# --- what a test holds ----------------------------------------------------------------------------


class SavedRules(Generic[T]):
    """What was in force for a setting when ``client[setting].rules`` was read. To be assigned back."""

    __slots__ = ("layer", "setting", "stint")

    def __init__(self, setting: Setting[T], layer: _Layer | None, stint: _Stint) -> None:
        self.setting: Setting[T] = setting
        self.layer: _Layer | None = layer
        self.stint: _Stint = stint

    def __repr__(self) -> str:
        return f"<what was in force for setting {self.setting.name!r}>"


class StubbedSetting(Generic[T]):
    """A setting as a stub sees it: ``client[setting]``."""

    __slots__ = ("_begun", "_setting", "_state", "_was_read")

    def __init__(self, setting: Setting[T], state: _StubState) -> None:
        self._setting = setting
        self._state = state
        # The first layer of each series of assignments. Who means to undo one reads before.
        self._begun: list[_Layer] = []
        self._was_read = True

    @property
    def rules(self) -> SavedRules[T]:
        """The rules that the setting answers by.

        Assign a value, which holds in every context, or a collection of `Rule`:

            client[cache_ttl].rules = 5
            client[cache_ttl].rules = [Rule({"user": "jim"}, 30), Rule({}, 60)]

        What is read can be assigned back, which restores what was in force when it was read, and
        does nothing once the stub was left. `unittest.mock.patch.object` and pytest's
        ``monkeypatch.setattr`` work on it.

        A new assignment takes the place of what was in force; where no rule matches, the setting
        has the default value that it had before. An empty collection is the value if the setting's
        type has such one, else it means that there are no rules.

        Values become what they would be had they come from the service: immutable, of the setting's
        type. What the setting's type cannot hold, such as a mock or None, is answered as it is. The
        setting's validators are not asked.

        Raises:
            InvalidArgumentError: a rule has a condition on a feature that is not configurable for
                this setting, or on a value that is no string; two rules have the same conditions;
                rules stand beside something else; or saved rules are another setting's. Nothing has
                changed then.
        """
        with _registry.lock:
            self._was_read = True
            return SavedRules(self._setting, _top_of(self._setting), self._state.stint)

    @rules.setter
    def rules(self, given: T | Collection[Rule[T]] | SavedRules[T]) -> None:
        if isinstance(given, SavedRules):
            self._restore(cast(SavedRules[T], given))
            return
        rules = _rules_from(self._setting, given)
        with _registry.lock:
            layer = self._state.give(self._setting, rules, is_patch=False)
            if self._was_read:
                self._begun.append(layer)
            self._was_read = False

    @rules.deleter
    def rules(self) -> None:
        # How unittest.mock takes back what it assigned to an attribute that a class computes.
        if not self._begun:
            raise AttributeError("no rules were assigned here that could be taken back")
        _take_back(self._setting, self._begun.pop())

    def _restore(self, saved: SavedRules[T]) -> None:
        if saved.setting is not self._setting:
            raise InvalidArgumentError(
                f"setting {self._setting.name!r}: the saved rules are those of setting "
                f"{saved.setting.name!r}"
            )
        with _registry.lock:
            if not saved.stint.ended:
                _put_on_top(self._setting, saved.layer)

    def __repr__(self) -> str:
        return f"<stubbed {self._setting!r}>"


class _Patch(AbstractContextManager["_Patch"]):
    """Rules that are in force until it is left. See `_Stub.patch`."""

    def __init__(self, setting: Setting[Any], layer: _Layer) -> None:
        self._setting = setting
        self._layer = layer

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        _take_back(self._setting, self._layer)


class _Stub:
    """All that stubs have in common: all but how they are entered and left."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        features = args[2] if len(args) > 2 else kwargs.get("context_features")
        self._state = _StubState(_names_in(features))

    def set_defaults(self, /, **features: str | ContextVar[str]) -> None:
        """Give context features values for the calls of ``get()`` that leave them out.

        They count for the settings that the stub was given rules for, before or after.

        Args:
            **features: a string, or a context variable, whose value counts at the moment of the call.

        Raises:
            InvalidArgumentError: a feature has a default already, or the value is neither. (It is a
                ``ValueError``.)
        """
        self._state.set_defaults(features)

    def track_contexts(self, /, *args: Any, **contexts: Any) -> None:
        """Do nothing: a stub fetches nothing, so that nothing is left out."""

    def add_settings(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing: a setting is stubbed by giving it rules."""

    def patch(
        self, setting: Setting[T], value: T | Collection[Rule[T]]
    ) -> AbstractContextManager[Any]:
        """Give a setting rules, from this call on until the returned context manager is left.

        Deprecated, use ``client[setting].rules``, which takes the same and can be assigned to by
        every tool for patching. Existing tests may go on using it; no warning is emitted.

            with client.patch(cache_ttl, [Rule({"user": "jim"}, 30), Rule({}, 60)]):
                assert cache_ttl.get(user="jim") == 30

        Leaving it restores what was in force before, whatever was assigned meanwhile. Where patches
        overlap, the newest one that was not left yet counts.

        Args:
            setting: the setting.
            value: a value for every context, or a collection of `Rule`, as for `StubbedSetting.rules`.

        Returns:
            the context manager. It need not be entered; leaving it twice is harmless.

        Raises:
            InvalidArgumentError: as for `StubbedSetting.rules`.
        """
        rules = _rules_from(_checked(setting), value)
        return _Patch(setting, self._state.give(setting, rules, is_patch=True))

    def __getitem__(self, setting: Setting[T]) -> StubbedSetting[T]:
        """Return *setting* as this stub sees it, to assign to its ``rules``.

        Raises:
            InvalidArgumentError: it is no setting.
        """
        return StubbedSetting(_checked(setting), self._state)


def _names_in(features: object) -> tuple[str, ...]:
    """Return the features that the stub was made with, if they are a list of names."""
    if not isinstance(features, Sequence) or isinstance(features, str):
        return ()
    names = cast(Sequence[object], features)
    return tuple(name for name in names if isinstance(name, str))


def _checked(setting: Setting[T]) -> Setting[T]:
    if not isinstance(setting, Setting):
        raise InvalidArgumentError(f"{setting!r} is no heksher.Setting")
    return setting


class SyncStubHeksherClient(_Stub):
    """A stand-in for `ThreadHeksherClient` in unit tests. There is no service, and no thread.

    Inside its ``with`` block it is the main client, and settings that it was given rules for answer
    by them. Leaving the block, or ``close()``, restores every such setting to the state before its
    first rules and gives the main client's place back. Stubs can be nested.

        with SyncStubHeksherClient() as client:
            client.set_defaults(user="jim")
            client[cache_ttl].rules = [Rule({"user": "jim"}, 30), Rule({}, 60)]
            assert cache_ttl.get() == 30
            assert cache_ttl.get(user="eve") == 60

    From its first rules on a setting is strict, as with a started client: a feature that has neither
    an argument nor a default raises `MissingFeatureError`. Settings without rules of the stub go on
    as before. While a setting has a stub's rules, no other client refreshes it.

    Rules may be given before the block is entered, and after it was left, when ``close()`` takes
    them back again. All methods may be called in any thread.

    Args:
        *args: as for `ThreadHeksherClient`. Of these only the context features, the third, are used:
            they rank the rules, in this order, as the service's order would. A setting's features
            that are not among them follow in the setting's own order.
        **kwargs: likewise; ``context_features`` is used. Anything else is taken and ignored.

    Attributes:
        reload, ping, close: mocks, to make assertions on, or to give a ``side_effect``.
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

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self.close()
        finally:
            self._state.end()  # the test may have given close() another effect


class AsyncStubHeksherClient(_Stub):
    """A stand-in for `AsyncHeksherClient` in unit tests, on asyncio and trio. There is no service.

    Works as `SyncStubHeksherClient` does, in an ``async with`` block:

        async with AsyncStubHeksherClient() as client:
            client[cache_ttl].rules = 5
            await handle_request()
            client.reload.assert_awaited_once()

    Args:
        *args: as for `AsyncHeksherClient`; the context features are used, anything else is ignored.
        **kwargs: likewise.

    Attributes:
        reload, ping, aclose: mocks to be awaited and to make assertions on.
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
            "AsyncStubHeksherClient.close() is deprecated; await aclose()",
            DeprecationWarning,
            stacklevel=2,
        )
        await self.aclose()

    async def __aenter__(self) -> Self:
        await self.set_as_main()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            await self.aclose()
        finally:
            self._state.end()  # the test may have given aclose() another effect
