"""Quart on trio: a client that lives as long as the application."""

from __future__ import annotations

from quart_trio import QuartTrio
from shop import answer, async_client

app = QuartTrio(__name__)


@app.before_serving
async def start() -> None:
    """Start the client, which runs in its own task."""
    app.extensions["heksher"] = client = async_client()
    await client.set_as_main()


@app.after_serving
async def end() -> None:
    """Close the client."""
    await app.extensions["heksher"].aclose()


@app.get("/")
async def index() -> dict[str, int]:
    """Return this process's id and its value."""
    return answer()
