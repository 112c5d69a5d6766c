"""The life of a client as a table: its states, the events between them, and what may be called when.

Pure data and pure decisions. Knows no lock, loop, thread or I/O. Every question about where a client is in
its life is answered here and nowhere else; the client's lock guards the `Lifecycle`.

::

    state            START       START_DONE  START_FAILED     START_UNDONE  FORKED     RESUMED
    NEW              STARTING    -           -                -             NEW        -
    STARTING         -           RUNNING     FAILING          -             NEW        -
    FAILING          -           -           FAILING          NEW           NEW        -
    RUNNING          -           -           FAILING          -             INHERITED  -
    INHERITED        RESTARTING  -           -                -             INHERITED  RUNNING
    RESTARTING       -           RUNNING     RESTART_FAILING  -             INHERITED  -
    RESTART_FAILING  -           -           RESTART_FAILING  INHERITED     INHERITED  -
    CLOSED           CLOSED      CLOSED      CLOSED           CLOSED        CLOSED     -

CLOSE leads from every state to CLOSED, which is final.

A first start and a restart in a forked child have states of their own, since they differ in what a
failure goes back to, and in what `get()` answers until they succeed: the defaults of the code, or the
rules of the parent.

Each start makes a `Run`. The core keeps the latest one, and it goes on as long as the state is one of
`_GOING_ON`: a run that was stopped finds that out here, and publishes nothing any more.

Callers that start a client at the same time share one start: the core has all but the first wait for its
`Run`, without a START of their own. A client that rests, because another one took its settings over, is
RUNNING here: it goes on as soon as it gets settings, and `reload` updates it.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, auto
from typing import Final, TypeAlias

from heksher.exceptions import ClientClosedError, ClientNotStartedError, HeksherError
from heksher.status import ClientState


class State(Enum):
    """Where a client is in its life."""

    NEW = auto()  # never started, or its first start failed
    STARTING = auto()  # until the first rules are published
    FAILING = auto()  # a first start failed, and what it began is being ended
    RUNNING = auto()  # also while the service cannot be reached
    INHERITED = auto()  # the copy of a running client in a forked child: nothing refreshes it
    RESTARTING = auto()  # an inherited client is being started in the child
    RESTART_FAILING = auto()  # that failed, and what it began is being ended
    CLOSED = auto()  # final


class LifecycleEvent(Enum):
    """What happens to a client."""

    START = auto()  # set_as_main() or run() was called
    START_DONE = auto()  # the start succeeded, or goes on trying in the background
    START_FAILED = auto()  # the start failed, was cancelled, or its caller failed right after it
    START_UNDONE = auto()  # all that a failed start began has ended
    CLOSE = auto()  # it was closed, or its loop was cancelled from outside
    FORKED = auto()  # this is the copy in a forked child
    RESUMED = auto()  # in a forked child: a loop of the child's own runs


class Call(Enum):
    """What an application may ask of a client."""

    START = auto()  # set_as_main()
    RUN = auto()  # run()
    RELOAD = auto()  # reload()
    REQUEST = auto()  # ping(), get_settings(), and the requests of an update
    CONFIGURE = auto()  # set_defaults(), track_contexts(), add_settings()


(NEW, STARTING, FAILING, RUNNING, INHERITED, RESTARTING, RESTART_FAILING, CLOSED) = State

#: The state that an event leads to, by the state that it meets. What is missing cannot happen.
TRANSITIONS: Final[Mapping[LifecycleEvent, Mapping[State, State]]] = {
    # CLOSED stays: closing can come at any moment, even from a signal handler in the thread that starts.
    LifecycleEvent.START: {NEW: STARTING, INHERITED: RESTARTING, CLOSED: CLOSED},
    LifecycleEvent.START_DONE: {STARTING: RUNNING, RESTARTING: RUNNING, CLOSED: CLOSED},
    LifecycleEvent.START_FAILED: {
        **dict.fromkeys((STARTING, FAILING, RUNNING), FAILING),
        **dict.fromkeys((RESTARTING, RESTART_FAILING), RESTART_FAILING),
        CLOSED: CLOSED,
    },
    LifecycleEvent.START_UNDONE: {FAILING: NEW, RESTART_FAILING: INHERITED, CLOSED: CLOSED},
    LifecycleEvent.CLOSE: dict.fromkeys(State, CLOSED),
    # The thread or task that was starting the client does not exist in the child.
    LifecycleEvent.FORKED: {
        **dict.fromkeys((NEW, STARTING, FAILING), NEW),
        **dict.fromkeys((RUNNING, INHERITED, RESTARTING, RESTART_FAILING), INHERITED),
        CLOSED: CLOSED,
    },
    LifecycleEvent.RESUMED: {INHERITED: RUNNING},
}

_BEING_STARTED: Final = (STARTING, FAILING, RESTARTING, RESTART_FAILING)
_GOING_ON: Final = (STARTING, RESTARTING, RUNNING)
_PUBLISHED: Final = (RUNNING, INHERITED, RESTARTING, RESTART_FAILING)

_REPORTED: Final = {
    NEW: ClientState.NEW,
    RUNNING: ClientState.RUNNING,
    INHERITED: ClientState.INHERITED,
    CLOSED: ClientState.CLOSED,
    **dict.fromkeys(_BEING_STARTED, ClientState.STARTING),
}

_Refusal: TypeAlias = tuple[type[HeksherError], str]

_IS_CLOSED: Final = (ClientClosedError, "the client was closed, which is final; make a new client")
_REFUSED_STARTS: Final[Mapping[State, _Refusal]] = {
    **dict.fromkeys(
        _BEING_STARTED,
        (HeksherError, "the client is being started already"),
    ),
    CLOSED: _IS_CLOSED,
}

#: The class and the text of the error that refuses a call, by the call and the state that it meets.
REFUSALS: Final[Mapping[Call, Mapping[State, _Refusal]]] = {
    Call.START: _REFUSED_STARTS,
    Call.RUN: {
        **_REFUSED_STARTS,
        RUNNING: (
            HeksherError,
            "the client runs already; run() starts it, so call set_as_main() or run(), not both",
        ),
    },
    Call.RELOAD: {
        NEW: (
            ClientNotStartedError,
            "the client was not started: call set_as_main(), or enter it with a with-statement, "
            "before reload()",
        ),
        INHERITED: (
            ClientNotStartedError,
            "the client ran in the parent process, and nothing refreshes its copy in this forked one: "
            "start it in this process, by set_as_main() or run(), before reload()",
        ),
        **dict.fromkeys(
            (FAILING, RESTART_FAILING),
            (
                ClientNotStartedError,
                "the client's start has just failed: start it again before reload()",
            ),
        ),
        CLOSED: _IS_CLOSED,
    },
    Call.REQUEST: {CLOSED: _IS_CLOSED},
    Call.CONFIGURE: {CLOSED: _IS_CLOSED},
}


class Lifecycle:
    """One client's place in the table.

    Attributes:
        state: where the client is.
    """

    __slots__ = ("state",)

    def __init__(self) -> None:
        self.state = NEW

    def apply(self, event: LifecycleEvent) -> None:
        """Go where *event* leads.

        Raises:
            KeyError: *event* cannot happen in this state: a defect of the core.
        """
        self.state = TRANSITIONS[event][self.state]

    def check(self, call: Call) -> None:
        """Refuse *call* if it makes no sense in this state.

        Raises:
            HeksherError: of the class that `REFUSALS` names.
        """
        refusal = REFUSALS[call].get(self.state)
        if refusal is not None:
            kind, text = refusal
            raise kind(text)

    @property
    def reported(self) -> ClientState:
        """The state as ``client.status`` shows it."""
        return _REPORTED[self.state]

    @property
    def is_starting(self) -> bool:
        """Whether a start is under way, or is being undone."""
        return self.state in _BEING_STARTED

    @property
    def is_going_on(self) -> bool:
        """Whether the latest run goes on; else it has to end."""
        return self.state in _GOING_ON

    @property
    def is_closed(self) -> bool:
        """Whether the client was closed."""
        return self.state is CLOSED

    @property
    def is_published(self) -> bool:
        """Whether new rules and defaults are published at once.

        Before the first start has succeeded they are kept back. After closing they are dropped.
        """
        return self.state in _PUBLISHED
