"""`ClientStatus`: how a client is doing, at one moment. Pure data."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class ClientState(StrEnum):
    """Where a client is in its life."""

    NEW = "new"
    STARTING = "starting"
    RUNNING = "running"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class ClientStatus:
    """How a client is doing. It is a snapshot and does not change.

    Attributes:
        state: new, starting, running or closed.
        staleness: seconds since the newest successful update began to be in force, or None if there
            was none yet.
        failures: updates that failed in a row; 0 after a success.
        last_error: what the newest failure was, also after a success; None if there was none.
    """

    state: ClientState
    staleness: float | None
    failures: int
    last_error: Exception | None

    def __str__(self) -> str:
        age = "never updated" if self.staleness is None else f"updated {self.staleness:.1f} s ago"
        failing = f", {self.failures} failures in a row: {self.last_error}" if self.failures else ""
        return f"{self.state}, {age}{failing}"
