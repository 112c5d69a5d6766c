"""Types with parts: options, flags, elements and pairs; and values of which only a part fits."""

from __future__ import annotations

import copy
import enum
import json
import math
import pickle
import sys
import typing
from collections import OrderedDict, UserDict, UserList, deque
from collections.abc import Callable, Iterable, Mapping, MutableSequence, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from enum import Enum, Flag, IntEnum, IntFlag, StrEnum
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, TypedDict

import msgspec
import pytest

from heksher import HeksherEnum, HeksherFlags, HeksherMapping, HeksherSequence
from heksher.exceptions import HeksherError, InvalidDefaultError, UnsupportedTypeError
from heksher.service.domain import setting_types
from heksher.setting_type import ReadOnlyDict, SettingType, setting_type


class Shade(Enum):
    LIGHT = "light"
    DARK = 2
    DIM = 0.5
    NONE = False
    #: Another name of DARK.
    BLACK = DARK


class Theme(StrEnum):
    BLUE = "blue"
    ACCENT = "é"


class Level(IntEnum):
    LOW = 1
    HIGH = 10


class Mixed(str, Enum):  # noqa: UP042 - as written before Python 3.11: prints itself as Mixed.RED
    RED = "red"


class Plain(Flag):
    NONE = 0
    A = 1
    B = 2
    BOTH = 3


class Rights(IntFlag):
    NONE = 0
    WRITE = 2
    READ = 1
    BOTH = 3
    READING = 1
    #: Includes bits without a name of their own.
    ADMIN = 12


class Everything(IntFlag):
    ONE = 1
    ALL = -1


class Narrow(IntFlag, boundary=enum.STRICT):
    ONE = 1
    TWO = 2


class Empty(Enum):
    pass


class NoFlags(IntFlag):
    pass


class Holding(NamedTuple):
    a: int


class Typed(TypedDict):
    a: int


def nested(depth: int) -> list[Any]:
    inner: list[Any] = []
    for _ in range(depth):
        inner = [inner]
    return inner


def literal(*options: Any) -> Any:
    """Return a Literal of values that type checkers do not allow in one."""
    form: Any = Literal
    return form[options]


def shortly(each: object) -> str:
    try:
        return ascii(each)[:40]
    except (ValueError, RecursionError):  # too many digits, or too deep
        return "huge"


def deep(depth: int) -> Any:
    type_: Any = int
    for _ in range(depth):
        type_ = Sequence[type_]
    return type_


INTS = HeksherSequence(int)


# --- names on the service -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "name"),
    [
        (Shade, 'Enum["light",0.5,2,false]'),
        (Theme, r'Enum["\u00e9","blue"]'),
        (Level, "Enum[1,10]"),
        (Mixed, 'Enum["red"]'),
        (Plain, "Enum[1,2]"),
        (Rights, 'Flags["ADMIN","BOTH","NONE","READ","READING","WRITE"]'),
        (Literal["b", "a"], 'Enum["a","b"]'),
        (Literal[True, 1, "1"], 'Enum["1",1,true]'),
        (literal(Literal["a"], 1), 'Enum["a",1]'),
        (Sequence[int], "Sequence<int>"),
        (list[str], "Sequence<str>"),
        (tuple[Level, ...], "Sequence<Enum[1,10]>"),
        (Mapping[str, float], "Mapping<float>"),
        (dict[str, list[bool]], "Mapping<Sequence<bool>>"),
        (typing.List[int], "Sequence<int>"),  # noqa: UP006
        (typing.Sequence[int], "Sequence<int>"),
        (typing.Tuple[int, ...], "Sequence<int>"),  # noqa: UP006
        (typing.Dict[str, int], "Mapping<int>"),  # noqa: UP006
        (typing.Mapping[str, int], "Mapping<int>"),
        (HeksherEnum(Theme), r'Enum["\u00e9","blue"]'),
        (HeksherEnum(Rights), "Enum[1,2]"),
        (HeksherSequence(HeksherMapping(dict[str, Theme])), None),
        (Sequence[Literal[1.5, 1e16]], "Sequence<Enum[1.5,1e+16]>"),  # type: ignore[valid-type]  # pyright: ignore[reportInvalidTypeForm]
    ],
    ids=shortly,
)
def test_is_spelled_in_the_normal_form_of_the_service(given: Any, name: str | None) -> None:
    type_ = setting_type(given)
    assert type_.wire_name == str(setting_types.parse(type_.wire_name))
    if name is not None:
        assert type_.wire_name == name
    assert type_.wire_name in repr(type_)


