"""The benchmarks run, and what docs/performance.md shows is what the library does."""

from __future__ import annotations

import importlib
import json
import linecache
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from doc_examples import DOCS, PATIENCE, ROOT, blocks
from support.published import code_of, publish

from heksher import Setting
from heksher._rules.contexts import Defaults
from heksher._rules.table import RuleTable, TableRule

PAGE = DOCS / "performance.md"


@pytest.mark.integration
@pytest.mark.usefixtures("few_plugins")
def test_the_benchmarks_run_and_end_with_one_table(tmp_path: Path) -> None:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", ROOT / "benchmarks", "--quick"),
            *("-p", "no:cacheprovider", "-p", "pytest_benchmark.plugin"),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=4 * PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    rows = re.findall(r"^\| (.+?) +\| +([\d.]+ \S+|.*? blocks)", done.stdout, re.MULTILINE)
    shapes = [shape for shape, _ in rows]
    for part in ("cache_ttl", "three features", "random keys", "threads", "kept", "publish"):
        assert any(part in shape for shape in shapes), done.stdout
    assert shapes[-1].startswith("import heksher")


def run_benchmark(folder: Path, source: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Run a benchmark that has the given source."""
    (folder / "pytest.ini").write_text("[pytest]\npython_files = look_up.py\n")
    (folder / "conftest.py").write_text('pytest_plugins = ["machinery.ratio_table"]\n')
    shutil.copytree(ROOT / "benchmarks" / "machinery", folder / "machinery")
    (folder / "look_up.py").write_text(source)
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *options],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


ROW = "def test_a_row(ratios):\n    ratios.add('something', [3.0], [2.0], at_most={at_most})\n"


@pytest.mark.integration
@pytest.mark.usefixtures("few_plugins")
@pytest.mark.parametrize("asked", [True, False])
def test_a_missed_target_fails_the_run_only_where_that_is_asked_for(
    asked: bool, tmp_path: Path
) -> None:
    saved = tmp_path / "results" / "some.json"
    options = ["--save", str(saved), *(["--check-targets"] if asked else [])]
    done = run_benchmark(tmp_path, ROW.format(at_most=1.4), *options)
    assert done.returncode == (1 if asked else 0), done.stdout + done.stderr
    assert re.search(
        r"^\| something \| 3.00 ns \| 2.00 ns \| 1.50 +\| at most 1.4 \| NO ", done.stdout, re.M
    )
    assert "missed: something\n" in done.stdout
    assert [row["shape"] for row in json.loads(saved.read_text())["rows"]] == ["something"]


@pytest.mark.integration
@pytest.mark.usefixtures("few_plugins")
@pytest.mark.parametrize("breaks", [True, False])
def test_a_benchmark_that_breaks_is_not_taken_for_one_that_met_its_target(
    breaks: bool, tmp_path: Path
) -> None:
    source = ROW.format(at_most=2) + "\n\ndef test_other():\n    assert 1 == {}\n"
    done = run_benchmark(tmp_path, source.format(2 if breaks else 1))
    assert ("All targets are met." in done.stdout) is not breaks, done.stdout + done.stderr
    assert ("Not everything was measured." in done.stdout) is breaks


def test_the_page_shows_the_source_that_is_generated_for_its_rules() -> None:
    rows = re.findall(r"^\| ((?:\w+=\w+(?:, )?)+) \| (\d+) \|$", PAGE.read_text(), re.MULTILINE)
    assert len(rows) == 4
    features = ("environment", "user")
    rules = [
        TableRule(
            int(value),
            tuple((name, wanted) for name, _, wanted in map(parts, conditions.split(", "))),
            number,
        )
        for number, (conditions, value) in enumerate(rows, 1)
    ]
    cache_ttl = Setting("cache_ttl", int, features, 60)
    table = RuleTable(60, tuple(rules), features)
    publish(cache_ttl, table, Defaults({"environment": "dev"}))
    shown = "".join(linecache.getlines(code_of(cache_ttl).co_filename))
    assert shown in blocks(PAGE, "text")
    (folded,) = re.findall(r"one dict answers: `(.*?)`", PAGE.read_text())
    for user, value in json.loads(folded).items():
        assert cache_ttl.get(user=user) == value
    assert cache_ttl.get(user="eve") == 60
    assert cache_ttl.get(user="eve", environment="prod") == 300


def parts(condition: str) -> tuple[str, str, str]:
    return condition.partition("=")


def test_the_tables_on_the_page_are_those_of_the_saved_results(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "path", [str(ROOT / "benchmarks"), *sys.path])
    with_tables: Callable[[str], str] = importlib.import_module("pages.write_page").with_tables
    page = PAGE.read_text()
    assert with_tables(page) == page
