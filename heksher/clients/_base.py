"""What the two clients share: checking the arguments, and the calls that do no I/O."""

from __future__ import annotations

import inspect
import math
import random as random_module
import re
from collections.abc import Callable, Iterable, Mapping
from contextvars import ContextVar
from functools import partial
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import unquote, urlsplit, urlunsplit

from heksher._client.core import Core, CoreOptions
from heksher._client.snapshot import AnyPath, checked_path
from heksher._rules.contexts import checked_features
from heksher.backends.base import Backend, Clock, HttpOptions
from heksher.exceptions import InvalidArgumentError
from heksher.setting import Setting
from heksher.status import ClientStatus

Startup = Literal["raise", "continue"]

# More seconds, 23 days, are as good as no bound, and more than some systems' timers can hold.
_MOST_SECONDS = 2_000_000.0


class ClientFace:
    """The part of a client that works alike everywhere. See `AsyncHeksherClient`."""

    _core: Core

    def _make_core(
        self,
        choose_backend: Callable[[], Backend | None],
        service_url: str,
        update_interval: float,
        context_features: Iterable[str],
        http_client_args: Mapping[str, Any] | None,
        http_client: Any,
        startup: Startup,
        startup_timeout: float,
        request_timeout: float,
        max_response_bytes: int,
        clock: Clock | None,
        random: Callable[[], float] | None,
        snapshot: AnyPath | None,
    ) -> None:
        base_url, auth = _checked_url(service_url)
        if startup not in ("raise", "continue"):
            raise InvalidArgumentError(f'startup={startup!r}: "raise" or "continue" is wanted')
        _check_http_client(http_client, http_client_args)
        http = HttpOptions(
            base_url,
            auth,
            dict(http_client_args or {}),
            http_client,
            _checked_seconds("request_timeout", request_timeout),
            _checked_bytes("max_response_bytes", max_response_bytes),
        )
        self._core = Core(
            choose_backend,
            CoreOptions(
                http,
                _checked_seconds("update_interval", update_interval),
                checked_features(context_features, at_least=0),
                startup == "raise",
                _checked_seconds("startup_timeout", startup_timeout),
                random or random_module.random,
                self._on_update,
                clock,
                None if snapshot is None else checked_path(snapshot),
            ),
        )

    if TYPE_CHECKING:
        # So that checkers take a function that is assigned as well as a method that overrides.
        on_update_ok: Callable[[], None]
        on_update_error: Callable[[Exception], None]
    else:

        def on_update_ok(self) -> None:
            """Called after each update that succeeded. To be overridden, or assigned on the client.

            Called where updates run: in the event loop, or in the thread that updates. It should be
            short; an error in it is logged, and harmless.
            """

        def on_update_error(self, exc: Exception) -> None:
            """Called after each update that failed. To be overridden, or assigned on the client.

            Args:
                exc: what went wrong. Settings keep their last values, and it is tried again.
            """

    def _on_update(self, error: Exception | None) -> None:
        # Through the instance at each call, for what was assigned later.
        hook: Callable[[], object] = (
            self.on_update_ok if error is None else partial(self.on_update_error, error)
        )
        result = hook()
        if inspect.iscoroutine(result):
            result.close()
            raise TypeError("it is a coroutine function; an ordinary function is wanted")

    @property
    def status(self) -> ClientStatus:
        """How the client is doing at this moment."""
        return self._core.status

    def set_defaults(self, /, **features: str | ContextVar[str]) -> None:
        """Give context features values for the calls of ``get()`` that leave them out.

        Callable at any time before the client is closed, and several times for different features.

        Args:
            **features: a string, which is a constant, or a context variable, whose value counts at
                the moment of the call.

        Raises:
            ContradictingArgumentError: a feature has a default already.
            InvalidArgumentError: the value is neither.
            ClientClosedError: the client was closed.
        """
        self._core.set_defaults(features)

    def track_contexts(self, /, **features: str | Iterable[str]) -> None:
        """Say which contexts the application will ask for, so that other rules are left out.

        Without any call all rules are fetched. With one, rules are left out that have a condition
        on a feature that is not tracked, or on a value that is not. Calls add up; each counts from
        the next update.

        Args:
            **features: one value, several, or `TRACK_ALL`.

        Raises:
            ContradictingArgumentError: a feature is tracked with all values and with single ones.
            InvalidArgumentError: a value is no string.
            ClientClosedError: the client was closed.
        """
        self._core.track_contexts(features)

    def add_settings(self, settings: Iterable[Setting[Any]]) -> None:
        """Serve these settings from this client, whichever the main client is.

        They are declared and fetched with the next update, which is made at once if the client runs.

        Raises:
            InvalidArgumentError: one of them is no `Setting`.
            DuplicateSettingError: the client serves a differing setting of the same name already.
            ClientClosedError: the client was closed.
        """
        self._core.add_settings(settings)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.status}>"


