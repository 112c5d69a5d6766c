"""The backends of asyncio and trio: anyio's task groups, and the few things that the two do differently.

Those are: which event loop is running, how another thread wakes it, what its clock is, and how a task is
hosted that belongs to no caller. Knows no HTTP and no client.
"""

from __future__ import annotations

import asyncio
import threading
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import ExitStack, asynccontextmanager
from contextvars import Context
from typing import Any, TypeVar

import anyio

from heksher._application_code import ends_caller, get_logger
from heksher.backends._lookups import Lookups
from heksher.backends._running import running_library
from heksher.backends._steady import monotonic
from heksher.backends._work import Work, start_thread
from heksher.backends.base import Clock, Event, HttpOptions, Transport
from heksher.exceptions import BackendError

_logger = get_logger(__name__)

T = TypeVar("T")

CallSoon = Callable[[Callable[[], None]], None]

# A caller that is cancelled waits at most this many seconds for its thread, which ends as soon as it
# notices that its result is not needed.
_THREAD_TIMEOUT = 1.0

# Seconds by which two clocks may go apart that go alike.
_MAX_DRIFT = 1.0


class _Event:
    """Set in any thread, awaited in one event loop."""

    def __init__(self, call_soon: CallSoon) -> None:
        self._call_soon = call_soon
        self._is_up = False
        self._waking = anyio.Event()

    def set(self) -> None:
        self._is_up = True
        self._call_soon(self._wake)

    def _wake(self) -> None:
        self._waking.set()

    def clear(self) -> None:
        self._is_up = False
        self._waking = anyio.Event()

    def is_set(self) -> bool:
        return self._is_up

    async def wait(self, timeout: float | None = None) -> None:
        with ExitStack() as stack:
            # asyncio keeps a cancelled timer until it would be due, and with it the context in which it
            # was made: that of the caller of a start, who may be long gone.
            Context().run(stack.enter_context, anyio.move_on_after(timeout))
            while not self._is_up:
                waking = self._waking
                await waking.wait()
                # The wake-up may come from a set() before the last clear(). Wait for the next one then.
                if waking is self._waking and not self._is_up:
                    self._waking = anyio.Event()


class _LoopClock:
    """An event loop's clock.

    The problem: tests that freeze the time freeze this clock, too, at a moment that may be years away. A
    timer that is armed then is not due before the real clock shows that moment. So where this clock has
    not gone as the machine's does, a thread ends the wait as well. (Seen with freezegun 1.5. A clock that
    jumps to its next timer, as in other tests, ends the wait first.)

    Args:
        now: the loop's time.
        call_soon: runs a function in the loop.
        ahead: seconds by which this clock is ahead of the machine's as long as both are real.
    """

    def __init__(self, now: Callable[[], float], call_soon: CallSoon, ahead: float) -> None:
        self.now = now
        self._call_soon = call_soon
        self._ahead = ahead

    async def wait(self, event: Event, timeout: float | None) -> None:
        if timeout is None or abs(self.now() - monotonic() - self._ahead) < _MAX_DRIFT:
            await event.wait(timeout)
            return
        with anyio.CancelScope() as scope:
            timer = threading.Timer(timeout, self._call_soon, [scope.cancel])
            timer.daemon = True
            timer.start()
            try:
                await event.wait(timeout)
            finally:
                timer.cancel()


class _LoopTask:
    def __init__(
        self,
        main: Callable[[], Coroutine[Any, Any, None]],
        spawn: Callable[[Callable[[], Coroutine[Any, Any, None]]], None],
        call_soon: CallSoon,
    ) -> None:
        self._main = main
        self._spawn = spawn
        self._stop = _Event(call_soon)
        # Set while nothing is running.
        self._ended = anyio.Event()
        self._ended.set()

    async def start(self) -> None:
        self._ended = anyio.Event()
        Context().run(self._spawn, self._host)

    def cancel(self) -> None:
        self._stop.set()

    async def wait(self, timeout: float | None) -> bool:
        if timeout is None:
            await self._ended.wait()
        else:
            with anyio.move_on_after(timeout, shield=True):
                await self._ended.wait()
        return self._ended.is_set()

    @asynccontextmanager
    async def in_caller(self) -> AsyncGenerator[None, None]:
        self._ended = anyio.Event()
        try:
            async with anyio.create_task_group() as group:
                Context().run(group.start_soon, self._run_main)
                yield
                group.cancel_scope.cancel()
        finally:
            self._ended.set()

    async def _run_main(self) -> None:
        """Run main until it ends or `cancel` is called, then set `_ended`."""
        interrupt: KeyboardInterrupt | None = None
        try:
            async with anyio.create_task_group() as group:

                async def cancel_when_asked() -> None:
                    await self._stop.wait()
                    group.cancel_scope.cancel()

                group.start_soon(cancel_when_asked)
                try:
                    await self._main()
                except KeyboardInterrupt as error:
                    interrupt = error  # raised below: a task group would wrap it in a group
                group.cancel_scope.cancel()
        finally:
            self._ended.set()
        if interrupt is not None:
            raise interrupt

    async def _host(self) -> None:
        try:
            await self._run_main()
        except BaseException as error:
            if ends_caller(error):
                raise
            # In trio an exception that leaves a system task ends the whole program.
            _logger.exception("the client's update loop failed with an unexpected error")


