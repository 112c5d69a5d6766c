"""``heksher serve``: start the embedded service, or report in one line why it cannot start.

Knows options, logging and signals; the service itself is in ``heksher.service``.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
from types import FrameType
from typing import NoReturn

from heksher._text import joined
from heksher.cli import _options
from heksher.service import MISSING_EXTRA, CannotStartError, create_app

logger = logging.getLogger("heksher.service")


def run(parser: argparse.ArgumentParser, given: argparse.Namespace) -> int:
    """Serve until a signal stops the service; return the exit status."""
    # Before anything else: the first process of a container ignores signals without a handler.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _end)
    options, variables = _options.values(parser, given, os.environ)
    logging.basicConfig(
        stream=sys.stderr,
        level=options["log_level"].upper(),
        format="%(asctime)s %(levelname)s %(message)s",
    )
    # The service logs its migrations itself.
    logging.getLogger("alembic").setLevel(logging.WARNING)
    try:
        from heksher.service.web import origins, server
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] == "heksher":
            raise
        return _fail(MISSING_EXTRA)
    host, port, faults = options["host"], options["port"], options["faults"]
    tokens = (*options["api_token"], *options["api_token_file"])
    try:
        # With faults, the public address belongs to the proxy.
        listener = server.listen(*(("127.0.0.1", 0) if faults else (host, port)))
        try:
            app = create_app(
                options["database"],
                options["features"],
                api_token=tokens or None,
                migrate=options["migrate"],
                body_limit=options["body_limit"],
                access_log=options["access_log"],
                allowed_hosts=options["allowed_host"],
            )
        except BaseException:
            listener.close()
            raise
    except ModuleNotFoundError as error:
        return _fail(str(error))
    except CannotStartError as error:
        origin = f" (from the environment: {joined(variables)})" if variables else ""
        return _fail(f"{error}{origin}")
    if not tokens and not origins.is_loopback(host):
        logger.warning(
            "anyone who can reach %s port %d can change everything: no token is required; see "
            "--api-token-file",
            host,
            listener.getsockname()[1] if not faults else port,
        )
    in_memory = options["database"] == "memory"
    if in_memory and not options["features"]:
        logger.warning("no context features: settings cannot be declared; see --features")
    if in_memory:
        logger.info("settings are kept in memory and lost when this process ends; see --database")
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
    """Exit during startup: there are no requests yet, and an open transaction is rolled back."""
    sys.exit(0)


def _fail(reason: str) -> int:
    print(f"heksher serve: error: {reason}", file=sys.stderr)  # or on stdout, if stderr is closed
    return _options.USAGE_ERROR
