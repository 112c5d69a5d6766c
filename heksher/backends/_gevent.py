"""The backend of greenlets: the update loop is one, and who waits for it leaves the hub to others.

A request over ordinary sockets would stop all greenlets of its thread, and is made in a native one.
Not in one of gevent's pool: that is the application's, holds ten, and is where gevent looks up names,
so that requests to a silent service would stop them. Sockets that gevent has patched stop nobody, and
are of use in one hub only: the one of the thread that made the client.

A client is used from any thread. In one without a hub there are no greenlets to wait for, so that
waiting there is waiting natively, and a loop that is started there is a thread's.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Coroutine
from contextvars import copy_context
from typing import Any, Generic, Protocol, TypeVar

import gevent
from gevent import monkey

# The public get_hub() makes a hub for a thread that has none, which nobody would close.
from gevent._hub_local import get_hub_if_exists
from gevent.event import Event as HubEvent

from heksher._wire import Request, Response
from heksher.backends._callers import caller, work_for
from heksher.backends._thread import MonotonicClock, ThreadTask
from heksher.backends.base import Clock, Event, HttpOptions, Task, Transport, run_blocking
from heksher.exceptions import BackendError, InvalidResponseError, UnexpectedStatusError

T = TypeVar("T")

# Its types are known in part only.
_spawn: Any = gevent.spawn

# How long closing waits for a request whose caller has gone.
_CLOSE_TIMEOUT = 1.0

if hasattr(os, "register_at_fork"):  # not on Windows
    # A hub works in a child only after that. Once more does no harm: gevent.os.fork() does it, too.
    os.register_at_fork(after_in_child=gevent.reinit)


def _is_patched() -> bool:
    """Whether what passes for a thread here is a greenlet."""
    return bool(monkey.is_module_patched("threading"))


def _hub() -> Any:
    """Return the hub of this thread, or None where greenlets are of no concern."""
    if _is_patched():
        return gevent.get_hub()
    hub = get_hub_if_exists()
    if hub is None and threading.current_thread() is threading.main_thread():
        hub = gevent.get_hub()
    return hub


def _call_in(hub: Any, function: Callable[[], object]) -> bool:
    """Call *function* in the thread of *hub*: soon, if that is another one.

    Returns:
        False if the hub is destroyed, and with it what ran in it.
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

    def wait(self, timeout: float | None) -> None: ...

    def wake(self) -> None:
        """End the wait, from any thread; harmless when repeated, and when it has ended."""
        ...

    def close(self) -> None: ...


class _GreenletWaiter:
    def __init__(self, hub: Any) -> None:
        self._woken = HubEvent()
        # What other threads may touch of a hub; and as long as it is there, the hub has what to wait for.
        self._watcher = hub.loop.async_()
        self._watcher.start(self._woken.set)

    def wait(self, timeout: float | None) -> None:
        self._woken.wait(timeout)

    def wake(self) -> None:
        try:
            self._watcher.send()
        except (TypeError, ValueError):  # the watcher is closed, or its hub destroyed
            pass

    def close(self) -> None:
        self._watcher.stop()
        self._watcher.close()


class _ThreadWaiter:
    def __init__(self) -> None:
        self._woken = threading.Event()

    def wait(self, timeout: float | None) -> None:
        self._woken.wait(timeout)

    def wake(self) -> None:
        self._woken.set()

    def close(self) -> None:
        pass


class _Event:
    """Without a lock: who waits enters the list before looking at the flag, who sets looks after."""

    def __init__(self) -> None:
        self._is_up = False
        self._waiters: list[_Waiter] = []

    def set(self) -> None:
        self._is_up = True
        for waiter in tuple(self._waiters):
            waiter.wake()

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


class _Work(Generic[T]):
    """A function that is called in another thread or greenlet."""

    def __init__(self, function: Callable[[], T]) -> None:
        context = copy_context()
        self._function: Callable[[], T] = lambda: context.run(function)
        self._results: list[T] = []
        self._error: BaseException | None = None
        self.ended = _Event()

    def run(self) -> None:
        try:
            self._results.append(self._function())
        except BaseException as error:  # raised where it is waited for
            self._error = error
        finally:
            self.ended.set()

    def result(self) -> T:
        if self._error is not None:
            error, self._error = self._error, None
            raise error
        return self._results[0]


def _start_thread(function: Callable[[], None]) -> None:
    """Call *function* in a native thread.

    Raises:
        RuntimeError: none can be had.
    """
    if _is_patched():

        def run() -> None:
            try:
                function()
            finally:
                hub = get_hub_if_exists()
                if hub is not None:  # it had to wait for a patched lock, such as that of a log
                    hub.destroy(destroy_loop=True)

        start: Any = monkey.get_original("_thread", "start_new_thread")
        start(run, ())
    else:
        # A daemon: a name look-up cannot be ended, and must not keep the process from exiting.
        threading.Thread(target=function, name="heksher-client-work", daemon=True).start()


