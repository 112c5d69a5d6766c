"""Which library's event loop is running; loads neither asyncio nor trio."""

from __future__ import annotations

import sys
from contextlib import suppress


def running_library() -> str | None:
    """Return "asyncio" or "trio" if the caller runs in that library's event loop, else None."""
    # A library whose event loop is running has been imported. Some that have been are too old, are being
    # imported by another thread at the moment, or have nothing but the name in common with the library.
    # They raise errors of all kinds, and run nothing here.
    with suppress(Exception):
        sys.modules["trio"].lowlevel.current_task()
        return "trio"
    with suppress(Exception):
        sys.modules["asyncio"].get_running_loop()
        return "asyncio"
    return None
