"""What does one ``get()`` cost, compared with a function written by hand?

Each shape is a setting with rules. It is called as applications call it, ``setting.get(user='jim')``, in
turn with the shape's floor, which is called by a plain name, ``floor(user='jim')``. The last column of
the table divides by the same function called as an attribute of an object, ``held.get(user='jim')``.
That ratio leaves out the cost of the attribute access, and shows only what the generated code does in
addition.

Keywords such as ``class`` cannot be parameters of a generated function. A setting with such a feature is
measured without a target.

Conclusion: with a ratio near 1, an application gains nothing by storing a value instead of calling
``get()``. Absolute times are below a tenth of a microsecond on most machines, and cannot be compared
between machines.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from machinery.interleaved import nanoseconds
from machinery.ours import checked, publish, table_of
from machinery.ratio_table import Ratios
from machinery.shapes import BY_NUMBER_OF_FEATURES, INTRODUCTION, NO_VALUE, Shape

from heksher import Setting


@dataclass(slots=True)
class Held:
    """An object with a function in a slot, as a setting has its ``get``."""

    get: Callable[..., Any]


@pytest.mark.parametrize(
    "shape", [*INTRODUCTION, *BY_NUMBER_OF_FEATURES, *NO_VALUE], ids=lambda shape: shape.title
)
def measure_a_call(shape: Shape, ratios: Ratios) -> None:
    names = {**checked(shape), "held": Held(shape.floor)}
    times = nanoseconds(
        {name: f"{name}({shape.arguments})" for name in ("ours.get", "floor", "held.get")},
        names,
        rounds=ratios.rounds,
    )
    ratios.add(
        shape.title,
        times["ours.get"],
        times["floor"],
        at_most=shape.at_most,
        by_attribute=times["held.get"],
    )


def measure_names_that_are_no_identifiers(ratios: Ratios) -> None:
    table = {f"user{number}": number for number in range(10)}
    features = ("class",)

    def floor(**context: str) -> int:
        return table.get(context["class"], 0)

    rules = tuple(({"class": each}, number) for each, number in table.items())
    shape = Shape("one feature named class", "generic", features, 0, rules, "", 0, floor, None)
    setting = Setting("generic", int, features, 0)
    publish(setting, table_of(shape, features), shape)
    names = {"ours": setting, "floor": floor, "context": {"class": "user3"}}
    times = nanoseconds(
        {"ours": "ours.get(**context)", "floor": "floor(**context)"}, names, rounds=ratios.rounds
    )
    assert setting.get(**{"class": "user3"}) == 3
    ratios.add(shape.title, times["ours"], times["floor"])


def measure_values_that_the_application_makes(ratios: Ratios) -> None:
    (shape,) = (each for each in BY_NUMBER_OF_FEATURES if each.features == ("user",))
    setting = Setting(shape.name, int, shape.features, shape.default)
    setting.add_validator(_unchanged)
    publish(setting, table_of(shape), shape)
    assert setting.get(user="user3") == 3
    names = {"ours": setting, "floor": shape.floor}
    statements = {"ours": f"ours.get({shape.arguments})", "floor": f"floor({shape.arguments})"}
    times = nanoseconds(statements, names, rounds=ratios.rounds)
    ratios.add(f"{shape.title}, with a validator", times["ours"], times["floor"])


def _unchanged(value: int, _rule: object, _of: object) -> int:
    return value
