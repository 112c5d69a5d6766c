"""Who is calling: which thread, or which of its greenlets.

Neither gevent nor greenlet is imported here: where there are greenlets, they are loaded.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import Any, TypeVar, cast

T = TypeVar("T")

_work = threading.local()


def caller() -> object:
    """Identify the thread or greenlet that calls, or the one that it does a piece of work for."""
    owner: object = getattr(_work, "owner", None)
    if owner is not None:
        return owner
    # Without the function as long as another thread imports it.
    current: Any = getattr(sys.modules.get("greenlet"), "getcurrent", None)
    greenlet: Any = None if current is None else current()
    # The first greenlet of a thread is the thread, whether or not that library is loaded by now.
    if greenlet is None or greenlet.parent is None:
        return threading.get_ident()
    return greenlet


def work_for(owner: object, function: Callable[[], T]) -> T:
    """Call *function* for *owner*, a `caller` that waits for it."""
    _work.owner = owner
    try:
        return function()
    finally:
        del _work.owner


def pass_on(interrupt: KeyboardInterrupt) -> bool:
    """Have *interrupt* raised in this thread's own greenlet, which is where a program waits for it.

    Greenlets share the thread that signals go to, and Ctrl-C meets whichever runs.

    Returns:
        False if that is what calls.
    """
    library = sys.modules.get("gevent")
    greenlet = caller()
    if library is None or isinstance(greenlet, int):
        return False
    cast("Any", library).get_hub().handle_system_error(KeyboardInterrupt, interrupt)
    return True


def thread() -> int:
    """Return the number of the system's thread, also where greenlets pass for threads."""
    # Without the function as long as another thread imports it.
    original: Any = getattr(sys.modules.get("gevent.monkey"), "get_original", None)
    if original is None:
        return threading.get_ident()
    return cast("int", original("_thread", "get_ident")())
