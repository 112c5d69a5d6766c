"""Errors of the application's code are contained, wherever the library calls it."""

from __future__ import annotations

import asyncio
import io
import logging
from collections.abc import Callable, Iterator

import pytest

from heksher._application_code import ApplicationCodeError, call_application, get_logger


class Rude(BaseException):
    """An error that is not an `Exception`, like those that end tasks and greenlets."""


@pytest.mark.parametrize(
    "kind", [ValueError, SystemExit, GeneratorExit, asyncio.CancelledError, Rude]
)
def test_whatever_it_raises_is_one_error_that_says_what_raised(kind: type[BaseException]) -> None:
    def function(text: str) -> None:
        raise kind(text)

    with pytest.raises(
        ApplicationCodeError, match=f"^validator f raised {kind.__name__}: no$"
    ) as caught:
        call_application("validator f", function, "no")
    assert isinstance(caught.value.__cause__, kind)


def test_ctrl_c_passes() -> None:
    def function() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        call_application("validator f", function)


def test_what_it_returns_is_returned() -> None:
    assert call_application("validator f", int.__add__, 1, 2) == 3


# --- log handlers and filters ---------------------------------------------------------------------


class Raising(logging.Handler):
    """A handler with an error, such as one that wants the id of a request that does not exist."""

    def __init__(self, kind: type[BaseException]) -> None:
        super().__init__()
        self._kind = kind

    def handle(self, record: logging.LogRecord) -> bool:
        raise self._kind("no request")


@pytest.fixture
def handler_of() -> Iterator[Callable[[type[BaseException]], None]]:
    handlers: list[Raising] = []

    def add(kind: type[BaseException]) -> None:
        handlers.append(Raising(kind))
        logging.getLogger("heksher").addHandler(handlers[-1])

    yield add
    for handler in handlers:
        logging.getLogger("heksher").removeHandler(handler)


@pytest.mark.parametrize("kind", [ValueError, SystemExit, asyncio.CancelledError, Rude])
def test_what_a_log_handler_raises_is_shown_and_contained(
    kind: type[BaseException],
    handler_of: Callable[[type[BaseException]], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    handler_of(kind)
    get_logger("heksher.test").error("updates from %s fail", "http://service.test")
    shown = capsys.readouterr().err
    assert f"{kind.__name__}: no request" in shown
    assert "updates from %s fail" in shown
    assert "http://service.test" in shown


def test_a_log_handler_may_raise_without_a_standard_error(
    handler_of: Callable[[type[BaseException]], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    handler_of(ValueError)
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr("sys.stderr", closed)
    get_logger("heksher.test").error("updates fail")


def test_ctrl_c_in_a_log_handler_passes(
    handler_of: Callable[[type[BaseException]], None],
) -> None:
    handler_of(KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        get_logger("heksher.test").error("updates fail")


def test_a_record_names_the_line_that_logs_and_has_its_fields(
    caplog: pytest.LogCaptureFixture,
) -> None:
    try:
        raise ValueError("no")
    except ValueError:
        get_logger("heksher.test").exception("failed: %s", "x", extra={"setting": "ttl"})
    (record,) = caplog.records
    assert (record.filename, record.funcName) == (
        "test_application_code.py",
        "test_a_record_names_the_line_that_logs_and_has_its_fields",
    )
    assert (record.getMessage(), record.name) == ("failed: x", "heksher.test")
    assert vars(record)["setting"] == "ttl"
    assert record.exc_info is not None and record.exc_info[0] is ValueError
