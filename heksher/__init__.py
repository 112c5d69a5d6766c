"""Settings that depend on context, answered from memory.

The import is light: modules that only define settings load neither an HTTP client nor an event loop.
Clients are imported when their names are first used.
"""

from typing import TYPE_CHECKING, Any

from heksher.setting import (
    Setting,
    SettingChanged,
    SettingsChanged,
    Subscription,
    ValueChanged,
)
from heksher.setting_type import (
    HeksherEnum,
    HeksherFlags,
    HeksherMapping,
    HeksherSequence,
    SettingType,
)

if TYPE_CHECKING:
    from heksher._given_rules import Rule
    from heksher._overriding import override
    from heksher._rules.cohorts import Cohort
    from heksher._rules.tracking import TRACK_ALL
    from heksher.clients.async_client import AsyncHeksherClient
    from heksher.clients.thread_client import ThreadHeksherClient
    from heksher.explanation import Explanation, Reason
    from heksher.status import ClientStatus, DataSource

__version__ = "1.0.0"

__all__ = [
    "TRACK_ALL",
    "AsyncHeksherClient",
    "ClientStatus",
    "Cohort",
    "DataSource",
    "Explanation",
    "HeksherEnum",
    "HeksherFlags",
    "HeksherMapping",
    "HeksherSequence",
    "Reason",
    "Rule",
    "Setting",
    "SettingChanged",
    "SettingType",
    "SettingsChanged",
    "Subscription",
    "ThreadHeksherClient",
    "ValueChanged",
    "__version__",
    "override",
]

_LAZY = {
    "TRACK_ALL": "heksher._rules.tracking",
    "AsyncHeksherClient": "heksher.clients.async_client",
    "ClientStatus": "heksher.status",
    "Cohort": "heksher._rules.cohorts",
    "DataSource": "heksher.status",
    "Explanation": "heksher.explanation",
    "Reason": "heksher.explanation",
    "Rule": "heksher._given_rules",
    "ThreadHeksherClient": "heksher.clients.thread_client",
    "override": "heksher._overriding",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(_LAZY[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