def test_one_and_a_float_of_the_same_are_one_option_to_the_service() -> None:
    one, other = (setting_type(each) for each in (literal(1, 1.0), literal(1.0, 1)))
    assert one.wire_name == other.wire_name == "Enum[1]"
    assert one == other
    for value in (1, 1.0):
        assert type(one.decode(value, [])) is type(value)


def test_nests_as_deep_as_the_service_takes() -> None:
    type_ = setting_type(deep(setting_types.MAX_DEPTH))
    assert str(setting_types.parse(type_.wire_name)) == type_.wire_name
    assert type_ == setting_type(deep(setting_types.MAX_DEPTH))
    assert hash(type_) == hash(setting_type(deep(setting_types.MAX_DEPTH)))
    value: Any = ()
    for _ in range(setting_types.MAX_DEPTH - 1):
        value = (value,)
    raw = type_.encode(value)
    assert type_.decode(raw, []) == value


# --- equality -------------------------------------------------------------------------------------


def test_equal_types_compare_and_hash_equal() -> None:
    groups: list[list[SettingType[Any]]] = [
        [
            INTS,
            HeksherSequence(setting_type(int)),
            setting_type(Sequence[int]),
            setting_type(list[int]),
            setting_type(tuple[int, ...]),
        ],
        [HeksherSequence(float)],
        [HeksherMapping(int), setting_type(dict[str, int]), setting_type(Mapping[str, int])],
        [HeksherMapping(INTS), setting_type(dict[str, list[int]])],
        [HeksherEnum(Theme), setting_type(Theme)],
        [HeksherEnum(Mixed)],
        [setting_type(Literal["red"])],
        [setting_type(Literal["a", "b"]), setting_type(Literal["b", "a"])],
        [setting_type(Literal[1])],
        [setting_type(Literal[True])],
        [HeksherFlags(Rights), setting_type(Rights)],
        [HeksherEnum(Rights)],
        [HeksherFlags(Narrow)],
    ]
    for group in groups:
        for other in groups:
            for one in group:
                for another in other:
                    assert (one == another) is (group is other)
    assert len({type_ for group in groups for type_ in group}) == len(groups)
    assert all(hash(each) == hash(group[0]) for group in groups for each in group)


def test_enumerations_of_the_same_options_are_two_types() -> None:
    theme: Any = Enum("theme", {"BLUE": "blue", "ACCENT": "é"})
    assert HeksherEnum(theme).wire_name == HeksherEnum(Theme).wire_name
    assert HeksherEnum(theme) != HeksherEnum(Theme)


