"""The pages in docs/: each is one program, run from top to bottom, which prints what it says."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from doc_examples import ADDRESS, DOCS, at, blocks, promised_output, run_python
from service_process import ServiceProcess


@pytest.fixture
def service() -> Iterator[ServiceProcess]:
    with ServiceProcess() as process:
        process.start(["environment", "user", "theme"])
        yield process


def program(page: str) -> str:
    return "\n".join(blocks(DOCS / page, "python"))


def prints(source: str, *logs: str) -> None:
    promised = promised_output(source)
    assert promised, "the page promises nothing"
    assert source.count("print(") == len(promised)
    assert run_python(source, *logs) == promised


def test_settings(service: ServiceProcess) -> None:
    prints(at(service.url, program("settings.md")), "setting ", "dropped: ", "coerced: ")


def test_clients(service: ServiceProcess) -> None:
    service.declare("cache_ttl", "int", 60, ["environment", "user"])
    service.add_rule("cache_ttl", {"environment": "dev", "user": "jim"}, 5)
    prints(at(service.url, program("clients.md")))


def test_testing() -> None:
    source = program("testing.md")
    assert ADDRESS not in source
    prints(source)


def test_no_page_is_forgotten() -> None:
    with_programs = {page.name for page in DOCS.glob("*.md") if blocks(page, "python")}
    assert with_programs == {"settings.md", "clients.md", "testing.md"}
