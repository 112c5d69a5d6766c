"""A pytest plugin that collects ratios from the benchmarks and prints them as one table at the end.

Times depend on the machine and are shown for orientation. Targets are for ratios of two times that were
measured in turn in one process. A missed target fails the run only with ``--check-targets``.
"""

from __future__ import annotations

import json
import platform
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest

from machinery.interleaved import median_ratio

#: The modules of benchmarks, in the order in which they run.
MODULES = (
    "look_up",
    "scaling",
    "many_sets",
    "cohorts",
    "explain",
    "threads",
    "memory",
    "publish",
    "refresh",
    "start_up",
    "service",
    "import_time",
)

HEAD = ("shape", "ours", "floor", "ratio", "target", "met", "by attribute")


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        shape: what was measured.
        ours: the result, with its unit.
        floor: the result of the floor, with its unit.
        ratio: the median of the ratios of all rounds; None where nothing is divided.
        target: the target in words; empty without a target.
        met: whether the target is met; None without a target.
        by_attribute: the ratio to a floor that is called as an attribute of an object, as ours is.
    """

    shape: str
    ours: str
    floor: str
    ratio: float | None
    target: str = ""
    met: bool | None = None
    by_attribute: float | None = None

    def cells(self) -> tuple[str, ...]:
        """Return the cells of the line, in the order of `HEAD`."""
        return (
            self.shape,
            self.ours,
            self.floor,
            "" if self.ratio is None else f"{self.ratio:.2f}",
            self.target,
            {True: "yes", False: "NO", None: ""}[self.met],
            "" if self.by_attribute is None else f"{self.by_attribute:.2f}",
        )


class Ratios:
    """The table of one run, to which benchmarks add rows.

    Attributes:
        rows: the rows, in the order in which they were measured.
        quick: whether benchmarks use few rounds and small data, only to check that they run.
    """

    def __init__(self, *, quick: bool) -> None:
        self.rows: list[Row] = []
        self.quick = quick

    @property
    def rounds(self) -> int:
        """The number of rounds of a comparison."""
        return 3 if self.quick else 101

    def add(
        self,
        shape: str,
        ours: Sequence[float],
        floor: Sequence[float],
        *,
        unit: str = "ns",
        at_most: float | None = None,
        at_least: float | None = None,
        by_attribute: Sequence[float] | None = None,
    ) -> None:
        """Add the ratio of two series, and whether it meets its target.

        Each series has one number for each round, in *unit*. The row shows both medians, and the median
        of the ratios.
        """
        ratio = median_ratio(ours, floor)
        target, met = "", None
        if at_most is not None:
            target, met = f"at most {at_most:g}", ratio <= at_most
        elif at_least is not None:
            target, met = f"at least {at_least:g}", ratio >= at_least
        self.rows.append(
            Row(
                shape,
                _figure(statistics.median(ours), unit),
                _figure(statistics.median(floor), unit),
                ratio,
                target,
                met,
                None if by_attribute is None else median_ratio(ours, by_attribute),
            )
        )

    def lines(self) -> list[str]:
        """Return the lines of the table in Markdown."""
        cells = [HEAD, *(row.cells() for row in self.rows)]
        widths = [max(len(line[place]) for line in cells) for place in range(len(HEAD))]
        texts = [
            "| " + " | ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)) + " |"
            for line in cells
        ]
        texts.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
        return texts


def _figure(value: float, unit: str) -> str:
    return f"{value:.{0 if value >= 100 else 1 if value >= 10 else 2}f} {unit}"


_RATIOS = pytest.StashKey[Ratios]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of the benchmarks."""
    group = parser.getgroup("heksher's benchmarks")
    group.addoption("--check-targets", action="store_true", help="fail if a target is missed")
    group.addoption(
        "--quick",
        action="store_true",
        help="few rounds and little data: only check that every benchmark runs",
    )
    group.addoption(
        "--postgresql", metavar="URL", help="also measure the service on this empty database"
    )
    group.addoption("--save", type=Path, metavar="FILE", help="also write the table as JSON")


def pytest_configure(config: pytest.Config) -> None:
    """Start with an empty table."""
    config.stash[_RATIOS] = Ratios(quick=bool(config.getoption("--quick")))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort the benchmarks by `MODULES`."""
    items.sort(key=lambda item: MODULES.index(item.path.stem))


@pytest.fixture
def ratios(request: pytest.FixtureRequest) -> Ratios:
    """The table of this run."""
    return request.config.stash[_RATIOS]


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Fail the run for a missed target if ``--check-targets`` is given."""
    rows = session.config.stash[_RATIOS].rows
    missed = any(row.met is False for row in rows)
    if missed and exitstatus == 0 and session.config.getoption("--check-targets"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Print the table, and save it if ``--save`` is given."""
    ratios = config.stash[_RATIOS]
    if not ratios.rows:
        return
    how = f"{platform.python_implementation()} {platform.python_version()}"
    if (file := config.getoption("--save")) is not None:
        results = {"python": how, "rows": [asdict(row) for row in ratios.rows]}
        file = Path(file)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    terminalreporter.section(f"ratios, {how}, median of {ratios.rounds} rounds")
    for line in ratios.lines():
        terminalreporter.write_line(line)
    missed = [row.shape for row in ratios.rows if row.met is False]
    terminalreporter.write_line("")
    if missed:
        terminalreporter.write_line(f"missed: {'; '.join(missed)}")
    elif {"failed", "error"} & terminalreporter.stats.keys():
        terminalreporter.write_line("Not everything was measured.")
    else:
        terminalreporter.write_line("All targets are met.")
