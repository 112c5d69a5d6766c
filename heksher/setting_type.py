"""What values a setting can have, and how they travel: Python value <-> JSON value of the service.

Pure: knows no setting, no rule and no client. Facts: section 3 of the protocol (types and values).
"""

from __future__ import annotations

import math
import types
import typing
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from enum import Enum, Flag, IntFlag
from reprlib import Repr
from typing import (
    TYPE_CHECKING,
    Any,
    Final,
    Generic,
    Literal,
    TypeAlias,
    TypeGuard,
    TypeVar,
    overload,
)

from heksher.exceptions import InvalidDefaultError, UnsupportedTypeError

if TYPE_CHECKING:
    from typing_extensions import TypeForm

T = TypeVar("T")
V = TypeVar("V")
ElementT = TypeVar("ElementT")
EnumT = TypeVar("EnumT", bound=Enum)
FlagsT = TypeVar("FlagsT", bound=IntFlag)

# The service keeps values in a database that has no wider integers.
_SMALLEST_INT = -(2**63)
_LARGEST_INT = 2**63 - 1

_MOST_COERCIONS = 100

# What the service is known to take. A type is as deep as the containers in it are nested.
_MAX_DEPTH = 200


class SettingType(ABC, Generic[T]):
    """How the values of one type are written on the wire, and read back.

    Types are values themselves: equal types compare equal and hash equal. `setting_type` makes the
    one that belongs to a Python type.

    What `decode` returns is immutable and of the type's own: text, numbers and bools, members of the
    application's Enum or IntFlag, tuples, and read-only mappings.
    """

    __slots__ = ()

    @property
    @abstractmethod
    def wire_name(self) -> str:
        """The type as the service spells it, in normal form: ``int``, ``Sequence<Enum["a","b"]>`` …"""

    @abstractmethod
    def encode(self, value: T) -> Any:
        """Return the JSON value of *value*: in JSON's types, and a copy of what can be changed.

        Raises:
            InvalidDefaultError: *value* is none of this type, or none that JSON or the service holds.
        """

    @abstractmethod
    def decode(self, raw: Any, coercions: list[str]) -> T:
        """Return the immutable value that the decoded JSON *raw* stands for.

        Args:
            raw: what JSON said, in Python's exact types: None, bool, int, float, str, list, dict.
            coercions: gets one text for each part of *raw* that is of no use here and was left out,
                with the path to it: ``element 3: key 'a': ...``.

        Raises:
            ValueError: *raw* is no value of this type. The message says what it is instead. What
                *coercions* got until then means nothing.
        """

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SettingType) and self._identity() == other._identity()

    def __hash__(self) -> int:
        return hash(self._identity())

    def _identity(self) -> tuple[object, ...]:
        """Return what makes this type equal to others: hashable."""
        return type(self), self.wire_name

    def __repr__(self) -> str:
        return f"<setting type {self.wire_name}>"


# --- what stands in messages ----------------------------------------------------------------------

# Values may be megabytes long, nested beyond what repr() can do, or broken.
_MAX_SHOWN = 200
_repr = Repr()
_repr.maxstring = _repr.maxother = 150
_repr.maxlong = 60
_repr.maxlevel = 2


def _cut(text: str) -> str:
    return text if len(text) <= _MAX_SHOWN else f"{text[: _MAX_SHOWN - 3]}..."


def _shown(value: object) -> str:
    try:
        return _cut(_repr.repr(value))
    except Exception:  # an integer of more than 4300 digits; an object that is broken
        return "what cannot be shown"


def _refuse(value: object, wanted: str) -> InvalidDefaultError:
    return InvalidDefaultError(
        f"{_shown(value)} is of type {type(value).__name__}; {wanted} is wanted"
    )


def _has_lone_surrogate(text: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in text)


