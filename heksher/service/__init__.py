"""An embedded service with Heksher's protocol v1, for tests, demos and small installations.

Needs the extra ``service``, whose packages are imported only when an application is made. The service
uses only pure modules of the library, and the library never imports the service.

Layers, each of which imports only the ones before it: ``domain`` (pure decisions), ``storage`` (the
database), ``web`` (the ASGI application), and this module, the public door.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from heksher.service.domain.errors import CannotStartError

if TYPE_CHECKING:
    from starlette.applications import Starlette

__all__ = ["CannotStartError", "create_app"]

CannotStartError.__module__ = __name__  # its public place, for tracebacks and documentation

# Default limit for the body of a request, in bytes. No reasonable setting or rule comes near it.
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
    allowed_hosts: str | Collection[str] = (),
) -> Starlette:
    """Make an ASGI application that serves a database.

    Args:
        database: one of

            - the path of an SQLite file, or ``sqlite:///PATH``. The file is created if it is missing.
            - ``memory``, a database that lives as long as the application.
            - ``postgresql://USER:PASSWORD@HOST:PORT/NAME`` (extra ``postgres``). The database must
              exist and be empty, or contain the tables of a Heksher service, this one or the original.
        features: the context features, in order. Missing ones are added. The features that the
            database already has must be among them, in the same order. Empty: the stored ones.
        api_token: one or several tokens. If given, each request except health needs one of them,
            in the header ``api_token`` or as a bearer token.
        migrate: whether to add this service's own tables to an existing database of the original.
            A new database always gets them.
        body_limit: maximum size of a request body, in bytes. Longer ones are answered with 413.
        access_log: whether to log each request to ``heksher.service.access`` at INFO: method, path,
            status, milliseconds, bytes.
        allowed_hosts: names under which clients reach the service, as they are in the header
            ``Host``, without the port; ``"*"`` for any. Only a service without tokens needs them:
            it refuses requests that a web page of a stranger can have made. It always answers to IP
            addresses, ``localhost``, and from other machines to names without a dot.

    Raises:
        CannotStartError: the database, the features or the names cannot be used, or ``migrate`` is
            needed.
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
        allowed_hosts=allowed_hosts,
    )
