"""GrowthBook, given its features by the application."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

from machinery.shapes import Shape

from peers.subjects import LookUps, arguments_of, by_name, current_of, kept, rules_of


def look_ups(shapes: Sequence[Shape]) -> LookUps:
    """Use one instance, and set its attributes in each call.

    For a call without arguments, the instance is made before, as for a request, and kept in a context
    variable.
    """
    growthbook: Any = importlib.import_module("growthbook").GrowthBook
    features = {
        name: {
            "defaultValue": shape.default,
            "rules": [
                {"condition": {feature: wanted}, "force": value}
                for feature, wanted, value in rules_of(shape)
            ],
        }
        for name, shape in by_name(shapes).items()
    }
    current = growthbook(attributes=current_of(shapes), features=features)
    names = {
        "gb": growthbook(features=features),
        "current": kept(current),
    }

    def statement(shape: Shape) -> str:
        arguments = arguments_of(shape)
        asked = f"get_feature_value({shape.name!r}, {shape.default!r})"
        if arguments:
            return f"(gb.set_attributes({arguments!r}), gb.{asked})[1]"
        return f"current.get().{asked}"

    return LookUps(names, statement)
