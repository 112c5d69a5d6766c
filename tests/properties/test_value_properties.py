"""Values of random nested types: to JSON and back; and random JSON as values."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from enum import Enum, Flag, IntEnum, IntFlag, StrEnum
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, TypeAlias

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from support.property_helpers import modest

from heksher import HeksherEnum, HeksherFlags, HeksherMapping, HeksherSequence
from heksher.service.domain import json_values, setting_types
from heksher.setting_type import ReadOnlyDict, SettingType, setting_type


class Shade(Enum):
    LIGHT = "light"
    DARK = 2
    DIM = 0.5
    NONE = False


class Theme(StrEnum):
    BLUE = "blue"
    ACCENT = "é"


class Level(IntEnum):
    LOW = 1
    HIGH = 10


class Plain(Flag):
    A = 1
    B = 2


class Rights(IntFlag):
    NONE = 0
    WRITE = 2
    READ = 1
    BOTH = 3
    READING = 1
    ADMIN = 12
    OWNER = 24


class Kind(NamedTuple):
    """A type in two spellings, and a strategy for its values."""

    spelling: Any
    other: Any
    values: st.SearchStrategy[Any]


# Their arguments are only known at run time, so type checkers must not look at them.
SEQUENCE: Any = Sequence
LIST: Any = list
TUPLE: Any = tuple
MAPPING: Any = Mapping
DICT: Any = dict

Kinds: TypeAlias = st.SearchStrategy[Kind]

texts = st.text(st.characters(exclude_categories=["Cs"]))
rights = st.lists(st.sampled_from(list(Rights.__members__.values()))).map(
    lambda drawn: Rights(
        sum(1 << bit for bit in range(5) if any(each >> bit & 1 for each in drawn))
    )
)

leaves: Kinds = st.sampled_from(
    [
        Kind(int, setting_type(int), st.integers(-(2**63), 2**63 - 1)),
        Kind(float, setting_type(float), st.floats(allow_nan=False, allow_infinity=False)),
        Kind(str, setting_type(str), texts),
        Kind(bool, setting_type(bool), st.booleans()),
        Kind(Shade, HeksherEnum(Shade), st.sampled_from(Shade)),
        Kind(Theme, HeksherEnum(Theme), st.sampled_from(Theme)),
        Kind(Level, HeksherEnum(Level), st.sampled_from(Level)),
        Kind(Plain, HeksherEnum(Plain), st.sampled_from([Plain.A, Plain.B])),
        Kind(Rights, HeksherFlags(Rights), rights),
        Kind(Literal["a", 1, True], Literal[True, "a", 1], st.sampled_from(["a", 1, True])),
    ]
)


def containers(inner: Kinds) -> Kinds:
    def sequences(kind: Kind) -> Kinds:
        lists = st.lists(kind.values, max_size=4)
        return st.builds(
            Kind,
            st.sampled_from([SEQUENCE[kind.spelling], LIST[kind.spelling]]),
            st.sampled_from([TUPLE[kind.spelling, ...], HeksherSequence(kind.other)]),
            st.just(st.one_of(lists, lists.map(tuple))),
        )

    def mappings(kind: Kind) -> Kinds:
        dicts = st.dictionaries(texts, kind.values, max_size=4)
        return st.builds(
            Kind,
            st.sampled_from([MAPPING[str, kind.spelling], DICT[str, kind.spelling]]),
            st.just(HeksherMapping(kind.other)),
            st.just(st.one_of(dicts, dicts.map(MappingProxyType))),
        )

    return st.one_of(inner.flatmap(sequences), inner.flatmap(mappings))


kinds: Kinds = st.recursive(leaves, containers, max_leaves=6)
kinds_with_values = kinds.flatmap(lambda kind: st.tuples(st.just(kind), kind.values))

#: Everything that json.loads can return, including NaN, lone surrogates and integers too large to print.
anything = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.builds(pow, st.just(10), st.just(5000)),
        st.floats(),
        st.text(),
        st.sampled_from(["light", "blue", "READ", "ADMIN", "a", 1, 2.0, 0.5, False]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=5), st.dictionaries(st.text(), inner, max_size=5)
    ),
    max_leaves=20,
)


# It tests the class, since checkers would otherwise ask for the types of the members.
def is_immutable(value: Any) -> bool:
    if issubclass(type(value), ReadOnlyDict):
        return all(isinstance(key, str) and is_immutable(value[key]) for key in value)
    if issubclass(type(value), tuple):
        return all(map(is_immutable, value))
    hash(value)
    return isinstance(value, (int, float, str, bool, Enum))


def plain(value: Any) -> Any:
    """Return the value with lists as sequences, dicts as mappings, and the class of each leaf."""
    if issubclass(type(value), Mapping):
        return {key: plain(value[key]) for key in value}
    if issubclass(type(value), (list, tuple)):
        return [plain(each) for each in value]
    return type(value), value


@modest
@given(kinds_with_values)
def test_a_value_survives_the_way_to_the_service_and_back(drawn: tuple[Kind, Any]) -> None:
    kind, value = drawn
    type_: SettingType[Any] = setting_type(kind.spelling)
    text = msgspec.json.encode(type_.encode(value))
    assert setting_types.parse(type_.wire_name).contains(json.loads(text))
    coercions: list[str] = []
    back = type_.decode(msgspec.json.decode(text), coercions)
    assert coercions == []
    assert plain(back) == plain(value)
    assert is_immutable(back)


@modest
@given(kinds)
def test_a_type_is_equal_to_itself_in_another_spelling(kind: Kind) -> None:
    one, other = setting_type(kind.spelling), setting_type(kind.other)
    assert one == other
    assert hash(one) == hash(other)
    assert one.wire_name == other.wire_name


@modest
@given(kinds, kinds)
def test_equal_types_have_one_name(one: Kind, other: Kind) -> None:
    first, second = setting_type(one.spelling), setting_type(other.spelling)
    if first == second:
        assert hash(first) == hash(second)
    assert (first == second) <= (first.wire_name == second.wire_name)


@modest
@given(kinds)
def test_the_name_is_the_normal_form_of_the_service(kind: Kind) -> None:
    name = setting_type(kind.spelling).wire_name
    assert str(setting_types.parse(name)) == name


@modest
@given(kinds, anything)
def test_random_json_is_a_value_or_a_value_error(kind: Kind, raw: Any) -> None:
    type_ = setting_type(kind.spelling)
    coercions: list[str] = []
    try:
        value = type_.decode(raw, coercions)
    except ValueError:
        return
    assert is_immutable(value)
    assert all(len(text) < 600 for text in coercions)


@modest
@given(kinds, anything)
def test_every_value_of_the_service_s_type_is_one_here(kind: Kind, raw: Any) -> None:
    type_ = setting_type(kind.spelling)
    if is_storable(raw) and setting_types.parse(type_.wire_name).contains(raw):
        coercions: list[str] = []
        type_.decode(raw, coercions)
        assert coercions == []


def is_storable(raw: Any) -> bool:
    try:
        json_values.check_storable(raw)
    except json_values.InvalidJson:
        return False
    return True
