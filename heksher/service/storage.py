"""All SQL of the service: opening a database, reading and writing settings, rules and features.

Knows tables and transactions; knows neither the rules of declarations nor HTTP. Synchronous: who
lives in an event loop calls it from a worker thread. One transaction is one connection, and what
happens inside ``writing()`` happens alone.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Generator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.pool import StaticPool

from heksher.service import tables as t
from heksher.service.errors import CannotStartError
from heksher.service.feature_order import merged
from heksher.service.records import RuleRecord, SettingRecord
from heksher.service.wire_json import Json

MEMORY = "memory"

# Seconds to wait for another process that writes to the same file.
_BUSY_TIMEOUT = 30.0

# Rule ids are 32-bit integers in the original's database.
_MAX_RULE_ID = 2**31 - 1

# Above that many names a whole table is read and filtered here: databases bound the number of
# parameters of a statement.
_MAX_NAMES_IN_STATEMENT = 500


class Storage:
    """An open database."""

    def __init__(self, engine: sa.Engine, *, one_connection: bool) -> None:
        self._engine = engine
        self._writing_engine = engine.execution_options(heksher_begin="BEGIN IMMEDIATE")
        # Writers of this process queue here; what SQLite offers instead is polling. With a single
        # connection readers have to queue as well.
        self._write_guard: AbstractContextManager[object] = threading.RLock()
        self._read_guard = self._write_guard if one_connection else nullcontext()

    @contextmanager
    def reading(self) -> Generator[Reader]:
        """A transaction that sees one state of everything."""
        with self._read_guard, self._engine.begin() as connection:
            yield Reader(connection)

    @contextmanager
    def writing(self) -> Generator[Writer]:
        """A transaction that is alone in writing; an exception undoes it."""
        with self._write_guard, self._writing_engine.begin() as connection:
            yield Writer(connection)

    def answers(self) -> bool:
        """Whether the database can be asked."""
        try:
            with self.reading() as reader:
                reader.features()
        except SQLAlchemyError:
            return False
        return True

    def close(self) -> None:
        """Close all connections. The database in memory is gone then."""
        self._engine.dispose()


def open_storage(database: str, features: Sequence[str] = ()) -> Storage:
    """Open *database*, creating file and tables where they are missing, and merge *features* in.

    Args:
        database: the path of an SQLite file, or ``memory`` for one that lives as long as this.
        features: context features that must be there, in this order; empty: as stored.

    Raises:
        CannotStartError: the database cannot be opened, is none of Heksher's, or has features
            that contradict *features*.
    """
    merged((), features)  # a bad name is found before a file is created
    in_memory = database in (MEMORY, ":memory:")
    engine = _memory_engine() if in_memory else _file_engine(database)
    storage = Storage(engine, one_connection=in_memory)
    try:
        with storage.writing() as writer:
            writer.prepare(features)
    except DBAPIError as error:
        storage.close()
        raise CannotStartError(f"cannot open the database {database!r}: {error.orig}") from error
    except CannotStartError:
        storage.close()
        raise
    return storage


def _memory_engine() -> sa.Engine:
    engine = sa.create_engine(
        "sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False}
    )
    return _with_pragmas(engine, "PRAGMA foreign_keys = ON")


def _file_engine(path: str) -> sa.Engine:
    if not path or "://" in path:
        raise CannotStartError(
            f"{path!r} is no database: give the path of an SQLite file, or {MEMORY!r}"
        )
    url = sa.URL.create("sqlite", database=path)
    engine = sa.create_engine(url, connect_args={"timeout": _BUSY_TIMEOUT})
    return _with_pragmas(engine, "PRAGMA foreign_keys = ON", "PRAGMA journal_mode = WAL")


def _with_pragmas(engine: sa.Engine, *pragmas: str) -> sa.Engine:
    def connected(connection: Any, _record: object) -> None:
        # The driver must not begin transactions by itself: it would do so late, and never for
        # reading.
        connection.isolation_level = None
        for pragma in pragmas:
            connection.execute(pragma).close()

    def begin(connection: sa.Connection) -> None:
        options: Mapping[str, Any] = connection.get_execution_options()
        connection.exec_driver_sql(options.get("heksher_begin", "BEGIN"))

    event.listen(engine, "connect", connected)
    event.listen(engine, "begin", begin)
    return engine


class Reader:
    """What can be asked inside a transaction. Settings are found by name and by alias."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def features(self) -> list[str]:
        """The context features, in order."""
        columns = t.context_features.c
        statement = sa.select(columns.name).order_by(columns.index, columns.name)
        return list(self._connection.scalars(statement))

    def canonical_name(self, name: str) -> str | None:
        """The name of the setting that *name* leads to."""
        return self.canonical_names([name]).get(name)

    def canonical_names(self, names: Sequence[str]) -> dict[str, str]:
        """The names of the settings that *names* lead to; what leads nowhere is left out."""
        wanted = set(names)
        name, aliases = t.settings.c.name, t.setting_aliases.c
        statements = [
            sa.select(name, name).where(_among(name, wanted)),
            sa.select(aliases.alias, aliases.setting).where(_among(aliases.alias, wanted)),
        ]
        return {
            row[0]: row[1]
            for statement in reversed(statements)  # a name counts for more than an alias
            for row in self._connection.execute(statement)
            if row[0] in wanted
        }

    def setting(self, name: str) -> SettingRecord | None:
        """The setting with this name or alias."""
        canonical = self.canonical_name(name)
        return None if canonical is None else self.settings([canonical])[0]

    def settings(self, names: Sequence[str] | None = None) -> list[SettingRecord]:
        """The settings of these canonical names, or all; sorted by name."""
        wanted = None if names is None else set(names)
        features = self._pairs(t.configurable, wanted)
        aliases = self._pairs(t.setting_aliases, wanted)
        metadata = self._metadata(wanted)
        order = self.features()
        columns = t.settings.c
        statement = sa.select(
            columns.name, columns.type, columns.default_value, columns.version
        ).where(_among(columns.name, wanted))
        return sorted(
            (
                SettingRecord(
                    name=row.name,
                    type=row.type,
                    default_value=row.default_value,
                    version="1.0" if row.version is None else row.version,
                    features=tuple(f for f in order if f in features[row.name]),
                    metadata=metadata[row.name],
                    aliases=tuple(sorted(aliases[row.name])),
                )
                for row in self._connection.execute(statement)
                if wanted is None or row.name in wanted
            ),
            key=lambda record: record.name,
        )

    def defaults(self, names: Sequence[str] | None = None) -> dict[str, str]:
        """The default values, as JSON text, of these settings or all; sorted by name."""
        columns = t.settings.c
        wanted = None if names is None else set(names)
        statement = sa.select(columns.name, columns.default_value).where(
            _among(columns.name, wanted)
        )
        rows = self._connection.execute(statement)
        return dict(sorted((r[0], r[1]) for r in rows if wanted is None or r[0] in wanted))

    def rule(self, rule_id: int) -> RuleRecord | None:
        """The rule with this id."""
        if not 0 < rule_id <= _MAX_RULE_ID:
            return None
        found = self._rules(t.rules.c.id == rule_id, with_metadata=True)
        return found[0] if found else None

    def rules(
        self, settings: Sequence[str] | None, *, with_metadata: bool = False
    ) -> list[RuleRecord]:
        """The rules of these settings, or all, by ascending id."""
        wanted = None if settings is None else set(settings)
        found = self._rules(_among(t.rules.c.setting, wanted), with_metadata=with_metadata)
        return [rule for rule in found if wanted is None or rule.setting in wanted]

    def rule_on(self, setting: str, conditions: Mapping[str, str]) -> int | None:
        """The id of the setting's rule with exactly these conditions; of several, the first."""
        rules, columns = t.rules.c, t.conditions.c
        met = sa.or_(
            sa.false(),
            *(
                sa.and_(columns.context_feature == feature, columns.feature_value == value)
                for feature, value in conditions.items()
            ),
        )
        statement = (
            sa.select(sa.func.min(columns.rule))
            .join(t.rules, rules.id == columns.rule)
            .where(rules.setting == setting)
            .group_by(columns.rule)
            .having(
                sa.func.count() == len(conditions),
                sa.func.sum(sa.case((met, 1), else_=0)) == len(conditions),
            )
            .order_by(columns.rule)
            .limit(1)
        )
        found: int | None = self._connection.scalar(statement)
        return found

    def users_of_feature(self, feature: str) -> list[str]:
        """The settings that are configurable by *feature*."""
        columns = t.configurable.c
        statement = sa.select(columns.setting).where(columns.context_feature == feature)
        return sorted(self._connection.scalars(statement))

    def _rules(self, where: sa.ColumnElement[bool], *, with_metadata: bool) -> list[RuleRecord]:
        rules, conditions = t.rules.c, t.conditions.c
        order = {feature: index for index, feature in enumerate(self.features())}
        by_rule: defaultdict[int, list[tuple[str, str]]] = defaultdict(list)
        statement = (
            sa.select(conditions.rule, conditions.context_feature, conditions.feature_value)
            .join(t.rules, rules.id == conditions.rule)
            .where(where)
        )
        for rule, feature, value in self._connection.execute(statement):
            by_rule[rule].append((feature, value))
        metadata: defaultdict[int, dict[str, Json]] = defaultdict(dict)
        if with_metadata:
            columns = t.rule_metadata.c
            statement = (
                sa.select(columns.rule, columns.key, columns.value)
                .join(t.rules, rules.id == columns.rule)
                .where(where)
                .order_by(columns.key)
            )
            for rule, key, value in self._connection.execute(statement):
                metadata[rule][key] = value
        statement = sa.select(rules.id, rules.setting, rules.value).where(where).order_by(rules.id)
        return [
            RuleRecord(
                id=row[0],
                setting=row[1],
                value=row[2],
                conditions=tuple(sorted(by_rule[row[0]], key=lambda c: order.get(c[0], -1))),
                metadata=metadata[row[0]],
            )
            for row in self._connection.execute(statement)
        ]

    def _pairs(self, table: sa.Table, wanted: set[str] | None) -> defaultdict[str, set[str]]:
        """What *table* holds per setting, in its other column."""
        other = next(column for column in table.c if column.name != "setting")
        found: defaultdict[str, set[str]] = defaultdict(set)
        statement = sa.select(table.c.setting, other).where(_among(table.c.setting, wanted))
        for setting, value in self._connection.execute(statement):
            found[setting].add(value)
        return found

    def _metadata(self, wanted: set[str] | None) -> defaultdict[str, dict[str, Json]]:
        """The metadata of settings, with keys in a fixed order."""
        found: defaultdict[str, dict[str, Json]] = defaultdict(dict)
        columns = t.setting_metadata.c
        statement = (
            sa.select(columns.setting, columns.key, columns.value)
            .where(_among(columns.setting, wanted))
            .order_by(columns.key)
        )
        for setting, key, value in self._connection.execute(statement):
            found[setting][key] = value
        return found


