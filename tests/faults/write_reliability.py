"""Write the tables of docs/reliability.md from the results in results.jsonl.

``tox -e faults -- --save-faults tests/faults/results.jsonl`` runs the whole matrix and saves the results.
Then ``python tests/faults/write_reliability.py`` writes them to the page.
"""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

HERE = Path(__file__).parent
RESULTS = HERE / "results.jsonl"
PAGE = HERE.parent.parent / "docs" / "reliability.md"

Result: TypeAlias = dict[str, Any]


def main() -> None:
    """Write the page."""
    PAGE.write_text(with_tables(PAGE.read_text()))


def with_tables(page: str) -> str:
    """Return *page* with the tables of the saved results between their comments."""
    results = saved()
    page = _between(page, "summary", summary(results))
    page = _between(page, "counts", counts(results))
    return _between(page, "matrix", matrix(results))


def saved() -> list[Result]:
    """Read the results, one for each combination, in the order of the table."""
    return [json.loads(line) for line in RESULTS.read_text().splitlines()]


def summary(results: Sequence[Result]) -> list[str]:
    """Say in a few sentences what was tried and what came out."""
    ran = [result for result in results if "gets" in result]
    failed = [result for result in results if "failed" in result]
    backends = ", ".join(_each(results, "backend"))
    moments = len(_each(results, "moment"))
    verdict = f"{len(failed)} FAIL" if failed else "all of them pass"
    return [
        f"The tests cause {len(_each(results, 'fault'))} faults of the service, the network and the "
        f"machine, at {moments} moments, on each backend ({backends}). {len(ran) + len(failed)} of the "
        f"{len(results):,} combinations are possible; {verdict}. No call of `get()` failed or waited: "
        f"the longest took {max(_known(ran, 'get_cpu_us')) / 1000:.2f} ms of processor time. With clients "
        "that poll every 50 ms, the newest values were in force at most "
        f"{max(_known(ran, 'catch_up_ms')):.0f} ms after the end of a fault."
    ]


def counts(results: Sequence[Result]) -> list[str]:
    """Summarize by backend: number of combinations and worst durations."""
    ran = [result for result in results if "gets" in result]
    table = [
        [
            "backend",
            "combinations",
            "calls of `get()`",
            "longest call, processor time",
            "longest call, by the clock",
            "newest values after, median",
            "newest values after, at most",
            "closing, at most",
        ]
    ]
    for backend in _each(ran, "backend"):
        of_it = [result for result in ran if result["backend"] == backend]
        late = _known(of_it, "catch_up_ms")
        table.append(
            [
                backend,
                str(len(of_it)),
                f"{sum(_known(of_it, 'gets')):,}",
                f"{max(_known(of_it, 'get_cpu_us')) / 1000:.2f} ms",
                f"{max(_known(of_it, 'get_wall_ms')):.0f} ms",
                f"{statistics.median(late):.0f} ms",
                f"{max(late):.0f} ms",
                f"{max(_known(of_it, 'close_ms')):.0f} ms",
            ]
        )
    return _markdown(table)


def matrix(results: Sequence[Result]) -> list[str]:
    """Write a table for each group of faults, with results by moment and the reasons of gaps."""
    notes: dict[str, int] = {}
    moments = _each(results, "moment")
    lines: list[str] = []
    for group in _each(results, "group"):
        of_group = [result for result in results if result["group"] == group]
        table = [[group, "updates", *moments]]
        for fault in _each(of_group, "fault"):
            of_fault = [result for result in of_group if result["fault"] == fault]
            # The result at the start may differ, and comes first.
            updates = [result["updates"] for result in of_fault if "updates" in result][-1:]
            cells = [
                _cell([result for result in of_fault if result["moment"] == moment], notes)
                for moment in moments
            ]
            table.append([fault, *(updates or [""]), *cells])
        lines += [*_markdown(table), ""]
    return lines + [f"{number}. {reason}." for reason, number in notes.items()]


def _cell(results: Sequence[Result], notes: dict[str, int]) -> str:
    """Summarize one fault at one moment, on all backends."""
    marks = ""
    for reason in dict.fromkeys(each["impossible"] for each in results if "impossible" in each):
        backends = [each["backend"] for each in results if each.get("impossible") == reason]
        where = "" if len(backends) == len(results) else f"{', '.join(backends)}: "
        marks += f" [{notes.setdefault(where + reason, len(notes) + 1)}]"
    if any("failed" in result for result in results):
        return "FAILS" + marks
    times = _known(results, "catch_up_ms") or _known(results, "close_ms")
    return (f"✓ {max(times):.0f} ms" if times else "-") + marks


def _known(results: Iterable[Result], key: str) -> list[float]:
    return [result[key] for result in results if result.get(key) is not None]


def _each(results: Iterable[Result], key: str) -> list[str]:
    """Return the distinct values of *key*, in order."""
    return list(dict.fromkeys(result[key] for result in results))


def _markdown(lines: Sequence[Sequence[str]]) -> list[str]:
    texts = ["| " + " | ".join(line) + " |" for line in lines]
    return [texts[0], "|" + "---|" * len(lines[0]), *texts[1:]]


def _between(page: str, name: str, lines: Sequence[str]) -> str:
    begin, end = f"<!-- {name} -->\n", f"\n<!-- end of {name} -->"
    pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
    page, count = pattern.subn(lambda _: begin + "\n".join(lines) + end, page)
    if count != 1:
        raise ValueError(f"the page has no place for {name}")
    return page


if __name__ == "__main__":
    main()
