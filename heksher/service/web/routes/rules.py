"""Routes of rules: add, find, change, delete."""

from __future__ import annotations

from heksher._names import SETTING_NAME_RULE, is_setting_name
from heksher.service.domain import filters, json_values, limits, messages, setting_types
from heksher.service.domain.json_values import Json
from heksher.service.domain.records import SettingRecord
from heksher.service.domain.refusals import Refusal, malformed
from heksher.service.storage import Storage
from heksher.service.web import bodies
from heksher.service.web.http import BASE, Call, Located
from heksher.service.web.routes.stored import existing_rule, existing_setting, raw


class RuleRoutes:
    """Handlers for the rules of settings."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def add(self, call: Call) -> Located[messages.RuleId]:
        """Add a rule whose conditions no other rule of the setting has."""
        fields = call.fields()
        name = bodies.setting_name(fields, "setting")
        conditions = bodies.conditions(fields)
        value, metadata = bodies.required(fields, "value"), bodies.metadata(fields)
        with self._storage.writing() as writer:
            setting = writer.setting(name)
            if setting is None:
                raise Refusal(422, f"setting not found with name {name}")
            foreign = sorted(set(conditions) - set(setting.features))
            if foreign:
                raise Refusal(
                    400,
                    f"feature_values: setting is not configurable at context features {foreign}",
                )
            _check_value(setting, value)
            if writer.rule_on(setting.name, conditions) is not None:
                raise Refusal(409, "rule already exists")
            limits.check_rule_metadata(metadata)
            rule_id = writer.add_rule(setting.name, json_values.write(value), conditions, metadata)
        return Located(messages.RuleId(rule_id), f"{BASE}/rules/{rule_id}")

    def get(self, call: Call) -> messages.Rule:
        """Return a rule."""
        rule_id = call.rule_id()
        with self._storage.reading() as reader:
            rule = existing_rule(reader, rule_id)
        return messages.Rule(rule.setting, raw(rule.value), rule.conditions, rule.metadata)

    def search(self, call: Call) -> messages.RuleId:
        """Return the id of the rule with exactly these conditions."""
        try:
            conditions = filters.parse_conditions(call.query.get("feature_values", ""))
        except filters.MalformedParameter as error:
            raise malformed(str(error)) from error
        name = call.query.get("setting", "")
        if not is_setting_name(name):
            raise malformed(f"invalid setting {name!r}: expected {SETTING_NAME_RULE}")
        with self._storage.reading() as reader:
            setting = reader.setting(name)
            if setting is None or not conditions.keys() <= set(setting.features):
                raise Refusal(404)
            rule_id = reader.rule_on(setting.name, conditions)
        if rule_id is None:
            raise Refusal(404)
        return messages.RuleId(rule_id)

    def change_value(self, call: Call) -> None:
        """Change the value of a rule."""
        rule_id = call.rule_id()
        value = bodies.required(call.fields(), "value")
        with self._storage.writing() as writer:
            rule = writer.rule(rule_id)
            if rule is None:
                raise Refusal(404, "")
            _check_value(existing_setting(writer, rule.setting), value)
            writer.put_rule_value(rule_id, json_values.write(value))

    def delete(self, call: Call) -> None:
        """Delete a rule. Its id is never used again."""
        rule_id = call.rule_id()
        with self._storage.writing() as writer:
            existing_rule(writer, rule_id)
            writer.delete_rule(rule_id)


def _check_value(setting: SettingRecord, value: Json) -> None:
    if not setting_types.parse(setting.type).contains(value):
        raise Refusal(400, f"rule value is incompatible with setting type {setting.type}")
    bodies.check_storable(value, "value")
