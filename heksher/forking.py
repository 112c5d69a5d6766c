"""What becomes of clients when the process forks: those of threads come back to life in the child.

Only the thread that forks exists in the child. So the locks of the library are taken before, by that
thread, and given back on both sides; then each client that ran starts its loop anew there, and each
makes connections of its own. Knows clients only as a `Forkable`.
"""

from __future__ import annotations

import logging
import os
import threading
import weakref
from typing import Protocol

from heksher import registry

_logger = logging.getLogger(__name__)


class Forkable(Protocol):
    """What this module needs of a client."""

    def hold(self) -> None:
        """Before a fork: take the client's locks."""

    def let_go(self) -> None:
        """After a fork, on both sides: give them back."""

    def revive(self) -> None:
        """In the child, which holds them: go on with a loop and connections of its own."""


#: Held around what must be done as a whole before a process forks: the locks that other libraries
#: take meanwhile would never be given back in the child. Nobody takes it who holds one of those that
#: a fork takes.
whole = threading.RLock()
# Reentrant, since the garbage collector may run anything while it is held.
_lock = threading.RLock()
_clients: weakref.WeakSet[Forkable] = weakref.WeakSet()
_held: list[Forkable] = []


def watch(client: Forkable) -> None:
    """Have *client* live on in processes that are forked from this one, in whatever state it is."""
    with _lock:
        _clients.add(client)


def _before() -> None:
    # In the order in which they are taken everywhere: the registry's, then a client's own.
    whole.acquire()
    registry.lock.acquire()
    _lock.acquire()
    _held.extend(_clients)
    for client in _held:
        client.hold()


def _in_parent() -> None:
    held = list(_held)
    _held.clear()
    for client in reversed(held):
        client.let_go()
    _lock.release()
    registry.lock.release()
    whole.release()


def _in_child() -> None:
    for client in _held:
        try:
            client.revive()
        except Exception:
            # An error would reach nobody, and keep the other clients from living on.
            _logger.exception("a client could not be started again after the fork")
    _in_parent()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)
