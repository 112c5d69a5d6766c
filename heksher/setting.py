"""`Setting`: what an application declares once and reads everywhere.

A public door over types, rules and the registry. Knows no client, no message of the protocol, no backend.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import (
    TYPE_CHECKING,
    Any,
    Generic,
    NoReturn,
    Protocol,
    Self,
    TypeAlias,
    TypeVar,
    cast,
    overload,
)

from heksher import _names, _registry
from heksher._declared import check_name, checked_metadata, one_spelling, origin_of
from heksher._listening import (
    FixedContext,
    SettingListener,
    SettingsChanged,
    Subscription,
    content_of,
    subscribe,
)
from heksher._rules.contexts import MISSING, Missing, checked_features
from heksher._rules.getter import Published, SettingState, accept
from heksher.exceptions import (
    InvalidArgumentError,
    InvalidDefaultError,
    InvalidSettingError,
    UnsupportedTypeError,
)
from heksher.setting_type import Form, SettingType, TypeLike, setting_type

if TYPE_CHECKING:  # imported with the first explanation
    from heksher._rules.explaining import Explainer
    from heksher.explanation import Explanation

__all__ = [
    "Get",
    "OnCoerce",
    "QueriedRule",
    "Setting",
    "SettingChanged",
    "SettingsChanged",
    "Subscription",
    "Validator",
    "ValueChanged",
]

Subscription.__module__ = SettingsChanged.__module__ = __name__  # users find them here

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
ElementT = TypeVar("ElementT")
EnumT = TypeVar("EnumT", bound=Enum)
PrimitiveT = TypeVar("PrimitiveT", bool, int, float, str)
# Options of a Literal.
TextT = TypeVar("TextT", bound=str)
NumberT = TypeVar("NumberT", bound=int)


#: How many candidates an explanation lists.
_LIMIT = 100


@dataclass(frozen=True, slots=True)
class QueriedRule:
    """A rule as validators and ``on_coerce`` see it: without its value, which they get beside it.

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


@dataclass(frozen=True, slots=True)
class SettingChanged(Generic[T]):
    """A setting's rules or its default value changed: the event that a callback of `on_change` gets.

    Attributes:
        setting: the setting.
    """

    setting: Setting[T]


@dataclass(frozen=True, slots=True)
class ValueChanged(SettingChanged[T]):
    """A setting's value changed in the context that was given to `on_change`.

    Attributes:
        setting: the setting.
        old: the value that a callback was told before, or else that of the registration.
        new: the value now.
    """

    old: T
    new: T


class Get(Protocol[T_co]):
    """The type of a setting's `get`, for annotations of one that is kept: ``ttl: Get[int]``."""

    def __call__(self, **contexts: str | None) -> T_co:
        """Return the value in one context. A feature that is left out has the client's default."""
        ...


