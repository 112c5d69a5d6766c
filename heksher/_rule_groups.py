"""Many rules in little memory: in columns, by the features that they ask for.

Pure. A rule of its own costs hundreds of bytes and an object that the garbage collector looks at;
here it is an entry in each of a few lists, which is also what a look-up is quickly made from.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import Generic, TypeVar, cast, overload

from heksher.rules import Rule

T = TypeVar("T")


class RuleGroup(Generic[T]):
    """The rules that ask for the same features.

    Attributes:
        features: in the service's order.
        columns: for each feature the values that the rules ask for.
        values: what the rules say.
        ids: the service's numbers for them; -1 for none.
    """

    __slots__ = ("columns", "features", "ids", "values")

    def __init__(self, features: tuple[str, ...]) -> None:
        self.features = features
        self.columns: tuple[list[str], ...] = tuple([] for _ in features)
        self.values: list[T] = []
        self.ids: array[int] | list[int] = array("q")

    def __len__(self) -> int:
        return len(self.values)

    def extend(
        self,
        listed: tuple[str, ...],
        values: Iterable[T],
        conditions: Sequence[tuple[tuple[str, str], ...]],
        ids: Iterable[int],
    ) -> None:
        """Add rules.

        Args:
            listed: the features of their conditions, in the order of these.
            values: their values.
            conditions: for each rule pairs of feature and value.
            ids: the service's numbers for them, or -1.
        """
        for feature, column in zip(self.features, self.columns, strict=True):
            place = listed.index(feature)
            column += [each[place][1] for each in conditions]
        self.values += values
        numbers = [*ids]
        try:
            self.ids.extend(array("q", numbers))
        except OverflowError:  # no service has that many, but it may lie
            self.ids = [*self.ids, *numbers]

    def rule(self, index: int) -> Rule[T]:
        """Return one of the rules."""
        conditions = tuple(
            (feature, column[index])
            for feature, column in zip(self.features, self.columns, strict=True)
        )
        number = self.ids[index]
        return Rule(self.values[index], conditions, None if number == -1 else number)


class GroupedRules(Sequence[Rule[T]]):
    """Rules by group, and all of them as a sequence that makes each when it is asked for.

    Not to be changed once it is published.

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
            self.group_of(listed).extend(listed, [rule.value], [rule.conditions], [number])

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
            for index in range(len(group)):
                yield group.rule(index)

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
