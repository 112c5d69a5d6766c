"""How a query for many settings is split into parts, and what to do where something refuses a part.

Pure decisions; the updater sends the requests. No URL is longer than common proxies take. Some take less,
and some firewalls refuse a word that is part of a setting's name, or of a filter. How they say so is no
standard. The answer to a part may also be too large. One rule serves all of them: as long as anything is
answered, a part that is refused is halved, down to a single name.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from heksher._wire import MAX_QUERY_LENGTH, query_target, split_names
from heksher.exceptions import InvalidResponseError, ServiceError, UnexpectedStatusError

# How proxies and firewalls answer if a URL is too long for them, or has a word that they refuse. Some send
# a page with status 200.
_REFUSED = frozenset((400, 403, 404, 414, 431))
# No proxy's limit is below this. A shorter length is not remembered: one odd refusal must not leave a
# client with a request for each setting.
_MIN_LENGTH = 256


@dataclass(frozen=True, slots=True)
class Limits:
    """What gets through to the service, as far as is known.

    Attributes:
        length: the length that the target of a query may have.
        takes_filters: whether queries with the filter are answered.
        takes_since: whether queries for the changes since a revision are answered.
        refused: the names that were refused, each by itself.
        probed: the names that were asked for to see whether anything is answered, and nothing was.
    """

    length: int = MAX_QUERY_LENGTH
    takes_filters: bool = True
    takes_since: bool = True
    refused: frozenset[str] = frozenset()
    probed: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Part:
    """What one request asks for.

    Attributes:
        names: current names of settings.
        filters: see `heksher._wire.encode_context_filters`.
        was_refused: whether these are the names that were refused before. One request shows whether
            they still are.
    """

    names: tuple[str, ...]
    filters: str | None
    was_refused: bool = False

    @property
    def target(self) -> str:
        """Path and query of the request."""
        return query_target(self.names, self.filters)


class Parts:
    """The parts of one query that are yet to be asked for, and what the query shows of the limits.

    Args:
        names: of all settings that the query asks for.
        filters: see `heksher._wire.encode_context_filters`.
        limits: what earlier queries showed.

    Attributes:
        are_answered: whether requests are answered at all. None: unknown since the last refusal.
        takes_since: see `Limits`.
    """

    def __init__(self, names: Sequence[str], filters: str | None, limits: Limits) -> None:
        self._limits = limits
        self._filters = filters if limits.takes_filters else None
        self._is_filter_refused = not limits.takes_filters
        self._refused = limits.refused.intersection(names)
        self._others = [name for name in names if name not in self._refused]
        each = self._filters_within(limits.length)
        self._left = deque(
            Part(some, each) for some in split_names(self._others, each, limits.length)
        )
        if self._refused:
            self._left.append(Part(tuple(sorted(self._refused)), None, was_refused=True))
        self._probed = limits.probed
        self._probes: list[Part] = []
        self._halved: list[Part] = []
        # The length of the longest target that was answered.
        self._answered = 0
        self.are_answered: bool | None = None
        self.takes_since = limits.takes_since

    def next(self) -> Part | None:
        """Return the part to ask for, or None after the last one."""
        if not self._left:
            return None
        part = self._left.popleft()
        return replace(part, filters=None) if self._filters is None else part

    def note_answered(self, part: Part) -> None:
        """Note that the service has answered a request for *part*, which may be a probe."""
        self.are_answered = True
        self._answered = max(self._answered, len(part.target))
        self._refused = self._refused.difference(part.names)

    def probes(self, part: Part) -> Iterator[Part]:
        """Yield what to ask for, up to the first answer, once *part* was refused.

        This shows whether anything is answered. Where everything is refused, halving does not help, and
        would cost hundreds of requests.
        """
        if self.are_answered is not None:
            return
        self.are_answered = False
        if not self._probes:
            # Two names, because one of them may be refused. If both are, the next query tries others.
            # Beside a client's only name, no name is asked for.
            likeliest = sorted(self._others, key=lambda name: (name in self._probed, len(name)))
            self._probes = [
                Part(some, each)
                for some in [*((name,) for name in likeliest), ()][:2]
                for each in dict.fromkeys((self._filters, None))
            ]
        for probe in self._probes:
            if probe != part:
                yield probe
            if self.are_answered:
                if probe.filters != self._filters:
                    self._filters, self._is_filter_refused = None, True
                self._probes = sorted(self._probes, key=lambda each: each != probe)
                return
        self._probed = self._probed.union(*(probe.names for probe in self._probes))

    def repeat_without_since(self, part: Part) -> None:
        """Ask for a part again that was refused together with a revision."""
        self.are_answered, self.takes_since = None, False
        self._left.appendleft(part)

    def halve(self, part: Part) -> bool:
        """Split a refused part into shorter ones, which come next. Return False if that is impossible."""
        self.are_answered = None
        names, half = part.names, len(part.names) // 2
        if part.filters is not None and (self._filters is None or not half):
            self._left.appendleft(Part(names, None))
        elif half and not part.was_refused:
            filters = self._filters_within(len(part.target) // 2)
            self._left.extendleft((Part(names[half:], filters), Part(names[:half], filters)))
            self._halved.append(part)
        else:
            self._refused = self._refused.union(names)
            return False
        return True

    @property
    def limits(self) -> Limits:
        """The limits for the next query."""
        length = self._limits.length
        too_long = [
            len(part.target) for part in self._halved if self._refused.isdisjoint(part.names)
        ]
        if too_long and self._answered < min(too_long):
            length = min(length, max(self._answered, _MIN_LENGTH))
        return Limits(
            length, not self._is_filter_refused, self.takes_since, self._refused, self._probed
        )

    def _filters_within(self, length: int) -> str | None:
        """Return the filter for a target of this length; None if it takes the room that names need."""
        filters = self._filters
        # A filter only saves bytes of the answer.
        return None if filters is None or len(filters) > length // 2 else filters


def may_be_limited(error: ServiceError) -> bool:
    """Whether *error* may come from something on the way that refuses some requests only."""
    return isinstance(error, InvalidResponseError) or (
        isinstance(error, UnexpectedStatusError) and error.status in _REFUSED
    )
