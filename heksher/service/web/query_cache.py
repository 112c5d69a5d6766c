"""A cache of complete answers to queries, valid until the database changes.

Knows neither HTTP nor databases. Callers pass the revision that they have read, and a function that
makes a missing answer. Safe for threads and event loops; only `QueryCache.get_or_make` may block.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from dataclasses import dataclass

from heksher.service.domain.filters import Item

# Limits of the cache: the number of answers and their total size in bytes. For comparison, the answer
# for 100,000 rules has about 9 million bytes.
_MAX_ANSWERS = 1_000
_MAX_BYTES = 64 * 1024 * 1024

# Estimated memory of a string in addition to its characters, in bytes.
_STRING_OVERHEAD = 100


@dataclass(frozen=True, slots=True)
class Query:
    """A query in normal form: queries with the same meaning are equal.

    Attributes:
        names: names or aliases of settings, sorted and without duplicates. None means all settings.
        items: the items of the filter, sorted by feature. None means all rules.
        with_metadata: whether the answer contains the metadata of rules.
    """

    names: tuple[str, ...] | None
    items: tuple[Item, ...] | None
    with_metadata: bool


@dataclass(frozen=True, slots=True)
class CachedAnswer:
    """The answer to a query: its body and its ETag."""

    body: bytes
    tag: str


class QueryCache:
    """The answers for the latest requested revision. The least recently used are evicted first."""

    def __init__(self, max_answers: int = _MAX_ANSWERS, max_bytes: int = _MAX_BYTES) -> None:
        self._max_answers = max_answers
        self._max_bytes = max_bytes
        self._guard = threading.Lock()
        self._revision: Hashable | None = None
        self._answers = OrderedDict[Query, CachedAnswer]()
        self._bytes = 0
        self._being_made: dict[tuple[Hashable, Query], Future[CachedAnswer]] = {}

    def get(self, query: Query, revision: Hashable) -> CachedAnswer | None:
        """Return the cached answer. *revision* is the database's, read after the query arrived."""
        with self._guard:
            return self._kept(query, revision)

    def get_or_make(
        self, query: Query, revision: Hashable, make: Callable[[], CachedAnswer]
    ) -> CachedAnswer:
        """Return the cached answer or make it. Concurrent calls for the same answer make it once.

        Args:
            query: the query.
            revision: the database's, read after the query arrived. It is read before the data, so an
                answer is never older than the revision that it is cached under.
            make: reads the data and makes the answer. If it raises, all waiting calls raise the same
                exception.
        """
        with self._guard:
            answer = self._kept(query, revision)
            if answer is not None:
                return answer
            # All waiting calls have read the same revision as the one that makes the answer.
            made = self._being_made.get((revision, query))
            is_ours = made is None
            if made is None:
                made = self._being_made[revision, query] = Future[CachedAnswer]()
        if not is_ours:
            return made.result()
        try:
            answer = make()
        except BaseException as error:
            made.set_exception(error)
            raise
        else:
            self._keep(query, revision, answer)
            made.set_result(answer)
            return answer
        finally:
            with self._guard:
                del self._being_made[revision, query]

    def _kept(self, query: Query, revision: Hashable) -> CachedAnswer | None:
        if revision != self._revision:
            self._revision = revision
            self._answers.clear()
            self._bytes = 0
            return None
        answer = self._answers.get(query)
        if answer is not None:
            self._answers.move_to_end(query)
        return answer

    def _keep(self, query: Query, revision: Hashable, answer: CachedAnswer) -> None:
        size = _size(query, answer)
        with self._guard:
            # Another call may have seen a later revision in the meantime.
            if revision != self._revision or size > self._max_bytes:
                return
            self._answers[query] = answer
            self._bytes += size
            while len(self._answers) > self._max_answers or self._bytes > self._max_bytes:
                self._bytes -= _size(*self._answers.popitem(last=False))


def _size(query: Query, answer: CachedAnswer) -> int:
    strings = list(query.names or ())
    for item in query.items or ():
        strings += item.feature, *(item.values or ())
    return len(answer.body) + sum(_STRING_OVERHEAD + len(text) for text in strings)
