"""Queries inside a transaction: settings, rules, context features.

Knows tables, but neither how a transaction begins nor HTTP.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from heksher.service.domain.filters import Filter
from heksher.service.domain.json_values import Json
from heksher.service.domain.records import RuleRecord, SettingRecord
from heksher.service.storage import tables as t

# The highest rule id: ids are 32-bit integers in the original's database.
_MAX_RULE_ID = 2**31 - 1

# Maximum number of names, and of values in filters, in a statement, since databases limit its parameters,
# and of features in filters, since they limit its depth. For more of them, whole tables are read and
# filtered here.
_MAX_NAMES_IN_STATEMENT = 500
_MAX_FEATURES_IN_STATEMENT = 100

_EVERYTHING = Filter(None)


class Reader:
    """Queries inside a transaction. Settings are found by name and by alias."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    @property
    def connection(self) -> sa.Connection:
        """The connection that the transaction has."""
        return self._connection

    def features(self) -> list[str]:
        """List the context features, in order."""
        columns = t.context_features.c
        statement = sa.select(columns.name).order_by(columns.index, columns.name)
        return list(self._connection.scalars(statement))

    def canonical_name(self, name: str) -> str | None:
        """Return the name of the setting with *name* as its name or alias."""
        return self.canonical_names([name]).get(name)

    def canonical_names(self, names: Sequence[str]) -> dict[str, str]:
        """Map names and aliases to names of settings; unknown ones are left out."""
        wanted = set(names)
        name, aliases = t.settings.c.name, t.setting_aliases.c
        statements = [
            sa.select(name, name).where(_among(name, wanted)),
            sa.select(aliases.alias, aliases.setting).where(_among(aliases.alias, wanted)),
        ]
        return {
            row[0]: row[1]
            for statement in reversed(statements)  # names take precedence over aliases
            for row in self._connection.execute(statement)
            if row[0] in wanted
        }

    def setting(self, name: str) -> SettingRecord | None:
        """Return the setting with this name or alias."""
        canonical = self.canonical_name(name)
        return None if canonical is None else self.settings([canonical])[0]

    def settings(self, names: Sequence[str] | None = None) -> list[SettingRecord]:
        """List the settings with these names (not aliases), or all of them, sorted by name."""
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
        """Map these settings, or all, to their default values as JSON text, sorted by name."""
        columns = t.settings.c
        wanted = None if names is None else set(names)
        statement = sa.select(columns.name, columns.default_value).where(
            _among(columns.name, wanted)
        )
        rows = self._connection.execute(statement)
        return dict(sorted((r[0], r[1]) for r in rows if wanted is None or r[0] in wanted))

    def rule(self, rule_id: int) -> RuleRecord | None:
        """Return the rule with this id."""
        if not 0 < rule_id <= _MAX_RULE_ID:
            return None
        found = self._rules(t.rules.c.id == rule_id, with_metadata=True)
        return found[0] if found else None

    def rules(
        self,
        settings: Sequence[str] | None,
        passing: Filter = _EVERYTHING,
        *,
        with_metadata: bool = False,
    ) -> list[RuleRecord]:
        """List the rules of these settings, or of all, that pass the filter, sorted by id."""
        wanted = None if settings is None else set(settings)
        where = sa.and_(_among(t.rules.c.setting, wanted), _passing(passing))
        return [
            rule
            for rule in self._rules(where, with_metadata=with_metadata)
            if (wanted is None or rule.setting in wanted) and passing.passes(rule.conditions)
        ]

    def rule_on(self, setting: str, conditions: Mapping[str, str]) -> int | None:
        """Return the id of the setting's rule with exactly these conditions; of several, the lowest."""
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
        """List the settings that are configurable by *feature*."""
        columns = t.configurable.c
        statement = sa.select(columns.setting).where(columns.context_feature == feature)
        return sorted(self._connection.scalars(statement))

    def _rules(self, where: sa.ColumnElement[bool], *, with_metadata: bool) -> list[RuleRecord]:
        rules, conditions = t.rules.c, t.conditions.c
        statement = sa.select(rules.id, rules.setting, rules.value).where(where).order_by(rules.id)
        rows = self._connection.execute(statement).all()
        if not rows:
            return []
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
        return [
            RuleRecord(
                id=row[0],
                setting=row[1],
                value=row[2],
                conditions=tuple(sorted(by_rule[row[0]], key=lambda c: order.get(c[0], -1))),
                metadata=metadata[row[0]],
            )
            for row in rows
        ]

    def _pairs(self, table: sa.Table, wanted: set[str] | None) -> defaultdict[str, set[str]]:
        """Map settings to the values in the other column of *table*."""
        other = next(column for column in table.c if column.name != "setting")
        found: defaultdict[str, set[str]] = defaultdict(set)
        statement = sa.select(table.c.setting, other).where(_among(table.c.setting, wanted))
        for setting, value in self._connection.execute(statement):
            found[setting].add(value)
        return found

    def _metadata(self, wanted: set[str] | None) -> defaultdict[str, dict[str, Json]]:
        """Map settings to their metadata, with sorted keys."""
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


def _passing(rules: Filter) -> sa.ColumnElement[bool]:
    """Make a condition that lets at least these rules pass; callers filter the result."""
    listed = rules.listed
    if listed is None or len(listed) > _MAX_FEATURES_IN_STATEMENT:
        return sa.true()
    if sum(len(values or ()) for values in listed.values()) > _MAX_NAMES_IN_STATEMENT:
        return sa.true()
    other = t.conditions.alias()
    is_listed = (
        sa.and_(
            other.c.context_feature == feature,
            sa.true() if values is None else other.c.feature_value.in_(sorted(values)),
        )
        for feature, values in sorted(listed.items())
    )
    is_other = sa.and_(other.c.rule == t.rules.c.id, sa.not_(sa.or_(sa.false(), *is_listed)))
    return ~sa.exists().select_from(other).where(is_other).correlate(t.rules)


def _among(column: sa.ColumnElement[Any], wanted: set[str] | None) -> sa.ColumnElement[bool]:
    """Make a condition that lets at least the *wanted* values pass; callers filter the result.

    None means all values.
    """
    if wanted is None or len(wanted) > _MAX_NAMES_IN_STATEMENT:
        return sa.true()
    return column.in_(sorted(wanted))
