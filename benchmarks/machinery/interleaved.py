"""Times of a few nanoseconds, by loops that are compiled for the purpose.

A call through ``function(*args, **kwargs)`` costs as much as what is measured here. So each subject
is a statement, which stands ten times in the body of a loop that is compiled with it. All subjects of
a comparison run in turn, many times, in an order that is reversed from round to round. What the bare
loop takes is subtracted. What counts is the median of the ratios of the rounds, and not the ratio of two
medians: a machine whose speed changes meanwhile disturbs all subjects of a round alike.

Knows nothing of heksher: it runs beside other libraries as well.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

#: How often a statement stands in the loop's body.
REPEATED = 10

#: A loop: how many times to go round; the seconds that this took.
Loop = Callable[[int], float]


def loop_of(statement: str, names: Mapping[str, Any]) -> Loop:
    """Compile a loop of *statement*, in which *names* are globals."""
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
        statements: Python, by subject.
        names: what the statements speak of.
        rounds: how often each loop is run.
        times: how often each loop goes round; a subject is executed ten times as often.

    Returns:
        Nanoseconds for one execution of each subject, round by round.
    """
    loops = {name: loop_of(each, names) for name, each in statements.items()}
    seconds = _seconds(loops, loop_of("pass", {}), rounds, times)
    return {
        name: [1e9 * each / times / REPEATED for each in taken] for name, taken in seconds.items()
    }


def median_ratio(some: Sequence[float], others: Sequence[float]) -> float:
    """Return the median of the ratios, round by round."""
    return statistics.median(one / other for one, other in zip(some, others, strict=True))


def nanoseconds_over(
    keys: Sequence[str], statements: Mapping[str, str], names: Mapping[str, Any], *, rounds: int
) -> dict[str, list[float]]:
    """Like `nanoseconds`, for statements that speak of ``key``: each of *keys* in turn.

    The loop executes its statement once a round, as each execution is with another key.
    """
    scope = {**names, "keys·": keys}
    loops = {name: _compiled("key in keys·", each, scope) for name, each in statements.items()}
    seconds = _seconds(loops, _compiled("key in keys·", "pass", scope), rounds, 1)
    return {name: [1e9 * each / len(keys) for each in taken] for name, taken in seconds.items()}


def _seconds(
    loops: Mapping[str, Loop], bare: Loop, rounds: int, times: int
) -> dict[str, list[float]]:
    """Seconds that each of *loops* takes, round by round, without what *bare* takes as a rule."""
    order = [*loops.values(), bare]
    seconds: dict[Loop, list[float]] = {loop: [] for loop in order}
    for loop in order:  # the interpreter adapts code to what it meets
        loop(times)
    for _ in range(rounds):
        for loop in order:
            seconds[loop].append(loop(times))
        order.reverse()
    least = statistics.median(seconds[bare])
    return {name: [each - least for each in seconds[loop]] for name, loop in loops.items()}
