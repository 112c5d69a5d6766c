"""What the two clients share: the calls that do no I/O, and the hooks."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from heksher._application_code import call_plain_function
from heksher._client.core import Core
from heksher._client.options import ClientOptions
from heksher._rules.cohorts import Cohort
from heksher.backends.base import Backend
from heksher.setting import Setting, SettingsChanged, Subscription
from heksher.status import ClientStatus


class ClientBase:
    """The part of a client that works alike everywhere. See `AsyncHeksherClient`."""

    def __init__(
        self, choose_backend: Callable[[], Backend | None], options: ClientOptions
    ) -> None:
        self._core = Core(choose_backend, options, self._on_update)

    if TYPE_CHECKING:
        # So that checkers take a function that is assigned as well as a method that overrides.
        on_update_ok: Callable[[], None]
        on_update_error: Callable[[Exception], None]
    else:

        def on_update_ok(self) -> None:
            """Do something after each update that succeeded. Override it, or assign a function to it.

            It is called where updates run: in the event loop, or in the thread that updates. Keep it
            short. What it raises is logged and contained.
            """

        def on_update_error(self, exc: Exception) -> None:
            """Do something after each update that failed. Override it, or assign a function to it.

            Args:
                exc: what went wrong. Settings keep their last values, and the update is tried again.
            """

    def _on_update(self, error: Exception | None) -> None:
        # Looked up on the instance at each call, since it may be assigned at any time.
        if error is None:
            call_plain_function(self.on_update_ok)
        else:
            call_plain_function(self.on_update_error, error)

    def on_change(self, callback: Callable[[SettingsChanged], object], /) -> Subscription:
        """Call *callback* after each update that changed settings of this client.

        It gets one `SettingsChanged`, with the names of the settings whose rules or default values are
        others than before, and is called as the callbacks of `Setting.on_change` are.

        Args:
            callback: an ordinary function of one argument.

        Returns:
            the registration. The client keeps the callback, whether or not you keep this.

        Raises:
            InvalidArgumentError: *callback* is not an ordinary function.
        """
        return self._core.publisher.listeners.add("the client's on_change", callback)

    @property
    def status(self) -> ClientStatus:
        """How the client is doing at this moment."""
        return self._core.status

    def set_defaults(
        self, /, **features: str | ContextVar[str] | ContextVar[str | None] | Cohort
    ) -> None:
        """Give context features values for the calls of ``get()`` that leave them out.

        It can be called at any time before the client is closed, and again for other features.

        Args:
            **features: a string, which is a constant; a context variable, which is read at each
                call of ``get()`` and holds a string, or None for "no value here"; or a `Cohort`, which
                is computed at each call from another feature.

        Raises:
            ContradictingArgumentError: a feature has a default already.
            InvalidArgumentError: a value is of another type, or a cohort's source is a cohort.
            ClientClosedError: the client was closed.
        """
        self._core.set_defaults(features)

    def track_contexts(self, /, **features: str | Iterable[str]) -> None:
        """Say which contexts the application will ask for, so that other rules are not fetched.

        If this is never called, all rules are fetched. Otherwise, rules with a condition on a feature or
        a value that is not tracked are left out. Calls add up. Each counts from the next update.

        Args:
            **features: one value, several, or `TRACK_ALL`.

        Raises:
            ContradictingArgumentError: a feature is tracked with all values and with single ones.
            InvalidArgumentError: a value is not a string.
            ClientClosedError: the client was closed.
        """
        self._core.track_contexts(features)

    def add_settings(self, settings: Iterable[Setting[Any]]) -> None:
        """Serve these settings from this client, whichever the main client is.

        All of them are added, or none. They are declared and fetched with the next update, which is made
        at once if the client runs.

        Raises:
            InvalidArgumentError: one of them is not a `Setting`.
            DuplicateSettingError: the client serves a differing setting of the same name already.
            ClientClosedError: the client was closed.
        """
        self._core.add_settings(settings)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.status}>"
