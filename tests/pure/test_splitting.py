"""How a query is split where something on the way refuses long URLs, or words in them."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from heksher._client.splitting import Limits, Part, Parts, may_be_limited
from heksher._wire.queries import MAX_QUERY_LENGTH
from heksher.exceptions import ServiceError, ServiceUnreachableError, UnexpectedStatusError

NAMES = [f"number_{place:04}" for place in range(1000)]


class Way:
    """Something on the way to the service that refuses some requests.

    Attributes:
        asked: the parts and probes that were asked for.
        answered: the names that were answered, probes aside.
        failed: the names of the parts that failed because nothing was answered.
    """

    def __init__(self, passes: Callable[[Part], bool]) -> None:
        self._passes = passes
        self.asked: list[Part] = []
        self.answered: list[str] = []
        self.failed: list[str] = []

    def ask(self, parts: Parts) -> None:
        while (part := parts.next()) is not None:
            if self._is_answered(parts, part):
                self.answered += part.names
                continue
            for probe in parts.probes(part):
                self._is_answered(parts, probe)
            if not parts.are_answered:
                self.failed += part.names
            else:
                parts.halve(part)

    def _is_answered(self, parts: Parts, part: Part) -> bool:
        self.asked.append(part)
        if not self._passes(part):
            return False
        parts.note_answered(part)
        return True


def without(*words: str, length: float = math.inf) -> Way:
    """Return a way that refuses targets with one of these words, and longer ones than *length*."""
    return Way(
        lambda part: len(part.target) <= length and not any(word in part.target for word in words)
    )


def pieces_of(parts: Parts) -> list[Part]:
    return list(iter(parts.next, None))


@pytest.mark.parametrize("filters", [None, "user:*", f"user:({'x' * 3000})"])
@pytest.mark.parametrize("limit", [40, 100, 300, 1000, 2048, 4096, 7000])
def test_all_names_are_answered_in_their_order_if_one_is(limit: int, filters: str | None) -> None:
    way, parts = without(length=limit), Parts(NAMES, filters, Limits())
    way.ask(parts)
    assert (way.answered, way.failed) == (NAMES, [])
    assert not parts.limits.refused
    assert min(limit, 256) // 2 <= parts.limits.length <= max(limit, 256)
    # The next query begins with what was found.
    following = pieces_of(Parts(NAMES, filters, parts.limits))
    assert all(len(part.target) <= max(limit, 256) for part in following)


@pytest.mark.parametrize("filters", [None, "user:*"])
def test_nothing_is_split_if_nothing_is_answered(filters: str | None) -> None:
    way, parts = without("query"), Parts(NAMES, filters, Limits())
    number = len(pieces_of(Parts(NAMES, filters, Limits())))
    way.ask(parts)
    assert way.failed == NAMES
    assert len(way.asked) == number + (2 if filters is None else 4)
    assert parts.limits == Limits(probed=frozenset(NAMES[:2])), "other names are tried next"


def test_little_is_asked_for_once_nothing_is_answered_any_more() -> None:
    """Even if that begins while parts are halved because of something else."""
    parts = Parts(NAMES, None, Limits())
    way = Way(lambda part: len(way.asked) < 10 and NAMES[0] not in part.names)
    way.ask(parts)
    assert way.failed
    assert len(way.asked) < 30


@pytest.mark.parametrize(
    "error",
    [
        ServiceUnreachableError("gone"),
        *[UnexpectedStatusError("no", status) for status in (401, 405, 422, 429, 500)],
    ],
    ids=str,
)
def test_other_errors_say_nothing_about_the_request(error: ServiceError) -> None:
    assert not may_be_limited(error)


def test_a_name_that_is_too_long_is_refused_alone() -> None:
    names = ["a" * 3000, "b", "c"]
    way, parts = without(length=2048), Parts(names, None, Limits())
    way.ask(parts)
    assert way.answered == ["b", "c"]
    assert parts.limits.refused == {names[0]}


@pytest.mark.parametrize("filters", [None, "user:*"])
@pytest.mark.parametrize(
    "odd",
    [[NAMES[0]], [NAMES[499]], [NAMES[-1]], ["a"], NAMES[100:102], NAMES[7:1000:300]],
    ids=lambda odd: "-".join(odd),
)
def test_names_that_are_refused_cost_few_requests(odd: list[str], filters: str | None) -> None:
    names = ["a", "bb", *NAMES]
    way, parts = Way(lambda part: not set(odd) & set(part.names)), Parts(names, filters, Limits())
    number = len(pieces_of(Parts(names, filters, Limits())))
    way.ask(parts)
    assert sorted(way.answered) == sorted(set(names) - set(odd))
    assert parts.limits == Limits(refused=frozenset(odd)), "no shorter length"
    assert len(way.asked) <= number + len(odd) * 4 * math.log2(len(names))


def test_names_that_were_refused_cost_one_request_more() -> None:
    odd = NAMES[7:1000:300]
    way = Way(lambda part: not set(odd) & set(part.names))
    parts = Parts(NAMES, None, Limits(refused=frozenset(odd)))
    way.ask(parts)
    assert len(way.asked) == len(pieces_of(Parts(NAMES, None, Limits()))) + 1
    assert parts.limits.refused == set(odd)
    # Once nothing refuses them any more, that is noticed.
    parts = Parts(NAMES, None, parts.limits)
    without().ask(parts)
    assert parts.limits == Limits()


def test_the_length_is_found_beside_a_name_that_is_refused() -> None:
    way, parts = without(NAMES[300], length=2000), Parts(NAMES, None, Limits())
    way.ask(parts)
    assert set(NAMES).difference(way.answered) == {NAMES[300]} == parts.limits.refused
    assert 1000 < parts.limits.length <= 2000


def test_a_filter_that_is_refused_is_left_out() -> None:
    number = len(pieces_of(Parts(NAMES, "user:select", Limits())))
    way, parts = without("select"), Parts(NAMES, "user:select", Limits())
    way.ask(parts)
    assert way.answered == NAMES
    assert len(way.asked) <= number + 4
    assert parts.limits == Limits(MAX_QUERY_LENGTH, takes_filters=False)
    assert all(part.filters is None for part in pieces_of(Parts(NAMES, "user:a", parts.limits)))


@pytest.mark.parametrize("refused", [frozenset[str](), frozenset("a")])
def test_beside_the_only_name_a_request_without_names_is_made(refused: frozenset[str]) -> None:
    way, parts = without("=a"), Parts(["a"], None, Limits(refused=refused))
    way.ask(parts)
    assert parts.limits.refused == {"a"}
    way, parts = without("query"), Parts(["a"], None, Limits(refused=refused))
    way.ask(parts)
    assert way.failed == ["a"]
    assert parts.limits.refused == refused
    assert len(way.asked) == 2


def test_other_names_are_tried_if_the_shortest_ones_are_refused() -> None:
    names = [*NAMES, "drop_1", "drop_2", "drop_3", "drop_4"]
    limits, way = Limits(), without("drop")
    for _ in range(3):
        way = without("drop")
        parts = Parts(names, None, limits)
        way.ask(parts)
        limits = parts.limits
    assert (sorted(way.answered), way.failed) == (NAMES, [])
    assert limits.refused == frozenset(names[-4:])
