"""ConfigCat, offline, with a configuration in its cache."""

from __future__ import annotations

import importlib
import json
import time
from collections.abc import Sequence
from typing import Any

from machinery.shapes import Shape

from peers.subjects import LookUps, arguments_of, by_name, current_of, kept, rules_of

#: The comparison "is one of" in a configuration. It is faster than "equals".
IS_ONE_OF = 0
#: A key of the right form; it is never sent.
KEY = f"{'x' * 22}/{'x' * 22}"


def look_ups(shapes: Sequence[Shape]) -> LookUps:
    """Use one client, and make the user object in each call.

    For a call without arguments, the user object is made before, as for a request, and kept in a context
    variable.
    """
    configcat: Any = importlib.import_module("configcatclient")
    cache: Any = importlib.import_module("configcatclient.interfaces").ConfigCache
    user: Any = importlib.import_module("configcatclient.user").User
    options: Any = importlib.import_module("configcatclient.configcatoptions").ConfigCatOptions
    polling: Any = importlib.import_module("configcatclient.pollingmode").PollingMode
    configuration = {
        "p": {"u": "https://cdn-global.configcat.com", "r": 0, "s": "salt"},
        "f": {name: setting_of(shape) for name, shape in by_name(shapes).items()},
    }
    entry = f"{1000 * time.time():.0f}\netag\n{json.dumps(configuration)}"

    class Cache(cache):  # type: ignore[misc]
        def get(self, _key: str) -> str:
            return entry

        def set(self, _key: str, _value: str) -> None:
            pass

    client = configcat.get(
        KEY, options(polling_mode=polling.manual_poll(), config_cache=Cache(), offline=True)
    )
    current = user("somebody", custom=current_of(shapes))
    names = {
        "client": client,
        "User": user,
        "current": kept(current),
    }

    def statement(shape: Shape) -> str:
        arguments = arguments_of(shape)
        given = f"User({arguments['user']!r})" if arguments else "current.get()"
        return f"client.get_value({shape.name!r}, {shape.default!r}, {given})"

    return LookUps(names, statement)


def setting_of(shape: Shape) -> dict[str, Any]:
    """Return the setting of *shape* in the format of version 6."""
    kind, letter = (2, "i") if isinstance(shape.default, int) else (1, "s")
    return {
        "t": kind,
        "v": {letter: shape.default},
        "r": [
            {
                "c": [{"u": condition(feature, wanted)}],
                "s": {"v": {letter: value}, "i": str(number)},
            }
            for number, (feature, wanted, value) in enumerate(rules_of(shape))
        ],
    }


def condition(feature: str, wanted: str) -> dict[str, Any]:
    """Return a condition on the user object; the user is its identifier."""
    attribute = "Identifier" if feature == "user" else feature
    return {"a": attribute, "c": IS_ONE_OF, "l": [wanted]}
