"""What an application says when it declares a setting: checks of the arguments, and where it says so."""

from __future__ import annotations

import inspect
import math
import re
import sys
from collections.abc import Iterable, Mapping
from types import FrameType
from typing import Any, cast

import msgspec

from heksher import _names, _registry
from heksher._rules.contexts import Missing
from heksher.exceptions import InvalidSettingError

# A null character in JSON text. After an odd number of backslashes, "u0000" would be plain text.
_NULL_CHARACTER = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")


def check_name(what: str, name: object) -> None:
    """Check the name of a setting.

    Raises:
        InvalidSettingError: the name is invalid. The message begins with *what*.
    """
    if not isinstance(name, str) or not _names.is_setting_name(name):
        raise InvalidSettingError(f"{what} {name!r}: expected {_names.SETTING_NAME_RULE}")


def one_spelling(
    name: str, plural: Iterable[str] | Missing, singular: Iterable[str] | Missing
) -> Iterable[str]:
    """Return the features that were given as one of the two parameters.

    Raises:
        TypeError: both were given, or neither.
    """
    if isinstance(singular, Missing):
        if isinstance(plural, Missing):
            raise TypeError(f"setting {name!r}: configurable_features is missing")
        return plural
    if isinstance(plural, Missing):
        return singular
    raise TypeError(
        f"setting {name!r}: configurable_features and configurable_feature are the same parameter: "
        "give one of them"
    )


def checked_metadata(name: str, metadata: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """Return a copy of the metadata that later changes of the original do not reach.

    Raises:
        InvalidSettingError: the service would refuse it.
    """
    if metadata is not None and not isinstance(metadata, Mapping):
        raise InvalidSettingError(
            f"setting {name!r}: invalid metadata {metadata!r}: expected a mapping with string keys"
        )
    checked = dict(metadata or {})
    for key in checked:
        if not isinstance(key, str) or not _names.is_metadata_key(key):
            raise InvalidSettingError(
                f"setting {name!r}: invalid metadata key {key!r}: "
                f"expected {_names.METADATA_KEY_RULE}"
            )
    try:
        encoded = msgspec.json.encode(checked)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise InvalidSettingError(
            f"setting {name!r}: the metadata has no JSON form: {error}"
        ) from None
    if _has_nonfinite_number(msgspec.to_builtins(checked)):
        raise InvalidSettingError(
            f"setting {name!r}: the metadata has an infinity or NaN: expected numbers that JSON has"
        )
    if _NULL_CHARACTER.search(encoded):
        raise InvalidSettingError(
            f"setting {name!r}: the metadata has a null character, which the service cannot store"
        )
    copy: dict[str, Any] = msgspec.json.decode(encoded)
    return copy


def _has_nonfinite_number(value: object) -> bool:
    """Whether *value*, of JSON's types, has an infinity or NaN in it."""
    if isinstance(value, float):
        return not math.isfinite(value)
    if isinstance(value, dict):
        value = list(cast("dict[str, object]", value).values())
    if isinstance(value, (list, tuple)):
        return any(map(_has_nonfinite_number, cast("Iterable[object]", value)))
    return False


def origin_of(setting: object) -> _registry.Origin:
    """Return where *setting* is created.

    A function may create settings for several modules. So the module counts as well whose body led to the
    call. ``__main__`` tells nothing: its body leads to everything.
    """
    frame = _caller(setting)
    module, place = _module_and_place(frame)
    body: FrameType | None = frame
    while body is not None and body.f_code.co_flags & inspect.CO_OPTIMIZED:  # a function's
        body = body.f_back
    if body is not None and body is not frame:  # a thread has none
        body_module, body_place = _module_and_place(body)
        if body_module != "__main__":
            module, place = f"{module} for {body_module}", f"{place} (called at {body_place})"
    return _registry.Origin(module, place)


def _module_and_place(frame: FrameType) -> tuple[str, str]:
    module = frame.f_globals.get("__name__", "?")
    return module, f"{frame.f_code.co_filename}:{frame.f_lineno}"


def _caller(setting: object) -> FrameType:
    """Return the frame of the code that creates *setting*.

    A fixed number of frames does not lead there. `Setting[int](...)` is called by the module `typing`,
    and a subclass may have an ``__init__`` of its own, at any depth. So the walk skips this module,
    `typing`, and every ``__init__`` whose ``self`` is this very setting. The last condition matters:
    the ``__init__`` of another setting, or of the application's own class that creates settings, is
    the place to report.
    """
    frame = sys._getframe(1)  # pyright: ignore[reportPrivateUsage]
    while frame.f_back is not None and (
        frame.f_globals.get("__name__") in (__name__, "typing")
        or (frame.f_code.co_name == "__init__" and frame.f_locals.get("self") is setting)
    ):
        frame = frame.f_back
    return frame
