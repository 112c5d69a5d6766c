"""How a setting's ``get`` is made, and how it comes to answer from other rules.

A setting's `get` is one callable for the setting's whole life, so that a kept ``ttl = cache_ttl.get``
sees every later update. A publish is one assignment, so that a reader sees the state before or the
state after and never a mixture. What a call does in between is decided in `compile.py`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from inspect import CO_NESTED
from types import FunctionType
from typing import TYPE_CHECKING, Any, Final, Generic, Protocol, TypeVar

from heksher._rules import codegen, plan
from heksher._rules.contexts import MISSING, Defaults
from heksher._rules.plan import Plan
from heksher._rules.table import RuleTable
from heksher.exceptions import MissingFeatureError, UnknownFeatureError

if TYPE_CHECKING:
    from heksher.setting import Setting

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

#: Whether the interpreter is one that can run threads at the same time. Not whether it does just now:
#: while an extension module is imported it does not, and afterwards it may again.
FREE_THREADED: Final = "free-threading" in sys.version


@dataclass(frozen=True, slots=True)
class Published(Generic[T]):
    """The state that `get` answers from.

    Attributes:
        table: the rules, and the value where none matches.
        defaults: the values of features that a call leaves out.
        started: whether a client that serves the setting was ever started. From then on a feature
            without a value is an error, whatever the rules are.
    """

    table: RuleTable[T]
    defaults: Defaults
    started: bool


class Getter(Protocol[T_co]):
    """A ``get``, and the way to change what it answers from.

    Attributes:
        function: keyword arguments in, the value in that context out. It holds the setting, so that
            a kept one goes on being updated.
    """

    @property
    def function(self) -> Callable[..., T_co]: ...

    def publish(self, plan: Plan) -> None:
        """Answer as planned, from one moment to the next."""
        ...


def decide(setting: Setting[Any], published: Published[Any]) -> Plan:
    """Decide what a call has to do once *published* is in force. With many rules this takes its time."""
    return plan.decide(
        setting.configurable_features, published.table, published.defaults, published.started
    )


def make_getter(setting: Setting[T]) -> Getter[T]:
    """Return the getter of *setting*, which answers nothing before the first publish."""
    if codegen.can_compile(setting.configurable_features):
        return _CompiledGetter(setting)
    return _GenericGetter(setting)


class _QualifiedName(str):
    """The name of a ``get``. As pickle prints it, and cannot be told otherwise, it says what to do.

    Functions are pickled as names, and nothing of theirs is asked before. Errors of calls take the name
    as it is.
    """

    __slots__ = ()

    def __str__(self) -> str:
        return (
            f"{self[:]} (it is of this process, as is its setting; have the other process import the "
            "module that makes the setting, and call get there)"
        )

    def __format__(self, spec: str) -> str:
        return format(self[:], spec)


def _describe(function: Callable[..., Any], setting: Setting[Any]) -> None:
    features = setting.configurable_features
    function.__qualname__ = _QualifiedName(f"Setting({setting.name!r}).get")
    function.__module__ = __name__
    function.__doc__ = (
        f"Return the value of the setting {setting.name!r} in the context that the arguments and the "
        f"client's defaults give: {', '.join(features)}."
    )


class _CompiledGetter(Generic[T]):
    """A function whose code is replaced.

    Its code has the tables among its constants, which the garbage collector does not see. So the code
    of a setting whose values are made by the application, and might lead back to the setting,
    forwards to a function that has them among its globals. Likewise on a free-threaded interpreter,
    where replacing the code of a function that runs is not safe.
    """

    def __init__(self, setting: Setting[T]) -> None:
        self._setting = setting
        features = setting.configurable_features
        absent = {name: codegen.Absent(setting.name, name) for name in features}
        self._absent = {codegen.absent_name(name): each for name, each in absent.items()}
        self._globals: dict[str, Any] = {
            **codegen.COMMON,
            **self._absent,
            "setting·": setting,
        }
        self._forwarding = codegen.compile_source(codegen.emit_forwarding(features), {})
        function = FunctionType(self._forwarding, self._globals, "get")
        function.__kwdefaults__ = absent
        function.__annotations__ = dict.fromkeys(features, str)
        _describe(function, setting)
        self.function = function
        self._is_forwarding = FREE_THREADED

    def publish(self, plan: Plan) -> None:
        if self._setting.makes_values:
            self._is_forwarding = True
        source = codegen.emit(plan, inline=not self._is_forwarding)
        code = codegen.compile_source(source, self._absent)
        if not self._is_forwarding:
            self.function.__code__ = code
            return
        # As if it stood inside another function: threads count their references to such ones. The rest
        # is left to the garbage collector on the free-threaded CPython 3.14, which overlooks calls that
        # are under way, and would take the globals of a function that was replaced meanwhile.
        code = code.replace(co_flags=code.co_flags | CO_NESTED)
        self._globals["current·"] = FunctionType(
            code, {**self._globals, "current·": None, **source.objects}, "get"
        )
        if self.function.__code__ is not self._forwarding:
            self.function.__code__ = self._forwarding


class _GenericGetter(Generic[T]):
    """For features whose names cannot be those of parameters."""

    def __init__(self, setting: Setting[T]) -> None:
        name = setting.name
        features = setting.configurable_features
        known = frozenset(features)
        self._setting = setting
        self._state: tuple[Plan, Defaults] | None = None

        def get(**contexts: str) -> T:
            assert self._state is not None
            plan, defaults = self._state
            if not known.issuperset(contexts):
                raise UnknownFeatureError(name, sorted(contexts.keys() - known), features)
            context: dict[str, Any] = {}
            for feature in features:
                value = contexts[feature] if feature in contexts else defaults.value_of(feature)
                if value is not MISSING:
                    hash(value)  # what cannot be a key is refused, whichever rules there are
                    context[feature] = value
                elif plan.started:
                    raise MissingFeatureError(name, feature)
            return plan.search.find(context)  # type: ignore[no-any-return]

        _describe(get, setting)
        self.function: Callable[..., T] = get

    def publish(self, plan: Plan) -> None:
        self._state = plan, Defaults(plan.sources)
