"""Errors of the application's code are contained, wherever the library calls it."""

from __future__ import annotations

import asyncio

import pytest

from heksher._client.application_code import ApplicationCodeError, call_application


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
