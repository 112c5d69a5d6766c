"""How a client says how it is doing."""

from __future__ import annotations

import pytest

from heksher.status import ClientState, ClientStatus


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (ClientStatus(ClientState.NEW, None, 0, None), "new, never updated"),
        (ClientStatus(ClientState.RUNNING, 0.26, 0, None), "running, updated 0.3 s ago"),
        (
            ClientStatus(ClientState.RUNNING, 12.0, 3, ValueError("away")),
            "running, updated 12.0 s ago, 3 failures in a row: away",
        ),
        (
            # The newest failure stays to be seen, and says nothing of now.
            ClientStatus(ClientState.CLOSED, 1.0, 0, ValueError("away")),
            "closed, updated 1.0 s ago",
        ),
    ],
    ids=["new", "well", "failing", "closed"],
)
def test_a_status_reads_as_a_sentence(status: ClientStatus, text: str) -> None:
    assert str(status) == text
