"""Answers that depend on the question and the database alone: made once for each revision.

Each request needs a revision that was read after it arrived. Where reading it takes a thread, requests
share the reads. If the answer is cached for that revision, the event loop sends it. Making it can take
seconds, so that is done on threads of its own; see ``Slow``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
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


@dataclass(frozen=True, slots=True)
class Update:
    """The question what changed in the answer to *question* since a revision."""

    question: Question
    since: str

    @property
    def size(self) -> int:
        """The memory that it takes, in bytes, as an estimate."""
        return self.question.size + size_of([self.since])


class Answers:
    """The answers of several routes, in one cache, to bound their memory together."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._cache = AnswerCache()
        self._revisions = PerLoop(lambda: SharedReads(self._read_revision))

    async def get(
        self,
        question: Question,
        make: Callable[[str, str | None], CachedAnswer],
        response: Callable[[CachedAnswer], _Response],
        since: str | None = None,
    ) -> _Response | Slow[_Response]:
        """Answer from the cache, or return what makes the answer.

        Args:
            question: what is asked; it determines the answer.
            make: reads the data and makes the answer. It gets the name of a revision that was read
                before, and *since*.
            response: makes the response from the answer.
            since: the name of the revision of an answer that the client has.
        """
        asked = question if since is None else Update(question, since)

        def made() -> _Response:
            # Read before the data, so that the data is never older than the revision it is cached
            # under. Read again, because this may have waited for a thread.
            revision = self._storage.revision()
            now = self._storage.name_of(revision)
            answer = self._cache.get_or_make(asked, revision, partial(make, now, since))
            return _at(now, response(answer))

        revision = self._storage.revision_nowait()
        if revision is None:
            revision = await self._revisions.get().get()
        answer = self._cache.get(asked, revision)
        if answer is None:
            return Slow(made)
        return _at(self._storage.name_of(revision), response(answer))

    async def _read_revision(self) -> Mark:
        with anyio.move_on_after(_REVISION_TIMEOUT):
            # On a timeout, the thread continues and its result is discarded.
            return await anyio.to_thread.run_sync(
                self._storage.revision,
                abandon_on_cancel=True,
                limiter=anyio.CapacityLimiter(1),  # not the common one, which writers may exhaust
            )
        raise DatabaseUnavailable("it did not say its revision in time")


def _at(revision: str, response: _Response) -> _Response:
    """Tell clients the revision. The response is not older than that."""
    response.raw_headers.append((_REVISION, revision.encode()))
    return response


def size_of(texts: Iterable[str]) -> int:
    """Return the memory that *texts* take, in bytes, as an estimate."""
    return sum(_STRING_OVERHEAD + len(text) for text in texts)


def encoded(body: ResponseBody) -> CachedAnswer:
    """Make an answer whose ETag stands for its bytes."""
    text = msgspec.json.encode(body)
    return CachedAnswer(text, tag_of(text))


def tag_of(content: bytes) -> str:
    """Return an ETag for *content*."""
    return f'"{hashlib.blake2b(content, digest_size=16).hexdigest()}"'


def untagged(answer: CachedAnswer) -> Encoded[Any]:
    """Make a response without an ETag."""
    return Encoded(answer.body, media_type="application/json")
