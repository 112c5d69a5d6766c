"""Faults on demand: a proxy in front of a service that answers late, wrong, in part or not at all.

For tests of whatever talks to a service; `heksher.testing.service` puts it in front of the embedded
one, and ``heksher serve --faults`` for people. The library and the service know nothing of it.
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

# They are imported from here, and say so in tracebacks, `repr` and documentation.
for _name in __all__:
    globals()[_name].__module__ = __name__
