"""Faults on demand: a proxy in front of a service that answers late, wrongly, partly or not at all.

It is for tests of clients. `heksher.testing.service` puts it in front of the embedded service, and so does
``heksher serve --faults``. The library and the service know nothing of it.
"""

from __future__ import annotations

from heksher.testing.faults._kinds import (
    Bomb,
    Certificate,
    Close,
    ContentEncoding,
    ContentType,
    CutShort,
    Delay,
    Endless,
    Fault,
    InvalidJson,
    Redirect,
    Refuse,
    Reset,
    Slow,
    Status,
    WrongETag,
    WrongShape,
)
from heksher.testing.faults._plan import FaultRule, Faults, Seen
from heksher.testing.faults._when import When

__all__ = [
    "Faults",
    "FaultRule",
    "Seen",
    "When",
    "Fault",
    "Delay",
    "Status",
    "Redirect",
    "Close",
    "Reset",
    "CutShort",
    "Endless",
    "Slow",
    "InvalidJson",
    "WrongShape",
    "ContentType",
    "ContentEncoding",
    "Bomb",
    "WrongETag",
    "Refuse",
    "Certificate",
]

# The public place of these names, for tracebacks, `repr` and documentation.
for _name in __all__:
    globals()[_name].__module__ = __name__
