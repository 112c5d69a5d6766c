"""Errors of the service that are no answers to requests: at the start, and of the database.

Pure.
"""

from __future__ import annotations

from heksher.exceptions import HeksherError


class CannotStartError(HeksherError):
    """The service cannot start as it was asked to; the message says what to change."""


class DatabaseUnavailable(Exception):
    """The database is away, busy for too long, or takes no writes; nothing was acknowledged.

    The text is for the log.
    """


class MetAnotherTransaction(Exception):
    """A transaction was undone because of another one: the same request may succeed at once."""
