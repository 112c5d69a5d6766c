"""Asks one library for one scenario, and its floor beside it; prints JSON.

`compare.py` runs it in an environment in which that library is installed, by ``python -m peers.runner
SUBJECT SCENARIO``. Both sides run in this process, in turn, so that their ratio can be compared with that
of another library, which was measured in another process. All times are in seconds.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypedDict

from machinery.interleaved import REPEATED, Loop, loop_of, median_ratio
from machinery.shapes import INTRODUCTION, Shape, of_size

from peers.subjects import USER, VALUE, LookUps, Updates

#: How many rules a setting has, from step to step.
NUMBERS_OF_RULES = (10, 100, 1_000, 10_000, 100_000)
#: Settings and rules of each, by title.
UPDATES = {
    "100,000 rules of one setting": (1, 100_000),
    "1,000 settings with 100 rules each": (1_000, 100),
}
#: How many settings a start finds.
SETTINGS = 1_500
#: How often look-ups are measured, and how many seconds they are to last at least.
ROUNDS = 301
LASTS = 0.0002


class Times(TypedDict):
    """The medians of what subject and floor take, and the median of the rounds' ratios."""

    subject: float
    floor: float
    ratio: float


def times_of(subject: Sequence[float], floor: Sequence[float]) -> Times:
    """Return the times of two things that were measured in turn."""
    return {
        "subject": statistics.median(subject),
        "floor": statistics.median(floor),
        "ratio": median_ratio(subject, floor),
    }


