"""Any sequence of starts, reloads, closes, cancellations, hand-overs and forks does what a model does.

Belongs here: the model of a client's lifecycle, the operations on clients, and what interprets them.
The model is the specification of the lifecycle as users see it. This file knows the library by its
public names only, and the scripted service and the harnesses of the tests.

Hypothesis generates a list of operations, and shortens a list that fails. `World` performs each
operation on real clients and has `Model` predict the effect. Then it waits until all that was predicted
has happened, and compares the two. Nothing depends on time that passes: operations set the clocks
forward, and a held request waits until an operation releases it. A list, and no
`RuleBasedStateMachine`: its steps would be called outside of the event loop in which the clients live.

The gate runs `KNOWN_PATHS` and the same few random examples each time, in about ten seconds of
processor time. To look for more, different ones each time:

    HEKSHER_LIFECYCLE_EXAMPLES=5000 pytest tests/client/test_lifecycle_machine.py

A failure prints its operations. They can be copied into `KNOWN_PATHS`.

Comments that begin with "Today:" mark behavior that the model describes as it is, though a user would
expect something else.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, TypeAlias

import anyio
import anyio.lowlevel
import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st
from support.harness import HARNESSES, AnyClient, Harness
from support.scripted import (
    CountingEvent,
    ManualClock,
    ScriptedBackend,
    ScriptedService,
    refusal,
    unreachable,
)

from heksher import AsyncHeksherClient, Setting, testing
from heksher.backends import Event, Task
from heksher.exceptions import (
    ClientClosedError,
    ClientNotStartedError,
    ContradictingArgumentError,
    DeclarationRejected,
    HeksherError,
    MissingFeatureError,
    ServiceUnreachableError,
    StartupTimeoutError,
)

# It starts processes, and what it finds depends little on the Python: tox runs it on one only.
pytestmark = pytest.mark.integration

# Seconds by the manual clocks. Time passes by a whole interval, so that each start that is under way
# then times out, and each poll or retry is due.
INTERVAL = 60.0
STARTUP_TIMEOUT = 30.0

FEATURES = ["environment", "user"]
#: What each setting answers as long as no rule of a service is in force.
DEFAULT = 60
#: The context that each rule matches.
CONTEXT = {"environment": "dev", "user": "jim"}

#: Number of random examples for each backend. 0 stands for those of the gate, which are always the same.
EXAMPLES = int(os.environ.get("HEKSHER_LIFECYCLE_EXAMPLES", "0"))
GATE_EXAMPLES = 50
#: Number of clients in each example.
CLIENTS = 3

#: Seconds to wait for what is expected. It is short after the first time that this did not happen:
#: Hypothesis looks for a shorter list of operations from then on.
patience = [10.0]

State: TypeAlias = Literal["new", "starting", "running", "inherited", "closed"]
ReportedState: TypeAlias = State | Literal["resting"]
Starter: TypeAlias = Literal["set_as_main", "run"]
# The first and the last request of an update.
Held: TypeAlias = Literal["context_features", "query"]
Hold: TypeAlias = Held | None


class Cancelled(BaseException):
    """Stands for the cancellation of a call among the outcomes of calls."""


# How a call ends: None if it returns, else the exact class of what it raises.
Outcome: TypeAlias = type[BaseException] | None


# --- the operations -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Start:
    """Call `set_as_main`, or `run` where there is one. *hold* keeps the first update at a request."""

    client: int
    by: Starter = "set_as_main"
    hold: Hold = None


@dataclass(frozen=True)
class Reload:
    """Call `reload`. *hold* keeps the update at a request, if the loop is at rest."""

    client: int
    hold: Hold = None


@dataclass(frozen=True)
class PassTime:
    """Let an interval pass on the clock of the client: polls and retries are due, starts time out."""

    client: int
    hold: Hold = None


@dataclass(frozen=True)
class Release:
    """Let the held request of the client go on."""

    client: int


@dataclass(frozen=True)
class Close:
    """Call `aclose` or `close`."""

    client: int


@dataclass(frozen=True)
class Cancel:
    """Cancel the pending start, `run` or `reload` of the client. For event loops only."""

    client: int
    call: Literal["start", "reload"]


@dataclass(frozen=True)
class CancelAfter:
    """Make a call and cancel it after so many steps of the event loop, if it has not ended by then."""

    client: int
    call: Literal["set_as_main", "run", "reload", "close"]
    steps: int


@dataclass(frozen=True)
class Ask:
    """Call `ping` or `get_settings`."""

    client: int
    method: Literal["ping", "get_settings"] = "ping"


@dataclass(frozen=True)
class AddSettings:
    """Call `add_settings` with the setting "extra"."""

    client: int


@dataclass(frozen=True)
class SetDefaults:
    """Call `set_defaults` with the value of `CONTEXT`."""

    client: int
    feature: str


@dataclass(frozen=True)
class TrackContexts:
    """Call `track_contexts` with one value of the feature "user"."""

    client: int
    user: str


@dataclass(frozen=True)
class ChangeRules:
    """Change the value of each rule on the client's service."""

    client: int


@dataclass(frozen=True)
class SetOutage:
    """Make the client's service unreachable, or reachable again."""

    client: int
    is_away: bool


@dataclass(frozen=True)
class SetRefusal:
    """Have the client's service refuse the declaration of the setting "extra", or not any more."""

    client: int
    is_refused: bool


@dataclass(frozen=True)
class Replace:
    """Make a new client, if this one is closed."""

    client: int


@dataclass(frozen=True)
class Fork:
    """Fork, and perform operations in the child; the parent goes on when the child has ended."""

    in_child: tuple[Operation, ...]


Operation: TypeAlias = (
    Start
    | Reload
    | PassTime
    | Release
    | Close
    | Cancel
    | CancelAfter
    | Ask
    | AddSettings
    | SetDefaults
    | TrackContexts
    | ChangeRules
    | SetOutage
    | SetRefusal
    | Replace
    | Fork
)


