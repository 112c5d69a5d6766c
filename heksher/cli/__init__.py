"""The command ``heksher``: its subcommands and their options.

Each subcommand has a module of its own. What needs an extra, such as the web server, is imported only
when the subcommand runs, so that parsing options stays fast.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from typing import NoReturn

from heksher import __version__
from heksher.cli import _options, _serve


class _Parser(argparse.ArgumentParser):
    """Report errors in one line, without repeating the usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(_options.USAGE_ERROR, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status."""
    arguments = _parsed(argv)
    match arguments.command:
        case "serve":
            return _serve.run(arguments.parser, arguments)
        case _:
            return _demo()


def _parsed(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the arguments. Errors show unknown options without values: they may contain a token."""
    parser = _parser()
    arguments, unknown = parser.parse_known_args(argv)
    if unknown:
        names = [text.partition("=")[0] for text in unknown if text.startswith("-")]
        parser.error(f"unrecognized arguments: {' '.join(names) or 'unexpected value'}")
    return arguments


def _demo() -> int:
    try:
        demo = importlib.import_module("heksher.cli._demo")
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] == "heksher":
            raise
        print(
            f"heksher demo: error: {error.name} is not installed: pip install 'heksher[demo]'",
            file=sys.stderr,
        )
        return _options.USAGE_ERROR
    status: int = demo.run()
    return status


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="heksher", description="Settings that depend on context.")
    parser.add_argument("--version", action="version", version=f"heksher {__version__}")
    commands = parser.add_subparsers(
        dest="command", metavar="command", required=True, parser_class=_Parser
    )
    serve = commands.add_parser(
        "serve",
        help="run the embedded service (extra: service)",
        description=(
            "Run a service with Heksher's protocol v1. Once it accepts connections, it prints one "
            "line, 'heksher service on http://HOST:PORT', on stdout. It logs on stderr, and stops "
            "on SIGTERM and SIGINT. Options can also be set by the environment variables in "
            "brackets; flags take precedence."
        ),
    )
    serve.set_defaults(parser=serve)
    _options.add_options(serve)
    commands.add_parser(
        "demo",
        help="show the library and the service at work (extra: demo)",
        description="Show the library and the embedded service at work in a terminal.",
    )
    return parser
