"""The life of a client, written once: start, update time and again, back off, reload, close.

Ordinary coroutines against the protocols of `backends.base`: no event loop, no HTTP library, no
thread of its own. What an update does is `update.py`'s, what settings get to know `served.py`'s.

`_lock` guards the fields that more than one thread changes. It is never held across an await, nor
while the registry is called, which calls in here while it holds a lock of its own.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from heksher import protocol, registry, schedule
from heksher.backends.base import (
    Backend,
    Clock,
    Event,
    HttpOptions,
    ScopedTask,
    Task,
    Transport,
)
from heksher.exceptions import (
    BackendError,
    ClientClosedError,
    ClientNotStartedError,
    DeclarationRejected,
    HeksherError,
    InvalidArgumentError,
    StartupTimeoutError,
    UnexpectedStatusError,
    WrongEventLoopError,
)
from heksher.served import ServedSettings
from heksher.setting import Setting
from heksher.status import ClientState, ClientStatus
from heksher.update import Updater

_logger = logging.getLogger(__name__)

T = TypeVar("T")

# How long closing waits for the update loop. It ends at once, but for a thread in a name look-up.
_CLOSE_TIMEOUT = 5.0
_MAX_REDIRECTS = 3


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
        clock: a clock instead of the backend's, or None.
    """

    http: HttpOptions
    interval: float
    features: tuple[str, ...]
    raise_at_start: bool
    startup_timeout: float
    chance: Callable[[], float]
    clock: Clock | None = None


