"""Setting types in the protocol's notation: parse, normalize, compare, check values.

Pure. Knows nothing of declarations, storage or HTTP, nor of the library's types for Python values.
"""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, TypeAlias

from heksher.service.domain import json_values
from heksher.service.domain.json_values import Json, is_list, is_object

Option: TypeAlias = str | int | float | bool

# Maximum nesting of Sequence and Mapping. The original service is known to accept this depth.
MAX_DEPTH = 200

# (is it a boolean, the option). In Python True == 1, but as options they are different.
_Key: TypeAlias = tuple[bool, Option]


class InvalidType(ValueError):
    """A text is not a valid type."""


class WireType(ABC):
    """A setting type. Types are equal if they have the same shape and the same set of options."""

    @abstractmethod
    def __str__(self) -> str:
        """Return the normal form, which is stored and reported."""

    @abstractmethod
    def contains(self, value: Json) -> bool:
        """Whether *value* has this type. Null has none."""

    @abstractmethod
    def is_narrower_than(self, other: WireType) -> bool:
        """Whether this is a strict subtype of *other*."""


@dataclass(frozen=True, slots=True)
class Primitive(WireType):
    """``int``, ``float``, ``str`` or ``bool``."""

    name: str

    def __str__(self) -> str:
        return self.name

    def contains(self, value: Json) -> bool:
        if isinstance(value, bool):
            return self.name == "bool"
        if self.name == "str":
            return isinstance(value, str)
        if self.name == "float":
            return isinstance(value, int | float)
        if self.name == "int":
            return isinstance(value, int) or (isinstance(value, float) and value.is_integer())
        return False

    def is_narrower_than(self, other: WireType) -> bool:
        return self == INT and other == FLOAT


INT = Primitive("int")
FLOAT = Primitive("float")
STR = Primitive("str")
BOOL = Primitive("bool")
_PRIMITIVES = {str(primitive): primitive for primitive in (INT, FLOAT, STR, BOOL)}


@dataclass(frozen=True, slots=True)
class _Options(WireType):
    """Base of Enum and Flags: a set of options, each in the spelling of its first occurrence."""

    keyword: ClassVar[str]
    options: frozenset[_Key]

    def __str__(self) -> str:
        return f"{self.keyword}[{','.join(sorted(json.dumps(o) for _, o in self.options))}]"

    def has_option(self, value: Json) -> bool:
        return isinstance(value, str | int | float) and _key(value) in self.options

    def is_narrower_than(self, other: WireType) -> bool:
        return (
            isinstance(other, _Options)
            and other.keyword == self.keyword
            and self.options < other.options
        )


class Enum(_Options):
    """One of the options."""

    __slots__ = ()
    keyword = "Enum"

    def contains(self, value: Json) -> bool:
        return self.has_option(value)


class Flags(_Options):
    """A list of distinct options in any order."""

    __slots__ = ()
    keyword = "Flags"

    def contains(self, value: Json) -> bool:
        if not is_list(value):
            return False
        # A plain set on purpose: here 1, 1.0 and true count as duplicates.
        return all(map(self.has_option, value)) and len(set(value)) == len(value)


@dataclass(frozen=True, slots=True)
class _Container(WireType):
    """Base of Sequence and Mapping: the type of their elements."""

    keyword: ClassVar[str]
    inner: WireType

    def __str__(self) -> str:
        return f"{self.keyword}<{self.inner}>"

    def is_narrower_than(self, other: WireType) -> bool:
        return (
            isinstance(other, _Container)
            and other.keyword == self.keyword
            and self.inner.is_narrower_than(other.inner)
        )


class Sequence(_Container):
    """A list of values of one type."""

    __slots__ = ()
    keyword = "Sequence"

    def contains(self, value: Json) -> bool:
        return is_list(value) and all(map(self.inner.contains, value))


class Mapping(_Container):
    """An object whose values have one type; keys are arbitrary strings."""

    __slots__ = ()
    keyword = "Mapping"

    def contains(self, value: Json) -> bool:
        return is_object(value) and all(map(self.inner.contains, value.values()))


# Neither pattern can backtrack far: bodies are untrusted and may be long.
_OPTIONS = re.compile(r"(Enum|Flags)\s*(\[.*)\Z", re.DOTALL)
_CONTAINER = re.compile(r"(Sequence|Mapping)\s*<")
_CLASSES: dict[str, type[_Options]] = {"Enum": Enum, "Flags": Flags}
_CONTAINERS: dict[str, type[_Container]] = {"Sequence": Sequence, "Mapping": Mapping}


def parse(text: str) -> WireType:
    """Parse a type in any spelling that the protocol allows.

    Raises:
        InvalidType: *text* is not a type, or nests too deeply.
    """
    around: list[type[_Container]] = []
    # A line feed after the last bracket is accepted, as the original service does.
    inner = text.removesuffix("\n") if text.endswith(">\n") else text
    while (match := _CONTAINER.match(inner)) is not None and inner.endswith(">"):
        if len(around) == MAX_DEPTH:
            raise InvalidType(f"type nests too deeply: expected at most {MAX_DEPTH} levels")
        around.append(_CONTAINERS[match[1]])
        inner = inner[match.end() : -1].strip()
    parsed = _parse_innermost(inner)
    for container in reversed(around):
        parsed = container(parsed)
    return parsed


def _parse_innermost(text: str) -> WireType:
    if text in _PRIMITIVES:
        return _PRIMITIVES[text]
    match = _OPTIONS.match(text)
    if match is None:
        raise InvalidType(f"invalid type {text!r}")
    try:
        options = json.loads(match[2], parse_int=_integer)
        json_values.check_storable(options)
    except (ValueError, RecursionError, json_values.InvalidJson) as error:
        raise InvalidType(f"invalid options in {text!r}: expected a JSON list") from error
    unique: dict[_Key, None] = {}
    for option in options:
        if not isinstance(option, str | int | float):
            # The message leaves the option out: it may nest deeper than repr() can go.
            raise InvalidType("invalid option: expected a string, a number or a boolean")
        unique.setdefault(_key(option))
    return _CLASSES[match[1]](frozenset(unique))


def _integer(text: str) -> int | float:
    """Read an integer option; beyond 64 bits it becomes a float, as in the original service."""
    value = int(text)
    return value if json_values.is_storable_integer(value) else float(value)


def _key(option: Option) -> _Key:
    return (isinstance(option, bool), option)
