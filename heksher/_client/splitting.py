"""How a query for many settings is split into parts, and into shorter ones where a URL is too long.

Pure decisions; the updater sends the requests. No URL is longer than common proxies take. Some take less,
and how they say so is no standard, so that the client finds out what gets through.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from heksher._wire import query_target, split_names
from heksher.exceptions import ServiceError, UnexpectedStatusError

# How proxies and firewalls answer if a URL is too long for them.
_TOO_LONG = frozenset((400, 403, 404, 414, 431))
# No proxy's limit is below this. A shorter length is not remembered: one odd refusal must not leave a
# client with a request for each setting.
_MIN_LENGTH = 256


@dataclass(frozen=True, slots=True)
class Part:
    """What one request asks for.

    Attributes:
        names: current names of settings.
        filters: see `heksher._wire.encode_context_filters`.
    """

    names: tuple[str, ...]
    filters: str | None

    @property
    def target(self) -> str:
        """Path and query of the request."""
        return query_target(self.names, self.filters)


class Parts:
    """The parts of one query that are yet to be asked for, and what is known of the length of URLs.

    Args:
        names: of all settings that the query asks for.
        filters: see `heksher._wire.encode_context_filters`.
        length: the length that a target may have, as far as is known.
    """

    def __init__(self, names: Sequence[str], filters: str | None, length: int) -> None:
        self._names = names
        self._filters = filters
        self._length = self._shortest = length
        self._left = deque(self._split(names, length))
        # The length of the longest target that was answered.
        self._answered = 0
        # The length of the shortest target that was refused and asks for one name only.
        self._refused = math.inf
        self._has_probed = False

    def next(self) -> Part | None:
        """Return the part to ask for, or None after the last one."""
        return self._left.popleft() if self._left else None

    def note_answered(self, part: Part) -> None:
        """Note that the service has answered a request for *part*."""
        self._answered = max(self._answered, len(part.target))

    def probe(self, part: Part, error: ServiceError) -> Part | None:
        """Return what to ask for to see whether anything is answered, once *part* has failed.

        It is one name, and asked for once: where everything is refused, no length helps.
        """
        probe = Part((min(self._names, key=len),), None)
        if not _may_be_too_long(error) or self._answered or self._has_probed or probe == part:
            return None
        self._has_probed = True
        return probe

    def is_too_long(self, part: Part, error: ServiceError) -> bool:
        """Whether *part* seems to have failed by its length: because something shorter was answered."""
        return _may_be_too_long(error) and 0 < self._answered < len(part.target)

    def shorten(self, part: Part) -> bool:
        """Replace *part* by shorter parts. Return False if there are none."""
        length = self._length
        while length >= len(part.target):
            length //= 2
        pieces = self._split(part.names, length)
        if pieces == [part]:
            if part.filters is None:
                self._refused = min(self._refused, len(part.target))
                return False
            pieces = [Part(part.names, None)]
        self._shortest = min(self._shortest, length)
        self._left.extendleft(reversed(pieces))
        return True

    @property
    def length(self) -> int:
        """The length to begin the next query with, if no part has failed in the end."""
        if self._refused < self._answered:
            # Not because of its length: the setting is unknown by now, or a firewall blocks its name.
            return self._length
        return max(self._shortest, _MIN_LENGTH)

    def _split(self, names: Sequence[str], length: int) -> list[Part]:
        # A filter only saves bytes of the answer. It is left out if it takes the room that names need.
        filters = self._filters
        if filters is not None and len(filters) > length // 2:
            filters = None
        return [Part(each, filters) for each in split_names(names, filters, length)]


def _may_be_too_long(error: ServiceError) -> bool:
    return isinstance(error, UnexpectedStatusError) and error.status in _TOO_LONG
