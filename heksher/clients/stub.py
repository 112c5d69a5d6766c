"""Stub clients, for unit tests of applications: settings answer from rules that a test assigns.

It imports ``unittest.mock``, so nothing that an application runs may import it.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager, ExitStack
from contextvars import ContextVar
from typing import Any, Self, TypeVar
from unittest.mock import AsyncMock, MagicMock

from heksher._given_rules import Rule
from heksher._rules.cohorts import Cohort
from heksher.clients._stub_layers import StubState, take_back
from heksher.clients._stub_rules import SavedRules, StubbedSetting, assign, names_in
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


class _Stub:
    """The public methods that both kinds of stubs have. Each adds how it is entered and closed."""

    status: ClientStatus

    def __init__(self, *args: Any, strict: bool = False, **kwargs: Any) -> None:
        features = args[2] if len(args) > 2 else kwargs.get("context_features")
        self._state = StubState(names_in(features), is_strict=strict)
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
        layer = assign(self._state, setting, value, is_patch=True)
        patch = ExitStack()
        patch.callback(take_back, setting, layer)
        return patch

    def __getitem__(self, setting: Setting[T]) -> StubbedSetting[T]:
        """Return *setting* as this stub sees it, to assign to its ``rules``.

        Raises:
            InvalidArgumentError: it is not a setting.
        """
        return StubbedSetting(setting, self._state)


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

    Rules can be assigned before the block and after it as well; then ``close()`` takes them back. A client
    that serves these settings goes on with its updates, and what it has read is in force afterwards. All
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
