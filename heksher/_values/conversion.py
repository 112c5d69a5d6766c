"""The setting type for a Python type that is no container, or what to use instead of it."""

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
    if _is_setting_type(form):
        return form
    found = _of_class(form) if _is_class(form) else None
    if typing.get_origin(form) is Literal:
        found = LiteralType[Any](typing.get_args(form))
    if found is None:
        raise UnsupportedTypeError(
            f"{shown(form)} is no type that a setting can have: {_mend(form)}. There are "
            "int, float, str or bool, Enum and IntFlag classes, Literal[...], "
            "Sequence[T] and Mapping[str, T]"
        )
    return found


def _of_class(class_: type[Any]) -> SettingType[Any] | None:
    if issubclass(class_, IntFlag):
        return HeksherFlags(class_)
    if issubclass(class_, Enum):
        return HeksherEnum(class_)
    return PRIMITIVES.get(class_)


def _mend(form: Any) -> str:
    """Say what to use instead of a type that no setting can have."""
    origin = typing.get_origin(form) or form
    if form is None or form is type(None):
        return "null is a value of no type; use the type of the values, and a default value of it"
    if origin in (typing.Union, types.UnionType, typing.Optional):
        return (
            "values are of one type, and null is of none; use one type, with a default value of it "
            "for what is not set, or Literal[...] for options of several types"
        )
    if origin is Literal:
        return "use Literal['a', 'b'], with the options"
    if origin in (Any, object):
        return "the service checks values by their type; use the one that they have"
    if isinstance(form, (str, typing.ForwardRef)):
        return "use the type itself, without quotation marks"
    if origin is typing.Annotated or type(form).__name__ in ("NewType", "TypeAliasType", "TypeVar"):
        return "use the type that it stands for"
    if _is_class(origin):
        for kinds, mend in _MENDS:
            if issubclass(origin, kinds):
                return mend
    return "use one that the service has, and convert where you read it"


# In this order: an int class is no sequence, a str is one.
_MENDS: tuple[tuple[type | tuple[type, ...], str], ...] = (
    (SettingType, "make one, as in HeksherSequence(int)"),
    (int, "use int"),
    (float, "use float"),
    (str, "use str"),
    (
        (bytes, bytearray, complex),
        "JSON has no such values; use str, and convert where you read it",
    ),
    (tuple, "elements are of one type and any number; use tuple[T, ...] with their type T"),
    (Mapping, "keys are strings; use Mapping[str, T], with the type T of the values"),
    (AbstractSet, "use Sequence[T], or an IntFlag class for a set of names"),
    (Iterable, "use Sequence[T], with the type T of the elements"),
)


# For the checkers: isinstance() leaves open what the types are of.
def _is_class(form: Any) -> TypeGuard[type[Any]]:
    return isinstance(form, type)


def _is_setting_type(form: Any) -> TypeGuard[SettingType[Any]]:
    return isinstance(form, SettingType)
