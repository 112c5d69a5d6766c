"""The pages in docs/: each is one program, run from top to bottom, which prints what it says.

Examples with names are programs of their own.
"""

from __future__ import annotations

import argparse
import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from doc_examples import (
    ADDRESS,
    DOCS,
    README,
    at,
    blocks,
    examples,
    program,
    promised_output,
    run_python,
)

from heksher import Cohort
from heksher.cli import _options
from heksher.testing.faults._kinds import KINDS
from heksher.testing.faults._text import parse_faults
from heksher.testing.service import LiveService


@pytest.fixture
def service(heksher_service: LiveService) -> LiveService:
    heksher_service.features = ["environment", "user", "theme"]
    return heksher_service


FIXTURES = examples(DOCS / "testing.md")
SHOP = FIXTURES.pop("shop")  # the application that other examples test
PLUGINS = {"anyio": ["-p", "anyio"], "trio": ["-p", "trio"]}


def prints(source: str, *logs: str) -> None:
    promised = promised_output(source)
    assert promised, "the page promises nothing"
    assert source.count("print(") == len(promised)
    assert run_python(source, *logs) == promised


@pytest.mark.parametrize("page", [README, *sorted(DOCS.glob("*.md"))], ids=lambda page: page.name)
def test_asynchronous_clients_are_made_where_their_event_loop_runs(page: Path) -> None:
    """One that is made with the module serves one event loop, and each test client runs another."""
    for block in blocks(page, "python"):
        for statement in ast.parse(block).body:
            if not isinstance(statement, ast.AsyncFunctionDef | ast.FunctionDef):
                assert "AsyncHeksherClient(" not in ast.unparse(statement)


def after_the_first_steps(service: LiveService) -> None:
    """Bring the service into the state that the README's first steps leave."""
    service.features = ["environment", "user"]
    service.declare("cache_ttl", "int", 60, ["environment", "user"])
    service.add_rule("cache_ttl", 5, user="jim")


def test_settings(service: LiveService) -> None:
    prints(at(service.url, program("settings.md")), "setting ", "dropped: ", "coerced: ")


def test_clients(service: LiveService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))  # where it has a snapshot
    after_the_first_steps(service)
    prints(at(service.url, program("clients.md")))


def test_cohorts(service: LiveService) -> None:
    service.features = ["environment", "cohort", "user"]
    prints(at(service.url, program("cohorts.md")))


def test_vectors_of_cohorts() -> None:
    page = (DOCS / "cohorts.md").read_text()
    _, _, table = page.partition("| salt | setting | user |")
    rows = [[cell.strip(" `") for cell in row.split("|")[1:-1]] for row in table.splitlines()[2:9]]
    assert len(rows) == 7
    for salt, setting, user, digest, point, value in rows:
        cohort = Cohort("user", salt=salt, per_setting=bool(setting))
        assert int(digest, 16) % 100 == int(point) == cohort.point_of(user, setting)
        assert cohort.value_of(user, setting) == value


def test_listeners(service: LiveService) -> None:
    after_the_first_steps(service)
    prints(at(service.url, program("listeners.md")))


def test_celery(service: LiveService) -> None:
    """The signal starts the client; a worker that sends it would take long."""
    pytest.importorskip("celery")
    service.features = ["environment", "user"]
    service.declare("import_size", "int", 100)
    service.add_rule("import_size", 5, user="jim")
    source = at(service.url, examples(DOCS / "servers.md")["celery"])
    source += 'print(import_products("jim"), client.status.state)\n'
    assert run_python(source) == ["100 new"]
    source = source.replace("print(", "worker_init.send(sender=None)\nprint(")
    assert run_python(source) == ["5 running"]


def test_coming_from(service: LiveService) -> None:
    service.features = ["environment", "audience", "user"]
    prints(at(service.url, program("coming-from.md")))


def test_overrides() -> None:
    prints(program("overrides.md"))


def test_files(service: LiveService) -> None:
    prints(
        at(service.url, program("files.md")),
        "/",  # names the file, and what it overrides
        "the overrides stay as they are: ",
    )


def test_explain() -> None:
    source = program("explain.md")
    # What the texts show is pasted below the blocks that print them.
    texts = iter(blocks(DOCS / "explain.md", "text"))
    promised: list[str] = []
    for line in source.splitlines():
        if line.startswith("print("):
            comment = line.partition("  # ")[2]
            promised += [comment] if comment else next(texts).splitlines()
    assert list(texts) == []
    features = ["environment", "user", "theme"]
    # A service of its own, whose rules have the first numbers.
    with LiveService(features, in_process=True, proxy=False) as service:
        assert run_python(at(service.url, source)) == promised


