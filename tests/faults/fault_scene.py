"""The environment of the fault matrix: a service in numbered states, clients, and a constant reader.

In state n, rule k has the value 10 * n + k, so that each value shows its rule and when it was written.
State 0 is what an application has without the service.
"""

from __future__ import annotations

import logging
import os
import re
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from support.harness import PATIENCE, AnyClient, Background, Harness
from support.leftovers import Leftovers

from heksher import Setting
from heksher.testing.faults.proxy import FaultProxy
from heksher.testing.service import LiveService

INTERVAL = 0.05
FEATURES = ["environment", "user"]
#: Host name of the service, for cases about names. A service without tokens accepts no other domain.
HOST = "settings.localhost"
#: Addresses of the service, of the machine that it moves to, and of one that accepts no packets.
HERE, ELSEWHERE, SILENT = "127.0.0.1", "127.0.0.2", "127.0.0.3"


@dataclass(frozen=True)
class Read:
    """A call of `get`.

    Attributes:
        call: makes the call.
        rule: number of the rule that must answer; 0 for the default value.
    """

    call: Callable[[], Any]
    rule: int


@dataclass
class Reader:
    """Call `get` in all contexts continuously, beside the body of a test.

    Attributes:
        written: the newest state that is being written; newer values are wrong.
        answers: by index of the read, the rule that must answer in the end; None means any.
        may: by index of the read, the rules that may answer until then.
        free: indexes of reads whose values may go back, to an older state or to state 0.
        calls: number of calls.
        wrong: wrong values and exceptions.
        cpu, wall: nanoseconds of the longest call, in CPU time and wall time.
    """

    reads: Sequence[Read]
    written: int = 0
    answers: dict[int, int | None] = field(default_factory=dict[int, int | None])
    may: dict[int, set[int]] = field(default_factory=dict[int, set[int]])
    free: set[int] = field(default_factory=set[int])
    calls: int = 0
    wrong: list[str] = field(default_factory=list[str])
    cpu: int = 0
    wall: int = 0
    _is_over: bool = False
    _floors: dict[int, int] = field(default_factory=dict[int, int])

    def __post_init__(self) -> None:
        self.answers = {place: read.rule or None for place, read in enumerate(self.reads)}
        self.may = {place: {read.rule} for place, read in enumerate(self.reads)}

    def end(self) -> None:
        self._is_over = True

    def step(self) -> bool:
        """Make all reads once; return whether the reader has been ended."""
        for place, read in enumerate(self.reads):
            began, cpu = time.perf_counter_ns(), time.thread_time_ns()
            try:
                value = read.call()
            except Exception as error:
                self._complain(f"read {place} raised {error!r}")
                continue
            finally:
                self.cpu = max(self.cpu, time.thread_time_ns() - cpu)
                self.wall = max(self.wall, time.perf_counter_ns() - began)
                self.calls += 1
            self._judge(place, value)
        return self._is_over

    def _judge(self, place: int, value: Any) -> None:
        state, rule = told_by(value)
        is_free = place in self.free
        floor = 0 if is_free else self._floors.get(place, 0)
        if not floor <= state <= self.written or (state and rule not in self.may[place]):
            self._complain(
                f"read {place} gave {value!r}; the state was one of {floor} to {self.written}, "
                f"and the rule one of {self.may[place]}"
            )
        self._floors[place] = 0 if is_free else state

    def _complain(self, what: str) -> None:
        if len(self.wrong) < 10:
            self.wrong.append(what)

    def has_all(self, state: int) -> bool:
        """Whether all reads return values of *state*."""
        return all(
            rule is None or told_by(self.reads[place].call()) == (state, rule)
            for place, rule in self.answers.items()
        )


def told_by(value: Any) -> tuple[int, int]:
    """Return the state and the rule of a value."""
    if isinstance(value, tuple):
        numbers: set[int] = {*value} or {0}
        if len(numbers) != 1:
            return -1, -1
        (value,) = numbers
    return divmod(value, 10) if value else (0, 0)


@dataclass(frozen=True)
class Ended:
    """An update that has ended.

    Attributes:
        start: number of starts of all clients before it.
        error: the error, if it failed.
        is_newest: whether the newest state had arrived then.
    """

    start: int
    error: Exception | None
    is_newest: bool


class Names:
    """The result of looking up `HOST`: an address, an error, or no answer for some time.

    Attributes:
        address: the address; None means that the name does not exist.
        asked: number of look-ups.
        waiting: number of look-ups that had to wait.
        hangs: whether look-ups wait.
        over: event that lets waiting look-ups continue.
    """

    def __init__(self) -> None:
        self.address: str | None = HERE
        self.asked = 0
        self.waiting = 0
        self.hangs = False
        self.over = threading.Event()
        self._look_up = socket.getaddrinfo

    def getaddrinfo(self, host: Any, *args: Any, **options: Any) -> Any:
        """Replace `socket.getaddrinfo`."""
        if (host.decode() if isinstance(host, bytes) else host) != HOST:
            return self._look_up(host, *args, **options)
        flags = options.get("flags", args[4] if len(args) > 4 else 0)
        if flags & socket.AI_NUMERICHOST:  # trio tries this first; it never leaves the machine
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        self.asked += 1
        if self.hangs:
            self.waiting += 1
            self.over.wait(PATIENCE)
        if self.address is None:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return self._look_up(self.address, *args, **options)


