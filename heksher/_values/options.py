"""The types with options: one of several (Enum, Literal), or any number of them (Flags)."""

from __future__ import annotations

import math
from collections.abc import Iterable
from enum import Enum, Flag, IntFlag
from typing import Any, Final, TypeAlias, TypeVar, cast

from heksher._text import one_line, shown
from heksher._values.base import (
    LARGEST_INT,
    SMALLEST_INT,
    NamedType,
    SettingType,
    add_coercion,
    has_lone_surrogate,
    is_list,
    wrong_type,
)
from heksher._values.primitives import PRIMITIVES
from heksher.exceptions import InvalidDefaultError, UnsupportedTypeError

T = TypeVar("T")
V = TypeVar("V")
EnumT = TypeVar("EnumT", bound=Enum)
FlagsT = TypeVar("FlagsT", bound=IntFlag)

_Option: TypeAlias = int | float | str | bool
# 1, 1.0 and True are equal in Python, but three different options.
_OptionKey: TypeAlias = tuple[type, _Option]


def _check_option(where: str, option: object) -> None:
    """Refuse an option that JSON or the service cannot hold."""
    if type(option) not in PRIMITIVES:
        problem = (
            f"is of type {type(option).__name__}: "
            "expected exactly an int, float, str or bool, not a subclass of these"
        )
    elif isinstance(option, int) and not SMALLEST_INT <= option <= LARGEST_INT:
        problem = "is out of range: expected an int from -2**63 to 2**63 - 1"
    elif isinstance(option, float) and not math.isfinite(option):
        problem = "has no JSON form: expected a finite float"
    elif isinstance(option, str) and has_lone_surrogate(option):
        problem = "has a lone surrogate, which UTF-8 cannot encode: expected valid text"
    else:
        return
    raise UnsupportedTypeError(f"{where}: {shown(option)} {problem}")


def _spell_options(keyword: str, options: Iterable[_Option]) -> str:
    """Return the service's normal spelling of a type with options."""
    # Importing it takes a while, and modules that define no such type do without.
    import json

    # To the service 1 and 1.0 are one option, 1 and true are two. Of 1 and 1.0 the int is kept.
    spelled: dict[tuple[bool, _Option], str] = {}
    for option in sorted(options, key=lambda option: isinstance(option, float)):
        spelled.setdefault((isinstance(option, bool), option), json.dumps(option))
    return f"{keyword}[{','.join(sorted(spelled.values()))}]"


def _by_option(values: Iterable[tuple[_Option, V]]) -> dict[_OptionKey, V]:
    """Return *values* by the JSON values that may arrive for them."""
    found: dict[_OptionKey, V] = {}
    twins: dict[_OptionKey, V] = {}
    for option, value in values:
        found[type(option), option] = value
        # The service accepts 1 for 1.0 and the reverse, and JavaScript writes both as 1.
        if not isinstance(option, (bool, str)):
            for twin in (int(option), float(option)):
                if twin == option:
                    twins[type(twin), twin] = value
    return {**twins, **found}


class _OneOf(NamedType[T]):
    """One of several options."""

    __slots__ = ("_values", "_wire_name")

    def __init__(self, values: Iterable[tuple[_Option, T]]) -> None:
        values = list(values)
        self._values: Final = _by_option(values)
        self._wire_name = _spell_options("Enum", [option for option, _ in values])

    def decode(self, raw: Any, coercions: list[str]) -> T:
        try:
            return self._values[type(raw), raw]
        except (KeyError, TypeError):  # lists and dicts cannot be hashed
            raise ValueError(f"{shown(raw)} is not one of {_brief(self)}") from None


def _brief(type_: SettingType[Any]) -> str:
    """Return the beginning of the type's name, for messages."""
    return one_line(type_.wire_name, 200)


class HeksherEnum(_OneOf[EnumT]):
    """One member of an Enum class, encoded as its value.

    Values are of type int, float, str or bool. ``1``, ``1.0`` and ``True`` are different values. The
    service does not distinguish ``1`` from ``1.0``, though, so if no member has exactly the number that
    arrived, one with an equal number is used; never one with a bool.

    Python makes members with equal values one member: in ``A = 1; B = True``, B is another name of A.
    The options of a Flag class are its members with a single bit; combinations are rejected (see
    `HeksherFlags`).

    Attributes:
        enum_class: the Enum class.
    """

    __slots__ = ("enum_class",)

    def __init__(self, enum_class: type[EnumT]) -> None:
        """Make the type of an Enum class.

        Raises:
            UnsupportedTypeError: *enum_class* is not an Enum class, has no members, or has one whose
                value is not an int, float, str or bool that JSON and the service can hold.
        """
        if not isinstance(enum_class, type) or not issubclass(enum_class, Enum):
            raise UnsupportedTypeError(f"HeksherEnum takes an Enum class, not {shown(enum_class)}")
        members = list(enum_class)
        if not members:
            raise UnsupportedTypeError(f"{shown(enum_class)} has no members: add at least one")
        for member in members:
            _check_option(f"{enum_class.__name__}.{member.name}", member.value)
        self.enum_class: Final = enum_class
        super().__init__((member.value, member) for member in members)

    def encode(self, value: EnumT) -> _Option:
        name = self.enum_class.__name__
        if not isinstance(value, self.enum_class):
            example = next(iter(self.enum_class)).name
            raise wrong_type(value, f"a member of {name}, such as {name}.{example}")
        option: _Option = value.value
        if self._values.get((type(option), option)) is not value:
            raise InvalidDefaultError(
                f"{shown(value)} is not one of {_brief(self)}: expected a member of {name} with a "
                "single bit; for combinations use an IntFlag class"
            )
        return option

    def _identity(self) -> tuple[object, ...]:
        return type(self), self.enum_class


