"""What the service has been told, state by state: what any value that is read is held against.

The director appends each state to a file **before** it changes the service; the readers, in other
processes, read the file on. So whatever the service may say is in the file by then.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from heksher._rules.table import RuleTable, TableRule

FEATURES = ("environment", "user", "theme")
VALUES: Mapping[str, Sequence[str]] = {
    "environment": ("dev", "prod"),
    "user": ("jim", "ann", "bob"),
    "theme": ("dark", "light"),
}
#: By number. Small, so that a single change is seen in many of them.
CONTEXTS: Sequence[Mapping[str, str]] = [
    dict(zip(FEATURES, values, strict=True)) for values in product(*VALUES.values())
]
DEFAULT = 0

#: A rule's conditions as one text, and its value.
State = dict[str, int]


def values_of(state: State) -> list[int]:
    """The value in each of `CONTEXTS`, by the definition that is meant to be read."""
    rules = [TableRule(value, tuple(json.loads(conditions))) for conditions, value in state.items()]
    table = RuleTable(DEFAULT, rules, FEATURES)
    return [table.resolve(context) for context in CONTEXTS]


class Truth:
    """The states of one setting, as far as they can still be in force in this process."""

    def __init__(self, path: Path) -> None:
        self._file = path.open()
        self._part = ""
        self._values: dict[int, list[int]] = {}
        self.newest = -1

    def read_on(self) -> None:
        """Take in what was written since."""
        for line in self._lines():
            told: Any = json.loads(line)
            self._values[told["number"]] = told["values"]
            self.newest = told["number"]

    def _lines(self) -> list[str]:
        *lines, self._part = (self._part + self._file.read()).split("\n")
        return lines

    def first_with(self, context: int, value: int, since: int) -> int | None:
        """The first state from *since* on that has *value* in a context; None: there is none."""
        for number in range(since, self.newest + 1):
            if self._values[number][context] == value:
                return number
        return None

    def forget_before(self, number: int) -> None:
        """No state before this one is asked for any more."""
        for old in [each for each in self._values if each < number]:
            del self._values[old]

    def close(self) -> None:
        self._file.close()