class Scene:
    """One cell of the matrix.

    Attributes:
        backend: the backend of the clients.
        service: the service, for actions of operators. A fault may replace it.
        proxy: the proxy in front of the service.
        url: URL of the service for clients.
        options: arguments for clients.
        ended: the updates that have ended.
        client: the newest client.
        names: the results of looking up `HOST`.
        features: the context features that clients list.
        rules: ids of the service's rules that change with each state, by number.
        let_go: id of a rule that does not change any more.
        has_newer_default: whether another application declares newer default values.
        folder: folder for files.
        stack: closed at the end of the cell.
        meanwhile: closed at the end of the fault.
    """

    def __init__(
        self,
        backend: Harness,
        service: LiveService,
        proxy: FaultProxy,
        options: dict[str, Any],
        folder: Path,
        stack: ExitStack,
    ) -> None:
        self.backend = backend
        self.service = service
        self.proxy = proxy
        self.url = proxy.url
        self.options = options
        self.names = Names()
        self.folder = folder
        self.stack = stack
        self.meanwhile = stack.enter_context(ExitStack())
        self.features = [*FEATURES]
        self.has_newer_default = False
        self.let_go = 0
        self.ended: list[Ended] = []
        self.clients: list[AnyClient] = []
        self.starts = 0
        self.longest_start = self.longest_close = 0.0
        self.ttl = ttl = Setting("ttl", int, FEATURES, 0)
        self.sizes = sizes = Setting("sizes", Sequence[int], FEATURES, [])
        #: The setting that operators and other applications change.
        self.touched = touched = Setting("touched", int, FEATURES, 0)
        self.reader = Reader(
            [
                Read(lambda: ttl.get(user="jim"), 1),
                Read(lambda: ttl.get(user="eve"), 2),
                Read(lambda: ttl.get(user="ann"), 3),
                Read(lambda: sizes.get(user="jim"), 4),
                Read(lambda: touched.get(user="jim"), 5),
                Read(lambda: touched.get(user="ann"), 0),
            ]
        )
        self.rules: dict[int, int] = {}
        self._reading: Background | None = None

    # --- the service ------------------------------------------------------------------------------

    @property
    def port(self) -> int:
        """Port of the service for clients."""
        return int(self.url.rpartition(":")[2])

    def by_name(self) -> None:
        """Let clients reach the service by its host name."""
        self.url = f"http://{HOST}:{self.port}"
        self.stack.enter_context(mock.patch("socket.getaddrinfo", self.names.getaddrinfo))

    def drop_connections(self) -> None:
        """End all connections of clients; new ones are accepted."""
        self.proxy.pause()
        self.proxy.resume()

    def create_rules(self) -> None:
        """Create settings and rules on the service, in the next state."""
        self.reader.written += 1
        give = self.service.add_rule
        self.rules = {
            1: give(self.ttl, self.value(1), user="jim"),
            2: give(self.ttl, self.value(2), environment="dev", user="eve"),
            3: give(self.ttl, self.value(3), environment="dev"),
            4: give(self.sizes, self.value(4), user="jim"),
            5: give(self.touched, self.value(5), user="jim"),
        }

    def write(self) -> None:
        """Bring the service to the next state."""
        self.reader.written += 1
        for rule, number in self.rules.items():
            self.service.change_rule(number, self.value(rule))
        if self.has_newer_default:
            self.service.set_value("touched", self.value(6))

    def value(self, rule: int) -> Any:
        """Return the value of a rule in the newest state."""
        value = 10 * self.reader.written + rule
        return (value,) * 3 if rule == 4 else value

    @property
    def is_newest(self) -> bool:
        """Whether the newest state has arrived."""
        return self.reader.has_all(self.reader.written)

    async def newest(self) -> None:
        """Wait until the newest state has arrived."""
        await self.backend.until(
            lambda: self.is_newest,
            f"state {self.reader.written} arrives; status: {self.told}",
        )

    # --- clients ----------------------------------------------------------------------------------

    @property
    def client(self) -> AnyClient:
        """The newest client."""
        return self.clients[-1]

    def add_client(self, **options: Any) -> AnyClient:
        """Make a client, which becomes the newest one."""
        client = self.backend.client(
            self.url, INTERVAL, self.features, **{**self.options, **options}
        )
        client.set_defaults(environment="dev")
        self.clients.append(client)

        def note(error: Exception | None) -> None:
            self.ended.append(Ended(self.starts, error, self.is_newest))

        client.client.on_update_ok = lambda: note(None)
        client.client.on_update_error = note
        return client

    async def start(self, client: AnyClient) -> None:
        self.starts += 1
        began = time.perf_counter()
        try:
            await client.set_as_main()
        finally:
            self.longest_start = max(self.longest_start, time.perf_counter() - began)

    async def close(self) -> None:
        """Close all clients."""
        for client in self.clients:
            began = time.perf_counter()
            await client.close()
            self.longest_close = max(self.longest_close, time.perf_counter() - began)

    @property
    def told(self) -> str:
        """Everything that the status of the newest client reports."""
        status = self.client.status
        details = [
            f"{name} {declared.state}: {declared.refusal or ', '.join(declared.differences)}"
            for name, declared in status.declarations.items()
        ]
        return "; ".join(
            [str(status), f"{status.last_error}", *details, *map(str, status.rejected_rules)]
        )

    async def tells(self, pattern: str) -> None:
        """Wait until the status matches *pattern*."""
        await self.backend.until(
            lambda: re.search(pattern, self.told), f"{pattern!r} in the status: {self.told}"
        )

    def count(self, mark: int = 0, *, failures: bool) -> int:
        """Count the updates after *mark* in `ended` that failed or succeeded."""
        return sum((ended.error is not None) == failures for ended in self.ended[mark:])

    # --- reader and leftovers ---------------------------------------------------------------------

    def read_on(self) -> None:
        """Start the reader beside the body of the test."""
        self._reading = self.backend.beside(lambda: self.backend.until(self.reader.step, "reading"))

    async def reading_ended(self) -> None:
        """Wait until the reader has ended, after it was told to."""
        reading = self._reading
        assert reading is not None
        await self.backend.until(lambda: reading.ended, "the reader ends")
        assert reading.error is None, reading.error

    def leftovers(self) -> ClientLeftovers:
        """Record what exists now, to compare with later."""
        return ClientLeftovers(
            lambda local, remote: self.service.port in (local, remote) or local == self.port
        )


