"""Let concurrent tasks share a read, so that many of them cost little more than one.

Knows neither HTTP nor databases.

A task must not get a value that is older than its call, so it cannot share a read that is in progress.
It shares the next one. So at any time there are at most two reads: one in progress, and one that tasks
wait for. The first task of those reads for all, which needs no task or thread in the background. If it
is cancelled, another one reads.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

import anyio

_Value = TypeVar("_Value")


class _Read(Generic[_Value]):
    """One read, and the tasks that share its outcome. They join before it begins.

    Attributes:
        ended: set when the read has ended, or the task that makes it was cancelled.
        outcome: the value or the exception; neither if the task was cancelled.
    """

    def __init__(self) -> None:
        self.ended = anyio.Event()
        self.outcome = Future[_Value]()


class SharedReads(Generic[_Value]):
    """Reads a value for the tasks of one event loop, one read at a time.

    Args:
        read: reads the value.
    """

    def __init__(self, read: Callable[[], Awaitable[_Value]]) -> None:
        self._read = read
        self._in_progress = anyio.Lock()
        self._next: _Read[_Value] | None = None

    async def get(self) -> _Value:
        """Return a value whose reading began after this call.

        If the read fails, all tasks that share it raise the same exception.
        """
        while (joined := self._next) is not None:
            await joined.ended.wait()
            if joined.outcome.done():
                return joined.outcome.result()
        return await self._read_for_all()

    async def _read_for_all(self) -> _Value:
        ours = self._next = _Read[_Value]()
        try:
            async with self._in_progress:
                self._next = None  # tasks that call from now on are too late for this read
                value = await self._read()
        except Exception as error:
            ours.outcome.set_exception(error)
            raise
        else:
            ours.outcome.set_result(value)
            return value
        finally:
            if self._next is ours:  # cancelled before the read began
                self._next = None
            ours.ended.set()
