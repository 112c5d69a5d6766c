"""Answers that depend on the question and the database alone: made once for each revision.

Each request needs a revision that was read after it arrived. Where reading it takes a thread, requests
share the reads. If the answer is cached for that revision, the event loop sends it. Making it can take
seconds, so that is done on threads of its own; see ``Slow``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import anyio
import msgspec

from heksher.service.domain.errors import DatabaseUnavailable
from heksher.service.domain.messages import ResponseBody
from heksher.service.storage import Mark, Storage
from heksher.service.web.answer_cache import AnswerCache, CachedAnswer, Question
from heksher.service.web.http import Encoded, Slow
from heksher.service.web.per_loop import PerLoop
from heksher.service.web.shared_reads import SharedReads

# Estimated memory of a string in addition to its characters, in bytes.
_STRING_OVERHEAD = 100

_REVISION = b"heksher-revision"

_Response = TypeVar("_Response", bound=Encoded[ResponseBody])

# Maximum time to read the revision, in seconds. A request waits twice as long at most: for the read in
# progress and for the one that it shares. It matters only if the database hangs without an error.
_REVISION_TIMEOUT = 10.0


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
        self._revisions = PerLoop(lambda: SharedReads(self._read_revision))

    async def get(
        self,
        question: Question,
        make: Callable[[], CachedAnswer],
        response: Callable[[CachedAnswer], _Response],
    ) -> _Response | Slow[_Response]:
        """Answer from the cache, or return what makes the answer.

        Args:
            question: what is asked; it determines the answer.
            make: reads the data and makes the answer.
            response: makes the response from the answer.
        """

        def made() -> _Response:
            # Read before the data, so that the data is never older than the revision it is cached
            # under. Read again, because this may have waited for a thread.
            revision = self._storage.revision()
            answer = self._cache.get_or_make(question, revision, make)
            return self._at(revision, response(answer))

        revision = self._storage.revision_nowait()
        if revision is None:
            revision = await self._revisions.get().get()
        answer = self._cache.get(question, revision)
        return Slow(made) if answer is None else self._at(revision, response(answer))

    async def _read_revision(self) -> Mark:
        with anyio.move_on_after(_REVISION_TIMEOUT):
            # On a timeout, the thread continues and its result is discarded.
            return await anyio.to_thread.run_sync(
                self._storage.revision,
                abandon_on_cancel=True,
                limiter=anyio.CapacityLimiter(1),  # not the common one, which writers may exhaust
            )
        raise DatabaseUnavailable("it did not say its revision in time")

    def _at(self, revision: Mark, response: _Response) -> _Response:
        """Tell clients the revision. The response is not older than that."""
        name = self._storage.name_of(revision)
        response.raw_headers.append((_REVISION, name.encode()))
        return response


def size_of(texts: Iterable[str]) -> int:
    """Return the memory that *texts* take, in bytes, as an estimate."""
    return sum(_STRING_OVERHEAD + len(text) for text in texts)


def encoded(body: ResponseBody, also: Sequence[str] = ()) -> CachedAnswer:
    """Make an answer. Its ETag stands for its bytes, and for the texts in *also*."""
    text = msgspec.json.encode(body)
    digest = hashlib.blake2b(text, digest_size=16)
    if also:
        digest.update(msgspec.json.encode(also))
    return CachedAnswer(text, f'"{digest.hexdigest()}"')


def untagged(answer: CachedAnswer) -> Encoded[Any]:
    """Make a response without an ETag."""
    return Encoded(answer.body, media_type="application/json")
