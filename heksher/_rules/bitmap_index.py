"""One look-up in the rules on very many sets of features: a bitmap index.

Pure. With one dict for each set of features, a call looks into one dict after another, and k features
have 2**k sets. Whoever may add rules could so make each call take milliseconds. Here the time of a call
depends on the number of rules, and not on the number of their sets.

Each rule has a bit. For each value of a feature the index has the bits of all rules that may still match:
those with this condition, and those with no condition on the feature. A call combines these numbers, one
for each feature, by AND. The highest bit that is left is the rule that wins. So one operation of the
interpreter handles hundreds of rules. Routers classify packets in this way, as the bit vector scheme.

A call takes at most one step for each feature and each block of 512 rules, and one look-up for each set
with more than 128 rules.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Sequence
from operator import itemgetter
from typing import Any, Final, NamedTuple

from heksher._rules.contexts import MISSING

#: Rules in one block, and so the bits of its numbers. Larger blocks take less time for each rule, and more
#: memory where rules have different values: each value of a feature has a number of this size.
BLOCK: Final = 512

#: A set of features with more rules than this keeps its dict: looking into it takes less time than going
#: through the bits of its rules, and no memory.
LARGE: Final = 128


class _Block(NamedTuple):
    """The index of some rules, of which the last one wins. The first one has the lowest bit.

    Attributes:
        everything: the bits of all rules.
        columns: for each feature that a condition is on: its place in the key, the ``get`` of the bits by
            value, and the bits for all other values.
        ranks: the rank of each rule's set.
        values: the rules' values.
    """

    everything: int
    columns: list[tuple[int, Callable[..., int], int]]
    ranks: array[int]
    values: list[Any]


class _Growing:
    """A block that gets its rules one after another.

    It keeps no object for each rule: with many the garbage collector would stop all threads for long.
    """

    def __init__(self) -> None:
        self._bits: dict[int, dict[str, int]] = {}
        self._ranks = array("q")
        self._values: list[Any] = []

    def __len__(self) -> int:
        return len(self._values)

    def add(self, rank: int, conditions: Iterable[tuple[int, str]], value: Any) -> None:
        """Add a rule; its conditions are on places in the key."""
        bit = 1 << len(self._values)
        for place, wanted in conditions:
            column = self._bits.setdefault(place, {})
            column[wanted] = column.get(wanted, 0) | bit
        self._ranks.append(rank)
        self._values.append(value)

    def block(self) -> _Block:
        """Return the block."""
        everything = (1 << len(self._values)) - 1
        columns: list[tuple[int, Callable[..., int], int]] = []
        for place, column in self._bits.items():
            others = everything
            for bits in column.values():
                others &= ~bits
            column = {wanted: bits | others for wanted, bits in column.items()}
            columns.append((place, column.get, others))
        return _Block(everything, columns, self._ranks, self._values)


class BitmapIndex:
    """Rules on many sets of features, with the ``get`` of a dict. Never changed once it is made.

    Args:
        key: the features whose values are the key of a look-up, at least two.
        sets: the features of each set, and the values of its rules by key: the value of the only feature,
            or else a tuple. The sets that win come last.
    """

    __slots__ = ("_blocks", "_dicts")

    def __init__(
        self, key: Sequence[str], sets: Iterable[tuple[tuple[str, ...], dict[Any, Any]]]
    ) -> None:
        place_of = {name: place for place, name in enumerate(key)}
        dicts: list[tuple[int, Callable[[Any], Any], Callable[..., Any]]] = []
        blocks: list[_Block] = []
        growing = _Growing()
        for rank, (names, values) in enumerate(sets):
            places = [place_of[name] for name in names]
            if len(values) > LARGE:
                dicts.append((rank, itemgetter(*places), values.get))
                continue
            for wanted, value in values.items():
                if len(growing) == BLOCK:
                    blocks.append(growing.block())
                    growing = _Growing()
                wanted_values = (wanted,) if len(places) == 1 else wanted
                growing.add(rank, zip(places, wanted_values, strict=True), value)
        # What wins is looked for first.
        self._blocks = (growing.block(), *reversed(blocks))
        self._dicts = dicts[::-1]

    def winning_features(self, key: Any, names: tuple[str, ...]) -> set[str]:
        """Return those of *names* that the rule which wins has a condition on.

        Args:
            key: as in `get`, which finds a rule.
            names: the features in the key.
        """
        winner, features = -1, set[str]()
        for matching, columns, ranks, _ in self._blocks:
            for place, bits_of, others in columns:
                matching &= bits_of(key[place], others)
            if matching:
                row = matching.bit_length() - 1
                winner = ranks[row]
                # A rule without a condition on a feature matches all other values as well.
                features = {names[place] for place, _, others in columns if not others >> row & 1}
                break
        for rank, part_of, value_of in self._dicts:
            if rank < winner:
                break
            if value_of(part_of(key), MISSING) is not MISSING:
                found = part_of(names)
                return {found} if isinstance(found, str) else {*found}
        return features

    def get(self, key: Any, default: Any) -> Any:
        """Return the value of the rule that wins, or *default* if none matches."""
        winner = -1
        for matching, columns, ranks, values in self._blocks:
            for place, bits_of, others in columns:
                matching &= bits_of(key[place], others)
                if not matching:
                    break
            if matching:
                row = matching.bit_length() - 1
                winner, default = ranks[row], values[row]
                break
        for rank, part_of, value_of in self._dicts:
            if rank < winner:
                break
            value = value_of(part_of(key), MISSING)
            if value is not MISSING:
                return value
        return default
