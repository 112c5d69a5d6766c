"""How a setting's ``get`` is made, and what it reads. The one place that a faster look-up replaces.

A setting's `get` is one callable for the setting's whole life, so that a kept ``ttl = cache_ttl.get``
sees every later update. What changes is `Published`: it is built aside and replaced by one
assignment, so that a reader sees the state before or the state after and never a mixture.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from heksher.context import MISSING, Defaults
from heksher.exceptions import MissingFeatureError, UnknownFeatureError
from heksher.rules import RuleTable

if TYPE_CHECKING:
    from heksher.setting import Setting

T = TypeVar("T")


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


def make_get(setting: Setting[T]) -> Callable[..., T]:
    """Return the ``get`` of *setting*: keyword arguments in, the value in that context out.

    It holds the setting, so that a kept ``get`` goes on being updated.
    """
    name = setting.name
    features = setting.configurable_features
    known = frozenset(features)

    def get(**contexts: str) -> T:
        published = setting.published
        if not known.issuperset(contexts):
            raise UnknownFeatureError(name, sorted(contexts.keys() - known), features)
        context: dict[str, Any] = {}
        for feature in features:
            value = (
                contexts[feature] if feature in contexts else published.defaults.value_of(feature)
            )
            if value is not MISSING:
                hash(value)  # what cannot be a key of a table is refused, whichever rules there are
                context[feature] = value
            elif published.started:
                raise MissingFeatureError(name, feature)
        return published.table.resolve(context)

    get.__qualname__ = f"Setting({name!r}).get"
    get.__doc__ = (
        f"Return the value of the setting {name!r} in the context that the arguments and the "
        f"client's defaults give: {', '.join(features)}."
    )
    return get