def test_testing() -> None:
    source = program("testing.md")
    assert ADDRESS not in source
    prints(source)


@pytest.mark.usefixtures("few_plugins")
@pytest.mark.parametrize("name", FIXTURES)
def test_fixtures_for_pytest(name: str, pytester: pytest.Pytester) -> None:
    pytester.makepyfile(shop=SHOP, test_example=FIXTURES[name])
    options = ["-p", "heksher.pytest_plugin", *PLUGINS.get(name, []), "-W", "error"]
    done = pytester.runpytest_subprocess(*options)
    done.assert_outcomes(passed=len(re.findall(r"^(?:async )?def test_", FIXTURES[name], re.M)))


@pytest.mark.usefixtures("few_plugins")
def test_a_default_that_the_configuration_forgets_is_noticed(pytester: pytest.Pytester) -> None:
    source = FIXTURES["configuration"]
    forgetful = source.replace(", user=current_user)", ")")
    assert forgetful != source
    pytester.makepyfile(test_example=forgetful)
    done = pytester.runpytest_subprocess("-p", "heksher.pytest_plugin", "-W", "error")
    done.assert_outcomes(failed=2)
    done.stdout.fnmatch_lines(["*MissingFeatureError: setting 'rebate' *'user'*"])


def test_faults_as_a_text() -> None:
    (command,) = blocks(DOCS / "testing.md", "sh")
    parsed = parse_faults(shlex.split(command)[-1])
    assert (len(parsed.faults), parsed.seed) == (2, 7)
    table = (DOCS / "testing.md").read_text().partition("| fault | in a text |")[2]
    rows = re.findall(r"^\| `(\w+)\(.*?\)` \| (.*?) \|", table, re.MULTILINE)
    assert [name for name, _ in rows] == [kind.__name__ for kind in KINDS]
    for name, texts in rows:
        for text in re.findall(r"`(.+?)`", texts):
            assert [type(fault).__name__ for fault, _ in parse_faults(text).faults] == [name]


def test_service() -> None:
    prints(program("service.md"))


def _options_of_serve(text: str) -> Iterator[list[str]]:
    """Yield the options of each ``heksher serve`` in the commands of a shell or of systemd."""
    for command in re.findall(r"heksher serve\b([^`\n]*)", text):
        yield shlex.split(command)


def test_commands_of_the_service_have_options_that_there_are() -> None:
    parser = argparse.ArgumentParser(exit_on_error=False)
    _options.add_options(parser)
    page = (DOCS / "service.md").read_text()
    found = [
        options
        for name in ("service.md", "operating.md")
        for kind in ("sh", "ini")
        for block in blocks(DOCS / name, kind)
        for options in _options_of_serve(block)
    ]
    assert len(found) == 6
    for options in found:
        parser.parse_args(options)
    variables = {option.variable for option in _options.OPTIONS}
    of_the_original = {"HEKSHER_DB_CONNECTION_STRING", "HEKSHER_STARTUP_CONTEXT_FEATURES"}
    named = set(re.findall(r"HEKSHER_[A-Z_]+", page)) - of_the_original - {"HEKSHER_LOGSTASH_"}
    assert named == variables


def test_the_table_of_options_of_the_service() -> None:
    rows = re.findall(
        r"^\| `(--\S+)` \| `(\w+)` \| (.*?) \|", (DOCS / "service.md").read_text(), re.MULTILINE
    )
    assert rows == [
        (option.flag, option.variable, _shown(option.default)) for option in _options.OPTIONS
    ]


def _shown(default: object) -> str:
    if default is False:
        return "off"
    return "none" if default in (None, ()) else f"`{default}`"


def test_the_differences_of_the_service_are_those_that_are_listed() -> None:
    listed = (DOCS.parent / "tests" / "service" / "differing_scenarios.txt").read_text()
    table = (DOCS / "service.md").read_text().partition("| number | the original |")[2]
    numbers = re.findall(r"^\| (\d+) \|", table, re.MULTILINE)
    assert numbers == re.findall(r"^fix (\w+):", listed, re.MULTILINE)


def test_no_page_is_forgotten() -> None:
    with_programs = {page.name for page in DOCS.glob("*.md") if blocks(page, "python")}
    assert with_programs == {
        "settings.md",
        "clients.md",
        "files.md",
        "cohorts.md",
        "coming-from.md",
        "concepts.md",
        "explain.md",
        "frameworks.md",
        "health.md",
        "listeners.md",
        "operating.md",
        "overrides.md",
        "servers.md",
        "service.md",
        "testing.md",
    }
