"""Measure one scenario with one library, and the scenario's floor; print the times as JSON.

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

#: The numbers of rules for which look-ups are measured.
NUMBERS_OF_RULES = (10, 100, 1_000, 10_000, 100_000)
#: The numbers of settings and of rules for each of them, by title.
UPDATES = {
    "100,000 rules of one setting": (1, 100_000),
    "1,000 settings with 100 rules each": (1_000, 100),
}
#: The number of settings of a start.
SETTINGS = 1_500
#: The number of rounds in which look-ups are measured.
ROUNDS = 301
#: The seconds that the look-ups of one round take at least.
LASTS = 0.0002


class Times(TypedDict):
    """The median seconds of subject and floor, and the median of the ratios of all rounds."""

    subject: float
    floor: float
    ratio: float


def times_of(subject: Sequence[float], floor: Sequence[float]) -> Times:
    """Return the times of a subject and a floor that were measured in turn."""
    return {
        "subject": statistics.median(subject),
        "floor": statistics.median(floor),
        "ratio": median_ratio(subject, floor),
    }


def seconds(action: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> float:
    """Return the seconds that *action* takes."""
    began = clock()
    action()
    return clock() - began


# --- look-ups -------------------------------------------------------------------------------------


def look_ups(subject: Any) -> dict[str, Times]:
    """Measure the settings of the introduction; the floor is the function written by hand."""
    return asked(subject, INTRODUCTION)


def look_ups_by_rules(subject: Any) -> dict[str, Times]:
    """Measure one feature with increasing numbers of rules; the floor is the function written by hand."""
    times: dict[str, Times] = {}
    for number in NUMBERS_OF_RULES:
        shape = of_size(number)
        times[str(number)] = asked(subject, [shape])[shape.title]
    return times


def asked(subject: Any, shapes: Sequence[Shape]) -> dict[str, Times]:
    """Measure the calls of *shapes*, after a check that they return the same as the floors."""
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
    """Measure *loops* in turn, and return the seconds of one execution of each in each round.

    All loops run equally long, for a fraction of a millisecond. Otherwise a busy machine would interrupt
    the slower side in more of its rounds, and make it look slower still.
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
    """Return the calls of *shapes* that pass a user, with other users."""
    users = [f"user{number}" for number in range(7)]
    return [
        replace(shape, arguments=f"user={user!r}", value=shape.floor(user=user))
        for shape in shapes
        if shape.arguments.startswith("user=")
        for user in users
    ]


# --- updates --------------------------------------------------------------------------------------


def updates(subject: Any) -> dict[str, Times]:
    """Measure updates in which all settings change; the floor is ``json.loads`` of the same body.

    The answer is ready, so an update waits for nothing here, and takes as long as its processor time in
    all threads. Processor time is measured because other programs on the machine disturb it least.
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
                # Otherwise the floor would include walks of the garbage collector through the subject's
                # objects.
                gc.disable()
                floor.append(seconds(parse, time.process_time))
                gc.enable()
                taken.append(seconds(ready.reload, time.process_time))
                check(ready, answers.changes)
        times[title] = times_of(taken, floor)
    return times


def parsed(answers: Any) -> object:
    """Parse the body of *answers* with the standard library."""
    return json.loads(answers.body)


def check(ready: Updates, default: int) -> None:
    """Check that all settings have their rules and the new default value."""
    for setting in ready.settings:
        if (setting.get(user="user1"), setting.get(user="nobody")) != (1, default):
            raise AssertionError(f"{setting.name} is not up to date")


# --- starts ---------------------------------------------------------------------------------------


def starts(subject: Any, url: str, service: str) -> dict[str, Times]:
    """Measure starts with settings that the service has; the floor is the same requests by httpx alone.

    Client and service wait only for each other, so a start takes as long as the processor time of both.
    Processor time is measured because other programs on the machine disturb it least.

    Args:
        subject: the module of the library in `peers.subjects`.
        url: the URL of the service.
        service: the process id of the service.
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
    """Return the processor time of *process* in seconds, in steps of a hundredth."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def on_average(measure: Callable[[], float]) -> float:
    """Call *measure* for at least a second in all, and return the mean of its results."""
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
    """Measure the scenario that the command line names."""
    name, scenario, *arguments = sys.argv[1:]
    subject = importlib.import_module(f"peers.subjects.{name}")
    times = SCENARIOS[scenario](subject, *arguments)
    how = f"{platform.python_implementation()} {platform.python_version()}"
    print(json.dumps({"python": how, "times": times}))


if __name__ == "__main__":
    main()
