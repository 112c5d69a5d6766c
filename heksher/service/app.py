"""Putting the service together: storage, routes, errors, token, as one ASGI application.

Imports Starlette and SQLAlchemy; ``heksher.service`` imports this when an application is made.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware

import heksher
from heksher.service.http import TokenRequired, framework_error
from heksher.service.routes import HEALTH_PATH, routes
from heksher.service.storage import MEMORY, open_storage


def create_app(
    database: str = MEMORY,
    features: Sequence[str] = (),
    *,
    api_token: str | None = None,
    migrate: bool = False,
) -> Starlette:
    """See ``heksher.service.create_app``."""
    storage = open_storage(database, features, migrate=migrate)

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncGenerator[None]:
        yield
        await run_in_threadpool(storage.close)

    middleware: list[Middleware] = []
    if api_token is not None:
        middleware.append(Middleware(TokenRequired, token=api_token, open_path=HEALTH_PATH))
    return Starlette(
        routes=routes(storage, heksher.__version__),
        middleware=middleware,
        exception_handlers={HTTPException: framework_error},
        lifespan=lifespan,
    )
