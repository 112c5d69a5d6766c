"""One of some options: Enum, Literal. Some of some options: Flags."""

from __future__ import annotations

import math
from collections.abc import Iterable
from enum import Enum, Flag, IntFlag
from typing import Any, Final, TypeAlias, TypeVar

from heksher._text import one_line, shown
from heksher._values.base import (
    LARGEST_INT,
    SMALLEST_INT,
    SettingType,
    has_lone_surrogate,
    is_list,
    leave_out,
    refuse,
)
from heksher._values.primitives import PRIMITIVES
from heksher.exceptions import InvalidDefaultError, UnsupportedTypeError

T = TypeVar("T")
V = TypeVar("V")
EnumT = TypeVar("EnumT", bound=Enum)
FlagsT = TypeVar("FlagsT", bound=IntFlag)


_Option: TypeAlias = int | float | str | bool
# 1, 1.0 and True are equal in Python; as options they are three.
_OptionKey: TypeAlias = tuple[type, _Option]


def _check_option(where: str, option: object) -> None:
    """Refuse what JSON or the service cannot hold as an option of a type."""
    if type(option) not in PRIMITIVES:
        problem = (
            f"is of type {type(option).__name__}; the values of the options are "
            "of type int, float, str or bool, and of no type derived from these"
        )
    elif isinstance(option, int) and not SMALLEST_INT <= option <= LARGEST_INT:
        problem = "is out of range: the service keeps integers from -2**63 to 2**63 - 1"
    elif isinstance(option, float) and not math.isfinite(option):
        problem = "has no JSON form: use a finite float"
    elif isinstance(option, str) and has_lone_surrogate(option):
        problem = "holds a lone surrogate, which is no text in UTF-8: use other text"
    else:
        return
    raise UnsupportedTypeError(f"{where}: {shown(option)} {problem}")


def _spell_options(keyword: str, options: Iterable[_Option]) -> str:
    """Return the service's normal form of a type with options."""
    # Takes a while, and modules that define no such type can do without.
    import json

    # To the service 1 and 1.0 are one option, 1 and true are two. The int goes first, and stays.
    spelled: dict[tuple[bool, _Option], str] = {}
    for option in sorted(options, key=lambda option: isinstance(option, float)):
        spelled.setdefault((isinstance(option, bool), option), json.dumps(option))
    return f"{keyword}[{','.join(sorted(spelled.values()))}]"


def _by_option(values: Iterable[tuple[_Option, V]]) -> dict[_OptionKey, V]:
    """Return the values by what may arrive for them."""
    found: dict[_OptionKey, V] = {}
    twins: dict[_OptionKey, V] = {}
    for option, value in values:
        found[type(option), option] = value
        # The service takes 1 for 1.0 and the reverse, and JavaScript writes both as 1.
        twin: _Option | None = None
        if type(option) is int:
            twin = float(option)
        elif isinstance(option, float) and option.is_integer():
            twin = int(option)
        if twin == option and twin is not None:
            twins[type(twin), twin] = value
    return {**twins, **found}


class HeksherEnum(SettingType[EnumT]):
    """One of the members of an Enum class, on the wire by their values.

    The values are of type int, float, str or bool. ``1``, ``1.0`` and ``True`` are different values;
    only where no member has the value that arrived, a member with the equal number (never a bool) is
    taken, since the service takes ``1`` and ``1.0`` for the same.

    Members of one value are one member to Python: in ``A = 1; B = True``, B is another name of A. Of
    a Flag class, the options are the members of a single bit; combinations are none
    (see `HeksherFlags`).

    Attributes:
        enum_class: the Enum class.
    """

    __slots__ = ("_members", "_wire_name", "enum_class")

    def __init__(self, enum_class: type[EnumT]) -> None:
        """Make the type of an Enum class.

        Raises:
            UnsupportedTypeError: *enum_class* is no Enum class, has no members, or one whose value is
                no int, float, str or bool that JSON and the service can hold.
        """
        if not isinstance(enum_class, type) or not issubclass(enum_class, Enum):
            raise UnsupportedTypeError(f"HeksherEnum takes an Enum class, not {shown(enum_class)}")
        members = list(enum_class)
        if not members:
            raise UnsupportedTypeError(
                f"{shown(enum_class)} has no members, so that no value would be one of it: add some"
            )
        for member in members:
            _check_option(f"{enum_class.__name__}.{member.name}", member.value)
        self.enum_class: Final = enum_class
        self._members: Final = _by_option((member.value, member) for member in members)
        self._wire_name: Final = _spell_options("Enum", [member.value for member in members])

    @property
    def wire_name(self) -> str:
        return self._wire_name

    def encode(self, value: EnumT) -> _Option:
        if not isinstance(value, self.enum_class):
            example = next(iter(self.enum_class))
            raise refuse(
                value,
                f"a member of {self.enum_class.__name__}, "
                f"like {self.enum_class.__name__}.{example.name},",
            )
        option: _Option = value.value
        if self._members.get((type(option), option)) is not value:
            raise InvalidDefaultError(
                f"{shown(value)} is none of the options {one_line(self._wire_name, 200)}: of a Flag class "
                "only the members of a single bit are; for combinations use an IntFlag class"
            )
        return option

    def decode(self, raw: Any, coercions: list[str]) -> EnumT:
        try:
            return self._members[type(raw), raw]
        except (KeyError, TypeError):  # lists and objects are not hashable
            raise ValueError(f"{shown(raw)} is none of {one_line(self._wire_name, 200)}") from None

    def _identity(self) -> tuple[object, ...]:
        return type(self), self.enum_class


