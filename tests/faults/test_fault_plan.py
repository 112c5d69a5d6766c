"""Which requests meet which fault: conditions, order, counting, the seed."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heksher.exceptions import InvalidArgumentError
from heksher.testing.faults import Certificate, Delay, Fault, Faults, Refuse, Status

QUERY = "/api/v1/query"


def met(faults: Faults, count: int, method: str = "GET", path: str = QUERY) -> list[Fault | None]:
    """What so many equal requests meet."""
    rules = [faults.meet_request(method, path) for _ in range(count)]
    return [None if rule is None else rule.fault for rule in rules]


def hit(faults: Faults, count: int) -> list[int]:
    """The numbers of those that meet a fault."""
    return [number for number, fault in enumerate(met(faults, count), 1) if fault is not None]


def test_without_rules_nothing_happens() -> None:
    assert met(Faults(), 3) == [None] * 3


@pytest.mark.parametrize(
    ("when", "numbers"),
    [
        ({}, [1, 2, 3, 4, 5, 6]),
        ({"nth": 2}, [2]),
        ({"every": 3}, [3, 6]),
        ({"first": 2}, [1, 2]),
        ({"every": 2, "first": 4}, [2, 4]),
        ({"share": 0.0}, []),
        ({"share": 1.0}, [1, 2, 3, 4, 5, 6]),
        ({"method": "GET"}, [1, 2, 3, 4, 5, 6]),
        ({"method": "POST"}, []),
        ({"path": "/api/*/query"}, [1, 2, 3, 4, 5, 6]),
        ({"path": "/api/v1/rules"}, []),
    ],
    ids=str,
)
def test_conditions(when: dict[str, Any], numbers: list[int]) -> None:
    faults = Faults()
    rule = faults.add(Status(), **when)
    assert hit(faults, 6) == numbers
    assert rule.hits == len(numbers)


def test_only_requests_that_are_asked_about_are_counted() -> None:
    faults = Faults()
    faults.add(Status(), method="POST", path="/a", nth=2)
    assert met(faults, 2, "POST", "/b") == met(faults, 2, "GET", "/a") == [None, None]
    assert met(faults, 3, "POST", "/a") == [None, Status(), None]


def test_the_first_rule_counts_and_all_go_on_counting() -> None:
    faults = Faults()
    faults.add(Status(500), nth=2)
    every = faults.add(Status(503), every=2)
    assert met(faults, 4) == [None, Status(500), None, Status(503)]
    assert every.hits == 1


def test_what_came_is_listed_with_what_it_met() -> None:
    faults = Faults()
    faults.add(Delay(1), nth=2)
    faults.meet_request("GET", QUERY, "a=b", {"if-none-match": '"x"'})
    faults.meet_request("POST", "/rules")
    first, second = faults.requests
    assert (first.method, first.path, first.query, first.fault) == ("GET", QUERY, "a=b", None)
    assert first.headers["if-none-match"] == '"x"'
    assert (second.path, second.fault) == ("/rules", Delay(1))


def test_what_came_long_ago_is_forgotten() -> None:
    faults = Faults()
    for number in range(25_000):
        faults.meet_request("GET", f"/{number}")
    assert faults.requests[-1].path == "/24999"
    assert 10_000 <= len(faults.requests) <= 20_000
    paths = [int(each.path[1:]) for each in faults.requests]
    assert paths == list(range(paths[0], 25_000))


def test_neither_query_nor_headers_are_shown() -> None:
    faults = Faults()
    faults.meet_request("GET", QUERY, "user=secret", {"api_token": "secret"})
    assert "secret" not in repr(faults.requests)


def test_rules_end() -> None:
    faults = Faults()
    first = faults.add(Status(500))
    with faults.add(Status(503)) as second:
        assert not second.over.is_set()
        first.remove()
        first.remove()  # once more is harmless
        assert faults.rules == (second,)
    assert first.over.is_set() and second.over.is_set()
    last = faults.add(Status())
    faults.clear()
    assert last.over.is_set()
    assert not faults.rules
    assert met(faults, 1) == [None]


@given(st.integers(), st.floats(0, 1), st.floats(0, 1))
def test_a_seed_reproduces(seed: int, one: float, other: float) -> None:
    def chosen() -> list[Fault | None]:
        faults = Faults(seed)
        faults.add(Status(500), share=one)
        faults.add(Status(503), share=other)
        return met(faults, 50)

    assert chosen() == chosen()


def test_a_seed_reproduces_in_the_order_of_arrival_whoever_asks() -> None:
    def begun(seed: int) -> Faults:
        faults = Faults(seed)
        faults.add(Status(500), share=0.3)
        faults.add(Status(503), every=7)
        return faults

    alone, crowd = begun(7), begun(7)
    met(alone, 200)
    with ThreadPoolExecutor(4) as pool:
        for _ in range(4):
            pool.submit(met, crowd, 50)
    assert [seen.fault for seen in crowd.requests] == [seen.fault for seen in alone.requests]


def test_seeds_differ_and_shares_are_about_right() -> None:
    def chosen(seed: int) -> list[int]:
        faults = Faults(seed)
        faults.add(Status(), share=0.2)
        return hit(faults, 1000)

    assert chosen(1) != chosen(2)
    assert 120 < len(chosen(1)) < 280  # more than six standard deviations each way


def test_rules_of_one_share_draw_independently() -> None:
    faults = Faults()
    rules = [faults.add(Status(500 + number), share=0.5) for number in range(2)]
    met(faults, 200)
    assert all(rule.hits for rule in rules)  # the second one meets some that the first one doesn't


def test_after_clearing_a_seed_begins_anew() -> None:
    faults = Faults(3)
    faults.add(Status(), share=0.5)
    before = hit(faults, 50)
    faults.clear()
    faults.add(Status(), share=0.5)
    assert hit(faults, 50) == before


def test_connections_and_requests_are_counted_apart() -> None:
    faults = Faults()
    certificate = faults.add(Certificate("host"), nth=2)
    status = faults.add(Status(), nth=1)
    assert [faults.meet_connection() for _ in range(2)] == [None, certificate]
    assert faults.meet_request("GET", QUERY) is status
    assert len(faults.requests) == 1


def test_a_refusal_that_asks_for_nothing_closes_the_port() -> None:
    faults = Faults()
    faults.add(Refuse(), nth=3)
    assert not faults.refuses_all
    faults.add(Refuse(), delay=1)
    assert not faults.refuses_all
    with faults.add(Refuse()):
        assert faults.refuses_all
    assert not faults.refuses_all


def test_changes_are_told() -> None:
    faults, told = Faults(), [0]

    def changed() -> None:
        told.append(len(faults.rules))

    faults.changed = changed
    faults.add(Status()).remove()
    faults.add(Status())
    faults.clear()
    assert told == [0, 1, 0, 1, 0]


@pytest.mark.parametrize(
    ("when", "message"),
    [
        ({"nth": 0}, "nth=0: expected 1 or more"),
        ({"every": -1}, "every=-1: expected 1 or more"),
        ({"first": 0}, "first=0: expected 1 or more"),
        ({"share": 20}, "share=20: expected a number from 0 to 1"),
        ({"method": "get"}, "method='get': expected one of CONNECT, DELETE, GET"),
        ({"delay": -0.5}, "delay=-0.5: expected 0 or more seconds"),
        ({"delay": float("nan")}, "delay=nan: expected 0 or more seconds"),
        ({"path": "api"}, "path='api': expected a path that starts with '/' or '\\*'"),
    ],
    ids=str,
)
def test_conditions_that_cannot_be(when: dict[str, Any], message: str) -> None:
    faults = Faults()
    with pytest.raises(InvalidArgumentError, match=message):
        faults.add(Status(), **when)
    assert faults.rules == ()


def test_a_certificate_asks_for_no_path() -> None:
    with pytest.raises(InvalidArgumentError, match="before there is a method or a path"):
        Faults().add(Certificate(), path=QUERY)


def test_a_certificate_needs_tls() -> None:
    with pytest.raises(InvalidArgumentError, match="tls=True"):
        Faults(has_tls=False).add(Certificate())


def test_a_text_is_added_as_a_whole_or_not_at_all() -> None:
    faults = Faults(has_tls=False)
    rules = faults.load("status(503) nth 2; delay(0.1); seed 7")
    assert faults.rules == rules
    assert [rule.fault for rule in rules] == [Status(503), Delay(0.1)]
    assert faults.seed == 7
    for text in ("reset; certificate(host); seed 8", "reset; nonsense; seed 8"):
        with pytest.raises(InvalidArgumentError):
            faults.load(text)
    assert (faults.rules, faults.seed) == (rules, 7)
