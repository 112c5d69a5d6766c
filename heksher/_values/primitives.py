"""Ints, floats, strings and bools."""

from __future__ import annotations

import math
from typing import Any

from heksher._text import shown
from heksher._values.base import LARGEST_INT, SMALLEST_INT, SettingType, encode_text, refuse
from heksher.exceptions import InvalidDefaultError


class IntType(SettingType[int]):
    """Integers of 64 bits; a bool is none, and a float without fraction is taken for one."""

    __slots__ = ()

    @property
    def wire_name(self) -> str:
        return "int"

    def encode(self, value: int) -> int:
        given: Any = value
        if isinstance(given, float) and given.is_integer():  # 1e6, which may come in as well
            value = int(given)
        if not isinstance(value, int) or isinstance(value, bool):
            raise refuse(value, "an int")
        if not SMALLEST_INT <= value <= LARGEST_INT:
            raise InvalidDefaultError(
                f"{shown(value)} is out of range: "
                "the service keeps integers from -2**63 to 2**63 - 1"
            )
        return int(value)

    def decode(self, raw: Any, coercions: list[str]) -> int:
        if isinstance(raw, int) and not isinstance(raw, bool):
            return raw
        # The service takes 1.0 as an int and hands it out as it came.
        if isinstance(raw, float) and raw.is_integer():
            return int(raw)
        raise ValueError(f"{shown(raw)} is no int")


class FloatType(SettingType[float]):
    """Finite numbers; an int is taken and becomes a float, a bool is refused."""

    __slots__ = ()

    @property
    def wire_name(self) -> str:
        return "float"

    def encode(self, value: float) -> float:
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            raise refuse(value, "a float")
        try:
            number = float(value)
        except OverflowError:
            raise InvalidDefaultError(f"{shown(value)} is too large for a float") from None
        if not math.isfinite(number):
            raise InvalidDefaultError(f"{value!r} has no JSON form: a finite float is wanted")
        return number

    def decode(self, raw: Any, coercions: list[str]) -> float:
        if isinstance(raw, (int, float)) and not isinstance(raw, bool):
            try:
                return float(raw)
            except OverflowError:
                raise ValueError(f"{shown(raw)} is too large for a float") from None
        raise ValueError(f"{shown(raw)} is no float")


class StrType(SettingType[str]):
    """Text."""

    __slots__ = ()

    @property
    def wire_name(self) -> str:
        return "str"

    def encode(self, value: str) -> str:
        if not isinstance(value, str):
            raise refuse(value, "a str")
        return encode_text(value)

    def decode(self, raw: Any, coercions: list[str]) -> str:
        if isinstance(raw, str):
            return raw
        raise ValueError(f"{shown(raw)} is no str")


class BoolType(SettingType[bool]):
    """True or False; 0 and 1 are neither."""

    __slots__ = ()

    @property
    def wire_name(self) -> str:
        return "bool"

    def encode(self, value: bool) -> bool:
        if not isinstance(value, bool):
            raise refuse(value, "a bool")
        return value

    def decode(self, raw: Any, coercions: list[str]) -> bool:
        if isinstance(raw, bool):
            return raw
        raise ValueError(f"{shown(raw)} is no bool")


PRIMITIVES: dict[type, SettingType[Any]] = {
    int: IntType(),
    float: FloatType(),
    str: StrType(),
    bool: BoolType(),
}
