"""Which thread or greenlet is calling.

Imports neither gevent nor greenlet: where there are greenlets, both have been imported.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable
from typing import Any, TypeVar, cast

from heksher.backends._running import running_library

T = TypeVar("T")

# In a thread that works for another thread or greenlet: the attribute `owner`, which identifies that.
_work = threading.local()


def caller() -> object:
    """Return what identifies the calling thread or greenlet, or the one that it works for."""
    owner: object = getattr(_work, "owner", None)
    if owner is not None:
        return owner
    # The module lacks the function while another thread is importing it.
    current: Any = getattr(sys.modules.get("greenlet"), "getcurrent", None)
    greenlet: Any = None if current is None else current()
    # The first greenlet of a thread is the thread itself, and has to be identified as it was before the
    # library was loaded.
    if greenlet is None or greenlet.parent is None:
        return threading.get_ident()
    return greenlet


def work_for(owner: object, function: Callable[[], T]) -> T:
    """Call *function* on behalf of *owner*, a `caller` that waits for it."""
    if caller() == owner:
        return function()  # it is called by itself, where no thread could be started
    _work.owner = owner
    try:
        return function()
    finally:
        del _work.owner


def pass_on(interrupt: KeyboardInterrupt) -> bool:
    """Raise *interrupt* in the main task or greenlet of this thread, where the program expects it.

    All greenlets share the thread that gets the signals, and Ctrl-C is raised in whichever is running. An
    event loop handles the signal. In trio, an error that leaves a system task is an internal error.

    Returns:
        False if there are neither tasks nor greenlets, or the caller is the main greenlet.
    """
    if running_library() is not None:
        signal.raise_signal(signal.SIGINT)
        return True
    library = sys.modules.get("gevent")
    greenlet = caller()
    if library is None or isinstance(greenlet, int):
        return False
    cast("Any", library).get_hub().handle_system_error(KeyboardInterrupt, interrupt)
    return True


def thread() -> int:
    """Return the number of the native thread, even where greenlets act as threads."""
    # The module lacks the function while another thread is importing it.
    original: Any = getattr(sys.modules.get("gevent.monkey"), "get_original", None)
    if original is None:
        return threading.get_ident()
    return cast("int", original("_thread", "get_ident")())
