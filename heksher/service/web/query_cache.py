"""Finished answers to queries, kept until the database changes.

Knows neither HTTP nor databases: whoever asks gives the revision that was read before, and how the
answer is made when there is none. For threads and event loops alike: only
`QueryCache.get_or_make` may take long.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from dataclasses import dataclass

from heksher.service.domain.filters import Item

# What is kept at most: answers, and bytes. The answer for 100,000 rules has about 9 million.
_ANSWERS = 1_000
_BYTES = 64 * 1024 * 1024

# What a text of a question takes beside its letters.
_BYTES_OF_A_TEXT = 100


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked for: two that mean the same are equal.

    Attributes:
        names: names or aliases of settings, sorted, each once; None: all settings.
        items: the filter, sorted by features; None: all rules.
        with_metadata: whether rules come with theirs.
    """

    names: tuple[str, ...] | None
    items: tuple[Item, ...] | None
    with_metadata: bool


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to a query: its body, and the tag by which a client knows it again."""

    body: bytes
    tag: str


class QueryCache:
    """The answers of one revision, the last that was asked with; the least wanted ones go first."""

    def __init__(self, max_answers: int = _ANSWERS, max_bytes: int = _BYTES) -> None:
        self._max_answers = max_answers
        self._max_bytes = max_bytes
        self._guard = threading.Lock()
        self._revision: Hashable | None = None
        self._answers = OrderedDict[Question, Answer]()
        self._bytes = 0
        self._being_made: dict[tuple[Hashable, Question], Future[Answer]] = {}

    def get(self, question: Question, revision: Hashable) -> Answer | None:
        """The answer that is kept. *revision* is the database's, read after the query arrived."""
        with self._guard:
            return self._kept(question, revision)

    def get_or_make(
        self, question: Question, revision: Hashable, make: Callable[[], Answer]
    ) -> Answer:
        """The answer that is kept, or else a new one; many who want the same one make it once.

        Args:
            question: what is asked for.
            revision: the database's, read after the query arrived. Since it is read before the data,
                an answer is never older than the revision that it is kept under.
            make: reads the data and makes the answer. What it raises is raised to all who wait.
        """
        with self._guard:
            answer = self._kept(question, revision)
            if answer is not None:
                return answer
            # Whoever waits has read the same revision as the one who makes the answer.
            made = self._being_made.get((revision, question))
            is_ours = made is None
            if made is None:
                made = self._being_made[revision, question] = Future[Answer]()
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

    def _kept(self, question: Question, revision: Hashable) -> Answer | None:
        if revision != self._revision:
            self._revision = revision
            self._answers.clear()
            self._bytes = 0
            return None
        answer = self._answers.get(question)
        if answer is not None:
            self._answers.move_to_end(question)
        return answer

    def _keep(self, question: Question, revision: Hashable, answer: Answer) -> None:
        size = _size(question, answer)
        with self._guard:
            # Meanwhile others may have seen a later revision.
            if revision != self._revision or size > self._max_bytes:
                return
            self._answers[question] = answer
            self._bytes += size
            while len(self._answers) > self._max_answers or self._bytes > self._max_bytes:
                self._bytes -= _size(*self._answers.popitem(last=False))


def _size(question: Question, answer: Answer) -> int:
    texts = list(question.names or ())
    for item in question.items or ():
        texts += item.feature, *(item.values or ())
    return len(answer.body) + sum(_BYTES_OF_A_TEXT + len(text) for text in texts)
