"""The README's examples run unchanged, except for the service's address."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from doc_examples import PATIENCE, README, ROOT, at, blocks, examples, run_python, serving

from heksher.testing.service import LiveService

EXAMPLES = examples(README)


@pytest.fixture
def service(heksher_service: LiveService) -> LiveService:
    heksher_service.features = ["environment", "user", "theme"]
    return heksher_service


def test_each_example_has_a_name_and_a_test() -> None:
    assert list(EXAMPLES) == ["asyncio", "trio", "fastapi", "flask", "pytest"]
    assert list(EXAMPLES.values()) == blocks(README, "python")


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
def test_the_example_of_asyncio(service: LiveService, loop: str) -> None:
    source = at(service.url, EXAMPLES["asyncio"])
    assert source.endswith("asyncio.run(main())\n")
    if loop == "trio":  # "another last line, and an import"
        source = "import trio\n" + source.replace("asyncio.run(main())", "trio.run(main)")
    assert run_python(source) == ["60", "white"]
    service.add_rule("cache_ttl", 5, user="jim")
    service.add_rule("background_color", "ivory", environment="dev", theme="bright")
    assert run_python(source) == ["5", "ivory"]


def test_the_example_of_trio(service: LiveService) -> None:
    source = at(service.url, EXAMPLES["trio"])
    assert run_python(source) == ["20"]
    service.add_rule("page_size", 50, user="jim")
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


def test_the_example_of_pytest(tmp_path: Path) -> None:
    (tmp_path / "test_example.py").write_text(EXAMPLES["pytest"])
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-W", "error", "-p", "no:cacheprovider", "-q"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^1 passed in", done.stdout, re.MULTILINE), done.stdout


def test_the_examples_get_along_with_one_another(service: LiveService, tmp_path: Path) -> None:
    """A reader runs all examples with one service, so no two may declare one setting differently."""
    for name in ("asyncio", "trio"):
        run_python(at(service.url, EXAMPLES[name]))
    with serving(
        at(service.url, EXAMPLES["fastapi"]), tmp_path, "uvicorn", "example:app", "--port", "0"
    ):
        pass
    with serving(
        at(service.url, EXAMPLES["flask"]),
        tmp_path,
        "flask",
        "--app",
        "example",
        "run",
        "--port",
        "0",
    ) as server:
        assert "differ" not in server.log
    declared = [
        name for source in EXAMPLES.values() for name in re.findall(r'Setting\("(\w+)"', source)
    ]
    assert len(declared) == len(set(declared))


def test_the_rule_that_is_added_by_curl(service: LiveService) -> None:
    service.declare("cache_ttl", features=["environment", "user"])
    (command,) = [block for block in blocks(README, "sh") if block.startswith("curl ")]
    body = re.search(r"-d '(.*)'$", command, re.MULTILINE)
    assert body is not None
    assert "'content-type: application/json' http://127.0.0.1:8000/api/v1/rules" in command
    response = service.request("POST", "/rules", json=json.loads(body[1]))
    assert response.status_code == 201


def headings(page: Path) -> set[str]:
    """Return the headings of a page in the form that links use."""
    return {
        re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        for heading in re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    }


def test_links_lead_somewhere() -> None:
    for page in (README, ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))):
        for target in re.findall(r"\]\(([^)]+)\)", page.read_text()):
            if target.startswith("https://"):
                continue
            name, _, heading = target.partition("#")
            other = page.parent / name if name else page
            assert other.is_file(), f"{page.name}: {target}"
            assert not heading or heading in headings(other), f"{page.name}: {target}"