# --- to JSON --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "value", "wire"),
    [
        (Shade, Shade.LIGHT, "light"),
        (Shade, Shade.BLACK, 2),
        (Shade, Shade.NONE, False),
        (Theme, Theme.ACCENT, "é"),
        (Level, Level.HIGH, 10),
        (Mixed, Mixed.RED, "red"),
        (Plain, Plain.B, 2),
        (Rights, Rights.NONE, []),
        (Rights, Rights.READ, ["READ"]),
        (Rights, Rights.READING, ["READ"]),
        (Rights, Rights.READ | Rights.WRITE, ["WRITE", "READ"]),
        (Rights, Rights.BOTH, ["WRITE", "READ"]),
        (Rights, Rights.ADMIN, ["ADMIN"]),
        (Rights, Rights.ADMIN | Rights.READ, ["READ", "ADMIN"]),
        (Rights, ~Rights.READ, ["WRITE", "ADMIN"]),
        (Everything, Everything.ALL, ["ONE", "ALL"]),
        (Literal["a", 1, True], "a", "a"),
        (Literal["a", 1, True], 1, 1),
        (Literal["a", 1, True], True, True),
        (Literal["red"], Mixed.RED, "red"),
        (Literal[1], Level.LOW, 1),
        (literal(1.0), 1, 1.0),
        (INTS, [1, 2], [1, 2]),
        (INTS, (1, 2), [1, 2]),
        (INTS, range(3), [0, 1, 2]),
        (INTS, UserList([1]), [1]),
        (INTS, deque([1]), [1]),
        (INTS, [], []),
        (Sequence[float], [1], [1.0]),
        (Sequence[Theme], [Theme.BLUE], ["blue"]),
        (dict[str, int], {"é": 1, "": 2}, {"é": 1, "": 2}),
        (dict[str, int], UserDict({"a": 1}), {"a": 1}),
        (dict[str, int], MappingProxyType({"a": 1}), {"a": 1}),
        (dict[str, int], {Mixed.RED: 1}, {"red": 1}),
        (dict[str, list[Rights]], {"a": [Rights.READ]}, {"a": [["READ"]]}),
    ],
    ids=shortly,
)
def test_a_value_becomes_plain_json_and_comes_back(given: Any, value: Any, wire: Any) -> None:
    type_: SettingType[Any] = setting_type(given)
    encoded = type_.encode(value)
    assert repr(encoded) == repr(wire)
    assert setting_types.parse(type_.wire_name).contains(encoded)
    coercions: list[str] = []
    back = type_.decode(encoded, coercions)
    assert coercions == []
    assert type_.encode(back) == encoded
    if isinstance(value, Enum) and isinstance(given, type):
        assert back is value


@pytest.mark.parametrize(
    ("given", "value", "parts"),
    [
        (Theme, "blue", ["'blue' is of type str", "a member of Theme, such as Theme.BLUE"]),
        (Theme, Mixed.RED, ["a member of Theme"]),
        (Theme, None, ["a member of Theme"]),
        (Level, 1, ["a member of Level"]),
        (Plain, Plain.BOTH, ["Plain.BOTH", "Enum[1,2]", "use an IntFlag class"]),
        (Plain, Plain.NONE, ["Plain.NONE", "use an IntFlag class"]),
        (Rights, "READ", ["'READ' is of type str", "a combination of members of Rights"]),
        (Rights, True, ["True is of type bool", "a combination of members of Rights"]),
        (Rights, ["READ"], ["a combination of members of Rights"]),
        (Rights, Plain.A, ["a combination of members of Rights"]),
        (Rights, Rights(4), ["bits without a member in Rights (0x4)", "add a member"]),
        (Rights, Rights(16) | Rights.READ, ["(0x10)"]),
        (Rights, Rights(1 << 20_000), ["bits without a member"]),
        (Everything, ~Everything.ONE, ["bits without a member"]),
        (Literal["a", 1], "b", ["'b' is of type str", 'Enum["a",1]']),
        (Literal["a", 1], True, ["True is of type bool"]),
        (Literal["a", 1], 1.0, ["1.0 is of type float"]),
        (Literal["a", 1], None, ["None"]),
        (Literal["a", 1], ["a"], ["['a'] is of type list"]),
        (Literal["a"], "\ud800", ["'\\ud800'"]),
        (INTS, 1, ["1 is of type int", "expected a sequence like a list or a tuple"]),
        (INTS, "12", ["a sequence like a list"]),
        (Sequence[str], "ab", ["'ab' is of type str", "a sequence like a list"]),
        (INTS, b"12", ["a sequence like a list"]),
        (INTS, {1, 2}, ["a sequence like a list"]),
        (INTS, iter([1]), ["a sequence like a list"]),
        (INTS, None, ["a sequence like a list"]),
        (INTS, {"a": 1}, ["a sequence like a list"]),
        (INTS, [1, 2, 3, "x"], ["element 3: 'x' is of type str: expected an int"]),
        (INTS, [True], ["element 0: True is of type bool"]),
        (INTS, [2**63], ["element 0: ", "-2**63 to 2**63 - 1"]),
        (Sequence[float], [1.0, math.nan], ["element 1: nan", "finite"]),
        (Sequence[str], ["\ud800"], ["element 0: ", "lone surrogate"]),
        (Sequence[Sequence[int]], [[], [1, None]], ["element 1: element 1: None"]),
        (dict[str, int], [("a", 1)], ["expected a mapping like a dict"]),
        (dict[str, int], None, ["a mapping like a dict"]),
        (dict[str, int], {1: 1}, ["the key 1 is of type int: expected a str"]),
        (dict[str, int], {"a": "x"}, ["key 'a': 'x' is of type str: expected an int"]),
        (dict[str, int], {"\ud800": 1}, ["the key '\\ud800' ", "lone surrogate"]),
        (dict[str, list[int]], {"a": [1, "x"]}, ["key 'a': element 1: 'x'"]),
        (INTS, ["x" * 10**6], ["element 0: 'xxx"]),
        (INTS, [10**5000], ["element 0: "]),
    ],
    ids=shortly,
)
def test_a_value_of_another_kind_is_refused_with_the_path_to_it(
    given: Any, value: Any, parts: list[str]
) -> None:
    type_: SettingType[Any] = setting_type(given)
    with pytest.raises(InvalidDefaultError) as caught:
        type_.encode(value)
    for part in parts:
        assert part in str(caught.value)
    assert len(str(caught.value)) < 500


