"""FastAPI: a client that lives as long as the application."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from shop import answer, async_client


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncGenerator[None, None]:
    """Run the client while the application runs."""
    async with async_client():
        yield


app = FastAPI(lifespan=lifespan)


@app.get("/")
async def index() -> dict[str, int]:
    """Return this process's id and its value."""
    return answer()
