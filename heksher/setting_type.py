"""What values a setting can have, and how they travel: Python value <-> JSON value of the service.

Pure: knows no setting, no rule and no client. Facts: section 3 of the protocol (types and values).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any, Generic, TypeAlias, TypeVar

from heksher.exceptions import InvalidDefaultError, InvalidSettingError

T = TypeVar("T")

# The service keeps values in a database that has no wider integers.
_SMALLEST_INT = -(2**63)
_LARGEST_INT = 2**63 - 1


class SettingType(ABC, Generic[T]):
    """How the values of one type are written on the wire, and read back.

    Types are values themselves: equal types compare equal and hash equal.
    """

    __slots__ = ()

    @property
    @abstractmethod
    def wire_name(self) -> str:
        """The type as the service spells it, in normal form: ``int``, ``float``, ``str`` …"""

    @abstractmethod
    def encode(self, value: T) -> Any:
        """Return the JSON value of *value*.

        Raises:
            InvalidDefaultError: *value* is none of this type, or none that JSON or the service holds.
        """

    @abstractmethod
    def decode(self, raw: Any, coercions: list[str]) -> T:
        """Return the immutable value that the decoded JSON *raw* stands for.

        Args:
            raw: what JSON said.
            coercions: gets one text for each part of *raw* that is of no use here and was left out.

        Raises:
            ValueError: *raw* is no value of this type. The message says what it is instead.
        """

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SettingType) and self._identity() == other._identity()

    def __hash__(self) -> int:
        return hash(self._identity())

    def _identity(self) -> tuple[object, str]:
        return type(self), self.wire_name

    def __repr__(self) -> str:
        return f"<setting type {self.wire_name}>"


def _refuse(value: object, wanted: str) -> InvalidDefaultError:
    return InvalidDefaultError(
        f"{_shown(value)} is of type {type(value).__name__}; {wanted} is wanted"
    )


def _shown(value: object) -> str:
    try:
        return repr(value)
    except Exception:  # an integer of more than 4300 digits; an object that is broken
        return "what cannot be shown"


class IntType(SettingType[int]):
    """Integers of 64 bits; a bool is none."""

    __slots__ = ()

    @property
    def wire_name(self) -> str:
        return "int"

    def encode(self, value: int) -> int:
        if not isinstance(value, int) or isinstance(value, bool):
            raise _refuse(value, "an int")
        if not _SMALLEST_INT <= value <= _LARGEST_INT:
            raise InvalidDefaultError(
                f"{_shown(value)} is out of range: "
                "the service keeps integers from -2**63 to 2**63 - 1"
            )
        return int(value)

    def decode(self, raw: Any, coercions: list[str]) -> int:
        if isinstance(raw, int) and not isinstance(raw, bool):
            return raw
        # The service takes 1.0 as an int and hands it out as it came.
        if isinstance(raw, float) and raw.is_integer():
            return int(raw)
        raise ValueError(f"{raw!r} is no int")


class FloatType(SettingType[float]):
    """Finite numbers; an int is taken and becomes a float, a bool is refused."""

    __slots__ = ()

    @property
    def wire_name(self) -> str:
        return "float"

    def encode(self, value: float) -> float:
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            raise _refuse(value, "a float")
        try:
            number = float(value)
        except OverflowError:
            raise InvalidDefaultError(f"{_shown(value)} is too large for a float") from None
        if not math.isfinite(number):
            raise InvalidDefaultError(f"{value!r} has no JSON form: a finite float is wanted")
        return number

    def decode(self, raw: Any, coercions: list[str]) -> float:
        if isinstance(raw, (int, float)) and not isinstance(raw, bool):
            try:
                return float(raw)
            except OverflowError:
                raise ValueError(f"{raw!r} is too large for a float") from None
        raise ValueError(f"{raw!r} is no float")


class StrType(SettingType[str]):
    """Text."""

    __slots__ = ()

    @property
    def wire_name(self) -> str:
        return "str"

    def encode(self, value: str) -> str:
        if not isinstance(value, str):
            raise _refuse(value, "a str")
        if any("\ud800" <= character <= "\udfff" for character in value):
            raise InvalidDefaultError(
                f"{value!r} holds a lone surrogate, which is no text in UTF-8"
            )
        return str(value)

    def decode(self, raw: Any, coercions: list[str]) -> str:
        if isinstance(raw, str):
            return raw
        raise ValueError(f"{raw!r} is no str")


class BoolType(SettingType[bool]):
    """True or False; 0 and 1 are neither."""

    __slots__ = ()

    @property
    def wire_name(self) -> str:
        return "bool"

    def encode(self, value: bool) -> bool:
        if not isinstance(value, bool):
            raise _refuse(value, "a bool")
        return value

    def decode(self, raw: Any, coercions: list[str]) -> bool:
        if isinstance(raw, bool):
            return raw
        raise ValueError(f"{raw!r} is no bool")


_PRIMITIVES: dict[type, SettingType[Any]] = {
    int: IntType(),
    float: FloatType(),
    str: StrType(),
    bool: BoolType(),
}


#: What a setting can be declared with.
TypeLike: TypeAlias = type[T] | SettingType[T]


def setting_type(type_: TypeLike[T]) -> SettingType[T]:
    """Return the setting type for a Python type.

    Args:
        type_: ``int``, ``float``, ``str``, ``bool``, or a ready `SettingType`.

    Raises:
        InvalidSettingError: there is no setting type for it.
    """
    if isinstance(type_, SettingType):
        return type_
    found = _PRIMITIVES.get(type_) if isinstance(type_, type) else None
    if found is None:
        raise InvalidSettingError(
            f"{type_!r} is no type that a setting can have; use int, float, str or bool"
        )
    return found
