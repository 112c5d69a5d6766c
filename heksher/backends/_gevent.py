"""The backend of greenlets: the update loop is one, and waiting for it lets the others run.

Knows gevent and the blocking transport, and no client.

A request over ordinary sockets would stop all greenlets of its thread, so it is made in a native thread.
Not in one of gevent's thread pool: that belongs to the application, has ten threads, and is where gevent
looks up names, so that requests to a silent service would stop those. A socket that gevent has patched
stops no greenlet, but works in one hub only: the one of the thread that made the client.

Hubs are what hurts when touched. A hub is the event loop of one native thread, and there are four rules
for them. Tried with gevent 25.9 and 26.9.

- Make no hub for a thread that has none. The public `gevent.get_hub` does so, and nobody would destroy
  it: its loop, with the file descriptors, would stay until the process ends. Only the main thread may
  get one here, since its hub lives as long as the process anyway. For other threads `get_hub_if_exists`
  is asked, which is in a private module. If a release of gevent drops it, the import below fails, and so
  do all tests of this backend. Where gevent has patched the threads, every lock that a thread waits for
  makes a hub, so the native threads that are started here destroy theirs at their end.
- In a thread without a hub there are no greenlets to wait for, so waiting is native there, and a loop
  that is started there is a thread. Clients can be used in any thread.
- Another thread may touch only two things of a hub: ``loop.run_callback_threadsafe`` and the ``send`` of
  an async watcher. Both fail once the hub has been destroyed, which may happen at any moment.
- Compare a hub with None, and never test whether it is true: a greenlet is false before it has run for
  the first time, and a hub is a greenlet.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any, Protocol, TypeVar

import gevent
from gevent import monkey
from gevent._hub_local import get_hub_if_exists
from gevent.event import Event as HubEvent

from heksher._wire import Request, Response
from heksher.backends._callers import caller, work_for
from heksher.backends._lookups import Lookups
from heksher.backends._thread import MonotonicClock, ThreadTask
from heksher.backends._work import Work, start_thread
from heksher.backends.base import Clock, Event, HttpOptions, Task, Transport, run_blocking
from heksher.exceptions import BackendError

T = TypeVar("T")

# The type stubs of gevent describe it only in part.
_spawn: Any = gevent.spawn

# Closing waits at most this many seconds for a request whose caller has given up.
_CLOSE_TIMEOUT = 1.0

if hasattr(os, "register_at_fork"):  # not on Windows
    # A hub works in a child only after this. gevent.os.fork() does it, too; twice does no harm.
    os.register_at_fork(after_in_child=gevent.reinit)


def _is_patched() -> bool:
    """Whether threads are greenlets in this process."""
    return bool(monkey.is_module_patched("threading"))


def _hub() -> Any:
    """Return the hub of this thread, or None if it has no greenlets."""
    if _is_patched():
        return gevent.get_hub()
    hub = get_hub_if_exists()
    if hub is None and threading.current_thread() is threading.main_thread():
        hub = gevent.get_hub()
    return hub


def _call_in(hub: Any, function: Callable[[], object]) -> bool:
    """Call *function* in the thread of *hub*: at once in this thread, soon in another one.

    Returns:
        False if the hub has been destroyed.
    """
    if get_hub_if_exists() is hub:
        function()
        return True
    try:
        hub.loop.run_callback_threadsafe(function)
    except (AttributeError, ValueError):
        return False
    return True


class _Waiter(Protocol):
    """One greenlet or thread that waits for an event."""

    def wait(self, timeout: float | None) -> object: ...

    def set(self) -> None:
        """End the wait. Callable in any thread, more than once, and after the wait has ended."""
        ...

    def close(self) -> None: ...


class _GreenletWaiter:
    def __init__(self, hub: Any) -> None:
        self._woken = HubEvent()
        # Other threads may use it. As long as it exists, the hub has something to wait for.
        self._watcher = hub.loop.async_()
        self._watcher.start(self._woken.set)

    def wait(self, timeout: float | None) -> object:
        return self._woken.wait(timeout)

    def set(self) -> None:
        try:
            self._watcher.send()
        except (TypeError, ValueError):  # the watcher has been closed, or its hub destroyed
            pass

    def close(self) -> None:
        self._watcher.stop()
        self._watcher.close()


class _ThreadWaiter(threading.Event):
    def close(self) -> None:
        pass


class _Event:
    """Set in any thread, awaited by greenlets of any hub and by threads.

    There is no lock, which a greenlet might have to wait for. A waiter first enters the list and then
    looks at the flag, and `set` first sets the flag and then looks at the list, so one sees the other.
    """

    def __init__(self) -> None:
        self._is_up = False
        self._waiters: list[_Waiter] = []

    def set(self) -> None:
        self._is_up = True
        for waiter in tuple(self._waiters):
            waiter.set()

    def clear(self) -> None:
        self._is_up = False

    def is_set(self) -> bool:
        return self._is_up

    async def wait(self, timeout: float | None = None) -> None:
        if self._is_up or (timeout is not None and timeout <= 0):
            return
        hub = _hub()
        waiter: _Waiter = _ThreadWaiter() if hub is None else _GreenletWaiter(hub)
        self._waiters.append(waiter)
        try:
            if not self._is_up:
                waiter.wait(timeout)
        finally:
            self._waiters.remove(waiter)
            waiter.close()


def _start_thread(function: Callable[[], None]) -> None:
    """Call *function* in a native thread, or here if none can be started."""
    if not _is_patched():
        start_thread(function)
        return

    def run() -> None:
        try:
            function()
        finally:
            hub = get_hub_if_exists()
            # gevent made one if the function waited for a patched lock, such as that of a log handler.
            if hub is not None:
                hub.destroy(destroy_loop=True)

    start: Any = monkey.get_original("_thread", "start_new_thread")
    try:
        start(run, ())
    except RuntimeError:
        function()


async def _off_hub(function: Callable[[], T]) -> T:
    """Call *function* in a native thread while other greenlets run. Without greenlets, call it here."""
    hub = _hub()
    if hub is None:
        return function()
    owner = caller()
    work = Work(lambda: work_for(owner, function), _Event())
    _start_thread(work.run)
    await work.ended.wait()
    return work.result()


class _WrappedTransport:
    """The methods of a blocking transport that return at once."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self.status_error = transport.status_error
        self.invalid_response = transport.invalid_response
        self.abort = transport.abort
        self.abandon = transport.abandon


