"""What belongs to the whole process is the application's: a client neither uses up nor depends on it."""

from __future__ import annotations

import random

import pytest
from support.harness import Harness
from support.scenes import INTERVAL, Scene

from heksher import Setting


@pytest.fixture
def scene(backend: Harness) -> Scene:
    return Scene(backend)


def test_a_client_takes_no_number_from_the_global_random_generator(scene: Scene) -> None:
    """A seeded program, such as a simulation, has the same results with and without a client."""
    ttl = Setting("ttl", int, ["user"], 60)

    async def body() -> None:
        async with scene.client(random=None) as client:
            await client.reload()
            await scene.pass_time(INTERVAL)

    before = random.getstate()
    scene.run(body)
    assert random.getstate() == before
    assert scene.polls > 2
    assert ttl.get(user="jim") == 60


def test_processes_with_the_same_seed_do_not_poll_in_step(backend: Harness) -> None:
    ttl = Setting("ttl", int, ["user"], 60)
    waits: list[float | None] = []

    async def body() -> None:
        random.seed(7)
        scene = Scene(backend)
        async with scene.client(random=None):
            waits.append(await scene.asked())

    before = random.getstate()
    for _ in range(2):
        backend.run(body)
    random.setstate(before)
    assert waits[0] != waits[1]
    assert ttl.get(user="jim") == 60
