"""``heksher serve``: start the embedded service and report in one line what keeps it from starting."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
from types import FrameType
from typing import NoReturn

from heksher.cli import _options
from heksher.cli._options import USAGE_ERROR
from heksher.service import MISSING_EXTRA, CannotStartError, create_app

logger = logging.getLogger("heksher.service")


def run(parser: argparse.ArgumentParser, given: argparse.Namespace) -> int:
    """Serve until a signal ends it; the exit status."""
    # First of all: to a container's first process, signals that it does not handle do nothing.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _end)
    options, variables = _options.values(parser, given, os.environ)
    logging.basicConfig(
        stream=sys.stderr,
        level=options["log_level"].upper(),
        format="%(asctime)s %(levelname)s %(message)s",
    )
    # What is migrated the service says itself, in words that say what it is for.
    logging.getLogger("alembic").setLevel(logging.WARNING)
    try:
        from heksher.service.web import server
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] == "heksher":
            raise
        return _fail(MISSING_EXTRA)
    host, port, faults = options["host"], options["port"], options["faults"]
    try:
        # With faults, where clients come is the proxy's.
        listener = server.listen(*(("127.0.0.1", 0) if faults else (host, port)))
        try:
            app = create_app(
                options["database"],
                options["features"],
                api_token=(*options["api_token"], *options["api_token_file"]) or None,
                migrate=options["migrate"],
                body_limit=options["body_limit"],
                access_log=options["access_log"],
            )
        except BaseException:
            listener.close()
            raise
    except ModuleNotFoundError as error:
        return _fail(str(error))
    except CannotStartError as error:
        origin = f" (from the environment: {', '.join(variables)})" if variables else ""
        return _fail(f"{error}{origin}")
    in_memory = options["database"] == "memory"
    if in_memory and not options["features"]:
        logger.warning("no context features: no setting can be declared; see --features")
    if in_memory:
        logger.info("settings are kept in memory, until this process ends; see --database")
    grace = options["shutdown_timeout"]
    if not faults:
        return server.serve(app, listener, grace=grace)
    from heksher.cli._faults import in_front_of

    try:
        with in_front_of(listener, faults, host, port) as url:
            return server.serve(app, listener, url, grace=grace)
    except CannotStartError as error:
        listener.close()
        return _fail(str(error))


def _end(_number: int, _frame: FrameType | None) -> NoReturn:
    """End while it starts: no request is under way yet, and a transaction is undone."""
    sys.exit(0)


def _fail(reason: str) -> int:
    sys.stderr.write(f"heksher serve: error: {reason}\n")
    return USAGE_ERROR
