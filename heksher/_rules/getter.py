"""A setting's ``get``, and the one way to change what it answers from.

`get` is one function for the setting's whole life, so that a kept ``ttl = cache_ttl.get`` sees every
later update. Publishing is one assignment, so that a reader sees the state before or the state after,
never a mixture. Knows a setting only as a name, features and an owner that `get` keeps alive.
"""

from __future__ import annotations

import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from types import FunctionType
from typing import TYPE_CHECKING, Any, Final, Generic, TypeAlias, TypeVar

from heksher._rules import codegen
from heksher._rules.contexts import Defaults, checked_value
from heksher._rules.plan import Plan, decide, read
from heksher._rules.table import RuleTable
from heksher.exceptions import UnknownFeatureError

if TYPE_CHECKING:
    from heksher._rules.explaining import Explainer

T = TypeVar("T")

#: Whether this interpreter can run threads in parallel. It may not do so at the moment: importing an
#: extension module can switch the GIL on, and it can be switched off again.
FREE_THREADED: Final = "free-threading" in sys.version

#: Held while a setting changes what it answers from. An update and an override hold different locks, and
#: one that is late must not undo the other. Nothing else is locked while it is held. Reentrant, because
#: the garbage collector may run a finalizer that makes a setting.
lock = threading.RLock()


@dataclass(frozen=True, slots=True)
class Published(Generic[T]):
    """What `get` answers from.

    Attributes:
        table: the rules, and the value where none matches.
        defaults: the values of features that a call leaves out.
        started: whether a client that serves the setting was ever started. From then on a feature
            without a value is an error, whatever the rules are.
        plan: what was decided of these three.
        explainer: what explanations are made from; None until there is one.
    """

    table: RuleTable[T]
    defaults: Defaults
    started: bool
    plan: Plan
    # Here, so that it goes when the table does.
    explainer: Explainer[T] | None = field(default=None, init=False, compare=False, repr=False)


class Level(IntEnum):
    """The levels of layers, from the lowest to the highest."""

    FILE = 0  # overrides that a client's file gives
    FLOOR = 1  # the default values of a strict stub
    STUB = 2
    OVERRIDE = 3


class Layer(ABC):
    """Rules that count instead of those that clients publish: an override's, or a stub's.

    Attributes:
        level: it lies over all layers of lower levels. Of one level, only the newest layer counts.
        is_over: whether it has ended, which is final.
    """

    level: Level
    is_over: bool = False

    @abstractmethod
    def over(self, below: Published[Any]) -> tuple[RuleTable[Any], Defaults, bool]:
        """Return the table, the defaults and whether a client has started, given what is below."""


#: By level, the newest last. No level is empty.
Layers: TypeAlias = Mapping[Level, tuple[Layer, ...]]


def accept(value: T, *_: object) -> T:
    """Use what is left of a coerced value as it is: the default of a setting's ``on_coerce``."""
    return value


class SettingState(Generic[T]):
    """What a setting answers from, and the application's code that its values pass through.

    Clients and stubs change it; users of a setting see nothing of it.

    Args:
        name: the setting's name, for errors.
        features: its configurable features.
        owner: the setting. Whoever keeps `get` keeps it alive.
        default: the value until something is published.
        on_coerce: called with each coerced value; None refuses all of them.

    Attributes:
        get: keyword arguments in, the value in that context out.
        in_force: what `get` answers from.
        published: what a client has published. It is in force unless there is a layer.
        layers: what overrides and stubs have put over it, by level, the newest last. Replaced, never
            changed.
        validators: called with each value, in this order. Replaced, never changed.
        on_coerce: as given.
        listeners: the client or the stub calls them after it publishes. Replaced, never changed.
    """

    __slots__ = (
        "_features",
        "_getter",
        "_name",
        "get",
        "in_force",
        "layers",
        "listeners",
        "on_coerce",
        "published",
        "validators",
    )

    in_force: Published[T]
    published: Published[T]

    def __init__(
        self,
        name: str,
        features: tuple[str, ...],
        owner: object,
        default: T,
        on_coerce: Callable[..., T] | None = accept,
    ) -> None:
        self._name = name
        self._features = features
        self.on_coerce: Callable[..., T] | None = on_coerce
        self.validators: tuple[Callable[..., T], ...] = ()
        self.layers: Layers = {}
        self.listeners: tuple[Any, ...] = ()
        form = _CompiledGetter if codegen.can_compile(features) else _GenericGetter
        self._getter = form(name, features, owner)
        self.get: Callable[..., T] = self._getter.function
        self.publish(self.prepare(RuleTable(default), Defaults(), started=False))

    def prepare(
        self, table: RuleTable[T], defaults: Defaults, *, started: bool = True
    ) -> Published[T]:
        """Return what to publish. With many rules this takes long; it needs no lock."""
        plan = decide(self._features, table, defaults, started, self._name)
        return Published(table, defaults, started, plan)

    def publish(self, published: Published[T]) -> None:
        """Answer from *published*, from one moment to the next, as far as no layer lies over it."""
        with lock:
            self._put_in_force(published, self.layers)
            self.published = published

    def cover(self, layers: Layers) -> None:
        """Answer from *layers* over what is published, from one moment to the next."""
        with lock:
            self._put_in_force(self.published, layers)
            self.layers = layers

    def amend(self, published: Published[T]) -> None:
        """Publish a table that differs from the present one in its provenance only."""
        with lock:
            if self.in_force is self.published:
                self.in_force = published
            self.published = published

    def _put_in_force(self, published: Published[T], layers: Layers) -> None:
        in_force = published
        for level in sorted(layers):
            table, defaults, started = layers[level][-1].over(in_force)
            in_force = self.prepare(table, defaults, started=started)
        # What the application's code returns may lead anywhere, also back to the setting.
        is_traced = bool(self.validators) or self.on_coerce not in (None, accept)
        self._getter.publish(in_force.plan, is_traced)
        self.in_force = in_force


