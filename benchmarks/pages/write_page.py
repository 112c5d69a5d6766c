"""Write the tables of docs/performance.md from the saved results in benchmarks/results/.

``pytest benchmarks/ --save benchmarks/results/3.13.json`` saves the results of one Python. Then
``python benchmarks/pages/write_page.py`` writes the results of all Pythons into the page.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "performance.md"

#: The beginnings of shapes that the page leaves out: the service has tables of its own in docs/service.md,
#: and what holds for a shape and for its variants is shown once.
LEFT_OUT = (
    "query of",
    "kept by 10,000 calls: background",
    "kept by 10,000 calls: cache_ttl",
    "cache_ttl.get(user=None)",
    "cache_ttl.get(), a context variable that",
    "three features, 10 rules, all None",
    "publish 10 rules",
    "start with 300 new settings in memory",
)


def main() -> None:
    """Write the page."""
    PAGE.write_text(with_tables(PAGE.read_text()))


def with_tables(page: str) -> str:
    """Return *page* with the tables of the saved results; each goes between its two comments."""
    runs = [json.loads(file.read_text()) for file in sorted(RESULTS.glob("[0-9]*.json"))]
    page = _between(page, "ratios", ratios(runs))
    run = json.loads((RESULTS / "peers.json").read_text())
    for scenario in ("look-ups", "updates", "starts"):
        page = _between(page, scenario, peers(run[scenario]))
    return _between(page, "overall", [f"{run['overall']} (On {run['python']}.)"])


def ratios(runs: list[dict[str, Any]]) -> list[str]:
    """Return the table of ratios: one line for each shape, one column for each Python."""
    rows = [{row["shape"]: row for row in run["rows"]} for run in runs]
    lines = [["what", "target", *(run["python"] for run in runs)]]
    for shape in rows[0]:
        if not shape.startswith(LEFT_OUT):
            # None: not measured with this Python. Some targets depend on the Python.
            found = [by_shape.get(shape) for by_shape in rows]
            targets = dict.fromkeys(row["target"] for row in found if row)
            lines.append([shape, ", ".join(targets), *map(_ratio, found)])
    return _markdown(lines)


def _ratio(row: dict[str, Any] | None) -> str:
    if row is None or row["ratio"] is None:
        return row["ours"] if row else ""
    return f"**{row['ratio']:.2f}**{' missed' if row['met'] is False else ''} ({row['ours']})"


def peers(table: dict[str, Any]) -> list[str]:
    """Return the table of a comparison: what each library takes."""
    whats = list(dict.fromkeys(row[0] for row in table["rows"]))
    ours = {what: own for what, _, _, own, _, _, _ in table["rows"]}
    lines = [["library", *whats]]
    lines.append(["heksher", *(ours[what] for what in whats)])
    for library in dict.fromkeys(row[1] for row in table["rows"]):
        cells = {
            what: f"**{faster}**{' missed' if met == 'NO' else ''}: {theirs}"
            for what, peer, theirs, _, faster, _, met in table["rows"]
            if peer == library
        }
        lines.append([library, *(cells[what] for what in whats)])
    return _markdown(lines)


def _markdown(lines: list[list[str]]) -> list[str]:
    texts = ["| " + " | ".join(line) + " |" for line in lines]
    return [texts[0], "|" + "---|" * len(lines[0]), *texts[1:]]


def _between(page: str, name: str, lines: list[str]) -> str:
    begin, end = f"<!-- {name} -->\n", f"\n<!-- end of {name} -->"
    pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
    page, count = pattern.subn(lambda _: begin + "\n".join(lines) + end, page)
    if count != 1:
        raise ValueError(f"the page has no place for {name}")
    return page


if __name__ == "__main__":
    main()
