"""Many rules in little memory: by the features that they ask for, in the dicts that look-ups ask.

Pure. A rule of its own costs hundreds of bytes and an object that the garbage collector looks at;
here it is an entry of a dict, which a call needs in any case, and a number.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Generic, TypeVar, cast, overload

from heksher._rules.table import Rule

T = TypeVar("T")


class RuleGroup(Generic[T]):
    """The rules that ask for the same features.

    Attributes:
        features: in the service's order.
        values: what the rules say, by what they ask for: the value of the one feature; else a tuple
            of the values of all, the latest feature first.
        ids: the service's numbers for them, in the order of `values`; -1 for none.
    """

    __slots__ = ("_places", "features", "ids", "values")

    def __init__(self, features: tuple[str, ...]) -> None:
        self.features = features
        self.values: dict[Any, T] = {}
        self.ids: array[int] | list[int] = array("q")
        # Where each rule stands; None as long as nobody asked.
        self._places: dict[Any, int] | None = None

    def __len__(self) -> int:
        return len(self.values)

    def extend(
        self,
        listed: tuple[str, ...],
        values: Sequence[T],
        conditions: Sequence[tuple[tuple[str, str], ...]],
        ids: Iterable[int],
        known: dict[str, str],
    ) -> None:
        """Add rules.

        Args:
            listed: the features of their conditions, in the order of these.
            values: their values.
            conditions: for each rule pairs of feature and value.
            ids: the service's numbers for them, or -1.
            known: equal strings to be used instead, by themselves; others are added.
        """
        columns: list[list[str]] = []
        for feature in reversed(self.features):
            place = listed.index(feature)
            column = [each[place][1] for each in conditions]
            columns.append([*map(known.setdefault, column, column)])
        if len(columns) == 1:
            keys: Sequence[Any] = columns[0]
        else:
            keys = [*zip(*columns, strict=True)] if columns else [()] * len(values)
        numbers: array[int] | list[int] = [*ids]
        try:
            numbers = array("q", numbers)
        except OverflowError:  # no service has that many, but it may lie
            self.ids = [*self.ids]
        added = dict(zip(keys, values, strict=True))
        if (
            self._places is None
            and len(added) == len(keys)
            and added.keys().isdisjoint(self.values.keys())
        ):
            self.values.update(added)
            self.ids.extend(numbers)
        else:
            self._extend_with_doubles(keys, values, numbers)

    def _extend_with_doubles(
        self, keys: Iterable[Any], values: Iterable[T], ids: Iterable[int]
    ) -> None:
        """Add rules, of which the service stored some twice, as it may when two writers race.

        The newest one counts.
        """
        if self._places is None:
            self._places = {key: place for place, key in enumerate(self.values)}
        for key, value, number in zip(keys, values, ids, strict=True):
            place = self._places.setdefault(key, len(self.ids))
            if place == len(self.ids):
                self.ids.append(number)
            elif number < self.ids[place]:
                continue
            self.ids[place] = number
            self.values[key] = value

    def rules(self) -> Iterator[Rule[T]]:
        """Make the rules, one after another."""
        is_single = len(self.features) == 1
        for (key, value), number in zip(self.values.items(), self.ids, strict=True):
            asked = (key,) if is_single else reversed(key)
            conditions = tuple(zip(self.features, asked, strict=True))
            yield Rule(value, conditions, None if number == -1 else number)


class GroupedRules(Sequence[Rule[T]]):
    """Rules by group, and all of them as a sequence that makes each when it is asked for.

    Not to be changed once it is published. Of rules on the same features and values, which cannot all
    win, only the newest is kept.

    Args:
        order: the context features in the service's order.
        rules: to begin with.
    """

    __slots__ = ("_groups", "_listed", "_order")

    def __init__(self, order: Sequence[str], rules: Iterable[Rule[T]] = ()) -> None:
        self._order = order
        self._groups: dict[tuple[str, ...], RuleGroup[T]] = {}
        # By the features as rules list them, mostly in the service's order.
        self._listed: dict[tuple[str, ...], RuleGroup[T]] = {}
        for rule in rules:
            listed = tuple([feature for feature, _ in rule.conditions])
            number = -1 if rule.rule_id is None else rule.rule_id
            self.group_of(listed).extend(listed, [rule.value], [rule.conditions], [number], {})

    @property
    def groups(self) -> Iterable[RuleGroup[T]]:
        """The groups, each of other features."""
        return self._groups.values()

    def group_of(self, listed: tuple[str, ...]) -> RuleGroup[T]:
        """Return the group of the rules on these features, a new one if there is none."""
        group = self._listed.get(listed)
        if group is None:
            ordered = tuple(sorted(listed, key=self._order.index))
            group = self._listed[listed] = self._groups.setdefault(ordered, RuleGroup(ordered))
        return group

    def __len__(self) -> int:
        return sum(map(len, self.groups))

    def __iter__(self) -> Iterator[Rule[T]]:
        for group in self.groups:
            yield from group.rules()

    @overload
    def __getitem__(self, index: int) -> Rule[T]: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Rule[T]]: ...
    def __getitem__(self, index: int | slice) -> Rule[T] | Sequence[Rule[T]]:
        return tuple(self)[index]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, (tuple, GroupedRules)) and tuple(self) == tuple(
            cast(Iterable[object], other)
        )

    def __hash__(self) -> int:
        return hash(tuple(self))

    def __repr__(self) -> str:
        return repr(tuple(self))


def grouped(order: Sequence[str], rules: Sequence[Rule[T]]) -> GroupedRules[T]:
    """Return *rules* by group."""
    return cast(GroupedRules[T], rules) if _is_grouped(rules) else GroupedRules(order, rules)


# For the checkers: isinstance() leaves open what the rules are of.
def _is_grouped(rules: object) -> bool:
    return isinstance(rules, GroupedRules)