def _operations() -> st.SearchStrategy[list[Operation]]:
    clients = st.integers(0, CLIENTS - 1)
    holds = st.sampled_from([None, "context_features", "query"])
    starters = st.sampled_from(["set_as_main", "set_as_main", "run"])
    start = st.builds(Start, clients, starters, holds)
    reload = st.builds(Reload, clients, holds)
    pass_time = st.builds(PassTime, clients, holds)
    release = st.builds(Release, clients)
    cancel = st.builds(Cancel, clients, st.sampled_from(["start", "reload"]))
    # More steps than a start takes.
    cancelled_calls = st.sampled_from(["set_as_main", "run", "reload", "close"])
    cancel_after = st.builds(CancelAfter, clients, cancelled_calls, st.integers(0, 30))
    change = st.builds(ChangeRules, clients)
    outage = st.builds(SetOutage, clients, st.booleans())
    others: list[st.SearchStrategy[Operation]] = [
        st.builds(Close, clients),
        st.builds(Ask, clients, st.sampled_from(["ping", "get_settings"])),
        st.builds(AddSettings, clients),
        st.builds(SetDefaults, clients, st.sampled_from(FEATURES)),
        st.builds(TrackContexts, clients, st.sampled_from(["jim", "joe"])),
        st.builds(SetRefusal, clients, st.booleans()),
        st.builds(Replace, clients),
    ]
    frequent: list[st.SearchStrategy[Operation]] = [
        *(start, start, start, reload, reload, pass_time, release, release, release),
        *(cancel, cancel_after, change, change, outage),
    ]
    in_process = st.one_of(*frequent, *others)
    fork: st.SearchStrategy[Operation] = st.builds(
        Fork, st.lists(in_process, max_size=8).map(tuple)
    )
    return st.lists(st.one_of(*frequent, *others, fork), max_size=30)


# --- the model ------------------------------------------------------------------------------------


@dataclass(eq=False)
class Call:
    """A call of a method of a client, as it is predicted and as it goes.

    Attributes:
        method: the name of the method.
        expected: the outcomes that are allowed; empty as long as the call has to be pending.
        has_to_be_started: whether a call of `run` has to have reported that the client is ready.
        ended: whether it has ended.
        outcome: how it ended.
        started: whether `run` has reported that the client is ready.
        scope: cancels it.
    """

    method: str
    expected: set[Outcome] = field(default_factory=set[Outcome])
    has_to_be_started: bool = False
    ended: bool = False
    outcome: Outcome = None
    started: bool = False
    scope: anyio.CancelScope | None = None


@dataclass(eq=False)
class SettingModel:
    """What a setting answers.

    Attributes:
        value: in the context that the rules match.
        defaults: the features that have a default value.
        is_strict: whether a missing feature is an error: a started client has published it.
    """

    value: int = DEFAULT
    defaults: frozenset[str] = frozenset()
    is_strict: bool = False

    def get(self, given: Iterable[str]) -> int | type[MissingFeatureError]:
        """Return the answer, or the exception, for a call with these features of `CONTEXT`."""
        there = {*given, *self.defaults}
        if there.issuperset(FEATURES):
            return self.value
        return MissingFeatureError if self.is_strict else DEFAULT


@dataclass
class HeldUpdate:
    """An update that waits in a request until that is released.

    Attributes:
        request: which one.
        has_failed: whether the answer that is held is a failure.
        names: the settings that the query asked for.
        value: their answer.
        planned: the settings that are declared after the query.
    """

    request: Held
    has_failed: bool = False
    names: frozenset[str] = frozenset()
    value: int = DEFAULT
    planned: frozenset[str] = frozenset()


@dataclass(eq=False)
class ClientModel:
    """What is expected of one client, and of the service that it alone asks.

    Attributes:
        raises: whether a start that fails raises; else it goes on trying.
        rule: the value of the rules on its service.
        is_away: whether its service is unreachable.
        refuses: whether its service refuses the declaration of "extra".
        stored: the settings that its service has.
        state: as in its status.
        at_rest: the state to return to when a start fails.
        former: the main client before its last start.
        own: the settings that were added to it.
        serves: the settings that it serves: its own, and those that came with being the main client.
        undeclared: those of them that are declared with the next update.
        refused: those of them whose declaration was refused.
        defaults: the features that have a default value.
        tracked: the values of the feature "user" that are tracked; empty: all.
        is_in_force: whether one of its starts has succeeded, so that what it fetches is published.
        is_informed: whether an update has succeeded.
        is_failing: whether the last update failed; None: not known, since a start was cancelled.
        is_connected: whether it has an open transport.
        loop: what the update loop does: it does not run, waits for time to pass, or is in a request.
        held: the update that is in that request.
        is_urgent: whether another update has to follow that one.
        start: the pending call that starts it, or runs it.
        joined: a pending call that waits for that start.
        staged: the settings that an update under way has answers for, which are not yet published.
        waiting: the pending reloads that the next update serves.
        served: those that the update under way serves.
        has_asked: whether its service was asked in this step; None: not known.
        has_polled: whether an update was begun in this step; None: not known.
        has_told: whether `on_update_ok` was called in this step.
    """

    raises: bool
    rule: int
    is_away: bool = False
    refuses: bool = False
    stored: set[str] = field(default_factory=set[str])
    state: State = "new"
    at_rest: State = "new"
    former: ClientModel | None = None
    own: set[str] = field(default_factory=set[str])
    serves: set[str] = field(default_factory=set[str])
    undeclared: set[str] = field(default_factory=set[str])
    refused: set[str] = field(default_factory=set[str])
    defaults: set[str] = field(default_factory=set[str])
    tracked: set[str] = field(default_factory=set[str])
    is_in_force: bool = False
    is_informed: bool = False
    is_failing: bool | None = False
    is_connected: bool = False
    loop: Literal["none", "waiting", "held"] = "none"
    held: HeldUpdate | None = None
    is_urgent: bool = False
    start: Call | None = None
    joined: Call | None = None
    staged: tuple[frozenset[str], int] = (frozenset(), DEFAULT)
    waiting: list[Call] = field(default_factory=list[Call])
    served: list[Call] = field(default_factory=list[Call])
    has_asked: bool | None = False
    has_polled: bool | None = False
    has_told: bool = False

    @property
    def is_alive(self) -> bool:
        return self.state in ("starting", "running")

    @property
    def answer(self) -> int:
        """What its service answers: the rule is left out if another user is tracked."""
        return self.rule if not self.tracked or "jim" in self.tracked else DEFAULT

    @property
    def known(self) -> frozenset[str]:
        """The settings that an update asks for."""
        return frozenset(self.serves - self.refused - self.undeclared)

    @property
    def asks_more(self) -> bool:
        """Whether an update has something to ask for after the context features."""
        return bool(self.undeclared or self.known)

    @property
    def reloads(self) -> list[Call]:
        return [*self.served, *self.waiting]


