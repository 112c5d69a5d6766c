"""Requests that are answered with an error: one class for every form of answer.

Pure. ``Refusal`` speaks of statuses because the protocol does; it knows no web framework.
"""

from __future__ import annotations

from heksher.service.domain.messages import Conflicts, Malformed, Problem, Refused


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
