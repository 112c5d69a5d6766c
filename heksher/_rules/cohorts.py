"""Cohorts: a context feature that is computed from another one, so that rules can reach a share of users.

Pure. The bytes that are hashed and the steps are promises: if either changed, users would change places.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import KW_ONLY, dataclass, replace
from struct import Struct
from typing import Final, cast, final

from heksher._names import WORD_RULE, is_feature_name
from heksher.exceptions import InvalidArgumentError

#: Remember at most this many values of a cohort's source for each setting.
MOST_REMEMBERED: Final = 1024

#: Do not remember values of more characters. They come from strangers.
LONGEST_REMEMBERED: Final = 128

# As a number, the most significant byte first.
_first_four_bytes: Final = Struct(">I").unpack_from


@final
@dataclass(frozen=True, slots=True)
class Cohort:
    """A default for a context feature that is computed from another one: the share a user belongs to.

    ``client.set_defaults(cohort=Cohort("user"))`` puts each user at a point from 0 to 99 that never
    changes. The feature's value is the smallest step above that point, as text: with the steps 1, 10 and
    100, one percent of the users are in cohort "1", nine percent in "10", and the others in "100".

    Args:
        source: the feature that it is computed from. Its value is the argument of the call if the setting
            lists that feature, or else the client's default for it.
        steps: whole percentages from 1 to 100, in ascending order. Above the last one, the feature has no
            value.
        salt: any text without a colon. Cohorts with different salts are independent.
        per_setting: whether each setting has an order of users of its own. Otherwise the same users come
            first in every rollout.

    Raises:
        InvalidArgumentError: an argument is invalid.
    """

    source: str
    _: KW_ONLY
    steps: Sequence[int] = (1, 5, 10, 25, 50, 100)
    salt: str = ""
    per_setting: bool = True

    def __post_init__(self) -> None:
        source: object = self.source
        if not isinstance(source, str) or not is_feature_name(source):
            raise InvalidArgumentError(
                f"invalid source {source!r} of a cohort: "
                f"expected the name of a context feature, of {WORD_RULE}"
            )
        object.__setattr__(self, "steps", _checked_steps(self.steps))
        salt: object = self.salt
        if not isinstance(salt, str) or ":" in salt:
            raise InvalidArgumentError(
                f"invalid salt {salt!r} of a cohort: expected a string without a colon"
            )
        per_setting: object = self.per_setting
        if not isinstance(per_setting, bool):
            raise InvalidArgumentError(
                f"invalid per_setting {per_setting!r} of a cohort: expected True or False"
            )

    def point_of(self, value: str, setting: str | None = None) -> int:
        """Return the point of one user, from 0 to 99.

        Args:
            value: the value of the source feature.
            setting: the setting's name. It can be left out if `per_setting` is False.

        Raises:
            InvalidArgumentError: the setting's name is missing, or the value is not a string.
        """
        # The step above the point is the next percentage if each percentage is a step.
        step = replace(self, steps=range(1, 101)).value_of(value, setting)
        if step is None:
            raise InvalidArgumentError(f"None of {self.source!r} has no point: expected a string")
        return int(step) - 1

    def value_of(self, value: str | None, setting: str | None = None) -> str | None:
        """Return the cohort of one user: a step as text, or None above the last step, or for None.

        Args:
            value: the value of the source feature.
            setting: the setting's name. It can be left out if `per_setting` is False.

        Raises:
            InvalidArgumentError: the setting's name is missing, or the value is neither a string nor None.
        """
        if value is not None and not isinstance(cast(object, value), str):
            raise InvalidArgumentError(
                f"invalid value {value!r} of {self.source!r}: expected a string or None"
            )
        if self.per_setting and setting is None:
            raise InvalidArgumentError(
                "the setting is missing: the cohort has per_setting=True, so it needs a setting's name"
            )
        return CohortFinder(self, setting or "").find(value)


Cohort.__module__ = "heksher"  # users find it here


def _checked_steps(steps: object) -> tuple[int, ...]:
    wrong = f"invalid steps {steps!r} of a cohort: expected"
    if isinstance(steps, str) or not isinstance(steps, Iterable):
        raise InvalidArgumentError(f"{wrong} whole percentages, such as (1, 10, 100)")
    checked = tuple(cast("Iterable[object]", steps))
    numbers = [each for each in checked if isinstance(each, int) and not isinstance(each, bool)]
    if len(numbers) != len(checked) or not numbers:
        # A condition's value in a rule cannot contain a dot.
        raise InvalidArgumentError(f"{wrong} one or more whole percentages, such as (1, 10, 100)")
    if numbers[0] < 1 or numbers[-1] > 100 or numbers != sorted(set(numbers)):
        raise InvalidArgumentError(f"{wrong} percentages from 1 to 100 in ascending order")
    return tuple(map(int, numbers))


class CohortFinder:
    """Finds the cohorts of one setting, and remembers the last ones.

    `known` is one dict for its whole life, so that generated code can hold its ``get``. All steps are
    operations of that dict, so there is no lock. When it is full it is emptied, which costs each
    user in it one more computation. Replacing one entry at a time would cost more and protect no
    user: a stranger who sends many names replaces all entries either way, after as many computations
    of their own.

    Attributes:
        known: the cohorts that are remembered, by the value of the source feature.
    """

    __slots__ = ("_begin", "_values", "known")

    def __init__(self, cohort: Cohort, setting: str) -> None:
        # Not at the top: modules that only define settings do not need it, and it loads OpenSSL.
        from hashlib import sha256

        text = f"{cohort.salt}:{setting if cohort.per_setting else ''}:"
        # A copy takes less time than a new object for a longer text.
        self._begin = sha256(text.encode("utf-8", "surrogatepass")).copy
        self._values = tuple(
            [
                next((str(step) for step in cohort.steps if point < step), None)
                for point in range(100)
            ]
        )
        self.known: dict[str | None, str | None] = {}

    def find(self, value: str | None) -> str | None:
        """Return the cohort for a value of the source feature, and remember it."""
        cohort = None
        if value is not None:
            hashed = self._begin()
            # Any string can be an argument of get(), also one that UTF-8 has no bytes for.
            hashed.update(value.encode("utf-8", "surrogatepass"))
            point: int = _first_four_bytes(hashed.digest())[0] % 100
            cohort = self._values[point]
            if len(value) > LONGEST_REMEMBERED:
                return cohort
        known = self.known
        if len(known) >= MOST_REMEMBERED:
            known.clear()
        known[value] = cohort
        return cohort
