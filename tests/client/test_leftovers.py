"""The census of leftovers sees everything that a running client has, as tests rely on."""

from __future__ import annotations

from support.harness import Harness
from support.leftovers import Leftovers
from support.misbehaving import MisbehavingServer, http
from support.scenes import Scene


def test_the_task_thread_or_greenlet_of_a_running_client_is_found(backend: Harness) -> None:
    scene = Scene(backend)

    async def body() -> None:
        leftovers = Leftovers()
        async with scene.client():
            kind = {"thread": "threads", "gevent": "greenlets"}.get(backend.name, "tasks")
            assert leftovers.found()[kind] >= 1
        await leftovers.gone(backend)

    backend.run(body)


def test_the_socket_of_a_connected_client_is_found(backend: Harness) -> None:
    async def body() -> None:
        leftovers = Leftovers()
        client = backend.client(server.url, 60, ["user"])
        await client.ping()
        # Both ends of the connection are in this process.
        assert leftovers.found()["sockets"] == 2
        await client.close()
        await leftovers.gone(backend)

    with MisbehavingServer(http(b'{"version":"test"}')) as server:
        backend.run(body)
