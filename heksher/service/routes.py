"""The routes of the protocol: what each request does, in which order it is checked.

Knows storage, the rules of declarations and the forms of answers. Each handler is one transaction.
The paths are listed at the end.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections import defaultdict
from collections.abc import Sequence

import msgspec
from starlette.responses import Response
from starlette.routing import Route

from heksher.names import is_setting_name
from heksher.service import bodies, filters, wire_json, wire_types
from heksher.service import declaration as rules_of_declaration
from heksher.service.declaration import Declaration, UnknownFeatures, WrongFirstVersion, version_of
from heksher.service.errors import Refusal, malformed
from heksher.service.feature_order import moved
from heksher.service.http import Call, Handler, Resource, json_response, no_content
from heksher.service.records import RuleRecord, SettingRecord
from heksher.service.storage import Reader, Storage
from heksher.service.wire_json import Json

HEALTH_PATH = "/api/health"
_BASE = "/api/v1"

_ENTITY_TAG = re.compile(r'(?:\A|,)\s*(?:W/)?("[^"]*")\s*(?=,|\Z)')


class Health:
    """Whether the service can answer."""

    def __init__(self, storage: Storage, version: str) -> None:
        self._storage = storage
        self._version = version

    def get(self, _call: Call) -> Response:
        """The version, with 500 when the database does not answer."""
        return json_response({"version": self._version}, 200 if self._storage.answers() else 500)


class ContextFeatures:
    """The ordered list of context features."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def list(self, _call: Call) -> Response:
        """All names, in order."""
        with self._storage.reading() as reader:
            return json_response({"context_features": reader.features()})

    def get(self, call: Call) -> Response:
        """The index of one."""
        name = call.name()
        with self._storage.reading() as reader:
            features = reader.features()
        if name not in features:
            raise Refusal(404)
        return json_response({"index": features.index(name)})

    def add(self, call: Call) -> Response:
        """A new one, at the end."""
        name = bodies.feature_name(call.fields(), "context_feature")
        with self._storage.writing() as writer:
            features = writer.features()
            if name in features:
                raise Refusal(409, "context feature already exists")
            writer.put_features([*features, name])
        return no_content()

    def delete(self, call: Call) -> Response:
        """One goes, unless a setting is configurable by it; later ones move up."""
        name = call.name()
        with self._storage.writing() as writer:
            features = writer.features()
            if name not in features:
                raise Refusal(404)
            if writer.users_of_feature(name):
                raise Refusal(
                    409,
                    "context feature can't be deleted, there is at least one setting "
                    "configured by it",
                )
            writer.put_features([feature for feature in features if feature != name])
        return no_content()

    def move(self, call: Call) -> Response:
        """One goes to another place in the order."""
        name = call.name()
        fields = call.fields()
        after = fields.get("to_after") is not None
        anchor = bodies.text(fields, "to_after" if after else "to_before")
        with self._storage.writing() as writer:
            features = writer.features()
            if name not in features or anchor not in features:
                raise Refusal(404)
            writer.put_features(moved(features, name, anchor, after=after))
        return no_content()


