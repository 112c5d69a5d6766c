"""How a query is split where something on the way refuses long URLs."""

from __future__ import annotations

import pytest

from heksher._client.splitting import Part, Parts
from heksher._wire.queries import MAX_QUERY_LENGTH
from heksher.exceptions import ServiceError, ServiceUnreachableError, UnexpectedStatusError

TOO_LONG = UnexpectedStatusError("too long", 414)
NAMES = [f"number_{place:04}" for place in range(1000)]


def ask(parts: Parts, limit: int, error: ServiceError = TOO_LONG) -> tuple[list[str], list[str]]:
    """Ask a service behind a limit for all parts; return the names that were answered, and the others."""
    answered: list[str] = []
    failed: list[str] = []
    while (part := parts.next()) is not None:
        if len(part.target) <= limit:
            parts.note_answered(part)
            answered += part.names
            continue
        probe = parts.probe(part, error)
        if probe is not None and len(probe.target) <= limit:
            parts.note_answered(probe)
        if not (parts.is_too_long(part, error) and parts.shorten(part)):
            failed += part.names
    return answered, failed


@pytest.mark.parametrize("filters", [None, "user:*", f"user:({'x' * 3000})"])
@pytest.mark.parametrize("limit", [40, 100, 300, 1000, 2048, 4096, 7000])
def test_all_names_are_answered_in_their_order_if_one_is(limit: int, filters: str | None) -> None:
    parts = Parts(NAMES, filters, MAX_QUERY_LENGTH)
    assert ask(parts, limit) == (NAMES, [])
    assert min(limit, 256) // 2 <= parts.length <= max(limit, 256)
    # The next query begins with what was found.
    following = Parts(NAMES, filters, parts.length)
    part = following.next()
    assert part is not None
    assert len(part.target) <= max(limit, 256)


def test_nothing_is_split_if_nothing_is_answered() -> None:
    parts = Parts(NAMES, None, MAX_QUERY_LENGTH)
    assert ask(parts, 10) == ([], NAMES)
    assert parts.length == MAX_QUERY_LENGTH


@pytest.mark.parametrize(
    "error",
    [
        ServiceUnreachableError("gone"),
        *[UnexpectedStatusError("no", status) for status in (401, 405, 422, 429, 500)],
    ],
    ids=str,
)
def test_other_errors_say_nothing_about_the_length(error: ServiceError) -> None:
    parts = Parts(NAMES, None, MAX_QUERY_LENGTH)
    part = Part(tuple(NAMES), None)
    assert parts.probe(part, error) is None
    parts.note_answered(Part(("a",), None))
    assert not parts.is_too_long(part, error)


def test_a_name_that_is_too_long_fails_alone() -> None:
    names = ["a" * 3000, "b", "c"]
    parts = Parts(names, None, MAX_QUERY_LENGTH)
    assert ask(parts, 2048) == (["b", "c"], ["a" * 3000])


def test_a_name_that_is_refused_for_itself_makes_no_query_shorter() -> None:
    """It may have been deleted a moment ago, or be one that a firewall dislikes."""
    parts = Parts(["short", *NAMES], None, MAX_QUERY_LENGTH)
    odd, failed = NAMES[0], list[str]()
    while (part := parts.next()) is not None:
        if odd not in part.names:
            parts.note_answered(part)
            continue
        probe = parts.probe(part, TOO_LONG)
        if probe is not None:
            parts.note_answered(probe)
        if not (parts.is_too_long(part, TOO_LONG) and parts.shorten(part)):
            failed += part.names
    assert failed == [odd]
    assert parts.length == MAX_QUERY_LENGTH


def test_one_name_is_asked_for_once() -> None:
    parts = Parts(NAMES, "user:*", MAX_QUERY_LENGTH)
    part = parts.next()
    assert part is not None
    assert parts.probe(part, TOO_LONG) == Part((NAMES[0],), None)
    assert parts.probe(part, TOO_LONG) is None
    single = Parts(["a"], None, MAX_QUERY_LENGTH)
    assert single.probe(Part(("a",), None), TOO_LONG) is None
