"""Errors that are not answers to requests: failed starts and database failures.

Pure. Refusals of requests are in ``refusals``.
"""

from __future__ import annotations

from heksher.exceptions import HeksherError


class CannotStartError(HeksherError):
    """The service cannot start with these options; the message says what to change."""


class DatabaseUnavailable(Exception):
    """The database is unreachable, busy for too long, or read-only; no change was acknowledged.

    The text goes to the log, not to the client.
    """


class MetAnotherTransaction(Exception):
    """A transaction conflicted with another one and was rolled back; an immediate retry may succeed."""
