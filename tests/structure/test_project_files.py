"""Files of the project that have to say the same: what is checked, by which commands, on which Pythons."""

from __future__ import annotations

import configparser
import re
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]

WORKFLOW = (ROOT / ".github" / "workflows" / "tests.yml").read_text(encoding="utf-8")
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def tox() -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(ROOT / "tox.ini", encoding="utf-8")
    return parser


def lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]


def test_the_workflow_runs_the_readmes_test_line() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    line = re.search(r"^<!-- tests -->\n```sh\n(.+)\n```$", readme, re.MULTILINE)
    assert line is not None
    assert re.findall(r"^ +- run: (.+)$", WORKFLOW, re.MULTILINE) == [line[1]]


def test_the_hooks_of_pre_commit_run_the_commands_of_lint() -> None:
    hooks = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    commands = lines(tox()["testenv:lint"]["commands"])
    assert re.findall(r"^ +entry: (.+)$", hooks, re.MULTILINE) == commands
    # As in tox: with the ruff of the environment, and on all files.
    assert hooks.count("language: system") == hooks.count("pass_filenames: false") == len(commands)


def test_tox_the_workflow_and_the_metadata_name_the_same_pythons() -> None:
    in_tox = re.findall(r"\bpy3(\d+t?)\b", tox()["tox"]["env_list"])
    versions = re.search(r"python-version: \|\n((?: +3\.\d+t?\n)+)", WORKFLOW)
    assert versions is not None
    assert sorted(lines(versions[1])) == sorted(f"3.{minor}" for minor in in_tox)
    classifiers = PROJECT["project"]["classifiers"]
    prefix = "Programming Language :: Python :: "
    assert [f"{prefix}3.{each}" for each in in_tox if not each.endswith("t")] == [
        each for each in classifiers if re.fullmatch(prefix + r"3\.\d+", each)
    ]
    is_tested_without_the_gil = any(each.endswith("t") for each in in_tox)
    assert any("Free Threading" in each for each in classifiers) is is_tested_without_the_gil
    oldest = min(int(each) for each in in_tox if not each.endswith("t"))
    assert PROJECT["project"]["requires-python"] == f">=3.{oldest}"
    assert tox()["testenv:lowest"]["base_python"] == f"python3.{oldest}"


def test_the_versions_of_checkers_are_pinned_in_one_place() -> None:
    groups = PROJECT["dependency-groups"]
    pinned = [
        each.partition("==")[0].partition("[")[0]
        for group in ("lint", "types")
        for each in groups[group]
        if "==" in each
    ]
    assert pinned == ["ruff", "mypy", "pyright"]
    for group in ("lint", "types", "test", "integration"):
        assert {"include-group": group} in groups["dev"]
    for file in ("tox.ini", ".pre-commit-config.yaml", ".github/workflows/tests.yml"):
        text = (ROOT / file).read_text(encoding="utf-8")
        assert not re.search(r"\b(ruff|mypy|pyright)\b\S*[=~<>]=", text)
