"""The contract between the core and its backends.

The core is ordinary coroutines against these protocols. An asynchronous backend runs them in an event
loop. A blocking backend drives each to its end in one step (`run_blocking`): all its coroutines block
inside and never suspend. A backend of an application's own is an object with the methods of `Backend`;
it keeps no state, so that one object can serve several clients.

Knows requests and answers as values, and neither an event loop nor an HTTP library.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar, runtime_checkable

from heksher._wire import Request, Response
from heksher.exceptions import BackendError, InvalidResponseError, UnexpectedStatusError

T = TypeVar("T")

#: `process` leaves bodies of at least this many bytes to a thread. Smaller ones take less time than an
#: event loop can spare.
LARGE = 64 * 1024


@dataclass(frozen=True, slots=True)
class HttpOptions:
    """How to reach the service.

    Attributes:
        base_url: the service's address, with a slash at the end and without user name or password.
        auth: user name and password from the address, or None. Never shown.
        client_args: keyword arguments for the HTTP client. Never shown.
        client: a ready HTTP client, which is used and not closed, or a callable that makes one.
        request_timeout: how many seconds one whole request may take.
        max_response_bytes: how many bytes an answer may have, decompressed.
    """

    base_url: str
    auth: tuple[str, str] | None = field(default=None, repr=False)
    client_args: Mapping[str, Any] = field(default_factory=dict[str, Any], repr=False)
    client: Any = field(default=None, repr=False)
    request_timeout: float = 30.0
    max_response_bytes: int = 10 * 1024 * 1024

    @property
    def has_ready_client(self) -> bool:
        """Whether `client` is a ready one."""
        return hasattr(self.client, "build_request") and not isinstance(self.client, type)

    @property
    def has_ready_transport(self) -> bool:
        """Whether the arguments hold transports, which exist already and can be used only once."""
        return not {"transport", "mounts"}.isdisjoint(self.client_args)

    @property
    def makes_clients(self) -> bool:
        """Whether any number of HTTP clients can be made, since nothing was handed in ready."""
        return not (self.has_ready_client or self.has_ready_transport)


class Event(Protocol):
    """A flag to wait for."""

    def set(self) -> None:
        """Set the flag. Callable in any thread or task, even after the event loop has ended.

        It must not run those that wait before it returns: the caller may hold a lock that they need.
        """

    def clear(self) -> None:
        """Clear the flag."""

    def is_set(self) -> bool:
        """Whether the flag is set. Callable in any thread."""
        ...

    async def wait(self, timeout: float | None = None) -> None:
        """Return once the flag is set, or after *timeout* seconds of the backend's time."""


class Clock(Protocol):
    """Time as the core sees it. Tests pass one of their own."""

    def now(self) -> float:
        """Return seconds since a fixed moment, never going back. Callable in any thread."""
        ...

    async def wait(self, event: Event, timeout: float | None) -> None:
        """Return once *event* is set, or after *timeout* seconds. Leave *event* as it is.

        Returning early does no harm.
        """


class Transport(Protocol):
    """Makes HTTP requests, several at the same time if it is asked to."""

    async def send(self, request: Request) -> Response:
        """Send *request* and read the whole answer, whatever its status. Follow no redirect.

        Raises:
            ServiceUnreachableError: there was no answer in time and within the bounds.
        """
        ...

    def status_error(self, request: Request, response: Response) -> UnexpectedStatusError:
        """Return the error for a status that does not mean success."""
        ...

    def invalid_response(
        self, request: Request, error: InvalidResponseError
    ) -> InvalidResponseError:
        """Return the error for an answer that cannot be read, for the reason that *error* gives."""
        ...

    def abort(self) -> None:
        """End the requests in progress and refuse new ones. Callable in any thread; does not block."""

    def abandon(self) -> None:
        """In a forked child, drop all connections without sending anything, and take no lock.

        The connections belong to the parent, and so do locks that other threads of the parent held. The
        transport is not used again. Called on transports of blocking backends only.
        """

    async def aclose(self) -> None:
        """Close all connections. May be called more than once."""


class Task(Protocol):
    """One coroutine function that runs beside the caller."""

    async def start(self) -> None:
        """Run it in the background, in a fresh `contextvars.Context`.

        It outlives the caller, and lets no exception out.
        """

    def cancel(self) -> None:
        """Ask it to end. Callable in any thread. Does nothing where nothing can be cancelled."""

    async def wait(self, timeout: float | None) -> bool:
        """Wait until it has ended or *timeout* seconds are over; return whether it has ended.

        With a timeout, a cancellation of the caller takes effect after the wait.
        """
        ...


@runtime_checkable
class Backend(Protocol):
    """Runs loops and does I/O.

    Attributes:
        name: for messages.
        blocking: whether its coroutines block instead of suspending. Such a backend serves
            `ThreadHeksherClient`, any other one `AsyncHeksherClient`.
    """

    @property
    def name(self) -> str: ...

    @property
    def blocking(self) -> bool: ...

    def loop_key(self) -> object:
        """Return the key of the event loop that is running here.

        Two calls return the same object if and only if they are made in the same event loop. A backend
        whose clients are not bound to an event loop returns None.

        Raises:
            BackendError: this backend cannot run here.
        """
        ...

    def create_clock(self) -> Clock:
        """Return the clock of the running event loop."""
        ...

    def create_event(self) -> Event:
        """Return an event for the running event loop."""
        ...

    def create_transport(self, options: HttpOptions) -> Transport:
        """Return a transport for the running event loop. It connects when it is used."""
        ...

    def create_task(self, main: Callable[[], Coroutine[Any, Any, None]]) -> Task:
        """Return a task that will run *main* once it is started."""
        ...

    async def in_thread(self, function: Callable[[], T]) -> T:
        """Call *function*, which takes long, where it holds up no event loop.

        If the caller is cancelled, the function goes on, and its result is dropped.
        """
        ...


class ScopedTask(Task, Protocol):
    """A task that can also run in a task group of the caller's task."""

    def in_caller(self) -> AbstractAsyncContextManager[None]:
        """Run it inside the ``async with`` block, at whose end it is cancelled.

        It has a fresh `contextvars.Context` here as well.
        """
        ...


class AsyncBackend(Backend, Protocol):
    """A backend of an event loop."""

    def create_task(self, main: Callable[[], Coroutine[Any, Any, None]]) -> ScopedTask:
        """Return a task that will run *main* once it is started or entered."""
        ...


async def process(backend: Backend, size: int, function: Callable[[], T]) -> T:
    """Call *function*, which processes *size* bytes, here or where it holds up no event loop."""
    return function() if size < LARGE else await backend.in_thread(function)


def run_blocking(coroutine: Awaitable[T]) -> T:
    """Run a coroutine whose awaits never suspend, and return its result.

    Raises:
        BackendError: it suspended, because something in it does not belong to a blocking backend.
    """
    steps = coroutine.__await__()
    try:
        next(iter(steps))
    except StopIteration as done:
        result: T = done.value
        return result
    close = getattr(steps, "close", None)
    if close is not None:
        close()
    raise BackendError(
        "a coroutine of a blocking backend suspended, and nothing can resume it; "
        "let all coroutines of a backend whose `blocking` is true block instead"
    )
