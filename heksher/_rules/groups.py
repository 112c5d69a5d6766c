"""Many rules in little memory: grouped by the features of their conditions, in the dicts of look-ups.

Pure. A `TableRule` costs hundreds of bytes, and the garbage collector visits it; here a rule is an
entry of a dict that a call needs in any case, and a number.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from heapq import merge
from itertools import chain, groupby, islice
from operator import attrgetter, itemgetter, ne
from typing import Any, Final, Generic, NamedTuple, TypeVar, cast, overload

from heksher._rules.contexts import Context
from heksher._rules.table import TableRule

T = TypeVar("T")

#: Sets of features that have a group of their own. Rules on all further sets are kept together.
MOST_GROUPS: Final = 1024

#: Rules that are sorted in one go, while all other threads wait.
RUN: Final = 2**14

_rank = attrgetter("rank")
_rank_of_key = itemgetter(0)


class SharedStrings:
    """Strings of one answer, of which equal ones are kept once.

    Many rules name the same users, those of other settings too, and decoding JSON makes a new string of 50
    bytes or more each time. `sys.intern` would do the same in a table of the whole process, but a
    free-threaded interpreter keeps each string in there for ever (as of CPython 3.13), so that a service
    could fill the memory.

    To note 100,000 strings takes a sixth of the time of an update. Often one setting has changed, and its
    rules are on one feature. Its strings are the keys of one dict, and differ anyway. So the keys of the
    first such dict are noted only when there are others.
    """

    __slots__ = ("_first", "_known")

    def __init__(self) -> None:
        self._first: dict[str, Any] | None = None
        # Each by itself.
        self._known: dict[str, str] = {}

    def keys(self, values: dict[str, Any], strings: Sequence[str]) -> Sequence[str]:
        """Return what to use for *strings*, which are to become keys of *values*."""
        if self._first is None:
            self._first = values
        if self._first is values and not self._known:
            return strings
        return self.shared(strings)

    def shared(self, strings: Sequence[str]) -> Sequence[str]:
        """Return what to use for *strings*: those that came first."""
        known = self._known
        if not known and self._first is not None:
            # A loop, so that other threads get their turns.
            for each in self._first:
                known[each] = each
        return [*map(known.setdefault, strings, strings)]


class CloseRule(NamedTuple, Generic[T]):
    """A rule with at most one condition that a context does not meet.

    Attributes:
        group: the group that it is in.
        rank: of its features.
        place: its place in the group.
        key: its key in the group.
        is_near_miss: whether there is such a condition.
    """

    group: RuleGroup[T]
    rank: int
    place: int
    key: Any
    is_near_miss: bool

    def rule(self) -> TableRule[T]:
        """Make the rule."""
        return self.group.rule(self.key, self.group.values[self.key], self.group.ids[self.place])


class RuleGroup(Generic[T]):
    """The rules whose conditions are on the same features.

    Attributes:
        features: in the service's order.
        rank: of two rules that match a context, that of the group with the larger number wins.
        values: the rules' values, by the values of their conditions: that of the only feature, or else
            a tuple of all, the latest feature first.
        ids: the service's numbers for the rules, in the order of `values`; -1 for none.
    """

    __slots__ = ("_places", "features", "ids", "rank", "values")

    def __init__(self, features: tuple[str, ...], rank: int) -> None:
        self.features = features
        self.rank = rank
        self.values: dict[Any, T] = {}
        self.ids = array("q")
        # The place of each rule in `values`, by key; None until it is needed.
        self._places: dict[Any, int] | None = None

    def __len__(self) -> int:
        return len(self.values)

    def extend(
        self,
        listed: tuple[str, ...],
        values: Sequence[T],
        conditions: Sequence[tuple[tuple[str, str], ...]],
        ids: Iterable[int],
        strings: SharedStrings,
    ) -> None:
        """Add rules.

        Args:
            listed: the features of the conditions, in the order of the conditions.
            values: the rules' values.
            conditions: for each rule, pairs of feature and value.
            ids: the service's numbers for the rules, or -1.
            strings: keeps the values of conditions.
        """
        keys = self._keys(listed, conditions, strings)
        total = len(self.values) + len(keys)
        # The first rule on each key stays until it is known whether there are others.
        deque(map(self.values.setdefault, keys, values), maxlen=0)
        if self._places is None and len(self.values) == total:
            self.ids.extend(ids)
        else:
            self._extend_with_duplicates(keys, values, ids)

    def _keys(
        self,
        listed: tuple[str, ...],
        conditions: Sequence[tuple[tuple[str, str], ...]],
        strings: SharedStrings,
    ) -> Sequence[Any]:
        """Return the key of each rule."""
        columns = _columns(self.features, listed, conditions)
        if len(columns) == 1:
            return strings.keys(self.values, columns[0])
        if not columns:
            return [()] * len(conditions)
        return [*zip(*map(strings.shared, columns), strict=True)]

    def _extend_with_duplicates(
        self, keys: Iterable[Any], values: Iterable[T], ids: Iterable[int]
    ) -> None:
        """Add rules of which the newest counts: the service stores one twice when two writers race."""
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

    def number_of(self, key: Any) -> int | None:
        """Return the service's number for the rule with this key, -1 for none; None if there is no rule.

        Only for a group that is not extended any more. The first call stores the place of each rule, in
        about 90 bytes for each: looking through all of them takes too long for each explanation.
        """
        if self._places is None:
            self._places = {key: place for place, key in enumerate(self.values)}
        place = self._places.get(key)
        return None if place is None else self.ids[place]

    def rules(self) -> Iterator[TableRule[T]]:
        """Make the rules, one after another."""
        for (key, value), number in zip(self.values.items(), self.ids, strict=True):
            yield self.rule(key, value, number)

    def rule(self, key: Any, value: T, number: int) -> TableRule[T]:
        """Make the rule that has this key, value and number."""
        wanted = (key,) if len(self.features) == 1 else reversed(key)
        conditions = tuple(zip(self.features, wanted, strict=True))
        return TableRule(value, conditions, None if number == -1 else number)

    def close_to(self, context: Context) -> Iterator[CloseRule[T]]:
        """Find the rules that have at most one condition which *context* does not meet."""
        at: Any = tuple([context.get(name) for name in reversed(self.features)])
        if len(at) == 1:
            for place, key in enumerate(self.values):
                yield CloseRule(self, self.rank, place, key, key != at[0])
            return
        for place, key in enumerate(self.values):
            unmet = sum(map(ne, key, at))
            if unmet < 2:
                yield CloseRule(self, self.rank, place, key, unmet == 1)


class _Rest(RuleGroup[T]):
    """The rules of all sets of features that have no group of their own.

    A key begins with the rank of the rule's set. A group for each of very many sets would take most of
    the memory, and the garbage collector would stop all threads while it visits their objects.
    """

    __slots__ = ("_place",)

    def __init__(self, place: Mapping[str, int]) -> None:
        super().__init__((), -1)
        self._place = place

    def _keys(
        self,
        listed: tuple[str, ...],
        conditions: Sequence[tuple[tuple[str, str], ...]],
        strings: SharedStrings,
    ) -> Sequence[Any]:
        features, rank = _ranked(listed, self._place)
        ranks = [rank] * len(conditions)
        columns = map(strings.shared, _columns(features, listed, conditions))
        return [*zip(ranks, *columns, strict=True)]

    def groups(self) -> Iterator[RuleGroup[T]]:
        """Make a group for each set, by rank, the lowest first. They cannot be extended."""
        keys = iter(self.values)
        runs: list[list[Any]] = []
        while run := [*islice(keys, RUN)]:
            runs.append(sorted(run, key=_rank_of_key))
        for rank, of_rank in groupby(merge(*runs, key=_rank_of_key), _rank_of_key):
            names = tuple([name for name, place in self._place.items() if rank >> place & 1])
            group = RuleGroup[T](names, rank)
            for key in of_rank:
                group.values[key[1] if len(names) == 1 else key[1:]] = self.values[key]
            yield group

    def rule(self, key: Any, value: T, number: int) -> TableRule[T]:
        features = [name for name, place in self._place.items() if key[0] >> place & 1]
        conditions = tuple(zip(features, reversed(key[1:]), strict=True))
        return TableRule(value, conditions, None if number == -1 else number)

    def close_to(self, context: Context) -> Iterator[CloseRule[T]]:
        at: dict[int, tuple[object, ...]] = {}
        close: list[CloseRule[T]] = []
        for place, key in enumerate(self.values):
            rank = key[0]
            if rank not in at:
                names = [name for name, place in self._place.items() if rank >> place & 1]
                at[rank] = rank, *[context.get(name) for name in reversed(names)]
            unmet = sum(map(ne, key, at[rank]))
            if unmet < 2:
                close.append(CloseRule(self, rank, place, key, unmet == 1))
        yield from sorted(close, key=_rank, reverse=True)


def _columns(
    features: Sequence[str],
    listed: tuple[str, ...],
    conditions: Sequence[tuple[tuple[str, str], ...]],
) -> list[list[str]]:
    """Return the values that the conditions ask for, by feature, the latest one first."""
    places = map(listed.index, reversed(features))
    return [[each[place][1] for each in conditions] for place in places]


def _ranked(listed: tuple[str, ...], place: Mapping[str, int]) -> tuple[tuple[str, ...], int]:
    """Return features in the service's order, and the rank of their set.

    That has a bit for each feature, the highest for the latest one. *place* has the place of each feature
    in the service's order.
    """
    features = tuple(sorted(listed, key=place.__getitem__))
    return features, sum([1 << place[name] for name in features])


class GroupedRules(Sequence[TableRule[T]]):
    """Rules by group. As a sequence it makes each rule when it is asked for.

    Do not change it once it is published. Of rules with equal conditions only the newest is kept.

    Args:
        order: the context features in the service's order; those that no rule uses may be left out.
        rules: the first rules.

    Attributes:
        order: as given.
        used: a bit for each feature that a rule has a condition on, the lowest for the first feature.
    """

    __slots__ = ("_groups", "_listed", "_place", "_rest", "order", "used")

    def __init__(self, order: Sequence[str], rules: Iterable[TableRule[T]] = ()) -> None:
        self.order = order
        self.used = 0
        self._place = {name: place for place, name in enumerate(order)}
        self._groups: dict[tuple[str, ...], RuleGroup[T]] = {}
        # By the features as rules list them, which is mostly the service's order.
        self._listed: dict[tuple[str, ...], RuleGroup[T]] = {}
        self._rest: _Rest[T] = _Rest(self._place)
        strings = SharedStrings()
        for rule in rules:
            listed = tuple([feature for feature, _ in rule.conditions])
            number = -1 if rule.rule_id is None else rule.rule_id
            self.group_of(listed).extend(listed, [rule.value], [rule.conditions], [number], strings)

    def ranked(self) -> Iterable[RuleGroup[T]]:
        """Return a group for each set of features, the sets that win last; many of them one by one."""
        groups = sorted(self._groups.values(), key=_rank)
        return merge(groups, self._rest.groups(), key=_rank) if self._rest else groups

    def number_of(self, features: tuple[str, ...], key: Any) -> int | None:
        """Return the service's number for a rule, -1 for none; None if there is no such rule.

        Args:
            features: those of its conditions, in the service's order.
            key: the values of its conditions, as in `RuleGroup.values`.
        """
        group = self._groups.get(features)
        if group is not None:
            return group.number_of(key)
        _, rank = _ranked(features, self._place)
        return self._rest.number_of((rank, key) if len(features) == 1 else (rank, *key))

    def close_to(self, context: Context) -> Iterator[CloseRule[T]]:
        """Find the rules that have at most one condition which *context* does not meet, the best first."""
        groups = sorted(self._groups.values(), key=_rank, reverse=True)
        close = chain.from_iterable(group.close_to(context) for group in groups)
        return (
            merge(close, self._rest.close_to(context), key=_rank, reverse=True)
            if self._rest
            else close
        )

    def group_of(self, listed: tuple[str, ...]) -> RuleGroup[T]:
        """Return the group for rules on these features; create it if it does not exist."""
        group = self._listed.get(listed)
        if group is None:
            features, rank = _ranked(listed, self._place)
            self.used |= rank
            group = self._groups.get(features)
            if group is None:
                if len(self._groups) >= MOST_GROUPS:
                    return self._rest
                group = self._groups[features] = RuleGroup(features, rank)
            self._listed[listed] = group
        return group

    def __len__(self) -> int:
        return sum(map(len, (*self._groups.values(), self._rest)))

    def __iter__(self) -> Iterator[TableRule[T]]:
        for group in (*self._groups.values(), self._rest):
            yield from group.rules()

    @overload
    def __getitem__(self, index: int) -> TableRule[T]: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[TableRule[T]]: ...
    def __getitem__(self, index: int | slice) -> TableRule[T] | Sequence[TableRule[T]]:
        return tuple(self)[index]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, (tuple, GroupedRules)) and tuple(self) == tuple(
            cast(Iterable[object], other)
        )

    def __hash__(self) -> int:
        return hash(tuple(self))

    def __repr__(self) -> str:
        return repr(tuple(self))


def grouped(order: Sequence[str], rules: Sequence[TableRule[T]]) -> GroupedRules[T]:
    """Return *rules* by group."""
    return cast(GroupedRules[T], rules) if _is_grouped(rules) else GroupedRules(order, rules)


# For type checkers: isinstance() does not say what the rules are of.
def _is_grouped(rules: object) -> bool:
    return isinstance(rules, GroupedRules)