def _describe(
    function: Callable[..., Any], name: str, features: Sequence[str], owner: object
) -> None:
    function.__qualname__ = f"Setting({name!r}).get"
    function.__module__ = __name__
    function.__doc__ = (
        f"Return the value of the setting {name!r} in one context: {', '.join(features)}.\n\n"
        "A feature that is left out has the default of the client. None means no value."
    )
    # Keeps the setting alive. Where functions are pickled by value, as cloudpickle does, the setting is
    # pickled as well, and refuses it: the copy would answer from the rules of that moment for ever.
    function.__dict__["setting"] = owner


class _CompiledGetter:
    """A function whose code is replaced.

    The problem: `get` must stay the same object, and yet a call should do no more than the rules of
    the moment need. A method that reads the rules from an attribute pays for that at every call. A
    new function for each publish would leave every kept `get` behind. So a publish assigns the
    ``__code__`` of the one function. That is one store of a pointer: calls that are under way go on
    with the code that their frame holds, and the next call runs the new one. The interpreter drops
    what it had specialised for the old code. The signature and its defaults are the function's own, so
    the code need not bring them along. `codegen` puts the tables among the
    constants of the code, where a call finds them without looking up a name.

    Three kinds of settings cannot have their tables there. The garbage collector does not look into
    code objects (CPython 3.11 to 3.14), so a cycle through a constant is never freed. Values that
    the application's own code returns may hold the setting, and so close such a cycle. Debuggers keep
    code objects in dicts, and the hash of a code object needs that of each constant. A default value
    may have none: a member of an Enum that defines ``__eq__``, or what an application's own type
    decodes. And on a free-threaded interpreter it is not safe to replace the code of a function that
    another thread is calling. For these the code forwards to a second function, ``current·``, whose
    globals hold the tables: the collector sees globals, they are never hashed, and storing into a dict is
    safe everywhere. It costs one more call.

    On the free-threaded CPython 3.14 this second function needs one more trick. Functions made at
    the top level of a module, which is what the compiler takes it for, have deferred reference
    counts: threads do not count the references on their stacks, and the garbage collector finds out
    whether there are any. It misses calls that are under way. If their function has been replaced, it
    clears the function's globals, and the call fails with a NameError. Functions nested in another
    function are counted as usual, so the code is marked as nested, by ``CO_NESTED``.
    ``tests/pure/test_publish_threads.py`` fails there without it.
    """

    def __init__(self, name: str, features: tuple[str, ...], owner: object) -> None:
        self._checks = codegen.checks_of(name, features)
        self._globals: dict[str, Any] = {**codegen.COMMON, **self._checks}
        self._forwarding = codegen.compile_source(codegen.emit_forwarding(features), {})
        function = FunctionType(self._forwarding, self._globals, "get")
        function.__kwdefaults__ = dict.fromkeys(features, ...)
        function.__annotations__ = dict.fromkeys(features, str | None)
        _describe(function, name, features, owner)
        self.function = function

    def publish(self, plan: Plan, is_traced: bool) -> None:
        """Answer as planned.

        Args:
            plan: what a call has to do.
            is_traced: whether the garbage collector has to see the values.
        """
        inline = plan.is_hashable and not (is_traced or FREE_THREADED)
        source = codegen.emit(plan, inline=inline)
        if inline:
            self.function.__code__ = codegen.compile_source(source, self._checks)
            return
        others = {**self._globals, "current·": None}
        self._globals["current·"] = codegen.function_of(source, others)
        if self.function.__code__ is not self._forwarding:
            self.function.__code__ = self._forwarding


class _GenericGetter:
    """A function for features whose names cannot be those of parameters, such as ``class``."""

    def __init__(self, name: str, features: tuple[str, ...], owner: object) -> None:
        known = frozenset(features)
        self._planned: tuple[Plan, list[str]] | None = None

        def get(**contexts: str | None) -> Any:
            assert self._planned is not None
            plan, order = self._planned
            if not known.issuperset(contexts):
                raise UnknownFeatureError(name, sorted(contexts.keys() - known), features)
            context: dict[str, str | None] = {}
            for feature in order:
                value: object = contexts.get(feature, ...)
                if value is ... and feature in plan.sources:
                    value = read(plan.sources[feature], context)
                # Most values need no check, and a call of it would double the time.
                if type(value) is not str:
                    value = checked_value(name, feature, value)
                context[feature] = value
            return plan.search.find(context)

        _describe(get, name, features, owner)
        self.function = get

    def publish(self, plan: Plan, _is_traced: bool) -> None:
        """Answer as planned."""
        self._planned = plan, plan.cohorts_last()