class Model:
    """The state of all clients and settings of a process. Plain data; each method is one event."""

    def __init__(self, settings: Iterable[str], *, forks_with_loop: bool) -> None:
        self.forks_with_loop = forks_with_loop
        self.settings = {name: SettingModel() for name in settings}
        #: The settings that each main client serves.
        self.registered = set(self.settings)
        self.clients: list[ClientModel] = []
        self.main: ClientModel | None = None
        #: The clients that do not become the main client again when the next one fails to start.
        self.stepped_down: set[ClientModel] = set()

    def begin_step(self) -> None:
        for client in self.clients:
            client.has_asked = client.has_polled = client.has_told = False

    # --- calls of the application

    def start(self, client: ClientModel, call: Call, hold: Hold = None) -> None:
        if client.state == "closed":
            call.expected = {ClientClosedError}
        elif client.state == "starting" and call.method == "set_as_main":
            client.joined = call
        elif client.state == "starting":
            call.expected = {HeksherError}
        elif client.state == "running":
            call.expected = {HeksherError if call.method == "run" else None}
        else:
            client.at_rest, client.state = client.state, "starting"
            client.start = call
            client.is_failing = False
            client.undeclared, client.refused = set(client.serves), set()
            if not client.is_in_force:
                client.is_informed = False
            client.former = self.main
            self._set_main(client)
            self._update(client, hold)

    def reload(self, client: ClientModel, call: Call, hold: Hold = None) -> None:
        if client.state == "closed":
            call.expected = {ClientClosedError}
        elif not client.is_alive:
            call.expected = {ClientNotStartedError}
        else:
            client.waiting.append(call)
            self._hurry(client, hold)

    def close(self, client: ClientModel) -> None:
        if client.state == "closed":
            return
        was_starting = client.state == "starting"
        client.state = "closed"
        # Today: the former main client does not get its settings back, although the start that took
        # them over has not succeeded.
        self._step_down(client)
        if was_starting:
            self._step_down_at_rest(client.former)
        self._end_run(client, ClientClosedError if was_starting else None, {ClientClosedError})

    def cancel_start(self, client: ClientModel, *, closes: bool) -> None:
        """Cancel the pending `set_as_main`, or the pending `run`: *closes*."""
        if not closes:
            joined, client.joined = client.joined, None
            self._take_back(client, Cancelled, {ClientClosedError})
            if joined is not None:
                self.start(client, joined)  # it takes over
            return
        # Today: the cancellation of `run` closes the client even if it was not yet started, and then
        # the former main client does not get its settings back.
        client.state = "closed"
        self._step_down(client)
        self._step_down_at_rest(client.former)
        self._end_run(client, Cancelled, {ClientClosedError})

    def cancel_reload(self, client: ClientModel, call: Call) -> None:
        """Cancel a pending `reload`: the update that it asked for is made nevertheless."""
        for calls in (client.waiting, client.served):
            if call in calls:
                calls.remove(call)
        call.expected = {Cancelled}

    def ask(self, client: ClientModel, call: Call) -> None:
        if client.state == "closed":
            call.expected = {ClientClosedError}
            return
        client.is_connected = client.has_asked = True
        call.expected = {ServiceUnreachableError if client.is_away else None}

    def add_settings(self, client: ClientModel, names: set[str]) -> Outcome:
        if client.state == "closed":
            return ClientClosedError
        self._attach(client, names)
        client.own |= names
        self.registered -= names
        if self.main is not None and self.main is not client:
            self._keep(self.main, self.main.serves - names)
        self._hurry(client)
        return None

    def set_defaults(self, client: ClientModel, feature: str) -> Outcome:
        if client.state == "closed":
            return ClientClosedError
        if feature in client.defaults:
            return ContradictingArgumentError
        client.defaults.add(feature)
        if client.is_in_force:
            self._renew(client, client.serves)
        return None

    def track_contexts(self, client: ClientModel, user: str) -> Outcome:
        if client.state == "closed":
            return ClientClosedError
        client.tracked.add(user)
        return None

    # --- what happens by itself

    def pass_time(self, client: ClientModel, hold: Hold = None) -> None:
        if client.state == "starting":
            if client.raises:
                self._take_back(client, StartupTimeoutError, {ClientClosedError})
            else:
                self._finish_start(client)  # the update goes on
        elif client.loop == "waiting" and not self.rests(client):
            self._update(client, hold)

    def rests(self, client: ClientModel) -> bool:
        """Whether it polls nothing, because another client took its settings over."""
        return self.main is not client and not client.serves

    def reported(self, client: ClientModel) -> ReportedState:
        """Return the state that its status shows."""
        return "resting" if client.state == "running" and self.rests(client) else client.state

    def release(self, client: ClientModel) -> None:
        held = client.held
        assert held is not None
        client.held = None
        if held.request == "query":
            if client.is_in_force:
                self._publish(client, held.names, held.value)
            client.staged = held.names, held.value
            if held.planned:
                client.has_asked = client.is_informed = True
                self._declare(client, held.planned)
            else:
                self._end_update(client, names=held.names, value=held.value)
        elif held.has_failed:
            self._end_update(client, has_failed=True)
        elif client.asks_more:
            client.has_asked = True
            self._go_on(client)
        else:
            self._end_update(client)  # there is nothing more to ask for

    def fork(self) -> None:
        """Make this the model of the child."""
        for client in self.clients:
            client.start = client.joined = client.held = None
            client.waiting, client.served = [], []
            client.is_urgent = client.is_connected = False
            client.loop = "none"
            if client.state == "starting":
                client.state = "new"
                # Today: the former main client does not get its settings back in the child.
                self._detach(client)
            elif client.state == "running" and self.forks_with_loop:
                client.loop = "waiting"
            elif client.state == "running":
                client.state = "inherited"

    # --- updates

    def _hurry(self, client: ClientModel, hold: Hold = None) -> None:
        """Have an update made at once, or after the one that is under way."""
        if client.loop == "waiting":
            self._update(client, hold)
        elif client.loop == "held":
            client.is_urgent = True

    def _update(self, client: ClientModel, hold: Hold = None) -> None:
        client.has_asked = client.has_polled = client.is_connected = True
        client.served, client.waiting = client.waiting, []
        client.is_urgent = False
        client.staged = frozenset(), DEFAULT
        if hold == "context_features":
            client.loop, client.held = "held", HeldUpdate(hold, client.is_away)
        else:
            self._go_on(client, hold)

    def _go_on(self, client: ClientModel, hold: Hold = None) -> None:
        """Make the requests of an update that follow the first one."""
        if client.is_away:
            self._end_update(client, has_failed=True)
            return
        planned = frozenset(client.undeclared - client.stored)
        client.undeclared = set()
        there = client.known - planned
        if hold == "query" and there:
            client.loop = "held"
            client.held = HeldUpdate(hold, False, there, client.answer, planned)
        else:
            self._declare(client, planned, hold)

    def _declare(self, client: ClientModel, planned: frozenset[str], hold: Hold = None) -> None:
        """Declare these settings, and ask for the rules once more."""
        if planned and client.is_away:
            client.undeclared |= planned & client.serves
            self._end_update(client, has_failed=True)
            return
        for name in planned:
            if name != "extra" or not client.refuses or name in client.stored:
                client.stored.add(name)
            elif name not in client.undeclared:
                client.refused.add(name)
        if hold == "query" and client.known:
            client.loop = "held"
            client.held = HeldUpdate(hold, False, client.known, client.answer)
        else:
            self._end_update(client, names=client.known, value=client.answer)

    def _end_update(
        self,
        client: ClientModel,
        *,
        has_failed: bool = False,
        names: Iterable[str] = (),
        value: int = DEFAULT,
    ) -> None:
        client.is_failing = has_failed
        if not has_failed:
            client.is_informed = True
        error: Outcome = ServiceUnreachableError if has_failed else None
        if client.is_in_force:
            self._publish(client, names, value)
        if client.state == "starting":
            if client.raises and (has_failed or client.refused):
                # Today: a pending reload has the next update begun while the start is taken back. It
                # ends with that update, or because the start is given up.
                if client.is_urgent:
                    client.has_asked = client.has_polled = None
                self._take_back(client, error or DeclarationRejected, {ClientClosedError, error})
                return
            self._finish_start(client)
            self._publish(client, names, value)
        if not has_failed:
            client.has_told = True
        for call in client.served:
            call.expected = {error}
        client.served = []
        client.loop = "waiting"
        if client.is_urgent:
            self._update(client)

    def _publish(self, client: ClientModel, names: Iterable[str], value: int) -> None:
        for name in client.serves.intersection(names):
            self.settings[name].value = value

    def _renew(self, client: ClientModel, names: Iterable[str]) -> None:
        for name in names:
            setting = self.settings[name]
            setting.defaults, setting.is_strict = frozenset(client.defaults), True

    # --- starts and ends

    def _finish_start(self, client: ClientModel) -> None:
        assert client.start is not None
        client.state, client.is_in_force = "running", True
        self._renew(client, client.serves)
        self._publish(client, *client.staged)
        if client.joined is not None:
            client.joined.expected = {None}
            client.joined = None
        if client.start.method == "run":
            client.start.has_to_be_started = True
        else:
            client.start.expected = {None}
            client.start = None

    def _take_back(self, client: ClientModel, outcome: Outcome, reloads: set[Outcome]) -> None:
        """After a start that failed: leave nothing running, and give the settings back."""
        if self.main is client:
            self._detach(client)
            if client.former is not None and client.former not in self.stepped_down:
                self._set_main(client.former)
        self._step_down_at_rest(client.former)
        client.state = client.at_rest
        # Today: the pending reloads say that the client was closed, which it was not.
        self._end_run(client, outcome, reloads)

    def _end_run(self, client: ClientModel, start: Outcome, reloads: set[Outcome]) -> None:
        """End the update loop and the pending calls."""
        client.loop, client.held = "none", None
        client.is_connected = client.is_urgent = False
        client.staged = frozenset(), DEFAULT
        if client.start is not None:
            client.start.expected = {start}
            client.start.has_to_be_started = False
            client.start = None
        joined, client.joined = client.joined, None
        if joined is not None:
            joined.expected = {ClientClosedError if client.state == "closed" else start}
        for call in client.reloads:
            call.expected = reloads
        client.waiting, client.served = [], []

    # --- the main client

    def _set_main(self, client: ClientModel) -> None:
        if self.main is client:
            return
        self._attach(client, self.registered)
        if self.main is not None:
            self._detach(self.main)
        self.main = client
        self.stepped_down.discard(client)

    def _attach(self, client: ClientModel, names: set[str]) -> None:
        client.serves |= names
        client.undeclared |= names
        client.refused -= names
        if client.is_in_force and client.state != "closed":
            self._renew(client, names)
        self._hurry(client)

    def _detach(self, client: ClientModel) -> None:
        if self.main is client:
            self._keep(client, client.serves & client.own)
            self.main = None

    def _keep(self, client: ClientModel, names: set[str]) -> None:
        """Have it serve no others than these."""
        client.serves = names
        client.undeclared &= names
        client.refused &= names

    def _step_down(self, client: ClientModel) -> None:
        self.stepped_down.add(client)
        if self.main is client:
            self.main = None  # the settings stay with it, until there is another main client

    def _step_down_at_rest(self, former: ClientModel | None) -> None:
        # Today: if the former main client failed to start as well, the one before that does not get
        # the settings back, although it may run.
        if former is not None and not former.is_alive:
            self._step_down(former)


