"""The database: schema and concurrent writes."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import stat
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from starlette.types import ASGIApp
from support.databases import KeptDatabase
from transcript_replay import AS_JSON, Answer, Request, call

from heksher.service import create_app
from heksher.service.domain.errors import CannotStartError
from heksher.service.domain.filters import Filter, parse_filters
from heksher.service.domain.records import SettingRecord
from heksher.service.storage import migrations, open_storage, tables

# Table, columns, primary key, and the names of unique constraints, indexes and foreign keys.
_SCHEMA = """
alembic_version: version_num; alembic_version_pkc; ; ;
configurable: setting context_feature; ; configurable_setting_context_feature_key; ix_configurable_setting; configurable_context_feature_fkey configurable_setting_fkey
conditions: rule context_feature feature_value; ; conditions_rule_context_feature_key; ix_conditions_rule; conditions_context_feature_fkey conditions_rule_fkey
context_features: name index; context_features_pkey; context_features_index_key; ;
heksher_version: version_num; heksher_version_pkc; ; ;
rule_metadata: rule key value; ; rule_metadata_rule_key_key; ix_rule_metadata_rule; rule_metadata_rule_fkey
rules: id setting value; rules_pkey; ; ix_rules_setting; rules_setting_fkey
setting_aliases: setting alias; setting_aliases_pkey; ; ix_setting_aliases_setting; setting_aliases_setting_fkey
setting_metadata: setting key value; ; setting_metadata_setting_key_key; ix_setting_metadata_setting; setting_metadata_setting_fkey
settings: name type default_value version; settings_pkey; ; ;
"""  # noqa: E501


def _described(name: str, inspector: sa.Inspector) -> str:
    parts = [
        [column["name"] for column in inspector.get_columns(name)],
        [str(inspector.get_pk_constraint(name)["name"] or "")],
        sorted(str(constraint["name"]) for constraint in inspector.get_unique_constraints(name)),
        sorted(str(index["name"]) for index in inspector.get_indexes(name)),
        sorted(str(key["name"]) for key in inspector.get_foreign_keys(name)),
    ]
    return f"{name}: " + "; ".join(" ".join(part) for part in parts)


def test_schema(tmp_path: Path) -> None:
    path = tmp_path / "heksher.db"
    open_storage(str(path)).close()
    engine = sa.create_engine(f"sqlite:///{path}")
    inspector = sa.inspect(engine)
    described = [_described(name, inspector) for name in sorted(inspector.get_table_names())]
    engine.dispose()
    expected = sorted(_SCHEMA.strip().splitlines())
    # SQLite cannot name the key of a table with AUTOINCREMENT.
    expected = [line.replace("rules_pkey", "") for line in expected]
    assert [line.strip(" ;") for line in described] == [line.strip(" ;") for line in expected]


def test_a_file_without_our_own_revision_is_migrated_only_when_it_may_be(tmp_path: Path) -> None:
    path = str(tmp_path / "heksher.db")
    open_storage(path, ["user"]).close()
    connection = sqlite3.connect(path)
    connection.execute("DROP TABLE heksher_version")
    connection.close()
    with pytest.raises(CannotStartError, match="start once with --migrate"):
        create_app(path)
    open_storage(path, migrate=True).close()
    with closing(open_storage(path)) as storage, storage.reading() as reader:
        assert reader.features() == ["user"]


@pytest.mark.parametrize("is_link", [False, True])
def test_only_its_owner_can_use_a_new_file(tmp_path: Path, is_link: bool) -> None:
    before = os.umask(0)
    try:
        path = tmp_path / "a.db"
        if is_link:
            path.symlink_to("elsewhere.db")
        with closing(open_storage(str(path), ["user"])):
            modes = {each.name: stat.S_IMODE(each.stat().st_mode) for each in tmp_path.iterdir()}
        name = path.resolve().name
        assert modes == dict.fromkeys({"a.db", name, f"{name}-wal", f"{name}-shm"}, 0o600)
    finally:
        os.umask(before)


def test_an_existing_file_keeps_its_permissions(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    path.touch()
    path.chmod(0o660)
    with closing(open_storage(str(path), ["user"])):
        modes = {stat.S_IMODE(each.stat().st_mode) for each in tmp_path.iterdir()}
    assert modes == {0o660}


def test_the_last_migration_is_the_one_that_tables_are_of() -> None:
    assert migrations.pending(tables.OWN_REVISION) == []


async def _send(app: ASGIApp, method: str, path: str, body: Any = None) -> Answer:
    content = b"" if body is None else json.dumps(body).encode()
    path, _, query = path.partition("?")
    request = Request(method, path, query or None, AS_JSON, content)
    return await call(app, request)


def _declaration(name: str = "a", **more: Any) -> dict[str, Any]:
    body = {"name": name, "configurable_features": ["user"], "type": "int", "default_value": 1}
    return body | more


@pytest.fixture(params=["memory", "file"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return "memory" if request.param == "memory" else str(tmp_path / "heksher.db")


async def _at_once(app: ASGIApp, method: str, path: str, bodies: list[Any]) -> list[Answer]:
    return await asyncio.gather(*(_send(app, method, path, body) for body in bodies))


def test_one_setting_declared_by_many_at_once(database: str) -> None:
    async def main() -> None:
        app = create_app(database, ["user"])
        async with app.router.lifespan_context(app):
            answers = await _at_once(app, "POST", "/api/v1/settings/declare", [_declaration()] * 40)
            outcomes = sorted(json.loads(answer.body)["outcome"] for answer in answers)
            assert outcomes == ["created"] + ["uptodate"] * 39

    asyncio.run(main())


def test_many_settings_declared_at_once(database: str) -> None:
    async def main() -> None:
        app = create_app(database, ["user"])
        async with app.router.lifespan_context(app):
            names = [f"s{number:02}" for number in range(40)]
            bodies = [_declaration(name) for name in names]
            answers = await _at_once(app, "POST", "/api/v1/settings/declare", bodies)
            assert {answer.status for answer in answers} == {200}
            listed = json.loads((await _send(app, "GET", "/api/v1/settings")).body)
            assert [setting["name"] for setting in listed["settings"]] == names

    asyncio.run(main())


def test_equal_rules_added_at_once(database: str) -> None:
    async def main() -> None:
        app = create_app(database, ["user"])
        async with app.router.lifespan_context(app):
            await _send(app, "POST", "/api/v1/settings/declare", _declaration())
            rule = {"setting": "a", "feature_values": {"user": "x"}, "value": 1}
            answers = await _at_once(app, "POST", "/api/v1/rules", [rule] * 10)
            assert sorted(answer.status for answer in answers) == [201] + [409] * 9

    asyncio.run(main())


def test_upgrades_at_once_never_lower_the_version(database: str) -> None:
    async def main() -> None:
        app = create_app(database, ["user"])
        async with app.router.lifespan_context(app):
            await _send(app, "POST", "/api/v1/settings/declare", _declaration())
            bodies = [_declaration(version=f"1.{number}") for number in range(1, 20)]
            answers = await _at_once(app, "POST", "/api/v1/settings/declare", bodies)
            assert {answer.status for answer in answers} == {200}
            found = json.loads((await _send(app, "GET", "/api/v1/settings/a")).body)
            assert found["version"] == "1.19"

    asyncio.run(main())


def test_features_added_at_once(database: str) -> None:
    async def main() -> None:
        app = create_app(database, ["user"])
        async with app.router.lifespan_context(app):
            bodies = [{"context_feature": f"f{number}"} for number in range(15)]
            answers = await _at_once(app, "POST", "/api/v1/context_features", bodies)
            assert {answer.status for answer in answers} == {204}
            listed = json.loads((await _send(app, "GET", "/api/v1/context_features")).body)
            assert len(listed["context_features"]) == 16

    asyncio.run(main())


def test_two_processes_may_share_a_file(tmp_path: Path) -> None:
    """Two applications simulate them: they share nothing but the file."""

    async def main() -> None:
        one, other = (create_app(str(tmp_path / "heksher.db"), ["user"]) for _ in range(2))
        async with one.router.lifespan_context(one), other.router.lifespan_context(other):
            bodies = [_declaration()] * 10
            answers = await asyncio.gather(
                _at_once(one, "POST", "/api/v1/settings/declare", bodies),
                _at_once(other, "POST", "/api/v1/settings/declare", bodies),
            )
            outcomes = [json.loads(answer.body)["outcome"] for some in answers for answer in some]
            assert sorted(outcomes) == ["created"] + ["uptodate"] * 19

    asyncio.run(main())


def test_rows_that_the_original_left_behind(tmp_path: Path) -> None:
    """No version, null for NaN, a rule without conditions, two rules with equal conditions."""
    path = tmp_path / "heksher.db"
    open_storage(str(path), ["user"]).close()
    connection = sqlite3.connect(path)
    connection.executescript(
        """
        INSERT INTO settings VALUES ('a', 'float', 'null', NULL);
        INSERT INTO configurable VALUES ('a', 'user');
        INSERT INTO rules VALUES (1, 'a', 'null'), (2, 'a', '1.0'), (3, 'a', '2');
        INSERT INTO conditions VALUES (2, 'user', 'x'), (3, 'user', 'x');
        """
    )
    connection.close()

    async def main() -> None:
        app = create_app(str(path))
        async with app.router.lifespan_context(app):
            setting = json.loads((await _send(app, "GET", "/api/v1/settings/a")).body)
            assert (setting["version"], setting["default_value"]) == ("1.0", None)
            answer = await _send(app, "GET", "/api/v1/query?context_filters=")
            rules = json.loads(answer.body)["settings"]["a"]["rules"]
            assert rules == [{"value": None, "context_features": [], "rule_id": 1}]
            query = "setting=a&feature_values=user:x"
            answer = await _send(app, "GET", f"/api/v1/rules/search?{query}")
            assert json.loads(answer.body) == {"rule_id": 2}
            rule = {"setting": "a", "feature_values": {"user": "x"}, "value": 1}
            assert (await _send(app, "POST", "/api/v1/rules", rule)).status == 409
            declared = _declaration(type="float", version="1.1")
            answer = await _send(app, "POST", "/api/v1/settings/declare", declared)
            assert json.loads(answer.body)["differences"] == [
                {"level": "minor", "attribute": "default_value", "latest_value": None}
            ]

    asyncio.run(main())


def test_a_query_of_more_names_than_a_statement_takes(database: str) -> None:
    async def main() -> None:
        app = create_app(database, ["user"])
        async with app.router.lifespan_context(app):
            for name in ("a", "b"):
                await _send(app, "POST", "/api/v1/settings/declare", _declaration(name))
            await _send(app, "PUT", "/api/v1/settings/b/name", {"name": "c", "version": "1.0"})
            for name in ("a", "c"):
                rule = {"setting": name, "feature_values": {"user": "x"}, "value": 2}
                await _send(app, "POST", "/api/v1/rules", rule)
            path = "/api/v1/query?settings=b" + ",b" * 40_000
            answer = await _send(app, "GET", path)
            assert list(json.loads(answer.body)["settings"]) == ["c"]
            path = "/api/v1/query?settings=b," + ",".join(f"x{n}" for n in range(40_000))
            assert (await _send(app, "GET", path)).status == 404

    asyncio.run(main())


def test_the_database_leaves_out_rules_that_do_not_pass(
    monkeypatch: pytest.MonkeyPatch, kept_database: KeptDatabase
) -> None:
    read: list[object] = []
    passes = Filter.passes

    def noted(rules: Filter, conditions: Sequence[tuple[str, str]]) -> bool:
        read.append(conditions)
        return passes(rules, conditions)

    def check(query: str, passing: set[str], number: int | None = None) -> None:
        read.clear()
        with storage.reading() as reader:
            found = reader.rules(["s"], Filter.of(parse_filters(query)), with_metadata=True)
        assert {rule.metadata["a"] for rule in found} == passing
        assert len(read) == (len(passing) if number is None else number)

    monkeypatch.setattr(Filter, "passes", noted)
    with closing(open_storage(kept_database.url, ["user", "env"])) as storage:
        with storage.writing() as writer:
            writer.add_setting(SettingRecord("s", "int", "0", "1.0", ("user", "env"), {}, ()))
            writer.add_rule("s", "1", {"user": "u0", "env": "e0"}, {"a": "u0 e0"})
            writer.add_rule("s", "2", {"user": "u1", "env": "e0"}, {"a": "u1 e0"})
            writer.add_rule("s", "3", {"user": "u0"}, {"a": "u0"})
            writer.add_rule("s", "4", {"env": "e1"}, {"a": "e1"})
        check("*", {"u0 e0", "u1 e0", "u0", "e1"})
        check("", set())
        check("user:*", {"u0"})
        check("user:(u0,u7),env:(e0)", {"u0 e0", "u0"})
        check("user:*,env:(e0)", {"u0 e0", "u1 e0", "u0"})
        check("env:(e1)", {"e1"})
        check("env:(e1)," + ",".join(f"x{n}:(a,b,c,d)" for n in range(99)), {"e1"})
        # More than a statement takes.
        values = ",".join(f"e{n}" for n in range(600))
        check(f"user:(u0),env:({values})", {"u0 e0", "u0", "e1"}, 4)
        check("env:(e1)," + ",".join(f"x{n}:*" for n in range(2_000)), {"e1"}, 4)