def test_what_is_encoded_shares_nothing_with_the_value() -> None:
    inner = [1]
    value = {"a": inner}
    encoded = setting_type(dict[str, list[int]]).encode(value)
    inner.append(2)
    value["b"] = []
    assert encoded == {"a": [1]}


def test_a_value_that_holds_itself_is_refused() -> None:
    value: list[Any] = []
    value.append(value)
    with pytest.raises(InvalidDefaultError, match=r"element 0: element 0: .*: expected an int"):
        setting_type(deep(2)).encode(value)


# --- from JSON ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "raw", "value"),
    [
        (Shade, "light", Shade.LIGHT),
        (Shade, 2, Shade.BLACK),
        (Shade, 2.0, Shade.DARK),
        (Shade, 0.5, Shade.DIM),
        (Shade, False, Shade.NONE),
        (Level, 1.0, Level.LOW),
        (Literal[1, True, 2], 1, 1),
        (Literal[1, True, 2], True, True),
        (Literal[1, True, 2], 1.0, 1),
        (literal(1, 1.0), 1.0, 1.0),
        (literal(1.0, 2.5), 1, 1.0),
        (literal(1e300), int(1e300), 1e300),
        (literal(2**63 - 1), 2**63 - 1, 2**63 - 1),
        (literal(-0.0), 0, -0.0),
        (Rights, [], Rights.NONE),
        (Rights, ["NONE"], Rights.NONE),
        (Rights, ["BOTH"], Rights.READ | Rights.WRITE),
        (Rights, ["READING", "READ"], Rights.READ),
        (Rights, ["ADMIN", "NONE", "WRITE"], Rights.ADMIN | Rights.WRITE),
        (Narrow, ["TWO", "ONE"], Narrow.ONE | Narrow.TWO),
        (INTS, [1, 2.0], (1, 2)),
        (INTS, [], ()),
        (INTS, [2**64 - 1], (2**64 - 1,)),
        (Sequence[Sequence[str]], [["a"], []], (("a",), ())),
        (dict[str, int], {"b": 1, "a": 2}, ReadOnlyDict({"b": 1, "a": 2})),
        (dict[str, dict[str, list[Theme]]], {"a": {"b": ["blue"]}}, {"a": {"b": (Theme.BLUE,)}}),
    ],
    ids=shortly,
)
def test_json_becomes_an_immutable_value(given: Any, raw: Any, value: Any) -> None:
    coercions: list[str] = []
    decoded = setting_type(given).decode(raw, coercions)
    assert decoded == value
    if type(value) is not dict:
        assert type(decoded) is type(value)
    assert coercions == []


