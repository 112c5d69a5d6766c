"""A database of the original service: opened, served, and shared while both write."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support.service_process import DEADLINE, ServiceProcess
from transcript_replay import AS_JSON, Request, call

from heksher.service import create_app
from heksher.service.domain.errors import CannotStartError
from heksher.service.storage import Mark, Storage, open_storage

if TYPE_CHECKING:
    import psycopg
    from support.postgres import PostgresServer

_SCRIPT = (Path(__file__).parent / "original_schema.sql").read_text(encoding="utf-8")
_PAGE = Path(__file__).parents[2] / "docs" / "service.md"


@pytest.fixture
def original(postgres_server: PostgresServer) -> Iterator[str]:
    """The name of a database of the original, a new one for each test."""
    name = "original"
    postgres_server.create_database(name, _SCRIPT)
    yield name
    postgres_server.drop_database(name)


@contextmanager
def _opened(url: str, *, migrate: bool = True) -> Generator[Storage]:
    with closing(open_storage(url, migrate=migrate)) as storage:
        yield storage


# --- the schema -----------------------------------------------------------------------------------

_CATALOG = {
    "columns": """
        SELECT table_name, ordinal_position, column_name, data_type, character_maximum_length,
            is_nullable, column_default
        FROM information_schema.columns WHERE table_schema = 'public'""",
    "constraints": """
        SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid), condeferrable
        FROM pg_constraint WHERE connamespace = 'public'::regnamespace""",
    "indexes": "SELECT tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'",
    "sequences": """
        SELECT sequencename, data_type::text, start_value, increment_by, cycle,
            pg_get_serial_sequence('rules', 'id')
        FROM pg_sequences WHERE schemaname = 'public'""",
    "relations": """
        SELECT relname, relkind, relpersistence FROM pg_class
        WHERE relnamespace = 'public'::regnamespace""",
    "triggers": """
        SELECT tgrelid::regclass::text, tgname, pg_get_triggerdef(oid)
        FROM pg_trigger WHERE NOT tgisinternal""",
    "functions": """
        SELECT proname, prosrc, prosecdef, proconfig FROM pg_proc
        WHERE pronamespace = 'public'::regnamespace""",
    "revision of the original": "SELECT version_num FROM alembic_version",
}


def _catalog(connection: psycopg.Connection) -> dict[str, set[str]]:
    """Dump the whole database, one line per row."""
    return {
        what: {str(row) for row in connection.execute(query.encode())}
        for what, query in _CATALOG.items()
    }


def test_a_new_database_is_the_originals_but_for_our_additions(
    postgres_server: PostgresServer, original: str
) -> None:
    with closing(open_storage(postgres_server.create_database("ours"))):
        pass
    with postgres_server.connect("ours") as connection:
        ours = _catalog(connection)
    with postgres_server.connect(original) as connection:
        theirs = _catalog(connection)
    assert len(theirs["columns"]) == 23
    assert {what: theirs[what] - ours[what] for what in theirs} == {what: set() for what in theirs}
    added = set[str]().union(*(ours[what] - theirs[what] for what in ours))
    assert len(added) == 48
    assert [line for line in added if "heksher_" not in line] == []


def test_a_migrated_database_is_like_a_new_one(
    postgres_server: PostgresServer, original: str
) -> None:
    with _opened(postgres_server.url(original)):
        pass
    with _opened(postgres_server.create_database("new")):
        pass
    with postgres_server.connect("new") as new, postgres_server.connect(original) as migrated:
        assert _catalog(migrated) == _catalog(new)
        assert migrated.execute("SELECT version_num FROM heksher_version").fetchall() == [("0002",)]


def test_our_additions_can_be_removed(postgres_server: PostgresServer, original: str) -> None:
    """Remove the additions as described in docs/service.md."""
    [removal] = re.findall(r"```sql\n(.*?)```", _PAGE.read_text(encoding="utf-8"), re.DOTALL)
    with postgres_server.connect(original) as connection:
        before = _catalog(connection)
        with _opened(postgres_server.url(original)):
            pass
        assert _catalog(connection) != before
        connection.execute(removal.encode())
        assert _catalog(connection) == before


# --- opening --------------------------------------------------------------------------------------


def test_it_is_migrated_only_when_it_may(postgres_server: PostgresServer, original: str) -> None:
    url = postgres_server.url(original)
    with postgres_server.connect(original) as connection:
        before = _catalog(connection)
        with pytest.raises(CannotStartError) as caught:
            create_app(url)
        assert str(caught.value) == (
            "the database must be migrated first: count changes in a table heksher_revision, by "
            "triggers (PostgreSQL); note the names of changed settings in a table heksher_changes, by "
            "triggers (PostgreSQL). Back it up, and start once with --migrate"
        )
        assert _catalog(connection) == before
    with _opened(url):
        pass
    with _opened(url, migrate=False) as storage, storage.reading() as reader:
        assert reader.features() == ["environment", "user", "theme"]


def test_the_command_migrates_when_it_is_told_to(
    postgres_server: PostgresServer, original: str
) -> None:
    url = postgres_server.url(original)
    with ServiceProcess() as service:
        with pytest.raises(AssertionError, match="start once with --migrate"):
            service.start(features=[], database=url)
        service.start(features=[], database=url, options=["--migrate"])
        assert "migrating the database: count changes" in service.log
        assert service.get("/settings/bg")["name"] == "background"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            "UPDATE alembic_version SET version_num = '37b28f79cccf'",
            "at revision 37b28f79cccf, expected 83f0f272313f",
        ),
        ("DELETE FROM alembic_version", "at revision none, expected 83f0f272313f"),
        (
            "DROP TABLE rule_metadata",
            "not a complete Heksher database (missing tables: rule_metadata)",
        ),
        (
            "DROP SCHEMA public CASCADE; CREATE SCHEMA public; CREATE TABLE orders (id integer)",
            "not a Heksher database (tables: orders): use another database",
        ),
    ],
)
def test_another_database_is_refused_and_left_alone(
    postgres_server: PostgresServer, original: str, change: str, message: str
) -> None:
    with postgres_server.connect(original) as connection:
        connection.execute(change.encode())
        with pytest.raises(CannotStartError, match=re.escape(message)):
            create_app(postgres_server.url(original), migrate=True)
        assert connection.execute("SELECT to_regclass('heksher_version')").fetchone() == (None,)


def test_a_database_of_a_newer_heksher_is_refused(
    postgres_server: PostgresServer, original: str
) -> None:
    url = postgres_server.url(original)
    with _opened(url):
        pass
    with postgres_server.connect(original) as connection:
        connection.execute("UPDATE heksher_version SET version_num = '9999'")
    with pytest.raises(CannotStartError, match="at revision 9999 of a newer heksher, expected at"):
        create_app(url, migrate=True)


# --- serving --------------------------------------------------------------------------------------


def test_what_the_original_left_is_served(postgres_server: PostgresServer, original: str) -> None:
    app = create_app(postgres_server.url(original), migrate=True)

    async def get(path: str) -> Any:
        path, _, query = path.partition("?")
        answer = await call(app, Request("GET", f"/api/v1{path}", query or None, [], b""))
        assert answer.status == 200, path
        return json.loads(answer.body)

    async def post(path: str, body: Any) -> int:
        request = Request("POST", f"/api/v1{path}", None, AS_JSON, json.dumps(body).encode())
        return (await call(app, request)).status

    async def main() -> None:
        async with app.router.lifespan_context(app):
            assert await get("/settings?include_additional_data=1") == {
                "settings": [
                    {
                        "name": "background",
                        "type": 'Enum["black","white"]',
                        "default_value": "white",
                        "version": "1.3",
                        "configurable_features": ["user", "theme"],
                        "metadata": {"owner": "jane", "gone": None},
                        "aliases": ["bg", "old.bg"],
                    },
                    {
                        "name": "limits",
                        "type": "Mapping<Sequence<int>>",
                        "default_value": {"b": [1, 2], "a": []},
                        "version": "2.0",
                        "configurable_features": ["environment"],
                        "metadata": {"big": 1e300, "nested": {"bb": [1.0, True], "a": None}},
                        "aliases": [],
                    },
                    {
                        "name": "ratio",
                        "type": "float",
                        "default_value": None,
                        "version": "1.0",
                        "configurable_features": ["user"],
                        "metadata": {},
                        "aliases": [],
                    },
                ]
            }
            found = await get("/query?settings=ratio,bg&include_metadata=true")
            assert found["settings"] == {
                "background": {
                    "default_value": "white",
                    "rules": [
                        {
                            "value": "black",
                            "context_features": [["user", "jim"], ["theme", "dark"]],
                            "rule_id": 2,
                            "metadata": {"why": "dark is black", "ticket": 12},
                        }
                    ],
                },
                "ratio": {
                    "default_value": None,
                    "rules": [
                        _rule_of_ratio(None, [], 1),
                        _rule_of_ratio(0.5, [["user", "ann"]], 3),
                        _rule_of_ratio(0.5, [["user", "ann"]], 4),
                    ],
                },
            }
            assert (await get("/query?context_filters="))["settings"]["ratio"]["rules"] == [
                {"value": None, "context_features": [], "rule_id": 1}
            ]
            assert await get("/rules/search?setting=ratio&feature_values=user:ann") == {
                "rule_id": 3
            }
            twice = {"setting": "ratio", "feature_values": {"user": "ann"}, "value": 1}
            assert await post("/rules", twice) == 409
            declared = {
                "name": "ratio",
                "type": "float",
                "default_value": 0.0,
                "configurable_features": ["user"],
                "version": "1.1",
            }
            assert await post("/settings/declare", declared) == 200
            assert (await get("/settings/ratio"))["default_value"] == 0.0
            assert await post("/rules", twice | {"feature_values": {"user": "x"}}) == 201

    asyncio.run(main())
    with postgres_server.connect(original) as connection:
        # The id after the last one that the original assigned.
        assert connection.execute("SELECT max(id) FROM rules").fetchone() == (7,)


def _rule_of_ratio(value: float | None, conditions: list[list[str]], rule_id: int) -> Any:
    return {"value": value, "context_features": conditions, "rule_id": rule_id, "metadata": {}}


# --- beside the original --------------------------------------------------------------------------

# Each write, and the settings whose answers it may change. None: all of them.
_WRITES: dict[str, set[str] | None] = {
    "INSERT INTO context_features VALUES ('new', 3)": None,
    "UPDATE context_features SET index = 4 WHERE name = 'new'": None,
    "DELETE FROM context_features WHERE name = 'new'": None,
    "INSERT INTO settings VALUES ('s', 'int', '1', '1.0')": {"s"},
    "INSERT INTO settings VALUES ('bg', 'int', '1', '1.0')": None,  # the alias of another setting
    "DELETE FROM settings WHERE name = 'bg'": None,
    "INSERT INTO configurable VALUES ('s', 'user')": {"s"},
    "INSERT INTO setting_aliases VALUES ('s', 'alias')": None,
    "INSERT INTO setting_metadata VALUES ('s', 'k', '1')": {"s"},
    "INSERT INTO rules (id, setting, value) VALUES (100, 's', '2')": {"s"},
    "INSERT INTO conditions VALUES (100, 'user', 'x')": {"s"},
    "UPDATE conditions SET feature_value = 'y' WHERE rule = 100": {"s"},
    "INSERT INTO rule_metadata VALUES (100, 'k', '1')": {"s"},
    "UPDATE rule_metadata SET value = '2' WHERE rule = 100": {"s"},
    "UPDATE rules SET setting = 'ratio' WHERE id = 100": {"s", "ratio"},
    "UPDATE conditions SET rule = 2 WHERE rule = 5": {"background", "limits"},
    "DELETE FROM conditions WHERE rule = 100": {"ratio"},
    "DELETE FROM rules WHERE id IN (100, 2)": {"ratio", "background"},
    "UPDATE settings SET default_value = '2' WHERE name IN ('s', 'limits')": {"s", "limits"},
    "INSERT INTO settings SELECT concat('s', n), 'int', '0' FROM generate_series(1, 20) AS n": {
        f"s{number}" for number in range(1, 21)
    },
    "INSERT INTO settings SELECT concat('t', n), 'int', '0' FROM generate_series(1, 21) AS n": None,
    "UPDATE settings SET name = 't' WHERE name = 's'": None,
    "DELETE FROM settings WHERE name = 't'": None,
    "TRUNCATE settings CASCADE": None,
}


def test_every_write_of_anybody_is_noted(postgres_server: PostgresServer, original: str) -> None:
    with (
        _opened(postgres_server.url(original)) as storage,
        postgres_server.connect(original) as connection,
    ):

        def changed_since(mark: Mark) -> set[str] | None:
            with storage.reading() as reader:
                return storage.changed_since(storage.name_of(mark), reader)

        seen = [storage.revision()]
        for statement, names in _WRITES.items():
            connection.execute(statement.encode())
            seen.append(storage.revision())
            assert changed_since(seen[-2]) == names, statement
            assert changed_since(seen[-1]) == set(), statement
        with storage.writing() as writer:
            writer.put_features(["theme", "user", "environment"])
        seen.append(storage.revision())
        assert changed_since(seen[-2]) is None
        assert len(seen) == len(set(seen))
        with storage.reading() as reader:
            reader.features()
        connection.execute("BEGIN")
        connection.execute("DELETE FROM context_features")
        connection.execute("ROLLBACK")
        assert storage.revision() == seen[-1]


def test_what_a_savepoint_undid_is_noted_when_it_is_done_again(
    postgres_server: PostgresServer, original: str
) -> None:
    change = "UPDATE rules SET value = '7.5' WHERE setting = 'ratio'"
    with (
        _opened(postgres_server.url(original)) as storage,
        postgres_server.connect(original) as connection,
    ):
        before = storage.name_of(storage.revision())
        connection.execute(
            f"BEGIN; SAVEPOINT s; {change}; ROLLBACK TO s; {change}; {change}; "
            "SAVEPOINT s; UPDATE settings SET version = '9.0'; ROLLBACK TO s; COMMIT".encode()
        )
        with storage.reading() as reader:
            assert storage.changed_since(before, reader) == {"ratio"}
        assert connection.execute("SELECT name FROM heksher_changes").fetchall() == [("ratio",)]


def test_a_setting_may_be_renamed_while_another_transaction_changes_its_rule(
    postgres_server: PostgresServer, original: str
) -> None:
    """The latter notes the old name."""
    with (
        _opened(postgres_server.url(original)) as storage,
        postgres_server.connect(original) as one,
        postgres_server.connect(original) as other,
    ):
        other.execute("BEGIN")
        one.execute("BEGIN; UPDATE settings SET name = 'new' WHERE name = 'ratio'")
        other.execute(
            "INSERT INTO rule_metadata SELECT min(id), 'k', '1' FROM rules WHERE setting = 'ratio'"
        )
        one.execute("COMMIT")
        between = storage.name_of(storage.revision())
        other.execute("COMMIT")
        with storage.reading() as reader:
            assert storage.changed_since(between, reader) is None


def test_the_last_thousand_changes_are_known(
    postgres_server: PostgresServer, original: str
) -> None:
    change = """
        DO $$ BEGIN
            FOR n IN 1..500 LOOP
                UPDATE rules SET value = concat(n, '.5') WHERE setting = 'ratio';
                COMMIT;
                UPDATE settings SET version = concat(n, '.0') WHERE name = 'limits';
                COMMIT;
            END LOOP;
        END $$
    """
    with (
        _opened(postgres_server.url(original)) as storage,
        postgres_server.connect(original) as connection,
    ):
        connection.execute("UPDATE settings SET version = '9.0' WHERE name = 'background'")
        before = storage.name_of(storage.revision())
        for expected in ({"ratio", "limits"}, None):
            connection.execute(change.encode())
            with storage.reading() as reader:
                assert storage.changed_since(before, reader) == expected
        [kept] = connection.execute("SELECT count(*) FROM heksher_changes").fetchall()
        assert kept == (1_000,)


def test_writers_of_the_original_do_not_wait_for_each_other(
    postgres_server: PostgresServer, original: str
) -> None:
    """Nor does a request of the original wait for itself when it writes on two connections."""
    with (
        _opened(postgres_server.url(original)) as storage,
        postgres_server.connect(original) as one,
        postgres_server.connect(original) as other,
        postgres_server.connect(original) as third,
    ):
        seen = [storage.revision()]
        for _ in range(2):
            for connection in (one, other, third):
                connection.execute("SET lock_timeout = 1; BEGIN")
                connection.execute("INSERT INTO rules (setting, value) VALUES ('ratio', '1.0')")
            assert storage.revision() == seen[-1]
            for connection in (third, one, other):
                connection.execute("COMMIT")
                seen.append(storage.revision())
        assert len(seen) == len(set(seen))
        with storage.reading() as reader:
            for mark in seen[:-1]:
                assert storage.changed_since(storage.name_of(mark), reader) == {"ratio"}
        # One row per concurrent writer.
        assert one.execute("SELECT count(*) FROM heksher_revision").fetchone() == (3,)


@pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE"])
def test_other_levels_of_isolation_meet_no_error_of_ours(
    postgres_server: PostgresServer, original: str, level: str
) -> None:
    with (
        _opened(postgres_server.url(original)) as storage,
        postgres_server.connect(original) as one,
        postgres_server.connect(original) as other,
    ):
        other.execute("INSERT INTO rules (setting, value) VALUES ('ratio', '1.0')")
        before = storage.revision()
        one.execute(f"BEGIN ISOLATION LEVEL {level}".encode())
        assert one.execute("SELECT count(*) FROM settings").fetchone() == (3,)
        other.execute("INSERT INTO rules (setting, value) VALUES ('ratio', '1.0')")
        between = storage.revision()
        one.execute("INSERT INTO rules (setting, value) VALUES ('limits', '{}')")
        one.execute("COMMIT")
        assert len({before, between, storage.revision()}) == 3
        with storage.reading() as reader:
            assert storage.changed_since(storage.name_of(before), reader) == {"ratio", "limits"}
            assert storage.changed_since(storage.name_of(between), reader) == {"limits"}


def test_a_writer_without_rights_on_our_tables_is_counted(
    postgres_server: PostgresServer, original: str
) -> None:
    with (
        _opened(postgres_server.url(original)) as storage,
        postgres_server.connect(original) as connection,
    ):
        before = storage.revision()
        connection.execute("CREATE ROLE clerk; GRANT INSERT ON settings TO clerk; SET ROLE clerk")
        connection.execute("SET search_path = pg_catalog")
        connection.execute("INSERT INTO public.settings VALUES ('s', 'int', '1', '1.0')")
        assert storage.revision() != before
        connection.execute("RESET ROLE; DROP OWNED BY clerk; DROP ROLE clerk")


def test_a_writer_waits_for_the_original_and_never_holds_it_up(
    postgres_server: PostgresServer, original: str
) -> None:
    """It keeps a transaction open while it writes in another; this service waits for the first."""
    declared = {
        "name": "background",
        "type": 'Enum["black","white"]',
        "default_value": "white",
        "configurable_features": ["user", "theme"],
        "metadata": {"owner": "jane", "gone": None},
    }
    with (
        _opened(postgres_server.url(original)) as storage,
        postgres_server.connect(original) as one,
        postgres_server.connect(original) as other,
        ServiceProcess() as service,
        ThreadPoolExecutor() as pool,
    ):
        service.start(features=[], database=postgres_server.url(original))
        one.execute("BEGIN; UPDATE settings SET version = '1.4' WHERE name = 'background'")
        answer = pool.submit(service.request, "POST", "/settings/declare", declared)
        _wait_until_somebody_waits(other)
        other.execute("UPDATE settings SET version = '1.1' WHERE name = 'ratio'")
        assert not answer.done()
        one.execute("COMMIT")
        assert answer.result(DEADLINE).json() == {
            "outcome": "outdated",
            "latest_version": "1.4",
            "differences": [],
        }
        with storage.reading() as reader:
            assert [setting.version for setting in reader.settings()] == ["1.4", "2.0", "1.1"]


def _wait_until_somebody_waits(connection: psycopg.Connection) -> None:
    """It waits for a lock on the tables."""
    query = "SELECT 1 FROM pg_locks WHERE NOT granted AND mode = 'ShareRowExclusiveLock'"
    end = time.monotonic() + DEADLINE
    while connection.execute(query.encode()).fetchone() is None:
        assert time.monotonic() < end, "nobody waits"
