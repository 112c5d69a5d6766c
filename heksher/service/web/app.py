"""Putting the service together: storage, routes, pages, errors, middleware, as one application.

Imports Starlette and SQLAlchemy; ``heksher.service`` imports this when an application is made.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection, Sequence
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware

import heksher
from heksher.service.domain.errors import CannotStartError
from heksher.service.storage import open_storage
from heksher.service.web.http import framework_error
from heksher.service.web.middleware import AccessLog, BodyLimit, TokenRequired
from heksher.service.web.pages import pages
from heksher.service.web.routes import HEALTH_PATH, routes


def create_app(
    database: str,
    features: Sequence[str],
    *,
    api_token: str | Collection[str] | None,
    migrate: bool,
    body_limit: int,
    access_log: bool,
) -> Starlette:
    """See ``heksher.service.create_app``."""
    tokens = None if api_token is None else _tokens(api_token)
    storage = open_storage(database, features, migrate=migrate)

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncGenerator[None]:
        yield
        await run_in_threadpool(storage.close)

    # The first one is the outermost: refused requests are logged, too, and nothing of a body is
    # read before the token is seen.
    middleware: list[Middleware] = []
    if access_log:
        middleware.append(Middleware(AccessLog))
    if tokens is not None:
        middleware.append(Middleware(TokenRequired, tokens=tokens, open_path=HEALTH_PATH))
    middleware.append(Middleware(BodyLimit, limit=body_limit))
    served = routes(storage, heksher.__version__)
    return Starlette(
        routes=[*served, *pages(heksher.__version__, served, with_token=tokens is not None)],
        middleware=middleware,
        exception_handlers={HTTPException: framework_error},
        lifespan=lifespan,
    )


def _tokens(given: str | Collection[str]) -> tuple[str, ...]:
    tokens = (given,) if isinstance(given, str) else tuple(given)
    if not tokens or not all(tokens):
        raise CannotStartError("api_token holds no token, or an empty one")
    return tokens