@pytest.mark.parametrize(
    ("given", "raw"),
    [
        (Shade, True),
        (Shade, 0),
        (Shade, 0.0),
        (Shade, "LIGHT"),
        (Shade, None),
        (Shade, ["light"]),
        (Shade, {}),
        (Shade, math.nan),
        (Shade, 10**5000),
        (Plain, 3),
        (Plain, 0),
        (Level, True),
        (Literal[True], 1),
        (Literal[1], True),
        (Literal["1"], 1),
        (Literal[2**62 + 1], float(2**62)),
        (Literal["a"], [["a"]]),
        (Rights, "READ"),
        (Rights, 1),
        (Rights, {"READ": 1}),
        (Rights, None),
        (INTS, {}),
        (INTS, "12"),
        (INTS, None),
        (dict[str, int], []),
        (dict[str, int], [["a", 1]]),
        (dict[str, int], None),
        (dict[str, int], "a" * 10**6),
    ],
    ids=shortly,
)
def test_json_of_another_kind_is_no_value(given: Any, raw: Any) -> None:
    with pytest.raises(ValueError, match=r" is not (a|an|one of) ") as caught:
        setting_type(given).decode(raw, [])
    assert not isinstance(caught.value, HeksherError)
    assert len(str(caught.value)) < 500


LEFT_OUT: list[tuple[Any, Any, Any, list[str]]] = [
    (Rights, ["READ", "FLY"], Rights.READ, ["element 1: 'FLY' is not one of Flags["]),
    (Rights, ["FLY"], Rights.NONE, ["element 0: 'FLY' is not one of Flags["]),
    (
        Rights,
        ["read", 1, None, ["READ"], {}],
        Rights.NONE,
        [
            "element 0: 'read' ",
            "element 1: 1 ",
            "element 2: None ",
            "element 3: ['",
            "element 4: {} ",
        ],
    ),
    (
        INTS,
        [1, "x", 2, None],
        (1, 2),
        ["element 1: 'x' is not an int", "element 3: None is not an int"],
    ),
    (dict[str, int], {"a": 1, "b": "x"}, {"a": 1}, ["key 'b': 'x' is not an int"]),
    (
        Sequence[Sequence[Rights]],
        [[["READ", "FLY"], 5], 6],
        ((Rights.READ,),),
        [
            "element 0: element 0: element 1: 'FLY' ",
            "element 0: element 1: 5 is not a list of Flags[",
            "element 1: 6 is not a list",
        ],
    ),
    (
        dict[str, list[Theme]],
        {"a": ["blue", "pink"], "b": {}, "c": []},
        {"a": (Theme.BLUE,), "c": ()},
        ["key 'a': element 1: 'pink' is not one of Enum[", "key 'b': {} is not a list"],
    ),
    (
        INTS,
        [nested(20_000), [10**5000], "x" * 10**6, "\ud800"],
        (),
        ["element 0: ", "element 1: ", "element 2: 'xxx", "element 3: '\\ud800' "],
    ),
    (dict[str, int], {"k" * 10**6: None}, {}, ["key 'kkk"]),
]


@pytest.mark.parametrize(("given", "raw", "left", "texts"), LEFT_OUT, ids=shortly)
def test_what_cannot_be_used_is_left_out_and_listed_with_its_path(
    given: Any, raw: Any, left: Any, texts: list[str]
) -> None:
    listed = ["before"]
    assert setting_type(given).decode(raw, listed) == left
    assert len(listed) == 1 + len(texts)
    for found, start in zip(listed, ["before", *texts], strict=True):
        assert found.startswith(start)
        assert len(found) < 600


