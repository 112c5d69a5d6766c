"""What `runner.py` asks of each library: a module for each, which imports nothing of the others.

A library is installed only in an environment of its own; so each module imports its library by name
when it is asked, and what it does with it is not type-checked. It has some of these functions:

- ``look_ups(shapes)``: the settings, as the library's documents say, and how they are asked.
- ``updates(answers)``: a context with a client that has the rules of *answers*.
- ``starts(url, names, clock)``: by kind of client, a function that defines the settings called *names*,
  starts a client of the service at *url*, waits until it is ready, and returns what that took by *clock*.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from typing import Any, NamedTuple

from machinery.shapes import Shape

#: The introduction's constant default.
ENVIRONMENT = "dev"
#: What the first of the settings that a start waits for is for this user.
USER, VALUE = "jim", 5


class LookUps(NamedTuple):
    """How settings are asked.

    Attributes:
        names: what the statements speak of.
        statement: Python for the call of a shape.
    """

    names: Mapping[str, Any]
    statement: Callable[[Shape], str]


class Updates(NamedTuple):
    """A client whose rules are up to date.

    Attributes:
        settings: the ones it serves.
        reload: fetches their rules, and returns once they are in force.
    """

    settings: Sequence[Any]
    reload: Callable[[], object]


def by_name(shapes: Iterable[Shape]) -> Mapping[str, Shape]:
    """Return one shape for each setting: several ask the same one in different ways."""
    return {shape.name: shape for shape in shapes}


def arguments_of(shape: Shape) -> dict[str, str]:
    """Return what the call gives."""
    arguments: dict[str, str] = eval(f"dict({shape.arguments})")  # noqa: S307 - our own code
    return arguments


def statement_of(shape: Shape) -> str:
    """Return the call, where the setting goes by its name."""
    return f"{shape.name}.get({shape.arguments})"


def rules_of(shape: Shape) -> Iterator[tuple[str, str, Any]]:
    """Yield feature, wanted and value of each rule in the one environment that the calls are about.

    Services whose clients have a key for each environment, with rules of its own, know no others there.
    """
    for conditions, value in shape.rules:
        wanted = dict(conditions)
        if wanted.pop("environment", ENVIRONMENT) == ENVIRONMENT:
            ((feature, text),) = wanted.items()
            yield feature, text, value


def current_of(shapes: Iterable[Shape]) -> dict[str, str]:
    """Return what the features' context variables say now."""
    return {
        name: value.get()
        for shape in shapes
        for name, value in shape.defaults.items()
        if isinstance(value, ContextVar)
    }


def kept(value: Any) -> ContextVar[Any]:
    """Return a context variable that holds *value*, as one holds what belongs to a request."""
    variable: ContextVar[Any] = ContextVar("variable")
    variable.set(value)
    return variable


def check(setting: Any) -> None:
    """See that *setting* has its rules."""
    value = setting.get(user=USER)
    if value != VALUE:
        raise AssertionError(f"after the start {setting.name} is {value!r}, not {VALUE!r}")
