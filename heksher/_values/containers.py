"""Sequences and mappings, and `setting_type`.

These are one module because each needs the other: `setting_type` makes containers of types, and a
container is made of whatever `setting_type` takes.
"""

from __future__ import annotations

import typing
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Final, Generic, NoReturn, TypeVar, overload

from heksher._text import shown
from heksher._values.base import (
    Form,
    NamedType,
    SettingType,
    TypeLike,
    add_coercion,
    encode_text,
    is_list,
    is_object,
    wrong_type,
)
from heksher._values.conversion import scalar_type
from heksher.exceptions import InvalidDefaultError, UnsupportedTypeError

T = TypeVar("T")
ElementT = TypeVar("ElementT")

# Levels of nesting that the service is known to accept in a type.
_MAX_DEPTH = 200


class _Container(NamedType[T], Generic[T, ElementT]):
    """Any number of values of one type, each with a key: its index or a string.

    What does not fit the inner type is left out when decoding. A container in a container costs one
    call in each direction, so that 200 levels stay within Python's limit on recursion.
    """

    __slots__ = ("_wire_name", "depth", "inner")

    _keyword: ClassVar[str]
    _part: ClassVar[str]

    def __init__(self, inner: TypeLike[ElementT]) -> None:
        """Make the type of containers of *inner*, which is anything that `setting_type` takes.

        Raises:
            UnsupportedTypeError: there is no setting type for *inner*, or it nests too deeply.
        """
        self.inner: Final[SettingType[ElementT]] = _convert(inner)
        self.depth: Final[int] = 1 + _depth(self.inner)
        if self.depth > _MAX_DEPTH:
            raise UnsupportedTypeError(
                f"a type can have at most {_MAX_DEPTH} levels of nesting: use a flatter one"
            )
        self._wire_name = f"{self._keyword}<{self.inner.wire_name}>"

    def encode(self, value: T) -> Any:
        encode = self.inner.encode
        parts: dict[Any, Any] = {}
        for key, part in self._split(value):
            try:
                parts[key] = encode(part)
            except InvalidDefaultError as error:
                raise InvalidDefaultError(f"{self._part} {shown(key)}: {error}") from None
        return self._join_raw(parts)

    def decode(self, raw: Any, coercions: list[str]) -> T:
        decode = self.inner.decode
        parts: dict[Any, ElementT] = {}
        within: list[str] = []
        for key, part in self._split_raw(raw):
            try:
                parts[key] = decode(part, within)
            except ValueError as error:
                within[:] = [str(error)]
            if within:
                for each in within:
                    add_coercion(coercions, f"{self._part} {shown(key)}: {each}")
                within.clear()
        return self._join(parts)

    @abstractmethod
    def _split(self, value: T) -> Iterable[tuple[Any, ElementT]]:
        """Return the parts of a value of the application by their keys in JSON."""

    @abstractmethod
    def _split_raw(self, raw: Any) -> Iterable[tuple[Any, Any]]:
        """Return the parts of a JSON value by their keys."""

    @abstractmethod
    def _join(self, parts: dict[Any, ElementT]) -> T:
        """Return the immutable value of these parts."""

    @abstractmethod
    def _join_raw(self, parts: dict[Any, Any]) -> Any:
        """Return the JSON value of these parts."""

    def _identity(self) -> tuple[object, ...]:
        return type(self), self.inner


def _depth(type_: SettingType[Any]) -> int:
    return type_.depth if isinstance(type_, _Container) else 0


class HeksherSequence(_Container[Sequence[ElementT], ElementT]):
    """Any number of values of one type, in order. They are decoded to a tuple.

    In a list that is decoded, elements that do not fit the inner type are left out, and listed in
    ``coercions``.

    Attributes:
        inner: the type of the elements.
        depth: the number of nested sequences and mappings, this one included.
    """

    __slots__ = ()

    _keyword = "Sequence"
    _part = "element"

    def _split(self, value: Sequence[ElementT]) -> Iterable[tuple[Any, ElementT]]:
        if not isinstance(value, Sequence) or isinstance(value, (str, bytes, bytearray)):
            raise wrong_type(value, "a sequence like a list or a tuple")
        return enumerate(value)

    def _split_raw(self, raw: Any) -> Iterable[tuple[Any, Any]]:
        if not is_list(raw):
            raise ValueError(f"{shown(raw)} is not a list")
        return enumerate(raw)

    def _join(self, parts: dict[Any, ElementT]) -> tuple[ElementT, ...]:
        return tuple(parts.values())

    def _join_raw(self, parts: dict[Any, Any]) -> list[Any]:
        return list(parts.values())


