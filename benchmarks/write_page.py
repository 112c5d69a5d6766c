"""Writes the tables of docs/performance.md from the results that were saved in results/.

``pytest benchmarks/ --save benchmarks/results/3.13.json`` saves those of one Python. Then
``python benchmarks/write_page.py`` puts all of them on the page.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
RESULTS = HERE / "results"
PAGE = HERE.parent / "docs" / "performance.md"


def main() -> None:
    """Write the page."""
    PAGE.write_text(with_tables(PAGE.read_text()))


def with_tables(page: str) -> str:
    """Return *page* with the tables of the saved results, each between its two comments."""
    runs = [json.loads(file.read_text()) for file in sorted(RESULTS.glob("[0-9]*.json"))]
    page = _between(page, "ratios", ratios(runs))
    return _between(page, "peers", peers(json.loads((RESULTS / "peers.json").read_text())))


def ratios(runs: list[dict[str, Any]]) -> list[str]:
    """The table of ratios: one line for each shape, two columns for each Python."""
    head = ["shape", "target"]
    for run in runs:
        head += [run["python"], "by attribute"]
    rows = [{row["shape"]: row for row in run["rows"]} for run in runs]
    lines = [head]
    for shape, first in rows[0].items():
        line = [shape, first["target"]]
        for by_shape in rows:
            row = by_shape.get(shape)
            if row is None:  # it was not measured there
                line += ["", ""]
                continue
            figures = row["ours"] + (f" / {row['floor']}" if row["floor"] else "")
            ratio, attribute = row["ratio"], row["by_attribute"]
            mark = " missed" if row["met"] is False else ""
            line.append(figures if ratio is None else f"**{ratio:.2f}**{mark} ({figures})")
            line.append("" if attribute is None else f"{attribute:.2f}")
        lines.append(line)
    return _markdown(lines)


def peers(run: dict[str, Any]) -> list[str]:
    """The table of peers: each beside its own floor, and what each was asked to do."""
    head = ["shape", "library", "a call / its floor", "ours", "ours is faster", "target"]
    lines = [head]
    for shape, peer, call, floor, ratio, ours, faster, target, met in run["rows"]:
        mark = " (missed)" if met == "NO" else ""
        figures = f"{ratio} ({call} / {floor})"
        lines.append([shape, peer, figures, ours, f"**{faster}**{mark}", target])
    asked = [f"- {peer}: {what}." for peer, what in run["asked"].items()]
    return [*_markdown(lines), "", f"On {run['python']}. What was asked of each:", "", *asked]


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