class Settings:
    """Settings, and declarations of them."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def list(self, call: Call) -> Response:
        """All of them, on request with everything that is known of each."""
        detailed = call.flag("include_additional_data")
        with self._storage.reading() as reader:
            records = reader.settings()
        return json_response(
            {"settings": [_setting(record, detailed=detailed) for record in records]}
        )

    def get(self, call: Call) -> Response:
        """One of them."""
        name = call.name()
        with self._storage.reading() as reader:
            return json_response(_setting(_existing(reader, name), detailed=True))

    def delete(self, call: Call) -> Response:
        """One goes, with its rules, metadata and aliases."""
        name = call.name()
        with self._storage.writing() as writer:
            canonical = writer.canonical_name(name)
            if canonical is None:
                raise Refusal(404, "setting name not found")
            writer.delete_setting(canonical)
        return no_content()

    def declare(self, call: Call) -> Response:
        """An application says how it believes a setting to be."""
        declared = bodies.declaration(call.fields())
        with self._storage.writing() as writer:
            features = writer.features()
            stored = _declared_setting(writer, declared)
            if stored is None:
                try:
                    writer.add_setting(rules_of_declaration.create(declared, features))
                except WrongFirstVersion as error:
                    raise Refusal(400, "newly created settings must have version 1.0") from error
                except UnknownFeatures as error:
                    raise Refusal(404, _unacceptable(error)) from error
                return json_response({"outcome": "created"})
            rules = writer.rules([stored.name])
            try:
                decision = rules_of_declaration.decide(declared, stored, rules, features)
            except UnknownFeatures as error:
                raise Refusal(404, body={"detail": _unacceptable(error)}) from error
            if decision.write is not None:
                writer.replace_setting(stored, decision.write)
        return json_response(decision.as_json(), 409 if decision.refuses else 200)

    def rename(self, call: Call) -> Response:
        """One gets another name; the old one becomes an alias. An equal version is enough."""
        name = call.name()
        fields = call.fields()
        new_name, version = bodies.setting_name(fields, "name"), bodies.version(fields)
        with self._storage.writing() as writer:
            stored = writer.setting(name)
            if stored is None:
                raise Refusal(404, "setting does not exist")
            stored_version, wanted_version = version_of(stored.version), version_of(version)
            if new_name == stored.name and wanted_version == stored_version:
                return no_content()
            if wanted_version < stored_version:
                raise Refusal(
                    409, f"The setting {name} already has a newer version ({stored.version})"
                )
            if writer.canonical_name(new_name) not in (None, stored.name):
                raise Refusal(409, "name already exists")
            writer.replace_setting(stored, rules_of_declaration.renamed(stored, new_name, version))
        return no_content()


class Rules:
    """Rules of settings."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def add(self, call: Call) -> Response:
        """A new one, on conditions that no other rule of the setting has."""
        fields = call.fields()
        name = bodies.setting_name(fields, "setting")
        conditions = bodies.conditions(fields)
        value, metadata = bodies.value(fields, "value"), bodies.metadata(fields)
        with self._storage.writing() as writer:
            setting = writer.setting(name)
            if setting is None:
                raise Refusal(422, f"setting not found with name {name}")
            foreign = sorted(set(conditions) - set(setting.features))
            if foreign:
                raise Refusal(400, f"setting is not configurable at context features {foreign}")
            _check_value(setting, value)
            if writer.rule_on(setting.name, conditions) is not None:
                raise Refusal(409, "rule already exists")
            rule_id = writer.add_rule(setting.name, wire_json.write(value), conditions, metadata)
        location = {"Location": f"{_BASE}/rules/{rule_id}"}
        return json_response({"rule_id": rule_id}, 201, location)

    def get(self, call: Call) -> Response:
        """One of them."""
        rule_id = call.rule_id()
        with self._storage.reading() as reader:
            rule = _existing_rule(reader, rule_id)
        return json_response(
            {
                "setting": rule.setting,
                "value": _raw(rule.value),
                "feature_values": rule.conditions,
                "metadata": rule.metadata,
            }
        )

    def search(self, call: Call) -> Response:
        """The id of the rule with exactly these conditions."""
        try:
            conditions = filters.parse_conditions(call.query.get("feature_values", ""))
        except filters.MalformedParameter as error:
            raise malformed(str(error)) from error
        name = call.query.get("setting", "")
        if not is_setting_name(name):
            raise malformed("setting must name one")
        with self._storage.reading() as reader:
            setting = reader.setting(name)
            if setting is None or not conditions.keys() <= set(setting.features):
                raise Refusal(404)
            rule_id = reader.rule_on(setting.name, conditions)
        if rule_id is None:
            raise Refusal(404)
        return json_response({"rule_id": rule_id})

    def change_value(self, call: Call) -> Response:
        """Another value for one of them."""
        rule_id = call.rule_id()
        value = bodies.value(call.fields(), "value")
        with self._storage.writing() as writer:
            rule = writer.rule(rule_id)
            if rule is None:
                raise Refusal(404, "")
            _check_value(_existing(writer, rule.setting), value)
            writer.put_rule_value(rule_id, wire_json.write(value))
        return no_content()

    def delete(self, call: Call) -> Response:
        """One goes; its id is never used again."""
        rule_id = call.rule_id()
        with self._storage.writing() as writer:
            _existing_rule(writer, rule_id)
            writer.delete_rule(rule_id)
        return no_content()


