"""The options of ``heksher serve``: flags, and environment variables that stand for them.

A flag counts more than its variable, which counts more than the default. An empty variable is as
good as none, but for tokens: who sets one means to have one.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from heksher.service import BODY_LIMIT

# Exit code of a command that was called with wrong arguments, as shells use it.
USAGE_ERROR = 2

_TRUE = ("1", "true", "yes", "on")
_FALSE = ("0", "false", "no", "off")
_LEVELS = ("debug", "info", "warning", "error", "critical")


@dataclass(frozen=True, slots=True)
class Option:
    """One option.

    Attributes:
        flag: its name on the command line.
        variable: its name in the environment.
        parse: makes the value of a text; None for a flag that is on or off.
        default: the value without flag and variable.
        help: for ``--help``.
        metavar: what stands there for the value.
        many: whether the flag may be repeated; ``parse`` makes a tuple then.
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
        """The name of its value."""
        return self.flag.removeprefix("--").replace("-", "_")


def _integer(text: str, first: int, last: int) -> int:
    # Not more digits than anybody means: int() has a limit of its own.
    if not (text.isascii() and text.isdigit() and len(text) <= 20):
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is no whole number")
    number = int(text)
    if not first <= number <= last:
        raise argparse.ArgumentTypeError(f"{text} is not between {first} and {last}")
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
        raise argparse.ArgumentTypeError(f"{text!r} is none of {', '.join(_LEVELS)}")
    return text.lower()


def _switch(text: str) -> bool:
    if text.lower() not in (*_TRUE, *_FALSE):
        raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false")
    return text.lower() in _TRUE


def _tokens(text: str) -> tuple[str, ...]:
    """Tokens out of lines. No error shows one."""
    found = tuple(line.strip() for line in text.splitlines() if line.strip())
    if not found:
        raise argparse.ArgumentTypeError("the token must not be empty")
    if any(ord(character) < 32 or ord(character) == 127 for token in found for character in token):
        raise argparse.ArgumentTypeError("the token holds characters that no header can carry")
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
        "(extra: postgres); or 'memory': settings are gone when the service ends",
        "URL",
    ),
    Option(
        "--migrate",
        "HEKSHER_MIGRATE",
        None,
        False,
        "let a database that was there before be changed, where it lacks what this service adds "
        "to it; without, the service says what that is and ends",
    ),
    Option(
        "--features",
        "HEKSHER_FEATURES",
        _names,
        (),
        "context features in their order, the most specific one last; missing ones are added; "
        "those that the database has must be among them in the same order, or the service says "
        "so and ends; without, they are as the database has them",
        "A,B,C",
    ),
    Option(
        "--api-token",
        "HEKSHER_API_TOKEN",
        _tokens,
        (),
        "let only requests through that carry this token, in the header api_token or as a bearer "
        "token; may be repeated; other users of the machine can see it in the list of processes, "
        "unlike one in the variable (which may hold several, one per line) or in a file",
        "TOKEN",
        many=True,
    ),
    Option(
        "--api-token-file",
        "HEKSHER_API_TOKEN_FILE",
        _tokens_of_file,
        (),
        "file with such tokens, one per line, read at the start",
        "PATH",
        many=True,
    ),
    Option(
        "--body-limit",
        "HEKSHER_BODY_LIMIT",
        _bytes,
        BODY_LIMIT,
        "longest body of a request; a longer one is answered with 413",
        "BYTES",
    ),
    Option(
        "--shutdown-timeout",
        "HEKSHER_SHUTDOWN_TIMEOUT",
        _seconds,
        10,
        "how long requests under way may take to finish when the service is told to end",
        "SECONDS",
    ),
    Option(
        "--log-level",
        "HEKSHER_LOG_LEVEL",
        _level,
        "info",
        f"what is logged: {', '.join(_LEVELS)}",
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
        "for tests: what is to go wrong, as docs/testing.md tells (extra: testing)",
        "FAULTS",
    ),
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Give *parser* the flags. Their values are None where they are not given."""
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
    """The value of each option by name, and the variables that some came from.

    A variable that cannot be used ends the program, as a flag does.
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
