"""Asks one library for the introduction's settings, and a function by hand beside it; prints JSON.

Run by `peers.py`, in an environment in which that library is installed: ``peer_runner.py NAME``. Both
sides run in this process, in turn, so that their ratio can be held against that of another library,
which was measured in another process.
"""

from __future__ import annotations

import importlib
import json
import platform
import sys
from collections.abc import Callable
from typing import Any

from interleaved import nanoseconds
from shapes import FEATURES, INTRODUCTION, Shape

#: What a statement speaks of, by name, and the statement.
Call = tuple[dict[str, Any], str]


def ours(shape: Shape) -> Call:
    """The library that these benchmarks belong to, with rules published as after an update."""
    setting_of: Callable[[Shape], Any] = importlib.import_module("ours").setting_of
    return {"setting": setting_of(shape)}, f"setting.get({shape.arguments})"


def heksher_0_2_2(shape: Shape) -> Call:
    """The library before this one: a client that was not started, given the rules by hand.

    Everything that is asked for is tracked, as its documentation wants it; otherwise each call would log.
    """
    old: Any = importlib.import_module("heksher")
    client = old.ThreadHeksherClient("http://localhost", 60, FEATURES)
    client.set_defaults(**shape.defaults)
    client.track_contexts(
        environment=["dev", "prod"], user=old.TRACK_ALL, theme=["bright", "dark", "blue"]
    )
    setting = old.Setting(shape.name, type(shape.default), shape.features, shape.default)
    queried_rule: Any = importlib.import_module("heksher.setting").QueriedRule
    setting.update(
        client,
        [
            (value, queried_rule(number, list(conditions.items())))
            for number, (conditions, value) in enumerate(shape.rules, 1)
        ],
    )
    # The setting holds its client weakly.
    return {"setting": setting, "client": client}, f"setting.get({shape.arguments})"


SUBJECTS: dict[str, Callable[[Shape], Call]] = {"ours": ours, "heksher-0.2.2": heksher_0_2_2}


def main() -> None:
    """Measure the library that is named on the command line."""
    (name,) = sys.argv[1:]
    times: dict[str, dict[str, float]] = {}
    for shape in INTRODUCTION:
        names, call = SUBJECTS[name](shape)
        names["floor"] = shape.floor
        value = eval(call, dict(names))  # noqa: S307 - our own code
        if value != shape.value:
            raise AssertionError(f"{shape.title}: {name} returns {value!r}, not {shape.value!r}")
        statements = {"subject": call, "floor": f"floor({shape.arguments})"}
        times[shape.title] = nanoseconds(statements, names, rounds=31, times=200)
    how = f"{platform.python_implementation()} {platform.python_version()}"
    print(json.dumps({"python": how, "times": times}))


if __name__ == "__main__":
    main()
