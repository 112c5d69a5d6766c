"""What the core needs of whatever runs its loops and does its I/O.

The core is ordinary coroutines against these protocols. An asynchronous backend runs them in an
event loop. A blocking one drives them to completion by sending None once (`run_blocking`): all its
coroutines block inside and never suspend. Somebody else's backend is an object with these methods;
it is stateless, so that one may serve several clients.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar, runtime_checkable

from heksher._wire import Request, Response
from heksher.exceptions import BackendError, InvalidResponseError, UnexpectedStatusError

T = TypeVar("T")

#: From this many bytes on, a body is worked on by `Backend.in_thread`: smaller ones take less time
#: than an event loop spares.
LARGE = 64 * 1024


@dataclass(frozen=True, slots=True)
class HttpOptions:
    """How to reach the service.

    Attributes:
        base_url: the service's address with a slash at the end and without user name or password.
        auth: user name and password from the address, or None. Never shown.
        client_args: keyword arguments for the HTTP client. Never shown.
        client: a ready HTTP client, which is used and not closed, or a callable that makes one.
        request_timeout: seconds that one whole request may take.
        max_response_bytes: what one answer may hold, decompressed.
    """

    base_url: str
    auth: tuple[str, str] | None = field(default=None, repr=False)
    client_args: Mapping[str, Any] = field(default_factory=dict[str, Any], repr=False)
    client: Any = field(default=None, repr=False)
    request_timeout: float = 30.0
    max_response_bytes: int = 64 * 1024 * 1024

    @property
    def has_ready_client(self) -> bool:
        """Whether `client` is a ready one."""
        return hasattr(self.client, "build_request") and not isinstance(self.client, type)

    @property
    def has_ready_transport(self) -> bool:
        """Whether the arguments hold transports, which are made and can be used just once."""
        return not {"transport", "mounts"}.isdisjoint(self.client_args)


class Event(Protocol):
    """A flag to wait for."""

    def set(self) -> None:
        """Raise the flag, from any thread or task, also after the event loop has ended."""
        ...

    def clear(self) -> None:
        """Lower the flag."""
        ...

    def is_set(self) -> bool:
        """Whether the flag is up. Callable in any thread."""
        ...

    async def wait(self, timeout: float | None = None) -> None:
        """Return once the flag is up, or after *timeout* seconds of the backend's time."""
        ...


class Clock(Protocol):
    """Time as the core sees it. Tests hand in one of their own."""

    def now(self) -> float:
        """Seconds from some fixed moment, never going back. Callable in any thread."""
        ...

    async def wait(self, event: Event, timeout: float | None) -> None:
        """Return once *event* is set, or after *timeout* seconds; sooner does no harm."""
        ...


class Transport(Protocol):
    """Does HTTP. Requests may be under way at the same time."""

    async def send(self, request: Request) -> Response:
        """Send *request* and read the whole answer, whatever its status; follow no redirect.

        Raises:
            ServiceUnreachableError: no answer came, in time and within the bounds.
        """
        ...

    def status_error(self, request: Request, response: Response) -> UnexpectedStatusError:
        """Return the error for a status that means no success."""
        ...

    def invalid_response(
        self, request: Request, error: InvalidResponseError
    ) -> InvalidResponseError:
        """Return the error for an answer that cannot be read, for the reason that *error* tells."""
        ...

    def abort(self) -> None:
        """End what is under way and refuse what comes. From any thread, without blocking."""
        ...

    def abandon(self) -> None:
        """In a forked child: let all connections go, without a word on them, and take no lock.

        They are the parent's, as is whatever the parent's other threads held. It is not used again.
        Called for blocking backends only.
        """
        ...

    async def aclose(self) -> None:
        """Close all connections. May be called more than once."""
        ...


class Task(Protocol):
    """One coroutine function that runs beside the caller."""

    async def start(self) -> None:
        """Run it in the background. It outlives the caller, and lets no exception out."""
        ...

    def cancel(self) -> None:
        """Ask it to end, from any thread. Where nothing can be cancelled this does nothing."""
        ...

    async def wait(self, timeout: float | None) -> bool:
        """Wait until it has ended or *timeout* seconds are over; return whether it has ended.

        With a timeout, a cancellation of the caller waits as well.
        """
        ...


@runtime_checkable
class Backend(Protocol):
    """Runs loops and does I/O.

    Attributes:
        name: for messages.
        blocking: whether its coroutines block instead of suspending; such a backend serves
            `ThreadHeksherClient`, any other one `AsyncHeksherClient`.
    """

    @property
    def name(self) -> str: ...

    @property
    def blocking(self) -> bool: ...

    def loop_key(self) -> object:
        """Return the key of the event loop that is running here.

        Two calls return the same object if and only if they are made in the same event loop. A
        backend whose clients are not bound to an event loop returns None.

        Raises:
            BackendError: this backend cannot run here.
        """
        ...

    def create_clock(self) -> Clock:
        """Return the clock of this place."""
        ...

    def create_event(self) -> Event:
        """Return an event for this place."""
        ...

    def create_transport(self, options: HttpOptions) -> Transport:
        """Return a transport for this place. It opens no connection before it is used."""
        ...

    def create_task(self, main: Callable[[], Coroutine[Any, Any, None]]) -> Task:
        """Return a task that will run *main*, once it is started."""
        ...

    async def in_thread(self, function: Callable[[], T]) -> T:
        """Call *function*, which takes its time, where it holds up no event loop.

        When the caller is cancelled the function goes on by itself, and what comes of it is lost.
        """
        ...


class ScopedTask(Task, Protocol):
    """A task that can also run in a task group of the caller's task."""

    def in_caller(self) -> AbstractAsyncContextManager[None]:
        """Run it inside the ``async with`` block; at the block's end it is cancelled."""
        ...


class AsyncBackend(Backend, Protocol):
    """A backend of an event loop."""

    def create_task(self, main: Callable[[], Coroutine[Any, Any, None]]) -> ScopedTask:
        """Return a task that will run *main*, once it is started or entered."""
        ...


def run_blocking(coroutine: Awaitable[T]) -> T:
    """Drive a coroutine whose awaits never suspend, and return what it returns.

    Raises:
        BackendError: it suspended: something in it is not of a blocking backend.
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
    raise BackendError("a coroutine of a blocking backend suspended, where nothing can resume it")
