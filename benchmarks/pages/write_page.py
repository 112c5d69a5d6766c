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
    page = _between(page, "overall", [f"{run['overall']} (On {run['python']}.)"])
    return _between(page, "notes", run["notes"])


def ratios(runs: list[dict[str, Any]]) -> list[str]:
    """Return the table of ratios: one line for each shape, two columns for each Python."""
    head = ["shape", "target"]
    for run in runs:
        head += [run["python"], "by attribute"]
    rows = [{row["shape"]: row for row in run["rows"]} for run in runs]
    lines = [head]
    for shape in rows[0]:
        # Some targets depend on the Python.
        targets = dict.fromkeys(by_shape[shape]["target"] for by_shape in rows if shape in by_shape)
        line = [shape, ", ".join(targets)]
        for by_shape in rows:
            row = by_shape.get(shape)
            if row is None:  # not measured with this Python
                line += ["", ""]
                continue
            figures = row["ours"] + (f" / {row['floor']}" if row["floor"] else "")
            ratio, attribute = row["ratio"], row["by_attribute"]
            mark = " missed" if row["met"] is False else ""
            line.append(figures if ratio is None else f"**{ratio:.2f}**{mark} ({figures})")
            line.append("" if attribute is None else f"{attribute:.2f}")
        lines.append(line)
    return _markdown(lines)


def peers(table: dict[str, Any]) -> list[str]:
    """Return the table of a comparison: what each library takes, and what it had to do."""
    whats = list(dict.fromkeys(row[0] for row in table["rows"]))
    ours = {what: own for what, _, _, own, _, _, _ in table["rows"]}
    lines = [["library", *whats, "target", "what was asked of it"]]
    lines.append(["ours", *(ours[what] for what in whats), "", table["asked"]["ours"]])
    for library in dict.fromkeys(row[1] for row in table["rows"]):
        cells = {
            what: f"**{faster}**{' missed' if met == 'NO' else ''}: {theirs}"
            for what, peer, theirs, _, faster, _, met in table["rows"]
            if peer == library
        }
        (target,) = {row[5] for row in table["rows"] if row[1] == library}
        lines.append([library, *(cells[what] for what in whats), target, table["asked"][library]])
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
