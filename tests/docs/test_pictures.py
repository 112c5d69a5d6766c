"""The pictures are shown, and are what their scripts draw.

Those of docs/performance.md show the library's plan and the saved results. Drawing them, ``tox -e draw``,
needs a library that the tests do without, so they read the pictures.
"""

from __future__ import annotations

import importlib
import json
import math
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from doc_examples import DOCS, README, ROOT

PAGE = DOCS / "performance.md"
IMAGES = DOCS / "images"
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def draw(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(sys, "path", [str(ROOT / "benchmarks"), *sys.path])
    return importlib.import_module("pages.draw")


def elements(picture: Path | ElementTree.Element, tag: str) -> Iterator[ElementTree.Element]:
    root = ElementTree.parse(picture).getroot() if isinstance(picture, Path) else picture
    return root.iter(SVG + tag)


def points(path: ElementTree.Element) -> list[tuple[float, float]]:
    return [
        (float(x), float(y)) for x, y in re.findall(r"[ML] ([\d.]+) ([\d.]+)", path.attrib["d"])
    ]


def test_the_pages_show_every_picture_and_describe_it() -> None:
    shown = [
        name
        for page in (README, *DOCS.glob("*.md"))
        for _, name in re.findall(r"^!\[(.+)\]\((?:docs/)?images/(.+)\)$", page.read_text(), re.M)
    ]
    assert sorted(shown) == sorted(file.name for file in IMAGES.glob("*.svg"))


def test_the_picture_of_the_readme_is_what_its_script_draws(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "path", [str(ROOT / "benchmarks"), *sys.path])
    overview = importlib.import_module("pages.overview")
    assert (IMAGES / "overview.svg").read_text(encoding="utf-8") == overview.picture()


def test_the_picture_is_of_the_rules_on_the_page(draw: Any) -> None:
    rows = [
        f"| {', '.join(map('='.join, rule.conditions))} | {rule.value} |\n" for rule in draw.RULES
    ]
    assert "|---|---|\n" + "".join(rows) + "\n" in PAGE.read_text()


def test_the_picture_shows_what_the_library_makes_of_the_rules(draw: Any) -> None:
    shown = draw.compiling()
    cells = [
        cell
        for rule in draw.RULES
        for conditions in [dict(rule.conditions)]
        for cell in (*(conditions.get(name, "any") for name in draw.FEATURES), str(rule.value))
    ]
    source = [line.strip() for line in shown.source]
    code = [
        text.text
        for text in elements(IMAGES / "compiling.svg", "text")
        if "monospace" in text.attrib["style"]
    ]
    wanted = [*cells, *cells, *shown.objects, *source, *shown.left_out, *shown.given]
    assert sorted(map(str, code)) == sorted(wanted), "run tox -e draw"


def test_the_picture_strikes_out_what_is_folded_away(draw: Any) -> None:
    strokes = [
        points(path)
        for path in elements(IMAGES / "compiling.svg", "path")
        if "stroke: #000000" in path.attrib["style"]
    ]
    struck = [
        text.text
        for text in elements(IMAGES / "compiling.svg", "text")
        for x, y in [(float(text.attrib["x"]), float(text.attrib["y"]))]
        if any(left <= x <= right and y - 6 < height < y for (left, height), (right, _) in strokes)
    ]
    assert draw.compiling().kept == [("user",), ("user",), None, None]
    assert struck == ["dev", "prod", "joe", "20", "prod", "any", "300"]


def test_the_plot_shows_the_saved_results() -> None:
    results = json.loads((ROOT / "benchmarks" / "results" / "by_rules.json").read_text())
    plot = IMAGES / "by_rules.svg"
    texts = {str(text.text): text.attrib for text in elements(plot, "text")}
    lines = {group.get("id"): group for group in elements(plot, "g")}
    assert any(text.startswith(results["python"]) for text in texts), "run tox -e draw"

    # The labels of the axes define the scale.
    def place(text: str, axis: str) -> float:
        return float(texts[text][axis])

    per_decade = (
        (place("100,000", "x") - place("10", "x")) / 4,
        (place("10,000 ns", "y") - place("100 ns", "y")) / 2,
    )
    origin = (
        place("10", "x") - per_decade[0],
        place("100 ns", "y") - 2 * per_decade[1] - 4,  # from a label's baseline to its middle
    )
    for name, times in results["series"].items():
        assert f"{name}: {times[-1]:,.0f} ns" in texts, "run tox -e draw"
        (line, *_markers) = elements(lines[name.replace(" ", "-")], "path")
        for drawn, *measured in zip(points(line), results["rules"], times, strict=True):
            for axis in (0, 1):
                wanted = origin[axis] + per_decade[axis] * math.log10(measured[axis])
                assert drawn[axis] == pytest.approx(wanted, abs=0.5), "run tox -e draw"