def test_what_comes_out_cannot_be_changed() -> None:
    raw = {"a": [{"b": [1]}]}
    value: Any = setting_type(dict[str, list[dict[str, list[int]]]]).decode(raw, [])
    raw["a"][0]["b"].append(2)
    raw["c"] = []
    assert value == {"a": ({"b": (1,)},)}
    changes: list[Callable[[], object]] = [
        lambda: value.__setitem__("c", ()),
        lambda: value.__delitem__("a"),
        lambda: value["a"].append(1),
        lambda: value["a"][0].clear(),
        lambda: value["a"][0].update(b=()),
    ]
    for change in changes:
        with pytest.raises((TypeError, AttributeError)):
            change()
    assert value == {"a": ({"b": (1,)},)}


def test_a_type_from_elsewhere_can_be_an_element() -> None:
    class Upper(SettingType[str]):
        @property
        def wire_name(self) -> str:
            return "str"

        def encode(self, value: str) -> Any:
            return value.lower()

        def decode(self, raw: Any, coercions: list[str]) -> str:
            if raw == "bad":
                coercions.append("left out what was never listed")
                raise ValueError("it is bad")
            coercions.append("made upper")
            return str(raw).upper()

    type_ = HeksherMapping(HeksherSequence(Upper()))
    assert type_.wire_name == "Mapping<Sequence<str>>"
    assert type_ != setting_type(dict[str, list[str]])
    coercions: list[str] = []
    assert type_.decode({"k": ["a", "bad"]}, coercions) == {"k": ("A",)}
    assert coercions == ["key 'k': element 0: made upper", "key 'k': element 1: it is bad"]


# --- types that are refused -----------------------------------------------------------------------


class Wide(Enum):
    A = 2**63


class Unbounded(Enum):
    A = math.inf


class Broken(Enum):
    A = "\ud800"


class Nothing(Enum):
    A = None


class Pairs(Enum):
    FINE = 1
    A = (1, 2)


class Derived(Enum):
    A = Theme.BLUE


BROKEN_FLAGS = IntFlag("BROKEN_FLAGS", {"\ud800": 1})


