"""The states of the service, one after another. The soak compares all values that are read with them.

The director appends each state to a file **before** it changes the service. The readers, in other
processes, read what was appended. So the file has every state that the service can answer from.
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
#: All contexts. There are few, so that a single change affects many of them.
CONTEXTS: Sequence[Mapping[str, str]] = [
    dict(zip(FEATURES, values, strict=True)) for values in product(*VALUES.values())
]
DEFAULT = 0

#: The value of each rule, by its conditions as JSON.
State = dict[str, int]


def values_of(state: State) -> list[int]:
    """Return the value in each of `CONTEXTS`, as `RuleTable.resolve` defines it."""
    rules = [TableRule(value, tuple(json.loads(conditions))) for conditions, value in state.items()]
    table = RuleTable(DEFAULT, rules, FEATURES)
    return [table.resolve(context) for context in CONTEXTS]


class Truth:
    """The states of one setting that can still be published in this process."""

    def __init__(self, path: Path) -> None:
        self._file = path.open()
        self._part = ""
        self._values: dict[int, list[int]] = {}
        self.newest = -1

    def read_on(self) -> None:
        """Read the states that were appended since."""
        for line in self._lines():
            told: Any = json.loads(line)
            self._values[told["number"]] = told["values"]
            self.newest = told["number"]

    def _lines(self) -> list[str]:
        *lines, self._part = (self._part + self._file.read()).split("\n")
        return lines

    def first_with(self, context: int, value: int, since: int) -> int | None:
        """Return the first state from *since* on that has *value* in a context, or None."""
        for number in range(since, self.newest + 1):
            if self._values[number][context] == value:
                return number
        return None

    def forget_before(self, number: int) -> None:
        """Forget the states before this one."""
        for old in [each for each in self._values if each < number]:
            del self._values[old]

    def close(self) -> None:
        self._file.close()
