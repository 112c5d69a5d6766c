"""Starlette, on asyncio and on trio: a client that lives as long as the application."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from shop import answer, async_client
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncGenerator[None, None]:
    """Run the client while the application runs."""
    async with async_client():
        yield


async def index(request: Request) -> JSONResponse:
    """Return this process's id and its value."""
    return JSONResponse(answer())


app = Starlette(routes=[Route("/", index)], lifespan=lifespan)
