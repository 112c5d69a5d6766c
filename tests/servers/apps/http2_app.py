"""The embedded service, with one path that gets no answer and one whose answer is large."""

from __future__ import annotations

import asyncio
from typing import Any

from heksher.service import create_app

_service = create_app("memory", ["user"])


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Answer as the service does, except below ``/silent`` and ``/large``."""
    path = scope.get("path", "")
    if path.startswith("/silent"):
        await asyncio.Event().wait()
    elif path.startswith("/large"):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b" " * 200_000})
    else:
        await _service(scope, receive, send)
