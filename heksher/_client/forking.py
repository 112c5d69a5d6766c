"""What becomes of clients when the process forks: those of threads come back to life in the child.

Only the thread that forks exists in the child. So the locks of the library are taken before, by that
thread, and given back on both sides; then each client that ran starts its loop anew there, and each
makes connections of its own. Knows clients only as a `Forkable`.

uWSGI forks in C, past Python's hooks unless it is told otherwise. Inside of it, its own hook is used
as well.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import weakref
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from heksher import _registry
from heksher.backends._fork_lock import fork_lock

_logger = logging.getLogger(__name__)


class Forkable(Protocol):
    """What this module needs of a client."""

    @property
    def locks(self) -> Sequence[threading.RLock]:
        """The client's locks, in the order in which they are taken everywhere."""
        ...

    def revive(self, is_stale: bool) -> None:
        """In the child, which holds them: go on with a loop and connections of its own.

        Args:
            is_stale: whether the parent rested, so that the first update is due at once.
        """


# Reentrant, since the garbage collector may run anything while it is held.
_lock = threading.RLock()
_clients: weakref.WeakSet[Forkable] = weakref.WeakSet()
_held: list[Forkable] = []
# Taken in this order everywhere, and before a client's own.
_own_locks = (fork_lock, _registry.lock, _lock)

#: The process whose clients live. In any other one they were copied past Python's hooks.
_process = os.getpid()


def watch(client: Forkable) -> None:
    """Have *client* live on in processes that are forked from this one, in whatever state it is."""
    with _lock:
        _clients.add(client)
    _hook_into_uwsgi()


def _before() -> None:
    for lock in _own_locks:
        lock.acquire()
    _held.extend(_clients)
    for client in _held:
        for lock in client.locks:
            lock.acquire()


def _in_parent() -> None:
    held = list(_held)
    _held.clear()
    for client in reversed(held):
        for lock in reversed(client.locks):
            lock.release()
    for lock in reversed(_own_locks):
        lock.release()


def _in_child(is_stale: bool = False) -> None:
    global _process
    _process = os.getpid()
    for client in _held:
        try:
            client.revive(is_stale)
        except Exception:
            # An error would reach nobody, and keep the other clients from living on.
            _logger.exception("a client could not be started again after the fork")
    _in_parent()


# --- uWSGI, which forks in C ----------------------------------------------------------------------


def is_mould() -> bool:
    """Whether workers are cast from this process past Python's hooks, and it does nothing else.

    That is uWSGI's master. A thread that has the interpreter's lock while uWSGI forks has it in the
    worker as well, where it does not exist: then the worker hangs. So clients rest here.
    """
    uwsgi: Any = sys.modules.get("uwsgi")  # there is such a module only inside of uWSGI, or a stub
    if not hasattr(uwsgi, "masterpid") or uwsgi.masterpid() != os.getpid():
        return False
    # With this option uWSGI asks for the lock before it forks, and calls Python's hooks.
    return not {"py-call-uwsgi-fork-hooks", b"py-call-uwsgi-fork-hooks"} & set(uwsgi.opt)


def _in_child_of_c() -> None:
    """In a child that was forked in C: do what the hooks of Python's own forks do, if nobody has."""
    if os.getpid() == _process:
        return
    # A hub of greenlets is the parent's until then. What forks in C calls none of gevent's hooks.
    reinit: Any = getattr(sys.modules.get("gevent"), "reinit", None)
    if reinit is not None:
        reinit()
    locks: list[Any] = [*_own_locks, *(lock for client in _clients for lock in client.locks)]
    for lock in locks:
        lock._at_fork_reinit()  # its holder may not be here; the standard library does it to its own
    _before()
    _in_child(is_stale=True)


class _UwsgiHook:
    """What uWSGI calls in each worker that it has forked."""

    def __init__(self, former: Callable[[], object] | None) -> None:
        self._former = former

    def __call__(self) -> None:
        _in_child_of_c()
        if self._former is not None:
            self._former()


def _hook_into_uwsgi() -> None:
    """See that uWSGI tells of the workers that it forks; elsewhere, do nothing."""
    uwsgi: Any = sys.modules.get("uwsgi")
    former = getattr(uwsgi, "post_fork_hook", None)
    # Looked at for each client: whoever imports uwsgidecorators replaces what was there.
    if uwsgi is not None and not isinstance(former, _UwsgiHook):
        uwsgi.post_fork_hook = _UwsgiHook(former)


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)
