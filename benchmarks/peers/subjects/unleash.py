"""Unleash, started from a bootstrap, offline."""

from __future__ import annotations

import atexit
import importlib
import shutil
import tempfile
from collections.abc import Sequence
from typing import Any

from machinery.shapes import Shape

from peers.subjects import LookUps, arguments_of, by_name, current_of, kept, rules_of


def look_ups(shapes: Sequence[Shape]) -> LookUps:
    """Use one client, and make the context in each call.

    Each rule is a strategy with one variant, whose payload is the value as text. For a call without
    arguments, the context is made before, as for a request, and kept in a context variable.
    """
    unleash: Any = importlib.import_module("UnleashClient").UnleashClient
    file_cache: Any = importlib.import_module("UnleashClient.cache").FileCache
    folder = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, folder)
    cache = file_cache("peers", directory=folder)
    features = [feature_of(shape) for shape in by_name(shapes).values()]
    cache.bootstrap_from_dict({"version": 2, "features": features})
    client = unleash(
        "http://localhost",
        "peers",
        cache=cache,
        disable_metrics=True,
        disable_registration=True,
    )
    client.initialize_client(fetch_toggles=False)
    names = {"client": client, "current": kept(current_of(shapes))}

    def statement(shape: Shape) -> str:
        arguments = arguments_of(shape)
        context = f"{{'userId': {arguments['user']!r}}}" if arguments else "current.get()"
        value = f"client.get_variant({shape.name!r}, {context})['payload']['value']"
        return f"int({value})" if isinstance(shape.default, int) else value

    return LookUps(names, statement)


def feature_of(shape: Shape) -> dict[str, Any]:
    """Return the feature for the setting of *shape*."""
    rules = [strategy([constraint], value) for *constraint, value in rules_of(shape)]
    return {
        "name": shape.name,
        "type": "release",
        "enabled": True,
        "strategies": [*rules, strategy([], shape.default)],
    }


def strategy(constraints: list[list[str]], value: Any) -> dict[str, Any]:
    """Return a strategy that gives *value* to contexts that meet *constraints*."""
    kind = "number" if isinstance(value, int) else "string"
    return {
        "name": "flexibleRollout",
        "parameters": {"rollout": "100", "stickiness": "default", "groupId": "peers"},
        "constraints": [
            {
                "contextName": "userId" if feature == "user" else feature,
                "operator": "IN",
                "values": [wanted],
            }
            for feature, wanted in constraints
        ],
        "variants": [
            {
                "name": str(value),
                "weight": 1000,
                "stickiness": "default",
                "payload": {"type": kind, "value": str(value)},
            }
        ],
    }