class LiteralType(SettingType[T]):
    """One of the options of a ``Literal[...]``: plain ints, floats, strs and bools.

    On the wire as `HeksherEnum`, and with the same regard for ``1``, ``1.0`` and ``True``. The order
    of the options means nothing.
    """

    __slots__ = ("_options", "_values", "_wire_name")

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
        self._values: Final[dict[_OptionKey, Any]] = _by_option(zip(options, options, strict=True))
        self._wire_name: Final = _spell_options("Enum", options)

    @property
    def wire_name(self) -> str:
        return self._wire_name

    def encode(self, value: T) -> _Option:
        plain: object = value
        if isinstance(value, str):
            plain = str.__str__(value)
        elif isinstance(value, int) and not isinstance(value, bool):
            plain = int(value)
        # As for numbers elsewhere: a float takes an int, an int takes no float.
        if isinstance(plain, (str, int, float)) and (
            (type(plain), plain) in self._options or type(plain) is int
        ):
            found: _Option | None = self._values.get((type(plain), plain))
            if found is not None:
                return found
        raise InvalidDefaultError(
            f"{shown(value)} of type {type(value).__name__} is none of {one_line(self._wire_name, 200)}"
        )

    def decode(self, raw: Any, coercions: list[str]) -> T:
        try:
            value: T = self._values[type(raw), raw]
        except (KeyError, TypeError):  # lists and objects are not hashable
            raise ValueError(f"{shown(raw)} is none of {one_line(self._wire_name, 200)}") from None
        return value

    def _identity(self) -> tuple[object, ...]:
        return type(self), self._options


# --- some of some options -------------------------------------------------------------------------


class HeksherFlags(SettingType[FlagsT]):
    """Any combination of the members of an IntFlag class, on the wire as a list of their names.

    The options are all names: also those of combinations, of zero, and second names of a member. The
    list that is written holds the single bits of the value in the order in which they are defined.

    In a list that is read, what names no member here is left out, and listed in ``coercions``.

    Attributes:
        flags_class: the IntFlag class.
    """

    __slots__ = ("_bits", "_wire_name", "flags_class")

    def __init__(self, flags_class: type[FlagsT]) -> None:
        """Make the type of an IntFlag class.

        Raises:
            UnsupportedTypeError: *flags_class* is no IntFlag class, or has no members.
        """
        if not isinstance(flags_class, type) or not issubclass(flags_class, IntFlag):
            mend = (
                "derive it from IntFlag"
                if isinstance(flags_class, type) and issubclass(flags_class, Flag)
                else "for one of the members of an Enum use HeksherEnum"
            )
            raise UnsupportedTypeError(
                f"HeksherFlags takes an IntFlag class, not {shown(flags_class)}: {mend}"
            )
        members = flags_class.__members__
        if not members:
            raise UnsupportedTypeError(
                f"{shown(flags_class)} has no members, so that no flag could be set: add some"
            )
        for name in members:
            _check_option(f"a member of {flags_class.__name__}", name)
        self.flags_class: Final = flags_class
        self._bits: Final = {name: int(member) for name, member in members.items()}
        self._wire_name: Final = _spell_options("Flags", members)

    @property
    def wire_name(self) -> str:
        return self._wire_name

    def encode(self, value: FlagsT) -> list[str]:
        # Zero has no member in most classes, and is written as what it is; so a plain int will do.
        if not isinstance(value, int) or isinstance(value, bool):
            raise refuse(
                value,
                f"a combination of members of {self.flags_class.__name__}, "
                f"like {self.flags_class.__name__}(0),",
            )
        bits = int(value)
        singles = [member.name for member in self.flags_class if int(member) & bits]
        names: list[str] = []
        left = bits
        # Combinations only for bits that have no name of their own.
        for name in (*singles, *self._bits):
            if name is not None and left & self._bits[name] and not self._bits[name] & ~bits:
                names.append(name)
                left &= ~self._bits[name]
        if left:
            raise InvalidDefaultError(
                f"{shown(value)} holds bits that no member of {self.flags_class.__name__} stands "
                f"for ({one_line(hex(left), 200)}): use a combination of members, or add a member for them"
            )
        return names

    def decode(self, raw: Any, coercions: list[str]) -> FlagsT:
        if not is_list(raw):
            raise ValueError(f"{shown(raw)} is no list of {one_line(self._wire_name, 200)}")
        options = one_line(self._wire_name, 200)
        bits = 0
        for index, name in enumerate(raw):
            if isinstance(name, str) and name in self._bits:
                bits |= self._bits[name]
            else:
                leave_out(coercions, f"element {index}: {shown(name)} is none of {options}")
        return self.flags_class(bits)

    def _identity(self) -> tuple[object, ...]:
        return type(self), self.flags_class
