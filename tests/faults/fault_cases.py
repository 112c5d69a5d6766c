"""The table of the fault matrix: what can go wrong, how it begins and ends, and what a client then tells.

A cell of the matrix is a case on a backend at a moment. What is asserted in each is
`test_fault_matrix`'s; the stage is `fault_scene`'s.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from fault_scene import Scene

from heksher.testing import faults as f

QUERY = "/api/v1/query"

#: Seconds, for faults that end by nothing else. Small, since it is waited for.
TIMEOUT = 0.5
STARTUP_TIMEOUT = 0.25


class Moment(StrEnum):
    """When a fault is there."""

    START = "at start"
    POLLING = "while polling"
    RELOAD = "during a reload"
    CLOSING = "while closing"


@dataclass(frozen=True, kw_only=True)
class Case:
    """One line of the table.

    Attributes:
        name: what happens, in words.
        told: what the status has to say meanwhile, a regular expression; nothing for what does
            no harm.
        fails: whether updates fail; None: now and then.
        delivers: whether what is written meanwhile arrives meanwhile.
        hangs: whether requests end only by their deadline.
        is_final: whether the client cannot recover by itself; then `end` makes another one.
        writable: whether operators reach the service meanwhile.
        tls: whether clients talk TLS.
        options: what clients are made with.
        impossible: the moments at which it cannot be, and why.
    """

    name: str
    told: str = ""
    fails: bool | None = True
    delivers: bool = False
    hangs: bool = False
    is_final: bool = False
    writable: bool = True
    tls: bool = False
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    impossible: Mapping[Moment, str] = field(default_factory=dict[Moment, str])

    async def begin(self, scene: Scene) -> None:
        """Let it happen from now on."""
        raise NotImplementedError

    async def end(self, scene: Scene) -> None:
        """Let it be over."""
        raise NotImplementedError

    def is_under_way(self, scene: Scene, mark: int) -> bool:
        """Whether a client is in it by now; *mark* is where `ended` was when it began."""
        return len(scene.ended) > mark

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, kw_only=True)
class OnDemand(Case):
    """What the proxy in front of the service does.

    Attributes:
        fault: what.
        path: the path of the requests that it is for; None: all.
        share: the share of them.
    """

    fault: f.Fault
    path: str | None = None
    share: float | None = None

    async def begin(self, scene: Scene) -> None:
        scene.proxy.faults.add(self.fault, path=self.path, share=self.share)

    async def end(self, scene: Scene) -> None:
        scene.proxy.faults.clear()

    def is_under_way(self, scene: Scene, mark: int) -> bool:
        rules = scene.proxy.faults.rules
        return any(rule.hits for rule in rules) or super().is_under_way(scene, mark)


CASES: Sequence[Case] = (
    OnDemand(
        name="no answer comes",
        fault=f.Delay(),
        told="longer than 0.5 seconds",
        hangs=True,
    ),
    OnDemand(name="503", fault=f.Status(503), told="503"),
    OnDemand(name="connections are refused", fault=f.Refuse(), told="refused|attempts"),
    OnDemand(name="answers come late", fault=f.Delay(0.02), fails=False, delivers=True),
)
