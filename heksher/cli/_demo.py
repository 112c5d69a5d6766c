"""``heksher demo``: the introduction's example on asyncio, trio and threads, with a live service.

The service runs in a child process on a free port, and everything goes over HTTP. Each line of the
report shows an expected and an actual value. The demo uses the library as applications do, by its
public names, plus `run_blocking` of the backends, so that the example is written only once.
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
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import ExitStack
from contextvars import ContextVar
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Self, TypeVar

import anyio
import anyio.to_thread
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from heksher import TRACK_ALL, AsyncHeksherClient, Setting, ThreadHeksherClient
from heksher.backends import run_blocking
from heksher.status import SettingData
from heksher.testing.service import LiveService

# These packages are not imported here. If one is missing, the command line reports this error in one
# clear line.
for _module in ("trio", "starlette", "uvicorn", "sqlalchemy", "alembic"):
    if find_spec(_module) is None:
        raise ModuleNotFoundError(f"No module named {_module!r}", name=_module)

T = TypeVar("T")

FEATURES = ["environment", "user", "theme"]
TOKEN = secrets.token_urlsafe()
# trust_env: requests to this machine must not go through a proxy of the environment.
CLIENT_ARGS = {"headers": {"api_token": TOKEN}, "trust_env": False}
# Update interval of the clients, in seconds.
INTERVAL = 0.5
# Maximum wait for an expected event, in seconds. After that, its line in the report fails.
EVENT_TIMEOUT = 5.0
# Allowance for a request, in seconds: a change arrives within the interval plus one request.
ONE_REQUEST = 0.5


def run() -> int:
    """Run the demo; 0 if everything was as expected, 1 if not, 130 after Ctrl-C."""
    # Silence the library's log: the report covers the outage.
    logging.getLogger("heksher").addHandler(logging.NullHandler())
    # SIGHUP: the terminal was closed. Not every system has it.
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda number, _: _signals.append(number))
    reconfigure = getattr(sys.stdout, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="replace")  # where the terminal has no ✓ or µ
    console = Console(highlight=False)
    try:
        return _run(console)
    except Interrupted:
        if _signals[0] == signal.SIGINT:
            console.print("interrupted; nothing is left running")
        return 128 + _signals[0]
    except BrokenPipeError:
        # The reader of the report has closed the pipe. Without this, Python would report a second error
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
    reports: list[Report] = []
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="heksher-demo-"))
        # A file, because the service is stopped and started again with its settings.
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
            f"The service runs on {service.url}, process {service.process.pid}.\n"
            "An example runs on asyncio, on trio and on threads, each with an update every "
            f"{INTERVAL:g} seconds.",
            soft_wrap=True,
        )
        programs: list[tuple[str, Callable[[Report], Setting[int] | None]]] = [
            ("asyncio", lambda report: run_async("asyncio", service, report)),
            ("trio", lambda report: run_async("trio", service, report)),
            ("threads", lambda report: run_blocking(reported(ThreadProgram, service, report))),
        ]
        cache_ttl: Setting[int] | None = None
        for name, program in programs:
            reports.append(Report(name, console))
            cache_ttl = program(reports[-1]) or cache_ttl
    lines = [line for report in reports for line in report.lines]
    failed = sum(not line.is_expected for line in lines)
    console.print(
        f"{len(lines) - failed} of {len(lines)} lines as expected, "
        f"in {time.monotonic() - began:.1f} seconds; nothing is left running."
    )
    if cache_ttl is not None:
        nanoseconds = time_of_get(cache_ttl)
        console.print(
            f"One get() with a rule in force takes {nanoseconds / 1000:.2f} µs on this machine."
        )
    return 1 if failed else 0


def run_async(loop: str, service: LiveService, report: Report) -> Setting[int] | None:
    """Run the example in an event loop."""
    return anyio.run(reported, AsyncProgram, service, report, backend=loop)


async def reported(
    program: Callable[[LiveService], Program], service: LiveService, report: Report
) -> Setting[int] | None:
    """Run the example and show its report; return the first setting, or None after an error."""
    with report:
        try:
            return await example(program(service), report)
        except Interrupted:
            raise
        except Exception as error:
            report.fail(error)
            return None


# --- the example ----------------------------------------------------------------------------------

theme: ContextVar[str] = ContextVar("theme", default="bright")


async def example(program: Program, report: Report) -> Setting[int]:
    """Declare, look up, change, lose the service, recover, close; return the first setting."""
    service = program.service
    cache_ttl = Setting("cache_ttl", int, ["environment", "user"], 60)
    background_color = Setting("background_color", str, ["environment", "theme"], "white")

    client = program.client
    client.set_defaults(environment="dev", theme=theme)
    client.track_contexts(environment="dev", user=TRACK_ALL, theme=["bright", "dark", "blue"])
    await program.start()
    try:
        declared = await program.get_settings()
        report.add("settings that the service has", 2, len(declared))
        report.add('cache_ttl.get(user="jim")', 60, cache_ttl.get(user="jim"))
        report.add("background_color.get()", "white", background_color.get())

        rule = await program.call(lambda: service.add_rule(cache_ttl, 5, user="jim"))
        seconds = await program.time_until(lambda: cache_ttl.get(user="jim") == 5)
        report.add("a rule says 5 for jim", 5, cache_ttl.get(user="jim"))
        report.add_bound("it came within an update interval", INTERVAL, seconds)
        report.add('cache_ttl.get(user="joe")', 60, cache_ttl.get(user="joe"))

        await program.call(lambda: service.add_rule(background_color, "black", theme="dark"))
        await program.reload()
        token = theme.set("dark")
        report.add('with theme="dark"', "black", background_color.get())
        theme.reset(token)
        report.add('with theme="bright" again', "white", background_color.get())

        await program.call(service.stop)
        await program.time_until(lambda: client.status.failures > 0)
        updates = "fail" if client.status.failures else "succeed"
        report.add("the service is stopped: updates", "fail", updates)
        report.add('cache_ttl.get(user="jim") goes on', 5, cache_ttl.get(user="jim"))
        await program.call(service.start)
        await program.call(lambda: service.change_rule(rule, 6))
        await program.time_until(lambda: client.status.failures == 0)
        await program.time_until(lambda: cache_ttl.get(user="jim") == 6)
        report.add("it is back, its rule says 6", 6, cache_ttl.get(user="jim"))
        report.add("failures in a row", 0, client.status.failures)
    finally:
        await program.close()
    report.add("closed: the last rules go on", 6, cache_ttl.get(user="jim"))
    left = sum(thread.name.startswith("heksher") for thread in threading.enumerate())
    report.add("threads left behind", 0, left)
    await program.call(lambda: service.empty(FEATURES))
    return cache_ttl


class Program(ABC):
    """Base of the kinds of programs, so that the example is written only once."""

    def __init__(self, service: LiveService) -> None:
        self.service = service

    @property
    @abstractmethod
    def client(self) -> AsyncHeksherClient | ThreadHeksherClient: ...

    @abstractmethod
    async def start(self) -> None: ...

    @abstractmethod
    async def close(self) -> None: ...

    @abstractmethod
    async def reload(self) -> None: ...

    @abstractmethod
    async def get_settings(self) -> dict[str, SettingData]: ...

    @abstractmethod
    async def call(self, function: Callable[[], T]) -> T:
        """Call a blocking function."""

    @abstractmethod
    async def sleep(self, seconds: float) -> None: ...

    async def time_until(self, condition: Callable[[], bool]) -> float:
        """Wait until *condition* holds or the timeout ends; return the seconds that this took."""
        began = time.monotonic()
        while not condition() and time.monotonic() - began < EVENT_TIMEOUT:
            check_signals()
            await self.sleep(0.005)
        return time.monotonic() - began


class AsyncProgram(Program):
    """A program with an event loop, asyncio or trio."""

    def __init__(self, service: LiveService) -> None:
        super().__init__(service)
        self._client = AsyncHeksherClient(
            service.url, INTERVAL, FEATURES, http_client_args=CLIENT_ARGS, startup="raise"
        )

    @property
    def client(self) -> AsyncHeksherClient:
        return self._client

    async def start(self) -> None:
        await self.client.set_as_main()

    async def close(self) -> None:
        await self.client.aclose()

    async def reload(self) -> None:
        await self.client.reload()

    async def get_settings(self) -> dict[str, SettingData]:
        return await self.client.get_settings()

    async def call(self, function: Callable[[], T]) -> T:
        return await anyio.to_thread.run_sync(function)

    async def sleep(self, seconds: float) -> None:
        await anyio.sleep(seconds)


class ThreadProgram(Program):
    """A program with threads."""

    def __init__(self, service: LiveService) -> None:
        super().__init__(service)
        self._client = ThreadHeksherClient(
            service.url,
            INTERVAL,
            FEATURES,
            http_client_args=CLIENT_ARGS,
            startup="raise",
        )

    @property
    def client(self) -> ThreadHeksherClient:
        return self._client

    async def start(self) -> None:
        self.client.set_as_main()

    async def close(self) -> None:
        self.client.close()

    async def reload(self) -> None:
        self.client.reload()

    async def get_settings(self) -> dict[str, SettingData]:
        return self.client.get_settings()

    async def call(self, function: Callable[[], T]) -> T:
        return function()

    async def sleep(self, seconds: float) -> None:
        threading.Event().wait(seconds)


def time_of_get(setting: Setting[int]) -> float:
    """Return the duration of one ``get(user="jim")`` in nanoseconds, the median of several rounds."""
    calls = 20_000
    rounds = timeit.repeat(
        'setting.get(user="jim")', globals={"setting": setting}, number=calls, repeat=5
    )
    return statistics.median(rounds) / calls * 1e9


# --- the report -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the report."""

    what: str
    expected: str
    came: str
    is_expected: bool


