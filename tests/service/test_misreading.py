"""The test service with misread filters misreads them like the recorded original."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from support.misreading import misread, misread_query
from transcript_replay import (
    Answer,
    Difference,
    KnownDifferences,
    Request,
    Scenario,
    call,
    replay,
    scenarios,
)

from heksher.service import create_app

_MISREAD = [
    scenario
    for scenario in scenarios("query_filters")
    if scenario.key in KnownDifferences.read().of_fix("3")
]


@pytest.mark.parametrize("scenario", _MISREAD, ids=lambda scenario: scenario.name)
def test_what_the_original_misread_is_answered_as_recorded(scenario: Scenario) -> None:
    async def replayed() -> dict[int, Difference]:
        app = create_app(features=scenario.features)

        async def send(request: Request) -> Answer:
            query = None if request.query is None else misread_query(request.query)
            return await call(app, replace(request, query=query))

        async with app.router.lifespan_context(app):
            return await replay(scenario, send)

    assert asyncio.run(replayed()) == {}


def test_there_are_recordings_of_it() -> None:
    assert len(_MISREAD) >= 10


@pytest.mark.parametrize(
    ("filters", "read"),
    [
        ("", ""),
        ("*", "*"),
        ("user:*,theme:(dark,b1_)", "user:*,theme:(dark,b1_)"),
        ("my_feature:*", "feature:*"),
        ("user2:(a),theme:*", "theme:*"),
        ("UPPER:*", ""),
        ("Mixed:*", "ixed:*"),
        ("user: *", "user: *"),
    ],
)
def test_what_is_left_of_a_filter(filters: str, read: str) -> None:
    assert misread(filters) == read
