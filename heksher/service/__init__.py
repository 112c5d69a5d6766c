"""An embedded service that speaks Heksher's protocol v1, for tests, demos and small installations.

Needs the extra ``service``. This module itself imports nothing of it: third parties come in when an
application is made. The service uses the library's pure modules only, and the library never
imports the service.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from heksher.service.domain.errors import CannotStartError

if TYPE_CHECKING:
    from starlette.applications import Starlette

__all__ = ["CannotStartError", "create_app"]

CannotStartError.__module__ = __name__  # its public place, for tracebacks and documentation

# Bytes. What any setting or rule needs is far below.
BODY_LIMIT = 1024 * 1024

MISSING_EXTRA = "the embedded service needs more packages: pip install 'heksher[service]'"


def create_app(
    database: str = "memory",
    features: Sequence[str] = (),
    *,
    api_token: str | Collection[str] | None = None,
    migrate: bool = False,
    body_limit: int = BODY_LIMIT,
    access_log: bool = False,
) -> Starlette:
    """Make an ASGI application out of a database.

    Args:
        database: the path of an SQLite file, which is created if it is missing, or its URL,
            ``sqlite:///PATH``; ``memory``, a database that lives as long as the application; or
            ``postgresql://USER:PASSWORD@HOST:PORT/NAME`` (extra ``postgres``), which exists and is
            empty, or holds a Heksher service's tables, this one's or the original's.
        features: the context features, in order. Missing ones are added; what the database has
            already must be among them in the same order. Empty: as the database has them.
        api_token: if given, every request but health needs the header ``api_token``, or a bearer
            token, with this value, or with one of several.
        migrate: whether a database that was there before may get what this service adds to the
            original's tables; a new one gets it in any case.
        body_limit: how many bytes the body of a request may have; longer ones get 413.
        access_log: whether each request is logged, to ``heksher.service.access`` at INFO: method,
            path, status, milliseconds, bytes.

    Raises:
        CannotStartError: database or features cannot be used, or ``migrate``
            is needed.
        ModuleNotFoundError: the extra ``service`` is not installed.
    """
    try:
        from heksher.service.web import app
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] == "heksher":
            raise
        raise ModuleNotFoundError(MISSING_EXTRA, name=error.name) from error
    return app.create_app(
        database,
        features,
        api_token=api_token,
        migrate=migrate,
        body_limit=body_limit,
        access_log=access_log,
    )
