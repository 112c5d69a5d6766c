"""The backends by name, and how "auto" finds one. A backend is loaded when it is chosen."""

from __future__ import annotations

import sys
from importlib.util import find_spec

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
from heksher.exceptions import BackendError

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

_ASYNC = ("asyncio", "trio")
_BLOCKING = ("thread", "gevent")


def running_library() -> str | None:
    """Return "asyncio" or "trio" if code of that library's event loop is what calls, else None.

    Loads neither: where one runs, it is loaded.
    """
    trio = sys.modules.get("trio")
    if trio is not None and trio.lowlevel.in_trio_task():
        return "trio"
    asyncio = sys.modules.get("asyncio")
    if asyncio is not None:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return None
        return "asyncio"
    return None


def choose_async(choice: str | Backend) -> Backend | None:
    """Return the backend for an asynchronous client; None: "auto", and no event loop runs yet.

    Raises:
        BackendError: it cannot be had, or not here.
    """
    if not isinstance(choice, str):
        return _checked_object(choice, blocking=False)
    if choice in _BLOCKING:
        raise BackendError(
            f"backend={choice!r} is for ThreadHeksherClient; "
            'AsyncHeksherClient takes "auto", "asyncio", "trio" or a Backend object'
        )
    if choice not in ("auto", *_ASYNC):
        raise BackendError(
            f"there is no backend {choice!r}; "
            'AsyncHeksherClient takes "auto", "asyncio", "trio" or a Backend object'
        )
    library = running_library()
    if choice == "auto":
        if library is None:
            return None
        choice = library
    if choice == "trio" and find_spec("trio") is None:
        raise BackendError(
            'backend="trio" needs the package trio, which is not installed; '
            "pip install 'heksher[trio]'"
        )
    from heksher.backends._anyio import AsyncioBackend, TrioBackend

    backend: Backend = TrioBackend() if choice == "trio" else AsyncioBackend()
    if library is not None:
        backend.place()
    return backend


def choose_blocking(choice: str | Backend) -> Backend:
    """Return the backend for a blocking client.

    Raises:
        BackendError: it cannot be had.
    """
    if not isinstance(choice, str):
        return _checked_object(choice, blocking=True)
    if choice in _ASYNC:
        raise BackendError(
            f"backend={choice!r} is for AsyncHeksherClient; "
            'ThreadHeksherClient takes "auto", "thread", "gevent" or a Backend object'
        )
    if choice not in ("auto", *_BLOCKING):
        raise BackendError(
            f"there is no backend {choice!r}; "
            'ThreadHeksherClient takes "auto", "thread", "gevent" or a Backend object'
        )
    if choice == "gevent" or (choice == "auto" and _is_patched()):
        return _gevent_backend()
    from heksher.backends._thread import ThreadBackend

    return ThreadBackend()


def _is_patched() -> bool:
    """Whether gevent has replaced this process's threads or sockets; if it has, it is loaded.

    Sockets alone, too: those that gevent has patched are of use in the thread alone that opened them.
    """
    # Without the function as long as another thread imports it.
    is_patched = getattr(sys.modules.get("gevent.monkey"), "is_module_patched", None)
    return is_patched is not None and any(map(is_patched, ("socket", "threading")))


def _gevent_backend() -> Backend:
    if find_spec("gevent") is None:
        raise BackendError(
            'backend="gevent" needs the package gevent, which is not installed; '
            "pip install 'heksher[gevent]'"
        )
    from heksher.backends._gevent import GeventBackend

    return GeventBackend()


def _checked_object(backend: object, *, blocking: bool) -> Backend:
    client = "ThreadHeksherClient" if blocking else "AsyncHeksherClient"
    # A class has all methods as well, but none that can be called.
    if isinstance(backend, type) or not isinstance(backend, Backend):
        raise BackendError(
            f"backend={backend!r} is neither a backend's name nor an object with all methods of "
            "heksher.backends.Backend"
        )
    if backend.blocking != blocking:
        raise BackendError(
            f"the backend {backend.name!r} is {'a blocking' if backend.blocking else 'no blocking'} "
            f"one, and {client} takes {'only' if blocking else 'no'} blocking ones"
        )
    return backend
