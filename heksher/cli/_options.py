"""The options of ``heksher serve``: flags and environment variables.

A flag takes precedence over its variable, and a variable over the default. An empty variable counts as
unset, except for tokens: there it is an error, because the service would be open by mistake.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from heksher.service import BODY_LIMIT

# Exit status of shells for a command that is called with invalid options.
USAGE_ERROR = 2

_TRUE = ("1", "true", "yes", "on")
_FALSE = ("0", "false", "no", "off")
_LEVELS = ("debug", "info", "warning", "error", "critical")


@dataclass(frozen=True, slots=True)
class Option:
    """One option.

    Attributes:
        flag: name on the command line.
        variable: name of the environment variable.
        parse: converts the text to the value; None for a boolean flag.
        default: the value without flag and variable.
        help: text for ``--help``.
        metavar: placeholder of the value in ``--help``.
        many: whether the flag may be repeated. ``parse`` returns a tuple then.
    """

    flag: str
    variable: str
    parse: Callable[[str], Any] | None
    default: Any
    help: str
    metavar: str | None = None
    many: bool = False

    @property
    def name(self) -> str:
        """Name of the value."""
        return self.flag.removeprefix("--").replace("-", "_")


def _integer(text: str, first: int, last: int) -> int:
    # The length is limited because int() refuses very long numbers with an error of its own.
    if not (text.isascii() and text.isdigit() and len(text) <= 20):
        raise argparse.ArgumentTypeError(f"invalid number {text[:40]!r}: expected an integer")
    number = int(text)
    if not first <= number <= last:
        raise argparse.ArgumentTypeError(f"invalid number {text}: expected {first} to {last}")
    return number


def _port(text: str) -> int:
    return _integer(text, 0, 65535)


def _bytes(text: str) -> int:
    return _integer(text, 1, 2**40)


def _seconds(text: str) -> int:
    return _integer(text, 1, 86400)


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split(",")) if text else ()


def _level(text: str) -> str:
    if text.lower() not in _LEVELS:
        raise argparse.ArgumentTypeError(
            f"invalid level {text!r}: expected one of {', '.join(_LEVELS)}"
        )
    return text.lower()


def _switch(text: str) -> bool:
    if text.lower() not in (*_TRUE, *_FALSE):
        raise argparse.ArgumentTypeError(f"invalid value {text!r}: expected true or false")
    return text.lower() in _TRUE


def _tokens(text: str) -> tuple[str, ...]:
    """Parse tokens, one per line. Error messages never contain a token."""
    found = tuple(line.strip() for line in text.splitlines() if line.strip())
    if not found:
        raise argparse.ArgumentTypeError("empty token: expected at least one character")
    if any(ord(character) < 32 or ord(character) == 127 for token in found for character in token):
        raise argparse.ArgumentTypeError(
            "invalid token: it contains characters not allowed in headers"
        )
    return found


def _tokens_of_file(text: str) -> tuple[str, ...]:
    try:
        lines = Path(text).read_text(encoding="utf-8", errors="surrogateescape")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise argparse.ArgumentTypeError(f"cannot read {text}: {reason}") from error
    try:
        return _tokens(lines)
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(f"{text}: {error}") from error


#: In the order of ``--help`` and of the table in docs/service.md.
OPTIONS = (
    Option("--host", "HEKSHER_HOST", str, "127.0.0.1", "address to listen on"),
    Option("--port", "HEKSHER_PORT", _port, 8000, "port to listen on, 0 for any free one"),
    Option(
        "--database",
        "HEKSHER_DATABASE",
        str,
        "memory",
        "SQLite file, created if it is missing; postgresql://USER:PASSWORD@HOST:PORT/NAME "
        "(extra: postgres); or 'memory': settings are lost when the service ends",
        "URL",
    ),
    Option(
        "--migrate",
        "HEKSHER_MIGRATE",
        None,
        False,
        "allow migrations of an existing database; without this, a database that needs one is "
        "refused, with a list of the pending migrations",
    ),
    Option(
        "--features",
        "HEKSHER_FEATURES",
        _names,
        (),
        "context features in order, the most specific one last; missing ones are added; the "
        "features of the database must be among them in the same order; without this, the features "
        "of the database are used",
        "A,B,C",
    ),
    Option(
        "--api-token",
        "HEKSHER_API_TOKEN",
        _tokens,
        (),
        "require this token in each request, in the header api_token or as a bearer token; may be "
        "repeated; other users of the machine can see it in the list of processes, unlike tokens "
        "in the variable (one per line) or in a file",
        "TOKEN",
        many=True,
    ),
    Option(
        "--api-token-file",
        "HEKSHER_API_TOKEN_FILE",
        _tokens_of_file,
        (),
        "file with tokens, one per line, read at startup",
        "PATH",
        many=True,
    ),
    Option(
        "--allowed-host",
        "HEKSHER_ALLOWED_HOST",
        _names,
        (),
        "without tokens: also answer requests for this host name, such as heksher.example; the "
        "service answers to IP addresses, localhost, and from other machines to names without a dot; "
        "others may be those of foreign web pages; '*' for any; may be repeated",
        "NAME",
        many=True,
    ),
    Option(
        "--body-limit",
        "HEKSHER_BODY_LIMIT",
        _bytes,
        BODY_LIMIT,
        "maximum size of a request body; longer ones are answered with 413",
        "BYTES",
    ),
    Option(
        "--shutdown-timeout",
        "HEKSHER_SHUTDOWN_TIMEOUT",
        _seconds,
        10,
        "how long unfinished requests may take to complete at shutdown",
        "SECONDS",
    ),
    Option(
        "--log-level",
        "HEKSHER_LOG_LEVEL",
        _level,
        "info",
        f"minimum level of log messages: {', '.join(_LEVELS)}",
        "LEVEL",
    ),
    Option(
        "--access-log",
        "HEKSHER_ACCESS_LOG",
        None,
        False,
        "log each request, at level info: method, path, status, time, bytes",
    ),
    Option(
        "--faults",
        "HEKSHER_FAULTS",
        str,
        None,
        "for tests: faults on demand, as described in docs/testing.md (extra: testing)",
        "FAULTS",
    ),
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the flags to *parser*. The value of a missing flag is None."""
    for option in OPTIONS:
        default = {False: "off"}.get(option.default, option.default)
        about = f"{option.help} [{option.variable}"
        about += f"; default: {default}]" if option.default not in ((), None) else "]"
        arguments: dict[str, Any] = {"help": about, "default": None}
        if option.parse is None:
            arguments["action"] = argparse.BooleanOptionalAction
        else:
            arguments |= {"type": option.parse, "metavar": option.metavar}
            if option.many:
                arguments["action"] = "extend"
        parser.add_argument(option.flag, **arguments)


def values(
    parser: argparse.ArgumentParser, given: argparse.Namespace, environment: Mapping[str, str]
) -> tuple[dict[str, Any], Sequence[str]]:
    """Combine flags, variables and defaults.

    An invalid variable ends the program, as an invalid flag does.

    Returns:
        The values of all options by name, and the names of the variables that were used.
    """
    found: dict[str, Any] = {}
    variables: list[str] = []
    for option in OPTIONS:
        value: Any = getattr(given, option.name)
        text = environment.get(option.variable)
        if value is None and (text or (text is not None and option.many)):
            variables.append(option.variable)
            try:
                value = (option.parse or _switch)(text)
            except argparse.ArgumentTypeError as error:
                parser.error(f"the environment variable {option.variable}: {error}")
        if value is None:
            value = option.default
        found[option.name] = tuple(value) if option.many else value
    return found, variables
