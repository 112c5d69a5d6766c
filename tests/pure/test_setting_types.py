"""Python values to the service's JSON and back, type by type."""

from __future__ import annotations

import math
from datetime import datetime
from decimal import Decimal
from enum import IntEnum, StrEnum
from typing import Annotated, Any, NewType, Optional, TypeVar, Union

import pytest

from heksher.exceptions import HeksherError, InvalidDefaultError, UnsupportedTypeError
from heksher.setting_type import SettingType, setting_type

INT = setting_type(int)
FLOAT = setting_type(float)
STR = setting_type(str)
BOOL = setting_type(bool)


def nested(depth: int) -> list[Any]:
    inner: list[Any] = []
    for _ in range(depth):
        inner = [inner]
    return inner


DEEP = nested(10_000)


def shortly(each: object) -> str:
    return ascii(each)[:30] if each is not DEEP and each != 10**5000 else "huge"


class OwnInt(int):
    pass


class OwnText(str):
    __slots__ = ()

    def __str__(self) -> str:
        return "something else"


class Level(IntEnum):
    HIGH = 3


class Color(StrEnum):
    RED = "red"


@pytest.mark.parametrize(
    ("type_", "name"), [(INT, "int"), (FLOAT, "float"), (STR, "str"), (BOOL, "bool")], ids=str
)
def test_is_spelled_as_the_service_spells_it(type_: SettingType[Any], name: str) -> None:
    assert type_.wire_name == name
    assert name in repr(type_)


# --- to JSON --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("type_", "value", "wire"),
    [
        (INT, 0, 0),
        (INT, -5, -5),
        (INT, 2**63 - 1, 2**63 - 1),
        (INT, -(2**63), -(2**63)),
        (INT, Level.HIGH, 3),
        (FLOAT, 0.5, 0.5),
        (FLOAT, 3, 3.0),
        (FLOAT, 1e300, 1e300),
        (FLOAT, -0.0, -0.0),
        (STR, "", ""),
        (STR, "é \x00 \U0001f600", "é \x00 \U0001f600"),
        (STR, Color.RED, "red"),
        (STR, OwnText("own"), "own"),
        (BOOL, True, True),
        (BOOL, False, False),
    ],
    ids=repr,
)
def test_a_value_becomes_plain_json(type_: SettingType[Any], value: Any, wire: Any) -> None:
    encoded = type_.encode(value)
    assert encoded == wire
    assert type(encoded) is type(wire)


@pytest.mark.parametrize(
    ("type_", "value", "wanted"),
    [
        (INT, True, "expected an int"),
        (INT, 1.5, "expected an int"),
        (INT, float("inf"), "expected an int"),
        (INT, "1", "expected an int"),
        (INT, None, "expected an int"),
        (INT, 2**63, "-2**63 to 2**63 - 1"),
        (INT, -(2**63) - 1, "-2**63 to 2**63 - 1"),
        (FLOAT, True, "expected a float"),
        (FLOAT, "1.0", "expected a float"),
        (FLOAT, None, "expected a float"),
        (FLOAT, 1j, "expected a float"),
        (FLOAT, math.nan, "finite"),
        (FLOAT, math.inf, "finite"),
        (FLOAT, -math.inf, "finite"),
        (FLOAT, 10**400, "too large for a float"),
        (STR, b"a", "expected a str"),
        (STR, 1, "expected a str"),
        (STR, None, "expected a str"),
        (STR, "a\ud800", "lone surrogate"),
        (STR, "\udfff", "lone surrogate"),
        (BOOL, 1, "expected a bool"),
        (BOOL, 0, "expected a bool"),
        (BOOL, "true", "expected a bool"),
        (BOOL, None, "expected a bool"),
    ],
    ids=shortly,
)
def test_a_value_of_another_kind_is_refused_and_named(
    type_: SettingType[Any], value: Any, wanted: str
) -> None:
    with pytest.raises(InvalidDefaultError) as caught:
        type_.encode(value)
    assert wanted in str(caught.value)
    assert repr(value)[:25] in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("type_", [INT, FLOAT, STR, BOOL], ids=repr)
def test_an_integer_that_python_refuses_to_print_is_refused_all_the_same(
    type_: SettingType[Any],
) -> None:
    # repr() of an integer of more than 4300 digits is a ValueError.
    with pytest.raises(InvalidDefaultError):
        type_.encode(10**5000)


