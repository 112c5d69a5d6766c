"""Servers and frameworks in common use: each as the real program with two workers.

The steps of the test are the same for all of `ROWS`.
"""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from serving import Served

from heksher.testing.service import LiveService

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="these servers need fork")

# Seconds: two intervals of `shop.py`, and time for a slow machine to answer. No test waits that long.
NEWS_WITHIN = 2 * 0.1 + 20

WORKERS = 2

_GUNICORN = f"-m gunicorn --workers {WORKERS} --bind fd://{{fd}}"
_GTHREAD = f"{_GUNICORN} --threads 2"
_GEVENT = f"{_GUNICORN} --worker-class gevent"
_UWSGI = f"-m uwsgi_main --master --processes {WORKERS} --http-socket fd://{{fd}} --die-on-term"
_UVICORN = f"-m uvicorn --workers {WORKERS} --fd {{fd}}"
# It ends when a worker is killed: see the last test.
_HYPERCORN = f"-m hypercorn --workers {WORKERS} --bind fd://{{fd}}"
_HYPERCORN_TRIO = f"{_HYPERCORN} --worker-class trio"


@dataclass(frozen=True)
class Row:
    """An application on a server.

    Attributes:
        command: the arguments of ``python`` that run the server.
        app: the application, in the server's notation.
        stop: the signal for a graceful end.
        kill: whether a worker is killed before that, so that the server has to replace it.
    """

    command: str
    app: str
    stop: signal.Signals = signal.SIGTERM
    kill: bool = True


ROWS = {
    "gunicorn sync, Flask": Row(_GUNICORN, "flask_app:app"),
    "gunicorn sync --preload, Django": Row(f"{_GUNICORN} --preload", "django_app:wsgi"),
    "gunicorn gthread, Django": Row(_GTHREAD, "django_app:wsgi", signal.SIGINT),
    "gunicorn gthread --preload, Flask": Row(f"{_GTHREAD} --preload", "flask_app:app"),
    "gunicorn gevent, Flask": Row(_GEVENT, "flask_app:app"),
    "gunicorn gevent --preload, Django": Row(f"{_GEVENT} --preload", "django_app:wsgi"),
    "uWSGI lazy-apps, Django": Row(f"{_UWSGI} --lazy-apps --module", "django_app:wsgi"),
    "uWSGI, Flask": Row(f"{_UWSGI} --module", "flask_app:app"),
    "uWSGI py-call-uwsgi-fork-hooks, Flask": Row(
        f"{_UWSGI} --py-call-uwsgi-fork-hooks --module", "flask_app:app"
    ),
    "uvicorn, FastAPI": Row(_UVICORN, "fastapi_app:app"),
    "uvicorn, Litestar": Row(_UVICORN, "litestar_app:app", signal.SIGINT),
    "uvicorn, Django": Row(_UVICORN, "django_app:asgi"),
    "hypercorn asyncio, Starlette": Row(_HYPERCORN, "starlette_app:app", kill=False),
    "hypercorn trio, Starlette": Row(_HYPERCORN_TRIO, "starlette_app:app", kill=False),
    "hypercorn trio, Quart-trio": Row(_HYPERCORN_TRIO, "quart_app:app", signal.SIGINT, kill=False),
}


@pytest.fixture(scope="module")
def running_service() -> Iterator[LiveService]:
    with LiveService(["user"], proxy=False) as service:
        yield service


@pytest.fixture
def service(running_service: LiveService) -> LiveService:
    running_service.empty(["user"])
    return running_service


@pytest.mark.parametrize("name", ROWS)
def test_workers_have_right_values_and_leave_nothing(
    name: str, service: LiveService, tmp_path: Path
) -> None:
    row = ROWS[name]
    service.declare("limit", "int", 60)
    rule = service.add_rule("limit", 1, user="jim")
    with Served([*row.command.split(), row.app], service.url, tmp_path) as server:
        workers = server.ask_until(lambda newest: len(newest) == WORKERS, {1})

        service.change_rule(rule, 2)
        server.ask_until(lambda newest: newest == dict.fromkeys(workers, 2), {1, 2}, NEWS_WITHIN)

        if row.kill:
            killed, other = workers
            os.kill(killed, signal.SIGKILL)
            server.ask_until(
                lambda newest: (
                    len(newest) == WORKERS and other in newest and set(newest.values()) == {2}
                ),
                {1, 2},
            )

        os.kill(server.process.pid, row.stop)
        assert server.wait_until_gone() == 0
    assert "Traceback" not in server.log
    assert "heksher/" not in server.log, "a warning about the library"


def test_a_server_that_ends_with_a_killed_worker_leaves_nothing(
    service: LiveService, tmp_path: Path
) -> None:
    service.declare("limit", "int", 60)
    service.add_rule("limit", 1, user="jim")
    with Served([*_HYPERCORN.split(), "starlette_app:app"], service.url, tmp_path) as server:
        workers = server.ask_until(lambda newest: len(newest) == WORKERS, {1})
        os.kill(min(workers), signal.SIGKILL)
        server.wait_until_gone()
    assert "Traceback" not in server.log


def test_the_table_in_the_documentation_has_all_rows_and_no_other() -> None:
    page = Path(__file__).parents[2] / "docs" / "servers.md"
    table = page.read_text("utf-8").partition("| server | tried with | what to know |")[2]
    lines = re.findall(r"^\| ([\w ,-]+) \| ([\w ,-]+) \|", table, re.MULTILINE)
    documented = [
        f"{server}, {framework}" for server, all_ in lines for framework in all_.split(", ")
    ]
    assert sorted(documented) == sorted(ROWS)