def _among(column: sa.ColumnElement[Any], wanted: set[str] | None) -> sa.ColumnElement[bool]:
    """A condition that lets at least the *wanted* pass, None being all; callers filter once more."""
    if wanted is None or len(wanted) > _MAX_NAMES_IN_STATEMENT:
        return sa.true()
    return column.in_(sorted(wanted))


class Writer(Reader):
    """What can be changed inside a transaction that is alone in writing."""

    def prepare(self, features: Sequence[str]) -> None:
        """Create what is missing of the schema and merge *features* into the list.

        Raises:
            CannotStartError: the tables are of another revision, or the features contradict.
        """
        found = set(sa.inspect(self._connection).get_table_names())
        if not found:
            t.metadata.create_all(self._connection)
            self._connection.execute(t.alembic_version.insert().values(version_num=t.REVISION))
        elif not found >= t.metadata.tables.keys():
            raise CannotStartError("the database holds other tables than Heksher's")
        else:
            revisions = list(self._connection.scalars(sa.select(t.alembic_version.c.version_num)))
            if revisions != [t.REVISION]:
                raise CannotStartError(
                    f"the database is at revision {', '.join(revisions)}, not at {t.REVISION}"
                )
        stored = self.features()
        wanted = merged(stored, features)
        if wanted != stored:
            self.put_features(wanted)

    def put_features(self, features: Sequence[str]) -> None:
        """Make *features* the list, in this order; features that are not in it are deleted."""
        table = t.context_features
        stored = self.features()
        gone = [name for name in stored if name not in features]
        if gone:
            self._connection.execute(table.delete().where(table.c.name.in_(gone)))
        # Indexes are unique at every moment, also half-way through: so first there are none.
        self._connection.execute(table.update().values({"index": None}))
        for index, name in enumerate(features):
            if name in stored:
                change = table.update().where(table.c.name == name).values({"index": index})
                self._connection.execute(change)
            else:
                self._connection.execute(table.insert().values({"name": name, "index": index}))

    def add_setting(self, setting: SettingRecord) -> None:
        """Store a setting that is new."""
        self._connection.execute(
            t.settings.insert().values(
                name=setting.name,
                type=setting.type,
                default_value=setting.default_value,
                version=setting.version,
            )
        )
        self._put_features_of(setting)
        self._put_metadata_of(setting)

    def replace_setting(self, old: SettingRecord, new: SettingRecord) -> None:
        """Store *new* in the place of *old*; its rules stay."""
        table = t.settings
        self._connection.execute(
            table.update()
            .where(table.c.name == old.name)
            .values(
                name=new.name,
                type=new.type,
                default_value=new.default_value,
                version=new.version,
            )
        )
        if set(new.features) != set(old.features):
            self._clear(t.configurable, new.name)
            self._put_features_of(new)
        if new.metadata is not old.metadata:  # equality would take true for 1
            self._clear(t.setting_metadata, new.name)
            self._put_metadata_of(new)
        if set(new.aliases) != set(old.aliases):
            self._clear(t.setting_aliases, new.name)
            self._insert(
                t.setting_aliases,
                [{"setting": new.name, "alias": alias} for alias in new.aliases],
            )

    def delete_setting(self, name: str) -> None:
        """Forget the setting of this canonical name and all that belongs to it."""
        self._connection.execute(t.settings.delete().where(t.settings.c.name == name))

    def add_rule(
        self,
        setting: str,
        value: str,
        conditions: Mapping[str, str],
        metadata: Mapping[str, Json],
    ) -> int:
        """Store a new rule and return its id."""
        result = self._connection.execute(t.rules.insert().values(setting=setting, value=value))
        assert result.inserted_primary_key is not None
        rule_id = int(result.inserted_primary_key[0])
        self._insert(
            t.conditions,
            [
                {"rule": rule_id, "context_feature": feature, "feature_value": wanted}
                for feature, wanted in conditions.items()
            ],
        )
        self._put_metadata_of_rule(rule_id, metadata)
        return rule_id

    def put_rule_value(self, rule_id: int, value: str) -> None:
        """Change the value of a rule."""
        self._connection.execute(
            t.rules.update().where(t.rules.c.id == rule_id).values(value=value)
        )

    def put_rule_metadata(self, rule_id: int, metadata: Mapping[str, Json]) -> None:
        """Replace the metadata of a rule as a whole."""
        table = t.rule_metadata
        self._connection.execute(table.delete().where(table.c.rule == rule_id))
        self._put_metadata_of_rule(rule_id, metadata)

    def delete_rule(self, rule_id: int) -> None:
        """Forget a rule."""
        self._connection.execute(t.rules.delete().where(t.rules.c.id == rule_id))

    def _put_features_of(self, setting: SettingRecord) -> None:
        self._insert(
            t.configurable,
            [{"setting": setting.name, "context_feature": feature} for feature in setting.features],
        )

    def _put_metadata_of(self, setting: SettingRecord) -> None:
        self._insert(
            t.setting_metadata,
            [
                {"setting": setting.name, "key": key, "value": value}
                for key, value in setting.metadata.items()
            ],
        )

    def _put_metadata_of_rule(self, rule_id: int, metadata: Mapping[str, Json]) -> None:
        self._insert(
            t.rule_metadata,
            [{"rule": rule_id, "key": key, "value": item} for key, item in metadata.items()],
        )

    def _clear(self, table: sa.Table, setting: str) -> None:
        self._connection.execute(table.delete().where(table.c.setting == setting))

    def _insert(self, table: sa.Table, rows: list[dict[str, Any]]) -> None:
        # execute() with an empty list would insert one row of defaults.
        if rows:
            self._connection.execute(table.insert(), rows)
