"""Each health page of docs/health.md runs unchanged, with the service and without."""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from doc_examples import DOCS, at, blocks, examples, run_python

from heksher.testing.service import LiveService

EXAMPLES = examples(DOCS / "health.md")

ASGI = """
from starlette.testclient import TestClient
for _ in range(2):
    with TestClient(app) as browser:
        answer = browser.get("/ready")
        print(answer.status_code, answer.json()["source"])
"""

#: The code before each example, and the code that requests its page with the framework's test client, in
#: two runs of the application: each test of a suite makes such a client.
AROUND = {
    "flask": (
        "",
        """
for _ in range(2):
    answer = app.test_client().get("/ready")
    print(answer.status_code, answer.json["source"])
""",
    ),
    "django": (
        """
import django
from django.conf import settings
settings.configure(
    ROOT_URLCONF="__main__", ALLOWED_HOSTS=["*"], INSTALLED_APPS=["shop.apps.ShopConfig"]
)
django.setup()
""",
        """
from django.test import Client
for _ in range(2):
    answer = Client().get("/ready")
    print(answer.status_code, answer.json()["source"])
""",
    ),
    "fastapi": ("", ASGI),
    "starlette": ("", ASGI),
    "litestar": ("", ASGI.replace("starlette.testclient", "litestar.testing")),
    "quart-trio": (
        "",
        """
import trio
async def ask() -> None:
    async with app.test_app() as running:
        answer = await running.test_client().get("/ready")
        print(answer.status_code, (await answer.json)["source"])
trio.run(ask)
trio.run(ask)
""",
    ),
}


def test_each_example_has_a_name_and_a_test() -> None:
    assert list(EXAMPLES) == list(AROUND)
    assert list(EXAMPLES.values()) == blocks(DOCS / "health.md", "python")


def nobody() -> str:
    """Return an address on which nothing listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{listener.getsockname()[1]}"


def whole_program(name: str, url: str, folder: Path) -> str:
    """Return the program of an example, with the service at *url*, and write what it imports."""
    before, after = AROUND[name]
    source = before + EXAMPLES[name] + after
    if name != "django":
        return at(url, source)
    # The client is in another module of the project, which another page shows.
    package = folder / "shop"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "apps.py").write_text(at(url, examples(DOCS / "servers.md")["django"]))
    return f"import sys\nsys.path.insert(0, {str(folder)!r})\n{source}"


@pytest.mark.parametrize("name", AROUND)
def test_a_page_says_whether_there_are_rules(name: str, tmp_path: Path) -> None:
    features = ["environment", "user"]
    # Litestar configures its own logger at INFO.
    logs = ("updates from ", "Service Unavailable: ", "INFO - ", "ERROR - ")
    with (
        LiveService(features, in_process=True, proxy=False) as service,
        ThreadPoolExecutor() as side_by_side,
    ):
        there, away = (
            side_by_side.submit(run_python, whole_program(name, url, tmp_path / folder), *logs)
            for folder, url in (("there", service.url), ("away", nobody()))
        )
        assert (there.result(), away.result()) == (["200 service"] * 2, ["503 defaults"] * 2)