class LiteralType(_OneOf[T]):
    """One option of a ``Literal[...]``: an int, float, str or bool.

    Encoded as `HeksherEnum` is, with the same regard for ``1``, ``1.0`` and ``True``. The order of the
    options means nothing.
    """

    __slots__ = ("_options",)

    def __init__(self, options: Iterable[_Option]) -> None:
        """Make the type of these options.

        Raises:
            UnsupportedTypeError: there are none, or one that JSON or the service cannot hold.
        """
        options = tuple(options)
        if not options:
            raise UnsupportedTypeError("Literal has no options: use Literal['a', 'b']")
        for option in options:
            _check_option("an option of Literal", option)
        self._options: Final = frozenset((type(option), option) for option in options)
        super().__init__(cast("Iterable[tuple[_Option, T]]", zip(options, options, strict=True)))

    def encode(self, value: T) -> _Option:
        plain: object = value
        if isinstance(value, str):
            plain = str.__str__(value)
        elif isinstance(value, int) and not isinstance(value, bool):
            plain = int(value)
        # As for numbers elsewhere: a float option accepts an int, an int option accepts no float.
        if isinstance(plain, (str, int, float)) and (
            (type(plain), plain) in self._options or type(plain) is int
        ):
            found: Any = self._values.get((type(plain), plain))
            if found is not None:
                option: _Option = found
                return option
        raise wrong_type(value, f"one of {_brief(self)}")

    def _identity(self) -> tuple[object, ...]:
        return type(self), self._options


class HeksherFlags(NamedType[FlagsT]):
    """Any combination of the members of an IntFlag class, encoded as a list of names.

    All names are options, including those of combinations, of zero, and second names of a member. An
    encoded list has the single bits of the value in the order of their definition.

    In a list that is decoded, names without a member here are left out, and listed in ``coercions``.

    Attributes:
        flags_class: the IntFlag class.
    """

    __slots__ = ("_bits", "_wire_name", "flags_class")

    def __init__(self, flags_class: type[FlagsT]) -> None:
        """Make the type of an IntFlag class.

        Raises:
            UnsupportedTypeError: *flags_class* is not an IntFlag class, or has no members.
        """
        if not isinstance(flags_class, type) or not issubclass(flags_class, IntFlag):
            hint = (
                "derive it from IntFlag"
                if isinstance(flags_class, type) and issubclass(flags_class, Flag)
                else "for one member of an Enum class use HeksherEnum"
            )
            raise UnsupportedTypeError(
                f"HeksherFlags takes an IntFlag class, not {shown(flags_class)}: {hint}"
            )
        members = flags_class.__members__
        if not members:
            raise UnsupportedTypeError(f"{shown(flags_class)} has no members: add at least one")
        for name in members:
            _check_option(f"a member of {flags_class.__name__}", name)
        self.flags_class: Final = flags_class
        self._bits: Final = {name: int(member) for name, member in members.items()}
        self._wire_name = _spell_options("Flags", members)

    def encode(self, value: FlagsT) -> list[str]:
        class_name = self.flags_class.__name__
        # A plain int is accepted: in most classes zero has no member, and is written as 0.
        if not isinstance(value, int) or isinstance(value, bool):
            raise wrong_type(
                value, f"a combination of members of {class_name}, such as {class_name}(0)"
            )
        bits = int(value)
        singles = [member.name for member in self.flags_class if int(member) & bits]
        names: list[str] = []
        left = bits
        # Combinations come last, for bits that have no name of their own.
        for name in (*singles, *self._bits):
            if name is not None and left & self._bits[name] and not self._bits[name] & ~bits:
                names.append(name)
                left &= ~self._bits[name]
        if left:
            raise InvalidDefaultError(
                f"{shown(value)} has bits without a member in {class_name} "
                f"({one_line(hex(left), 200)}): expected a combination of members; "
                "add a member for these bits, or leave them out"
            )
        return names

    def decode(self, raw: Any, coercions: list[str]) -> FlagsT:
        options = _brief(self)
        if not is_list(raw):
            raise ValueError(f"{shown(raw)} is not a list of {options}")
        bits = 0
        for index, name in enumerate(raw):
            if isinstance(name, str) and name in self._bits:
                bits |= self._bits[name]
            else:
                add_coercion(coercions, f"element {index}: {shown(name)} is not one of {options}")
        return self.flags_class(bits)

    def _identity(self) -> tuple[object, ...]:
        return type(self), self.flags_class
