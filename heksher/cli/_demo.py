"""``heksher demo``: a rule that changes, and a service that is killed, as programs see them.

Four programs read one setting all the time, each on a backend of its own. The one on asyncio is shown
on the screen; the others run beside it and get a line each. The service runs in a child process on a
free port, and everything goes over HTTP. The programs use the library as applications do.
"""

from __future__ import annotations

import logging
import os
import secrets
import signal
import statistics
import sys
import tempfile
import threading
import time
import timeit
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import anyio
from rich.console import Console
from rich.text import Text

from heksher import AsyncHeksherClient, Setting, ThreadHeksherClient
from heksher.status import ClientStatus
from heksher.testing.service import LiveService

# These packages are not imported here. If one is missing, the command line reports this error in one
# clear line.
for _module in ("trio", "starlette", "uvicorn", "sqlalchemy", "alembic"):
    if find_spec(_module) is None:
        raise ModuleNotFoundError(f"No module named {_module!r}", name=_module)

# The first one is shown, the others run beside it. gevent is not in the extra on every Python.
BACKENDS = ("asyncio", "trio", "thread", "gevent")
FEATURES = ["environment", "user"]
TOKEN = secrets.token_urlsafe()
# trust_env: requests to this machine must not go through a proxy of the environment.
CLIENT_ARGS = {"headers": {"api_token": TOKEN}, "trust_env": False}
# Update interval of the clients, in seconds.
INTERVAL = 0.5
# Maximum wait for an expected event, in seconds. After that, the demo reports a failure.
EVENT_TIMEOUT = 10.0
# Pause of the programs between two looks at their setting, in seconds.
PAUSE = 0.005


def run() -> int:
    """Run the demo; 0 if everything was as expected, 1 if not, 130 after Ctrl-C."""
    # Silence the library's log: the demo itself tells of the outage.
    logging.getLogger("heksher").addHandler(logging.NullHandler())
    # SIGHUP: the terminal was closed. Not every system has it.
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda number, _: _signals.append(number))
    reconfigure = getattr(sys.stdout, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="replace")  # where the terminal has no µ
    console = Console(highlight=False)
    try:
        return _run(console)
    except Interrupted:
        if _signals[0] == signal.SIGINT:
            console.print("interrupted; nothing is left running")
        return 128 + _signals[0]
    except BrokenPipeError:
        # The reader of the output has closed the pipe. Without this, Python would report a second error
        # when it flushes stdout at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


class Interrupted(Exception):
    """A signal asked the demo to end."""


# Signals that asked the demo to end. Their handler raises nothing, because it can run at any line of
# Python: the garbage collector dropped a KeyboardInterrupt that met one of its callbacks, and event loops
# that were being made complained on stderr. The demo looks here at each step instead.
_signals: list[int] = []


def check_signals() -> None:
    """Raise `Interrupted` if a signal has asked the demo to end."""
    if _signals:
        raise Interrupted


def _run(console: Console) -> int:
    began = time.monotonic()
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="heksher-demo-"))
        # A file, because the service is killed and started again with its rules.
        database = Path(folder) / "settings.sqlite"
        service = LiveService(FEATURES, database=database, api_token=TOKEN, proxy=False)
        try:
            stack.enter_context(service)
        except AssertionError as error:
            check_signals()
            sys.stderr.write(f"heksher demo: error: {error}\n")
            return 1
        assert service.process is not None
        console.print(
            f"The service runs on {service.url}, process {service.process.pid}.", soft_wrap=True
        )
        console.print(
            "A program on asyncio keeps reading the setting cache_ttl (default: 60) for jim and for eve. "
            f"Its client asks the service for changes every {INTERVAL:g} seconds.\n"
        )
        backends = BACKENDS if find_spec("gevent") else BACKENDS[:-1]
        programs = [Program(backend, service.url) for backend in backends]
        for program in programs:
            stack.enter_context(program.running())
        Story(console, service, programs).tell()
    shown, *others = programs
    console.print("\nThe same program ran on other backends at the same time:\n")
    for program in others:
        console.print(f"  {program.backend:<8}{program.summary()}", soft_wrap=True)
    left = [each.name for each in threading.enumerate() if each.name.startswith("heksher")]
    is_fine = not left and not any(program.problem for program in programs)
    if is_fine:
        calls = sum(program.calls for program in programs)
        console.print(
            f"\nget() was called {calls:,} times, also in the outage, and never failed. "
            f"A call takes {time_of_get(shown.cache_ttl) / 1000:.2f} µs on this machine."
        )
    console.print(
        f"{'All' if is_fine else 'NOT'} as expected, in {time.monotonic() - began:.1f} seconds; "
        f"{', '.join(left) or 'nothing'} is left running."
    )
    return 0 if is_fine else 1


def time_of_get(setting: Setting[int]) -> float:
    """Return the duration of one ``get(user="jim")`` in nanoseconds, the median of several rounds."""
    calls = 20_000
    rounds = timeit.repeat(
        'setting.get(user="jim")', globals={"setting": setting}, number=calls, repeat=5
    )
    return statistics.median(rounds) / calls * 1e9


# --- the programs ---------------------------------------------------------------------------------


