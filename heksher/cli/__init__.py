"""The command ``heksher``: which subcommands there are and which options they take.

What a subcommand does is in a module of its own, imported when it is called: no option parsing pays
for a web server.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from heksher import __version__

# What the shell's own errors use for a command that was called wrongly.
USAGE_ERROR = 2

_TRUE = ("1", "true", "yes", "on")


class _Parser(argparse.ArgumentParser):
    """Reports an error in one line, without repeating the usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(USAGE_ERROR, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status."""
    arguments = _parser().parse_args(argv)
    match arguments.command:
        case "serve":
            from heksher.cli import _serve

            return _serve.run(
                host=arguments.host,
                port=arguments.port,
                database=arguments.database,
                features=arguments.features,
                api_token=arguments.api_token,
                migrate=arguments.migrate,
            )
        case _:
            return _demo()


def _demo() -> int:
    try:
        demo = importlib.import_module("heksher.cli._demo")
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] == "heksher":
            raise
        sys.stderr.write(
            f"heksher demo: error: {error.name} is not installed: pip install 'heksher[demo]'\n"
        )
        return USAGE_ERROR
    status: int = demo.run()
    return status


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="heksher", description="Settings that depend on context.")
    parser.add_argument("--version", action="version", version=f"heksher {__version__}")
    commands = parser.add_subparsers(
        dest="command", metavar="command", required=True, parser_class=_Parser
    )
    _add_serve(
        commands.add_parser(
            "serve",
            help="run the embedded service (extra: service)",
            description=(
                "Run a service that speaks Heksher's protocol v1. Once it accepts connections it "
                "prints one line, 'heksher service on http://HOST:PORT', on stdout; it logs on "
                "stderr, and ends on SIGTERM and SIGINT."
            ),
        )
    )
    commands.add_parser(
        "demo",
        help="show the library and the service at work (extra: demo)",
        description="Show the library and the embedded service at work in a terminal.",
    )
    return parser


def _add_serve(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (default: %(default)s)"
    )
    parser.add_argument(
        "--port",
        type=_port,
        default=8000,
        help="port to listen on, 0 for any free one (default: %(default)s)",
    )
    parser.add_argument(
        "--database",
        metavar="URL",
        default="memory",
        help="SQLite file, created if it is missing; postgresql://USER:PASSWORD@HOST:PORT/NAME "
        "(extra: postgres); or 'memory': settings are gone when the service ends "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--migrate",
        action="store_true",
        default=os.environ.get("HEKSHER_MIGRATE", "").lower() in _TRUE,
        help="let a database that was there before be changed, where it lacks what this service "
        "adds to it; without, the service says what that is and ends (default: the environment "
        "variable HEKSHER_MIGRATE, true or false)",
    )
    parser.add_argument(
        "--features",
        metavar="A,B,C",
        type=_names,
        default=(),
        help="context features in their order, the most specific one last; missing ones are "
        "added, and those that the database has must be among them in the same order "
        "(default: as the database has them)",
    )
    parser.add_argument(
        "--api-token",
        metavar="TOKEN",
        type=_token,
        help="let only requests through that carry this token, in the header api_token or as a "
        "bearer token (default: no authentication)",
    )


def _port(text: str) -> int:
    port = int(text)
    if not 0 <= port <= 65535:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 65535")
    return port


# argparse names this function in the error for a text that is no number.
_port.__name__ = "port"


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split(",")) if text else ()


def _token(text: str) -> str:
    if not text:
        raise argparse.ArgumentTypeError("the token must not be empty")
    return text
