"""The contract between the core and its backends, and the functions that choose a backend.

Only re-exports names. A backend's module is imported when the backend is chosen.
"""

from __future__ import annotations

from heksher.backends._choose import choose_async, choose_blocking
from heksher.backends.base import (
    AsyncBackend,
    Backend,
    Clock,
    Event,
    HttpOptions,
    ScopedTask,
    Task,
    Transport,
    run_blocking,
)

__all__ = [
    "AsyncBackend",
    "Backend",
    "Clock",
    "Event",
    "HttpOptions",
    "ScopedTask",
    "Task",
    "Transport",
    "choose_async",
    "choose_blocking",
    "run_blocking",
]

# The public place of these names, for tracebacks, `repr` and documentation.
for _name in __all__:
    globals()[_name].__module__ = __name__