class Program:
    """An application that reads one setting all the time, in a thread of its own.

    Attributes:
        backend: what its client runs on.
        cache_ttl: the setting.
        calls: number of calls of `get()`.
        seen: the values that jim got, without repetitions.
        eve: the value that eve got last.
        is_failing: whether the client's last update failed.
        waits: the seconds until each expected change.
        problem: what was not as expected; empty if all was.
    """

    def __init__(self, backend: str, url: str) -> None:
        self.backend = backend
        self.cache_ttl = Setting("cache_ttl", int, FEATURES, 60)
        self.calls = 0
        self.seen: list[int] = []
        self.eve = 0
        self.is_failing = False
        self.waits: list[float] = []
        self.problem = ""
        self._is_ending = False
        client_class = AsyncHeksherClient if backend in ("asyncio", "trio") else ThreadHeksherClient
        options: dict[str, Any] = {
            "backend": backend,
            "http_client_args": CLIENT_ARGS,
            "startup": "raise",
        }
        self._client = client_class(url, INTERVAL, FEATURES, **options)
        self._client.set_defaults(environment="dev")
        self._client.add_settings([self.cache_ttl])  # each program has a client of its own

    @contextmanager
    def running(self) -> Generator[None]:
        """Run the program until the context ends."""
        thread = threading.Thread(target=self._run)
        thread.start()
        try:
            yield
        finally:
            self._is_ending = True
            thread.join()

    def sees(self, jim: int, eve: int, is_failing: bool) -> bool:
        """Whether the users get these values, and whether updates fail, are as given."""
        return (self.seen[-1:], self.eve, self.is_failing) == ([jim], eve, is_failing)

    def __str__(self) -> str:
        if not self.seen:
            return "has not started"
        updates = "updates fail; " if self.is_failing else ""
        return f"{updates}jim gets {self.seen[-1]} and eve gets {self.eve}"

    def summary(self) -> str:
        """Describe in one line what it saw."""
        if self.problem:
            return f"NOT as expected: {self.problem}"
        return f"rule seen after {self.waits[1]:.2f} s, its change after {self.waits[-1]:.2f} s"

    def _run(self) -> None:
        try:
            if isinstance(self._client, AsyncHeksherClient):
                anyio.run(self._run_async, self._client, backend=self.backend)
            else:
                self._run_blocking(self._client)
        except Exception as error:
            self.problem = f"{type(error).__name__}: {error}"

    async def _run_async(self, client: AsyncHeksherClient) -> None:
        async with client:
            while not self._is_ending:
                self._read(client.status)
                await anyio.sleep(PAUSE)

    def _run_blocking(self, client: ThreadHeksherClient) -> None:
        sleep = import_module("gevent").sleep if self.backend == "gevent" else time.sleep
        with client:
            while not self._is_ending:
                self._read(client.status)
                sleep(PAUSE)

    def _read(self, status: ClientStatus) -> None:
        jim = self.cache_ttl.get(user="jim")
        self.eve = self.cache_ttl.get(user="eve")
        self.is_failing = status.failures > 0
        if self.seen[-1:] != [jim]:
            self.seen.append(jim)
        self.calls += 2


# --- the story ------------------------------------------------------------------------------------


class Story:
    """What the operator does and what the first program sees, told as it happens."""

    def __init__(self, console: Console, service: LiveService, programs: list[Program]) -> None:
        self._console = console
        self._service = service
        self._programs = programs
        self._began = time.monotonic()

    def tell(self) -> None:
        """Add a rule, kill the service, bring it back."""
        try:
            self._expect(jim=60, eve=60)
            self._say("operator", "adds a rule: jim gets 5")
            rule = self._service.add_rule("cache_ttl", 5, user="jim")
            self._expect(jim=5, eve=60)
            self._say("operator", "kills the service")
            self._service.kill()
            self._expect(jim=5, eve=60, is_failing=True)
            self._say("operator", "starts it again and changes the rule to 6")
            self._service.start()
            self._service.change_rule(rule, 6)
            self._expect(jim=6, eve=60)
        except Interrupted:
            raise
        except Exception as error:
            check_signals()
            self._programs[0].problem = str(error) or repr(error)
            self._say("program", self._programs[0].summary())
        for program in self._programs:
            if not program.problem and program.seen != [60, 5, 6]:
                program.problem = f"jim got {program.seen} in turn"

    def _expect(self, *, jim: int, eve: int, is_failing: bool = False) -> None:
        """Wait until all programs see this, and show when the first one does."""
        began = time.monotonic()
        waiting = [program for program in self._programs if not program.problem]
        while waiting:
            check_signals()
            waited = time.monotonic() - began
            for program in waiting.copy():
                if program.sees(jim, eve, is_failing):
                    program.waits.append(waited)
                elif waited > EVENT_TIMEOUT:
                    program.problem = f"{program}, after {waited:.0f} s"
                elif not program.problem:
                    continue
                waiting.remove(program)
                if program is self._programs[0] and not program.problem:
                    self._say("program", str(program))
            time.sleep(PAUSE)
        if self._programs[0].problem:
            raise AssertionError(self._programs[0].problem)

    def _say(self, who: str, what: str) -> None:
        check_signals()
        color = "yellow" if who == "operator" else "cyan"
        passed = time.monotonic() - self._began
        self._console.print(
            Text.assemble(f"{passed:5.1f} s  ", (f"{who:<8}", color), f"  {what}"), soft_wrap=True
        )