# --- from JSON ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("type_", "raw", "value"),
    [
        (INT, 5, 5),
        (INT, 1.0, 1),
        (INT, -0.0, 0),
        (INT, -(2.0**63), -(2**63)),
        (INT, 2.0**63, 2**63),
        (INT, 2**64 - 1, 2**64 - 1),
        (FLOAT, 1, 1.0),
        (FLOAT, 1.5, 1.5),
        (FLOAT, 2**64 - 1, float(2**64 - 1)),
        (STR, "", ""),
        (STR, "a\x00", "a\x00"),
        (BOOL, True, True),
        (BOOL, False, False),
    ],
    ids=repr,
)
def test_json_becomes_a_value_of_the_type(type_: SettingType[Any], raw: Any, value: Any) -> None:
    decoded = type_.decode(raw, [])
    assert decoded == value
    assert type(decoded) is type(value)


@pytest.mark.parametrize(
    ("type_", "raw"),
    [
        (INT, 1.5),
        (INT, True),
        (INT, "1"),
        (INT, None),
        (INT, [1]),
        (INT, math.inf),
        (INT, math.nan),
        (FLOAT, False),
        (FLOAT, "1.5"),
        (FLOAT, None),
        (FLOAT, {}),
        (FLOAT, 10**400),
        (FLOAT, 10**5000),
        (BOOL, "a" * 10**6),
        (INT, DEEP),
        (STR, 5),
        (STR, None),
        (STR, ["a"]),
        (BOOL, 1),
        (BOOL, 0),
        (BOOL, "true"),
        (BOOL, None),
    ],
    ids=shortly,
)
def test_json_of_another_kind_is_no_value(type_: SettingType[Any], raw: Any) -> None:
    with pytest.raises(ValueError, match=f"{type_.wire_name}$") as caught:
        type_.decode(raw, [])
    assert len(str(caught.value)) < 300
    # It comes from the service, and is not a mistake of the application.
    assert not isinstance(caught.value, HeksherError)


@pytest.mark.parametrize(
    "raw", [2**64, -(2**63) - 1, 2.0**64, 1e300, -1e300, 10**5000], ids=shortly
)
def test_an_integer_of_more_than_64_bits_is_no_value(raw: float) -> None:
    """A service could send many whose hashes collide, and the application gets what it expects."""
    with pytest.raises(ValueError, match=r"out of range: expected an int of 64 bits$"):
        INT.decode(raw, [])


# --- types as values ------------------------------------------------------------------------------


def test_equal_types_compare_and_hash_equal() -> None:
    other = type(INT)()
    assert other is not INT
    assert other == INT
    assert hash(other) == hash(INT)
    assert len({INT, FLOAT, STR, BOOL, other}) == 4


def test_a_type_equals_nothing_that_is_no_setting_type() -> None:
    strangers: list[object] = ["int", int, None, FLOAT]
    assert INT not in strangers


def test_a_ready_type_is_taken_as_it_is() -> None:
    assert setting_type(INT) is INT


@pytest.mark.parametrize(
    ("given", "mend"),
    [
        (bytes, "use str"),
        (complex, "use str"),
        (object, "use the type that they have"),
        (Any, "use the type that they have"),
        (None, "null belongs to no type"),
        (type(None), "null belongs to no type"),
        (int | None, "null belongs to none"),
        (
            Optional[int],  # noqa: UP045 - the older spelling is another object
            "null belongs to none",
        ),
        (
            Union[int, str],  # noqa: UP007 - likewise
            "values are of one type",
        ),
        (Optional, "null belongs to none"),
        ("int", "without quotation marks"),
        (5, "use a supported type"),
        (Decimal, "convert the value where you read it"),
        (datetime, "convert the value where you read it"),
        (OwnInt, "use int"),
        (OwnText, "use str"),
        (NewType("Id", int), "use the type that it stands for"),
        (TypeVar("X"), "use the type that it stands for"),
        (Annotated[int, "seconds"], "use the type that it stands for"),
        (SettingType, "make an instance"),
        (type(INT), "make an instance"),
    ],
    ids=repr,
)
def test_a_type_that_no_setting_can_have_is_refused_with_the_mend(given: Any, mend: str) -> None:
    with pytest.raises(UnsupportedTypeError) as caught:
        setting_type(given)
    assert repr(given) in str(caught.value)
    assert "int, float, str or bool" in str(caught.value)
    assert mend in str(caught.value)
