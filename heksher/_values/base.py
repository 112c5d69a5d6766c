"""`SettingType`, and what several types need to encode and decode. Knows no particular type."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeGuard, TypeVar

from heksher._text import shown
from heksher.exceptions import InvalidDefaultError

if TYPE_CHECKING:
    from typing_extensions import TypeForm

T = TypeVar("T")

# The service stores 64-bit integers.
SMALLEST_INT = -(2**63)
LARGEST_INT = 2**63 - 1
# It also stores unsigned ones that an operator writes.
LARGEST_UNSIGNED_INT = 2**64 - 1

# Coercions of one value that are listed one by one. A hostile service could cause millions.
_MAX_COERCIONS = 20


class SettingType(ABC, Generic[T]):
    """How values of one type are encoded for the service, and decoded.

    Types are values themselves: equal types compare equal and hash equal. `setting_type` returns the
    one for a Python type.

    `decode` returns immutable values: text, numbers and bools, members of the application's Enum or
    IntFlag class, tuples, and read-only mappings.
    """

    __slots__ = ()

    @property
    @abstractmethod
    def wire_name(self) -> str:
        """The service's normal spelling of the type: ``int``, ``Sequence<Enum["a","b"]>`` …"""

    @abstractmethod
    def encode(self, value: T) -> Any:
        """Return the JSON value of *value*, in JSON's types. It shares nothing mutable with *value*.

        Raises:
            InvalidDefaultError: *value* is not of this type, or JSON or the service cannot hold it.
        """

    @abstractmethod
    def decode(self, raw: Any, coercions: list[str]) -> T:
        """Return the immutable value for the decoded JSON *raw*.

        Args:
            raw: the JSON value, in Python's exact types: None, bool, int, float, str, list, dict.
            coercions: receives one text for each part of *raw* that does not fit the type and was left
                out, with its path: ``element 3: key 'a': ...``.

        Raises:
            ValueError: *raw* is not a value of this type. Ignore what *coercions* received.
        """

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SettingType) and self._identity() == other._identity()

    def __hash__(self) -> int:
        return hash(self._identity())

    def _identity(self) -> tuple[object, ...]:
        """Return a hashable that equal types have in common."""
        return type(self), self.wire_name

    def __repr__(self) -> str:
        return f"<setting type {self.wire_name}>"


class NamedType(SettingType[T]):
    """A type whose name is spelled once: the base of all types here."""

    __slots__ = ()

    _wire_name: str

    @property
    def wire_name(self) -> str:
        return self._wire_name


#: ``Form[T]`` is what one writes for the type T: a class or one of typing's forms. ``TypeLike[T]`` is
#: what a setting can be declared with.
if TYPE_CHECKING:
    Form: TypeAlias = TypeForm[T]
    TypeLike: TypeAlias = Form[T] | SettingType[T]
else:
    Form = type[T]
    TypeLike = Form[T] | SettingType[T]


def wrong_type(value: object, expected: str) -> InvalidDefaultError:
    """Return the error for a value that cannot be encoded."""
    return InvalidDefaultError(
        f"{shown(value)} is of type {type(value).__name__}: expected {expected}"
    )


def has_lone_surrogate(text: str) -> bool:
    """Whether *text* has a character that UTF-8 cannot encode."""
    return any("\ud800" <= character <= "\udfff" for character in text)


def encode_text(value: str) -> str:
    """Return *value* as a plain string.

    Raises:
        InvalidDefaultError: it has a lone surrogate.
    """
    if has_lone_surrogate(value):
        raise InvalidDefaultError(
            f"{shown(value)} has a lone surrogate, which UTF-8 cannot encode: expected valid text"
        )
    # Not str(value): a subclass of str may define another __str__.
    return str.__str__(value)


def add_coercion(coercions: list[str], text: str) -> None:
    """Add *text* to *coercions*, up to a bound."""
    if len(coercions) < _MAX_COERCIONS:
        coercions.append(text)
    elif len(coercions) == _MAX_COERCIONS:
        coercions.append("and more, which are not listed")


# For type checkers: isinstance() does not say what a list or a dict is of.
def is_list(raw: Any) -> TypeGuard[list[Any]]:
    """Whether *raw* is a JSON array."""
    return isinstance(raw, list)


def is_object(raw: Any) -> TypeGuard[dict[str, Any]]:
    """Whether *raw* is a JSON object."""
    return isinstance(raw, dict)
