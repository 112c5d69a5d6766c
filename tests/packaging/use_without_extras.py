"""Use heksher as it is installed without extras.

`check_archives.py` runs it in an environment that has only heksher and its dependencies.
"""

import asyncio
import importlib.metadata
import importlib.util
import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx

import heksher
from heksher.exceptions import HeksherError

OPTIONAL = (
    *("trio", "starlette", "uvicorn", "sqlalchemy", "alembic", "fastapi_offline", "psycopg"),
    *("gevent", "rich", "trustme"),
)

# Nothing listens on port 1 of the loopback interface, so connections are refused immediately.
NOWHERE = "http://127.0.0.1:1"


class Collector(logging.Handler):
    """A handler that keeps all records."""

    def __init__(self, level: int) -> None:
        super().__init__(level)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


def nothing_optional_is_installed() -> None:
    present = [name for name in OPTIONAL if importlib.util.find_spec(name) is not None]
    assert not present, f"{present} was installed without an extra"


def a_setting_answers_without_a_client() -> None:
    assert heksher.Setting("cache_ttl", int, ["user"], 60).get(user="jim") == 60


def the_thread_client_goes_on_without_a_service() -> None:
    setting = heksher.Setting("thread_ttl", int, ["user"], 60)
    handler = Collector(logging.ERROR)
    logger = logging.getLogger("heksher")
    logger.addHandler(handler)
    try:
        with heksher.ThreadHeksherClient(NOWHERE, 30, ["user"]):
            assert setting.get(user="jim") == 60
    finally:
        logger.removeHandler(handler)
    assert handler.records, "expected an error in the log for the failed start"


def the_asyncio_client_raises_without_a_service() -> None:
    async def start() -> None:
        async with heksher.AsyncHeksherClient(NOWHERE, 30, ["user"], startup="raise"):
            pass

    error = error_of(lambda: asyncio.run(start()))
    assert isinstance(error, httpx.HTTPError), f"expected an httpx.HTTPError, not {error!r}"


def trio_asks_for_its_extra() -> None:
    error = error_of(lambda: heksher.AsyncHeksherClient(NOWHERE, 30, ["user"], backend="trio"))
    assert "heksher[trio]" in str(error), f"expected the extra in the message: {error}"


def gevent_asks_for_its_extra() -> None:
    error = error_of(lambda: heksher.ThreadHeksherClient(NOWHERE, 30, ["user"], backend="gevent"))
    assert "heksher[gevent]" in str(error), f"expected the extra in the message: {error}"


def the_command_tells_its_version() -> None:
    done = command("--version")
    assert done.returncode == 0, done
    assert heksher.__version__ in done.stdout, done
    assert importlib.metadata.version("heksher") == heksher.__version__


def the_service_asks_for_its_extra() -> None:
    done = command("serve")
    assert done.returncode != 0, done
    assert "heksher[service]" in done.stderr, done
    assert "Traceback" not in done.stderr, done


def error_of(call: Callable[[], object]) -> HeksherError:
    """Return the error of the library that *call* raises; other errors pass through."""
    try:
        call()
    except HeksherError as error:
        return error
    raise AssertionError("expected an error")


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the installed `heksher`."""
    return subprocess.run(
        [Path(sys.executable).parent / "heksher", *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


CHECKS: list[Callable[[], None]] = [
    nothing_optional_is_installed,
    a_setting_answers_without_a_client,
    the_thread_client_goes_on_without_a_service,
    the_asyncio_client_raises_without_a_service,
    trio_asks_for_its_extra,
    gevent_asks_for_its_extra,
    the_command_tells_its_version,
    the_service_asks_for_its_extra,
]

if __name__ == "__main__":
    for check in CHECKS:
        check()
        print("ok:", check.__name__.replace("_", " "), flush=True)
