"""Clients in forked processes: those of threads go on there, with a loop and connections of their own.

The problem: only the forking thread exists in the child. A lock that another thread held at that moment
is never released there, and the data that it guards may be half changed. A connection is open in both
processes, and each would read the other's answers.

What does not work: inspecting a client's state in the child and repairing it. There is no way to tell
whether the owner of a lock still exists, or what it was about to do.

The solution: the forking thread takes all locks of the library first, in the order in which they are
taken everywhere: the fork lock, the registry's, this module's, each client's, and the one that guards
what settings answer from. So nothing is half done when the process is copied. Both sides release them.
In the child each client drops its connections without sending anything on them, since they are the
parent's. Then it starts a new loop.

uWSGI forks in C and calls none of Python's hooks, unless it runs with ``py-call-uwsgi-fork-hooks``. In its
workers, a lock is in whatever state it was in, so each one is reset first (the standard library does the
same with its own). Then uWSGI's ``post_fork_hook`` does everything that Python's hooks would have done.
Seen with uWSGI 2.0.28.

Knows clients only as a `Forkable`.
"""

from __future__ import annotations

import os
import sys
import threading
import weakref
from collections.abc import Callable, Sequence
from contextvars import Context
from typing import Any, Protocol

from heksher import _listening, _registry
from heksher._application_code import get_logger
from heksher._rules import getter
from heksher.backends._fork_lock import fork_lock

_logger = get_logger(__name__)


class Forkable(Protocol):
    """A client, as this module sees it."""

    @property
    def locks(self) -> Sequence[threading.RLock]:
        """The client's locks, in the order in which they are taken everywhere."""
        ...

    def resume_in_child(self, is_stale: bool) -> None:
        """Go on with a loop and connections of the child's own. Called with the locks held.

        Args:
            is_stale: whether the client rested in the parent, so that the first update is due at once.
        """


# Guards `_clients`. Reentrant, since the garbage collector may run anything while it is held.
_lock = threading.RLock()
_clients: weakref.WeakSet[Forkable] = weakref.WeakSet()
# The clients whose locks are held while the process forks.
_held: list[Forkable] = []
# Taken in this order, and before a client's own.
_own_locks = (fork_lock, _registry.lock, _lock)

# The process whose clients are alive. In any other, they were copied past Python's hooks.
_process = os.getpid()


def watch(client: Forkable) -> None:
    """Have *client* go on in processes that are forked from this one, in whatever state it is."""
    with _lock:
        _clients.add(client)
    _hook_into_uwsgi()


def _before_fork() -> None:
    for lock in _own_locks:
        lock.acquire()
    _held.extend(_clients)
    for client in _held:
        for lock in client.locks:
            lock.acquire()
    getter.lock.acquire()


def _release_locks() -> None:
    getter.lock.release()
    while _held:
        for lock in reversed(_held.pop().locks):
            lock.release()
    for lock in reversed(_own_locks):
        lock.release()


def _after_fork_in_child(is_stale: bool = False) -> None:
    global _process
    _process = os.getpid()
    _listening.forget_calls()
    for client in _held:
        try:
            Context().run(client.resume_in_child, is_stale)
        except Exception:
            # An error would reach no caller, and keep the other clients from going on.
            _logger.exception("a client could not be started again after the fork")
    _release_locks()


# --- uWSGI ----------------------------------------------------------------------------------------


def is_uwsgi_master() -> bool:
    """Whether this is uWSGI's master, which forks workers in C and does nothing else.

    Clients rest there. uWSGI does not take the interpreter lock before it forks. If a client's thread
    has it at that moment, the worker has an interpreter lock whose owner does not exist, and hangs.
    """
    uwsgi: Any = sys.modules.get("uwsgi")  # exists only inside uWSGI, or as a stub
    if not hasattr(uwsgi, "masterpid") or uwsgi.masterpid() != os.getpid():
        return False
    # With this option uWSGI takes the lock before it forks, and calls Python's hooks.
    return not {"py-call-uwsgi-fork-hooks", b"py-call-uwsgi-fork-hooks"} & set(uwsgi.opt)


def _after_fork_in_c() -> None:
    """In a child that was forked in C: do what Python's fork hooks do, unless they were called."""
    if os.getpid() == _process:
        return
    # Until then, a hub of greenlets is the parent's. A fork in C calls none of gevent's hooks either.
    reinit: Any = getattr(sys.modules.get("gevent"), "reinit", None)
    if reinit is not None:
        reinit()
    clients_locks = (lock for client in _clients for lock in client.locks)
    locks: list[Any] = [*_own_locks, *clients_locks, getter.lock]
    for lock in locks:
        lock._at_fork_reinit()  # its owner may not exist here
    _before_fork()
    _after_fork_in_child(is_stale=True)


class _UwsgiHook:
    """What uWSGI calls in each worker that it has forked."""

    def __init__(self, former: Callable[[], object] | None) -> None:
        self._former = former

    def __call__(self) -> None:
        _after_fork_in_c()
        if self._former is not None:
            self._former()


def _hook_into_uwsgi() -> None:
    """Have uWSGI call `_UwsgiHook` in its workers; elsewhere, do nothing."""
    uwsgi: Any = sys.modules.get("uwsgi")
    former = getattr(uwsgi, "post_fork_hook", None)
    # Checked for each client: importing uwsgidecorators replaces the hook.
    if uwsgi is not None and not isinstance(former, _UwsgiHook):
        uwsgi.post_fork_hook = _UwsgiHook(former)


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(
        before=_before_fork, after_in_parent=_release_locks, after_in_child=_after_fork_in_child
    )
