"""`heksher.override` over running clients: updates go on beneath it, and listeners and status know it."""

from __future__ import annotations

import os
import signal
import threading
import time
import warnings

import pytest
from support.harness import PATIENCE, Harness
from support.scenes import INTERVAL, Scene

import heksher
from heksher import Reason, Rule, Setting, ThreadHeksherClient, ValueChanged, _registry
from heksher._rules import getter
from heksher.exceptions import MissingFeatureError
from heksher.status import DataSource

JIM = {"environment": "dev", "user": "jim"}


@pytest.fixture
def scene(backend: Harness) -> Scene:
    return Scene(backend)


@pytest.fixture
def ttl() -> Setting[int]:
    return Setting("ttl", int, ["user", "environment"], 60)


def test_updates_go_on_beneath_and_are_in_force_after_the_block(
    scene: Scene, ttl: Setting[int]
) -> None:
    other = Setting("other", int, ["user"], 1)
    scene.service.add_rule("ttl", 5, user="jim")
    values: list[ValueChanged[int]] = []
    names: list[tuple[str, ...]] = []

    async def body() -> None:
        async with scene.client() as client:
            await scene.settled()
            ttl.on_change(values.append, **JIM)
            client.on_change(lambda event: names.append(event.names))
            with heksher.override(
                {ttl: [Rule({"environment": "dev"}, 7), Rule({"user": "eve"}, 8)]}
            ):
                assert ttl.get(**JIM) == 7
                assert ttl.get(environment="dev", user="eve") == 8, "the service's order counts"
                assert (values, names) == ([ValueChanged(ttl, 5, 7)], [("ttl",)])
                assert client.status.overrides == ("ttl",)
                assert str(client.status).endswith("overridden: ttl")
                scene.service.add_rule("ttl", 6, **JIM)
                scene.service.add_rule("other", 2, user="jim")
                await scene.pass_time(INTERVAL)
                assert (ttl.get(**JIM), other.get(user="jim")) == (7, 2)
                assert ttl.explain(**JIM).reason is Reason.OVERRIDE
                assert ttl.explain(**JIM).source is DataSource.SERVICE
                assert names[1:] == [("other",)], "nothing that is in force has changed"
            assert ttl.get(**JIM) == 6
            assert values[1:] == [ValueChanged(ttl, 7, 6)]
            assert names[2:] == [("ttl",)]
            assert not client.status.overrides
            scene.service.add_rule("ttl", 4, environment="prod")
            await client.reload()
            assert ttl.get(environment="prod", user="eve") == 4

    scene.run(body)
    assert ttl.get(**JIM) == 6


def test_an_override_from_before_the_start_lasts_and_the_client_demands_its_features(
    scene: Scene, ttl: Setting[int]
) -> None:
    scene.service.add_rule("ttl", 5, user="jim")

    async def body() -> None:
        with heksher.override({ttl: 7}):
            assert ttl.get() == 7
            async with scene.client() as client:
                client.set_defaults(environment="dev")
                assert ttl.get(user="jim") == 7
                with pytest.raises(MissingFeatureError):
                    ttl.get()
        assert ttl.get(user="jim") == 5

    scene.run(body)


@pytest.mark.integration
@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_child_has_the_overrides_of_its_parent_and_inherits_no_lock_locked(
    ttl: Setting[int],
) -> None:
    """It is forked while another thread changes what a setting answers from."""
    client = ThreadHeksherClient("http://127.0.0.1:9", 60, ["user"])  # with it come the fork hooks
    held, forked = threading.Event(), threading.Event()

    def change_until_the_fork_has_begun() -> None:
        with getter.lock:
            held.set()
            while not forked.is_set() and _registry.lock.acquire(blocking=False):
                _registry.lock.release()
                time.sleep(0)  # lets the other thread run

    thread = threading.Thread(target=change_until_the_fork_has_begun)
    with heksher.override({ttl: 5}):
        thread.start()
        assert held.wait(PATIENCE)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*multi-threaded", DeprecationWarning)
            child = os.fork()
        if child == 0:
            signal.alarm(int(PATIENCE))  # ends a child that hangs
            inherited = ttl.get()
            with heksher.override({ttl: 6}):
                os._exit(0 if (inherited, ttl.get()) == (5, 6) else 1)
        forked.set()
        thread.join()
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    client.close()