class ReadOnlyDict(dict[str, ElementT]):
    """A dict that refuses changes and is hashable: the value of a mapping.

    ``copy()``, the module ``copy`` and pickle make plain dicts of it, which can be changed.
    """

    __slots__ = ()

    def __hash__(self) -> int:  # type: ignore[override]
        # Debuggers hash the code of `get`, and with it the default value, at each call. So this may not
        # depend on the size. Equal dicts have equal lengths, which is all that a hash has to promise.
        return hash(len(self))

    def __reduce__(self) -> tuple[Any, ...]:
        return dict, (self.copy(),)

    def _refuse(self, *_: object, **__: object) -> NoReturn:
        raise TypeError("the value of a setting is read-only: change a copy of it, made by copy()")

    # Any: each has another signature in dict.
    __setitem__: Any = _refuse
    __delitem__: Any = _refuse
    __ior__: Any = _refuse
    clear: Any = _refuse
    pop: Any = _refuse
    popitem: Any = _refuse
    setdefault: Any = _refuse
    update: Any = _refuse


class HeksherMapping(_Container[Mapping[str, ElementT], ElementT]):
    """Values of one type under string keys. They are decoded to a `ReadOnlyDict`.

    It keeps the order of the keys. In an object that is decoded, pairs whose value does not fit the
    inner type are left out, and listed in ``coercions``.

    Attributes:
        inner: the type of the values.
        depth: the number of nested sequences and mappings, this one included.
    """

    __slots__ = ()

    _keyword = "Mapping"
    _part = "key"

    def _split(self, value: Mapping[str, ElementT]) -> Iterable[tuple[Any, ElementT]]:
        if not isinstance(value, Mapping):
            raise wrong_type(value, "a mapping like a dict")
        pairs: dict[str, ElementT] = {}
        for key, element in value.items():
            try:
                if not isinstance(key, str):
                    raise wrong_type(key, "a str")
                pairs[encode_text(key)] = element
            except InvalidDefaultError as error:
                raise InvalidDefaultError(f"the key {error}") from None
        return pairs.items()

    def _split_raw(self, raw: Any) -> Iterable[tuple[Any, Any]]:
        if not is_object(raw):
            raise ValueError(f"{shown(raw)} is not an object")
        return raw.items()

    def _join(self, parts: dict[Any, ElementT]) -> Mapping[str, ElementT]:
        return ReadOnlyDict(parts)

    def _join_raw(self, parts: dict[Any, Any]) -> dict[Any, Any]:
        return parts


# Values are decoded to tuples and read-only mappings, however the type was written.
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
    type                                                      values
    ========================================================  =========================================
    ``int``, ``float``, ``str``, ``bool``                     of that type; ``True`` is not an int
    an Enum class                                             its members: `HeksherEnum`
    an IntFlag class                                          combinations of members: `HeksherFlags`
    ``Literal["a", "b"]``                                     the options, as they are
    ``Sequence[T]``, ``list[T]``, ``tuple[T, ...]``           tuples: `HeksherSequence`
    ``Mapping[str, T]``, ``dict[str, T]``                     read-only mappings: `HeksherMapping`
    a `SettingType`                                           returned unchanged
    ========================================================  =========================================

    T is again any of these. ``typing.List`` and the like are accepted as well.

    Args:
        type_: the type.

    Raises:
        UnsupportedTypeError: a setting cannot have this type; the message says which to use instead.
    """
    return _convert(type_)


def _convert(type_: Any) -> SettingType[Any]:
    # A loop and not recursion, whose limit Python sets and not the service.
    around: list[type[_Container[Any, Any]]] = []
    form = type_
    while (step := _open_container(form)) is not None:
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


def _open_container(form: Any) -> tuple[type[_Container[Any, Any]], Any] | None:
    """Return the container that *form* is and the type of its values, or None."""
    match typing.get_origin(form), typing.get_args(form):
        case (origin, (element,)) if origin in (list, Sequence):
            return HeksherSequence, element
        case (origin, (element, end)) if origin is tuple and end is Ellipsis:
            return HeksherSequence, element
        case (origin, (key, element)) if origin in (dict, Mapping) and key is str:
            return HeksherMapping, element
        case _:
            return None
