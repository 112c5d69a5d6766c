"""`Setting`: what an application declares once and reads everywhere.

Knows the registry that new settings enter, and nothing of clients, the wire or backends.
"""

from __future__ import annotations

import builtins
import math
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Generic, NoReturn, Self, TypeAlias, TypeVar, cast, overload

import msgspec

from heksher import _names, _registry
from heksher._rules.contexts import MISSING, Missing, checked_features
from heksher._rules.getter import SettingState, accept
from heksher.exceptions import (
    InvalidArgumentError,
    InvalidDefaultError,
    InvalidSettingError,
    UnsupportedTypeError,
)
from heksher.setting_type import Form, SettingType, TypeLike, setting_type

__all__ = ["OnCoerce", "QueriedRule", "Setting", "Validator"]

T = TypeVar("T")
ElementT = TypeVar("ElementT")
EnumT = TypeVar("EnumT", bound=Enum)
PrimitiveT = TypeVar("PrimitiveT", bool, int, float, str)
# The options of a Literal.
TextT = TypeVar("TextT", bound=str)
NumberT = TypeVar("NumberT", bound=int)


@dataclass(frozen=True, slots=True)
class QueriedRule:
    """A rule as validators and ``on_coerce`` see it.

    Attributes:
        rule_id: the service's number for it.
        context_features: its conditions, pairs of context feature and value, in the service's order.
    """

    rule_id: int | None
    context_features: tuple[tuple[str, str], ...]


#: ``validator(value, rule, setting)`` returns the value to use; the rule is None for the service's
#: default value.
Validator: TypeAlias = "Callable[[T, QueriedRule | None, Setting[T]], T]"

#: ``on_coerce(value, raw, coercions, rule, setting)`` returns the value to use, or raises TypeError.
OnCoerce: TypeAlias = "Callable[[T, Any, Sequence[str], QueriedRule | None, Setting[T]], T]"