@dataclass(eq=False, slots=True)
class _Round:
    """An update that somebody waits for."""

    ended: Event
    error: Exception | None = None


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

        # Of the place (the event loop) that the client lives in, from the first await on.
        self._place: object = None
        self._clock: Clock | None = None
        self._transport: Transport | None = None

        # Of one start.
        self._task: Task | None = None
        self._updater = Updater(self._exchange, self._served)
        self._wake: Event | None = None
        self._ready: Event | None = None
        self._is_ready = False
        self._stopping = False
        self._urgent = False
        # The update that calls of reload() wait for, and the one that is under way.
        self._round: _Round | None = None
        self._current_round: _Round | None = None

        self._due = 0.0
        self._failures = 0
        self._last_error: Exception | None = None
        self._last_success: float | None = None

    # --- configuration, in any thread -------------------------------------------------------------

    def set_defaults(self, sources: Mapping[str, str | ContextVar[str]]) -> None:
        """Give context features values for the calls that leave them out."""
        self._served.set_defaults(sources)

    def track_contexts(self, contexts: Mapping[str, str | Iterable[str]]) -> None:
        """Track these contexts as well, from the next update on."""
        self._served.track_contexts(contexts)

    def add_settings(self, settings: Iterable[Setting[Any]]) -> None:
        """Serve these settings, whichever the main client is."""
        added = list(settings)
        self._served.adopt(added, own=True)
        for setting in added:
            registry.withdraw(setting, self)
        self._hurry()

    def adopt(self, settings: Iterable[Setting[Any]]) -> None:
        """Serve these settings as the main client. For the registry."""
        self._served.adopt(settings)
        self._hurry()

    def release(self, settings: Iterable[Setting[Any]] | None) -> None:
        """Stop serving these settings; None: all that came from the registry. For the registry."""
        self._served.release(settings)

    def _hurry(self) -> None:
        """Have the next update made at once."""
        with self._lock:
            self._urgent = True
            wake = self._wake
        if wake is not None:
            wake.set()

    @property
    def status(self) -> ClientStatus:
        """How the client is doing at this moment."""
        with self._lock:
            staleness = None
            if self._clock is not None and self._last_success is not None:
                staleness = max(0.0, self._clock.now() - self._last_success)
            return ClientStatus(self._state, staleness, self._failures, self._last_error)

    # --- start ------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Become the main client and run the update loop in the background.

        Returns at once if the client runs already.

        Raises:
            ClientClosedError: it was closed.
            InvalidArgumentError: a main client with other context features runs.
            HeksherError: the first update failed, or took too long, and a failing start raises.
        """
        backend = self._enter()
        task = self._prepare_start(backend)
        if task is None:
            return
        former = self._take_place()
        try:
            await task.start()
            await self._finish_start()
        except BaseException:
            await self._take_start_back(task, former)
            raise

    async def run(self, started: Callable[[], None]) -> None:
        """Run the update loop in a task group of the caller's task, until the client is closed.

        Args:
            started: called once the client is ready.

        Raises: as `start`.
        """
        backend = self._enter()
        task = self._prepare_start(backend)
        if task is None:
            raise HeksherError("the client runs already; run() starts it, so call just one of both")
        former = self._take_place()
        failure: Exception | None = None
        try:
            async with cast(ScopedTask, task).in_caller():
                try:
                    await self._finish_start()
                    started()
                    await task.wait(None)
                except Exception as error:
                    failure = error  # raised below: a task group would wrap it in a group
                    self._stopping = True
        except BaseException:
            await self._take_start_back(task, former)
            raise
        if failure is not None:
            await self._take_start_back(task, former)
            raise failure

    def _take_place(self) -> registry.MainClient | None:
        """Become the main client, and return the one before; if that cannot be, nothing was started."""
        try:
            return registry.set_main(self)
        except BaseException:
            with self._lock:
                if self._state is not ClientState.CLOSED:
                    self._state = ClientState.NEW
                self._task = None
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
        place = backend.place()
        with self._lock:
            if self._clock is None:
                self._place = place
                self._clock = self._options.clock or backend.create_clock()
            elif place is not self._place:
                raise WrongEventLoopError(
                    "the client lives in another event loop than the one that runs here; "
                    "make one client for each event loop"
                )
        return backend

    def _refuse_if_closed(self) -> None:
        """Called with the lock held."""
        if self._state is ClientState.CLOSED:
            raise ClientClosedError("the client was closed, which is final; make a new client")

    def _prepare_start(self, backend: Backend) -> Task | None:
        """Return the task to start, or None if the client runs already."""
        self._check_handover(registry.main())
        with self._lock:
            self._refuse_if_closed()
            if self._state is ClientState.RUNNING:
                return None
            if self._state is ClientState.STARTING:
                raise HeksherError("the client is being started by another task or thread already")
            self._state = ClientState.STARTING
            self._stopping = self._is_ready = False
            self._wake = backend.create_event()
            self._ready = backend.create_event()
            self._task = backend.create_task(self._main)
            self._failures = 0
            self._last_error = None
            self._updater = Updater(self._exchange, self._served)
            self._served.begin()
            return self._task

    def _check_handover(self, former: registry.MainClient | None) -> None:
        if not isinstance(former, Core) or former is self:
            return
        theirs, ours = former._options.features, self._options.features
        if set(theirs) != set(ours):
            raise InvalidArgumentError(
                f"the main client that runs has the context features {', '.join(theirs)}, "
                f"this one has {', '.join(ours)}: its settings cannot be handed over; "
                "close the former one first, or give both the same features"
            )
        _logger.warning(
            "another main client still runs; its settings are handed over and it stops refreshing them"
        )

    async def _finish_start(self) -> None:
        """Wait for the first update, decide what its result means, and put it in force."""
        is_ready = await self._wait_until_ready()
        error: Exception | None
        if not is_ready:
            error = StartupTimeoutError(
                f"{self._options.http.base_url} did not answer all that a start needs within "
                f"{self._options.startup_timeout:g} seconds"
            )
        elif self._updater.refusals:
            error = DeclarationRejected(self._updater.refusals)
        else:
            error = self._last_error
        with self._lock:
            if self._state is ClientState.CLOSED:
                raise ClientClosedError("the client was closed while it started")
            if self._options.raise_at_start and error is not None:
                raise error
            self._state = ClientState.RUNNING
            self._served.put_in_force()
        if not is_ready:
            _logger.error("%s; settings keep their values, and it goes on trying", error)
        _logger.info("started on %s with %s", self._backend_name(), self._options.http.base_url)

    async def _wait_until_ready(self) -> bool:
        clock, ready = self._clock, self._ready
        assert clock is not None and ready is not None
        deadline = clock.now() + self._options.startup_timeout
        while not self._is_ready and (left := deadline - clock.now()) > 0:
            await clock.wait(ready, left)
        return self._is_ready

    async def _take_start_back(self, task: Task, former: registry.MainClient | None) -> None:
        """After a start that failed: leave nothing running, and the client as it was before."""
        registry.replace_main(self, former)
        self._stopping = True
        await self._end(task)
        with self._lock:
            if self._state is not ClientState.CLOSED:
                self._state = ClientState.NEW
                self._task = self._transport = None

    # --- close ------------------------------------------------------------------------------------

    async def close(self) -> None:
        """Stop the update loop and close all connections; settings keep their last rules."""
        registry.resign(self)
        self._served.close()
        with self._lock:
            self._state = ClientState.CLOSED
            self._stopping = True
            task, transport = self._task, self._transport
        if self._is_elsewhere():
            # Its event loop is another one, or has ended. What can be told across is told.
            if task is not None:
                task.cancel()
        elif task is not None:
            await self._end(task)
        elif transport is not None:
            await transport.aclose()

    def _is_elsewhere(self) -> bool:
        if self._backend is None or self._clock is None:
            return False
        try:
            return self._backend.place() is not self._place
        except HeksherError:
            return True

    async def _end(self, task: Task) -> None:
        """End the update loop, wherever it is."""
        if self._wake is not None:
            self._wake.set()
        task.cancel()
        if self._transport is not None:
            self._transport.abort()
        if not await task.wait(_CLOSE_TIMEOUT):
            _logger.warning(
                "the update loop has not ended within %g seconds and is left alone; "
                "it ends by itself, as soon as the call that it is in returns",
                _CLOSE_TIMEOUT,
            )

    # --- what the application asks for ------------------------------------------------------------

    async def reload(self) -> None:
        """Return once rules that were read after this call began are in force.

        Raises:
            ClientNotStartedError: before the start.
            ClientClosedError: after the end.
            HeksherError: what went wrong with that update.
        """
        backend = self._enter()
        with self._lock:
            self._refuse_if_closed()
            if self._state is ClientState.NEW:
                raise ClientNotStartedError(
                    "the client was not started: call set_as_main(), or enter it with a with-statement, "
                    "before reload()"
                )
            if self._round is None:
                self._round = _Round(backend.create_event())
            round_ = self._round
        self._hurry()
        await round_.ended.wait()
        if round_.error is not None:
            raise round_.error

    async def ping(self) -> None:
        """Return if the service says that it is well."""
        await self._ask(protocol.health())

    async def get_settings(self) -> dict[str, protocol.SettingData]:
        """Return all settings of the service by name."""
        return await self._ask(protocol.settings())

    async def _ask(self, exchange: protocol.Exchange[T]) -> T:
        self._enter()
        with self._lock:
            self._refuse_if_closed()
        return await self._exchange(exchange)

    async def _exchange(self, exchange: protocol.Exchange[T]) -> T:
        """Send a request, follow what may be followed, and read the answer."""
        with self._lock:
            if self._transport is None:
                assert self._backend is not None
                self._transport = self._backend.create_transport(self._options.http)
            transport = self._transport
        request = exchange.request
        response = await transport.send(request)
        for _ in range(_MAX_REDIRECTS):
            moved = protocol.redirected(self._options.http.base_url, request, response)
            if moved is None:
                break
            request = moved
            response = await transport.send(request)
        if response.status not in exchange.request.expected:
            raise transport.status_error(exchange.request, response)
        return exchange.read(response)

    # --- the update loop --------------------------------------------------------------------------

    async def _main(self) -> None:
        """Update once, then time and again, until the client is closed. Runs as the task."""
        assert self._clock is not None and self._wake is not None and self._ready is not None
        try:
            while not self._stopping:
                await self._update()
                if not self._is_ready:
                    self._is_ready = True
                    self._ready.set()
                await self._wait_for_work(self._clock, self._wake)
        finally:
            await self._shut_down()

    async def _wait_for_work(self, clock: Clock, wake: Event) -> None:
        while not self._stopping and not self._urgent:
            left = self._due - clock.now()
            if left <= 0:
                return
            await clock.wait(wake, left)
            wake.clear()

    async def _shut_down(self) -> None:
        """The last that the task does, also when it was cancelled from outside."""
        with self._lock:
            rounds = (self._round, self._current_round)
            self._round = self._current_round = None
            transport, self._transport = self._transport, None
            if not self._stopping:
                # Nobody called close(): the event loop ends, or the task group around run().
                self._stopping = True
                self._state = ClientState.CLOSED
            self._is_ready = True
        assert self._ready is not None
        self._ready.set()
        for round_ in rounds:
            if round_ is not None:
                round_.error = ClientClosedError("the client was closed before the reload was done")
                round_.ended.set()
        if self._state is ClientState.CLOSED:
            self._served.close()
            registry.resign(self)
        if transport is not None:
            await transport.aclose()

    async def _update(self) -> None:
        """Declare what is pending and fetch all rules. Raises nothing: the loop has to live."""
        with self._lock:
            self._current_round, self._round = self._round, None
            self._urgent = False
        error: Exception | None = None
        try:
            await self._updater.update()
        except HeksherError as failure:
            error = failure
        except Exception as failure:
            _logger.exception("an update failed by an unforeseen error")
            error = failure
        if self._stopping:
            return  # what went wrong is that the client was closed; _shut_down tells who waits
        self._schedule(error)
        with self._lock:
            round_, self._current_round = self._current_round, None
        if round_ is not None:
            round_.error = error
            round_.ended.set()

    def _schedule(self, error: Exception | None) -> None:
        """Note how an update ended, and when the next one is due."""
        assert self._clock is not None
        interval, chance = self._options.interval, self._options.chance()
        now = self._clock.now()
        url = self._options.http.base_url
        with self._lock:
            if error is None:
                recovered, self._failures = self._failures, 0
                is_first = self._last_success is None
                self._last_success = now
                delay = schedule.first_delay if is_first else schedule.next_delay
                self._due = now + delay(interval, chance)
            else:
                recovered = 0
                self._failures += 1
                self._last_error = error
                retry_after = (
                    error.retry_after if isinstance(error, UnexpectedStatusError) else None
                )
                self._due = now + schedule.retry_delay(
                    interval, chance, self._failures, retry_after
                )
        if error is not None and self._failures == 1:
            _logger.error("updates from %s fail, the last rules stay in force: %s", url, error)
        elif error is not None:
            _logger.debug("update %d in a row failed: %s", self._failures, error)
        elif recovered:
            _logger.info("updates from %s succeed again, after %d failures", url, recovered)
        else:
            _logger.debug("updated from %s", url)

    def _backend_name(self) -> str:
        return self._backend.name if self._backend is not None else "auto"
