"""Litestar: a client that lives as long as the application."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from litestar import Litestar, get
from shop import answer, async_client


@asynccontextmanager
async def lifespan(app: Litestar) -> AsyncGenerator[None, None]:
    """Hold the client."""
    async with async_client():
        yield


@get("/")
async def index() -> dict[str, int]:
    """Say which process answers, and what."""
    return answer()


app = Litestar([index], lifespan=[lifespan])