class Setting(Generic[T]):
    """A named value that depends on context.

    Creating a setting registers it: the main client declares it to the service and keeps its rules
    up to date, whether it is there already or comes later. Until then, and for ever without a
    client, `get` returns the default value. A setting that nobody holds any more is forgotten.

    ``get(user="jim")`` returns the value in that context, from memory. It takes the configurable
    features as keyword arguments; a feature that is left out has the value that the client's
    ``set_defaults`` gives it. It raises `TypeError` for any other keyword and, once a
    client has started, `MissingFeatureError` for a feature without a value.

    Args:
        name: ASCII letters, digits, underscores and dots.
        type: ``int``, ``float``, ``str``, ``bool``, an Enum or IntFlag class, ``Literal[...]``,
            ``Sequence[T]`` or ``Mapping[str, T]`` of these, ``list[T]``, ``dict[str, T]`` and
            ``tuple[T, ...]`` as other spellings, or a `SettingType`. Values are immutable: sequences
            are tuples, and mappings cannot be changed.
        configurable_features: names of the context features that rules of this setting may use;
            their order means nothing.
        default_value: the value where no rule matches and the service has told no other default.
        metadata: anything that JSON can say, under keys of ASCII letters, digits, underscores and
            hyphens; the service only keeps it.
        alias: the name under which the service may know the setting so far. It becomes an alias, and
            the setting takes its rules over.
        version: ``major.minor``; every change of a declaration takes a higher one.
        on_coerce: called when a value of the service is of a newer type and does not fit as a whole:
            ``on_coerce(value, raw, coercions, rule, setting)``, with what is left of the value, the
            value in JSON's types, a text for each part that was left out, and the rule (None for the
            service's default value). It returns the value to use, or raises `TypeError` to refuse it,
            which costs that one rule. Without it the value that is left is used; with None none is.
        configurable_feature: another spelling of `configurable_features`.

    Raises:
        TypeError: `configurable_features` or `default_value` is not given.
        InvalidSettingError: a part of the declaration is one that the service would refuse, or the
            setting and another one would be the same to it, by an alias.
        UnsupportedTypeError: there is no type of the service for `type`.
        InvalidDefaultError: `default_value` is no value of `type`.
        DuplicateSettingError: another module declares a setting of this name differently.
    """

    __slots__ = (
        "__weakref__",
        "_default_value",
        "_state",
        "alias",
        "configurable_features",
        "get",
        "metadata",
        "name",
        "type",
        "version",
    )

    # A slot and no method: the callable is the setting's own, so that a call does no more than it
    # must, and a kept one stays valid.
    get: Callable[..., T]

    name: str
    configurable_features: tuple[str, ...]
    _default_value: T
    metadata: Mapping[str, Any]
    alias: str | None
    version: str
    type: SettingType[T]
    _state: SettingState[T]

    # For the checkers alone: they would let any default value widen T, so each kind of type has an
    # overload that ties the two together, or takes T from the type. Values come out as sequences and
    # mappings that cannot be changed, whichever way their type was spelled.
    @overload
    def __init__(
        self: Setting[EnumT],
        name: str,
        type: Form[EnumT],
        configurable_features: Iterable[str],
        default_value: EnumT,
        metadata: Mapping[str, Any] | None = None,
        alias: str | None = None,
        version: str = "1.0",
        on_coerce: OnCoerce[EnumT] | None = ...,
    ) -> None: ...

    @overload
    def __init__(
        self: Setting[PrimitiveT],
        name: str,
        type: builtins.type[PrimitiveT],
        configurable_features: Iterable[str],
        default_value: PrimitiveT,
        metadata: Mapping[str, Any] | None = None,
        alias: str | None = None,
        version: str = "1.0",
        on_coerce: OnCoerce[PrimitiveT] | None = ...,
    ) -> None: ...

    @overload
    def __init__(
        self,
        name: str,
        type: SettingType[T],
        configurable_features: Iterable[str],
        default_value: T,
        metadata: Mapping[str, Any] | None = None,
        alias: str | None = None,
        version: str = "1.0",
        on_coerce: OnCoerce[T] | None = ...,
    ) -> None: ...

    @overload
    def __init__(
        self: Setting[TextT],
        name: str,
        type: Form[TextT],
        configurable_features: Iterable[str],
        default_value: str,
        metadata: Mapping[str, Any] | None = None,
        alias: str | None = None,
        version: str = "1.0",
        on_coerce: OnCoerce[TextT] | None = ...,
    ) -> None: ...

    @overload
    def __init__(
        self: Setting[NumberT],
        name: str,
        type: Form[NumberT],
        configurable_features: Iterable[str],
        default_value: int,
        metadata: Mapping[str, Any] | None = None,
        alias: str | None = None,
        version: str = "1.0",
        on_coerce: OnCoerce[NumberT] | None = ...,
    ) -> None: ...

    @overload
    def __init__(
        self: Setting[Sequence[ElementT]],
        name: str,
        type: Form[Sequence[ElementT]],
        configurable_features: Iterable[str],
        default_value: Sequence[Any],
        metadata: Mapping[str, Any] | None = None,
        alias: str | None = None,
        version: str = "1.0",
        on_coerce: OnCoerce[Sequence[ElementT]] | None = ...,
    ) -> None: ...

    @overload
    def __init__(
        self: Setting[Mapping[str, ElementT]],
        name: str,
        type: Form[Mapping[str, ElementT]],
        configurable_features: Iterable[str],
        default_value: Mapping[str, Any],
        metadata: Mapping[str, Any] | None = None,
        alias: str | None = None,
        version: str = "1.0",
        on_coerce: OnCoerce[Mapping[str, ElementT]] | None = ...,
    ) -> None: ...

    @overload
    def __init__(
        self,
        name: str,
        type: TypeLike[T],
        *,
        configurable_feature: Iterable[str],
        default_value: T,
        metadata: Mapping[str, Any] | None = None,
        alias: str | None = None,
        version: str = "1.0",
        on_coerce: OnCoerce[T] | None = ...,
    ) -> None: ...

    def __init__(
        self,
        name: str,
        type: TypeLike[Any],
        configurable_features: Iterable[str] | Missing = MISSING,
        default_value: Any = MISSING,
        metadata: Mapping[str, Any] | None = None,
        alias: str | None = None,
        version: str = "1.0",
        on_coerce: OnCoerce[Any] | None = accept,
        configurable_feature: Iterable[str] | Missing = MISSING,
    ) -> None:
        _check_name("a setting's name", name)
        self.name = name
        if alias is not None:
            _check_name(f"the alias of setting {name!r}", alias)
            if alias == name:
                raise InvalidSettingError(f"setting {name!r}: the alias is the name itself")
        self.alias = alias
        if not isinstance(version, str) or not _names.is_version(version):
            raise InvalidSettingError(
                f"setting {name!r}: the version is {version!r}; "
                f"{_names.VERSION_RULE}, like '1.0', is wanted"
            )
        self.version = version
        self.metadata = _checked_metadata(name, metadata)
        features = _one_spelling(name, configurable_features, configurable_feature)
        if default_value is MISSING:
            raise TypeError(f"setting {name!r}: default_value is missing")
        if on_coerce is not None and not callable(on_coerce):
            raise InvalidSettingError(
                f"setting {name!r}: on_coerce is {on_coerce!r}; a function or None is wanted"
            )
        try:
            self.type = cast("SettingType[T]", setting_type(type))
            self.configurable_features = checked_features(features)
        except UnsupportedTypeError as error:
            raise UnsupportedTypeError(f"setting {name!r}: {error}") from None
        except InvalidArgumentError as error:
            raise InvalidSettingError(f"setting {name!r}: {error}") from None
        try:
            self._default_value = self.type.decode(self.type.encode(default_value), [])
        except InvalidDefaultError as error:
            raise InvalidDefaultError(
                f"setting {name!r} of type {self.type.wire_name}: default value: {error}"
            ) from None
        self._state = SettingState(
            name, self.configurable_features, self, self._default_value, on_coerce
        )
        _set_get(self, self._state.get)
        _registry.register(self, *_caller(self))

    @property
    def default_value(self) -> T:
        """The value where no rule matches and the service has told no other default.

        It was declared and published, so that nothing would come of changing it. In tests, give the
        setting a value by a stub client.
        """
        return self._default_value

    def add_validator(self, validator: Validator[T]) -> Validator[T]:
        """Have *validator* called with each value that the service gives, to return the one to use.

        Validators are called in the order in which they were added, each with what the one before
        returned, as ``validator(value, rule, setting)``; the rule is None for the service's default
        value. The default value of the declaration is not handed in. A validator that raises, whatever
        it raises, costs that one rule: it is dropped, logged and listed in the client's ``status``. What
        it returns is handed to every caller of `get`, so that it should be immutable.

        One that is added while a client runs counts from the next update. An update calls validators
        and ``on_coerce`` where it runs, or, if the answer is large, in a thread beside.

        Returns:
            *validator*, so that this can be used as a decorator.

        Raises:
            InvalidArgumentError: *validator* cannot be called.
        """
        if not callable(validator):
            raise InvalidArgumentError(
                f"setting {self.name!r}: the validator {validator!r} cannot be called; "
                "a function of value, rule and setting is wanted"
            )
        self._state.validators = (*self._state.validators, validator)
        return validator

    def __copy__(self) -> Self:
        """Return the setting itself: clients know it, and would not know a copy."""
        return self

    def __deepcopy__(self, memo: object) -> Self:
        """Return the setting itself: clients know it, and would not know a copy."""
        return self

    def __reduce__(self) -> NoReturn:
        """Refuse to be pickled.

        Raises:
            TypeError: always.
        """
        raise TypeError(
            f"setting {self.name!r} cannot be pickled: it is of this process, as is the client that "
            "serves it; define it in a module that the other process imports, too"
        )

    def __repr__(self) -> str:
        return f"<Setting {self.name!r}: {self.type.wire_name} by {', '.join(self.configurable_features)}>"