def seconds(action: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> float:
    """Seconds that *action* takes."""
    began = clock()
    action()
    return clock() - began


# --- look-ups -------------------------------------------------------------------------------------


def look_ups(subject: Any) -> dict[str, Times]:
    """The introduction's settings; the floor is the function by hand."""
    return asked(subject, INTRODUCTION)


def look_ups_by_rules(subject: Any) -> dict[str, Times]:
    """One feature, and more and more rules; the floor is the function by hand."""
    times: dict[str, Times] = {}
    for number in NUMBERS_OF_RULES:
        shape = of_size(number)
        times[str(number)] = asked(subject, [shape])[shape.title]
    return times


def asked(subject: Any, shapes: Sequence[Shape]) -> dict[str, Times]:
    """Measure the calls of *shapes*, once they are seen to answer as the functions by hand do."""
    ready: LookUps = subject.look_ups(shapes)
    for shape in (*shapes, *others_like(shapes)):
        value = eval(ready.statement(shape), dict(ready.names))  # noqa: S307 - our own code
        if value != shape.value:
            raise AssertionError(f"{shape.title}: {value!r} is returned, not {shape.value!r}")
    times: dict[str, Times] = {}
    for shape in shapes:
        names = {**ready.names, "floor": shape.floor}
        subject_loop = loop_of(ready.statement(shape), names)
        floor_loop = loop_of(f"floor({shape.arguments})", names)
        times[shape.title] = times_of(*in_turn(subject_loop, floor_loop))
    return times


def in_turn(*loops: Loop) -> list[list[float]]:
    """Measure *loops* in turn, and return the seconds of one execution of each, round by round.

    All are made to last equally long, a part of a millisecond: a busy machine interrupts what lasts
    longer in each round, and so would make the slower side seem slower still.
    """
    turns = dict.fromkeys(loops, 1)
    for loop in loops:
        while loop(turns[loop]) < LASTS:
            turns[loop] *= 2
    bare = loop_of("pass", {})
    least = statistics.median(bare(1000) for _ in range(ROUNDS)) / 1000 / REPEATED
    taken: dict[Loop, list[float]] = {loop: [] for loop in loops}
    order = list(loops)
    for _ in range(ROUNDS):
        for loop in order:
            taken[loop].append(loop(turns[loop]) / turns[loop] / REPEATED - least)
        order.reverse()
    return list(taken.values())


def others_like(shapes: Sequence[Shape]) -> list[Shape]:
    """The calls of *shapes* that give a user, with other users."""
    users = [f"user{number}" for number in range(7)]
    return [
        replace(shape, arguments=f"user={user!r}", value=shape.floor(user=user))
        for shape in shapes
        if shape.arguments.startswith("user=")
        for user in users
    ]


# --- updates --------------------------------------------------------------------------------------


def updates(subject: Any) -> dict[str, Times]:
    """All settings changed; the floor is ``json.loads`` of the same body.

    An update waits for nothing here, as its answer stands ready. So it takes as long as it has the
    processor, in all threads; that is what is counted, as others on the machine do not disturb it.
    """
    answers_of: Any = importlib.import_module("machinery.answers").Answers
    times: dict[str, Times] = {}
    for title, (settings, rules) in UPDATES.items():
        answers = answers_of(settings, rules)
        parse = partial(parsed, answers)
        taken: list[float] = []
        floor: list[float] = []
        with subject.updates(answers) as ready:
            for _ in range(7):
                answers.change()
                # As a yardstick, it is not to pay for walks through what the subject keeps.
                gc.disable()
                floor.append(seconds(parse, time.process_time))
                gc.enable()
                taken.append(seconds(ready.reload, time.process_time))
                check(ready, answers.changes)
        times[title] = times_of(taken, floor)
    return times


def parsed(answers: Any) -> object:
    """Parse the body of *answers* as the standard library does."""
    return json.loads(answers.body)


def check(ready: Updates, default: int) -> None:
    """See that all settings have their rules, and the new default."""
    for setting in ready.settings:
        if (setting.get(user="user1"), setting.get(user="nobody")) != (1, default):
            raise AssertionError(f"{setting.name} is not up to date")


# --- starts ---------------------------------------------------------------------------------------


def starts(subject: Any, url: str, service: str) -> dict[str, Times]:
    """All settings are known to the service; the floor is to ask for them, by httpx alone.

    A client and its service wait for each other, and for nothing else. So a start takes as long as both
    have the processor; that is what is counted, as others on the machine do not disturb it.

    Args:
        subject: the library.
        url: of the service.
        service: the number of its process.
    """
    httpx: Any = importlib.import_module("httpx")
    names = [f"setting{number:04}" for number in range(SETTINGS)]
    with httpx.Client(base_url=f"{url}/api/v1/") as client:
        if not client.get("settings").json()["settings"]:
            for name in names:
                declare(client, name)
            rule = {"setting": names[0], "feature_values": {"user": USER}, "value": VALUE}
            client.post("rules", json=rule).raise_for_status()
        declaration = [seconds(partial(declare, client, name)) for name in names[:200]]

    def bare() -> None:
        with httpx.Client(base_url=f"{url}/api/v1/") as client:
            for path, parameters in (
                ("settings", {"include_additional_data": True}),
                ("context_features", {}),
                ("query", {"settings": ",".join(names)}),
            ):
                client.get(path, params=parameters).raise_for_status().json()

    def clock() -> float:
        return time.process_time() + processor_time_of(service)

    times: dict[str, Times] = {}
    for kind, start in subject.starts(url, names, clock).items():
        floor: list[float] = []
        taken: list[float] = []
        while len(taken) < 5 and sum(taken) < 10:
            floor.append(on_average(partial(seconds, bare, clock)))
            taken.append(on_average(start))
        times[kind] = times_of(taken, floor)
    times["a declaration"] = times_of(declaration, declaration)
    return times


def processor_time_of(process: str) -> float:
    """Seconds for which *process* has had the processor, to a hundredth."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def on_average(measure: Callable[[], float]) -> float:
    """The mean of what *measure* says, of as many times as take a second."""
    taken: list[float] = []
    while sum(taken) < 1:
        taken.append(measure())
    return statistics.mean(taken)


def declare(client: Any, name: str) -> None:
    """Declare the setting called *name* as all subjects do."""
    declaration: dict[str, Any] = {
        "name": name,
        "configurable_features": ["environment", "user"],
        "type": "int",
        "metadata": {},
        "alias": None,
        "default_value": 60,
        "version": "1.0",
    }
    client.post("settings/declare", json=declaration).raise_for_status()


SCENARIOS: dict[str, Callable[..., dict[str, Times]]] = {
    "look_ups": look_ups,
    "look_ups_by_rules": look_ups_by_rules,
    "updates": updates,
    "starts": starts,
}


def main() -> None:
    """Measure what the command line names."""
    name, scenario, *arguments = sys.argv[1:]
    subject = importlib.import_module(f"peers.subjects.{name}")
    times = SCENARIOS[scenario](subject, *arguments)
    how = f"{platform.python_implementation()} {platform.python_version()}"
    print(json.dumps({"python": how, "times": times}))


if __name__ == "__main__":
    main()