class Query:
    """What clients poll: default values and rules."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def get(self, call: Call) -> Response:
        """The settings asked for, each with the rules that pass the filters."""
        with_metadata = call.flag("include_metadata")
        names = call.query.get("settings")
        try:
            wanted = None if names is None else filters.parse_setting_names(names)
            items = filters.parse_filters(call.query.get("context_filters", "*"))
        except filters.MalformedParameter as error:
            raise malformed(str(error)) from error
        with self._storage.reading() as reader:
            canonical = None if wanted is None else _canonical(reader, wanted)
            try:
                passing = filters.Filter.of(items)
            except filters.RepeatedFeature as error:
                raise Refusal(400, str(error)) from error
            defaults = reader.defaults(canonical)
            rules = reader.rules(canonical, with_metadata=with_metadata)
        by_setting: defaultdict[str, list[dict[str, object]]] = defaultdict(list)
        for rule in rules:
            if passing.passes(rule.conditions):
                by_setting[rule.setting].append(_queried(rule, with_metadata=with_metadata))
        body = msgspec.json.encode(
            {
                "settings": {
                    name: {"default_value": _raw(default), "rules": by_setting[name]}
                    for name, default in defaults.items()
                }
            }
        )
        tag = f'"{hashlib.blake2b(body, digest_size=16).hexdigest()}"'
        if _names_tag(call.if_none_match, tag):
            return Response(status_code=304, headers={"ETag": tag})
        return Response(body, headers={"ETag": tag}, media_type="application/json")


def _canonical(reader: Reader, names: Sequence[str]) -> list[str]:
    found = reader.canonical_names(names)
    unknown = [name for name in dict.fromkeys(names) if name not in found]
    if unknown:
        raise Refusal(404, f"the following are not setting names: {unknown}")
    return list(dict.fromkeys(found.values()))


def _names_tag(header_lines: Sequence[str], tag: str) -> bool:
    """Whether If-None-Match names *tag*, compared weakly, or everything."""
    header = ",".join(header_lines)
    return header.strip() == "*" or tag in _ENTITY_TAG.findall(header)


def _queried(rule: RuleRecord, *, with_metadata: bool) -> dict[str, object]:
    section: dict[str, object] = {
        "value": _raw(rule.value),
        "context_features": rule.conditions,
        "rule_id": rule.id,
    }
    if with_metadata:
        section["metadata"] = rule.metadata
    return section


def _setting(record: SettingRecord, *, detailed: bool) -> dict[str, object]:
    section: dict[str, object] = {
        "name": record.name,
        "type": record.type,
        "default_value": _raw(record.default_value),
        "version": record.version,
    }
    if detailed:
        section["configurable_features"] = record.features
        section["metadata"] = record.metadata
        section["aliases"] = record.aliases
    return section


def _raw(json_text: str) -> msgspec.Raw:
    """Stored JSON, to be sent as it is."""
    return msgspec.Raw(json_text)


def _declared_setting(reader: Reader, declared: Declaration) -> SettingRecord | None:
    """The setting that a declaration is about, found by its name or by the alias it gives."""
    stored = reader.setting(declared.name)
    if declared.alias is None:
        return stored
    canonical = reader.canonical_name(declared.alias)
    if canonical is None:
        raise Refusal(404, body={"detail": f"alias {declared.alias} does not exist"})
    if stored is None and declared.alias == canonical:
        return reader.setting(canonical)
    if stored is not None and stored.name == canonical:
        return stored
    detail = f"alias {declared.alias} is an alias of unrelated setting {canonical}"
    raise Refusal(409, body={"detail": detail})


def _unacceptable(error: UnknownFeatures) -> str:
    return f"{error.names} are not acceptable context features"


def _existing(reader: Reader, name: str) -> SettingRecord:
    setting = reader.setting(name)
    if setting is None:
        raise Refusal(404, f"the setting {name} does not exist")
    return setting


def _existing_rule(reader: Reader, rule_id: int) -> RuleRecord:
    rule = reader.rule(rule_id)
    if rule is None:
        raise Refusal(404)
    return rule


def _check_value(setting: SettingRecord, value: Json) -> None:
    if not wire_types.parse(setting.type).contains(value):
        raise Refusal(400, f"rule value is incompatible with setting type {setting.type}")


def _with_name(name: str, handler: Handler) -> Handler:
    """*handler* for a path that is spelled out and yet could be a setting's."""

    def named(call: Call) -> Response:
        return handler(dataclasses.replace(call, path={"name": name}))

    return named


def routes(storage: Storage, version: str) -> list[Route]:
    """All paths of the service."""
    health, features, settings = (
        Health(storage, version),
        ContextFeatures(storage),
        Settings(storage),
    )
    rules, query = Rules(storage), Query(storage)
    table: dict[str, dict[str, Handler]] = {
        "/context_features": {"GET": features.list, "POST": features.add},
        "/context_features/{name}": {"GET": features.get, "DELETE": features.delete},
        "/context_features/{name}/index": {"PATCH": features.move},
        "/settings": {"GET": settings.list},
        # A setting may be called "declare", and is found like any other.
        "/settings/declare": {
            "POST": settings.declare,
            "GET": _with_name("declare", settings.get),
            "DELETE": _with_name("declare", settings.delete),
        },
        "/settings/{name}": {"GET": settings.get, "DELETE": settings.delete},
        "/settings/{name}/name": {"PUT": settings.rename},
        "/rules": {"POST": rules.add},
        # "search" stands where an id could stand, and is none for the other methods.
        "/rules/search": {
            "GET": rules.search,
            "PATCH": rules.change_value,
            "DELETE": rules.delete,
        },
        "/rules/{id}": {"GET": rules.get, "PATCH": rules.change_value, "DELETE": rules.delete},
        "/rules/{id}/value": {"PUT": rules.change_value},
        "/query": {"GET": query.get},
    }
    return [
        Route(HEALTH_PATH, Resource({"GET": health.get})),
        *(Route(_BASE + path, Resource(handlers)) for path, handlers in table.items()),
    ]
