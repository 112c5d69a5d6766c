"""Stub clients, for unit tests of applications: settings answer from rules that a test assigns.

It imports ``unittest.mock``, so nothing that an application runs may import it.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager, ExitStack
from contextvars import ContextVar
from typing import Any, Generic, Self, TypeVar, cast
from unittest.mock import AsyncMock, MagicMock

from heksher import _registry
from heksher._given_rules import Rule
from heksher._rules.cohorts import Cohort
from heksher._rules.table import TableRule
from heksher.clients._stub_layers import (
    Layer,
    Session,
    StubState,
    changing,
    put_on_top,
    take_back,
    top_of,
)
from heksher.clients._stub_rules import assigned_rules, refuse_unranked
from heksher.exceptions import InvalidArgumentError
from heksher.setting import Setting, SettingsChanged, Subscription
from heksher.status import ClientState, ClientStatus, DataSource

__all__ = [
    "AsyncStubHeksherClient",
    "SyncStubHeksherClient",
    "Rule",
    "StubbedSetting",
    "SavedRules",
]

T = TypeVar("T")


class SavedRules(Generic[T]):
    """What ``client[setting].rules`` returns: the rules at that moment, to be assigned back later."""

    __slots__ = ("layer", "session", "setting")

    def __init__(self, setting: Setting[T], layer: Layer | None, session: Session) -> None:
        self.setting: Setting[T] = setting
        self.layer: Layer | None = layer
        self.session: Session = session

    def __repr__(self) -> str:
        return f"<saved rules of setting {self.setting.name!r}>"


class StubbedSetting(Generic[T]):
    """A setting as a stub sees it: ``client[setting]``."""

    __slots__ = ("_begun", "_setting", "_state", "_was_read")

    def __init__(self, setting: Setting[T], state: StubState) -> None:
        self._setting = setting
        self._state = state
        # The first layer of each series of assignments. Tools that undo an assignment read before it.
        self._begun: list[Layer] = []
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
            return SavedRules(self._setting, top_of(self._setting), self._state.session)

    @rules.setter
    def rules(self, given: T | Collection[Rule[T]] | SavedRules[T]) -> None:
        if isinstance(given, SavedRules):
            self._restore(cast(SavedRules[T], given))
            return
        rules = _rules_for(self._setting, given, self._state)
        with changing():
            layer = self._state.assign(self._setting, rules, is_patch=False)
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
        with changing():
            if not saved.session.ended:
                put_on_top(self._setting, saved.layer)

    def __repr__(self) -> str:
        return f"<stubbed {self._setting!r}>"


class _Stub:
    """The public methods that both kinds of stubs have. Each adds how it is entered and closed."""

    status: ClientStatus

    def __init__(self, *args: Any, strict: bool = False, **kwargs: Any) -> None:
        features = args[2] if len(args) > 2 else kwargs.get("context_features")
        self._state = StubState(_names_in(features), is_strict=strict)
        self.status = ClientStatus(
            ClientState.RUNNING,
            staleness=0.0,
            failures=0,
            last_error=None,
            source=DataSource.SERVICE,
            last_success=time.time(),
            polls=1,
        )

    def set_defaults(
        self, /, **features: str | ContextVar[str] | ContextVar[str | None] | Cohort
    ) -> None:
        """Set values of context features for calls of ``get()`` that leave them out.

        They apply to the settings that the stub assigns rules to, before or after this call. With a strict
        stub they apply to all settings.

        Args:
            **features: a string, a context variable, which is read at each call, or a `Cohort`.

        Raises:
            InvalidArgumentError: a feature already has a default, or the value is of another type. (It
                is a ``ValueError``.)
        """
        self._state.set_defaults(features)

    def on_change(self, callback: Callable[[SettingsChanged], object], /) -> Subscription:
        """Call *callback* after each assignment that changed settings, as a client does after updates.

        It is called by the assignment itself. Settings change as well when a stub is entered or closed.

        Raises:
            InvalidArgumentError: *callback* is not an ordinary function.
        """
        return self._state.listeners.add("the stub's on_change", callback)

    def track_contexts(self, /, *args: Any, **contexts: Any) -> None:
        """Do nothing: a stub fetches no rules."""

    def add_settings(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing: assign rules to stub a setting."""

    def set(self, setting: Setting[T], value: T) -> None:
        """Give a setting one value for every context, as ``client[setting].rules = value`` does.

        Args:
            setting: the setting.
            value: the value. It becomes what it would be if it came from the service.

        Raises:
            InvalidArgumentError: it is not a setting.
        """
        self[setting].rules = value

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
        rules = _rules_for(_checked(setting), value, self._state)
        layer = self._state.assign(setting, rules, is_patch=True)
        patch = ExitStack()
        patch.callback(take_back, setting, layer)
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


def _rules_for(setting: Setting[Any], given: object, stub: StubState) -> tuple[TableRule[Any], ...]:
    rules = assigned_rules(setting, given)
    if stub.is_strict:
        refuse_unranked(setting, rules, stub.order)
    return rules


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

    From its first rules on, a setting behaves as with a started client: a feature that has neither an
    argument nor a default raises `MissingFeatureError`. Other settings are not affected, unless the stub
    is *strict*. Then this holds for all settings of the process while the stub is the main client,
    including those that are defined meanwhile. A setting without rules has its default value. So a unit
    test fails where production would. The pytest fixture ``heksher_stub`` is strict.

    While a setting has a stub's rules or a strict stub's default value, no client updates it.

    Rules can be assigned before the block and after it as well; then ``close()`` takes them back. All
    methods can be called in any thread.

    Args:
        *args: as for `ThreadHeksherClient`. Only the third is used, the context features: they rank
            the rules in this order, as the service's order would. Features of a setting that are not
            among them follow in the setting's own order, which may not be the service's.
        strict: whether all settings behave as with a started client, also those without rules, and rules
            are refused if the context features do not say which of them wins.
        **kwargs: likewise; only ``context_features`` is used, everything else is ignored.

    Attributes:
        status: that of a running client after its first update, without declarations. Assign another
            one to test how the application reports trouble.
        reload, ping, close: mocks, for assertions, or to set a ``side_effect``.
    """

    reload: MagicMock
    ping: MagicMock
    close: MagicMock

    def __init__(self, *args: Any, strict: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, strict=strict, **kwargs)
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
        strict: as for `SyncStubHeksherClient`.
        **kwargs: likewise.

    Attributes:
        status: as of `SyncStubHeksherClient`.
        reload, ping, aclose: mocks to be awaited, for assertions.
    """

    reload: AsyncMock
    ping: AsyncMock
    aclose: AsyncMock

    def __init__(self, *args: Any, strict: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, strict=strict, **kwargs)
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
