"""A cache of complete answers, valid until the database changes.

Knows neither HTTP nor databases. Callers pass the revision that they have read, and a function that
makes a missing answer. Safe for threads and event loops; only `AnswerCache.get_or_make` may block.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Protocol

# Limits of the cache: the number of answers and their total size in bytes. For comparison, the answer
# for 100,000 rules has about 9 million bytes.
_MAX_ANSWERS = 1_000
_MAX_BYTES = 64 * 1024 * 1024


class Question(Hashable, Protocol):
    """What an answer answers. Questions with the same meaning are equal."""

    @property
    def size(self) -> int:
        """The memory that it takes, in bytes, as an estimate."""
        ...


@dataclass(frozen=True, slots=True)
class CachedAnswer:
    """An answer.

    Attributes:
        body: the body.
        tag: the ETag.
        is_partial: whether the body lacks what the client has. The ETag is that of the whole answer.
    """

    body: bytes
    tag: str
    is_partial: bool = False


class AnswerCache:
    """The answers for the latest requested revision. The least recently used are evicted first."""

    def __init__(self, max_answers: int = _MAX_ANSWERS, max_bytes: int = _MAX_BYTES) -> None:
        self._max_answers = max_answers
        self._max_bytes = max_bytes
        self._guard = threading.Lock()
        self._revision: Hashable | None = None
        self._answers = OrderedDict[Question, CachedAnswer]()
        self._bytes = 0
        self._being_made: dict[tuple[Hashable, Question], Future[CachedAnswer]] = {}

    def get(self, question: Question, revision: Hashable) -> CachedAnswer | None:
        """Return the cached answer. *revision* is the database's, read after the question arrived."""
        with self._guard:
            return self._kept(question, revision)

    def get_or_make(
        self, question: Question, revision: Hashable, make: Callable[[], CachedAnswer]
    ) -> CachedAnswer:
        """Return the cached answer or make it. Concurrent calls for the same answer make it once.

        Args:
            question: the question.
            revision: the database's, read after the question arrived. It is read before the data, so an
                answer is never older than the revision that it is cached under.
            make: reads the data and makes the answer. If it raises, all waiting calls raise the same
                exception.
        """
        with self._guard:
            answer = self._kept(question, revision)
            if answer is not None:
                return answer
            # All waiting calls have read the same revision as the one that makes the answer.
            made = self._being_made.get((revision, question))
            is_ours = made is None
            if made is None:
                made = self._being_made[revision, question] = Future[CachedAnswer]()
        if not is_ours:
            return made.result()
        try:
            answer = make()
        except BaseException as error:
            made.set_exception(error)
            raise
        else:
            self._keep(question, revision, answer)
            made.set_result(answer)
            return answer
        finally:
            with self._guard:
                del self._being_made[revision, question]

    def _kept(self, question: Question, revision: Hashable) -> CachedAnswer | None:
        if revision != self._revision:
            self._revision = revision
            self._answers.clear()
            self._bytes = 0
            return None
        answer = self._answers.get(question)
        if answer is not None:
            self._answers.move_to_end(question)
        return answer

    def _keep(self, question: Question, revision: Hashable, answer: CachedAnswer) -> None:
        size = _size(question, answer)
        with self._guard:
            # Another call may have seen a later revision in the meantime.
            if revision != self._revision or size > self._max_bytes:
                return
            self._answers[question] = answer
            self._bytes += size
            while len(self._answers) > self._max_answers or self._bytes > self._max_bytes:
                self._bytes -= _size(*self._answers.popitem(last=False))


def _size(question: Question, answer: CachedAnswer) -> int:
    return len(answer.body) + question.size
