"""Assemble the ASGI application: storage, routes, pages, error handlers, middleware.

Imports Starlette and SQLAlchemy, so ``heksher.service`` imports this module only to make an
application.
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
from heksher.service.web.middleware import AccessLog, BodyLimit, OwnPagesOnly, TokenRequired
from heksher.service.web.origins import checked_names
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
    allowed_hosts: str | Collection[str],
) -> Starlette:
    """Make the application; see ``heksher.service.create_app``."""
    tokens = None if api_token is None else _tokens(api_token)
    names = checked_names(allowed_hosts)
    storage = open_storage(database, features, migrate=migrate)

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncGenerator[None]:
        yield
        await run_in_threadpool(storage.close)

    # The first one is the outermost: refused requests are logged as well, and no body is read before
    # the token, or where the request comes from, has been checked.
    middleware: list[Middleware] = []
    if access_log:
        middleware.append(Middleware(AccessLog))
    if tokens is None:
        middleware.append(Middleware(OwnPagesOnly, allowed_hosts=names))
    else:
        middleware.append(Middleware(TokenRequired, tokens=tokens, open_path=HEALTH_PATH))
    middleware.append(Middleware(BodyLimit, limit=body_limit))
    resources = routes(storage, heksher.__version__)
    return Starlette(
        routes=[*resources, *pages(heksher.__version__, resources, with_token=tokens is not None)],
        middleware=middleware,
        exception_handlers={HTTPException: framework_error},
        lifespan=lifespan,
    )


def _tokens(given: str | Collection[str]) -> tuple[str, ...]:
    tokens = (given,) if isinstance(given, str) else tuple(given)
    if not tokens or not all(tokens):
        raise CannotStartError("invalid api_token: expected one or more non-empty tokens")
    return tokens