class Setting(Generic[T]):
    """A named value that depends on context.

    Creating a setting registers it. The main client declares it to the service and keeps its rules up to
    date, whether that client exists already or is created later. Until then, and forever without a
    client, `get` returns the default value. A setting that the application no longer references is
    forgotten.

    ``get(user="jim")`` returns the value in that context, from memory. It takes the configurable
    features as keyword arguments. Each is a string, or None for "no value here", which meets no
    condition. A feature that is left out has the value that was given to the client's ``set_defaults``.
    `get` raises `TypeError` for any other keyword, `FeatureTypeError`, which is one too, for a value of
    another type and, once a client has started, `MissingFeatureError` for a feature without a value.

    Args:
        name: ASCII letters, digits, underscores and dots.
        type: ``int``, ``float``, ``str``, ``bool``, an Enum or IntFlag class, ``Literal[...]``,
            ``Sequence[T]`` or ``Mapping[str, T]`` of these, or a `SettingType`. ``list[T]``,
            ``tuple[T, ...]`` and ``dict[str, T]`` are other spellings. Values are immutable: sequences
            are tuples, and mappings are read-only.
        configurable_features: names of the context features that rules of this setting may use, in any
            order.
        default_value: the value where no rule matches, unless the service has another default.
        metadata: JSON values under keys of ASCII letters, digits, underscores and hyphens. The
            service stores it and does not use it.
        alias: a name that the service may already know the setting by. It becomes an alias, and the
            setting takes over its rules.
        version: ``major.minor``. Each change of a declaration needs a higher one.
        on_coerce: called as ``on_coerce(value, raw, coercions, rule, setting)`` if a value from the
            service belongs to a newer type and fits in part only. The arguments are the part that
            fits, the whole value in JSON's types, one text for each part that was left out, and the
            rule (None for the service's default value). It returns the value to use, or raises
            `TypeError` to refuse the value, which drops that one rule. If it is left out, the part that
            fits is used. If it is None, every such value is refused.
        configurable_feature: another spelling of `configurable_features`.

    Raises:
        TypeError: `configurable_features` or `default_value` is missing.
        InvalidSettingError: the service would refuse a part of the declaration, or would take this
            setting and another one for the same, because of an alias.
        UnsupportedTypeError: the service has no such type.
        InvalidDefaultError: `default_value` is not a value of `type`.
        DuplicateSettingError: another module declares a setting of this name differently, or the
            main client serves a differing one.
    """

    # The texts are what `help` shows.
    __slots__ = {
        "__weakref__": None,
        "_default_value": None,
        "_state": None,
        "alias": "A name that the service may already know the setting by, or None.",
        "configurable_features": "The context features that rules of this setting may use.",
        "get": "Return the value in the context of the keyword arguments. `Setting` says more.",
        "metadata": "JSON values that the service stores and does not use.",
        "name": "The name that the service knows it by.",
        "type": "A `SettingType`; its ``wire_name`` is the service's spelling.",
        "version": "``major.minor``, as declared.",
    }

    # A slot and not a method. Each setting has a function of its own, which its rules are compiled into
    # (`SettingState.get`), so that a call pays neither for a bound method nor for finding the rules. In
    # the instance's ``__dict__`` the function would hide what the class says:
    # ``mock.patch.object(Setting, "get")`` would have no effect, nor would a ``get`` that a subclass
    # defines. A slot is a descriptor of the class, and both of these take its place. The constructor
    # fills it through that descriptor (`_set_get`): with a subclass that has its own ``get``, a plain
    # ``self.get = ...`` would end up in the instance's ``__dict__`` and hide it.
    get: Get[T]

    name: str
    configurable_features: tuple[str, ...]
    _default_value: T
    metadata: Mapping[str, Any]
    alias: str | None
    version: str
    type: SettingType[T]
    _state: SettingState[T]

    # The overloads are for type checkers, which would let any default value widen T. Each kind of type
    # has one that ties the two together, or takes T from the type alone. Values are immutable sequences
    # and mappings, however their type was written.
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
        check_name("invalid name of a setting", name)
        self.name = name
        if alias is not None:
            check_name(f"setting {name!r}: invalid alias", alias)
            if alias == name:
                raise InvalidSettingError(
                    f"setting {name!r}: the alias is the name itself: leave the alias out"
                )
        self.alias = alias
        if not isinstance(version, str) or not _names.is_version(version):
            raise InvalidSettingError(
                f"setting {name!r}: invalid version {version!r}: "
                f"expected {_names.VERSION_RULE}, such as '1.0'"
            )
        self.version = version
        self.metadata = checked_metadata(name, metadata)
        features = one_spelling(name, configurable_features, configurable_feature)
        if default_value is MISSING:
            raise TypeError(f"setting {name!r}: default_value is missing")
        if on_coerce is not None and not callable(on_coerce):
            raise InvalidSettingError(
                f"setting {name!r}: invalid on_coerce {on_coerce!r}: expected a function or None"
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
        _registry.register(self, origin_of(self))

    @property
    def default_value(self) -> T:
        """The value where no rule matches, unless the service has another default.

        It cannot be changed, since it was declared. To change the value in a test, use a stub client.
        """
        return self._default_value

    def explain(self, limit: int = _LIMIT, /, **contexts: str | None) -> Explanation[T]:
        """Return why the setting has its value in one context: which rule wins, and what the context is.

        ``print(cache_ttl.explain(user="jim"))`` shows it. It takes the arguments of `get`, and raises
        whatever `get` raises for them. It takes no lock, so it may be called at any time. It costs up to
        ten times as much as `get`; the rules that do not win are looked for when ``candidates`` is read.

        Args:
            limit: list at most this many rules in ``candidates``; 100 if it is left out.
            **contexts: as for `get`.

        Raises:
            InvalidArgumentError: *limit* is not a number, or is negative.
        """
        # The default needs no check, which would take a third as long as a `get`.
        if limit is not _LIMIT and (type(limit) is not int or limit < 0):
            raise InvalidArgumentError(
                f"setting {self.name!r}: invalid limit {limit!r} of explain(): expected 0 or more"
            )
        published = self._state.in_force
        try:
            return (published.explainer or _new_explainer(self, published)).explain(contexts, limit)
        except Exception as error:
            failure = error.with_traceback(None)
        # Of several errors `get` raises the one that it meets first, and some are the interpreter's own.
        self._state.get(**contexts)
        raise failure  # a client has published something else by now

    def add_validator(self, validator: Validator[T]) -> Validator[T]:
        """Call *validator* with each value from the service, and use the value that it returns.

        It is called as ``validator(value, rule, setting)``; the rule is None for the service's default
        value. Validators are called in the order in which they were added, each with the value that the
        one before returned. They do not see the default value of the declaration. If a validator raises
        anything, that one rule is dropped, logged and listed in the client's ``status``. Return
        immutable values: `get` returns the same object to every caller.

        A validator that is added while a client runs takes effect with the next update. An update calls
        validators and ``on_coerce`` where it runs or, if the answer is large, in another thread.

        Args:
            validator: the function.

        Returns:
            *validator*, so that this can be used as a decorator.

        Raises:
            InvalidArgumentError: *validator* is not callable.
        """
        if not callable(validator):
            raise InvalidArgumentError(
                f"setting {self.name!r}: invalid validator {validator!r}: "
                "expected a function of value, rule and setting"
            )
        self._state.validators = (*self._state.validators, validator)
        return validator

    @overload
    def on_change(self, callback: Callable[[SettingChanged[T]], object], /) -> Subscription: ...

    @overload
    def on_change(
        self, callback: Callable[[ValueChanged[T]], object], /, **contexts: str | None
    ) -> Subscription: ...

    def on_change(
        self, callback: Callable[[Any], object], /, **contexts: str | None
    ) -> Subscription:
        """Call *callback* after each update that changed this setting, or its value in one context.

        Without *contexts*, it is called when the rules or the default value are others than before, and
        gets a `SettingChanged`. With them, it is called only when the value in that context is another
        one, and gets a `ValueChanged`. A feature that is left out has the value that the client's
        context variable has now, or the client's constant at each update, or else None. Values are
        compared by ``==``; if that raises, they count as different.

        It is called where updates run, in the event loop or in the thread that updates, once the whole
        update is in force. For the first rules, that is before the start of the client returns. Keep it
        short: the next update waits for it. What it raises is logged and contained. Its calls never
        overlap.

        The setting keeps the callback, until it is cancelled.

        Args:
            callback: an ordinary function of one argument.
            **contexts: values of context features, as for `get`.

        Returns:
            the registration, to cancel it.

        Raises:
            InvalidArgumentError: *callback* is not an ordinary function.
            UnknownFeatureError: a keyword is no configurable feature of the setting. (It is a
                ``TypeError``.)
            FeatureTypeError: a value is neither a string nor None. (It is a ``TypeError``.)
        """
        state = self._state
        what = f"setting {self.name!r}, on_change"
        if contexts:
            context = FixedContext(self.name, contexts, state.in_force.plan)
            listener = SettingListener(
                what, callback, state, context.value, partial(ValueChanged, self)
            )
        else:
            listener = SettingListener(
                what, callback, state, content_of, lambda _old, _new: SettingChanged(self)
            )
        subscription = subscribe(state, listener)
        listener.catch_up()  # a publish just before `subscribe` calls no listener
        return subscription

    def __copy__(self) -> Self:
        """Return the setting itself. No client would update a copy."""
        return self

    def __deepcopy__(self, memo: object) -> Self:
        """Return the setting itself. No client would update a copy."""
        return self

    def __reduce__(self) -> NoReturn:
        """Refuse to be pickled.

        Raises:
            TypeError: always.
        """
        raise TypeError(
            f"setting {self.name!r} cannot be pickled, because the client that updates it belongs to "
            "this process: define the setting in a module that the other process imports too"
        )

    def __repr__(self) -> str:
        return f"<Setting {self.name!r}: {self.type.wire_name} by {', '.join(self.configurable_features)}>"


_set_get: Callable[[Setting[Any], Get[Any]], None] = Setting.__dict__["get"].__set__


def _new_explainer(setting: Setting[T], published: Published[T]) -> Explainer[T]:
    from heksher._rules.explaining import Explainer

    explainer = Explainer(
        setting.name,
        setting.type.encode,
        published.table,
        published.defaults,
        published.plan,
        started=published.started,
    )
    object.__setattr__(published, "explainer", explainer)  # two threads may make one each
    return explainer


def state_of(setting: Setting[T]) -> SettingState[T]:
    """Return the state that *setting* answers from. For clients and stubs, which change it."""
    return setting._state  # pyright: ignore[reportPrivateUsage]