# --- the world ------------------------------------------------------------------------------------


class WatchedBackend(ScriptedBackend):
    """A scripted backend that counts the update loops that run."""

    def __init__(self, harness: Harness, service: ScriptedService) -> None:
        self.events: list[CountingEvent] = []
        super().__init__(harness.backend, service, self.events)
        #: One object for each.
        self.loops: set[object] = set()

    def create_task(self, main: Callable[[], Coroutine[Any, Any, None]]) -> Task:
        async def counted() -> None:
            loop = object()
            self.loops.add(loop)
            try:
                await main()
            finally:
                self.loops.discard(loop)

        return super().create_task(counted)


class WatchedClock(ManualClock):
    """A clock that shows what waits on it."""

    @property
    def waits(self) -> list[tuple[float, Event]]:
        """The deadline and the event of each wait."""
        return list(self._sleepers)


class ActualClient:
    """A client with the service, the clock and the backend that it alone uses."""

    def __init__(self, harness: Harness, model: Model, expected: ClientModel) -> None:
        self.expected = expected
        self._model = model
        self.service = ScriptedService(*FEATURES)
        self.clock = WatchedClock()
        self.backend = WatchedBackend(harness, self.service)
        self.change_rules()
        self.client: AnyClient = harness.client(
            "http://service.test",
            INTERVAL,
            FEATURES,
            backend=self.backend,
            clock=self.clock,
            random=lambda: 0.5,
            startup="raise" if expected.raises else "continue",
            startup_timeout=STARTUP_TIMEOUT,
        )
        self.told_in: list[str] = []
        self.client.client.on_update_ok = self._note_update
        # The update whose request is held, and the events that it has arrived and may go on.
        self.held: tuple[HeldUpdate, Event, Event] | None = None
        self._forgotten_waits: list[tuple[float, Event]] = []
        self._forgotten_loops: set[object] = set()
        self._forgotten_events = self._forgotten_transports = 0
        self.begin_step()

    def _note_update(self) -> None:
        self.told_in.append(self.client.status.state)

    def change_rules(self) -> None:
        self.service.rules.clear()
        for name in ("shared", "extra"):
            self.service.add_rule(name, self.expected.rule, user="jim")

    def begin_step(self) -> None:
        """Note what there is before an operation."""
        self.requests = len(self.service.requests)
        self.polls = self.client.status.polls
        self.told_in.clear()

    def forget(self) -> None:
        """Before a fork: in the child, nothing goes on with what there is by now."""
        self._forgotten_waits = self.clock.waits
        self._forgotten_loops = set(self.backend.loops)
        self._forgotten_events = len(self.backend.events)
        self._forgotten_transports = len(self.service.transports)

    def remember(self) -> None:
        """After a fork, in the parent: count everything again."""
        self._forgotten_waits.clear()
        self._forgotten_loops.clear()
        self._forgotten_events = self._forgotten_transports = 0

    @property
    def is_settled(self) -> bool:
        """Whether what is expected has happened, other than the ends of calls."""
        expected = self.expected
        held = self.held
        if expected.held is not None and not (
            held is not None and held[0] is expected.held and held[1].is_set()
        ):
            return False
        # The loop waits for time to pass, and so does a caller that starts the client. A wait whose
        # event is set is about to end.
        resting = (expected.loop == "waiting") + (expected.state == "starting")
        waits = [each for each in self.clock.waits if each not in self._forgotten_waits]
        waiting = sum(event.waiting for event in self.backend.events[self._forgotten_events :])
        return (
            len(waits) == resting
            and not any(event.is_set() for _, event in waits)
            and waiting == resting + len(expected.reloads) + (expected.joined is not None)
            and len(self.backend.loops - self._forgotten_loops) == (expected.loop != "none")
        )

    def check(self) -> None:
        """Compare the client with its model."""
        expected, status = self.expected, self.client.status
        assert status.state == self._model.reported(expected)
        assert status.is_ready == (expected.is_in_force and expected.is_informed)
        if expected.is_failing is not None:
            assert (status.failures > 0) == expected.is_failing
        transports = self.service.transports[self._forgotten_transports :]
        assert sum(not each.closed for each in transports) == expected.is_connected
        if expected.has_asked is not None:
            assert (len(self.service.requests) > self.requests) == expected.has_asked
        if expected.has_polled is not None:
            assert (status.polls > self.polls) == expected.has_polled
        assert bool(self.told_in) == expected.has_told
        assert set(self.told_in) <= {"running", "resting"}


