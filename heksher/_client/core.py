"""The life of a client, written once: start, update time and again, back off, reload, close.

Ordinary coroutines against the protocols of `backends.base`: no event loop, no HTTP library, no
thread of its own. What an update does is `update.py`'s, what settings get to know `served.py`'s.

`_lock` guards the fields that more than one thread changes. It is never held across an await, nor
while the registry is called, which calls in here while it holds a lock of its own.
"""

from __future__ import annotations

import copy
import logging
import threading
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

from heksher import _registry, _wire
from heksher._client import forking, schedule
from heksher._client.modification_lock import LockQueue, Ticket
from heksher._client.settings import ServedSettings
from heksher._client.snapshot import SnapshotFile
from heksher._client.update import Updater
from heksher.backends import _callers
from heksher.backends.base import (
    LARGE,
    Backend,
    Clock,
    Event,
    HttpOptions,
    ScopedTask,
    Task,
    Transport,
    run_blocking,
)
from heksher.exceptions import (
    BackendError,
    ClientClosedError,
    ClientNotStartedError,
    ContradictingArgumentError,
    DeclarationRejected,
    HeksherError,
    InvalidArgumentError,
    InvalidResponseError,
    ServiceUnreachableError,
    StartupTimeoutError,
    UnexpectedStatusError,
    WrongEventLoopError,
)
from heksher.setting import Setting
from heksher.status import (
    ClientState,
    ClientStatus,
    DataSource,
    SettingData,
    without_frames,
)

_logger = logging.getLogger(__name__)

T = TypeVar("T")

# How long closing waits for the update loop. It ends at once, but for a thread in a name look-up.
_CLOSE_TIMEOUT = 5.0
# How long it waits for the snapshot to be written, before that goes on by itself.
_SAVE_TIMEOUT = 2.0
_MAX_REDIRECTS = 3
# Where a client is that was awaited nowhere so far.
_NOWHERE = object()
_ALIVE = (ClientState.STARTING, ClientState.RUNNING)


@dataclass(frozen=True, slots=True)
class CoreOptions:
    """What a client is configured with, checked.

    Attributes:
        http: how to reach the service.
        interval: seconds between updates.
        features: the context features that the application knows.
        raise_at_start: whether a start that fails raises, instead of going on trying.
        startup_timeout: seconds that a start may take.
        chance: gives uniformly random numbers from [0, 1).
        on_update: called after each update, with what went wrong or None.
        clock: a clock instead of the backend's, or None.
        snapshot: the path of the file that keeps the rules, or None.
    """

    http: HttpOptions
    interval: float
    features: tuple[str, ...]
    raise_at_start: bool
    startup_timeout: float
    chance: Callable[[], float]
    on_update: Callable[[Exception | None], None]
    clock: Clock | None = None
    snapshot: str | None = None


@dataclass(eq=False, slots=True)
class _Round:
    """An update that somebody waits for."""

    ended: Event
    error: Exception | None = None


@dataclass(eq=False, slots=True)
class _Run:
    """What belongs to one start.

    Not to the client: a thread that was stuck in a name look-up when its start was given up must
    not come back to life with the next start.

    Attributes:
        updater: makes the updates.
        wake: set when the loop has something to do or to end.
        ready: set when the first update has ended, or there will be none.
        task: runs the loop.
        round: the update that calls of reload() wait for.
        current_round: the one that is under way.
        ticket: what the update under way waits for, or holds, to publish.
        saving: set when the snapshot is written; None: nothing is to be written.
        unannounced: whether the first update succeeded, and the application was not told so far.
        caller: the thread or greenlet that the loop runs in.
    """

    updater: Updater
    wake: Event
    ready: Event
    task: Task = field(init=False)
    is_ready: bool = False
    stopping: bool = False
    urgent: bool = False
    round: _Round | None = None
    current_round: _Round | None = None
    ticket: Ticket | None = None
    saving: Event | None = None
    unannounced: bool = False
    caller: object = None


