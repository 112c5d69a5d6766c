"""Asks one library for the introduction's settings, and a function by hand beside it; prints JSON.

Run by `peers.py`, in an environment in which that library is installed: ``peer_runner.py NAME``. Both
sides run in this process, in turn, so that their ratio can be held against that of another library,
which was measured in another process.
"""

from __future__ import annotations

import importlib
import json
import platform
import statistics
import sys
from collections.abc import Callable
from typing import Any

from interleaved import median_ratio, nanoseconds
from shapes import FEATURES, INTRODUCTION, Shape, theme

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


def openfeature(shape: Shape) -> Call:
    """OpenFeature's in-memory provider, whose targeting is the function by hand.

    A constant default is an attribute of the API's own context, a context variable one of the
    transaction's context, and an argument one of the call's context.
    """
    api: Any = importlib.import_module("openfeature.api")
    context: Any = importlib.import_module("openfeature.evaluation_context").EvaluationContext
    evaluation: Any = importlib.import_module("openfeature.flag_evaluation")
    provider: Any = importlib.import_module("openfeature.provider.in_memory_provider")
    transaction: Any = importlib.import_module("openfeature.transaction_context")
    arguments: dict[str, str] = eval(f"dict({shape.arguments})")  # noqa: S307 - our own code
    feature = shape.features[-1]  # the one whose value is not constant

    def target(_flag: Any, context: Any) -> Any:
        value = shape.floor(**{feature: context.attributes[feature]})
        return evaluation.FlagResolutionDetails(
            value=value, reason=evaluation.Reason.TARGETING_MATCH, variant="targeted"
        )

    flag = provider.InMemoryFlag("default", {"default": shape.default}, context_evaluator=target)
    api.set_provider_and_wait(provider.InMemoryProvider({shape.name: flag}))
    constants = {name: each for name, each in shape.defaults.items() if isinstance(each, str)}
    api.set_evaluation_context(context(attributes=constants))
    if not arguments:
        api.set_transaction_context_propagator(
            transaction.ContextVarsTransactionContextPropagator()
        )
        api.set_transaction_context(context(attributes={feature: theme.get()}))
    kind = "integer" if isinstance(shape.default, int) else "string"
    given = f", Context(attributes={arguments!r})" if arguments else ""
    call = f"client.get_{kind}_value({shape.name!r}, {shape.default!r}{given})"
    return {"client": api.get_client(), "Context": context}, call


SUBJECTS: dict[str, Callable[[Shape], Call]] = {
    "ours": ours,
    "heksher-0.2.2": heksher_0_2_2,
    "openfeature": openfeature,
}


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
        taken = nanoseconds(statements, names, rounds=31, times=200)
        times[shape.title] = {
            **{name: statistics.median(each) for name, each in taken.items()},
            "ratio": median_ratio(taken["subject"], taken["floor"]),
        }
    how = f"{platform.python_implementation()} {platform.python_version()}"
    print(json.dumps({"python": how, "times": times}))


if __name__ == "__main__":
    main()