def _encode_text(value: str) -> str:
    if _has_lone_surrogate(value):
        raise InvalidDefaultError(
            f"{_shown(value)} holds a lone surrogate, which is no text in UTF-8"
        )
    # Not str(value): a class that derives from str may print itself in another way.
    return str.__str__(value)


# For the checkers: isinstance() leaves open what the types are of.
def _leave_out(coercions: list[str], text: str) -> None:
    """Note what was left out, up to a number that nobody reads to the end: a service may lie."""
    if len(coercions) < _MOST_COERCIONS:
        coercions.append(text)
    elif len(coercions) == _MOST_COERCIONS:
        coercions.append("and more, which are not listed")


def _is_list(raw: Any) -> TypeGuard[list[Any]]:
    return isinstance(raw, list)


def _is_object(raw: Any) -> TypeGuard[dict[str, Any]]:
    return isinstance(raw, dict)


def _is_class(form: Any) -> TypeGuard[type[Any]]:
    return isinstance(form, type)


def _is_setting_type(form: Any) -> TypeGuard[SettingType[Any]]:
    return isinstance(form, SettingType)


# --- primitives -----------------------------------------------------------------------------------


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
        raise ValueError(f"{_shown(raw)} is no int")


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
                raise ValueError(f"{_shown(raw)} is too large for a float") from None
        raise ValueError(f"{_shown(raw)} is no float")


class StrType(SettingType[str]):
    """Text."""

    __slots__ = ()

    @property
    def wire_name(self) -> str:
        return "str"

    def encode(self, value: str) -> str:
        if not isinstance(value, str):
            raise _refuse(value, "a str")
        return _encode_text(value)

    def decode(self, raw: Any, coercions: list[str]) -> str:
        if isinstance(raw, str):
            return raw
        raise ValueError(f"{_shown(raw)} is no str")


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
        raise ValueError(f"{_shown(raw)} is no bool")


_PRIMITIVES: dict[type, SettingType[Any]] = {
    int: IntType(),
    float: FloatType(),
    str: StrType(),
    bool: BoolType(),
}


# --- one of some options --------------------------------------------------------------------------

_Option: TypeAlias = int | float | str | bool
# 1, 1.0 and True are equal in Python; as options they are three.
_OptionKey: TypeAlias = tuple[type, _Option]