def _checked_url(url: object) -> tuple[str, tuple[str, str] | None]:
    """Return the address with a slash at its end and without credentials, and these."""
    wanted = "http://HOST:PORT or https://HOST is wanted"
    # Never show what may hold a password: an "@" may be the end of one, and other types print theirs.
    if not isinstance(url, str):
        raise InvalidArgumentError(f"the service's URL is of type {type(url).__name__}; {wanted}")
    may_show = "@" not in url
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        reason = str(error) if may_show else "are its user name and password percent-encoded?"
        raise InvalidArgumentError(f"the service's URL is no URL ({reason}); {wanted}") from None
    # What stands behind these may be a key.
    shown = repr(re.split("[?#]", url)[0]) if may_show else "one with a user name"
    if parts.scheme not in ("http", "https") or not host or not host.isprintable() or " " in host:
        raise InvalidArgumentError(f"the service's URL is {shown}; {wanted}")
    if "@" in parts.path or "@" in parts.query or "@" in parts.fragment:
        raise InvalidArgumentError(
            "the service's URL has an @ behind the host; "
            "if that ends a password, percent-encode the password: %2F for /, %3F for ?, %23 for #"
        )
    if parts.query or parts.fragment:
        raise InvalidArgumentError(
            f"the service's URL is {shown}, with a query or a fragment; {wanted}"
        )
    name = f"[{host}]" if ":" in host else host
    netloc = name if port is None else f"{name}:{port}"
    base_url = urlunsplit((parts.scheme, netloc, parts.path.rstrip("/") + "/", "", ""))
    if parts.username is None and parts.password is None:
        return base_url, None
    return base_url, (unquote(parts.username or ""), unquote(parts.password or ""))


def _check_http_client(http_client: object, http_client_args: object) -> None:
    # Neither is shown: both may hold a token.
    if http_client_args is not None and not isinstance(http_client_args, Mapping):
        raise InvalidArgumentError(
            f"http_client_args is of type {type(http_client_args).__name__}; "
            "a mapping of keyword arguments for the HTTP client is wanted"
        )
    if not (http_client is None or callable(http_client)) and not hasattr(
        http_client, "build_request"
    ):
        raise InvalidArgumentError(
            f"http_client is of type {type(http_client).__name__}; "
            "a ready HTTP client or a callable that makes one is wanted"
        )
    if http_client is not None and http_client_args:
        raise InvalidArgumentError(
            "http_client and http_client_args are both given; "
            "a ready client cannot be given arguments any more, so give one of the two"
        )


def _checked_seconds(name: str, value: object) -> float:
    try:
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            seconds = float(value)
            if math.isfinite(seconds) and seconds > 0:
                return min(seconds, _MOST_SECONDS)
    except OverflowError:  # an int beyond all floats
        pass
    raise InvalidArgumentError(f"{name}={value!r}: a number of seconds above 0 is wanted")


def _checked_bytes(name: str, value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return value
    raise InvalidArgumentError(f"{name}={value!r}: a number of bytes above 0 is wanted")