@pytest.mark.parametrize(
    ("given", "parts"),
    [
        (list, ["<class 'list'>", "use Sequence[T]"]),
        (dict, ["<class 'dict'>", "use Mapping[str, T]"]),
        (tuple, ["<class 'tuple'>", "tuple[T, ...]"]),
        (Sequence, ["collections.abc.Sequence", "use Sequence[T]"]),
        (Mapping, ["collections.abc.Mapping", "use Mapping[str, T]"]),
        (typing.List, ["typing.List", "use Sequence[T]"]),  # noqa: UP006
        (typing.Dict, ["typing.Dict", "use Mapping[str, T]"]),  # noqa: UP006
        (typing.Tuple, ["typing.Tuple", "tuple[T, ...]"]),  # noqa: UP006
        (tuple[int, str], ["tuple[int, str]", "use tuple[T, ...]"]),
        (tuple[int], ["tuple[int]", "use tuple[T, ...]"]),
        (tuple[()], ["tuple[()]", "use tuple[T, ...]"]),
        (dict[int, str], ["dict[int, str]", "use Mapping[str, T]"]),
        (Mapping[Theme, int], ["Mapping", "keys are strings"]),
        (OrderedDict[str, int], ["OrderedDict[str, int]", "use Mapping[str, T]"]),
        (Typed, ["Typed", "use Mapping[str, T]"]),
        (Holding, ["Holding", "any number of elements of one type"]),
        (set[int], ["set[int]", "use Sequence[T]", "IntFlag"]),
        (frozenset, ["<class 'frozenset'>", "use Sequence[T]"]),
        (AbstractSet[int], ["Set[int]", "use Sequence[T]"]),
        (Iterable[int], ["Iterable[int]", "use Sequence[T]"]),
        (MutableSequence[int], ["MutableSequence[int]", "use Sequence[T]"]),
        (Callable[[int], int], ["Callable", "convert the value where you read it"]),
        (list[bytes], ["in list[bytes]: unsupported type <class 'bytes'>", "use str"]),
        (
            list[Any],
            ["in list[typing.Any]: unsupported type typing.Any", "use the type that they have"],
        ),
        (list["int"], ["in list['int']: unsupported type 'int'", "without quotation marks"]),
        (typing.List["int"], ["ForwardRef('int')", "without quotation marks"]),  # noqa: UP006
        (
            dict[str, list[int | None]],
            ["in dict[str, list[int | None]]: unsupported type int | None", "null"],
        ),
        (dict[str, Pairs], ["in dict[str, ", "Pairs.A: (1, 2) is of type tuple"]),
        (Literal, ["typing.Literal", "use Literal['a', 'b']"]),
        (literal(), ["use Literal['a', 'b']"]),
        (Literal[None], ["an option of Literal: None is of type NoneType", "int, float, str or"]),
        (Literal[b"a"], ["an option of Literal: b'a' is of type bytes"]),
        (Literal[Theme.BLUE], ["an option of Literal: <Theme.BLUE: 'blue'> is of type Theme"]),
        (Literal["a", None], ["None is of type NoneType"]),
        (literal(2**63), ["out of range", "2**63 - 1"]),
        (literal(10**5000), ["out of range"]),
        (literal(math.nan), ["expected a finite float"]),
        (literal("\ud800"), ["lone surrogate"]),
        (literal([1]), ["[1] is of type list"]),
        (Enum, ["has no members"]),
        (Empty, ["has no members", "add at least one"]),
        (IntFlag, ["has no members"]),
        (NoFlags, ["has no members", "add at least one"]),
        (Wide, ["Wide.A: 9223372036854775808 is out of range", "2**63 - 1"]),
        (Unbounded, ["Unbounded.A: inf", "expected a finite float"]),
        (Broken, ["Broken.A: '\\ud800'", "lone surrogate"]),
        (Nothing, ["Nothing.A: None is of type NoneType"]),
        (Pairs, ["Pairs.A: (1, 2) is of type tuple"]),
        (Derived, ["Derived.A", "of type Theme", "not a subclass of these"]),
        (BROKEN_FLAGS, ["lone surrogate"]),
        (Shade.LIGHT, ["Shade.LIGHT", "int, float, str or bool"]),
        (HeksherSequence, ["HeksherSequence'>", "make an instance"]),
        (deep(201), ["at most 200 levels of nesting"]),
        (deep(20_000), ["at most 200 levels of nesting"]),
    ],
    ids=shortly,
)
def test_a_type_that_cannot_be_is_refused_with_the_mend(given: Any, parts: list[str]) -> None:
    with pytest.raises(UnsupportedTypeError) as caught:
        setting_type(given)
    for part in parts:
        assert part in str(caught.value)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    ("make", "parts"),
    [
        (lambda: HeksherEnum(given(int)), ["HeksherEnum takes an Enum class", "<class 'int'>"]),
        (lambda: HeksherEnum(given(Theme.BLUE)), ["HeksherEnum takes an Enum class"]),
        (lambda: HeksherEnum(given(None)), ["HeksherEnum takes an Enum class, not None"]),
        (lambda: HeksherFlags(given(Plain)), ["takes an IntFlag class", "derive it from IntFlag"]),
        (lambda: HeksherFlags(given(Theme)), ["takes an IntFlag class", "use HeksherEnum"]),
        (lambda: HeksherFlags(given(7)), ["takes an IntFlag class, not 7"]),
        (lambda: HeksherSequence(bytes), ["<class 'bytes'>"]),
        (lambda: HeksherMapping(given(None)), ["unsupported type None"]),
        (lambda: HeksherSequence(setting_type(deep(200))), ["at most 200 levels of nesting"]),
        (lambda: HeksherMapping(deep(200)), ["at most 200 levels of nesting"]),
    ],
)
def test_a_type_that_cannot_be_made_says_why(make: Callable[[], object], parts: list[str]) -> None:
    with pytest.raises(UnsupportedTypeError) as caught:
        make()
    for part in parts:
        assert part in str(caught.value)


def given(wrong: Any) -> Any:
    """Return a value that a caller without a type checker may pass."""
    return wrong


