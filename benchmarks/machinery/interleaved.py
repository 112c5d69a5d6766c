"""Measure statements that take a few nanoseconds, with loops that are compiled for each of them.

A call through ``function(*args, **kwargs)`` costs as much as what is measured here. So each subject is a
statement, and a loop is compiled whose body contains the statement ten times. All subjects of a
comparison run in turn, in many rounds, and each round reverses the order. The time of an empty loop is
subtracted.

The result is the median of the ratios of all rounds, not the ratio of two medians. When the machine's
speed changes, all subjects of a round are affected equally, and their ratio stays the same.

Knows nothing of heksher, so that other libraries can be measured with it.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

#: How often a loop's body contains its statement.
REPEATED = 10

#: A loop takes the number of its iterations, and returns the seconds that they took.
Loop = Callable[[int], float]


def loop_of(statement: str, names: Mapping[str, Any]) -> Loop:
    """Compile a loop of *statement* with *names* as globals."""
    return _compiled("_ in range(times)", "; ".join([statement] * REPEATED), names)


def _compiled(each: str, body: str, names: Mapping[str, Any]) -> Loop:
    source = (
        "def loop(times):\n"
        "    began = clock·()\n"
        f"    for {each}:\n"
        f"        {body}\n"
        "    return clock·() - began\n"
    )
    scope: dict[str, Any] = {**names, "clock·": time.perf_counter}
    exec(source, scope)  # noqa: S102 - our own code
    loop: Loop = scope["loop"]
    return loop


def nanoseconds(
    statements: Mapping[str, str], names: Mapping[str, Any], *, rounds: int, times: int = 1000
) -> dict[str, list[float]]:
    """Measure *statements* in turn.

    Args:
        statements: the statement of each subject.
        names: the globals of the statements.
        rounds: how often each loop is run.
        times: the iterations of each loop; a statement is executed ten times in each.

    Returns:
        For each subject, the nanoseconds of one execution in each round.
    """
    loops = {name: loop_of(each, names) for name, each in statements.items()}
    seconds = _seconds(loops, loop_of("pass", {}), rounds, times)
    return {
        name: [1e9 * each / times / REPEATED for each in taken] for name, taken in seconds.items()
    }


def median_ratio(some: Sequence[float], others: Sequence[float]) -> float:
    """Return the median of the ratios of all rounds."""
    return statistics.median(one / other for one, other in zip(some, others, strict=True))


def nanoseconds_over(
    keys: Sequence[str], statements: Mapping[str, str], names: Mapping[str, Any], *, rounds: int
) -> dict[str, list[float]]:
    """Measure statements that use ``key``, with each of *keys* in turn; otherwise like `nanoseconds`.

    The loop's body contains its statement only once, since each execution has another key.
    """
    scope = {**names, "keys·": keys}
    loops = {name: _compiled("key in keys·", each, scope) for name, each in statements.items()}
    seconds = _seconds(loops, _compiled("key in keys·", "pass", scope), rounds, 1)
    return {name: [1e9 * each / len(keys) for each in taken] for name, taken in seconds.items()}


def _seconds(
    loops: Mapping[str, Loop], bare: Loop, rounds: int, times: int
) -> dict[str, list[float]]:
    """Return the seconds of each loop in each round, less the median time of the *bare* loop."""
    order = [*loops.values(), bare]
    seconds: dict[Loop, list[float]] = {loop: [] for loop in order}
    for loop in order:  # once before, since the interpreter specializes code when it runs
        loop(times)
    for _ in range(rounds):
        for loop in order:
            seconds[loop].append(loop(times))
        order.reverse()
    least = statistics.median(seconds[bare])
    return {name: [each - least for each in seconds[loop]] for name, loop in loops.items()}
