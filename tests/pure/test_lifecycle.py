"""The table of a client's lifecycle: the module's docstring shows what the code does."""

from __future__ import annotations

import re

import pytest

from heksher._client import lifecycle
from heksher._client.lifecycle import REFUSALS, TRANSITIONS, Call, Lifecycle, LifecycleEvent, State
from heksher.exceptions import ClientClosedError, ClientNotStartedError, HeksherError
from heksher.status import ClientState


def in_state(state: State) -> Lifecycle:
    life = Lifecycle()
    life.state = state
    return life


def documented() -> dict[tuple[State, LifecycleEvent], State | None]:
    """Return the docstring's table: the next state by state and event, None where there is none."""
    assert lifecycle.__doc__ is not None
    rows = [line.split() for line in lifecycle.__doc__.splitlines() if re.match(r" {4}\w", line)]
    events = [LifecycleEvent[name] for name in rows[0][1:]]
    return {
        (State[row[0]], event): None if cell == "-" else State[cell]
        for row in rows[1:]
        for event, cell in zip(events, row[1:], strict=True)
    }


def test_the_docstring_shows_every_state_and_every_event_but_close() -> None:
    assert set(documented()) == {
        (state, event)
        for state in State
        for event in LifecycleEvent
        if event is not LifecycleEvent.CLOSE
    }


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("event", LifecycleEvent)
def test_each_event_leads_where_the_docstring_says(state: State, event: LifecycleEvent) -> None:
    wanted = State.CLOSED if event is LifecycleEvent.CLOSE else documented()[state, event]
    life = in_state(state)
    if wanted is None:
        with pytest.raises(KeyError):
            life.apply(event)
        wanted = state
    else:
        life.apply(event)
    assert life.state is wanted


def test_nothing_leads_out_of_closed() -> None:
    assert {targets.get(State.CLOSED, State.CLOSED) for targets in TRANSITIONS.values()} == {
        State.CLOSED
    }


def test_every_state_is_reached_from_new() -> None:
    reached = {State.NEW}
    for _ in State:
        reached |= {
            target
            for targets in TRANSITIONS.values()
            for at, target in targets.items()
            if at in reached
        }
    assert reached == set(State)


@pytest.mark.parametrize("call", Call)
def test_a_closed_client_refuses_every_call(call: Call) -> None:
    with pytest.raises(ClientClosedError, match="final"):
        in_state(State.CLOSED).check(call)


@pytest.mark.parametrize("state", [state for state in State if state is not State.CLOSED])
def test_requests_and_configuration_are_taken_in_every_other_state(state: State) -> None:
    in_state(state).check(Call.REQUEST)
    in_state(state).check(Call.CONFIGURE)


@pytest.mark.parametrize("call", [Call.START, Call.RUN])
def test_a_start_is_refused_where_it_would_lead_nowhere(call: Call) -> None:
    # Except for set_as_main() on a running client, which does nothing.
    leads = TRANSITIONS[LifecycleEvent.START]
    nowhere = {state for state in State if leads.get(state, state) is state}
    assert set(REFUSALS[call]) == nowhere - ({State.RUNNING} if call is Call.START else set())


@pytest.mark.parametrize("state", State)
def test_a_reload_needs_a_run_that_goes_on(state: State) -> None:
    life = in_state(state)
    if life.is_going_on:
        life.check(Call.RELOAD)
        return
    with pytest.raises(HeksherError) as caught:
        life.check(Call.RELOAD)
    is_closed = state is State.CLOSED
    assert type(caught.value) is (ClientClosedError if is_closed else ClientNotStartedError)


def test_each_state_is_reported_as_a_public_one() -> None:
    reported = {in_state(state).reported for state in State}
    assert reported == set(ClientState) - {ClientState.RESTING}  # a running one that serves nothing


@pytest.mark.parametrize("state", State)
def test_what_was_published_stays_published_until_the_client_is_closed(state: State) -> None:
    if not in_state(state).is_published:
        return
    for event, targets in TRANSITIONS.items():
        if event is LifecycleEvent.START_FAILED:
            continue  # of a caller that failed after its start was done: the client is as before it
        if state in targets and targets[state] is not State.CLOSED:
            assert in_state(targets[state]).is_published, event