class _LoopBackend(ABC):
    """The base of both backends."""

    name: str
    blocking = False

    @abstractmethod
    def loop_key(self) -> object:
        """Return the key of the running event loop."""

    @abstractmethod
    def create_clock(self) -> Clock:
        """Return the clock of the running event loop."""

    @abstractmethod
    def _call_soon(self) -> CallSoon:
        """Return what runs a function in the running event loop. Callable in any thread."""

    @abstractmethod
    def _spawn(self, main: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Start a task that belongs to no caller."""

    def create_event(self) -> Event:
        """Return an event for the running event loop."""
        return _Event(self._call_soon())

    def create_transport(self, options: HttpOptions) -> Transport:
        """Return a transport over an asynchronous HTTP client."""
        from heksher.backends._http import AsyncTransport

        return AsyncTransport(options, Lookups(self.create_event, start_thread), self.in_thread)

    def create_task(self, main: Callable[[], Coroutine[Any, Any, None]]) -> _LoopTask:
        """Return a task that will run *main* in the running event loop."""
        return _LoopTask(main, self._spawn, self._call_soon())

    async def in_thread(self, function: Callable[[], T]) -> T:
        """Call *function* in a thread of its own."""
        work = Work(function, self.create_event())
        start_thread(work.run)
        try:
            await work.ended.wait()
        except BaseException:
            with anyio.CancelScope(shield=True):
                await work.ended.wait(_THREAD_TIMEOUT)
            raise
        return work.result()

    def _refuse_other_loops(self) -> None:
        library = running_library()
        if library != self.name:
            here = "no event loop runs" if library is None else f"{library} runs"
            raise BackendError(
                f"backend={self.name!r} was chosen, but {here} here; "
                f'start the program with {self.name}, or choose backend="auto"'
            )


class AsyncioBackend(_LoopBackend):
    """asyncio, by anyio."""

    name = "asyncio"

    def __init__(self) -> None:
        # asyncio itself holds tasks weakly.
        self._tasks: set[asyncio.Task[None]] = set()

    def loop_key(self) -> object:
        """Return the running loop."""
        self._refuse_other_loops()
        return asyncio.get_running_loop()

    def create_clock(self) -> Clock:
        """Return the running loop's clock."""
        loop = asyncio.get_running_loop()
        # Looked up at each call: tests replace the method.
        return _LoopClock(lambda: loop.time(), self._call_soon(), ahead=0.0)

    def _call_soon(self) -> CallSoon:
        loop = asyncio.get_running_loop()

        def call_soon(function: Callable[[], None]) -> None:
            try:
                loop.call_soon_threadsafe(function)
            except RuntimeError:
                if not loop.is_closed():  # in a closed loop nothing waits any more
                    raise

        return call_soon

    def _spawn(self, main: Callable[[], Coroutine[Any, Any, None]]) -> None:
        task = asyncio.get_running_loop().create_task(main(), name="heksher-client")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


class TrioBackend(_LoopBackend):
    """trio, by anyio."""

    name = "trio"

    def loop_key(self) -> object:
        """Return the token of the running trio."""
        self._refuse_other_loops()
        import trio

        return trio.lowlevel.current_trio_token()

    def create_clock(self) -> Clock:
        """Return the clock of the running trio, which in tests may be one that jumps."""
        import trio

        now = trio.lowlevel.current_clock().current_time
        # Each run of trio begins at another moment.
        return _LoopClock(now, self._call_soon(), ahead=now() - monotonic())

    def _call_soon(self) -> CallSoon:
        import trio

        token = trio.lowlevel.current_trio_token()

        def call_soon(function: Callable[[], None]) -> None:
            try:
                token.run_sync_soon(function)
            except trio.RunFinishedError:
                pass  # nothing waits any more

        return call_soon

    def _spawn(self, main: Callable[[], Coroutine[Any, Any, None]]) -> None:
        import trio

        # trio would give it the context that the program had when trio was started.
        trio.lowlevel.spawn_system_task(main, name="heksher-client", context=Context())
