"""Tasks share reads, and none of them gets a value that is older than its call."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable

import anyio
import pytest
from anyio.lowlevel import checkpoint

from heksher.service.web.shared_reads import SharedReads


class Source:
    """A value to read: the number of reads that have begun. Each read waits until it may end."""

    def __init__(self) -> None:
        self.begun = 0
        self.reading = anyio.Event()
        self._end = anyio.Event()

    async def read(self) -> int:
        self.begun += 1
        value = self.begun
        self.reading.set()
        await self._end.wait()
        return value

    def end(self) -> None:
        """End the read in progress, and all later ones at once."""
        self._end.set()


@pytest.fixture(params=["asyncio", "trio"])
def run(request: pytest.FixtureRequest) -> Callable[[Callable[[], Awaitable[None]]], None]:
    """Run the body of a test in an event loop."""
    return lambda test: anyio.run(test, backend=request.param)


Run = Callable[[Callable[[], Awaitable[None]]], None]


def test_tasks_share_the_next_read(run: Run) -> None:
    async def test() -> None:
        source, values = Source(), list[int]()
        reads = SharedReads(source.read)

        async def get() -> None:
            values.append(await reads.get())

        async with anyio.create_task_group() as group:
            group.start_soon(get)
            await source.reading.wait()
            for _ in range(50):
                group.start_soon(get)
            await anyio.wait_all_tasks_blocked()
            assert (source.begun, values) == (1, [])
            source.end()
        assert values == [1] + [2] * 50
        assert (await reads.get(), source.begun) == (3, 3)

    run(test)


def test_a_failure_is_that_of_all_who_share_the_read(run: Run) -> None:
    async def test() -> None:
        failures = list[str]()
        is_broken = True

        async def read() -> str:
            await checkpoint()
            if is_broken:
                raise OSError("broken")
            return "read"

        reads = SharedReads(read)

        async def get() -> None:
            try:
                await reads.get()
            except OSError as error:
                failures.append(str(error))

        async with anyio.create_task_group() as group:
            for _ in range(10):
                group.start_soon(get)
        assert failures == ["broken"] * 10
        is_broken = False
        assert await reads.get() == "read"

    run(test)


@pytest.mark.parametrize("moment", ["before the read", "in the read"])
def test_another_task_reads_if_the_first_is_cancelled(run: Run, moment: str) -> None:
    async def test() -> None:
        source, values = Source(), list[int]()
        reads = SharedReads(source.read)
        first = anyio.CancelScope()

        async def get() -> None:
            values.append(await reads.get())

        async def get_and_be_cancelled() -> None:
            with first:
                await get()

        async with anyio.create_task_group() as group:
            if moment == "before the read":  # it waits for the one in progress
                group.start_soon(get)
                await source.reading.wait()
            group.start_soon(get_and_be_cancelled)
            await anyio.wait_all_tasks_blocked()
            for _ in range(3):
                group.start_soon(get)
            await anyio.wait_all_tasks_blocked()
            first.cancel()
            await anyio.wait_all_tasks_blocked()
            source.end()
        assert values == ([1] if moment == "before the read" else []) + [2] * 3

    run(test)


@pytest.mark.parametrize("seed", range(20))
def test_no_value_is_older_than_the_call(run: Run, seed: int) -> None:
    """Many tasks at random, of which some are cancelled, and reads of which some fail."""
    chance = random.Random(seed)

    async def test() -> None:
        begun = in_progress = answered = 0

        async def wait() -> None:
            for _ in range(chance.randrange(6)):
                await checkpoint()

        async def read() -> int:
            nonlocal begun, in_progress
            begun, in_progress = begun + 1, in_progress + 1
            value = begun
            assert in_progress == 1
            try:
                await wait()
                if chance.random() < 0.2:
                    raise OSError
            finally:
                in_progress -= 1
            return value

        reads = SharedReads(read)

        async def call_often() -> None:
            nonlocal answered
            for _ in range(20):
                await wait()
                before = begun
                try:
                    assert await reads.get() > before
                    answered += 1
                except OSError:
                    pass

        async def be_cancelled() -> None:
            for _ in range(20):
                async with anyio.create_task_group() as group:
                    group.start_soon(reads_anything)
                    await wait()
                    group.cancel_scope.cancel()

        async def reads_anything() -> None:
            try:
                await reads.get()
            except OSError:
                pass

        async with anyio.create_task_group() as group:
            for _ in range(8):
                group.start_soon(call_often)
            for _ in range(4):
                group.start_soon(be_cancelled)
        assert answered > 50
        assert begun < 8 * 20 + 4 * 20

    run(test)
