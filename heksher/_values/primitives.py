"""The types of single values without options: int, float, str and bool."""

from __future__ import annotations

import math
from typing import Any

from heksher._text import shown
from heksher._values.base import (
    LARGEST_INT,
    LARGEST_UNSIGNED_INT,
    SMALLEST_INT,
    NamedType,
    SettingType,
    encode_text,
    wrong_type,
)
from heksher.exceptions import InvalidDefaultError


class IntType(NamedType[int]):
    """64-bit integers. ``True`` is rejected; a float without a fraction is accepted."""

    __slots__ = ()

    _wire_name = "int"

    def encode(self, value: int) -> int:
        given: Any = value
        if isinstance(given, float) and given.is_integer():  # 1e6, or the service's 1.0
            value = int(given)
        if not isinstance(value, int) or isinstance(value, bool):
            raise wrong_type(value, "an int")
        if not SMALLEST_INT <= value <= LARGEST_INT:
            raise InvalidDefaultError(
                f"{shown(value)} is out of range: expected an int from -2**63 to 2**63 - 1"
            )
        return int(value)

    def decode(self, raw: Any, coercions: list[str]) -> int:
        # The service accepts 1.0 as an int and returns it unchanged.
        if type(raw) is float and raw.is_integer():
            raw = int(raw)
        if type(raw) is not int:
            raise ValueError(f"{shown(raw)} is not an int")
        if SMALLEST_INT <= raw <= LARGEST_UNSIGNED_INT:
            return raw
        raise ValueError(f"{shown(raw)} is out of range: expected an int of 64 bits")


class FloatType(NamedType[float]):
    """Finite numbers. An int is converted; ``True`` is rejected."""

    __slots__ = ()

    _wire_name = "float"

    def encode(self, value: float) -> float:
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            raise wrong_type(value, "a float")
        try:
            number = float(value)
        except OverflowError:
            raise InvalidDefaultError(f"{shown(value)} is too large for a float") from None
        if not math.isfinite(number):
            raise InvalidDefaultError(f"{value!r} has no JSON form: expected a finite float")
        return number

    def decode(self, raw: Any, coercions: list[str]) -> float:
        if isinstance(raw, (int, float)) and not isinstance(raw, bool):
            try:
                return float(raw)
            except OverflowError:
                raise ValueError(f"{shown(raw)} is too large for a float") from None
        raise ValueError(f"{shown(raw)} is not a float")


class StrType(NamedType[str]):
    """Text."""

    __slots__ = ()

    _wire_name = "str"

    def encode(self, value: str) -> str:
        if not isinstance(value, str):
            raise wrong_type(value, "a str")
        return encode_text(value)

    def decode(self, raw: Any, coercions: list[str]) -> str:
        if isinstance(raw, str):
            return raw
        raise ValueError(f"{shown(raw)} is not a str")


class BoolType(NamedType[bool]):
    """``True`` and ``False``. 0 and 1 are rejected."""

    __slots__ = ()

    _wire_name = "bool"

    def encode(self, value: bool) -> bool:
        if not isinstance(value, bool):
            raise wrong_type(value, "a bool")
        return value

    def decode(self, raw: Any, coercions: list[str]) -> bool:
        if isinstance(raw, bool):
            return raw
        raise ValueError(f"{shown(raw)} is not a bool")


PRIMITIVES: dict[type, SettingType[Any]] = {
    int: IntType(),
    float: FloatType(),
    str: StrType(),
    bool: BoolType(),
}
