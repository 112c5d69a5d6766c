"""Many rules in little memory: grouped by the features of their conditions, in the dicts of look-ups.

Pure. A `TableRule` costs hundreds of bytes, and the garbage collector visits it; here a rule is an
entry of a dict that a call needs in any case, and a number.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from heapq import merge
from itertools import chain, groupby, islice, repeat
from operator import add, attrgetter, getitem, itemgetter, ne
from typing import Any, Final, Generic, TypeAlias, TypeVar, cast, overload

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


#: Where a rule is: its rank, its group, its place there, and its key.
_Place: TypeAlias = "tuple[int, RuleGroup[T], int, Any]"


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
        about 70 bytes for each: looking through all of them takes too long for each explanation.
        """
        if key not in self.values:
            return None
        if self._places is None:
            self._places = {key: place for place, key in enumerate(self.values)}
        return self.ids[self._places[key]]

    def rules(self) -> Iterator[TableRule[T]]:
        """Make the rules, one after another."""
        for (key, value), number in zip(self.values.items(), self.ids, strict=True):
            yield self.rule(key, value, number)

    def rule(self, key: Any, value: T, number: int) -> TableRule[T]:
        """Make the rule that has this key, value and number."""
        wanted = (key,) if len(self.features) == 1 else reversed(key)
        conditions = tuple(zip(self.features, wanted, strict=True))
        return TableRule(value, conditions, None if number == -1 else number)

    def unmet(self, context: Context) -> array[int]:
        """Return how many conditions of each rule *context* does not meet."""
        at: tuple[Any, ...] = tuple([context.get(name) for name in reversed(self.features)])
        if len(at) == 1:
            return _in_runs(self.values, lambda run: map(ne, run, repeat(at[0])))

        def count(run: list[Any]) -> Iterable[int]:
            # By columns: half the time of going through each key.
            counts: Iterable[int] = repeat(0, len(run))
            for place, value in enumerate(at):
                counts = map(add, counts, map(ne, map(itemgetter(place), run), repeat(value)))
            return counts

        return _in_runs(self.values, count)

    def places(self, unmet: array[int], number: int, limit: int) -> list[_Place[T]]:
        """Return where the first *limit* rules with this number of unmet conditions are."""
        count = min(unmet.count(number), limit)
        keys = [*self.values] if count else []
        places: list[_Place[T]] = []
        place = -1
        for _ in range(count):
            place = unmet.index(number, place + 1)
            places.append((self.rank_of(keys[place]), self, place, keys[place]))
        return places

    def rank_of(self, _key: Any) -> int:
        """Return the rank of the rule with this key."""
        return self.rank


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

    def rank_of(self, key: Any) -> int:
        rank: int = key[0]
        return rank

    def unmet(self, context: Context) -> array[int]:
        values = [context.get(name) for name in self._place]
        eights = [_subsets(values[start : start + 8]) for start in range(0, len(values), 8)][::-1]

        def at(key: Any) -> Iterable[Any]:
            """Return the key of a rule on the same features that *context* meets."""
            rank: int = key[0]
            parts = map(getitem, eights, rank.to_bytes(len(eights)))
            return chain((rank,), chain.from_iterable(parts))

        return _in_runs(self.values, lambda run: map(sum, map(map, repeat(ne), run, map(at, run))))


def _rule_at(where: _Place[T]) -> TableRule[T]:
    _, group, place, key = where
    return group.rule(key, group.values[key], group.ids[place])


def _in_runs(keys: Iterable[Any], count: Callable[[list[Any]], Iterable[int]]) -> array[int]:
    """Return what *count* says of all keys, with turns for other threads in between."""
    counts = array("H")
    left = iter(keys)
    while run := [*islice(left, RUN)]:
        counts.extend(count(run))
    return counts


def _subsets(values: Sequence[Any]) -> list[tuple[Any, ...]]:
    """Return the values of each set of up to eight features, by its bits; the latest feature is first."""
    subsets: list[tuple[Any, ...]] = [()]
    for value in values:
        subsets += [(value, *each) for each in subsets]
    return subsets


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

    def close_to(
        self, context: Context, limit: int
    ) -> tuple[list[TableRule[T]], list[TableRule[T]], int]:
        """Find the rules that match *context*, and those with exactly one condition that it does not meet.

        Returns:
            the rules that match, and the first *limit* of the others, both by priority, and how many of
            the others there are.
        """
        matching: list[_Place[T]] = []
        near: list[_Place[T]] = []
        total = 0
        for group in (*self._groups.values(), self._rest):
            unmet = group.unmet(context)
            total += unmet.count(1)
            matching += group.places(unmet, 0, len(unmet))
            # In the rest, the rules that win are not the first ones.
            near += group.places(unmet, 1, len(unmet) if group is self._rest else limit)
        matching.sort(key=_rank_of_key, reverse=True)
        near.sort(key=_rank_of_key, reverse=True)
        return [*map(_rule_at, matching)], [*map(_rule_at, near[:limit])], total

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
