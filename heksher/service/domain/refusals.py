"""Refused requests, raised as exceptions that carry the error response.

Pure. ``Refusal`` has an HTTP status because the protocol defines one for each error; nothing here
knows a web framework.
"""

from __future__ import annotations

from heksher.service.domain.messages import Conflicts, Malformed, Problem, Refused


class Refusal(Exception):
    """A request is refused.

    Attributes:
        status: HTTP status of the response.
        text: body of the response as plain text, or None.
        body: body of the response as JSON, or None. With neither, the body is empty.
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
    """Make a 422: the request is not what the route accepts; *what* says why, for people."""
    return Refusal(422, body=Malformed([Problem(what)]))
