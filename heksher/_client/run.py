"""`Run`: one start of a client, from its first update to the end of its loop.

A run belongs to no client for good. A thread that was stuck in a name look-up when its start was given
up must not come back to life with the next start. So each start has a run of its own, and a loop asks
before each step whether its run still goes on.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TypeVar

from heksher._application_code import (
    ApplicationCodeError,
    call_application,
    calls_under_way,
    ends_caller,
    get_logger,
)
from heksher._client import forking
from heksher._client.errors import without_frames
from heksher._client.file_service import FileConnection, FileUpdater
from heksher._client.modification_lock import Ticket
from heksher._client.parts import Parts
from heksher._client.update import Updater
from heksher._text import counted, named
from heksher._wire import Exchange
from heksher.backends import _callers
from heksher.backends.base import Backend, Clock, Event
from heksher.exceptions import (
    ClientClosedError,
    DeclarationRejected,
    HeksherError,
    InvalidArgumentError,
    InvalidResponseError,
    ServiceUnreachableError,
    StartupTimeoutError,
    UnexpectedStatusError,
)
from heksher.status import DataSource

_logger = get_logger(__name__)

T = TypeVar("T")

_TOO_MANY_REQUESTS = 429

_UPDATE = "an update"


@dataclass(eq=False, slots=True)
class Reload:
    """An update that callers of `reload` wait for.

    Attributes:
        ended: set when the update has ended.
        error: what went wrong with it, or None.
    """

    ended: Event
    error: Exception | None = None


class Run:
    """One start.

    Args:
        parts: the client's.
        backend: runs the loop.
        clock: the client's.
        is_latest: whether a run is the client's latest one.
        on_cancelled: called by the loop when it is cancelled from outside.
        rests: whether the client has nothing to poll for.

    Attributes:
        starter: the thread or greenlet that makes the start, until that has ended.
        task: runs the loop.
        wake: set when the loop has something to do, or to end; cleared when an update begins.
        ready: set when an update has decided how the start ends, or there will be none.
        start_ended: set when the start has ended, and if it failed, is undone.
        start_error: why it failed; None: it succeeded, or its caller was cancelled.
        saving: set when the snapshot is written. None: nothing is to be written.
        caller: the thread or greenlet that the loop runs in.
    """

    def __init__(
        self,
        parts: Parts,
        backend: Backend,
        clock: Clock,
        *,
        is_latest: Callable[[Run], bool],
        on_cancelled: Callable[[], None],
        rests: Callable[[], bool],
    ) -> None:
        self._parts = parts
        self._backend = backend
        self._clock = clock
        self._is_latest = is_latest
        self._on_cancelled = on_cancelled
        self._rests = rests
        common = parts.settings, parts.publisher, self._publishing, self.goes_on, backend
        if isinstance(parts.connection, FileConnection):
            features = parts.options.context_features
            self._updater: Updater | FileUpdater = FileUpdater(parts.connection, features, *common)
        else:
            self._updater = Updater(self._exchange, *common, parts.snapshot)
        # The updates that callers of reload() wait for: one that has not begun, and one under way.
        self._next_reload: Reload | None = None
        self._current_reload: Reload | None = None
        # The place of the update under way in the queue for publishing.
        self._ticket: Ticket | None = None
        # What the loop is busy with.
        self._step = _UPDATE
        # The calls of the application's code that are under way.
        self._calls: list[str] = []
        self.wake = backend.create_event()
        self.ready = backend.create_event()
        self.starter: object = _callers.caller()
        self.start_ended = backend.create_event()
        self.start_error: Exception | None = None
        self.saving: Event | None = None
        self.caller: object = None
        self.task = backend.create_task(self._loop)

    def goes_on(self) -> bool:
        """Whether this is the client's latest start, and was not stopped."""
        return self._is_latest(self) and self._parts.lifecycle.is_going_on

    async def wait_until_ready(self) -> None:
        """Wait until an update has decided how the start ends, or the time for that is over."""
        timeout = self._parts.options.startup_timeout
        deadline = self._clock.now() + timeout
        while not self.ready.is_set() and (left := deadline - self._clock.now()) > 0:
            await self._clock.wait(self.ready, min(left, timeout))

    def error_of_start(self) -> Exception | None:
        """Return what is wrong with the start at this moment, or None."""
        options, history = self._parts.options, self._parts.history
        with self._parts.lock:
            error = history.last_error if history.failures else None
        if not self.ready.is_set():
            timeout = StartupTimeoutError(
                f"{self._awaited()} within "
                f"startup_timeout={counted(options.startup_timeout, 'second')}"
                f"{'' if error is None else f'; the newest error: {error}'}"
            )
            timeout.__cause__ = error
            return timeout
        if options.startup == "raise" and self._parts.overrides.error is not None:
            return InvalidArgumentError(self._parts.overrides.error)
        refusals = self._parts.settings.refusals()
        if not refusals or isinstance(error, ServiceUnreachableError):
            return error
        rejected = DeclarationRejected(refusals)
        rejected.__cause__ = error
        return rejected

    def _awaited(self) -> str:
        """Return what the start is still waiting for, as the beginning of a sentence."""
        ticket = self._ticket  # read once: the loop withdraws it
        if ticket is not None and not ticket.granted:
            return "modification_lock, which the start waits for, was not released"
        if self._calls:
            return (
                f"{self._calls[-1]}, which the start waits for, did not return (if it imports the module "
                "that starts the client, start it after the import)"
            )
        if self._step != _UPDATE:
            return f"{self._step}, which the start waits for, did not end"
        return f"{self._parts.options.http.base_url} did not answer all that a start needs"

    def end_start(self, error: Exception | None = None) -> None:
        """Tell the callers who wait for this start how it ended. Only the first call counts."""
        if not self.start_ended.is_set():
            # Not kept for longer: a greenlet keeps alive what it works on.
            self.starter, self.start_error = None, error
            self.start_ended.set()

    def request_reload(self) -> Reload:
        """Return the next update, and have it made at once. Called with the client's lock held."""
        if self._next_reload is None:
            self._next_reload = Reload(self._backend.create_event())
        self.wake.set()
        return self._next_reload

    def release(self) -> None:
        """Wake the loop and all who wait for this run, which has been stopped.

        Called with the client's lock held.
        """
        self.ready.set()
        ticket = self._ticket  # read once: the loop withdraws it without the lock
        if ticket is not None:
            ticket.event.set()
        error = ClientClosedError("the client was closed before the reload was done")
        self._end_reload(error)
        self._current_reload, self._next_reload = self._next_reload, None
        self._end_reload(error)
        self.wake.set()

    def _end_reload(self, error: Exception | None) -> None:
        reload, self._current_reload = self._current_reload, None
        if reload is not None:
            reload.error = error
            reload.ended.set()

    # --- the loop ---------------------------------------------------------------------------------

    async def _loop(self) -> None:
        """Update once, then time and again, until the run is stopped. Runs as the task."""
        self.caller = _callers.caller()
        calls_under_way.set(self._calls)
        is_due = not self.ready.is_set()  # else it goes on in a forked child
        try:
            while self.goes_on():
                try:
                    if is_due:
                        # Of what changed without an update, by the client's defaults.
                        self._parts.publisher.call_listeners()
                        loading = f"loading the snapshot {self._parts.options.snapshot}"
                        await self._attempt(loading, self._updater.load())
                        error = await self._update()
                        if not self.ready.is_set() and not self._is_start_tried_again(error):
                            self.ready.set()
                        await self._save_snapshot()
                    is_due = True
                    await self._wait_for_work()
                except BaseException as raised:
                    if isinstance(raised, KeyboardInterrupt) and _callers.pass_on(raised):
                        failure: Exception = HeksherError("the update was interrupted by Ctrl-C")
                    elif ends_caller(raised):
                        raise
                    else:
                        _logger.exception("the update loop met an unforeseen error, and goes on")
                        failure = _as_failure(_UPDATE, raised)
                    with self._parts.lock:
                        self._end_reload(failure)
                    # Not at once, since it may happen each time.
                    await self.wake.wait(self._parts.history.interval)
        finally:
            await self._end()

    async def _wait_for_work(self) -> None:
        while self.goes_on() and not self.wake.is_set():
            is_resting = forking.is_uwsgi_master() or self._rests()
            left = None if is_resting else self._parts.history.left(self._parts.home.moment())
            if left is not None and left <= 0:
                return
            await self._clock.wait(self.wake, left)

    async def _end(self) -> None:
        """The last that the task does, also when it was cancelled from outside."""
        if self.goes_on():
            # Nobody called close(): the event loop ends, or the task group around run().
            self._on_cancelled()
        with self._parts.lock:
            self.release()
        if self._is_latest(self):
            await self._parts.connection.aclose()

    async def _attempt(self, what: str, step: Awaitable[None]) -> Exception | None:
        """Take one step and return what went wrong. The loop has to live, whatever that is."""
        self._step = what
        try:
            await step
        except HeksherError as error:
            return error
        except BaseException as error:
            if ends_caller(error):
                raise
            _logger.exception("%s failed by an unforeseen error", what)
            return _as_failure(what, error)
        finally:
            self._step = _UPDATE
        return None

    async def _save_snapshot(self) -> None:
        """Write the snapshot, if there is news, even if the run was stopped. Raises nothing.

        Only closing waits for the disk.
        """
        saving = self.saving
        try:
            await self._attempt("writing the snapshot", self._updater.save())
        finally:
            self.saving = None
            if saving is not None:
                saving.set()

    # --- one update -------------------------------------------------------------------------------

    def _is_start_tried_again(self, error: Exception | None) -> bool:
        """Whether a start that may raise waits for the next update, as this one failed by *error*.

        Two processes that declare one setting at once can make a Heksher answer 500. That must not end
        the starts of a deployment, one of whose workers is always the second one.
        """
        return (
            self._parts.options.startup == "raise"
            and error is not None
            and self._parts.settings.may_be_declared_by_trying_again()
            and (
                isinstance(error, InvalidResponseError)
                or (
                    isinstance(error, UnexpectedStatusError)
                    and (error.status == _TOO_MANY_REQUESTS or error.status >= 500)
                )
            )
        )

    async def _update(self) -> Exception | None:
        """Declare what is pending and fetch all rules; return what went wrong.

        Raises nothing: the loop has to live.
        """
        now = self._clock.now()
        with self._parts.lock:
            self._current_reload, self._next_reload = self._next_reload, None
            self.wake.clear()
            is_requested = self._current_reload is not None
            self._parts.history.begin_update(is_requested=is_requested)
            self._parts.settings.begin_update(now, is_requested=is_requested)
        # After `wake` was cleared: what is defined or asked for from now on gets an update of its own.
        reading = f"reading the overrides {self._parts.options.overrides}"
        overrides = self._parts.overrides
        await self._attempt(reading, overrides.load(self._backend, self._publishing))
        updating = self._updater.update(is_requested=is_requested)
        error = await self._attempt(_UPDATE, updating)
        if not self.goes_on():
            return error  # the run was stopped, and the callers that wait were told then
        if self._updater.has_to_save:
            self.saving = self._backend.create_event()
        if error is not None:
            error = without_frames(error)  # which hold settings
        is_starting = self._note_update(error)
        self._parts.publisher.call_listeners()
        if error is not None or not is_starting:
            self.notify(error)
        with self._parts.lock:
            self._end_reload(error)
        return error

    async def _exchange(self, exchange: Exchange[T]) -> T:
        self._check_goes_on()
        answer = await self._parts.connection.exchange(exchange, self._backend)
        self._check_goes_on()
        return answer

    @asynccontextmanager
    async def _publishing(self) -> AsyncGenerator[None, None]:
        queue = self._parts.queue
        ticket = self._ticket = queue.request(self._backend.create_event())
        try:
            if self.goes_on() and not ticket.granted:
                await ticket.event.wait()
            self._check_goes_on()
            yield
            # What is published in part only counts for nothing: not for the snapshot either.
            self._check_goes_on()
        finally:
            self._ticket = None
            queue.withdraw(ticket)

    def _check_goes_on(self) -> None:
        if not self.goes_on():
            raise ClientClosedError("the client was closed, or its start was given up")

    def _note_update(self, error: Exception | None) -> bool:
        """Note how an update ended and log what changed; return whether the client is still starting.

        Then what the update brought is published, and the application told of it, when the start is done.
        """
        options, history = self._parts.options, self._parts.history
        url, now, date, chance = (
            options.http.base_url,
            self._parts.home.moment(),
            time.time(),
            options.random(),
        )
        with self._parts.lock:
            recovered = history.failures if error is None else 0
            if error is None:
                history.note_success(now, date, chance)
            else:
                history.note_failure(error, now, date, chance)
            is_starting = self._parts.lifecycle.is_starting
        if error is not None and history.failures == 1:
            has_defaults = self._parts.publisher.last_read is DataSource.DEFAULTS
            _logger.error(
                "updates from %s fail, settings keep their %s values: %s",
                url,
                "default" if has_defaults else "last",
                named(error),
            )
        elif error is not None:
            _logger.debug("%s in a row: %s", counted(history.failures, "failure"), named(error))
        elif recovered:
            _logger.info(
                "updates from %s succeed again, after %s", url, counted(recovered, "failure")
            )
        else:
            _logger.debug("updated from %s", url)
        return is_starting

    def notify(self, error: Exception | None) -> None:
        """Tell the application how an update ended."""
        name = "on_update_ok" if error is None else "on_update_error"
        try:
            call_application(name, self._parts.on_update, error)
        except ApplicationCodeError as raised:
            cause = raised.__cause__
            # Closing ends a hook that waits, by an exception of its own kind. That is no error.
            if self.goes_on() or isinstance(cause, Exception):
                _logger.error("%s raised an error; updates go on", name, exc_info=cause)


def _as_failure(what: str, error: BaseException) -> Exception:
    """Return *error* as one that `reload` may raise and hooks may get."""
    if isinstance(error, Exception):
        return error
    failure = HeksherError(f"{what} failed by an unforeseen error: {named(error)}")
    failure.__cause__ = error
    return failure