# Through the slot itself: a subclass may define a get of its own, which plain assignment would hide.
_set_get: Callable[[Setting[Any], Callable[..., Any]], None] = Setting.__dict__["get"].__set__


def state_of(setting: Setting[T]) -> SettingState[T]:
    """Return what *setting* answers from. For clients and stubs, which change it."""
    return setting._state  # pyright: ignore[reportPrivateUsage]


# In JSON: an even number of backslashes before it, or none.
_NULL_CHARACTER = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")


def _check_name(what: str, name: object) -> None:
    if not isinstance(name, str) or not _names.is_setting_name(name):
        raise InvalidSettingError(f"{what} is {name!r}; it takes {_names.SETTING_NAME_RULE}")


def _one_spelling(
    name: str, plural: Iterable[str] | Missing, singular: Iterable[str] | Missing
) -> Iterable[str]:
    if isinstance(singular, Missing):
        if isinstance(plural, Missing):
            raise TypeError(f"setting {name!r}: configurable_features is missing")
        return plural
    if isinstance(plural, Missing):
        return singular
    raise TypeError(
        f"setting {name!r}: configurable_features and configurable_feature are two spellings of one "
        "parameter; give one of them"
    )


def _checked_metadata(name: str, metadata: Mapping[str, Any] | None) -> Mapping[str, Any]:
    if metadata is not None and not isinstance(metadata, Mapping):
        raise InvalidSettingError(
            f"setting {name!r}: the metadata is {metadata!r}; a mapping with string keys is wanted"
        )
    checked = dict(metadata or {})
    for key in checked:
        if not isinstance(key, str) or not _names.is_metadata_key(key):
            raise InvalidSettingError(
                f"setting {name!r}: the metadata key {key!r} is none; "
                f"a string of {_names.METADATA_KEY_RULE} is wanted"
            )
    try:
        encoded = msgspec.json.encode(checked)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise InvalidSettingError(f"setting {name!r}: the metadata is no JSON: {error}") from None
    if _holds_no_number(msgspec.to_builtins(checked)):
        raise InvalidSettingError(
            f"setting {name!r}: the metadata holds an infinity or NaN, which JSON has not"
        )
    if _NULL_CHARACTER.search(encoded):
        raise InvalidSettingError(
            f"setting {name!r}: the metadata holds a null character, which the service cannot keep"
        )
    # A copy in depth, in JSON's own types: what the application changes later was not declared.
    copy: dict[str, Any] = msgspec.json.decode(encoded)
    return copy


def _holds_no_number(value: object) -> bool:
    """Whether there is an infinity or NaN in *value*, which is of JSON's types."""
    if isinstance(value, float):
        return not math.isfinite(value)
    if isinstance(value, dict):
        value = list(cast("dict[str, object]", value).values())
    if isinstance(value, (list, tuple)):
        return any(map(_holds_no_number, cast("Iterable[object]", value)))
    return False


def _caller(setting: Setting[Any]) -> tuple[str, str]:
    """Return module and place of the code that is making *setting*, past subclasses and typing."""
    frame = sys._getframe(1)  # pyright: ignore[reportPrivateUsage]
    while frame.f_back is not None and (
        frame.f_globals.get("__name__") in (__name__, "typing")
        or (frame.f_code.co_name == "__init__" and frame.f_locals.get("self") is setting)
    ):
        frame = frame.f_back
    module = frame.f_globals.get("__name__", "?")
    return module, f"{frame.f_code.co_filename}:{frame.f_lineno}"
