"""Which request meets which fault: rules with counters and a seed, and the requests so far.

Knows no sockets. A proxy calls it from any thread, and is notified when rules change.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from heksher.exceptions import InvalidArgumentError
from heksher.testing.faults._kinds import Certificate, Fault, Refuse
from heksher.testing.faults._text import parse_faults
from heksher.testing.faults._when import When

# Keep at least this many of the latest requests.
_KEPT = 10_000


@dataclass(frozen=True)
class Seen:
    """A request that the proxy received.

    Attributes:
        method: the method.
        path: the path without the query.
        query: the query.
        headers: all headers by lower-case name.
        fault: the fault that it met; None if it got the service's answer.
    """

    method: str
    path: str
    query: str = field(repr=False)
    headers: dict[str, str] = field(repr=False)
    fault: Fault | None


class FaultRule:
    """A fault for some requests. As a context manager, it is removed when the block ends.

    Attributes:
        fault: the fault.
        when: the requests that it is for, and its delay.
        hits: the number of requests, or connections, that met it.
        over: an event that is set when the rule is removed.
    """

    def __init__(self, fault: Fault, when: When, seed: str, remove: Callable[[FaultRule], None]):
        self.fault = fault
        self.when = when
        self.hits = 0
        self.over: threading.Event = threading.Event()
        self._random = Random(seed)  # noqa: S311 (it has to be reproducible, not secret)
        self._counted = 0
        self._remove = remove

    def counts(self, method: str, path: str) -> bool:
        """Count a request if the conditions apply to it; return whether the fault is for it."""
        if not self.when.asks_about(method, path):
            return False
        self._counted += 1
        return self.when.is_met(self._counted, self._random.random())

    def remove(self) -> None:
        """Remove the rule. Requests that it delays go on."""
        self._remove(self)

    def __enter__(self) -> FaultRule:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.remove()

    def __repr__(self) -> str:
        return f"<FaultRule {self.fault!r} {self.when!r}, {self.hits} so far>"


class Faults:
    """The rules of one proxy. A request meets the first rule that is for it.

    Attributes:
        seed: the seed of the ``share`` of rules that are added from now on. The same rules, added in the
            same order, choose the same requests of a sequence, such as the third and the seventh that
            arrive, whichever client sends them.
        requests: the requests so far, in order; of many, at least the latest ten thousand.
    """

    def __init__(self, seed: int = 0, *, has_tls: bool = True) -> None:
        self.seed: int = seed
        self.requests: list[Seen] = []
        self._has_tls = has_tls
        self._rules: list[FaultRule] = []
        self._added = 0
        self._lock = threading.Lock()
        #: Called after each change, in the thread of the change.
        self.changed: Callable[[], None] = lambda: None

    @property
    def rules(self) -> tuple[FaultRule, ...]:
        """The rules in their order."""
        return tuple(self._rules)

    def add(
        self,
        fault: Fault,
        *,
        method: str | None = None,
        path: str | None = None,
        nth: int | None = None,
        every: int | None = None,
        first: int | None = None,
        share: float | None = None,
        delay: float = 0.0,
    ) -> FaultRule:
        """Add a rule: requests that meet all given conditions meet *fault* from now on.

        ::

            faults.add(Status(503, retry_after=1), path="/api/v1/query", first=2)
            faults.add(Reset(), nth=5, delay=2)
            with faults.add(Delay(0.2), share=0.5):
                ...

        Args:
            fault: the fault.
            method, path, nth, every, first, share, delay: see `When`.

        Returns:
            The rule, to remove it or to use it as a context manager.

        Raises:
            heksher.exceptions.InvalidArgumentError: a number is out of its range; or the fault is a
                certificate, and the proxy has no TLS or there is a condition on method or path.
        """
        when = When(
            method=method, path=path, nth=nth, every=every, first=first, share=share, delay=delay
        )
        return self.add_rule(fault, when)

    def load(self, text: str) -> tuple[FaultRule, ...]:
        """Add the faults of a text, which is the same as for ``heksher serve --faults``.

        ::

            faults.load("delay(0.1) on GET /api/v1/query; status(503) share 0.2; seed 7")

        Raises:
            heksher.exceptions.InvalidArgumentError: the text is invalid; nothing was added.
        """
        parsed = parse_faults(text)
        for fault, when in parsed.faults:
            self._check(fault, when)
        if parsed.seed is not None:
            self.seed = parsed.seed
        return tuple(self.add_rule(fault, when) for fault, when in parsed.faults)

    def add_rule(self, fault: Fault, when: When) -> FaultRule:
        """Add a rule: the requests of *when* meet *fault* from now on."""
        self._check(fault, when)
        with self._lock:
            rule = FaultRule(fault, when, f"{self.seed}/{self._added}", self._remove)
            self._added += 1
            self._rules.append(rule)
        self.changed()
        return rule

    def clear(self) -> None:
        """Remove all rules. Requests that they delay go on. The list of requests stays."""
        with self._lock:
            rules, self._rules = self._rules, []
            self._added = 0
        for rule in rules:
            rule.over.set()
        self.changed()

    def meet_request(
        self, method: str, path: str, query: str = "", headers: dict[str, str] | None = None
    ) -> FaultRule | None:
        """Count and keep a request; return the rule that it meets, or None."""
        with self._lock:
            rule = self._choose(method, path, of_connections=False)
            fault = None if rule is None else rule.fault
            self.requests.append(Seen(method, path, query, headers or {}, fault))
            if len(self.requests) > 2 * _KEPT:
                del self.requests[:_KEPT]
        return rule

    @property
    def of_connections(self) -> tuple[FaultRule, ...]:
        """The rules that are decided when a client connects."""
        return tuple(rule for rule in self.rules if rule.fault.is_of_connections)

    def meet_connection(self) -> FaultRule | None:
        """Count a connection; return the rule that it meets, or None."""
        with self._lock:
            return self._choose("", "", of_connections=True)

    @property
    def refuses_all(self) -> bool:
        """Whether a rule refuses all connections."""
        with self._lock:
            return any(
                isinstance(rule.fault, Refuse) and rule.when.asks_nothing for rule in self._rules
            )

    def _choose(self, method: str, path: str, *, of_connections: bool) -> FaultRule | None:
        # All rules count the request, so that the choice of one rule does not depend on the others.
        met = [
            rule
            for rule in self._rules
            if rule.fault.is_of_connections == of_connections and rule.counts(method, path)
        ]
        if not met:
            return None
        met[0].hits += 1
        return met[0]

    def _check(self, fault: Fault, when: When) -> None:
        if not fault.is_of_connections:
            return
        if when.method is not None or when.path is not None:
            raise InvalidArgumentError(
                f"{fault} is decided when a client connects, before there is a method or a path: "
                "omit both conditions"
            )
        if isinstance(fault, Certificate) and not self._has_tls:
            raise InvalidArgumentError(f"{fault} needs a proxy with TLS: make it with tls=True")

    def _remove(self, rule: FaultRule) -> None:
        with self._lock:
            if rule in self._rules:
                self._rules.remove(rule)
        rule.over.set()
        self.changed()
