"""Answers that depend on the question and the database alone: made once for each revision.

What a request costs depends on where its answer is. From the cache, the event loop sends it if the
revision can be read there, and a worker thread otherwise. Making it can take seconds, so that is done
on threads of its own; see ``Slow``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import msgspec

from heksher.service.domain.messages import ResponseBody
from heksher.service.storage import Storage
from heksher.service.web.answer_cache import AnswerCache, CachedAnswer, Question
from heksher.service.web.http import Encoded, Slow

_Response = TypeVar("_Response", bound=Encoded[ResponseBody])


@dataclass(frozen=True, slots=True)
class Listing:
    """The question for a whole list, by its name."""

    of: str
    size: int = 0


class Answers:
    """The answers of several routes, in one cache, to bound their memory together."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._cache = AnswerCache()

    def get(
        self,
        question: Question,
        make: Callable[[], ResponseBody],
        response: Callable[[CachedAnswer], _Response],
    ) -> _Response | Slow[_Response]:
        """Answer from the cache, or return what makes the answer.

        Args:
            question: what is asked; it determines the answer.
            make: reads the data and makes the body.
            response: makes the response from the answer.
        """

        def made() -> _Response:
            # Read before the data, so that the data is never older than the revision it is cached
            # under. Read again, because this may have waited for a thread.
            revision = self._storage.revision()
            encode = partial(_encoded, make)
            return response(self._cache.get_or_make(question, revision, encode))

        answer = self._cache.get(question, self._storage.revision())
        return Slow(made) if answer is None else response(answer)

    def get_nowait(
        self, question: Question, response: Callable[[CachedAnswer], _Response]
    ) -> _Response | None:
        """Answer from the cache if that needs no waiting; None otherwise."""
        revision = self._storage.revision_nowait()
        answer = None if revision is None else self._cache.get(question, revision)
        return None if answer is None else response(answer)


def untagged(answer: CachedAnswer) -> Encoded[Any]:
    """Make a response without an ETag."""
    return Encoded(answer.body, media_type="application/json")


def _encoded(make: Callable[[], ResponseBody]) -> CachedAnswer:
    body = msgspec.json.encode(make())
    return CachedAnswer(body, f'"{hashlib.blake2b(body, digest_size=16).hexdigest()}"')
