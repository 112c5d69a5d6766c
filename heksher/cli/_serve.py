"""``heksher serve``: start the embedded service and report in one line what keeps it from starting."""

from __future__ import annotations

import logging
import sys

from heksher.cli import USAGE_ERROR
from heksher.service import MISSING_EXTRA, create_app
from heksher.service.errors import CannotStartError

logger = logging.getLogger("heksher.service")


def run(
    *,
    host: str,
    port: int,
    database: str,
    features: tuple[str, ...],
    api_token: str | None,
    migrate: bool,
) -> int:
    """Serve until a signal ends it; the exit status."""
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s"
    )
    # What is migrated the service says itself, in words that say what it is for.
    logging.getLogger("alembic").setLevel(logging.WARNING)
    try:
        from heksher.service import server
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] == "heksher":
            raise
        return _fail(MISSING_EXTRA)
    try:
        listener = server.listen(host, port)
        try:
            app = create_app(database, features, api_token=api_token, migrate=migrate)
        except BaseException:
            listener.close()
            raise
    except ModuleNotFoundError as error:
        return _fail(str(error))
    except CannotStartError as error:
        return _fail(str(error))
    if database == "memory" and not features:
        logger.warning("no context features: no setting can be declared; see --features")
    if database == "memory":
        logger.info("settings are kept in memory, until this process ends; see --database")
    return server.serve(app, listener)


def _fail(reason: str) -> int:
    sys.stderr.write(f"heksher serve: error: {reason}\n")
    return USAGE_ERROR
