"""Every error of this library: one root, and a class that says whose fault it was.

Attributes carry the data, the message carries the mend. Pure; knows neither httpx nor a backend.
Errors of HTTP are also ``httpx.HTTPError``: those subclasses are made in ``backends/_http/``, the
one place that imports httpx.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

__all__ = [
    "HeksherError",
    "InvalidArgumentError",
    "ContradictingArgumentError",
    "InvalidSettingError",
    "InvalidDefaultError",
    "UnsupportedTypeError",
    "DuplicateSettingError",
    "UnknownFeatureError",
    "MissingFeatureError",
    "BackendError",
    "WrongEventLoopError",
    "ClientNotStartedError",
    "ClientClosedError",
    "NoMatchError",
    "ServiceError",
    "ServiceUnreachableError",
    "UnexpectedStatusError",
    "InvalidResponseError",
    "DeclarationRejected",
    "StartupTimeoutError",
]


class HeksherError(Exception):
    """The root of all errors of this library."""

    def __reduce__(self) -> tuple[Any, ...]:
        # Errors are pickled on their way out of worker processes. Exception would call __init__ with
        # the finished message.
        return _restored, (type(self), self.args), self.__dict__


def _restored(kind: type[HeksherError], args: tuple[Any, ...]) -> HeksherError:
    return kind.__new__(kind, *args)


# --- the application's: an argument, a declaration or a call that cannot work ---------------------


class InvalidArgumentError(HeksherError, ValueError):
    """An argument of a client is unusable; the message says what was given and what is allowed."""


class ContradictingArgumentError(InvalidArgumentError, RuntimeError):
    """An argument contradicts what a client was told before, or the main client that runs."""


class InvalidSettingError(InvalidArgumentError):
    """A setting is declared in a way that no service would take.

    Raised where the setting is made; the message names the setting, what is wrong and what is wanted.
    """


class InvalidDefaultError(InvalidSettingError, TypeError):
    """A setting's default value is no value of the setting's type."""


class UnsupportedTypeError(InvalidSettingError, TypeError, RuntimeError):
    """No setting can have this type; the message says which to use instead."""


class DuplicateSettingError(InvalidSettingError):
    """Two modules declare settings of one name in different ways.

    Attributes:
        name: the name.
    """

    def __init__(self, message: str, name: str) -> None:
        super().__init__(message)
        self.name = name


class UnknownFeatureError(HeksherError, TypeError, ValueError):
    """``get()`` was given features that are not among the setting's configurable features.

    Attributes:
        setting: the setting's name.
        unknown: the names that were given and are not configurable.
        features: the configurable features.
    """

    def __init__(self, setting: str, unknown: Sequence[str], features: Sequence[str]) -> None:
        super().__init__(
            f"setting {setting!r} has no configurable feature "
            f"{' or '.join(repr(name) for name in unknown)}; "
            f"get() takes {', '.join(f'{name}=' for name in features)}"
        )
        self.setting = setting
        self.unknown: tuple[str, ...] = tuple(unknown)
        self.features: tuple[str, ...] = tuple(features)


class MissingFeatureError(HeksherError, RuntimeError):
    """A feature has no value: no argument, no default, or a context variable that is not set.

    Attributes:
        setting: the setting's name.
        feature: the feature's name.
    """

    def __init__(self, setting: str, feature: str) -> None:
        super().__init__(
            f"setting {setting!r} needs a value for the context feature {feature!r}: "
            f"call get({feature}=...), or give the client a default, "
            f"set_defaults({feature}=...) with a string or a context variable that has a value"
        )
        self.setting = setting
        self.feature = feature


class BackendError(HeksherError, RuntimeError):
    """The backend that was chosen cannot run here; the message says which can."""


class WrongEventLoopError(BackendError):
    """A client that lives in one event loop was used from another one."""


class ClientNotStartedError(HeksherError, RuntimeError):
    """`reload` was called before the client was started: by ``set_as_main()`` or a with-statement."""


class ClientClosedError(HeksherError, RuntimeError):
    """The client was closed, which is final. Settings keep their values; make a new client."""


class NoMatchError(HeksherError):
    """Raised by nothing: every setting has a default value. For ``except`` clauses that name it."""


# --- the service's: it is away, slow, or answers something else than the protocol says ------------


class ServiceError(HeksherError):
    """The service, or the way to it, is at fault. The settings' last rules stay in force.

    Where HTTP failed, the error is also the fitting one of the HTTP client's library, such as
    ``httpx.ConnectError``.
    """


class ServiceUnreachableError(ServiceError):
    """No answer came: refused, reset, timed out, not resolved, cut short, too large."""


class UnexpectedStatusError(ServiceError):
    """The service answered with a status that means no success for the request.

    What a client raises is also an ``httpx.HTTPStatusError``, with ``request`` and ``response``.

    Attributes:
        status: the HTTP status.
        retry_after: seconds that the service asked to wait, or None.
    """

    def __init__(self, message: str, status: int, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after = retry_after


class InvalidResponseError(ServiceError):
    """The body of an answer is not what the protocol says."""


class DeclarationRejected(ServiceError):
    """The service refused declarations. Raised by a start with ``startup="raise"``.

    Attributes:
        rejections: by name of the setting, why it was refused and what mends it.
    """

    def __init__(self, rejections: dict[str, str]) -> None:
        super().__init__("\n".join(f"setting {name!r}: {why}" for name, why in rejections.items()))
        self.rejections: dict[str, str] = dict(rejections)


class StartupTimeoutError(ServiceError, TimeoutError):
    """The client was not ready within ``startup_timeout``."""
