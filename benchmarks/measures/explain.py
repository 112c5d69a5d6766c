"""What does ``explain()`` cost, compared with ``get()``, and how long does it look for candidates?

Each shape is explained in turn with the same call of ``get()``. A row is the call and all that comes with
it: ``value``, ``reason``, ``source``, ``rule`` and ``context``. Candidates are looked for among all rules
of a setting, so those have a bound in milliseconds: 50 with 100,000 rules.

Conclusion: an application may explain each look-up that it makes, to log the rule that won. Whoever reads
candidates does so for a person who waits for the answer.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import replace

import pytest
from machinery.interleaved import nanoseconds
from machinery.ours import checked
from machinery.ratio_table import Ratios
from machinery.shapes import BY_NUMBER_OF_FEATURES, INTRODUCTION, NO_VALUE, Shape

from heksher import Setting
from heksher._rules.contexts import Defaults
from heksher._rules.groups import GroupedRules, SharedStrings
from heksher._rules.table import RuleTable
from heksher.setting import state_of

MANY = 100_000


#: In which no rule matches.
MISSES = [
    replace(
        shape,
        title=f"{shape.title}, no rule matches",
        arguments=", ".join(f"{feature}='other'" for feature in shape.features),
        value=0,
    )
    for shape in BY_NUMBER_OF_FEATURES
]


@pytest.mark.parametrize(
    "shape",
    [*INTRODUCTION, *BY_NUMBER_OF_FEATURES, *MISSES, *NO_VALUE],
    ids=lambda shape: shape.title,
)
def measure_an_explanation(shape: Shape, ratios: Ratios) -> None:
    names = checked(shape)
    call = f"ours.explain({shape.arguments})"
    statements = {
        "get": f"ours.get({shape.arguments})",
        "explain": f"e = {call}; e.value; e.reason; e.source; e.rule; e.context",
    }
    # Short loops: on a busy machine, a longer one would be interrupted each time.
    times = nanoseconds(statements, names, rounds=ratios.rounds, times=50)
    ratios.add(shape.title, times["explain"], times["get"], at_most=10.0)


Conditions = tuple[tuple[str, str], ...]

#: The features and the conditions of each rule.
LARGE: dict[str, tuple[tuple[str, ...], Callable[[int], Conditions]]] = {
    "on one feature": (("user",), lambda number: (("user", f"u{number}"),)),
    "on two features": (
        ("environment", "user"),
        lambda number: (("environment", f"e{number % 10}"), ("user", f"u{number}")),
    ),
    "which miss by the third feature": (
        ("environment", "region", "user"),
        lambda number: (("environment", "e7"), ("region", "eu"), ("user", f"u{number}")),
    ),
}


@pytest.mark.parametrize("title", LARGE)
def measure_candidates(title: str, ratios: Ratios) -> None:
    features, conditions_of = LARGE[title]
    setting: Setting[int] = Setting("many", int, features, 0)
    publish(setting, features, map(conditions_of, range(100 if ratios.quick else MANY)))
    arguments = {"environment": "e7", "region": "eu", "user": "u77"}
    explain = setting.explain
    milliseconds: list[float] = []
    for _ in range(ratios.rounds):
        explanation = explain(**{name: arguments[name] for name in features})
        began = time.thread_time()  # other processes take turns on a busy machine
        candidates = explanation.candidates
        milliseconds.append(1e3 * (time.thread_time() - began))
        assert candidates[0].rule.value == 77
    ratios.add(
        f"candidates among {MANY:,} rules {title} (floor: 1 ms)",
        milliseconds,
        [1.0] * len(milliseconds),
        unit="ms",
        at_most=50.0,
    )


def publish(setting: Setting[int], features: tuple[str, ...], rules: Iterable[Conditions]) -> None:
    """Publish rules on the same features, as a client does; their values are their numbers."""
    grouped = GroupedRules[int](features)
    all_rules = [*rules]
    numbers = [*range(len(all_rules))]
    group = grouped.group_of(features)
    group.extend(features, numbers, all_rules, numbers, SharedStrings())
    state = state_of(setting)
    state.publish(state.prepare(RuleTable(0, grouped, features), Defaults()))
