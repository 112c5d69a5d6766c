"""Answers from the cache are never older than the last write acknowledged before the query."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import Response
from support.databases import KeptDatabase, kept_on_postgresql
from support.service_process import DEADLINE, ServiceProcess

from heksher.service.domain.errors import DatabaseUnavailable
from heksher.service.domain.records import SettingRecord
from heksher.service.domain.refusals import Refusal
from heksher.service.storage import Mark, Reader, Storage, open_storage
from heksher.service.web.answer_cache import AnswerCache, CachedAnswer
from heksher.service.web.http import Slow
from heksher.service.web.routes.answers import Answers
from heksher.service.web.routes.query import Query, QueryRoute
from heksher.service.web.sections import Form

if TYPE_CHECKING:
    from support.postgres import PostgresServer

# --- the cache alone --------------------------------------------------------------------------------


def a_query(name: str = "a") -> Query:
    return Query((name,), Form(None, with_metadata=False))


def answer(text: str = "1") -> CachedAnswer:
    return CachedAnswer(text.encode(), f'"{text}"')


def never() -> CachedAnswer:
    raise AssertionError("there is an answer already")


def test_an_answer_is_made_once_for_a_revision() -> None:
    cache = AnswerCache()
    assert cache.get(a_query(), 1) is None
    assert cache.get_or_make(a_query(), 1, answer) == answer()
    assert cache.get_or_make(a_query(), 1, never) == answer()
    assert cache.get(a_query(), 1) == answer()
    assert cache.get(a_query("b"), 1) is None
    assert cache.get(a_query(), 2) is None
    assert cache.get_or_make(a_query(), 2, lambda: answer("2")) == answer("2")


def test_an_answer_of_a_revision_that_is_gone_never_comes_back() -> None:
    """Even if the number has been seen before, as after restoring a backup."""
    cache = AnswerCache()
    cache.get_or_make(a_query(), 7, answer)
    assert cache.get(a_query("b"), 3) is None
    assert cache.get(a_query(), 7) is None


def test_an_answer_that_was_overtaken_is_given_and_not_kept() -> None:
    cache = AnswerCache()

    def overtaken() -> CachedAnswer:
        cache.get_or_make(a_query(), 2, lambda: answer("new"))
        return answer("old")

    assert cache.get_or_make(a_query(), 1, overtaken) == answer("old")
    assert cache.get(a_query(), 2) == answer("new")
    assert cache.get(a_query(), 1) is None


def test_what_was_not_made_is_not_kept() -> None:
    cache = AnswerCache()

    def fail() -> CachedAnswer:
        raise DatabaseUnavailable("away")

    for _ in range(2):
        with pytest.raises(DatabaseUnavailable):
            cache.get_or_make(a_query(), 1, fail)
    assert cache.get_or_make(a_query(), 1, answer) == answer()


@pytest.mark.parametrize("fails", [False, True])
def test_many_who_want_the_same_have_it_made_once(fails: bool) -> None:
    cache = AnswerCache()
    others = 5
    begun, finish = threading.Event(), threading.Event()
    waiting = threading.Semaphore(0)
    made = 0

    def make() -> CachedAnswer:
        nonlocal made
        made += 1
        begun.set()
        assert finish.wait(DEADLINE)
        if fails:
            raise DatabaseUnavailable("away")
        return answer()

    class Hashed(Query):
        """A query that reports when it is looked up in the cache."""

        def __hash__(self) -> int:
            waiting.release()
            return super().__hash__()

    wanted = Hashed(("a",), Form(None, with_metadata=False))

    def want() -> str:
        try:
            return cache.get_or_make(wanted, 1, make).tag
        except DatabaseUnavailable:
            return "away"

    with ThreadPoolExecutor(others + 1) as pool:
        first = pool.submit(want)
        assert begun.wait(DEADLINE)
        while waiting.acquire(blocking=False):
            pass
        rest = [pool.submit(want) for _ in range(others)]
        for _ in range(2 * others):  # among the cached answers, and among those being made
            assert waiting.acquire(timeout=DEADLINE)
        finish.set()
        assert {each.result(DEADLINE) for each in (first, *rest)} == {"away" if fails else '"1"'}
    assert made == 1


def test_the_cache_is_bounded_in_answers() -> None:
    cache = AnswerCache(max_answers=3)
    for name in "abc":
        cache.get_or_make(a_query(name), 1, answer)
    cache.get(a_query("a"), 1)
    cache.get_or_make(a_query("d"), 1, answer)
    assert [name for name in "abcd" if cache.get(a_query(name), 1)] == ["a", "c", "d"]


def test_the_cache_is_bounded_in_bytes() -> None:
    cache = AnswerCache(max_bytes=10_000)
    for name in "abc":
        cache.get_or_make(a_query(name), 1, lambda: answer("x" * 4_000))
    assert [name for name in "abc" if cache.get(a_query(name), 1)] == ["b", "c"]
    cache.get_or_make(a_query("d"), 1, lambda: answer("x" * 10_000))
    assert [name for name in "abcd" if cache.get(a_query(name), 1)] == ["b", "c"]
    long = a_query("e" * 9_000)
    cache.get_or_make(long, 1, answer)
    assert [name for name in "abcd" if cache.get(a_query(name), 1)] == []
    assert cache.get(long, 1) == answer()


def test_a_cache_is_bounded_without_being_told() -> None:
    cache = AnswerCache()
    for number in range(1_001):
        cache.get_or_make(a_query(str(number)), 1, answer)
    assert [cache.get(a_query(str(number)), 1) for number in (0, 1)] == [None, answer()]
    big = answer("x" * 2**24)
    for name in "abcd":
        cache.get_or_make(a_query(name), 1, lambda: big)
    assert [name for name in "abcd" if cache.get(a_query(name), 1)] == ["b", "c", "d"]


# --- with a database --------------------------------------------------------------------------------

DATABASES = ["memory", "SQLite", "PostgreSQL"]


@pytest.fixture
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Storage]:
    """The database that the test requests, `filled`."""
    if request.param == "PostgreSQL":
        url = kept_on_postgresql(request.getfixturevalue("postgres_server")).url
    else:
        url = "memory" if request.param == "memory" else str(tmp_path / "heksher.db")
    opened = filled(url)
    yield opened
    opened.close()


def filled(url: str) -> Storage:
    """A database with settings ``a`` and ``b``, and one rule of each."""
    opened = open_storage(url, ["user", "theme"])
    with opened.writing() as writer:
        for name in ("a", "b"):
            record = SettingRecord(name, "int", "0", "1.0", ("user", "theme"), {}, ())
            writer.add_setting(record)
            writer.add_rule(name, "1", {"user": "x"}, {})
    return opened


def asked(tag: str | None = None, **parameters: str) -> Request:
    """Make the request of a query."""
    headers = [] if tag is None else [(b"if-none-match", tag.encode())]
    query_string = urlencode(parameters).encode()
    return Request({"type": "http", "query_string": query_string, "headers": headers})


def ask(query: QueryRoute, request: Request) -> Response:
    """Answer like the application."""
    answer = asyncio.run(query.get(request))
    return answer.work() if isinstance(answer, Slow) else answer


def ask_without_waiting(query: QueryRoute, request: Request) -> Response | None:
    """Answer like an event loop that has no time; None if the answer has to be made."""
    try:
        query.get(request).send(None)
    except StopIteration as done:
        answer: Response | Slow[Any] = done.value
        return None if isinstance(answer, Slow) else answer
    raise AssertionError("it waits")


def values(body: bytes) -> dict[int, int]:
    """Map the ids of rules to their values."""
    settings = json.loads(body)["settings"].values()
    return {rule["rule_id"]: rule["value"] for each in settings for rule in each["rules"]}


def write(storage: Storage, rule: int, value: int) -> None:
    with storage.writing() as writer:
        writer.put_rule_value(rule, str(value))


def count_readings(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """A list that gets an item for each reading transaction."""
    readings: list[None] = []
    reading = storage.reading

    def counted() -> AbstractContextManager[Reader]:
        readings.append(None)
        return reading()

    monkeypatch.setattr(storage, "reading", counted)
    return readings


@pytest.mark.parametrize("storage", DATABASES, indirect=True)
def test_the_database_is_read_once_for_a_question(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    readings = count_readings(storage, monkeypatch)
    query = QueryRoute(storage, Answers(storage))
    same = [
        asked(settings="a,b", context_filters="user:(x,y),theme:*"),
        asked(settings="b,a,b", context_filters="theme:*,user:(y,x,y)"),
        asked(settings="b,a", context_filters="theme:*,user:(y,x)", include_metadata="no"),
    ]
    bodies = {ask(query, request).body for request in same}
    assert [values(bytes(body)) for body in bodies] == [{1: 1, 2: 1}]
    assert len(readings) == 1
    others = [
        asked(),
        asked(settings=""),
        asked(settings="a"),
        asked(context_filters=""),
        asked(context_filters="user:*"),
        asked(context_filters="user:(x)"),
        asked(include_metadata="1"),
    ]
    first = [ask(query, request).body for request in others]
    assert len(readings) == 1 + len(others)
    assert [ask(query, request).body for request in others] == first
    assert len(readings) == 1 + len(others)


@pytest.mark.parametrize("storage", DATABASES, indirect=True)
def test_what_is_refused_is_asked_for_anew(storage: Storage) -> None:
    query = QueryRoute(storage, Answers(storage))
    for request, status in (
        (asked(settings="c"), 404),
        (asked(context_filters="user:*,user:*"), 400),
        (asked(context_filters="user"), 422),
    ):
        for _ in range(2):
            with pytest.raises(Refusal) as refused:
                ask(query, request)
            assert refused.value.status == status
    with storage.writing() as writer:
        writer.add_setting(SettingRecord("c", "int", "0", "1.0", ("user",), {}, ()))
    assert ask(query, asked(settings="c")).status_code == 200


@pytest.mark.parametrize("storage", DATABASES[:2], indirect=True)
def test_an_event_loop_has_what_is_kept_without_a_thread(storage: Storage) -> None:
    query = QueryRoute(storage, Answers(storage))
    assert ask_without_waiting(query, asked()) is None
    response = ask(query, asked())
    at_once = ask_without_waiting(query, asked())
    assert at_once is not None
    assert (at_once.body, at_once.headers) == (response.body, response.headers)
    unchanged = ask_without_waiting(query, asked(response.headers["etag"]))
    assert unchanged is not None
    assert (unchanged.status_code, unchanged.body) == (304, b"")
    write(storage, 1, 2)
    assert ask_without_waiting(query, asked()) is None


@pytest.mark.parametrize("storage", ["PostgreSQL"], indirect=True)
def test_an_event_loop_asks_no_database_over_a_network(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It asks in one thread, for all requests that wait."""
    query = QueryRoute(storage, Answers(storage))
    first = ask(query, asked())
    revision, readers = storage.revision, list[threading.Thread]()

    def noted() -> Mark:
        readers.append(threading.current_thread())
        return revision()

    monkeypatch.setattr(storage, "revision", noted)

    async def ask_at_once() -> list[Response | Slow[Any]]:
        return await asyncio.gather(*(query.get(asked()) for _ in range(50)))

    bodies = {getattr(each, "body", None) for each in asyncio.run(ask_at_once())}
    assert bodies == {first.body}
    assert len(readers) == 1
    assert readers[0] is not threading.current_thread()


