"""`SettingType`, what all types have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeGuard, TypeVar

from heksher._text import shown
from heksher.exceptions import InvalidDefaultError

if TYPE_CHECKING:
    from typing_extensions import TypeForm

T = TypeVar("T")

# The service keeps values in a database that has no wider integers.
SMALLEST_INT = -(2**63)
LARGEST_INT = 2**63 - 1


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


#: ``Form[T]``: what is written for the type T, a class or one of typing's forms. ``TypeLike[T]``: what a
#: setting can be declared with.
if TYPE_CHECKING:
    Form: TypeAlias = TypeForm[T]
    TypeLike: TypeAlias = Form[T] | SettingType[T]
else:
    Form = type[T]
    TypeLike = Form[T] | SettingType[T]


def refuse(value: object, wanted: str) -> InvalidDefaultError:
    return InvalidDefaultError(
        f"{shown(value)} is of type {type(value).__name__}; {wanted} is wanted"
    )


def has_lone_surrogate(text: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in text)


def encode_text(value: str) -> str:
    if has_lone_surrogate(value):
        raise InvalidDefaultError(
            f"{shown(value)} holds a lone surrogate, which is no text in UTF-8"
        )
    # Not str(value): a class that derives from str may print itself in another way.
    return str.__str__(value)


_MOST_COERCIONS = 100


def leave_out(coercions: list[str], text: str) -> None:
    """Note what was left out, up to a number that nobody reads to the end: a service may lie."""
    if len(coercions) < _MOST_COERCIONS:
        coercions.append(text)
    elif len(coercions) == _MOST_COERCIONS:
        coercions.append("and more, which are not listed")


# For the checkers: isinstance() leaves open what the types are of.
def is_list(raw: Any) -> TypeGuard[list[Any]]:
    return isinstance(raw, list)


def is_object(raw: Any) -> TypeGuard[dict[str, Any]]:
    return isinstance(raw, dict)
