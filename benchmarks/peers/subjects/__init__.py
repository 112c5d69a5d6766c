"""How `runner.py` uses each library: one module for each. No module imports another one.

A library is installed only in its own environment. So each module imports its library by name inside a
function, and type checkers do not check how it is used. A module has some of these functions:

- ``look_ups(shapes)`` makes the settings as the library's documentation recommends, and returns them
  with the statements that call them.
- ``updates(answers)`` is a context manager with a client that has the rules of *answers*.
- ``starts(url, names, clock)`` returns a function for each kind of client. The function defines the
  settings called *names*, starts a client of the service at *url*, waits until it is ready, and returns
  how long that took by *clock*.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from typing import Any, NamedTuple

from machinery.shapes import Shape

#: The constant default of the introduction.
ENVIRONMENT = "dev"
#: After a start, the first setting has this value for this user.
USER, VALUE = "jim", 5


class LookUps(NamedTuple):
    """How settings are looked up.

    Attributes:
        names: the globals of the statements.
        statement: returns the Python statement that makes the call of a shape.
    """

    names: Mapping[str, Any]
    statement: Callable[[Shape], str]


class Updates(NamedTuple):
    """A client whose rules are up to date.

    Attributes:
        settings: the settings of the client.
        reload: fetches their rules, and returns once they are published.
    """

    settings: Sequence[Any]
    reload: Callable[[], object]


def by_name(shapes: Iterable[Shape]) -> Mapping[str, Shape]:
    """Return one shape for each setting; several shapes may call the same setting."""
    return {shape.name: shape for shape in shapes}


def arguments_of(shape: Shape) -> dict[str, str]:
    """Return the arguments of the call."""
    arguments: dict[str, str] = eval(f"dict({shape.arguments})")  # noqa: S307 - our own code
    return arguments


def statement_of(shape: Shape) -> str:
    """Return the call of a variable that has the setting's name."""
    return f"{shape.name}.get({shape.arguments})"


def rules_of(shape: Shape) -> Iterator[tuple[str, str, Any]]:
    """Yield the feature, the condition's value and the rule's value of each rule for `ENVIRONMENT`.

    With services that have a key and separate rules for each environment, a client has no other rules.
    """
    for conditions, value in shape.rules:
        wanted = dict(conditions)
        if wanted.pop("environment", ENVIRONMENT) == ENVIRONMENT:
            ((feature, text),) = wanted.items()
            yield feature, text, value


def current_of(shapes: Iterable[Shape]) -> dict[str, str]:
    """Return the current values of the context variables of the features."""
    return {
        name: value.get()
        for shape in shapes
        for name, value in shape.defaults.items()
        if isinstance(value, ContextVar)
    }


def kept(value: Any) -> ContextVar[Any]:
    """Return a context variable with *value*, as an application keeps data of a request."""
    variable: ContextVar[Any] = ContextVar("variable")
    variable.set(value)
    return variable


def check(setting: Any) -> None:
    """Check that *setting* has its rules."""
    value = setting.get(user=USER)
    if value != VALUE:
        raise AssertionError(f"after the start {setting.name} is {value!r}, not {VALUE!r}")