async def _off_hub(function: Callable[[], T]) -> T:
    """Call *function* in a native thread, so that other greenlets go on; here, if there are none."""
    hub = _hub()
    if hub is None:
        return function()
    owner = caller()
    work = _Work(lambda: work_for(owner, function))
    try:
        _start_thread(work.run)
    except RuntimeError:  # no thread can be had
        return function()
    await work.ended.wait()
    return work.result()


class _WrappedTransport:
    """A blocking transport; what takes no time."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def status_error(self, request: Request, response: Response) -> UnexpectedStatusError:
        return self._transport.status_error(request, response)

    def invalid_response(
        self, request: Request, error: InvalidResponseError
    ) -> InvalidResponseError:
        return self._transport.invalid_response(request, error)

    def abort(self) -> None:
        self._transport.abort()

    def abandon(self) -> None:
        self._transport.abandon()


class _OffHubTransport(_WrappedTransport):
    """A blocking transport over ordinary sockets, used in other threads than the hub's."""

    def __init__(self, transport: Transport) -> None:
        super().__init__(transport)
        # Up once a request is over, also one that nobody waits for any more.
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
        # They were ended by that, but for those that look up a name.
        for over in tuple(self._requests):
            await over.wait(_CLOSE_TIMEOUT)


class _InHubTransport(_WrappedTransport):
    """A blocking transport over patched sockets, used in one hub."""

    def __init__(self, transport: Transport, hub: Any, seconds: float) -> None:
        super().__init__(transport)
        self._hub = hub
        # What bounds a request, and a little more: its own bound tells more of it.
        self._patience = seconds + _CLOSE_TIMEOUT

    async def send(self, request: Request) -> Response:
        return await self._in_hub(
            lambda: run_blocking(self._transport.send(request)), self._patience
        )

    async def aclose(self) -> None:
        try:
            await self._in_hub(lambda: run_blocking(self._transport.aclose()), _CLOSE_TIMEOUT)
        except BackendError:
            pass  # nothing goes on there

    async def _in_hub(self, function: Callable[[], T], timeout: float) -> T:
        if get_hub_if_exists() is self._hub:
            return function()
        work = _Work(function)
        if _call_in(self._hub, lambda: _spawn(work.run)):
            await work.ended.wait(timeout)
        if not work.ended.is_set():
            raise BackendError(
                "the thread that made the client, where its connections are, serves no greenlets"
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
        greenlet = self._greenlet = _spawn(lambda: run_blocking(self._main()))
        greenlet.name = "heksher-client"

        def tell(_: object) -> None:
            self._ended.set()

        greenlet.rawlink(tell)  # and not at main's end: it may be killed before its first step

    def cancel(self) -> None:
        # In a hook, the core's flags end it when the hook has returned.
        if self._is_started and not self._is_current():
            _call_in(self._hub, self._kill)

    def _kill(self) -> None:
        # Another thread may have started it just now: then it finds out by itself.
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
    """A loop in a thread, whose end greenlets wait for: it may need their hub to come to it."""

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
    """Greenlets, in a process that gevent has patched and in one that it has not."""

    name = "gevent"
    blocking = True

    def __init__(self) -> None:
        # Of the thread that makes the client.
        self._hub = _hub()

    def loop_key(self) -> object:
        """Return None: a client of greenlets is used from any thread.

        Raises:
            BackendError: threads are greenlets here, and the sockets would stop them all.
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
        """Return an event that greenlets of any hub, and threads without one, wait for."""
        return _Event()

    def create_transport(self, options: HttpOptions) -> Transport:
        """Return a transport over a blocking HTTP client, which stops no hub."""
        from heksher.backends._http import BlockingTransport

        transport = BlockingTransport(options, self.in_thread)
        if monkey.is_module_patched("socket"):
            hub = gevent.get_hub() if self._hub is None else self._hub
            return _InHubTransport(transport, hub, options.request_timeout)
        return _OffHubTransport(transport)

    def create_task(self, main: Callable[[], Coroutine[Any, Any, None]]) -> Task:
        """Return a task that will run *main* in a greenlet, where there are any."""
        hub = _hub()
        if hub is None:
            return _ThreadTask(main)
        # Not by its truth: a hub that has not run so far is false.
        return _GreenletTask(main, self._hub if _is_patched() and self._hub is not None else hub)

    async def in_thread(self, function: Callable[[], T]) -> T:
        """Call *function* in a native thread."""
        return await _off_hub(function)