class _OffHubTransport(_WrappedTransport):
    """A blocking transport over ordinary sockets, used in threads without a hub."""

    def __init__(self, transport: Transport) -> None:
        super().__init__(transport)
        # An event for each request in progress, set when it is over even if its caller has given up.
        self._requests: list[_Event] = []

    async def send(self, request: Request) -> Response:
        over = _Event()

        def send() -> Response:
            self._requests.append(over)
            try:
                return run_blocking(self._transport.send(request))
            finally:
                self._requests.remove(over)
                over.set()

        return await _off_hub(send)

    async def aclose(self) -> None:
        await _off_hub(lambda: run_blocking(self._transport.aclose()))
        # That has ended all requests, except those that are in a name look-up.
        for over in tuple(self._requests):
            await over.wait(_CLOSE_TIMEOUT)


class _InHubTransport(_WrappedTransport):
    """A blocking transport over patched sockets, used in one hub."""

    def __init__(self, transport: Transport, hub: Any, seconds: float) -> None:
        super().__init__(transport)
        self._hub = hub
        # A little longer than a request may take, since the error of its own bound says more.
        self._timeout = seconds + _CLOSE_TIMEOUT

    async def send(self, request: Request) -> Response:
        return await self._in_hub(
            lambda: run_blocking(self._transport.send(request)), self._timeout
        )

    async def aclose(self) -> None:
        try:
            await self._in_hub(lambda: run_blocking(self._transport.aclose()), _CLOSE_TIMEOUT)
        except BackendError:
            pass  # no greenlet runs there, and so no request

    async def _in_hub(self, function: Callable[[], T], timeout: float) -> T:
        if get_hub_if_exists() is self._hub:
            return function()
        work = Work(function, _Event())
        if _call_in(self._hub, lambda: _spawn(work.run)):
            await work.ended.wait(timeout)
        if not work.ended.is_set():
            raise BackendError(
                "the thread that made the client, where its connections are, serves no greenlets; "
                "make the client in a thread whose greenlets keep running"
            )
        return work.result()


