"""How much does a start cost, by the number of own settings and of those of others?

On demand: ``PYTHONPATH=. python benchmarks/starts.py [--postgresql URL] [--all] [--minutes 5]``. Each
start is made in three ways, in turn, by the same client:

- ours: as the client chooses;
- (a): one request for each own setting. For new settings, that is the declaration alone;
- (b): one list of all settings.

A client starts alone, and in 20 processes at once, where the slowest counts. If one of (a) and (b) costs
over three times as much as the other, it is measured once, and is not tried by 20. New settings are tried
by 20 up to 30, because each of them is a write that waits for the others. Bytes are those of the answers.
The last column has three ratios, of time, processor time and bytes: ours to the cheaper of (a) and (b).
The target is at most 1.2. Processor time is that of the clients and of the service, without PostgreSQL's,
and other programs disturb it least.

The times are those of the cheapest rounds. The minutes are divided among the rows, each of which is
measured at least once. So more minutes make no more rows, but ratios that other programs disturb less.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from operator import mul
from pathlib import Path
from typing import Any, TypeAlias
from unittest import mock

from machinery.server import Server

from heksher import Setting, ThreadHeksherClient, _wire, testing
from heksher._client import declarations, update
from heksher._client.declarations import Catalogue
from heksher._wire import Exchange, Response
from heksher.service.domain.records import SettingRecord
from heksher.service.storage import Storage, open_storage
from heksher.status import SettingData

FEATURES = ["environment", "user", "theme"]
#: Numbers of settings, and those that are measured by default.
OWN, OTHERS = (3, 30, 300, 1_500), (0, 1_000, 5_000)
SOME_OWN, SOME_OTHERS = (3, 300), (0, 5_000)
WAYS = ("ours", "a", "b")
PROCESSES = 20
MOST_NEW_AT_ONCE = 30
#: A row has at most this many rounds.
MOST_ROUNDS = 15

#: Seconds, seconds of processor time, and bytes.
Cost: TypeAlias = tuple[float, float, float]
Asked: TypeAlias = Iterator[Sequence[Exchange[Catalogue]]]
LookUps: TypeAlias = Callable[..., Asked]


# --- a process that starts clients ----------------------------------------------------------------


def one_by_one(names: Sequence[str], *, lists_by_name: bool) -> Asked:
    assert lists_by_name
    yield [Exchange(each.request, _catalogue_of(each)) for each in map(_wire.setting, names)]


def _catalogue_of(exchange: Exchange[SettingData | None]) -> Callable[[Response], Catalogue]:
    return lambda response: Catalogue(filter(None, [exchange.read(response)]))


def nothing(_names: Sequence[str], *, lists_by_name: bool) -> Asked:
    assert lists_by_name
    yield []


def all_listed(_names: Sequence[str], *, lists_by_name: bool) -> Asked:
    assert lists_by_name
    exchange = _wire.settings()
    yield [Exchange(exchange.request, lambda response: Catalogue(exchange.read(response).values()))]


def work() -> None:
    """Start a client for each line of stdin, a dict with url, names and way, at the line after it."""
    choose = declarations.look_ups
    ways: dict[str, LookUps] = {
        "ours": choose,
        "a": one_by_one,
        "declared": nothing,
        "b": all_listed,
    }
    for line in sys.stdin:
        task = json.loads(line)
        testing.reset()
        settings = [Setting(name, int, ["environment", "user"], 60) for name in task["names"]]
        print("ready", flush=True)
        sys.stdin.readline()
        began, used = time.perf_counter(), time.process_time()
        with (
            mock.patch.object(update, "look_ups", ways[task["way"]]),
            ThreadHeksherClient(
                task["url"], 3600, FEATURES, startup="raise", startup_timeout=600
            ) as client,
        ):
            seconds, processor = time.perf_counter() - began, time.process_time() - used
            print(json.dumps([seconds, processor, client.status.bytes_received]), flush=True)
        assert settings


class Workers:
    """Processes that start clients at once."""

    def __init__(self, stack: ExitStack) -> None:
        self._processes = [
            stack.enter_context(
                subprocess.Popen(  # noqa: S603
                    [sys.executable, __file__, "--work"],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )
            for _ in range(PROCESSES)
        ]
        for process in self._processes:
            stack.callback(process.terminate)

    def start(self, number: int, service: Server, names: Sequence[str], way: str) -> Cost:
        """Start *number* clients at once; return the slowest one's seconds, and means of the others."""
        some = self._processes[:number]
        for process in some:
            _write(process, json.dumps({"url": service.url, "names": names, "way": way}))
        for process in some:
            assert _read(process) == "ready\n"
        used = service.processor_seconds()
        for process in some:
            _write(process, "")
        seconds, processor, sizes = zip(*[json.loads(_read(each)) for each in some], strict=True)
        used = service.processor_seconds() - used
        return max(seconds), statistics.mean(processor) + used / number, statistics.mean(sizes)


