"""Choose a backend by its name, or by what is running for "auto".

A backend's module is imported when it is chosen, so that no client loads the libraries of another
backend.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec

from heksher.backends._running import running_library
from heksher.backends.base import Backend
from heksher.exceptions import BackendError

# The names that each client takes besides "auto".
_NAMES = {
    "AsyncHeksherClient": ("asyncio", "trio"),
    "ThreadHeksherClient": ("thread", "gevent"),
}


def choose_async(choice: str | Backend) -> Backend | None:
    """Return the backend for an asynchronous client.

    Returns:
        None for "auto" while no event loop is running.

    Raises:
        BackendError: there is no such backend, or it does not work here.
    """
    if not isinstance(choice, str):
        return _checked_object(choice, blocking=False)
    _check_name(choice, "AsyncHeksherClient")
    library = running_library()
    if choice == "auto":
        if library is None:
            return None
        choice = library
    if choice == "trio":
        _require_package("trio")
    from heksher.backends._anyio import AsyncioBackend, TrioBackend

    backend: Backend = TrioBackend() if choice == "trio" else AsyncioBackend()
    if library is not None:
        backend.loop_key()
    return backend


def choose_blocking(choice: str | Backend) -> Backend:
    """Return the backend for a blocking client.

    Raises:
        BackendError: there is no such backend, or it does not work here.
    """
    if not isinstance(choice, str):
        return _checked_object(choice, blocking=True)
    _check_name(choice, "ThreadHeksherClient")
    if choice == "gevent" or (choice == "auto" and _is_patched()):
        _require_package("gevent")
        from heksher.backends._gevent import GeventBackend

        return GeventBackend()
    from heksher.backends._thread import ThreadBackend

    return ThreadBackend()


def _is_patched() -> bool:
    """Whether gevent has replaced this process's threads or sockets.

    Sockets alone are enough: a patched socket works only in the thread that opened it.
    """
    # The module lacks the function while another thread is importing it.
    is_patched = getattr(sys.modules.get("gevent.monkey"), "is_module_patched", None)
    return is_patched is not None and any(map(is_patched, ("socket", "threading")))


def _check_name(choice: str, client: str) -> None:
    names = _NAMES[client]
    if choice in ("auto", *names):
        return
    expected = ", ".join(f'"{name}"' for name in ("auto", *names))
    message = f"invalid backend {choice!r}: {client} takes {expected} or a Backend object"
    for other, others in _NAMES.items():
        if choice in others:
            message += f"; use {other} with {choice!r}"
    raise BackendError(message)


def _require_package(package: str) -> None:
    if find_spec(package) is None:
        raise BackendError(
            f'backend="{package}" needs the package {package}, which is not installed; '
            f"run pip install 'heksher[{package}]'"
        )


def _checked_object(backend: object, *, blocking: bool) -> Backend:
    # A class passes the check of the protocol: it has all the methods, although none can be called.
    if isinstance(backend, type) or not isinstance(backend, Backend):
        raise BackendError(
            f"invalid backend {backend!r}: expected a backend's name, or an object with all methods "
            "of heksher.backends.Backend"
        )
    if backend.blocking != blocking:
        client, other = ("ThreadHeksherClient", "AsyncHeksherClient")[:: 1 if blocking else -1]
        raise BackendError(
            f"invalid backend {backend.name!r}: {client} takes {'only' if blocking else 'no'} "
            f"blocking backends; use {other} with it"
        )
    return backend