def test_a_file_whose_revision_cannot_be_had_at_once(tmp_path: Path) -> None:
    storage = open_storage(str(tmp_path / "heksher.db"))
    assert storage.revision_nowait() == storage.revision()
    storage.close()
    assert storage.revision_nowait() is None
    with pytest.raises(DatabaseUnavailable):
        storage.revision()


# --- races ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("storage", "moment"),
    [
        ("memory", "before"),
        ("memory", "after"),
        *((name, moment) for name in DATABASES[1:] for moment in ("before", "within", "after")),
    ],
    indirect=["storage"],
)
def test_a_write_in_the_midst_of_a_query_is_in_the_next_answer(
    storage: Storage, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the data is read, while it is read, or before it is cached."""
    reading = storage.reading

    @contextmanager
    def disturbed() -> Generator[Reader]:
        if moment == "before":
            write(storage, 1, 2)
        with reading() as reader:
            reader.features()  # from here on, it sees no later writes
            if moment == "within":
                write(storage, 1, 2)
            yield reader
        if moment == "after":
            write(storage, 1, 2)

    query = QueryRoute(storage, Answers(storage))
    ask(query, asked(settings="b"))
    monkeypatch.setattr(storage, "reading", disturbed)
    first = ask(query, asked())
    monkeypatch.undo()
    assert values(bytes(first.body))[1] == (2 if moment == "before" else 1)
    second = ask(query, asked(first.headers["etag"]))
    if moment == "before":
        assert second.status_code == 304
    else:
        assert values(bytes(second.body))[1] == 2
    assert values(bytes(ask(query, asked(settings="a")).body)) == {1: 2}


# The effects of a restore: an old count, new or emptied tables, and triggers created last.
_RESTORES = {
    "tables made anew": """
        ALTER TABLE heksher_revision RENAME TO former;
        CREATE TABLE heksher_revision (LIKE former INCLUDING ALL);
        INSERT INTO heksher_revision (changes) SELECT changes FROM former;
        DROP TABLE former;
    """,
    "tables emptied": """
        CREATE TABLE former AS SELECT changes FROM heksher_revision;
        TRUNCATE heksher_revision;
        INSERT INTO heksher_revision (changes) SELECT changes FROM former;
        DROP TABLE former;
    """,
    "triggers made anew": """
        DROP TRIGGER heksher_count_change ON settings;
        CREATE TRIGGER heksher_count_change
        AFTER DELETE OR TRUNCATE ON settings
        FOR EACH STATEMENT EXECUTE FUNCTION heksher_count_change();
    """,
    "no triggers yet": "DROP TRIGGER heksher_count_change ON settings;",
}
_COUNT = "SELECT sum(changes) FROM heksher_revision"
_UNCOUNTED = "SET session_replication_role = replica; UPDATE rules SET value = '{}'"


@pytest.mark.parametrize("restore", _RESTORES.values(), ids=_RESTORES)
def test_a_restored_database_with_a_count_from_before(
    postgres_server: PostgresServer, restore: str
) -> None:
    database = kept_on_postgresql(postgres_server)
    with closing(filled(database.url)) as storage:
        query = QueryRoute(storage, Answers(storage))
        for _ in range(10):  # the statement that reads the revision is prepared
            assert values(bytes(ask(query, asked()).body)) == {1: 1, 2: 1}
        count = database.rows(_COUNT)
        database.rows(f"BEGIN; {_UNCOUNTED.format(2)}; {restore} COMMIT")
        assert database.rows(_COUNT) == count
        assert values(bytes(ask(query, asked()).body)) == {1: 2, 2: 2}
        if "CREATE" not in restore:
            database.rows(_UNCOUNTED.format(3))
            assert values(bytes(ask(query, asked()).body)) == {1: 3, 2: 3}


def test_another_server_with_the_same_count(postgres_server: PostgresServer) -> None:
    """A standby without the latest commits takes over, or a server runs on restored files."""
    with type(postgres_server)() as server:
        database = kept_on_postgresql(server)
        with closing(filled(database.url)) as storage:
            query = QueryRoute(storage, Answers(storage))
            assert values(bytes(ask(query, asked()).body)) == {1: 1, 2: 1}
            count = database.rows(_COUNT)
            database.rows(_UNCOUNTED.format(2))
            server.stop()
            server.start()
            assert database.rows(_COUNT) == count
            assert values(bytes(ask(query, asked()).body)) == {1: 2, 2: 2}


class Register:
    """Rules whose values only grow: the acknowledged values are the minimum for each answer.

    Args:
        rules: the ids of the rules, one for each writer.
        writes: number of writes to each rule.
    """

    def __init__(self, rules: Sequence[int], writes: int) -> None:
        self._acknowledged = dict.fromkeys(rules, 1)
        self._sent = dict(self._acknowledged)
        self._writes = writes
        self._writing = len(rules)
        self._done = threading.Lock()

    def write(self, rule: int, write: Callable[[int, int], None]) -> None:
        """Write one rule repeatedly."""
        try:
            for value in range(2, self._writes + 2):
                self._sent[rule] = value
                write(rule, value)
                self._acknowledged[rule] = value
        finally:
            with self._done:
                self._writing -= 1

    def read(self, send: Callable[[str | None], tuple[int, str, bytes]]) -> None:
        """Query with the latest tag until everything is written.

        *send* takes a tag and returns status, tag and body.
        """
        tag: str | None = None
        last: dict[int, int] = {}
        while True:
            is_last = self._writing == 0
            least = dict(self._acknowledged)
            status, new_tag, body = send(tag)
            most = dict(self._sent)
            if status == 304:
                assert new_tag == tag
            else:
                assert status == 200
                assert new_tag != tag
                tag, last = new_tag, values(body)
            for rule, value in last.items():
                assert least[rule] <= value <= most[rule], (rule, least, last, most)
            if is_last:
                assert last == dict.fromkeys(least, self._writes + 1)
                assert send(tag)[0] == 304
                return


def run_at_once(jobs: Sequence[Callable[[], object]]) -> None:
    """Run all jobs at the same time; raise the first exception."""
    with ThreadPoolExecutor(len(jobs)) as pool:
        for done in [pool.submit(job) for job in jobs]:
            done.result()


@pytest.mark.parametrize("storage", DATABASES, indirect=True)
def test_many_threads_never_see_an_old_answer(storage: Storage) -> None:
    query = QueryRoute(storage, Answers(storage))
    register = Register([1, 2], 150)

    def send(tag: str | None) -> tuple[int, str, bytes]:
        response = ask(query, asked(tag))
        return response.status_code, response.headers["etag"], bytes(response.body)

    def change(rule: int, value: int) -> None:
        write(storage, rule, value)

    run_at_once(
        [partial(register.write, rule, change) for rule in (1, 2)]
        + [partial(register.read, send) for _ in range(4)]
    )


def test_many_processes_never_give_an_old_answer(kept_database: KeptDatabase) -> None:
    """Two services on one database, and a writer that bypasses both."""
    with ExitStack() as stack:
        services = [stack.enter_context(ServiceProcess()) for _ in range(2)]
        for service in services:
            service.start(features=["user"], database=kept_database.url)
        services[0].declare("a")
        rules = [services[0].add_rule("a", 1, user=f"u{n}") for n in range(4)]
        *served, past = rules
        register = Register(rules, 20)

        def client(number: int) -> httpx.Client:
            url = services[number % len(services)].url
            made = httpx.Client(base_url=f"{url}/api/v1", timeout=DEADLINE, trust_env=False)
            return stack.enter_context(made)

        def writer() -> Callable[[int, int], None]:
            clients = [client(0), client(1)]

            def change(rule: int, value: int) -> None:
                answer = clients[value % 2].put(f"/rules/{rule}/value", json={"value": value})
                assert answer.status_code == 204

            return change

        def reader(number: int) -> Callable[[str | None], tuple[int, str, bytes]]:
            to = client(number)
            # Readers with equal queries share an answer; the others do not.
            query = ["/query", "/query?settings=a", "/query?context_filters=user:*"][number // 2]

            def send(tag: str | None) -> tuple[int, str, bytes]:
                answer = to.get(query, headers={} if tag is None else {"If-None-Match": tag})
                return answer.status_code, answer.headers["etag"], answer.content

            return send

        def change_past_them(rule: int, value: int) -> None:
            kept_database.rows(f"UPDATE rules SET value = '{value}' WHERE id = {rule}")

        run_at_once(
            [
                *(partial(register.write, rule, writer()) for rule in served),
                partial(register.write, past, change_past_them),
                *(partial(register.read, reader(number)) for number in range(6)),
            ]
        )
