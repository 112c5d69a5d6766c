"""A bad answer, whatever it contains, fails one update at most.

An answer to one of the requests of a running client is drawn: other bytes, or the right bytes spoilt,
with any status and headers. A service in memory gives it once. Then the values have to be the previous
ones, or those of the answer if it is valid, and the loop has to fetch the next changes. The tests of
HTTP spoil the bytes on the wire.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, cast

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.harness import AnyClient, AsyncioHarness, Harness, ThreadHarness, TrioHarness
from support.property_helpers import modest
from support.scenes import FEATURES, INTERVAL, Scene
from support.scripted import ScriptedService

from heksher import Setting, _registry
from heksher._wire import Request, Response
from heksher.exceptions import HeksherError, ServiceError

pytestmark = pytest.mark.integration

FEATURES_PATH = "api/v1/context_features"
SETTINGS_PATH = "api/v1/settings"
DECLARE_PATH = "api/v1/settings/declare"
QUERY_PATH = "api/v1/query"
#: The statuses that mean something for each path; any other is a failure. A declaration may be refused by
#: what stands before the service, but not for want of credentials or time.
MEANINGFUL = {
    FEATURES_PATH: {200},
    SETTINGS_PATH: {200},
    DECLARE_PATH: {200, *range(400, 500)} - {401, 407, 408, 425, 429},
    QUERY_PATH: {200, 304, 404},
}
PATHS = tuple(MEANINGFUL)


# --- answers --------------------------------------------------------------------------------------

KEYS = [
    "context_features",
    "settings",
    "name",
    "type",
    "default_value",
    "version",
    "aliases",
    "outcome",
    "differences",
    "rules",
    "value",
    "rule_id",
    "ttl",
    "late",
]
#: Pieces of JSON, valid or not, to put where something else is expected.
PIECES = [
    b"null",
    b"true",
    b"0",
    b"-1",
    b"1.5",
    b"1.0",
    b"1e400",
    b"NaN",
    b"-Infinity",
    b"18446744073709551616",
    b"9" * 5000,
    b'""',
    b'"ttl"',
    b'"user"',
    b'"plan"',
    b'"mismatch"',
    b'"\\ud800"',
    b'"\\u0000"',
    b'"\xff"',
    b'"\xed\xa0\x80"',
    b"[]",
    b"{}",
    b"[[]]",
    b'["theme","user"]',
    b'[["plan","a"]]',
    b'[["user","jim"],["user","jim"]]',
    b"[" * 50_000,
    b"[" * 900 + b"]" * 900,
    b"",
]
CODINGS = ["utf-8-sig", "utf-16", "utf-16-le", "utf-32", "latin-1"]
_HERE = "\N{REPLACEMENT CHARACTER}here"


@dataclass(frozen=True)
class Bytes:
    """Other bytes instead of the body."""

    body: bytes

    def spoil(self, good: bytes) -> bytes:
        return self.body


@dataclass(frozen=True)
class Cut:
    """The body cut off at a place, in thousandths of its length, and a tail instead of the rest."""

    place: int
    tail: bytes

    def spoil(self, good: bytes) -> bytes:
        return good[: len(good) * self.place // 1000] + self.tail


@dataclass(frozen=True)
class Swap:
    """A piece instead of one part of the JSON, which a number selects."""

    part: int
    piece: bytes

    def spoil(self, good: bytes) -> bytes:
        whole: Any = {"": json.loads(good)}
        owner, key = (parts := list(parts_of(whole)))[self.part % len(parts)]
        owner[key] = _HERE
        return json.dumps(whole[""]).encode().replace(json.dumps(_HERE).encode(), self.piece)


@dataclass(frozen=True)
class Twice:
    """A key that may occur twice, before or after the other members."""

    key: str
    piece: bytes
    behind: bool

    def spoil(self, good: bytes) -> bytes:
        inserted = f'"{self.key}":'.encode() + self.piece
        if self.behind:
            return good[:-1] + b"," + inserted + b"}"
        return b"{" + inserted + b"," + good[1:]


@dataclass(frozen=True)
class Coded:
    """The right text in another encoding."""

    coding: str

    def spoil(self, good: bytes) -> bytes:
        # With a letter that the encodings write differently.
        return good.replace(b'"version"', b'"versi\xc3\xb3n"').decode().encode(self.coding)


Spoiler = Bytes | Cut | Swap | Twice | Coded


def parts_of(whole: Any) -> Iterator[tuple[Any, Any]]:
    """Yield every part of *whole*, as its container and its key or index there."""
    if not isinstance(whole, dict | list):
        return
    owner = cast(Any, whole)
    for key in list(owner) if isinstance(whole, dict) else range(len(owner)):
        yield owner, key
        yield from parts_of(owner[key])


pieces = st.sampled_from(PIECES)


def as_object(items: dict[str, bytes]) -> bytes:
    return b"{%b}" % b",".join(b'"%b":%b' % (key.encode(), items[key]) for key in items)


json_texts = st.recursive(
    pieces,
    lambda inner: (
        st.lists(inner, max_size=4).map(lambda items: b"[%b]" % b",".join(items))
        | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4).map(as_object)
    ),
    max_leaves=8,
)
spoilers: st.SearchStrategy[Spoiler] = st.one_of(
    st.builds(Swap, st.integers(0, 60), pieces),
    st.builds(Swap, st.integers(0, 60), json_texts),
    st.builds(Twice, st.sampled_from(KEYS), pieces, st.booleans()),
    st.builds(Cut, st.integers(0, 1000), st.binary(max_size=3)),
    st.builds(Bytes, st.binary() | json_texts),
    st.builds(Coded, st.sampled_from(CODINGS)),
)
statuses = st.one_of(
    st.just(None),
    st.just(None),  # twice as likely; it is a new object, since hypothesis ignores a repeated one
    st.sampled_from([200, 304, 307, 308, 404, 409, 422, 500]),
    st.integers(100, 599),
)
headers = st.fixed_dictionaries(
    {},
    optional={
        "etag": st.sampled_from(['"x"', "", "*", "\n", "\u00e9", "W/", '"' * 9]) | st.text(),
        "retry-after": st.sampled_from(["0", "1000000000", "-1", "1e5", "\u0663"]) | st.text(),
        "location": st.sampled_from(
            ["", "/", f"/{QUERY_PATH}", f"/{SETTINGS_PATH}?a=b", "http://evil.test/", "//[", "?x"]
        )
        | st.text(),
        "content-encoding": st.sampled_from(["gzip", "br", ""]),
        "content-type": st.sampled_from(["text/html", "application/json; charset=utf-7", ""]),
    },
)


@dataclass(frozen=True)
class Lie:
    """A wrong answer. A status of None, and headers that are omitted, are those of the right answer."""

    path: str
    spoiler: Spoiler
    status: int | None
    headers: dict[str, str]

    def tell(self, good: Response) -> Response:
        body = self.spoiler.spoil(good.body)
        status = good.status if self.status is None else self.status
        return Response(status, {**good.headers, **self.headers}, body)


lies = st.builds(Lie, st.sampled_from(PATHS), spoilers, statuses, headers)


#: Spoilers that are drawn too rarely.
WORST: list[Spoiler] = [
    Bytes(b""),
    Bytes(b"null"),
    Bytes(b"[" * 100_000),
    Bytes(b'{"settings":{"ttl":' + b"[" * 100_000),
    Bytes(b'{"settings":{"ttl":{"rules":[],"default_value":' + b"9" * 5000 + b"}}}"),
    Bytes(b'{"settings":{"ttl":{"rules":"","default_value":"\xff"}}}'),
    Bytes(b'{"context_features":["\xff"]}'),
    Bytes(b'{"context_features":["plan"]}'),
    Bytes(b'{"context_features":[],"settings":[],"outcome":"created"}'),
    Coded("utf-16"),
]


# --- service and client ---------------------------------------------------------------------------


class LyingService(ScriptedService):
    """A service that gives one wrong answer, and otherwise the right ones."""

    def __init__(self) -> None:
        super().__init__(*FEATURES)
        self.lie: Lie | None = None
        self.told: Response | None = None

    async def answer(self, request: Request) -> Response:
        path = request.target.partition("?")[0]
        # Other headers could not be sent.
        assert all(value.isascii() and value.isprintable() for _, value in request.headers)
        # A redirect may lead anywhere.
        if path not in PATHS or (path == QUERY_PATH and "?settings=" not in request.target):
            return Response(404, {}, b"no such path")
        if (path == DECLARE_PATH) != (request.method == "POST"):
            return Response(405, {}, b"no such method")
        good = await super().answer(request)
        if self.lie is not None and path == self.lie.path:
            if good.status == 304:
                # Spoil the answer to the same request without an ETag.
                good = await super().answer(Request("GET", request.target))
            self.told, self.lie = self.lie.tell(good), None
            return self.told
        return good


DEFAULT, LATE_DEFAULT, LATE = -7, -8, 77


class Play:
    """A client that gets one wrong answer."""

    def __init__(self, lie: Lie, harness: Harness) -> None:
        self.lie = lie
        self.scene = Scene(harness)
        self.service = self.scene.service = LyingService()
        self.ttl = Setting("ttl", int, FEATURES, DEFAULT)
        # A rule whose value changes, and one that wins only in another order of the features.
        self.rule = self.service.add_rule("ttl", 1, theme="dark")
        self.service.add_rule("ttl", 0, user="jim")

    def change(self, value: int) -> None:
        self.service.rules["ttl"][0]["value"] = value

    def value(self) -> int:
        value = self.ttl.get(environment="dev", user="jim", theme="dark")
        assert type(value) is int
        return value

    async def run(self) -> None:
        async with self.scene.client() as client:
            assert self.value() == 1
            self.change(2)
            self.service.lie = self.lie
            if self.lie.path in (SETTINGS_PATH, DECLARE_PATH):
                failed = await self.hear_by_a_late_setting(client)
            else:
                failed = await self.hear(client)
            told = self.service.told
            assert told is not None
            self.check_what_was_believed(failed, told)

            # The next right answer counts: nothing of the wrong one is kept, such as its ETag.
            self.service.told = None
            await client.reload()
            if failed:
                assert self.value() == 2
            self.change(3)
            await self.scene.pass_time(INTERVAL)
            assert client.status.failures == 0, client.status.last_error
            assert self.value() == 3

    async def hear(self, client: AnyClient) -> bool:
        """Return whether the update with the wrong answer failed.

        A refusal may be meant for the only setting. Then it fails that setting's update only.
        """
        try:
            await client.reload()
        except HeksherError:
            return True
        told = self.service.told
        return (
            told is not None
            and told.status not in MEANINGFUL[self.lie.path]
            and any(isinstance(each.error, ServiceError) for each in client.status.rejected_rules)
        )

    async def hear_by_a_late_setting(self, client: AnyClient) -> bool:
        await self.scene.settled()
        self.service.add_rule("late", LATE, user="jim")
        self.late = Setting("late", int, ["user"], LATE_DEFAULT)
        await self.scene.backend.until(lambda: self.service.told, "the lie is told")
        await self.scene.settled()
        assert self.late.get(user="jim") in (LATE_DEFAULT, LATE, *numbers_in(self.service.told))
        failed = client.status.failures > 0
        assert not failed or isinstance(client.status.last_error, HeksherError)
        return failed

    def check_what_was_believed(self, failed: bool, told: Response) -> None:
        path, status = self.lie.path, told.status
        is_redirect = status in (301, 302, 307, 308) and "location" in told.headers
        if status not in MEANINGFUL[path] and not is_redirect:
            assert failed
        if failed and path in (SETTINGS_PATH, DECLARE_PATH):
            assert self.value() == 2  # other settings are not affected
        elif failed or status == 304:
            assert self.value() == 1
        elif status == 404 or is_redirect:
            assert self.value() == 2  # the client has asked again
        else:
            assert self.value() in (0, 1, 2, DEFAULT, *numbers_in(told))


def numbers_in(told: Response | None) -> set[int]:
    """Return all integers in a body."""
    try:
        read = json.loads(told.body if told is not None else b"")
    except (ValueError, RecursionError):
        return set()
    found = [owner[key] for owner, key in parts_of({"": read})]
    return {value for value in found if isinstance(value, int)} | {
        int(value) for value in found if isinstance(value, float) and value.is_integer()
    }


@pytest.mark.parametrize(
    ("harness", "examples"),
    [
        pytest.param(ThreadHarness, 150, id="thread"),
        pytest.param(AsyncioHarness, 40, id="asyncio"),
        pytest.param(TrioHarness, 40, id="trio"),
    ],
)
def test_no_answer_does_more_than_fail_one_update(
    harness: Callable[[], Harness], examples: int
) -> None:
    @settings(modest, max_examples=examples)
    @given(lies)
    def check(lie: Lie) -> None:
        _registry.reset()
        stage = harness()
        stage.run(Play(lie, stage).run)

    for path in PATHS:
        for spoiler in WORST:
            check = example(Lie(path, spoiler, None, {}))(check)
    check = example(Lie(QUERY_PATH, Bytes(b""), 414, {}))(check)
    check()
