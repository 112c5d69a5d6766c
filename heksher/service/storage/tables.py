"""The tables of a Heksher database, as SQLAlchemy Core describes them.

Tables, columns, keys, indexes and their names are those of the original service, so that either
service can use the database. This service's own additions are called ``heksher_…`` and are created by
``heksher.service.storage.migrations``; ``heksher_version`` is described here so that it can be queried.
Schema only: no queries, no connections.
"""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import (
    Column,
    Dialect,
    ForeignKey,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.types import TypeEngine

from heksher.service.domain import json_values

# Revision after the last migration of the original service, in its table alembic_version, and those
# before, oldest first.
REVISION = "83f0f272313f"
EARLIER_REVISIONS = ("2d75117ba1f8", "89eab5c8510a", "37b28f79cccf", "7713520cb02b")

# Revision after the last of this service's own migrations, in heksher_version.
OWN_REVISION = "0002"

metadata: MetaData = MetaData(
    naming_convention={
        "pk": "%(table_name)s_pkey",
        "fk": "%(table_name)s_%(column_0_name)s_fkey",
        "uq": "%(table_name)s_%(column_0_N_name)s_key",
        "ix": "ix_%(table_name)s_%(column_0_name)s",
    }
)


class MetadataValue(TypeDecorator[Any]):
    """A JSON value: jsonb in PostgreSQL, text in SQLite.

    SQLAlchemy's JSON type cannot be used: in SQLite, its columns have numeric affinity and turn 1.0
    into 1.
    """

    impl: TypeEngine[Any] | type[TypeEngine[Any]] = Text
    cache_ok: bool | None = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if dialect.name == "postgresql":
            return dialect.type_descriptor(JSONB())
        return dialect.type_descriptor(Text())

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:
        return value if dialect.name == "postgresql" else json_values.write(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:
        return value if dialect.name == "postgresql" else json_values.read(value.encode())


def read_jsonb(data: bytes | str) -> Any:
    """Read the value of a jsonb column. Integers beyond 64 bits were written as floats."""
    return json.loads(data, parse_int=_read_integer)


def _read_integer(digits: str) -> int | float:
    value = int(digits)
    return value if json_values.is_storable_integer(value) else float(digits)


def _of_setting() -> Column[str]:
    return Column(
        "setting",
        String,
        ForeignKey("settings.name", onupdate="CASCADE", ondelete="CASCADE"),
        nullable=False,
        index=True,
    )


def _of_rule() -> Column[int]:
    return Column(
        "rule",
        Integer,
        ForeignKey("rules.id", onupdate="CASCADE", ondelete="CASCADE"),
        nullable=False,
        index=True,
    )


def _on_feature() -> Column[str]:
    return Column("context_feature", String, ForeignKey("context_features.name"), nullable=False)


settings: Table = Table(
    "settings",
    metadata,
    Column("name", String, primary_key=True),
    Column("type", String, nullable=False),
    Column("default_value", String, nullable=False),
    Column("version", String, nullable=True),
)

context_features: Table = Table(
    "context_features",
    metadata,
    Column("name", String, primary_key=True),
    Column("index", Integer, nullable=True),
    UniqueConstraint("index"),
)

configurable: Table = Table(
    "configurable",
    metadata,
    _of_setting(),
    _on_feature(),
    UniqueConstraint("setting", "context_feature"),
)

rules: Table = Table(
    "rules",
    metadata,
    Column("id", Integer, primary_key=True),
    _of_setting(),
    Column("value", String, nullable=False),
    # Without this, SQLite would use ids of deleted rules again.
    sqlite_autoincrement=True,
)

conditions: Table = Table(
    "conditions",
    metadata,
    _of_rule(),
    _on_feature(),
    Column("feature_value", String, nullable=False),
    UniqueConstraint("rule", "context_feature"),
)

setting_metadata: Table = Table(
    "setting_metadata",
    metadata,
    _of_setting(),
    Column("key", String, nullable=False),
    Column("value", MetadataValue, nullable=False),
    UniqueConstraint("setting", "key"),
)

rule_metadata: Table = Table(
    "rule_metadata",
    metadata,
    _of_rule(),
    Column("key", String, nullable=False),
    Column("value", MetadataValue, nullable=False),
    UniqueConstraint("rule", "key"),
)

setting_aliases: Table = Table(
    "setting_aliases",
    metadata,
    _of_setting(),
    Column("alias", String, primary_key=True),
)

alembic_version: Table = Table(
    "alembic_version",
    metadata,
    Column("version_num", String(32), nullable=False),
    PrimaryKeyConstraint("version_num", name="alembic_version_pkc"),
)

_own = MetaData()

heksher_version: Table = Table("heksher_version", _own, Column("version_num", String(32)))
