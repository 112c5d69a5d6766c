"""The command ``heksher``: which subcommands there are and which options they take.

What a subcommand does is in a module of its own, imported when it is called: no option parsing pays
for a web server.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from typing import NoReturn

from heksher import __version__
from heksher.cli import _options
from heksher.cli._options import USAGE_ERROR


class _Parser(argparse.ArgumentParser):
    """Reports an error in one line, without repeating the usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(USAGE_ERROR, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status."""
    arguments = _parsed(argv)
    match arguments.command:
        case "serve":
            from heksher.cli import _serve

            return _serve.run(arguments.parser, arguments)
        case _:
            return _demo()


def _parsed(argv: Sequence[str] | None) -> argparse.Namespace:
    """What was given. Of options that there are not only the names are shown: a misspelt one may be
    a token's.
    """
    parser = _parser()
    arguments, unknown = parser.parse_known_args(argv)
    if unknown:
        names = [text.partition("=")[0] for text in unknown if text.startswith("-")]
        parser.error(f"unrecognized arguments: {' '.join(names) or 'a word too many'}")
    return arguments


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
    serve = commands.add_parser(
        "serve",
        help="run the embedded service (extra: service)",
        description=(
            "Run a service that speaks Heksher's protocol v1. Once it accepts connections it "
            "prints one line, 'heksher service on http://HOST:PORT', on stdout; it logs on "
            "stderr, and ends on SIGTERM and SIGINT. Each option can be given as the environment "
            "variable in brackets as well; a flag counts more."
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