class World:
    """Real clients and their model. Performs operations on both, and compares them."""

    def __init__(self, harness: Harness, startups: Iterable[bool]) -> None:
        self._harness = harness
        self._settings = {
            name: Setting(name, int, FEATURES, DEFAULT) for name in ("shared", "extra")
        }
        self._model = Model(self._settings, forks_with_loop=harness.is_blocking)
        self._clients: list[ActualClient] = []
        self._calls: list[Call] = []
        self._slots = [self._make_client(raises) for raises in startups]

    def _make_client(self, raises: bool) -> ActualClient:
        expected = ClientModel(raises, 1000 * (len(self._clients) + 1))
        self._model.clients.append(expected)
        client = ActualClient(self._harness, self._model, expected)
        self._clients.append(client)
        return client

    async def live(self, operations: Iterable[Operation]) -> None:
        """Perform the operations, then close all clients, and see that nothing is left."""
        try:
            for operation in operations:
                with _noted(f"at {operation}"):
                    await self._step(partial(self._perform, operation))
            for client in self._clients:
                with _noted("at the final close"):
                    await self._step(partial(self._close, client))
            assert not self._calls
        except BaseException:
            for client in self._clients:
                client.service.let_go()
                self._harness.beside(client.client.close)
            raise

    async def _step(self, perform: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._model.begin_step()
        for client in self._clients:
            client.begin_step()
        await perform()
        deadline = time.monotonic() + patience[-1]
        await self._harness.until(lambda: self._is_settled or time.monotonic() > deadline)
        is_settled = self._is_settled
        if not is_settled:
            patience.append(2.0)
        for call in self._calls:
            assert not call.ended or call.outcome in call.expected, call
        for client in self._clients:
            client.check()
        self._check_settings()
        assert is_settled, [
            *(call for call in self._calls if not self._is_as_expected(call)),
            *(client.expected for client in self._clients if not client.is_settled),
        ]
        self._calls = [call for call in self._calls if not call.ended]

    @property
    def _is_settled(self) -> bool:
        return all(map(self._is_as_expected, self._calls)) and all(
            client.is_settled for client in self._clients
        )

    @staticmethod
    def _is_as_expected(call: Call) -> bool:
        return call.ended == bool(call.expected) and call.started >= call.has_to_be_started

    def _check_settings(self) -> None:
        for name, setting in self._settings.items():
            for features in ([], ["user"], ["environment"], FEATURES):
                contexts = {feature: CONTEXT[feature] for feature in features}
                answer: int | type[BaseException]
                try:
                    answer = setting.get(**contexts)
                except Exception as error:
                    answer = type(error)
                assert answer == self._model.settings[name].get(features), (name, features)

    # --- operations

    async def _perform(self, operation: Operation) -> None:
        if isinstance(operation, Fork):
            self._fork(operation.in_child)
            return
        client = self._slots[operation.client]
        expected = client.expected
        match operation:
            case Start(_, by, hold):
                is_async = isinstance(client.client.client, AsyncHeksherClient)
                call = Call(by if is_async else "set_as_main")
                if expected.joined is not None:
                    return  # which of two callers that wait takes over is not defined
                self._model.start(expected, call, hold)
                self._begin(client, call)
            case Reload(_, hold):
                call = Call("reload")
                self._model.reload(expected, call, hold)
                self._begin(client, call)
            case PassTime(_, hold):
                self._model.pass_time(expected, hold)
                self._hold_request(client)
                client.clock.advance(INTERVAL)
            case Release():
                self._release(client)
            case Close():
                await self._close(client)
            case Cancel(_, method):
                self._cancel(client, method)
            case CancelAfter(_, method, steps):
                await self._cancel_after(client, Call(method), steps)
            case Ask(_, method):
                call = Call(method)
                self._model.ask(expected, call)
                self._begin(client, call)
            case AddSettings():
                self._add_settings(client)
            case SetDefaults(_, feature):
                outcome = self._model.set_defaults(expected, feature)
                defaults = {feature: CONTEXT[feature]}
                assert _outcome(lambda: client.client.set_defaults(**defaults)) == outcome
            case TrackContexts(_, user):
                outcome = self._model.track_contexts(expected, user)
                assert _outcome(lambda: client.client.track_contexts(user=user)) == outcome
            case ChangeRules():
                expected.rule += 1
                client.change_rules()
            case SetOutage(_, is_away):
                self._set_outage(client, is_away)
            case SetRefusal(_, is_refused):
                self._set_refusal(client, is_refused)
            case Replace():
                if expected.state == "closed":
                    self._slots[operation.client] = self._make_client(expected.raises)

    def _set_outage(self, client: ActualClient, is_away: bool) -> None:
        client.expected.is_away = is_away
        client.service.fault = unreachable() if is_away else None

    def _set_refusal(self, client: ActualClient, is_refused: bool) -> None:
        client.expected.refuses = is_refused
        client.service.answers.clear()
        if is_refused and "extra" not in client.expected.stored:
            client.service.answers["extra"] = refusal()

    def _release(self, client: ActualClient) -> None:
        expected, held = client.expected, client.held
        if expected.held is None:
            return
        if expected.state == "starting" and expected.is_urgent:
            # Today: the start ends as the last update that has ended when its caller looks, and
            # another one follows the first at once. See that both end alike.
            is_first = expected.held.request == "context_features"
            is_away = is_first and expected.is_away and expected.asks_more
            self._set_outage(client, expected.held.has_failed or is_away)
            if not is_first:
                self._set_refusal(client, False)
        self._model.release(expected)
        assert held is not None
        held[2].set()

    async def _close(self, client: ActualClient) -> None:
        self._model.close(client.expected)
        self._begin(client, Call("close", {None}))

    def _cancel(self, client: ActualClient, method: str) -> None:
        expected = client.expected
        call = next(iter(expected.reloads), None) if method == "reload" else expected.start
        if call is None or self._harness.is_blocking:
            return
        assert call.scope is not None
        if method == "reload":
            self._model.cancel_reload(expected, call)
        else:
            self._model.cancel_start(expected, closes=call.method == "run")
        call.scope.cancel()

    async def _cancel_after(self, client: ActualClient, call: Call, steps: int) -> None:
        expected = client.expected
        starts = call.method in ("set_as_main", "run")
        if self._harness.is_blocking or (starts and expected.state == "inherited"):
            return  # in the latter case what it has fetched by then may be in force
        if starts and expected.state == "starting":
            return
        before = expected.state

        async def cancel_later(scope: anyio.CancelScope) -> None:
            for _ in range(steps):
                await anyio.lowlevel.checkpoint()
            scope.cancel()

        async def cancelled() -> None:
            async with anyio.create_task_group() as group:
                group.start_soon(cancel_later, group.cancel_scope)
                await self._observe(client, call)
                group.cancel_scope.cancel()

        await cancelled()
        self._calls.append(call)
        was_cancelled = call.outcome is Cancelled
        if call.method == "close":
            self._model.close(expected)
            call.expected = {None, Cancelled}
        elif call.method == "reload":
            self._model.reload(expected, call)
            if was_cancelled and expected.state in ("starting", "running"):
                self._model.cancel_reload(expected, call)
        elif before != "new" or not was_cancelled:
            self._model.start(expected, call)
        elif call.started:
            self._model.start(expected, call)
            self._model.cancel_start(expected, closes=True)
        else:
            self._model.start(expected, call, "context_features")
            # It closes the client if the loop has begun by then.
            closes = call.method == "run" and client.client.status.state == "closed"
            self._model.cancel_start(expected, closes=closes)
            expected.is_failing = expected.has_asked = expected.has_polled = None

    def _add_settings(self, client: ActualClient) -> None:
        if any(
            "extra" in other.expected.own and other.expected.state != "closed"
            for other in self._clients
            if other is not client
        ):
            return  # it is not defined what a setting answers that two clients publish
        outcome = self._model.add_settings(client.expected, {"extra"})
        extra = self._settings["extra"]
        assert _outcome(lambda: client.client.add_settings([extra])) == outcome

    # --- calls

    def _begin(self, client: ActualClient, call: Call) -> None:
        """Make a call beside the body."""
        self._hold_request(client)
        self._calls.append(call)

        async def observed() -> None:
            if self._harness.is_blocking:
                await self._observe(client, call)
                return
            with anyio.CancelScope() as call.scope:
                await self._observe(client, call)

        self._harness.beside(observed)

    def _hold_request(self, client: ActualClient) -> None:
        """Have the service hold the request that the model expects to be held, if it is a new one."""
        held = client.expected.held
        if held is not None and (client.held is None or client.held[0] is not held):
            arrived, go_on = self._harness.event(), self._harness.event()
            client.service.hold(f"v1/{held.request}", arrived, go_on)
            client.held = held, arrived, go_on

    async def _observe(self, client: ActualClient, call: Call) -> None:
        """Make a call, and note how it ends."""
        outcome: Outcome = Cancelled
        try:
            await self._make(client.client, call)
            outcome = None
        except Exception as error:
            outcome = type(error)
        finally:
            call.outcome, call.ended = outcome, True

    async def _make(self, client: AnyClient, call: Call) -> None:
        match call.method:
            case "run":
                assert isinstance(client.client, AsyncHeksherClient)
                await client.client.run(task_status=_TaskStatus(call))
            case "set_as_main":
                await client.set_as_main()
            case "reload":
                await client.reload()
            case "close":
                await client.close()
            case "ping":
                await client.ping()
            case _:
                await client.get_settings()

    # --- forks

    def _fork(self, operations: Iterable[Operation]) -> None:
        """Have the operations performed in a child process, and raise what went wrong there."""
        if not hasattr(os, "fork"):
            return
        for client in self._clients:
            client.forget()
        readable, writable = os.pipe()
        with warnings.catch_warnings():
            # Newer Pythons warn of threads, which is what this is about.
            warnings.filterwarnings("ignore", ".*multi-threaded", DeprecationWarning)
            pid = os.fork()
        if pid == 0:
            os.close(readable)
            self._be_child(operations, writable)
        os.close(writable)
        with open(readable, encoding="utf-8") as verdict:
            trouble = verdict.read()
        _, status = os.waitpid(pid, 0)
        for client in self._clients:
            client.remember()
        assert not trouble, f"in the forked child:\n{trouble}"
        assert os.waitstatus_to_exitcode(status) == 0

    def _be_child(self, operations: Iterable[Operation], writable: int) -> None:
        """Perform the operations in this process, the forked child, and end it."""
        signal.alarm(60)  # the system ends a child that hangs
        troubles: list[str] = []

        async def body() -> None:
            self._calls.clear()
            self._model.fork()
            with _noted("after the fork"):
                await self._step(_nothing)
            await self.live(operations)

        def run() -> None:
            try:
                self._harness = type(self._harness)()
                self._harness.run(body)
            except BaseException:
                troubles.append(traceback.format_exc())

        try:
            if self._harness.is_blocking:
                run()
            else:
                # This thread is still inside of the event loop of the parent.
                thread = threading.Thread(target=run)
                thread.start()
                thread.join()
            os.write(writable, "".join(troubles).encode()[:60_000])
        finally:
            os._exit(0)


class _TaskStatus:
    """What `run` reports to that the client is ready."""

    def __init__(self, call: Call) -> None:
        self._call = call

    def started(self) -> None:
        self._call.started = True


async def _nothing() -> None:
    pass


def _outcome(function: Callable[[], object]) -> Outcome:
    try:
        function()
    except Exception as error:
        return type(error)
    return None


@contextlib.contextmanager
def _noted(note: str) -> Any:
    """Say where it was that an error was raised."""
    try:
        yield
    except BaseException as error:
        error.add_note(note)
        raise


# --- the tests ------------------------------------------------------------------------------------


#: Operations that are tried each time, with clients of both kinds of `startup`.
KNOWN_PATHS: list[list[Operation]] = [
    # From the start to the end, with polls, an outage, and calls that come too early or too late.
    [
        *(Reload(0), Ask(0), Start(0), Start(0), ChangeRules(0), PassTime(0), ChangeRules(0)),
        *(Reload(0), SetOutage(0, True), Reload(0), PassTime(0), SetOutage(0, False), PassTime(0)),
        *(SetDefaults(0, "user"), SetDefaults(0, "user"), TrackContexts(0, "joe"), Reload(0)),
        *(TrackContexts(0, "jim"), Reload(0), Close(0), Close(0), Reload(0), Start(0), Ask(0)),
        *(SetDefaults(0, "environment"), TrackContexts(0, "joe"), AddSettings(0), PassTime(0)),
    ],
    # A start that fails, times out, or is closed, at its first and at its last request.
    [SetOutage(0, True), Start(0), SetOutage(0, False), Start(0), Reload(0)],
    [SetOutage(0, True), Start(0), SetOutage(0, False), Start(0, hold="query"), PassTime(0)],
    [Start(0, hold="context_features"), PassTime(0), Start(0), ChangeRules(0), Reload(0)],
    [Start(0, hold="query"), Start(0), Start(0, "run"), PassTime(0), Release(0), Reload(0)],
    [Start(0, hold="context_features"), Close(0), Release(0), Start(0)],
    [Start(0, hold="query"), ChangeRules(0), Close(0), PassTime(0)],
    # A start that fails although its update succeeds: a declaration is refused.
    [SetRefusal(0, True), ChangeRules(0), Start(0), Reload(0), SetRefusal(0, False), Start(0)],
    [
        *(Start(0), Start(1), SetRefusal(2, True), Start(2, hold="query"), Reload(2), Release(2)),
        *(ChangeRules(1), PassTime(1), AddSettings(2), Start(2), SetRefusal(2, False), Start(2)),
    ],
    # Reloads that wait while the client starts, fails to start, or is closed.
    [Start(0, hold="query"), ChangeRules(0), Reload(0), Reload(0), Release(0)],
    [SetOutage(0, True), Start(0, hold="context_features"), Reload(0), Release(0), Start(0)],
    [Start(0, hold="context_features"), Reload(0), PassTime(0), Reload(0)],
    [Start(0), ChangeRules(0), Reload(0, hold="query"), Reload(0), ChangeRules(0), Close(0)],
    [Start(0), PassTime(0, hold="query"), Reload(0), ChangeRules(0), Release(0)],
    # An update that declares: before it, rules that the service has are in force.
    [
        *(SetRefusal(0, True), Start(0), SetRefusal(0, False), ChangeRules(0)),
        *(Start(0, hold="query"), ChangeRules(0), PassTime(0), Release(0), Reload(0)),
    ],
    [
        *(SetRefusal(0, True), Start(0), Start(0, hold="query"), SetOutage(0, True), Release(0)),
        *(SetOutage(0, False), Start(0), AddSettings(0), Reload(0, hold="query"), Release(0)),
    ],
    # Two callers that start one client.
    [Start(0, hold="query"), Start(0), Release(0), Reload(0)],
    [Start(0, hold="query"), Start(0), Cancel(0, "start"), ChangeRules(0), Reload(0)],
    [Start(0, "run", hold="query"), Start(0), Cancel(0, "start"), Start(0)],
    [SetOutage(0, True), Start(0, hold="context_features"), Start(0), Release(0), Start(0)],
    [Start(0, hold="query"), Start(0), Fork((Start(0), Reload(0))), Close(0)],
    # A client that rests, as its settings were taken over.
    [
        *(Start(0), Start(1), PassTime(0), Reload(0), PassTime(0), SetOutage(0, True), Reload(0)),
        *(PassTime(0), Fork((PassTime(0), Reload(0), PassTime(0))), SetOutage(0, False)),
        *(Close(1), PassTime(0), AddSettings(0), ChangeRules(0), PassTime(0), Start(2)),
    ],
    # A caller that is cancelled.
    [Start(0, hold="query"), Reload(0), Cancel(0, "start"), Start(0), Reload(0)],
    [Start(0), Reload(0, hold="query"), Cancel(0, "reload"), ChangeRules(0), Release(0)],
    [Start(0, "run", hold="query"), Cancel(0, "start"), Start(0)],
    [Start(0, "run"), Reload(0), Start(0, "run"), Start(0), Cancel(0, "start"), Start(1)],
    [Start(0, "run"), ChangeRules(0), Reload(0, hold="query"), Close(0), Start(0, "run")],
    [*(CancelAfter(0, "set_as_main", steps) for steps in range(0, 30, 3)), Start(0), Reload(0)],
    [Start(0), *(CancelAfter(0, "reload", steps) for steps in range(0, 12, 3)), Reload(0)],
    [Start(0), CancelAfter(0, "close", 0), Start(1), CancelAfter(1, "close", 2)],
    [
        operation
        for steps in range(20)
        for operation in (
            *(CancelAfter(0, "set_as_main", steps), SetOutage(0, True), Start(0)),
            *(Close(0), Replace(0)),
        )
    ],
    # A second main client, which starts, fails to start, is cancelled or closed.
    [
        *(Start(0), SetDefaults(1, "user"), Start(1, hold="query"), ChangeRules(0), Reload(0)),
        *(Release(1), ChangeRules(1), PassTime(0), PassTime(1), Start(0), Close(1), PassTime(0)),
    ],
    [Start(0), SetOutage(1, True), ChangeRules(0), Start(1), ChangeRules(0), PassTime(0)],
    [Start(0), Start(1, hold="query"), ChangeRules(0), Cancel(1, "start"), PassTime(1), Reload(0)],
    [Start(0), Start(1, "run", hold="query"), ChangeRules(0), Cancel(1, "start"), Reload(0)],
    [Start(0), Start(1, hold="query"), ChangeRules(0), Close(1), Reload(0), Start(2)],
    [Start(0), Start(1, hold="query"), Close(0), PassTime(1), Release(1), Start(2)],
    [
        *(Start(0), Start(1, hold="context_features"), Start(2, hold="context_features")),
        *(PassTime(1), PassTime(2), ChangeRules(0), Reload(0), Start(2), Start(1)),
    ],
    # Settings that are added to a client.
    [
        *(Start(0), AddSettings(1), ChangeRules(0), Reload(0), Start(1), ChangeRules(1), Close(0)),
        *(Reload(1), SetDefaults(1, "user"), Close(1), AddSettings(2), Start(2)),
    ],
    # A fork beside clients in each state.
    [
        Start(0),
        *(Start(1), Reload(1, hold="query"), Start(2, hold="query")),
        Fork(()),
        Fork((Reload(0), ChangeRules(0), PassTime(0), Ask(0), Close(0), Start(0))),
        Fork((Reload(1), Start(1), ChangeRules(1), Reload(1), Start(2), Start(1), Reload(1))),
        Fork((SetOutage(0, True), Start(0), Start(2), ChangeRules(2), PassTime(2), Close(2))),
        *(ChangeRules(2), Release(2), Release(1), PassTime(0)),
    ],
    [Start(0), Close(0), Start(1), Fork((Reload(0), Start(0), Close(0), Start(1))), Reload(1)],
    [Ask(0), Fork((Ask(0), Start(0, hold="query"), Release(0))), Start(0)],
]


def _known_paths(test: Callable[..., None]) -> Callable[..., None]:
    for operations in KNOWN_PATHS:
        for raises in (True, False):
            test = example(startups=[raises] * CLIENTS, operations=operations)(test)
    return test


@pytest.mark.parametrize("harness", HARNESSES, ids=lambda harness: harness.name)
@_known_paths
@given(
    startups=st.lists(st.sampled_from([True, False]), min_size=CLIENTS, max_size=CLIENTS),
    operations=_operations(),
)
@settings(
    derandomize=not EXAMPLES,
    max_examples=EXAMPLES or GATE_EXAMPLES,
    database=None,
    deadline=None,
    report_multiple_bugs=False,  # each failure waits for what never happens
    phases=[Phase.explicit, Phase.generate, Phase.shrink],
    suppress_health_check=[HealthCheck.too_slow],
)
def test_any_sequence_of_operations_does_what_the_model_does(
    harness: type[Harness], startups: list[bool], operations: list[Operation]
) -> None:
    testing.reset()
    here = harness()
    before = threading.enumerate()  # another test's may take a while to end

    async def body() -> None:
        await World(here, startups).live(operations)

    here.run(body)
    begun = [thread for thread in threading.enumerate() if thread not in before]
    assert not [thread for thread in begun if thread.name.startswith("heksher")]
