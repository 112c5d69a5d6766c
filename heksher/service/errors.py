"""Why the service does not do what it was asked: one class per form of answer, one for the start.

Pure. ``Refusal`` speaks of statuses because the protocol does; it knows no web framework.
"""

from __future__ import annotations

from heksher.exceptions import HeksherError
from heksher.service.api_types import Conflicts, Malformed, Problem, Refused


class CannotStartError(HeksherError):
    """The service cannot start as it was asked to; the message says what to change."""


class DatabaseUnavailable(Exception):
    """The database is away, busy for too long, or takes no writes; nothing was acknowledged.

    The text is for the log.
    """


class MetAnotherTransaction(Exception):
    """A transaction was undone because of another one: the same request may succeed at once."""


class Refusal(Exception):
    """A request is answered with an error.

    Attributes:
        status: the HTTP status.
        text: the body as plain text, or None.
        body: the body as JSON, or None. Neither: the answer has no body.
    """

    def __init__(
        self,
        status: int,
        text: str | None = None,
        body: Refused | Malformed | Conflicts | None = None,
    ) -> None:
        super().__init__(status, text, body)
        self.status = status
        self.text = text
        self.body = body


def malformed(what: str) -> Refusal:
    """422: the request is not what the route takes; *what* tells a person why."""
    return Refusal(422, body=Malformed([Problem(what)]))
