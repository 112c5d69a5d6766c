"""All arguments of a client, and their checks.

Pure: nothing is opened or connected. The two public constructors spell the arguments out for their readers
and hand them over here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, Literal, TypeAlias
from urllib.parse import unquote, urlsplit, urlunsplit

from heksher._client.files import AnyPath, checked_path, file_of_url
from heksher._client.stand_ins import Chance
from heksher._rules.contexts import checked_features
from heksher.backends.base import Clock, HttpOptions
from heksher.exceptions import InvalidArgumentError

Startup: TypeAlias = Literal["raise", "continue"]

# Seconds that a start may take if the application does not say. One that goes on trying in the background
# does not keep the application waiting for long.
_STARTUP_TIMEOUTS: Final[Mapping[Startup, float]] = {"continue": 5.0, "raise": 30.0}
# A longer wait, 23 days, is as good as an endless one, and more than the timers of some systems can hold.
_MAX_SECONDS = 2_000_000.0


class ClientOptions:
    """A client's arguments, checked. `heksher.AsyncHeksherClient` describes them.

    Raises:
        InvalidArgumentError: one of them is unusable.

    Attributes:
        http: how to reach the service.
        file: the absolute path of the file that is the service, or None.
        update_interval: seconds between updates.
        context_features: those that the application knows.
        startup: whether a start that fails raises, or goes on trying.
        startup_timeout: seconds that a start may take.
        snapshot: the absolute path of the file that keeps the rules, or None.
        overrides: the absolute path of the file of overrides, or None.
        clock: a clock instead of the backend's, or None.
        random: returns uniformly random numbers from [0, 1), for the jitter.
    """

    def __init__(
        self,
        *,
        service_url: str,
        update_interval: float,
        context_features: Iterable[str],
        http_client_args: Mapping[str, Any] | None,
        http_client: Any,
        startup: Startup,
        startup_timeout: float | None,
        request_timeout: float,
        max_response_bytes: int,
        snapshot: AnyPath | None,
        overrides: AnyPath | None,
        clock: Clock | None,
        random: Callable[[], float] | None,
    ) -> None:
        self.file: Final = file_of_url(service_url)
        base_url, auth = _checked_url(service_url) if self.file is None else (service_url, None)
        if startup not in ("raise", "continue"):
            raise InvalidArgumentError(
                f'invalid startup={startup!r}: expected "raise" or "continue"'
            )
        _check_http_client(http_client, http_client_args)
        self.http: Final = HttpOptions(
            base_url,
            auth,
            dict(http_client_args or {}),
            http_client,
            _checked_seconds("request_timeout", request_timeout),
            _checked_bytes("max_response_bytes", max_response_bytes),
        )
        self.update_interval: Final = _checked_seconds("update_interval", update_interval)
        self.context_features: Final = checked_features(context_features, at_least=0)
        self.startup: Final = startup
        if startup_timeout is None:
            startup_timeout = _STARTUP_TIMEOUTS[startup]
        self.startup_timeout: Final = _checked_seconds("startup_timeout", startup_timeout)
        self.snapshot: Final = checked_path("snapshot", snapshot)
        self.overrides: Final = checked_path("overrides", overrides)
        if self.file is not None:
            _refuse_for_file(
                http_client=http_client, http_client_args=http_client_args, snapshot=snapshot
            )
        self.clock: Final = clock
        self.random: Final = Chance(random)


def _checked_url(url: object) -> tuple[str, tuple[str, str] | None]:
    """Return the address with a slash at its end and without credentials, and the credentials."""
    expected = "expected http://HOST:PORT or https://HOST, or file:///PATH for a file"
    # A text that may hold a password is never shown. An "@" may be the end of one, and objects of other
    # types may print theirs.
    if not isinstance(url, str):
        raise InvalidArgumentError(f"service_url is of type {type(url).__name__}: {expected}")
    may_show = "@" not in url
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        reason = str(error) if may_show else "are its user name and password percent-encoded?"
        raise InvalidArgumentError(f"service_url cannot be parsed ({reason}): {expected}") from None
    # A query or a fragment may hold a key.
    shown = repr(re.split("[?#]", url)[0]) if may_show else "with a user name"
    if parts.scheme not in ("http", "https") or not host or not host.isprintable() or " " in host:
        raise InvalidArgumentError(f"invalid service_url {shown}: {expected}")
    if "@" in parts.path or "@" in parts.query or "@" in parts.fragment:
        raise InvalidArgumentError(
            "invalid service_url: it has an @ after the host. "
            "If the @ ends a password, percent-encode the password: %2F for /, %3F for ?, %23 for #"
        )
    if parts.query or parts.fragment:
        raise InvalidArgumentError(
            f"invalid service_url {shown}: it has a query or a fragment; {expected}"
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
            f"http_client_args is of type {type(http_client_args).__name__}: "
            "expected a mapping of keyword arguments for the HTTP client"
        )
    if not (http_client is None or callable(http_client)) and not hasattr(
        http_client, "build_request"
    ):
        raise InvalidArgumentError(
            f"http_client is of type {type(http_client).__name__}: "
            "expected a ready HTTP client, or a callable that makes one"
        )
    if http_client is not None and http_client_args:
        raise InvalidArgumentError(
            "http_client and http_client_args are both given, but a ready client takes no arguments: "
            "give one of the two"
        )


def _refuse_for_file(**arguments: object) -> None:
    for name, value in arguments.items():
        if value:
            raise InvalidArgumentError(
                f"{name} makes no sense where service_url is a file: leave it out"
            )


def _checked_seconds(name: str, value: object) -> float:
    try:
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            seconds = float(value)
            if math.isfinite(seconds) and seconds > 0:
                return min(seconds, _MAX_SECONDS)
    except OverflowError:  # an int beyond all floats
        pass
    raise InvalidArgumentError(f"invalid {name}={value!r}: expected a number of seconds above 0")


def _checked_bytes(name: str, value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return value
    raise InvalidArgumentError(f"invalid {name}={value!r}: expected a number of bytes above 0")
