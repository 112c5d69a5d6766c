"""Every error of this library: one root, and a class that says who is at fault.

The attributes carry the data; the message says what is wrong, what was expected and what to do. Errors of
HTTP are also ``httpx.HTTPError``: these subclasses are made in ``backends/_http``, the only place that
imports httpx. Knows nothing else of this package but how names are shown.
"""

from __future__ import annotations

import copyreg
import keyword
from collections.abc import Sequence
from typing import Any

from heksher._text import joined

# Name at most this many settings in a message, one line each.
_MAX_LINES = 20

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
    "FeatureTypeError",
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
        # the finished message instead of its arguments.
        return copyreg.__newobj__, (type(self), *self.args), self.__dict__  # type: ignore[attr-defined]


def _argument(feature: str, value: str = "...") -> str:
    """Return how to write the argument of a call: a feature may be called ``class``, or ``1a``."""
    if feature.isidentifier() and not keyword.iskeyword(feature):
        return f"{feature}={value}"
    return f"**{{{feature!r}: {value}}}"


# --- the application's fault: an argument, a declaration or a call that cannot work ---------------


class InvalidArgumentError(HeksherError, ValueError):
    """An argument is invalid."""


class ContradictingArgumentError(InvalidArgumentError, RuntimeError):
    """An argument contradicts an earlier one of the same client, or the main client that is running."""


class InvalidSettingError(InvalidArgumentError):
    """The service would refuse the declaration of a setting.

    Raised where the setting is created.
    """


class InvalidDefaultError(InvalidSettingError, TypeError):
    """The default value of a setting is not a value of the setting's type."""


class UnsupportedTypeError(InvalidSettingError, TypeError, RuntimeError):
    """A setting cannot have this type. The message says which to use instead."""


class DuplicateSettingError(InvalidSettingError):
    """Two modules declare settings of one name in different ways.

    Attributes:
        name: the name.
    """

    def __init__(self, message: str, name: str) -> None:
        super().__init__(message)
        self.name = name


class UnknownFeatureError(HeksherError, TypeError, ValueError):
    """``get()`` was called with features that are not configurable features of the setting.

    Attributes:
        setting: the setting's name.
        unknown: the names of these features.
        features: the configurable features.
    """

    def __init__(self, setting: str, unknown: Sequence[str], features: Sequence[str]) -> None:
        super().__init__(
            f"setting {setting!r} has no configurable feature "
            f"{joined(map(repr, unknown), 'or')}; "
            f"get() takes {joined(f'{name}=' for name in features)}"
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

    def __init__(self, setting: str, feature: str, cohort: str | None = None) -> None:
        given = f"call get({_argument(feature)})"
        if cohort is not None:  # the setting does not take the feature
            given = (
                f"the cohort {cohort!r} is computed from it: call get({_argument(cohort)}), "
                f"add {feature!r} to the setting's configurable features"
            )
        super().__init__(
            f"setting {setting!r} needs a value for the context feature {feature!r}: {given}, "
            f"or give the client a default, set_defaults({_argument(feature)}) "
            "with a string or a context variable that has a value"
        )
        self.setting = setting
        self.feature = feature


class FeatureTypeError(HeksherError, TypeError):
    """The value of a feature is neither a string nor None: the argument, or what a context variable holds.

    Attributes:
        setting: the setting's name.
        feature: the feature's name.
        type_name: the name of the value's type.
    """

    def __init__(
        self, setting: str, feature: str, type_name: str, conversion: str = "str(...)"
    ) -> None:
        super().__init__(
            f"setting {setting!r}: invalid value of type {type_name} for the context feature "
            f"{feature!r}: expected a string, such as {_argument(feature, conversion)}, "
            "or None for no value"
        )
        self.setting = setting
        self.feature = feature
        self.type_name = type_name


class BackendError(HeksherError, RuntimeError):
    """The chosen backend cannot run here. The message says which can."""


class WrongEventLoopError(BackendError):
    """A client that belongs to one event loop was used from another one."""


class ClientNotStartedError(HeksherError, RuntimeError):
    """The call needs a client that was started, by ``set_as_main()`` or a ``with`` statement."""


class ClientClosedError(HeksherError, RuntimeError):
    """The client was closed, which is final. Settings keep their values; create a new client."""


class NoMatchError(HeksherError):
    """Never raised, since every setting has a default value. For ``except`` clauses that name it."""


# --- the service's fault: it is unreachable, slow, or does not follow the protocol ----------------


class ServiceError(HeksherError):
    """The service, or the network on the way to it, failed. Settings keep their last rules.

    If HTTP failed, the error is also the matching one of the HTTP client's library, such as
    ``httpx.ConnectError``.
    """


class ServiceUnreachableError(ServiceError):
    """No complete answer arrived: refused, reset, timed out, not resolved or cut short."""


class UnexpectedStatusError(ServiceError):
    """The service answered with a status that does not mean success.

    If a client raises it, it is also an ``httpx.HTTPStatusError``, with ``request`` and ``response``.

    Attributes:
        status: the HTTP status.
        retry_after: seconds that the service asked to wait, or None.
    """

    def __init__(self, message: str, status: int, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after = retry_after


class InvalidResponseError(ServiceError):
    """The body of an answer is too large or does not follow the protocol."""


class DeclarationRejected(ServiceError):
    """The service refused declarations. Raised by a start with ``startup="raise"``.

    Attributes:
        rejections: why each declaration was refused and what to do, by the setting's name.
    """

    def __init__(self, rejections: dict[str, str]) -> None:
        lines = [f"setting {name!r}: {why}" for name, why in rejections.items()]
        if more := lines[_MAX_LINES:]:
            lines[_MAX_LINES:] = [f"and {len(more)} more: see the attribute `rejections`"]
        super().__init__("\n".join(lines))
        self.rejections: dict[str, str] = dict(rejections)


class StartupTimeoutError(ServiceError, TimeoutError):
    """The client was not ready within ``startup_timeout``."""
