"""Which requests a fault is for, and when it happens: conditions on one request and its number.

Knows neither the kinds of faults nor the requests so far.
"""

from dataclasses import dataclass
from fnmatch import fnmatchcase
from http import HTTPMethod

from heksher.exceptions import InvalidArgumentError


@dataclass(frozen=True, kw_only=True)
class When:
    """The conditions on requests, all of which have to be met, and the delay of the fault.

    Without conditions it is for all requests, immediately. Requests with this method and path are
    counted in the order in which they arrive. Requests that clients send at the same time arrive in any
    order.

    Attributes:
        method: the method, in capitals.
        path: the path without the query, with ``*`` for any text and ``?`` for any character.
        nth: only the N-th of the counted requests, from 1.
        every: every N-th of them.
        first: only the first N of them.
        share: a random share of them, from 0 to 1, drawn with the seed.
        delay: the seconds until the fault happens; they begin when the service has answered, or with the
            request if the service does not get it.
    """

    method: str | None = None
    path: str | None = None
    nth: int | None = None
    every: int | None = None
    first: int | None = None
    share: float | None = None
    delay: float = 0.0

    def __post_init__(self) -> None:
        if self.method is not None and self.method not in HTTPMethod.__members__:
            raise InvalidArgumentError(
                f"invalid method={self.method!r}: expected one of {', '.join(HTTPMethod.__members__)}"
            )
        if self.path is not None and not self.path.startswith(("/", "*")):
            raise InvalidArgumentError(
                f"invalid path={self.path!r}: expected a path that starts with '/' or '*'"
            )
        for name in ("nth", "every", "first"):
            number = getattr(self, name)
            if number is not None and number < 1:
                raise InvalidArgumentError(f"invalid {name}={number}: expected 1 or more")
        if self.share is not None and not 0 <= self.share <= 1:
            raise InvalidArgumentError(f"invalid share={self.share}: expected a number from 0 to 1")
        if not self.delay >= 0:  # also refuses NaN
            raise InvalidArgumentError(f"invalid delay={self.delay}: expected 0 or more seconds")

    @property
    def asks_nothing(self) -> bool:
        """Whether there is neither a condition nor a delay."""
        return self == When()

    def asks_about(self, method: str, path: str) -> bool:
        """Return whether a request with this method and path is counted."""
        return (self.method is None or self.method == method) and (
            self.path is None or fnmatchcase(path, self.path)
        )

    def is_met(self, number: int, drawn: float) -> bool:
        """Return whether the fault is for the counted request with this number; *drawn* is random."""
        return (
            (self.nth is None or number == self.nth)
            and (self.every is None or number % self.every == 0)
            and (self.first is None or number <= self.first)
            and (self.share is None or drawn < self.share)
        )
