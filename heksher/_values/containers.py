"""Sequences and mappings, and `setting_type`: the type for a Python type is made by making containers
of types, and a container is made from a Python type, so that the two belong together.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeVar, overload

from heksher._text import shown
from heksher._values.base import (
    Form,
    SettingType,
    TypeLike,
    encode_text,
    is_list,
    is_object,
    leave_out,
    refuse,
)
from heksher._values.conversion import scalar_type
from heksher.exceptions import InvalidDefaultError, UnsupportedTypeError

T = TypeVar("T")
ElementT = TypeVar("ElementT")

# What the service is known to take. A type is as deep as the containers in it are nested.
_MAX_DEPTH = 200

_TOO_DEEP = f"the service takes types that nest at most {_MAX_DEPTH} times: use a flatter one"


def _depth(type_: SettingType[Any]) -> int:
    """How many containers are nested in *type_*, itself included."""
    return type_.depth if isinstance(type_, (HeksherSequence, HeksherMapping)) else 0


def _depth_around(inner: SettingType[Any]) -> int:
    depth = _depth(inner)
    if depth >= _MAX_DEPTH:
        raise UnsupportedTypeError(_TOO_DEEP)
    return depth + 1


class HeksherSequence(SettingType[Sequence[ElementT]]):
    """Any number of values of one type, in order; they come out as a tuple.

    In a list that is read, elements that are no values of the inner type are left out, and listed in
    ``coercions``.

    Attributes:
        inner: the type of the elements.
        depth: how many sequences and mappings are nested, this one included.
    """

    __slots__ = ("depth", "inner")

    def __init__(self, inner: TypeLike[ElementT]) -> None:
        """Make the type of sequences of *inner*, which is anything that `setting_type` takes.

        Raises:
            UnsupportedTypeError: there is no setting type for *inner*, or it nests too deeply.
        """
        self.inner: Final[SettingType[ElementT]] = _convert(inner)
        self.depth: Final = _depth_around(self.inner)

    @property
    def wire_name(self) -> str:
        return f"Sequence<{self.inner.wire_name}>"

    def encode(self, value: Sequence[ElementT]) -> list[Any]:
        if not isinstance(value, Sequence) or isinstance(value, (str, bytes, bytearray)):
            raise refuse(value, "a sequence like a list or a tuple")
        elements: list[Any] = []
        for index, element in enumerate(value):
            try:
                elements.append(self.inner.encode(element))
            except InvalidDefaultError as error:
                raise InvalidDefaultError(f"element {index}: {error}") from None
        return elements

    def decode(self, raw: Any, coercions: list[str]) -> tuple[ElementT, ...]:
        if not is_list(raw):
            raise ValueError(f"{shown(raw)} is no list")
        decode = self.inner.decode
        elements: list[ElementT] = []
        within: list[str] = []
        for index, element in enumerate(raw):
            try:
                elements.append(decode(element, within))
            except ValueError as error:
                within[:] = [str(error)]
            if within:
                for each in within:
                    leave_out(coercions, f"element {index}: {each}")
                within.clear()
        return tuple(elements)

    def _identity(self) -> tuple[object, ...]:
        return type(self), self.inner


class HeksherMapping(SettingType[Mapping[str, ElementT]]):
    """Values of one type under string keys; they come out as a read-only mapping.

    The mapping keeps the order in which the keys came, compares as a dict does, and has a ``copy()``
    that can be changed. In an object that is read, pairs whose value is none of the inner type are left
    out, and listed in ``coercions``.

    Attributes:
        inner: the type of the values.
        depth: how many sequences and mappings are nested, this one included.
    """

    __slots__ = ("depth", "inner")

    def __init__(self, inner: TypeLike[ElementT]) -> None:
        """Make the type of mappings to *inner*, which is anything that `setting_type` takes.

        Raises:
            UnsupportedTypeError: there is no setting type for *inner*, or it nests too deeply.
        """
        self.inner: Final[SettingType[ElementT]] = _convert(inner)
        self.depth: Final = _depth_around(self.inner)

    @property
    def wire_name(self) -> str:
        return f"Mapping<{self.inner.wire_name}>"

    def encode(self, value: Mapping[str, ElementT]) -> dict[str, Any]:
        if not isinstance(value, Mapping):
            raise refuse(value, "a mapping like a dict")
        pairs: dict[str, Any] = {}
        for key, element in value.items():
            if not isinstance(key, str):
                raise InvalidDefaultError(f"the key {refuse(key, 'a str')}")
            try:
                pairs[encode_text(key)] = self.inner.encode(element)
            except InvalidDefaultError as error:
                raise InvalidDefaultError(f"key {shown(key)}: {error}") from None
        return pairs

    def decode(self, raw: Any, coercions: list[str]) -> Mapping[str, ElementT]:
        if not is_object(raw):
            raise ValueError(f"{shown(raw)} is no object")
        decode = self.inner.decode
        pairs: dict[str, ElementT] = {}
        within: list[str] = []
        for key, element in raw.items():
            try:
                pairs[key] = decode(element, within)
            except ValueError as error:
                within[:] = [str(error)]
            if within:
                for each in within:
                    leave_out(coercions, f"key {shown(key)}: {each}")
                within.clear()
        return types.MappingProxyType(pairs)

    def _identity(self) -> tuple[object, ...]:
        return type(self), self.inner


# Values come out as tuples and read-only mappings, whichever way the type was spelled.
@overload
def setting_type(type_: SettingType[T]) -> SettingType[T]: ...
@overload
def setting_type(
    type_: Form[list[ElementT]] | Form[tuple[ElementT, ...]],
) -> SettingType[Sequence[ElementT]]: ...
@overload
def setting_type(type_: Form[dict[str, ElementT]]) -> SettingType[Mapping[str, ElementT]]: ...
@overload
def setting_type(type_: Form[T]) -> SettingType[T]: ...
def setting_type(type_: Any) -> SettingType[Any]:
    """Return the setting type for a Python type.

    ========================================================  =========================================
    given                                                     values
    ========================================================  =========================================
    ``int``, ``float``, ``str``, ``bool``                     of that type; a bool is no int
    an Enum class                                             its members: `HeksherEnum`
    an IntFlag class                                          combinations of members: `HeksherFlags`
    ``Literal["a", "b"]``                                     the options, as they are
    ``Sequence[T]``, ``list[T]``, ``tuple[T, ...]``           tuples: `HeksherSequence`
    ``Mapping[str, T]``, ``dict[str, T]``                     read-only mappings: `HeksherMapping`
    a `SettingType`                                           it is returned as it is
    ========================================================  =========================================

    T is again any of these. ``typing.List`` and the like are taken as well.

    Args:
        type_: the type.

    Raises:
        UnsupportedTypeError: no setting can have this type; the message says which to use instead.
    """
    return _convert(type_)


def _convert(type_: Any) -> SettingType[Any]:
    # A loop and no recursion: how deep Python recurses is no limit of the service's.
    around: list[type[HeksherSequence[Any] | HeksherMapping[Any]]] = []
    form = type_
    while (step := _open_container(form)) is not None:
        if len(around) == _MAX_DEPTH:
            raise UnsupportedTypeError(f"in {shown(type_)}: {_TOO_DEEP}")
        container, form = step
        around.append(container)
    try:
        found = scalar_type(form)
        for container in reversed(around):
            found = container(found)
    except UnsupportedTypeError as error:
        if not around:
            raise
        raise UnsupportedTypeError(f"in {shown(type_)}: {error}") from None
    return found


def _open_container(
    form: Any,
) -> tuple[type[HeksherSequence[Any] | HeksherMapping[Any]], Any] | None:
    """Return the container that *form* is and the type of what is in it, or None."""
    match typing.get_origin(form), typing.get_args(form):
        case (origin, (element,)) if origin in (list, Sequence):
            return HeksherSequence, element
        case (origin, (element, end)) if origin is tuple and end is Ellipsis:
            return HeksherSequence, element
        case (origin, (key, element)) if origin in (dict, Mapping) and key is str:
            return HeksherMapping, element
        case _:
            return None