def _check_option(where: str, option: object) -> None:
    """Refuse what JSON or the service cannot hold as an option of a type."""
    if type(option) not in _PRIMITIVES:
        problem = (
            f"is of type {type(option).__name__}; the values of the options are "
            "of type int, float, str or bool, and of no type derived from these"
        )
    elif isinstance(option, int) and not _SMALLEST_INT <= option <= _LARGEST_INT:
        problem = "is out of range: the service keeps integers from -2**63 to 2**63 - 1"
    elif isinstance(option, float) and not math.isfinite(option):
        problem = "has no JSON form: use a finite float"
    elif isinstance(option, str) and _has_lone_surrogate(option):
        problem = "holds a lone surrogate, which is no text in UTF-8: use other text"
    else:
        return
    raise UnsupportedTypeError(f"{where}: {_shown(option)} {problem}")


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
            raise UnsupportedTypeError(f"HeksherEnum takes an Enum class, not {_shown(enum_class)}")
        members = list(enum_class)
        if not members:
            raise UnsupportedTypeError(
                f"{_shown(enum_class)} has no members, so that no value would be one of it: add some"
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
            raise _refuse(
                value,
                f"a member of {self.enum_class.__name__}, "
                f"like {self.enum_class.__name__}.{example.name},",
            )
        option: _Option = value.value
        if self._members.get((type(option), option)) is not value:
            raise InvalidDefaultError(
                f"{_shown(value)} is none of the options {_cut(self._wire_name)}: of a Flag class "
                "only the members of a single bit are; for combinations use an IntFlag class"
            )
        return option

    def decode(self, raw: Any, coercions: list[str]) -> EnumT:
        try:
            return self._members[type(raw), raw]
        except (KeyError, TypeError):  # lists and objects are not hashable
            raise ValueError(f"{_shown(raw)} is none of {_cut(self._wire_name)}") from None

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
            f"{_shown(value)} of type {type(value).__name__} is none of {_cut(self._wire_name)}"
        )

    def decode(self, raw: Any, coercions: list[str]) -> T:
        try:
            value: T = self._values[type(raw), raw]
        except (KeyError, TypeError):  # lists and objects are not hashable
            raise ValueError(f"{_shown(raw)} is none of {_cut(self._wire_name)}") from None
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
                f"HeksherFlags takes an IntFlag class, not {_shown(flags_class)}: {mend}"
            )
        members = flags_class.__members__
        if not members:
            raise UnsupportedTypeError(
                f"{_shown(flags_class)} has no members, so that no flag could be set: add some"
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
            raise _refuse(
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
                f"{_shown(value)} holds bits that no member of {self.flags_class.__name__} stands "
                f"for ({_cut(hex(left))}): use a combination of members, or add a member for them"
            )
        return names

    def decode(self, raw: Any, coercions: list[str]) -> FlagsT:
        if not _is_list(raw):
            raise ValueError(f"{_shown(raw)} is no list of {_cut(self._wire_name)}")
        options = _cut(self._wire_name)
        bits = 0
        for index, name in enumerate(raw):
            if isinstance(name, str) and name in self._bits:
                bits |= self._bits[name]
            else:
                _leave_out(coercions, f"element {index}: {_shown(name)} is none of {options}")
        return self.flags_class(bits)

    def _identity(self) -> tuple[object, ...]:
        return type(self), self.flags_class


# --- containers -----------------------------------------------------------------------------------


_TOO_DEEP = f"the service takes types that nest at most {_MAX_DEPTH} times: use a flatter one"


def _depth(type_: SettingType[Any]) -> int:
    """How many containers are nested in *type_*, itself included."""
    return type_.depth if isinstance(type_, (HeksherSequence, HeksherMapping)) else 0


def _depth_around(inner: SettingType[Any]) -> int:
    depth = _depth(inner)
    if depth >= _MAX_DEPTH:
        raise UnsupportedTypeError(_TOO_DEEP)
    return depth + 1


class HeksherSequence(SettingType[Sequence[ElementT]]):
    """Any number of values of one type, in order; they come out as a tuple.

    In a list that is read, elements that are no values of the inner type are left out, and listed in
    ``coercions``.

    Attributes:
        inner: the type of the elements.
        depth: how many sequences and mappings are nested, this one included.
    """

    __slots__ = ("depth", "inner")

    def __init__(self, inner: TypeLike[ElementT]) -> None:
        """Make the type of sequences of *inner*, which is anything that `setting_type` takes.

        Raises:
            UnsupportedTypeError: there is no setting type for *inner*, or it nests too deeply.
        """
        self.inner: Final[SettingType[ElementT]] = _convert(inner)
        self.depth: Final = _depth_around(self.inner)

    @property
    def wire_name(self) -> str:
        return f"Sequence<{self.inner.wire_name}>"

    def encode(self, value: Sequence[ElementT]) -> list[Any]:
        if not isinstance(value, Sequence) or isinstance(value, (str, bytes, bytearray)):
            raise _refuse(value, "a sequence like a list or a tuple")
        elements: list[Any] = []
        for index, element in enumerate(value):
            try:
                elements.append(self.inner.encode(element))
            except InvalidDefaultError as error:
                raise InvalidDefaultError(f"element {index}: {error}") from None
        return elements

    def decode(self, raw: Any, coercions: list[str]) -> tuple[ElementT, ...]:
        if not _is_list(raw):
            raise ValueError(f"{_shown(raw)} is no list")
        decode = self.inner.decode
        elements: list[ElementT] = []
        within: list[str] = []
        for index, element in enumerate(raw):
            try:
                elements.append(decode(element, within))
            except ValueError as error:
                within[:] = [str(error)]
            if within:
                for each in within:
                    _leave_out(coercions, f"element {index}: {each}")
                within.clear()
        return tuple(elements)

    def _identity(self) -> tuple[object, ...]:
        return type(self), self.inner


class HeksherMapping(SettingType[Mapping[str, ElementT]]):
    """Values of one type under string keys; they come out as a read-only mapping.

    The mapping keeps the order in which the keys came, compares as a dict does, and has a ``copy()``
    that can be changed. In an object that is read, pairs whose value is none of the inner type are left
    out, and listed in ``coercions``.

    Attributes:
        inner: the type of the values.
        depth: how many sequences and mappings are nested, this one included.
    """

    __slots__ = ("depth", "inner")

    def __init__(self, inner: TypeLike[ElementT]) -> None:
        """Make the type of mappings to *inner*, which is anything that `setting_type` takes.

        Raises:
            UnsupportedTypeError: there is no setting type for *inner*, or it nests too deeply.
        """
        self.inner: Final[SettingType[ElementT]] = _convert(inner)
        self.depth: Final = _depth_around(self.inner)

    @property
    def wire_name(self) -> str:
        return f"Mapping<{self.inner.wire_name}>"

    def encode(self, value: Mapping[str, ElementT]) -> dict[str, Any]:
        if not isinstance(value, Mapping):
            raise _refuse(value, "a mapping like a dict")
        pairs: dict[str, Any] = {}
        for key, element in value.items():
            if not isinstance(key, str):
                raise InvalidDefaultError(f"the key {_refuse(key, 'a str')}")
            try:
                pairs[_encode_text(key)] = self.inner.encode(element)
            except InvalidDefaultError as error:
                raise InvalidDefaultError(f"key {_shown(key)}: {error}") from None
        return pairs

    def decode(self, raw: Any, coercions: list[str]) -> Mapping[str, ElementT]:
        if not _is_object(raw):
            raise ValueError(f"{_shown(raw)} is no object")
        decode = self.inner.decode
        pairs: dict[str, ElementT] = {}
        within: list[str] = []
        for key, element in raw.items():
            try:
                pairs[key] = decode(element, within)
            except ValueError as error:
                within[:] = [str(error)]
            if within:
                for each in within:
                    _leave_out(coercions, f"key {_shown(key)}: {each}")
                within.clear()
        return types.MappingProxyType(pairs)

    def _identity(self) -> tuple[object, ...]:
        return type(self), self.inner


# --- from Python's types --------------------------------------------------------------------------

#: ``Form[T]``: what is written for the type T, a class or one of typing's forms. ``TypeLike[T]``: what a
#: setting can be declared with.
if TYPE_CHECKING:
    Form: TypeAlias = TypeForm[T]
    TypeLike: TypeAlias = Form[T] | SettingType[T]
else:
    Form = type[T]
    TypeLike = Form[T] | SettingType[T]


# Values come out as tuples and read-only mappings, whichever way the type was spelled.
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
    given                                                     values
    ========================================================  =========================================
    ``int``, ``float``, ``str``, ``bool``                     of that type; a bool is no int
    an Enum class                                             its members: `HeksherEnum`
    an IntFlag class                                          combinations of members: `HeksherFlags`
    ``Literal["a", "b"]``                                     the options, as they are
    ``Sequence[T]``, ``list[T]``, ``tuple[T, ...]``           tuples: `HeksherSequence`
    ``Mapping[str, T]``, ``dict[str, T]``                     read-only mappings: `HeksherMapping`
    a `SettingType`                                           it is returned as it is
    ========================================================  =========================================

    T is again any of these. ``typing.List`` and the like are taken as well.

    Args:
        type_: the type.

    Raises:
        UnsupportedTypeError: no setting can have this type; the message says which to use instead.
    """
    return _convert(type_)


def _convert(type_: Any) -> SettingType[Any]:
    # A loop and no recursion: how deep Python recurses is no limit of the service's.
    around: list[type[HeksherSequence[Any] | HeksherMapping[Any]]] = []
    form = type_
    while (step := _open_container(form)) is not None:
        if len(around) == _MAX_DEPTH:
            raise UnsupportedTypeError(f"in {_shown(type_)}: {_TOO_DEEP}")
        container, form = step
        around.append(container)
    try:
        found = _convert_innermost(form)
        for container in reversed(around):
            found = container(found)
    except UnsupportedTypeError as error:
        if not around:
            raise
        raise UnsupportedTypeError(f"in {_shown(type_)}: {error}") from None
    return found


def _open_container(
    form: Any,
) -> tuple[type[HeksherSequence[Any] | HeksherMapping[Any]], Any] | None:
    """Return the container that *form* is and the type of what is in it, or None."""
    match typing.get_origin(form), typing.get_args(form):
        case (origin, (element,)) if origin in (list, Sequence):
            return HeksherSequence, element
        case (origin, (element, end)) if origin is tuple and end is Ellipsis:
            return HeksherSequence, element
        case (origin, (key, element)) if origin in (dict, Mapping) and key is str:
            return HeksherMapping, element
        case _:
            return None


def _convert_innermost(form: Any) -> SettingType[Any]:
    if _is_setting_type(form):
        return form
    found = _convert_class(form) if _is_class(form) else None
    if typing.get_origin(form) is Literal:
        found = LiteralType[Any](typing.get_args(form))
    if found is None:
        raise UnsupportedTypeError(
            f"{_shown(form)} is no type that a setting can have: {_mend(form)}. There are "
            "int, float, str or bool, Enum and IntFlag classes, Literal[...], "
            "Sequence[T] and Mapping[str, T]"
        )
    return found


def _convert_class(class_: type[Any]) -> SettingType[Any] | None:
    if issubclass(class_, IntFlag):
        return HeksherFlags(class_)
    if issubclass(class_, Enum):
        return HeksherEnum(class_)
    return _PRIMITIVES.get(class_)


def _mend(form: Any) -> str:
    """Say what to use instead of a type that no setting can have."""
    origin = typing.get_origin(form) or form
    if form is None or form is type(None):
        return "null is a value of no type; use the type of the values, and a default value of it"
    if origin in (typing.Union, types.UnionType, typing.Optional):
        return (
            "values are of one type, and null is of none; use one type, with a default value of it "
            "for what is not set, or Literal[...] for options of several types"
        )
    if origin is Literal:
        return "use Literal['a', 'b'], with the options"
    if origin in (Any, object):
        return "the service checks values by their type; use the one that they have"
    if isinstance(form, (str, typing.ForwardRef)):
        return "use the type itself, without quotation marks"
    if origin is typing.Annotated or type(form).__name__ in ("NewType", "TypeAliasType", "TypeVar"):
        return "use the type that it stands for"
    if _is_class(origin):
        for kinds, mend in _MENDS:
            if issubclass(origin, kinds):
                return mend
    return "use one that the service has, and convert where you read it"


# In this order: an int class is no sequence, a str is one.
_MENDS: tuple[tuple[type | tuple[type, ...], str], ...] = (
    (SettingType, "make one, as in HeksherSequence(int)"),
    (int, "use int"),
    (float, "use float"),
    (str, "use str"),
    (
        (bytes, bytearray, complex),
        "JSON has no such values; use str, and convert where you read it",
    ),
    (tuple, "elements are of one type and any number; use tuple[T, ...] with their type T"),
    (Mapping, "keys are strings; use Mapping[str, T], with the type T of the values"),
    (AbstractSet, "use Sequence[T], or an IntFlag class for a set of names"),
    (Iterable, "use Sequence[T], with the type T of the elements"),
)