class Report:
    """The expected and actual values of one program, shown as they arrive.

    A table in a terminal, plain lines otherwise.
    """

    def __init__(self, title: str, console: Console) -> None:
        self.lines: list[Line] = []
        self._title = title
        self._console = console
        self._table = Table(title=title, title_justify="left", title_style="bold")
        for heading in ("", "what", "expected", "came"):
            self._table.add_column(heading)
        self._live = Live(self._table, console=console, auto_refresh=False)

    def add(self, what: str, expected: object, came: object) -> None:
        """Add a line. It passes if the values are equal and have the same type."""
        is_expected = type(expected) is type(came) and expected == came
        self._show(Line(what, repr(expected), repr(came), is_expected))

    def add_bound(self, what: str, interval: float, seconds: float) -> None:
        """Add a line about a duration. It passes up to the interval plus one request."""
        expected = f"{interval:g} s and a request"
        self._show(Line(what, expected, f"{seconds:.2f} s", seconds < interval + ONE_REQUEST))

    def fail(self, error: Exception) -> None:
        """Add a line for an error that ended the program."""
        self._show(Line("the program goes on", "no error", repr(error), False))

    def _show(self, line: Line) -> None:
        check_signals()
        self.lines.append(line)
        if not self._console.is_terminal:
            mark = "ok" if line.is_expected else "NO"
            text = f"  {mark}  {line.what} -- expected {line.expected}, came {line.came}"
            print(text, flush=True)
            return
        mark, style = ("✓", "green") if line.is_expected else ("✗", "bold red")
        self._table.add_row(
            Text(mark, style), Text(line.what), Text(line.expected), Text(line.came, style)
        )
        self._live.refresh()

    def __enter__(self) -> Self:
        check_signals()
        if self._console.is_terminal:
            self._live.start()
        else:
            print(f"\n{self._title}", flush=True)
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._console.is_terminal:
            self._live.stop()
