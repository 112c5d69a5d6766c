"""An application for heksher-py 0.2.2 and its unit tests run unchanged with this library."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from doc_examples import DOCS, PATIENCE

import heksher
from heksher.testing.service import LiveService

HERE = Path(__file__).parent
APPLICATION = HERE / "old_application.py"

# 0.2.2 logs it as well, in other words.
CLOSE_IS_DEPRECATED = "ignore:AsyncHeksherClient.close() is deprecated:DeprecationWarning"


def python(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-W", "error", "-W", CLOSE_IS_DEPRECATED, *map(str, arguments)]


def test_the_application_runs_unchanged() -> None:
    with LiveService(["environment", "user", "theme"], api_token="abc") as service:
        process = subprocess.Popen(
            python(APPLICATION, service.url),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stdin is not None and process.stdout is not None

        def told() -> dict[str, Any]:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line, process.communicate(timeout=PATIENCE)[1]
            answers: dict[str, Any] = json.loads(line)
            return answers

        defaults = {
            "cache_ttl": 60,
            "cache_ttl elsewhere": 60,
            "background": "BLUE",
            "background, dark": "BLUE",
            "help": 1,
            "colors": ["BLUE", "RED"],
            "costs": {"tea": 2},
            "retries": 3,
        }
        try:
            assert told() == defaults

            service.add_rule("cache_ttl", 10_000, environment="dev", user="jim")
            service.add_rule("cache_ttl", 5, environment="prod")
            service.add_rule("background", "red", theme="dark")
            service.add_rule("help", ["SPEECH", "LARGE_TEXT"], user="jim")
            service.add_rule("colors", ["red"], user="jim")
            service.add_rule("costs", {"tea": 1}, user="jim")
            service.add_rule("retries", -1, user="jim")
            process.stdin.write("\n")
            process.stdin.flush()
            assert told() == {
                "cache_ttl": 3600,
                "cache_ttl elsewhere": 60,  # prod is not tracked
                "background": "BLUE",
                "background, dark": "RED",
                "help": 3,
                "colors": ["RED"],
                "costs": {"tea": 1},
                "retries": 3,  # the validator rejected only this rule
            }

            process.stdin.close()
            end = told()
            assert end == {
                "settings": ["background", "cache_ttl", "colors", "costs", "help", "retries"],
                "mistakes": ["unknown", "missing", "second default", "tracked already"],
                "errors": 0,
                "was told of updates": True,
            }
            assert process.wait(PATIENCE) == 0
        finally:
            process.kill()
            process.wait()
            process.stdout.close()
            assert process.stderr is not None
            errors = process.stderr.read()
            process.stderr.close()
        assert all(line.startswith("dropped: setting 'retries'") for line in errors.splitlines())


def test_a_service_that_is_away_is_met_as_before() -> None:
    done = subprocess.run(
        python(APPLICATION, "away", "http://127.0.0.1:1"),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == ["start raised", "threads go on", "ping raised"]


@pytest.mark.usefixtures("few_plugins")
def test_its_unit_tests_pass_unchanged() -> None:
    done = subprocess.run(
        python(
            "-m",
            "pytest",
            "-c",
            "/dev/null",
            "--noconftest",
            "-p",
            "no:cacheprovider",
            HERE / "old_unit_tests.py",
        ),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
        cwd=HERE,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"\b8 passed", done.stdout), done.stdout


def test_the_spelling_of_the_old_documentation() -> None:
    """Its examples use ``configurable_feature=``, which 0.2.2 itself did not accept."""
    setting = heksher.Setting(
        name="cache_ttl", type=int, configurable_feature=["environment", "user"], default_value=60
    )
    assert setting.configurable_features == ("environment", "user")
    assert setting.get(user="jim") == 60


def test_the_table_has_a_verdict_in_each_line() -> None:
    text = (DOCS / "migration.md").read_text()
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    assert len(lines) > 80
    for line in lines:
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        assert len(cells) == 4, line
        assert cells[2] in {"same", "better", "changed", "gone", "verdict"}, line
