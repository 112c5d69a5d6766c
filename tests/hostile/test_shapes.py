"""A few hostile shapes on every backend: no setting gets a wrong value, and the next honest answer counts.

`measure_shapes.py` measures all of them in full size.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import threading
import time

import pytest
from shapes import HONEST, SHAPES
from support.harness import Harness
from support.misbehaving import MisbehavingServer, http

from heksher import Setting
from heksher._wire import QueryAnswer, Response, decode_section, query
from heksher.exceptions import HeksherError, InvalidResponseError

# The bytes of an answer here.
SIZE = 500_000
CHOSEN = [
    "query: deep default value",
    "query: just too deep everywhere",
    "query: many sections",
    "query: rules are zeros",
    "query: rules are empty objects",
    "query: value of empty lists",
    "query: ints that collide",
    "query: one long number",
    "features: deep",
    "catalogue: zeros",
    "catalogue: many settings with many aliases",
    "declare: many differences",
    "declare: deep",
]
_DECLARED: list[dict[str, object]] = [
    {"name": "victim", "type": "str", "default_value": "local", "configurable_features": ["user"]},
    {"name": "other", "type": "int", "default_value": 1, "configurable_features": ["user"]},
    {"name": "late", "type": "int", "default_value": 1, "configurable_features": ["user"]},
]


def catalogue(declared: list[dict[str, object]]) -> bytes:
    """Return the service's list of these settings."""
    return json.dumps({"settings": [{"version": "1.0", **each} for each in declared]}).encode()


@pytest.mark.spread
@pytest.mark.parametrize("name", CHOSEN)
def test_a_hostile_answer_costs_freshness_and_nothing_else(backend: Harness, name: str) -> None:
    shape = SHAPES[name]
    victim = Setting("victim", str, ["user"], "local")
    other = Setting("other", int, ["user"], 1)

    def answer(path: str, body: bytes) -> None:
        head = b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\n"
        server.answer_by(f"api/v1/{path}", http(gzip.compress(body, 1), head))

    def answer_honestly(number: int) -> None:
        known = _DECLARED[:2] if shape.path == "settings/declare" else _DECLARED
        for path, body in {**HONEST, "settings": catalogue(known)}.items():
            answer(path, body.replace(b":7,", b":%d," % number))

    async def body() -> None:
        answer_honestly(7)
        client = backend.client(server.url, 1e6, ["user", "env"])
        await client.set_as_main()
        assert (other.get(user="u"), victim.get(user="u")) == (7, "d")
        answer(shape.path, shape.make(SIZE))
        # So that the client asks for the catalogue, and declares this one if it is not listed.
        late = Setting("late", int, ["user"], 1)
        server.requests.clear()
        with contextlib.nullcontext() if shape.is_local else contextlib.suppress(HeksherError):
            await client.reload()
        assert any(f"/api/v1/{shape.path}".encode() in request for request in server.requests)
        assert (other.get(user="u"), late.get(user="u")) == (7, 1)
        assert victim.get(user="u") in ("d", "x")
        answer_honestly(9)
        await client.reload()
        assert (other.get(user="u"), victim.get(user="u")) == (9, "d")
        await client.close()

    with MisbehavingServer(http(b"{}")) as server:
        backend.run(body)


class _Turns:
    """Measures the longest processor time that passes between two turns of another thread."""

    def __init__(self) -> None:
        self.longest = 0.0
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def _watch(self) -> None:
        before = time.process_time()
        while not self._is_over.wait(0.0005):
            now = time.process_time()
            self.longest = max(self.longest, now - before)
            before = now

    def __enter__(self) -> _Turns:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()


@pytest.mark.parametrize(
    "name", ["query: rules are zeros", "query: rules are empty lists", "query: many sections"]
)
def test_other_threads_get_their_turns_while_it_is_read(name: str) -> None:
    """In processor time, and compared with ``json.loads`` of an honest megabyte, which takes 20 ms.

    On a busy machine the watching thread itself may have to wait, so the best of ten attempts counts.
    """
    rule = b'{"value":1,"context_features":[["user","u"]],"rule_id":1}'
    honest = b"[%s]" % b",".join([rule] * 18_000)
    began = time.process_time()
    json.loads(honest)
    most = 5 * (time.process_time() - began)
    response = Response(200, {}, SHAPES[name].make(8 * 2**20))
    stops: list[float] = []
    while len(stops) < 10 and min(stops, default=most) >= most:
        with _Turns() as turns, contextlib.suppress(InvalidResponseError):
            answer = query(["victim", "other"], None, None).read(response)
            assert isinstance(answer, QueryAnswer)
            for _ in decode_section(answer.sections["victim"]).batches:
                pass
        stops.append(turns.longest)
    assert min(stops) < most