@pytest.mark.parametrize("caught_as", [ValueError, TypeError, RuntimeError, HeksherError])
def test_a_refused_type_can_be_caught_in_many_ways(caught_as: type[Exception]) -> None:
    with pytest.raises(caught_as, match="unsupported type"):
        setting_type(bytes)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="the statement is of Python 3.12")
def test_a_named_type_is_refused_with_the_mend() -> None:
    namespace: dict[str, Any] = {}
    exec("type Tags = list[str]", namespace)
    with pytest.raises(
        UnsupportedTypeError, match=r"unsupported type Tags: use the type that it stands for"
    ):
        setting_type(namespace["Tags"])


def test_no_more_is_told_of_what_was_left_out_than_somebody_reads() -> None:
    type_ = setting_type(Sequence[Sequence[int]])
    coercions: list[str] = []
    assert type_.decode([["x"] * 5_000, [1], *["y"] * 5_000], coercions) == ((), (1,))
    assert len(coercions) == 21
    assert coercions[0] == "element 0: element 0: 'x' is not an int"
    assert coercions[-1] == "and more, which are not listed"


@pytest.mark.parametrize(
    "form",
    [int, float, str, bool, Theme, Rights, Literal["a", 1], list[int], dict[str, list[Theme]]],
)
def test_a_type_can_be_pickled_and_is_found_at_its_public_place(form: Any) -> None:
    type_ = setting_type(form)
    pickled = pickle.dumps(type_)
    assert pickle.loads(pickled) == type_
    assert b"heksher.setting_type" in pickled
    assert b"heksher._values" not in pickled


# --- read-only mappings ---------------------------------------------------------------------------


def read_only() -> Any:
    raw = {"tea": {"small": [2]}, "coffee": {}}
    return setting_type(dict[str, dict[str, list[int]]]).decode(raw, [])


#: Arguments of methods that change a dict.
CHANGES: dict[str, tuple[object, ...]] = {
    "__setitem__": ("tea", {}),
    "__delitem__": ("tea",),
    "__ior__": ({},),
    "clear": (),
    "pop": ("tea",),
    "popitem": (),
    "setdefault": ("tea", {}),
    "update": ({"tea": {}},),
}


@pytest.mark.parametrize("method", CHANGES)
def test_a_mapping_refuses_changes_and_says_what_to_do(method: str) -> None:
    value = read_only()
    for each in (value, value["tea"]):
        with pytest.raises(TypeError, match=r"read-only: change a copy of it, made by copy\(\)"):
            getattr(each, method)(*CHANGES[method])
    assert value == read_only()


def test_no_other_method_changes_a_dict() -> None:
    for name in set(dir(dict)) - {"__init__", *CHANGES}:
        for arguments in [(), *CHANGES.values()]:
            value = dict(read_only())
            with suppress(Exception):
                getattr(value, name)(*arguments)
            assert value == read_only(), name


def test_copies_of_a_mapping_are_plain_dicts_at_every_level_that_is_copied() -> None:
    value = read_only()
    pickles = [pickle.loads(pickle.dumps(value, each)) for each in range(2, 6)]
    for each in (value.copy(), copy.copy(value), copy.deepcopy(value), value | {}, *pickles):
        assert type(each) is dict
        assert each == value
        each["tea"] = {}
    for each in (copy.deepcopy(value), *pickles[1:]):
        assert type(each["coffee"]) is dict
    assert value == read_only()
    assert b"heksher" not in pickle.dumps(value)


def test_a_mapping_is_hashable_and_a_dict_to_libraries() -> None:
    value = read_only()
    plain = {"tea": {"small": (2,)}, "coffee": {}}
    assert repr(value) == repr(plain)
    assert {value, read_only()} == {value}
    text = '{"tea":{"small":[2]},"coffee":{}}'
    assert json.dumps(value, separators=(",", ":")) == text
    assert msgspec.json.encode(value).decode() == text


@pytest.mark.integration  # not every build of Python has orjson
def test_orjson_takes_a_mapping() -> None:
    import orjson

    assert orjson.dumps(read_only()) == b'{"tea":{"small":[2]},"coffee":{}}'
