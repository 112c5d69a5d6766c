"""The one way to call code of the application's: hooks, validators, ``on_coerce``, log handlers, clocks.

Whatever that code raises is contained. It costs one rule, one notification or one line of the log, and
never the update loop. Only `KeyboardInterrupt` passes: it is meant for the program, not for the code that
happened to run. `SystemExit` does not pass: in a thread it would end the loop without a line in the log.
The `CancelledError` of a cancelled future would do the same in an event loop.
"""

from __future__ import annotations

import inspect
import logging
import sys
from collections.abc import Callable, MutableMapping
from contextlib import suppress
from contextvars import ContextVar
from typing import Any, TypeVar

from heksher._text import named

T = TypeVar("T")


#: The names of the application's functions that are running in this context, the innermost last. None:
#: they are not recorded. A start that times out names the function that has not returned.
calls_under_way: ContextVar[list[str] | None] = ContextVar("calls_under_way", default=None)


class ApplicationCodeError(Exception):
    """The application's code raised an error, which is the cause of this one."""


def call_application(
    what: str, function: Callable[..., T], /, *arguments: Any, **keyword_arguments: Any
) -> T:
    """Call *function* and contain what it raises.

    Args:
        what: its name in the error message.
        function: the application's function.
        *arguments: its arguments.
        **keyword_arguments: its keyword arguments.

    Raises:
        ApplicationCodeError: *function* raised anything but `KeyboardInterrupt`.
    """
    under_way = calls_under_way.get()
    if under_way is not None:
        under_way.append(what)
    try:
        return function(*arguments, **keyword_arguments)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise ApplicationCodeError(f"{what} raised {named(error)}") from error
    finally:
        if under_way is not None:
            under_way.pop()


def call_plain_function(function: Callable[..., object], /, *arguments: object) -> None:
    """Call a function that must not be a coroutine function.

    Raises:
        TypeError: it is one: its coroutine is closed, and nothing of it has run.
    """
    result = function(*arguments)
    if inspect.iscoroutine(result):
        result.close()
        raise TypeError("it is a coroutine function: expected an ordinary function")


def ends_caller(error: BaseException) -> bool:
    """Whether *error* ends the program, or the task or greenlet that is running, and has to pass."""
    # A library that can end something has been imported.
    asyncio: Any = sys.modules.get("asyncio")
    if asyncio is not None and isinstance(error, asyncio.CancelledError):
        try:
            task = asyncio.current_task()
        except RuntimeError:  # no event loop runs here
            return False
        # Else it comes from something else that was cancelled, such as a future of the application's.
        return task is not None and task.cancelling() > 0
    cancelled = getattr(sys.modules.get("trio"), "Cancelled", ())
    killed = getattr(sys.modules.get("greenlet"), "GreenletExit", ())
    return isinstance(error, (KeyboardInterrupt, GeneratorExit, cancelled, killed))


class _Logger(logging.LoggerAdapter[logging.Logger]):
    """A logger whose filters and handlers are the application's, and may raise."""

    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        try:
            call_application("logging", super().log, level, msg, *args, **kwargs)
        except ApplicationCodeError:
            # Shown as the standard library shows the errors of handlers, as far as that is possible.
            with suppress(Exception):
                record = logging.makeLogRecord({"msg": msg, "args": args, "levelno": level})
                logging.NullHandler().handleError(record)

    def process(
        self, msg: Any, kwargs: MutableMapping[str, Any]
    ) -> tuple[Any, MutableMapping[str, Any]]:
        # The record names the line that logs, past `log` and `call_application`.
        return msg, {"stacklevel": 3, **kwargs}


def get_logger(name: str) -> _Logger:
    """Return the logger with this name. Its methods raise nothing, whatever is attached to it."""
    return _Logger(logging.getLogger(name), None)
