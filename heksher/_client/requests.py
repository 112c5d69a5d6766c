"""The requests of one update: which of them failed, and when to give up.

Knows neither settings nor rules.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Protocol, TypeVar

from heksher._wire import Exchange
from heksher.exceptions import ServiceError, ServiceUnreachableError, UnexpectedStatusError

T = TypeVar("T")

# The requests in a row that may fail to reach the service before an update gives up. Each may take as long
# as a request may.
_MAX_UNREACHED = 3


class ExchangeFunction(Protocol):
    """Sends a request and reads the answer."""

    def __call__(self, exchange: Exchange[T], /) -> Awaitable[T]: ...


class Requests:
    """Sends the requests of one update after another, and keeps the failures of each.

    Args:
        exchange: sends a request to the service and reads the answer.

    Attributes:
        failures: what failed in the update under way.
    """

    def __init__(self, exchange: ExchangeFunction) -> None:
        self._exchange = exchange
        self.failures: list[ServiceError] = []
        # The requests in a row that did not reach the service.
        self._unreached = 0

    def begin(self) -> None:
        """Begin an update: nothing has failed."""
        self.failures, self._unreached = [], 0

    async def send(self, exchange: Exchange[T]) -> T:
        """Send a request and return what its answer says.

        Raises:
            ServiceError: there is no usable answer.
        """
        try:
            answer = await self._exchange(exchange)
        except ServiceUnreachableError:
            self._unreached += 1
            raise
        self._unreached = 0
        return answer

    def note_failure(self, error: ServiceError) -> None:
        """Keep an error for the end of the update, or raise it at once if the service seems to be gone."""
        self.failures.append(error)
        if self._unreached >= _MAX_UNREACHED:
            raise error

    def raise_failure(self) -> None:
        """Raise what failed, if anything did: the newest of those that ask for the longest pause."""
        if self.failures:
            raise max(reversed(self.failures), key=_retry_after)


def _retry_after(error: ServiceError) -> float:
    """Return the seconds after which the service wants to be asked again."""
    return (isinstance(error, UnexpectedStatusError) and error.retry_after) or 0.0