class Core:
    """One client's state and loops.

    Args:
        choose_backend: returns the backend, or None as long as it cannot be known.
        options: the configuration.
    """

    def __init__(self, choose_backend: Callable[[], Backend | None], options: CoreOptions) -> None:
        self._options = options
        self._choose_backend = choose_backend
        self._backend = choose_backend()
        self._lock = threading.RLock()
        self._state = ClientState.NEW
        self._served = ServedSettings(options.features)
        self._snapshot = (
            None
            if options.snapshot is None
            else SnapshotFile(
                options.snapshot,
                options.http.base_url,
                options.features,
                options.http.max_response_bytes,
            )
        )
        self.publishing = LockQueue()

        # Of the place (the event loop) that the client lives in, from the first await on.
        self._loop_key: object = _NOWHERE
        self._clock: Clock | None = None
        self._transport: Transport | None = None
        # Whether this is the copy in a forked child.
        self._is_inherited = False
        # There: what was left behind of an event loop that is the parent's. Neither used nor thrown
        # away, since it would reach over to the parent by what both processes have open.
        self._left_behind: list[object] = []
        # What it is while it does not run.
        self._at_rest = ClientState.NEW

        self._run: _Run | None = None
        self._due = 0.0
        self._failures = 0
        # Those that the next pause counts: a reload begins anew.
        self._retries = 0
        self._last_error: Exception | None = None
        self._last_success: float | None = None
        # The same by the clock on the wall.
        self._succeeded_at: float | None = None
        self._failed_at: float | None = None
        self._polls = 0
        self._bytes_received = 0

        # From now on: one that was never started has locks, and connections once it has pinged.
        forking.watch(self)

    # --- configuration, in any thread -------------------------------------------------------------

    def set_defaults(self, sources: Mapping[str, str | ContextVar[str]]) -> None:
        """Give context features values for the calls that leave them out."""
        self._served.set_defaults(sources)

    def track_contexts(self, contexts: Mapping[str, str | Iterable[str]]) -> None:
        """Track these contexts as well, from the next update on."""
        self._served.track_contexts(contexts)

    def add_settings(self, settings: Iterable[Setting[Any]]) -> None:
        """Serve these settings, whichever the main client is."""
        if isinstance(settings, Setting):
            raise InvalidArgumentError(
                f"add_settings: {settings!r} is one setting; a list is wanted: add_settings([...])"
            )
        added = list(settings)
        for setting in added:
            if not isinstance(setting, Setting):
                raise InvalidArgumentError(f"add_settings: {setting!r} is no heksher.Setting")
        self._served.attach(added, own=True)
        for setting in added:
            _registry.move_to(setting, self)
        self._hurry()

    def attach(self, settings: Iterable[Setting[Any]]) -> None:
        """Serve these settings as the main client. For the registry."""
        self._served.attach(settings)
        self._hurry()

    def detach(self, settings: Iterable[Setting[Any]] | None) -> None:
        """Stop serving these settings; None: all that came from the registry. For the registry."""
        self._served.detach(settings)

    def _hurry(self) -> None:
        """Have the next update made at once."""
        with self._lock:
            run = self._run
            if run is not None:
                run.urgent = True
        if run is not None:
            run.wake.set()

    @property
    def status(self) -> ClientStatus:
        """How the client is doing at this moment."""
        report = self._served.report()
        with self._lock:
            staleness = None
            if self._clock is not None and self._last_success is not None:
                staleness = max(0.0, self._clock.now() - self._last_success)
            return ClientStatus(
                self._state,
                staleness,
                self._failures,
                self._last_error,
                *report,
                self._served.source_in_force,
                self._succeeded_at,
                self._failed_at,
                self._polls,
                self._bytes_received,
                None if self._snapshot is None else self._snapshot.status,
            )

    def create_event(self) -> Event:
        """Return an event of the place where the client lives."""
        return self._enter().create_event()

    # --- start ------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Become the main client and run the update loop in the background.

        Returns at once if the client runs already.

        Raises:
            ClientClosedError: it was closed.
            ContradictingArgumentError: a main client with other context features runs.
            HeksherError: the first update failed, or took too long, and a failing start raises.
        """
        run = self._prepare_start(self._enter())
        if run is None:
            return
        former = self._take_place()
        try:
            await run.task.start()
            await self._finish_start(run)
        except BaseException:
            await self._take_start_back(run, former)
            raise

    async def run(self, started: Callable[[], None]) -> None:
        """Run the update loop in a task group of the caller's task, until the client is closed.

        Args:
            started: called once the client is ready.

        Raises: as `start`.
        """
        run = self._prepare_start(self._enter())
        if run is None:
            raise HeksherError("the client runs already; run() starts it, so call just one of both")
        former = self._take_place()
        failure: Exception | None = None
        try:
            async with cast(ScopedTask, run.task).in_caller():
                try:
                    await self._finish_start(run)
                    started()
                    await run.task.wait(None)
                except Exception as error:
                    failure = error  # raised below: a task group would wrap it in a group
                    run.stopping = True
        except BaseException:
            await self._take_start_back(run, former)
            raise
        if failure is not None:
            await self._take_start_back(run, former)
            raise failure

    def _take_place(self) -> _registry.MainClient | None:
        """Become the main client, and return the one before; if that cannot be, nothing was started."""
        try:
            return _registry.set_main(self)
        except BaseException:
            with self._lock:
                if self._state is not ClientState.CLOSED:
                    self._state = self._at_rest
                self._run = None
            raise

    def _enter(self) -> Backend:
        """Return the backend, chosen by now at the latest, and see that its place is here."""
        if self._backend is None:
            self._backend = self._choose_backend()
        backend = self._backend
        if backend is None:
            raise BackendError(
                'neither asyncio nor trio runs here, and a client with backend="auto" needs one of them'
            )
        key = backend.loop_key()
        with self._lock:
            if self._loop_key is _NOWHERE:
                clock = self._options.clock or backend.create_clock()
                if self._clock is not None and self._last_success is not None:
                    # Each clock of an event loop begins where it likes.
                    self._last_success += clock.now() - self._clock.now()
                self._loop_key, self._clock = key, clock
            elif key is not self._loop_key:
                raise WrongEventLoopError(
                    "the client lives in another event loop than the one that runs here; "
                    "make one client for each event loop"
                )
        return backend

    def _refuse_if_closed(self) -> None:
        """Called with the lock held."""
        if self._state is ClientState.CLOSED:
            raise ClientClosedError("the client was closed, which is final; make a new client")

    def _prepare_start(self, backend: Backend) -> _Run | None:
        """Return what to start, or None if the client runs already."""
        former = _registry.main()
        with self._lock:
            self._refuse_if_closed()
            if self._state is ClientState.RUNNING:
                return None
            if self._state is ClientState.STARTING:
                raise HeksherError("the client is being started by another task or thread already")
            self._check_handover(former)

            run = self._run = self._create_run(backend)
            self._state = ClientState.STARTING
            self._failures = self._retries = 0
            self._last_error = None
            self._served.begin()
            return run

    def _create_run(self, backend: Backend) -> _Run:
        """Return what a loop needs, its task not yet started."""

        async def exchange(asked: _wire.Exchange[T]) -> T:
            answer = await self._exchange(asked)
            if run.stopping:
                raise ClientClosedError("the client was closed, or its start was given up")
            return answer

        @asynccontextmanager
        async def publishing() -> AsyncGenerator[None, None]:
            ticket = run.ticket = self.publishing.request(backend.create_event())
            try:
                if not run.stopping and not ticket.granted:
                    await ticket.event.wait()
                if run.stopping:
                    raise ClientClosedError("the client was closed, or its start was given up")
                yield
            finally:
                run.ticket = None
                self.publishing.withdraw(ticket)

        run = _Run(
            Updater(exchange, self._served, publishing, backend, self._snapshot),
            backend.create_event(),
            backend.create_event(),
        )
        run.task = backend.create_task(lambda: self._main(run))
        return run

    def _check_handover(self, former: _registry.MainClient | None) -> None:
        if not isinstance(former, Core) or former is self:
            return
        theirs, ours = former._options.features, self._options.features
        if set(theirs) != set(ours):
            raise ContradictingArgumentError(
                f"the main client that runs has the context features {', '.join(theirs)}, "
                f"this one has {', '.join(ours)}: its settings cannot be handed over; "
                "close the former one first, or give both the same features"
            )
        _logger.warning(
            "another main client still runs; its settings are handed over and it stops refreshing them"
        )

    async def _finish_start(self, run: _Run) -> None:
        """Wait for the first update, decide what its result means, and put it in force."""
        is_ready = await self._wait_until_ready(run)
        error: Exception | None
        if not is_ready:
            error = StartupTimeoutError(
                f"{self._options.http.base_url} did not answer all that a start needs within "
                f"{self._options.startup_timeout:g} seconds"
            )
        else:
            error = self._last_error if self._failures else None
            refusals = self._served.refusals()
            if refusals and not isinstance(error, ServiceUnreachableError):
                rejected = DeclarationRejected(refusals)
                rejected.__cause__ = error
                error = rejected
        with self._lock:
            if self._state is ClientState.CLOSED:
                raise ClientClosedError("the client was closed while it started")
            if self._run is not run:
                raise ClientNotStartedError(
                    "the process was forked while the client started; start it again in this one"
                )
            # A client that cannot be made is no outage: waiting mends nothing.
            raises = self._options.raise_at_start or isinstance(error, InvalidArgumentError)
            if error is not None and raises:
                raise _to_raise(error)
            if not is_ready:
                self._last_error = error
            self._state = ClientState.RUNNING
            self._served.put_in_force()
            announce, run.unannounced = run.unannounced, False
        if announce:
            self._tell(None)
        if not is_ready:
            _logger.error("%s; settings keep their values, and it goes on trying", error)
        _logger.info(
            "started on %s with %s%s",
            self._backend_name(),
            self._options.http.base_url,
            "" if error is None else ", without all that it asked for; it goes on trying",
        )

    async def _wait_until_ready(self, run: _Run) -> bool:
        clock = self._clock
        assert clock is not None
        deadline = clock.now() + self._options.startup_timeout
        while not run.is_ready and (left := deadline - clock.now()) > 0:
            await clock.wait(run.ready, left)
        return run.is_ready

    async def _take_start_back(self, run: _Run, former: _registry.MainClient | None) -> None:
        """After a start that failed: leave nothing running, and the client as it was before."""
        if self._run is not run:
            return  # in a forked child, `revive` has done that
        ended = False
        try:
            _registry.replace_main(self, former)
            if isinstance(former, Core) and former._state not in _ALIVE:
                # It was closed meanwhile. Closing sets the state first and steps down then.
                _registry.step_down(former)
        finally:
            try:
                ended = await self._end(run)
            finally:
                transport: Transport | None = None
                with self._lock:
                    if self._state is not ClientState.CLOSED:
                        self._state = self._at_rest
                        self._run = None
                        if not ended:  # else its last act was to close it
                            transport, self._transport = self._transport, None
                if transport is not None:
                    await transport.aclose()

    # --- fork -------------------------------------------------------------------------------------

    @property
    def locks(self) -> tuple[threading.RLock, ...]:
        """Held while the process forks, so that a child finds them free, and what they guard whole."""
        return self._lock, self._served.lock, self.publishing.guard

    def revive(self, is_stale: bool = False) -> None:
        """In a forked child: go on with a loop and connections of its own; the parent keeps its own.

        Args:
            is_stale: whether the parent rested, so that the first update is due at once.
        """
        self._served.catch_up()
        run, backend = self._run, self._backend
        if backend is None:
            return
        if not backend.blocking:
            self._move_out()
            return
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.abandon()
        self._is_inherited = True
        self.publishing.forget_other_threads()
        if run is not None:
            run.stopping = True  # a hook may have forked: then its thread is the parent's loop
            run.task.cancel()  # greenlets live on in a child, and so would the parent's loop
        if self._state is ClientState.STARTING:
            # The thread that starts it is not here. It can be started again.
            self._state = ClientState.NEW
            self._run = None
            _registry.replace_main(self, None)
        if self._state is not ClientState.RUNNING or run is None:
            return
        assert self._clock is not None
        self._run = self._create_run(backend)
        self._run.is_ready = True
        # Not at once: a server forks all its workers at one moment, and some forks end in an exec.
        delay = schedule.first_delay(self._options.interval, self._chance())
        self._due = self._clock.now() + (0.0 if is_stale else delay)
        try:
            run_blocking(self._run.task.start())
        except BaseException:
            # Whoever wants may start it again; nobody waits for a loop that is not there.
            self._state = self._at_rest = ClientState.INHERITED
            self._run = None
            raise

    def _move_out(self) -> None:
        """In a forked child: leave the event loop, which does not live on here.

        The settings keep their values, and the client can be started in an event loop of the child's.
        """
        if self._state is ClientState.CLOSED:
            return
        if self._run is not None:
            self._run.stopping = True  # whoever runs the parent's loop here after all
        self._left_behind += self._run, self._transport, self._backend
        self._run = self._transport = self._backend = None
        self._loop_key = _NOWHERE
        self._is_inherited = True
        self.publishing.forget_all()
        if self._state is ClientState.RUNNING:
            self._state = self._at_rest = ClientState.INHERITED
        elif self._state is ClientState.STARTING:
            self._state = ClientState.NEW
            _registry.replace_main(self, None)

    # --- close ------------------------------------------------------------------------------------

    async def close(self) -> None:
        """Stop the update loop and close all connections; settings keep their last rules."""
        with self._lock:
            self._state = ClientState.CLOSED
            run, transport = self._run, self._transport
            if run is not None:
                run.stopping = True
        _registry.step_down(self)
        self._served.close()
        if self._is_elsewhere():
            # Its event loop is another one, or has ended. What can be told across is told.
            if run is not None:
                run.task.cancel()
        elif run is not None:
            await self._end(run)
        elif transport is not None:
            await transport.aclose()

    def _is_elsewhere(self) -> bool:
        if self._backend is None or self._clock is None:
            return False
        try:
            return self._backend.loop_key() is not self._loop_key
        except HeksherError:
            return True

    async def _end(self, run: _Run) -> bool:
        """End the update loop, wherever it is, and return whether it has ended."""
        self._let_go(run)
        run.wake.set()
        saving = run.saving
        if saving is not None and not self._is_in_loop(run):
            await saving.wait(_SAVE_TIMEOUT)
        run.task.cancel()
        transport = self._transport
        if transport is not None:
            transport.abort()
        ended = await run.task.wait(_CLOSE_TIMEOUT)
        if not ended and not self._is_in_loop(run):
            _logger.warning(
                "the update loop has not ended within %g seconds and is left alone; "
                "it ends by itself, as soon as the call that it is in returns",
                _CLOSE_TIMEOUT,
            )
        return ended

    def _is_in_loop(self, run: _Run) -> bool:
        """Whether it is the update loop's own thread that asks: in a hook, or a validator."""
        is_blocking = self._backend is not None and self._backend.blocking
        return is_blocking and run.caller == _callers.caller()

    def _let_go(self, run: _Run) -> None:
        """Stop *run*, and tell everybody who waits for it that it will not come."""
        with self._lock:
            run.stopping = run.is_ready = True
            rounds = (run.round, run.current_round)
            run.round = run.current_round = None
            ticket = run.ticket
        run.ready.set()
        if ticket is not None:
            ticket.event.set()
        for round_ in rounds:
            if round_ is not None:
                round_.error = ClientClosedError("the client was closed before the reload was done")
                round_.ended.set()

    # --- what the application asks for ------------------------------------------------------------

    async def reload(self) -> None:
        """Return once rules that were read after this call began are in force.

        Raises:
            ClientNotStartedError: before the start.
            ClientClosedError: after the end.
            HeksherError: what went wrong with that update, or it is an update that calls.
        """
        backend = self._enter()
        with self._lock:
            self._refuse_if_closed()
            if self._state is ClientState.INHERITED:
                raise ClientNotStartedError(
                    "the client ran in the process that forked, and nobody runs it in this one: "
                    "start it in this process, by set_as_main() or run(), before reload()"
                )
            if self._state is ClientState.NEW:
                raise ClientNotStartedError(
                    "the client was not started: call set_as_main(), or enter it with a with-statement, "
                    "before reload()"
                )
            run = self._run
            if run is None or run.stopping:
                raise ClientNotStartedError("the client's start has just failed: start it again")
            if self._is_in_loop(run):
                raise HeksherError(
                    "reload() waits for an update, and was called by one: in a hook, a validator or "
                    "on_coerce; call it in another thread"
                )
            if run.round is None:
                run.round = _Round(backend.create_event())
            round_ = run.round
        self._hurry()
        await round_.ended.wait()
        if round_.error is not None:
            raise _to_raise(round_.error)

    async def ping(self) -> None:
        """Return if the service says that it is well."""
        await self._ask(_wire.health())

    async def get_settings(self) -> dict[str, SettingData]:
        """Return all settings of the service by name."""
        return await self._ask(_wire.settings())

    async def _ask(self, exchange: _wire.Exchange[T]) -> T:
        self._enter()
        with self._lock:
            self._refuse_if_closed()
        return await self._exchange(exchange)

    async def _exchange(self, exchange: _wire.Exchange[T]) -> T:
        """Send a request, follow what may be followed, and read the answer."""
        with self._lock:
            self._refuse_if_closed()  # a transport that is made now would never be closed
            http = self._options.http
            if self._is_inherited and (http.has_ready_client or http.has_ready_transport):
                # Its locks may be held by threads that are not here.
                what = "http_client" if http.has_ready_client else "transport"
                raise BackendError(
                    f"the {what} that was handed in belongs to the process that forked, and is not "
                    "used in this one: hand in http_client=, a callable that makes a client"
                )
            if self._transport is None:
                assert self._backend is not None
                self._transport = self._backend.create_transport(self._options.http)
            transport = self._transport
        request = exchange.request
        response = await transport.send(request)
        received = len(response.body)
        for _ in range(_MAX_REDIRECTS):
            moved = _wire.redirected(self._options.http.base_url, request, response)
            if moved is None:
                break
            request = moved
            response = await transport.send(request)
            received += len(response.body)
        with self._lock:
            self._bytes_received += received
        if response.status not in exchange.request.expected:
            raise transport.status_error(exchange.request, response)
        try:
            if len(response.body) < LARGE:
                return exchange.read(response)
            assert self._backend is not None
            return await self._backend.in_thread(lambda: exchange.read(response))
        except InvalidResponseError as error:
            raise transport.invalid_response(exchange.request, error) from error.__cause__

    # --- the update loop --------------------------------------------------------------------------

    async def _main(self, run: _Run) -> None:
        """Update once, then time and again, until the client is closed. Runs as the task."""
        assert self._clock is not None
        run.caller = _callers.caller()
        is_due = not run.is_ready  # else it goes on in a forked child
        try:
            while not run.stopping:
                try:
                    if is_due:
                        await self._load(run)
                        await self._update(run)
                        if not run.is_ready:
                            run.is_ready = True
                            run.ready.set()
                        await self._save(run)
                    is_due = True
                    await self._wait_for_work(run, self._clock)
                except KeyboardInterrupt as interrupt:
                    if not _callers.pass_on(interrupt):
                        raise
                    self._end_round(run, HeksherError("the update was interrupted by Ctrl-C"))
        finally:
            await self._shut_down(run)

    async def _wait_for_work(self, run: _Run, clock: Clock) -> None:
        while not run.stopping and not run.urgent:
            left = None if forking.is_mould() else self._due - clock.now()
            if left is not None and left <= 0:
                return
            await clock.wait(run.wake, left)
            run.wake.clear()

    async def _shut_down(self, run: _Run) -> None:
        """The last that the task does, also when it was cancelled from outside."""
        transport: Transport | None = None
        with self._lock:
            if self._run is run:
                transport, self._transport = self._transport, None
                if not run.stopping:
                    # Nobody called close(): the event loop ends, or the task group around run().
                    self._state = ClientState.CLOSED
            is_closed = self._state is ClientState.CLOSED
        self._let_go(run)
        if is_closed:
            self._served.close()
            _registry.step_down(self)
        if transport is not None:
            await transport.aclose()

    async def _load(self, run: _Run) -> None:
        """Have the settings read the snapshot, if it is time for that. Raises nothing."""
        try:
            await run.updater.load()
        except ClientClosedError:
            pass  # who waits is told so
        except Exception:
            _logger.exception("loading the snapshot failed by an unforeseen error")

    async def _save(self, run: _Run) -> None:
        """Write the snapshot, if it is to be; also if the loop is to end by now. Raises nothing.

        Nobody waits for the disk but who closes the client.
        """
        saving = run.saving
        try:
            await run.updater.save()
        except Exception:
            _logger.exception("writing the snapshot failed by an unforeseen error")
        finally:
            run.saving = None
            if saving is not None:
                saving.set()

    async def _update(self, run: _Run) -> None:
        """Declare what is pending and fetch all rules. Raises nothing: the loop has to live."""
        with self._lock:
            run.current_round, run.round = run.round, None
            run.urgent = False
            self._polls += 1
            if run.current_round is not None:
                self._retries = 0
        error: Exception | None = None
        try:
            await run.updater.update()
        except HeksherError as failure:
            error = failure
        except Exception as failure:
            _logger.exception("an update failed by an unforeseen error")
            error = failure
        if run.stopping:
            return  # what went wrong is that the client was closed; who waits is told so
        if run.updater.has_to_save:
            assert self._backend is not None
            run.saving = self._backend.create_event()
        if error is not None:
            error = without_frames(error)  # which hold settings
        self._schedule(error)
        with self._lock:
            # What came with the first update is in force only when the start is done.
            run.unannounced = error is None and self._state is ClientState.STARTING
        if not run.unannounced:
            self._tell(error)
        self._end_round(run, error)

    def _end_round(self, run: _Run, error: Exception | None) -> None:
        """Tell those who wait for the update under way how it ended."""
        with self._lock:
            round_, run.current_round = run.current_round, None
        if round_ is not None:
            round_.error = error
            round_.ended.set()

    def _tell(self, error: Exception | None) -> None:
        """Tell the application how an update ended; nothing that it does then ends the loop."""
        try:
            self._options.on_update(error)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as raised:
            # Whatever it is: the error of a cancelled future would end the loop without a word.
            if self._state is ClientState.CLOSED and not isinstance(raised, Exception):
                return  # closing has ended it
            name = "on_update_ok" if error is None else "on_update_error"
            _logger.exception("%s raised an error; updates go on", name)

    def _chance(self) -> float:
        """Return a random number; nothing that was handed in ends the loop."""
        try:
            chance = self._options.chance()
            return chance if 0 <= chance <= 1 else 1.0
        except Exception:
            _logger.warning("the random source that was handed in failed", exc_info=True)
            return 1.0

    def _schedule(self, error: Exception | None) -> None:
        """Note how an update ended, and when the next one is due."""
        assert self._clock is not None
        interval, chance = self._options.interval, self._chance()
        now = self._clock.now()
        url = self._options.http.base_url
        with self._lock:
            if error is None:
                recovered, self._failures = self._failures, 0
                self._retries = 0
                self._succeeded_at = time.time()
                is_first = self._last_success is None
                self._last_success = now
                delay = schedule.first_delay if is_first else schedule.next_delay
                self._due = now + delay(interval, chance)
            else:
                recovered = 0
                self._failures += 1
                self._retries += 1
                self._failed_at = time.time()
                self._last_error = error
                retry_after = (
                    error.retry_after if isinstance(error, UnexpectedStatusError) else None
                )
                self._due = now + schedule.retry_delay(interval, chance, self._retries, retry_after)
        if error is not None and self._failures == 1:
            _logger.error(
                "updates from %s fail, settings keep their %s values: %s",
                url,
                "default" if self._served.source is DataSource.DEFAULTS else "last",
                error,
            )
        elif error is not None:
            _logger.debug("update %d in a row failed: %s", self._failures, error)
        elif recovered:
            _logger.info("updates from %s succeed again, after %d failures", url, recovered)
        else:
            _logger.debug("updated from %s", url)

    def _backend_name(self) -> str:
        return self._backend.name if self._backend is not None else "auto"


def _to_raise(error: Exception) -> Exception:
    """Return a copy of an error that is kept, or goes to several callers.

    Raising adds the raiser's frames to an error, and with them all that those hold.
    """
    try:
        copied = copy.copy(error)
    except Exception:  # somebody else's class, which cannot be copied
        return error
    copied.__cause__ = error.__cause__
    return copied
