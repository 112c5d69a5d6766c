"""Metadata of settings and of rules: free JSON under keys, changed as a whole or key by key."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import TypeAlias

from heksher.service.domain import changes, limits
from heksher.service.domain import messages as types
from heksher.service.domain.json_values import Json
from heksher.service.storage import Storage
from heksher.service.web import bodies
from heksher.service.web.http import Call
from heksher.service.web.routes.stored import existing_rule, existing_setting, put_setting

_Change: TypeAlias = Callable[[Mapping[str, Json]], Mapping[str, Json]]


class _MetadataResource(ABC):
    """What the two kinds have in common; they differ in whose metadata it is."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    @abstractmethod
    def get(self, call: Call) -> types.MetadataOf:
        """All of it."""

    @abstractmethod
    def _change(self, call: Call, change: _Change) -> None:
        """Store what *change* makes of the metadata that is there."""

    def merge(self, call: Call) -> None:
        """The keys given are set, others stay."""
        given = bodies.metadata(call.fields())
        self._change(call, lambda present: {**present, **given})

    def replace(self, call: Call) -> None:
        """What is given is all that there is from now on."""
        given = bodies.metadata(call.fields())
        self._change(call, lambda _: given)

    def clear(self, call: Call) -> None:
        """Nothing stays."""
        self._change(call, lambda _: {})

    def put_key(self, call: Call) -> None:
        """One key is set."""
        key, value = call.key(), bodies.metadata_value(call.fields())
        self._change(call, lambda present: {**present, key: value})

    def delete_key(self, call: Call) -> None:
        """One key goes, if it is there."""
        gone = call.key()
        self._change(
            call, lambda present: {key: item for key, item in present.items() if key != gone}
        )


class SettingMetadata(_MetadataResource):
    """A setting's. Every change needs a higher version, which a body tells even for a deletion."""

    def get(self, call: Call) -> types.MetadataOf:
        """All of it."""
        name = call.name()
        with self._storage.reading() as reader:
            return types.MetadataOf(existing_setting(reader, name).metadata)

    def _change(self, call: Call, change: _Change) -> None:
        name, version = call.name(), bodies.version(call.fields())
        with self._storage.writing() as writer:
            stored = existing_setting(writer, name)
            changed = changes.with_metadata(stored, change(stored.metadata), version)
            put_setting(writer, stored, changed)


class RuleMetadata(_MetadataResource):
    """A rule's."""

    def get(self, call: Call) -> types.MetadataOf:
        """All of it."""
        rule_id = call.rule_id()
        with self._storage.reading() as reader:
            return types.MetadataOf(existing_rule(reader, rule_id).metadata)

    def _change(self, call: Call, change: _Change) -> None:
        rule_id = call.rule_id()
        with self._storage.writing() as writer:
            changed = change(existing_rule(writer, rule_id).metadata)
            limits.check_rule_metadata(changed)
            writer.put_rule_metadata(rule_id, changed)
