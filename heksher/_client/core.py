"""The core of a client: start, update in the background, reload, close, fork. One copy for all backends.

Ordinary coroutines against the protocols of `backends.base`: no event loop, no HTTP library, no thread
of its own. The parts know their own jobs: `lifecycle` what may happen when, `history` when the next
update is due, `update` what an update does, `settings` and `publishing` what it changes, `connection`
how a request is made.

One lock guards what more than one thread changes, here and in those parts. It is never held across an
await, nor while the registry takes its own: that one comes first, as the registry calls in here under it.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from contextvars import Context
from typing import Any, TypeVar, cast

from heksher import _registry, _wire
from heksher._application_code import get_logger
from heksher._client import forking
from heksher._client.errors import without_frames
from heksher._client.lifecycle import Call, LifecycleEvent, State
from heksher._client.options import ClientOptions
from heksher._client.parts import Parts
from heksher._client.run import Run
from heksher._layers import call_listeners
from heksher._listening import ClientListeners
from heksher._overriding import overridden
from heksher._rules.contexts import Default
from heksher._text import joined
from heksher.backends import _callers
from heksher.backends.base import Backend, Event, ScopedTask, run_blocking
from heksher.exceptions import (
    ClientClosedError,
    ClientNotStartedError,
    ContradictingArgumentError,
    HeksherError,
    InvalidArgumentError,
    StartupTimeoutError,
)
from heksher.setting import Setting
from heksher.status import ClientState, ClientStatus, SettingData

_logger = get_logger(__name__)

T = TypeVar("T")

# Seconds that closing waits for the update loop. It ends at once, unless a thread is making a connection.
_CLOSE_TIMEOUT = 5.0
# Seconds that closing waits for the snapshot to be written, which then goes on by itself.
_SAVE_TIMEOUT = 2.0


class Core(Parts):
    """One client: its parts, and the coroutines that set them in motion."""

    def __init__(
        self,
        choose_backend: Callable[[], Backend | None],
        options: ClientOptions,
        on_update: Callable[[Exception | None], None],
    ) -> None:
        super().__init__(choose_backend, options, on_update)
        # The latest start. The lifecycle says whether it goes on.
        self._run: Run | None = None
        # In a forked child: see `_leave_loop`.
        self._left_behind: list[object] = []
        # From now on: a client that was never started has locks, and connections once it has pinged.
        forking.watch(self)

    # --- configuration, in any thread -------------------------------------------------------------

    def set_defaults(self, sources: Mapping[str, Default]) -> None:
        """Give context features values for the calls that leave them out."""
        self.settings.set_defaults(sources)
        self.publisher.renew(self.settings.alive())
        if self.publisher.has_to_call:
            self._wake()  # to call them where updates run

    def track_contexts(self, contexts: Mapping[str, str | Iterable[str]]) -> None:
        """Track these contexts as well, from the next update on."""
        self.settings.track_contexts(contexts)

    def add_settings(self, settings: Iterable[Setting[Any]]) -> None:
        """Serve these settings, whichever the main client is; all of them or none."""
        if isinstance(settings, Setting):
            raise InvalidArgumentError(
                f"add_settings: got one setting, {settings!r}; "
                "expected a list: write add_settings([...])"
            )
        added = list(settings)
        for setting in added:
            if not isinstance(setting, Setting):
                raise InvalidArgumentError(
                    f"add_settings: got {setting!r}; expected a heksher.Setting"
                )
        self._attach(added, own=True)
        for setting in added:
            _registry.move_to(setting, self)

    def attach(self, settings: Iterable[Setting[Any]]) -> None:
        """Serve these settings as the main client. For the registry."""
        self._attach([*settings], own=False)

    def _attach(self, settings: list[Setting[Any]], *, own: bool) -> None:
        self.settings.attach(settings, own=own)
        self.publisher.forget(settings)
        self.publisher.renew(settings)
        self._wake()

    def _wake(self) -> None:
        """Have an update made at once, if the client runs."""
        with self.lock:
            if self._run is not None:
                self._run.wake.set()

    def detach(self, settings: Iterable[Setting[Any]] | None) -> None:
        """Stop serving these settings; None: all that came from the registry. For the registry."""
        self.publisher.forget(self.settings.detach(settings))

    @property
    def listeners(self) -> ClientListeners:
        """Those who listen to the client."""
        return self.publisher.listeners

    @property
    def status(self) -> ClientStatus:
        """How the client is doing at this moment."""
        rests = self._rests()
        # Before the client's lock is taken: this takes the registry's.
        overridden_here = {each.name for each in overridden() if self.settings.serves(each)}
        with self.lock:
            history = self.history
            state = self.lifecycle.reported
            is_resting = state is ClientState.RUNNING and rests
            declarations, rejected, coerced = self.settings.report()
            is_counting = self.home.clock is not None and not is_resting
            return ClientStatus(
                state=ClientState.RESTING if is_resting else state,
                staleness=history.staleness(self.home.moment()) if is_counting else None,
                failures=history.failures,
                last_error=history.last_error,
                declarations=declarations,
                rejected_rules=(*rejected,),
                coerced_rules=(*coerced,),
                source=self.publisher.source,
                last_success=history.last_success,
                last_failure=history.last_failure,
                polls=history.polls,
                bytes_received=self.connection.bytes_received,
                snapshot=None if self.snapshot is None else self.snapshot.status,
                rejected_count=rejected.total,
                coerced_count=coerced.total,
                overrides=(*sorted(overridden_here),),
                overrides_error=self.overrides.error,
            )

    def create_event(self) -> Event:
        """Return an event of the event loop that the client lives in."""
        return self._enter().create_event()

    def _enter(self) -> Backend:
        """Return the backend, chosen at the latest here, and see that the client lives in this loop."""
        backend, loop_key = self.home.choose()
        with self.lock:
            self.history.move_clock(self.home.enter(backend, loop_key))
        return backend

    # --- start ------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Become the main client and run the update loop in the background.

        Returns at once if the client runs already. While another caller starts it, waits for that start
        and shares its outcome, or takes over if that caller is cancelled.

        Raises:
            ClientClosedError: it was closed.
            ContradictingArgumentError: a main client with other context features runs.
            HeksherError: the first update failed, or took too long, and a failing start raises.
        """
        backend = self._enter()
        run, is_ours = self._begin_or_join_start(backend)
        while run is not None and not is_ours:
            await run.start_ended.wait()
            if run.start_error is not None:
                raise _to_raise(run.start_error)
            run, is_ours = self._begin_or_join_start(backend)
        if run is None:
            return
        async with self._starting(run):
            await run.task.start()
            await self._finish_start(run)

    async def run(self, started: Callable[[], None]) -> None:
        """Run the update loop in a task group of the caller's task, until the client is closed.

        Args:
            started: called once the client is ready.

        Raises: as `start`.
        """
        run = self._begin_start(self._enter(), Call.RUN)
        assert run is not None  # a client that runs refuses this call
        async with self._starting(run):
            failure: Exception | None = None
            async with cast(ScopedTask, run.task).in_caller():
                try:
                    await self._finish_start(run)
                    run.end_start()
                    started()
                    await run.task.wait(None)
                except Exception as error:
                    failure = error  # raised below: a task group would wrap it in a group
                    self._fail_start(run)
            if failure is not None:
                raise failure

    def _begin_or_join_start(self, backend: Backend) -> tuple[Run | None, bool]:
        """Return what is being started, and whether by the caller; None if the client runs already."""
        with self.lock:
            run = self._run
            if (
                run is not None
                and self.lifecycle.is_starting
                # Else Ctrl-C has broken the start off between two lines, and there is nothing to wait for.
                and not run.start_ended.is_set()
                and not self._would_wait_for_itself(run)
            ):
                return run, False
            return self._begin_start(backend, Call.START), True

    def _would_wait_for_itself(self, run: Run) -> bool:
        """Whether the caller is part of a start: a hook, a callback, a validator, a signal handler."""
        return self._is_in_loop(run) or (self.home.is_blocking and run.starter == _callers.caller())

    def _begin_start(self, backend: Backend, call: Call) -> Run | None:
        """Return what is to be started, its task not yet running; None if the client runs already."""
        with self.lock:
            self.lifecycle.check(call)
            if self.lifecycle.state is State.RUNNING:
                return None
            self._check_hand_over(_registry.main())
            # First what may raise, which leaves the state as it was: Ctrl-C may come at any moment.
            run = self._create_run(backend)
            self.history.begin_start()
            self.settings.begin_start()
            self.publisher.begin_start()
            self.lifecycle.apply(LifecycleEvent.START)
            self.lifecycle.check(Call.REQUEST)  # a signal handler may have closed it just now
            self._run = run
            return run

    @asynccontextmanager
    async def _starting(self, run: Run) -> AsyncGenerator[None, None]:
        """Become the main client, and if the block raises, undo that; tell who waits for this start."""
        try:
            former = self._become_main(run)
            try:
                if isinstance(former, Core) and former is not self:
                    _logger.warning(
                        "another main client still runs; "
                        "its settings are handed over and it stops refreshing them"
                    )
                yield
            except BaseException:
                await self._undo_start(run, former)
                raise
        except Exception as error:
            run.end_start(without_frames(_to_raise(error)))
            raise
        finally:
            run.end_start()

    def _become_main(self, run: Run) -> _registry.MainClient | None:
        """Become the main client; return the one before. If that is refused, nothing was started."""
        try:
            return _registry.set_main(self)
        except BaseException:
            if self._fail_start(run):
                self._finish_undoing(run)
            raise

    def _create_run(self, backend: Backend) -> Run:
        clock = self.home.clock
        assert clock is not None
        return Run(
            self,
            backend,
            clock,
            is_latest=lambda run: self._run is run,
            on_cancelled=lambda: self._stop(LifecycleEvent.CLOSE),
            rests=self._rests,
        )

    def _rests(self) -> bool:
        """Whether the client serves nothing, because another one became the main client."""
        return _registry.main() is not self and self.settings.is_empty()

    def _check_hand_over(self, former: _registry.MainClient | None) -> None:
        if not isinstance(former, Core) or former is self:
            return
        theirs, ours = former.options.context_features, self.options.context_features
        if set(theirs) != set(ours):
            raise ContradictingArgumentError(
                f"the main client that runs has the context features {joined(theirs) or 'none'}; "
                f"this one has {joined(ours) or 'none'}. Its settings cannot be handed over: "
                "close the former one first, or give both the same features"
            )

    async def _finish_start(self, run: Run) -> None:
        """Wait for the first update, decide what its result means, and publish its rules."""
        await run.wait_until_ready()
        error = run.error_of_start()
        is_late = isinstance(error, StartupTimeoutError)
        # A client that cannot be made is no outage: waiting does not help.
        raises = self.options.startup == "raise" or isinstance(error, InvalidArgumentError)
        with _registry.lock, self.lock:
            if self._run is not run:
                raise ClientNotStartedError(
                    "the process was forked while the client started: start it again in this one"
                )
            if error is None or not raises:
                self.lifecycle.apply(LifecycleEvent.START_DONE)
            if self.lifecycle.is_closed:
                raise ClientClosedError("the client was closed while it started")
            if error is not None and raises:
                raise _to_raise(error)
            if is_late:
                self.history.last_error = error
            self.overrides.apply()  # first, so that no call sees what it overrides
            self.publisher.publish_all()
            # The rules of the first update are published only now.
            has_succeeded = self.history.has_succeeded
        # This runs in the starter's task or thread. Listeners and hooks must not see its context.
        Context().run(call_listeners)
        Context().run(self.publisher.call_listeners)
        if has_succeeded:
            Context().run(run.notify, None)
        if is_late:
            _logger.error("%s; settings keep their values, and the client keeps trying", error)
        _logger.info(
            "started on %s with %s%s",
            self.home.backend_name,
            self.options.http.base_url,
            "" if error is None else ", but an update has yet to succeed; it keeps trying",
        )

    async def _undo_start(self, run: Run, former: _registry.MainClient | None) -> None:
        """After a start that failed: leave nothing running, and the client as it was before."""
        if not self._fail_start(run):
            return
        try:
            _registry.replace_main(self, former)
            if isinstance(former, Core) and former is not self and not former.lifecycle.is_going_on:
                # It was closed while this one started. Closing sets the state first and steps down then.
                _registry.step_down(former)
        finally:
            try:
                await self._wait_for_loop(run)
            finally:
                try:
                    # Also if the loop has not ended: the next start opens connections of its own.
                    await self.connection.aclose()
                finally:
                    self._finish_undoing(run)

    def _finish_undoing(self, run: Run) -> None:
        with self.lock:
            if self._run is run:  # else the process was forked, and this is the child
                self.lifecycle.apply(LifecycleEvent.START_UNDONE)
                if not self.lifecycle.is_closed:
                    self._run = None

    def _fail_start(self, run: Run) -> bool:
        """Stop a start that failed; False in a forked child, where `resume_in_child` has done that."""
        if self._run is not run:
            return False
        self._stop(LifecycleEvent.START_FAILED)
        return True

    # --- close ------------------------------------------------------------------------------------

    async def close(self) -> None:
        """Stop the update loop and close all connections; settings keep their last rules."""
        self._stop(LifecycleEvent.CLOSE)
        if self.home.is_elsewhere():
            # Its event loop is another one, or has ended. Only what is thread-safe can be done.
            if self._run is not None:
                self._run.task.cancel()
        elif self._run is None or await self._wait_for_loop(self._run):
            await self.connection.aclose()
        # Else the loop closes the connections when it ends.

    def _stop(self, event: LifecycleEvent) -> None:
        """End the latest run by *event*, and wake all who wait for it.

        This is the one way in which a run ends, but for a fork. It waits for nothing, and may be called in
        any thread: the loop ends once it sees that its run does not go on.
        """
        with self.lock:
            self.lifecycle.apply(event)
            if self._run is not None:
                self._run.release()
            is_closed = self.lifecycle.is_closed
            if is_closed:
                self.publisher.close()
        if is_closed:
            _registry.step_down(self)

    async def _wait_for_loop(self, run: Run) -> bool:
        """End the loop of a stopped run, wherever it is; return whether it has ended."""
        is_in_loop = self._is_in_loop(run)
        saving = run.saving
        if saving is not None and not is_in_loop:
            await saving.wait(_SAVE_TIMEOUT)
        run.task.cancel()
        self.connection.abort()
        has_ended = await run.task.wait(_CLOSE_TIMEOUT)
        if not has_ended and not is_in_loop:
            _logger.warning(
                "the update loop has not ended within %g seconds and is left alone; "
                "it ends by itself once the call that it is in returns",
                _CLOSE_TIMEOUT,
            )
        return has_ended

    def _is_in_loop(self, run: Run) -> bool:
        """Whether the caller is the update loop's own thread: a hook, a callback, a validator."""
        return self.home.is_blocking and run.caller == _callers.caller()

    # --- fork -------------------------------------------------------------------------------------

    @property
    def locks(self) -> tuple[threading.RLock, ...]:
        """Held while the process forks, so that a child finds them free, and what they guard complete."""
        return self.lock, self.queue.guard

    def resume_in_child(self, is_stale: bool = False) -> None:
        """In a forked child: go on with a loop and connections of its own; the parent keeps its own.

        Nobody is woken here: the threads and tasks that waited in the parent do not exist in the child,
        and the locks inside their events may be held by threads that do not exist either.

        Args:
            is_stale: whether the parent rested, so that the first update is due at once.
        """
        self.publisher.publish_all()  # a thread that is not here may have been about to
        backend = self.home.backend
        if backend is None:
            return
        was_running = self.lifecycle.state is State.RUNNING
        was_starting = self.lifecycle.is_starting
        run, self._run = self._run, None
        self.lifecycle.apply(LifecycleEvent.FORKED)
        if was_starting:
            _registry.replace_main(self, None)
        transport = self.connection.leave()
        if not backend.blocking:
            self._leave_loop(run, transport)
            return
        if transport is not None:
            transport.abandon()
        self.queue.forget_other_threads()
        if run is not None:
            run.task.cancel()  # greenlets live on in a child, and so would the parent's loop
        if was_running:
            self._start_in_child(backend, is_stale)

    def _leave_loop(self, *parents: object) -> None:
        """In a forked child: leave the event loop, which does not go on there.

        What belongs to the parent's loop is kept and never used. Thrown away, it would reach over to
        the parent by what both processes have open: an epoll set is one for both, so a socket that is
        closed in the child can be taken out of the parent's set.
        """
        self._left_behind += *parents, self.home.leave()
        self.queue.forget_all()

    def _start_in_child(self, backend: Backend, is_stale: bool) -> None:
        run = self._create_run(backend)
        run.ready.set()
        self.history.resume(self.home.moment(), self.options.random(), is_due=is_stale)
        self._run = run
        self.lifecycle.apply(LifecycleEvent.RESUMED)
        try:
            run_blocking(run.task.start())
        except BaseException:
            # The application may start it again. Until then, no call waits for a loop that does not exist.
            self._run = None
            self.lifecycle.apply(LifecycleEvent.FORKED)
            raise

    # --- what the application asks for ------------------------------------------------------------

    async def reload(self) -> None:
        """Return once rules that were read after this call began are published.

        Raises:
            ClientNotStartedError: before the start.
            ClientClosedError: after the end.
            HeksherError: what went wrong with that update, or an update is what calls.
        """
        self._enter()
        with self.lock:
            self.lifecycle.check(Call.RELOAD)
            run = self._run
            assert run is not None
            if self._is_in_loop(run):
                raise HeksherError(
                    "reload() waits for an update, and was called by one, in a hook, a callback of "
                    "on_change, a validator or on_coerce: call it in another thread"
                )
            reload = run.request_reload()
        await reload.ended.wait()
        if reload.error is not None:
            raise _to_raise(reload.error)

    async def ping(self) -> None:
        """Return if the service says that it is healthy, by status 200."""
        await self._request(_wire.health())

    async def get_settings(self) -> dict[str, SettingData]:
        """Return all settings of the service by name."""
        return await self._request(_wire.settings())

    async def _request(self, exchange: _wire.Exchange[T]) -> T:
        return await self.connection.exchange(exchange, self._enter())


def _to_raise(error: Exception) -> Exception:
    """Return a copy of an error that is kept, or goes to several callers.

    Raising adds the raiser's frames to an error, and with them all that those hold.
    """
    try:
        copied = copy.copy(error)
    except Exception:  # a foreign class, which cannot be copied
        return error
    copied.__cause__ = error.__cause__
    return copied