class ClientLeftovers(Leftovers):
    """Leftovers including open files, without the sockets of the service and its proxy.

    Args:
        is_theirs: whether the socket with this local and remote port belongs to them.
    """

    def __init__(self, is_theirs: Callable[[int, int], bool]) -> None:
        super().__init__()
        self._is_theirs = is_theirs
        self._open_before = self._open()

    def found(self) -> Counter[str]:
        found = super().found()
        del found["sockets"]
        return found + (self._open() - self._open_before)

    def _open(self) -> Counter[str]:
        census: Counter[str] = Counter()
        for number in map(int, os.listdir("/proc/self/fd")):
            try:
                target = os.readlink(f"/proc/self/fd/{number}")
                if target.startswith("socket:"):
                    census["sockets"] += not self._is_theirs(*_ports(number))
            except OSError:
                continue  # closed in the meantime, like the one that lists them
            census["files"] += _is_file(target)
        return census


def _is_file(target: str) -> bool:
    """Whether *target* is a file, but not the database of a service in this process."""
    return (
        target.startswith("/")
        and not target.startswith(("/dev/", "/proc/"))
        and ".sqlite" not in target
    )


def _ports(number: int) -> tuple[int, int]:
    """Return the local and the remote port of a socket; 0 for a missing one."""
    with socket.socket(fileno=os.dup(number)) as copied:
        if copied.family == socket.AF_UNIX:
            return 0, 0
        try:
            remote: int = copied.getpeername()[1]
        except OSError:  # not connected, or not any more
            remote = 0
        return copied.getsockname()[1], remote


@contextmanager
def silent_machine(port: int) -> Generator[None]:
    """Simulate a machine at `SILENT` that accepts no packets at this port."""
    # The queue for connections is full, so further ones get no answer.
    sockets = [socket.socket() for _ in range(4)]
    listener, *callers = sockets
    try:
        listener.bind((SILENT, port))
        listener.listen(0)
        for caller in callers:
            caller.setblocking(False)
            caller.connect_ex((SILENT, port))
        yield
    finally:
        for each in sockets:
            each.close()


def transitions(ended: Sequence[Ended]) -> Counter[str]:
    """Count how often updates began to fail, and to succeed again; the log must show the same."""
    counted: Counter[str] = Counter()
    failing: dict[int, bool] = {}
    for each in ended:
        before, now = failing.get(each.start, False), each.error is not None
        failing[each.start] = now
        if now != before:
            counted["fail" if now else "succeed again"] += 1
    return counted


def logged(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return what the library logged for the owner of the application."""
    return [
        record.getMessage()
        for record in caplog.records
        if record.name.startswith("heksher.")
        and not record.name.startswith("heksher.testing")
        and record.levelno >= logging.INFO
    ]
