"""Which library's event loop is running; loads neither asyncio nor trio."""

from __future__ import annotations

import sys


def running_library() -> str | None:
    """Return "asyncio" or "trio" if the caller runs in that library's event loop, else None."""
    # A library whose event loop is running has been imported.
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