class _GreenletTask:
    def __init__(self, main: Callable[[], Coroutine[Any, Any, None]], hub: Any) -> None:
        self._main = main
        self._hub = hub
        self._is_started = False
        self._greenlet: Any = None
        self._ended = _Event()

    async def start(self) -> None:
        self._is_started = True
        _call_in(self._hub, self._spawn)

    def _spawn(self) -> None:
        greenlet = self._greenlet = Context().run(_spawn, lambda: run_blocking(self._main()))
        greenlet.name = "heksher-client"

        def set_ended(_: object) -> None:
            self._ended.set()

        # Not at the end of main, since the greenlet may be killed before its first step.
        greenlet.rawlink(set_ended)

    def cancel(self) -> None:
        # A greenlet that cancels itself is in a hook. The core's flags end it when the hook has returned.
        if self._is_started and not self._is_current():
            _call_in(self._hub, self._kill)

    def _kill(self) -> None:
        # If another thread is starting it right now, the core's flags end it.
        if self._greenlet is not None:
            self._greenlet.kill(block=False)

    async def wait(self, timeout: float | None) -> bool:
        if not self._is_started:
            return True
        if self._is_current():
            return False
        await self._ended.wait(timeout)
        return self._ended.is_set()

    def _is_current(self) -> bool:
        return self._greenlet is not None and caller() is self._greenlet


class _ThreadTask(ThreadTask):
    """A loop in a thread, for whose end greenlets can wait.

    Joining the thread would block their hub, which the loop may need in order to end.
    """

    def __init__(self, main: Callable[[], Coroutine[Any, Any, None]]) -> None:
        async def run() -> None:
            try:
                await main()
            finally:
                self._ended.set()

        super().__init__(run)
        self._ended = _Event()

    async def wait(self, timeout: float | None) -> bool:
        if self._thread.ident is not None and self._thread is not threading.current_thread():
            await self._ended.wait(timeout)
            if not self._ended.is_set():
                return False
        return await super().wait(timeout)


class GeventBackend:
    """Greenlets, in a process that gevent has patched or not."""

    name = "gevent"
    blocking = True

    def __init__(self) -> None:
        # The hub of the thread that makes the client.
        self._hub = _hub()

    def loop_key(self) -> object:
        """Return None: the client can be used in any thread.

        Raises:
            BackendError: threads are greenlets here and sockets would stop all of them.
        """
        if _is_patched() and not monkey.is_module_patched("socket"):
            raise BackendError(
                'backend="gevent": gevent has patched the threads of this process and not its sockets; '
                "patch both, by gevent.monkey.patch_all(), or neither"
            )
        return None

    def create_clock(self) -> Clock:
        """Return the monotonic clock."""
        return MonotonicClock()

    def create_event(self) -> Event:
        """Return an event for greenlets of any hub and for threads without a hub."""
        return _Event()

    def create_transport(self, options: HttpOptions) -> Transport:
        """Return a transport over a blocking HTTP client that stops no hub."""
        from heksher.backends._http import BlockingTransport

        transport = BlockingTransport(
            options, Lookups(self.create_event, _start_thread), self.in_thread
        )
        if monkey.is_module_patched("socket"):
            hub = gevent.get_hub() if self._hub is None else self._hub
            return _InHubTransport(transport, hub, options.request_timeout)
        return _OffHubTransport(transport)

    def create_task(self, main: Callable[[], Coroutine[Any, Any, None]]) -> Task:
        """Return a task that will run *main* in a greenlet, or in a thread if there are none."""
        hub = _hub()
        if hub is None:
            return _ThreadTask(main)
        return _GreenletTask(main, self._hub if _is_patched() and self._hub is not None else hub)

    async def in_thread(self, function: Callable[[], T]) -> T:
        """Call *function* in a native thread."""
        return await _off_hub(function)
