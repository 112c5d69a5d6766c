"""The examples of docs/frameworks.md run unchanged, except for the service's address."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from doc_examples import DOCS, at, blocks, examples, promised_output, run_python, serving

from heksher.testing.service import LiveService

PAGE = DOCS / "frameworks.md"
EXAMPLES = examples(PAGE)


@pytest.fixture
def service(heksher_service: LiveService) -> LiveService:
    heksher_service.features = ["environment", "user"]
    return heksher_service


def test_each_example_has_a_name_and_a_test() -> None:
    assert list(EXAMPLES) == ["asyncio", "trio", "fastapi", "flask"]
    assert list(EXAMPLES.values()) == blocks(PAGE, "python")


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
def test_the_example_of_asyncio(service: LiveService, loop: str) -> None:
    source = at(service.url, EXAMPLES["asyncio"])
    assert source.endswith("asyncio.run(main())\n")
    if loop == "trio":  # "another last line, and an import"
        source = "import trio\n" + source.replace("asyncio.run(main())", "trio.run(main)")
    assert run_python(source) == promised_output(source) == ["20"]
    service.add_rule("page_size", 50, environment="dev", user="jim")
    assert run_python(source) == ["50"]


def test_the_example_of_trio(service: LiveService) -> None:
    source = at(service.url, EXAMPLES["trio"])
    assert run_python(source) == promised_output(source) == ["100"]
    service.add_rule("batch_size", 50, user="jim")
    assert run_python(source) == ["50"]


def test_the_example_of_fastapi(service: LiveService, tmp_path: Path) -> None:
    source = at(service.url, EXAMPLES["fastapi"])
    with serving(source, tmp_path, "uvicorn", "example:app", "--port", "0") as server:
        assert server.ask("/jim") == '"Hello, jim"'
        rule = service.add_rule("greeting", "Hey", user="jim")
        server.ask_until("/jim", lambda answer: answer == '"Hey, jim"')
        assert server.ask("/eve") == '"Hello, eve"'
        service.delete_rule(rule)
        server.ask_until("/jim", lambda answer: answer == '"Hello, jim"')
    assert "Application shutdown complete." in server.log


def test_the_example_of_flask(service: LiveService, tmp_path: Path) -> None:
    source = at(service.url, EXAMPLES["flask"])
    command = ("flask", "--app", "example", "run", "--port", "0")
    with serving(source, tmp_path, *command) as server:
        assert server.ask("/jim") == "Welcome, jim"
        service.add_rule("banner", "Hey", user="jim")
        server.ask_until("/jim", lambda answer: answer == "Hey, jim")
        assert server.ask("/eve") == "Welcome, eve"


def test_the_example_of_flask_starts_without_the_service(
    service: LiveService, tmp_path: Path
) -> None:
    source = at(service.url, EXAMPLES["flask"])
    service.kill()
    command = ("flask", "--app", "example", "run", "--port", "0")
    with serving(source, tmp_path, *command) as server:
        assert server.ask("/jim") == "Welcome, jim"
        service.start()
        server.ask_until("/jim", lambda _: "banner" in str(service.get("/settings")))
        service.add_rule("banner", "Hey", user="jim")
        server.ask_until("/jim", lambda answer: answer == "Hey, jim")


def test_the_examples_declare_different_settings() -> None:
    """A reader runs all examples of both pages with one service."""
    sources = [*EXAMPLES.values(), *examples(DOCS / "servers.md").values()]
    declared = [name for source in sources for name in re.findall(r'Setting\("(\w+)"', source)]
    assert len(declared) == len(set(declared)) == len(sources)
