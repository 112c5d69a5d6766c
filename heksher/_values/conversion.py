"""The setting type for a Python type that is not a container, or a hint what to use instead."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from enum import Enum, IntFlag
from typing import Any, Literal, TypeGuard

from heksher._text import shown
from heksher._values.base import SettingType
from heksher._values.options import HeksherEnum, HeksherFlags, LiteralType
from heksher._values.primitives import PRIMITIVES
from heksher.exceptions import UnsupportedTypeError


def scalar_type(form: Any) -> SettingType[Any]:
    """Return the setting type for *form*, which is not a container.

    Raises:
        UnsupportedTypeError: there is none.
    """
    found: SettingType[Any] | None = None
    if _is_setting_type(form):
        found = form
    elif typing.get_origin(form) is Literal:
        found = LiteralType[Any](typing.get_args(form))
    elif isinstance(form, type):
        found = _class_type(form)
    if found is None:
        raise UnsupportedTypeError(
            f"unsupported type {shown(form)}: {_hint(form)}. Supported are "
            "int, float, str or bool, Enum and IntFlag classes, Literal[...], "
            "Sequence[T] and Mapping[str, T]"
        )
    return found


def _class_type(class_: type[Any]) -> SettingType[Any] | None:
    if issubclass(class_, IntFlag):
        return HeksherFlags(class_)
    if issubclass(class_, Enum):
        return HeksherEnum(class_)
    return PRIMITIVES.get(class_)


def _hint(form: Any) -> str:
    """Say what to use instead of an unsupported type."""
    origin = typing.get_origin(form) or form
    if form is None or form is type(None):
        return "null belongs to no type; use the type of the values, with a default value of it"
    if origin in (typing.Union, types.UnionType, typing.Optional):
        return (
            "all values are of one type, and null belongs to none; use one type and a default value "
            "that means 'not set', or Literal[...] for options of several types"
        )
    if origin is Literal:
        return "use Literal['a', 'b'], with the options"
    if origin in (Any, object):
        return "the service checks values by their type; use the type that they have"
    if isinstance(form, (str, typing.ForwardRef)):
        return "use the type itself, without quotation marks"
    if origin is typing.Annotated or type(form).__name__ in ("NewType", "TypeAliasType", "TypeVar"):
        return "use the type that it stands for"
    if isinstance(origin, type):
        for kinds, hint in _HINTS:
            if issubclass(origin, kinds):
                return hint
    return "use a supported type, and convert the value where you read it"


# The first that fits counts, so that a str gets a better hint than other iterables.
_HINTS: tuple[tuple[type | tuple[type, ...], str], ...] = (
    (SettingType, "make an instance, as in HeksherSequence(int)"),
    (int, "use int"),
    (float, "use float"),
    (str, "use str"),
    (
        (bytes, bytearray, complex),
        "JSON has no such values; use str, and convert the value where you read it",
    ),
    (tuple, "a sequence has any number of elements of one type; use tuple[T, ...]"),
    (Mapping, "keys are strings; use Mapping[str, T], with the type T of the values"),
    (AbstractSet, "use Sequence[T], or an IntFlag class for a set of names"),
    (Iterable, "use Sequence[T], with the type T of the elements"),
)


# For type checkers: isinstance() does not say what the type is of.
def _is_setting_type(form: Any) -> TypeGuard[SettingType[Any]]:
    return isinstance(form, SettingType)