def _write(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdin is not None
    process.stdin.write(line + "\n")
    process.stdin.flush()


def _read(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, "a process ended"
    return line


# --- the service ----------------------------------------------------------------------------------


def add(storage: Storage, names: Sequence[str]) -> None:
    with storage.writing() as writer:
        for name in names:
            features = ("environment", "user")
            writer.add_setting(SettingRecord(name, "int", "60", "1.0", features, {}, ()))


def delete(storage: Storage, prefix: str) -> None:
    with storage.writing() as writer:
        for record in writer.settings():
            if record.name.startswith(prefix):
                writer.delete_setting(record.name)


@contextmanager
def served(database: str) -> Generator[Server]:
    """Serve *database*."""
    command = [sys.executable, "-m", "heksher", "serve", "--port", "0", "--database", database]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603
        try:
            yield Server(process.pid, _read(process).split()[-1])
        finally:
            process.terminate()


# --- the table ------------------------------------------------------------------------------------


class Table:
    """Measures the rows and prints each as soon as it is known.

    Args:
        workers: start the clients.
        seconds: how long all rows together may take.
        rows: how many rows there will be.
        has_new: whether new settings are measured as well, which takes most of the time.
    """

    def __init__(self, workers: Workers, seconds: float, rows: int, *, has_new: bool) -> None:
        self._workers = workers
        self._seconds = seconds
        self._left = rows
        self._has_new = has_new
        self._round = 0
        self._is_warm = False
        print(
            "| database | own | others | settings | processes | ours | (a) each | (b) list | ratio |"
        )
        print("|---|---|---|---|---|---|---|---|---|", flush=True)

    def measure(self, database: str, shown: str, others: int, own: int) -> None:
        with closing(open_storage(database, FEATURES)) as storage, served(database) as service:
            names = [f"own{number}" for number in range(own)]
            known = {record.name for record in self._stored(storage)}
            add(storage, [name for name in names if name not in known])
            if not self._is_warm:
                # The first start of a process imports modules.
                self._workers.start(PROCESSES, service, names, "ours")
                self._is_warm = True
            self._rows(service, (shown, own, others, "known"), lambda: names, storage)
            if self._has_new:
                self._rows(service, (shown, own, others, "new"), lambda: self._new(own), storage)

    def _stored(self, storage: Storage) -> Sequence[SettingRecord]:
        with storage.reading() as reader:
            return reader.settings()

    def _new(self, own: int) -> list[str]:
        self._round += 1
        return [f"new{self._round}.{number}" for number in range(own)]

    def _rows(
        self,
        service: Server,
        row: tuple[str, int, int, str],
        names: Callable[[], list[str]],
        storage: Storage,
    ) -> None:
        is_new, ways = row[3] == "new", list(WAYS)
        for processes in (1, PROCESSES):
            began = time.monotonic()
            until = began + self._seconds / self._left
            self._left -= 1
            if processes > 1 and is_new and row[1] > MOST_NEW_AT_ONCE:
                return
            costs: dict[str, Cost] = {}
            for _ in range(MOST_ROUNDS):
                for way in ways:
                    kind = "declared" if is_new and way == "a" else way
                    cost = self._workers.start(processes, service, names(), kind)
                    costs[way] = _least(cost, costs.get(way, cost))
                    if is_new:
                        delete(storage, "new")
                least = min(costs[way][0] for way in WAYS[1:] if way in costs)
                ways = [way for way in ways if way == "ours" or costs[way][0] <= 3 * least]
                ways.reverse()
                if time.monotonic() > until:
                    break
            self._seconds -= time.monotonic() - began
            self._print(row, processes, costs)

    @staticmethod
    def _print(row: tuple[Any, ...], processes: int, costs: dict[str, Cost]) -> None:
        cells = [
            "-"
            if way not in costs
            else "{:.0f} ms, {:.0f} ms, {:.1f} kB".format(*map(mul, (1e3, 1e3, 1e-3), costs[way]))
            for way in WAYS
        ]
        others = [costs[way] for way in WAYS[1:] if way in costs]
        ratios = [
            costs["ours"][which] / max(1e-9, min(each[which] for each in others))
            for which in range(3)
        ]
        shown = ", ".join(f"{ratio:.2f}" for ratio in ratios)
        print("|", " | ".join(map(str, (*row, processes, *cells, shown))), "|", flush=True)


def _least(one: Cost, other: Cost) -> Cost:
    return min(one[0], other[0]), min(one[1], other[1]), min(one[2], other[2])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--postgresql", help="URL of an empty database")
    parser.add_argument("--minutes", type=float, default=5, help="for all rows together")
    parser.add_argument("--own", type=int, nargs="*", default=SOME_OWN)
    parser.add_argument("--others", type=int, nargs="*", default=SOME_OTHERS)
    parser.add_argument("--all", action="store_true", help="all numbers of settings")
    parser.add_argument("--known", action="store_true", help="measure no new settings")
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work:
        work()
        return
    if arguments.all:
        arguments.own, arguments.others = OWN, OTHERS
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        databases = [(str(Path(folder, "heksher.db")), "SQLite")]
        if arguments.postgresql:
            databases.append((arguments.postgresql, "PostgreSQL"))
        kinds = 2 if arguments.known else 4
        rows = kinds * len(databases) * len(arguments.own) * len(arguments.others)
        table = Table(Workers(stack), 60 * arguments.minutes, rows, has_new=not arguments.known)
        for database, shown in databases:
            stored = 0
            for others in arguments.others:
                with closing(open_storage(database, FEATURES)) as storage:
                    add(storage, [f"other{number}" for number in range(stored, others)])
                    delete(storage, "own")
                stored = others
                for own in arguments.own:
                    table.measure(database, shown, others, own)


if __name__ == "__main__":
    main()
