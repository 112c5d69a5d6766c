"""Changes inside a transaction that excludes other writers.

Knows tables, but neither how a transaction begins nor which changes are allowed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from heksher.service.domain.json_values import Json
from heksher.service.domain.records import SettingRecord
from heksher.service.storage import tables as t
from heksher.service.storage.reader import Reader


class Writer(Reader):
    """Queries and changes inside a transaction that excludes other writers.

    Attributes:
        changed: the names of the settings that it changed, as far as queries show it. None means that
            anything may have changed.
    """

    def __init__(self, connection: sa.Connection) -> None:
        super().__init__(connection)
        self.changed: set[str] | None = set()

    def put_features(self, features: Sequence[str]) -> None:
        """Replace the ordered list of features; those that are not in *features* are deleted."""
        self.changed = None  # the order of conditions
        table = t.context_features
        stored = self.features()
        gone = [name for name in stored if name not in features]
        if gone:
            self._connection.execute(table.delete().where(table.c.name.in_(gone)))
        # The database requires unique indexes even during the update, so clear them all first.
        self._connection.execute(table.update().values({"index": None}))
        for index, name in enumerate(features):
            if name in stored:
                change = table.update().where(table.c.name == name).values({"index": index})
                self._connection.execute(change)
            else:
                self._connection.execute(table.insert().values({"name": name, "index": index}))

    def add_setting(self, setting: SettingRecord) -> None:
        """Store a new setting."""
        self._note(setting.name)
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
        """Replace *old* by *new*; the rules stay."""
        if (new.name, set(new.aliases)) == (old.name, set(old.aliases)):
            self._note(new.name)
        else:
            self.changed = None
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
        if new.metadata is not old.metadata:  # not !=, to which true and 1 are equal
            self._clear(t.setting_metadata, new.name)
            self._put_metadata_of(new)
        if set(new.aliases) != set(old.aliases):
            self._clear(t.setting_aliases, new.name)
            self._insert(
                t.setting_aliases,
                [{"setting": new.name, "alias": alias} for alias in new.aliases],
            )

    def delete_setting(self, name: str) -> None:
        """Delete the setting with this name (not alias) and all that belongs to it."""
        self.changed = None
        self._connection.execute(t.settings.delete().where(t.settings.c.name == name))

    def add_rule(
        self,
        setting: str,
        value: str,
        conditions: Mapping[str, str],
        metadata: Mapping[str, Json],
    ) -> int:
        """Store a new rule and return its id."""
        self._note(setting)
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
        self._note_setting_of(rule_id)
        self._connection.execute(
            t.rules.update().where(t.rules.c.id == rule_id).values(value=value)
        )

    def put_rule_metadata(self, rule_id: int, metadata: Mapping[str, Json]) -> None:
        """Replace all metadata of a rule."""
        self._note_setting_of(rule_id)
        table = t.rule_metadata
        self._connection.execute(table.delete().where(table.c.rule == rule_id))
        self._put_metadata_of_rule(rule_id, metadata)

    def delete_rule(self, rule_id: int) -> None:
        """Delete a rule."""
        self._note_setting_of(rule_id)
        self._connection.execute(t.rules.delete().where(t.rules.c.id == rule_id))

    def _note(self, setting: str) -> None:
        if self.changed is not None:
            self.changed.add(setting)

    def _note_setting_of(self, rule_id: int) -> None:
        found = sa.select(t.rules.c.setting).where(t.rules.c.id == rule_id)
        for name in self._connection.scalars(found):
            self._note(name)

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
        # With an empty list, execute() would insert one row of defaults.
        if rows:
            self._connection.execute(table.insert(), rows)
