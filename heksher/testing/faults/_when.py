"""Which requests a fault is for, and how late it is: conditions on one request and its number.

Knows neither kinds of faults nor what has come so far.
"""

from dataclasses import dataclass
from fnmatch import fnmatchcase
from http import HTTPMethod

from heksher.exceptions import InvalidArgumentError


@dataclass(frozen=True, kw_only=True)
class When:
    """Which requests a fault is for, those that meet all that is given, and how late it is.

    With nothing given it is for all, at once. Where it counts, it counts in the order in which requests
    arrive; what clients send at the same time arrives in no order of its own.

    Attributes:
        method: the method, in capitals.
        path: the path without the query, with ``*`` for any text and ``?`` for any character.
        nth: only this one, from 1, of the requests that ask with this method for this path.
        every: every so-manieth of them.
        first: only so many, from the first one on.
        share: this share of them, from 0 to 1, drawn by the seed.
        delay: seconds until it happens, from when the service has answered, or was not to be asked.
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
                f"method={self.method!r}: there are {', '.join(HTTPMethod.__members__)}"
            )
        if self.path is not None and not self.path.startswith(("/", "*")):
            raise InvalidArgumentError(f"path={self.path!r}: a path begins with '/', or with '*'")
        for name in ("nth", "every", "first"):
            number = getattr(self, name)
            if number is not None and number < 1:
                raise InvalidArgumentError(f"{name}={number}: it counts from 1")
        if self.share is not None and not 0 <= self.share <= 1:
            raise InvalidArgumentError(f"share={self.share}: a share is a number from 0 to 1")
        if not self.delay >= 0:  # NaN is not, either
            raise InvalidArgumentError(f"delay={self.delay}: a delay is a number from 0 on")

    @property
    def asks_nothing(self) -> bool:
        """Whether it is for all requests, at once."""
        return self == When()

    def asks_about(self, method: str, path: str) -> bool:
        """Whether requests with this method for this path are counted."""
        return (self.method is None or self.method == method) and (
            self.path is None or fnmatchcase(path, self.path)
        )

    def is_met(self, number: int, drawn: float) -> bool:
        """Whether it is for the request with this number among those that are counted."""
        return (
            (self.nth is None or number == self.nth)
            and (self.every is None or number % self.every == 0)
            and (self.first is None or number <= self.first)
            and (self.share is None or drawn < self.share)
        )
