"""Routes of metadata of settings and rules: arbitrary JSON by key, changed as a whole or by key."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import TypeAlias

from heksher.service.domain import changes, limits, messages
from heksher.service.domain.json_values import Json
from heksher.service.storage import Storage
from heksher.service.web import bodies
from heksher.service.web.http import Call
from heksher.service.web.routes.stored import existing_rule, existing_setting, put_setting

_Change: TypeAlias = Callable[[Mapping[str, Json]], Mapping[str, Json]]


class _MetadataRoutes(ABC):
    """Handlers for metadata; subclasses say whose metadata it is."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    @abstractmethod
    def get(self, call: Call) -> messages.MetadataOf:
        """Return all metadata."""

    @abstractmethod
    def _change(self, call: Call, change: _Change) -> None:
        """Apply *change* to the stored metadata."""

    def merge(self, call: Call) -> None:
        """Set the given keys, keep the others."""
        given = bodies.metadata(call.fields())
        self._change(call, lambda present: {**present, **given})

    def replace(self, call: Call) -> None:
        """Replace all metadata."""
        given = bodies.metadata(call.fields())
        self._change(call, lambda _: given)

    def clear(self, call: Call) -> None:
        """Delete all metadata."""
        self._change(call, lambda _: {})

    def put_key(self, call: Call) -> None:
        """Set one key."""
        key, value = call.key(), bodies.metadata_value(call.fields())
        self._change(call, lambda present: {**present, key: value})

    def delete_key(self, call: Call) -> None:
        """Delete one key, if it exists."""
        gone = call.key()
        self._change(
            call, lambda present: {key: item for key, item in present.items() if key != gone}
        )


class SettingMetadataRoutes(_MetadataRoutes):
    """Handlers for a setting's metadata. Every change needs a body with a higher version."""

    def get(self, call: Call) -> messages.MetadataOf:
        """Return all metadata."""
        name = call.name()
        with self._storage.reading() as reader:
            return messages.MetadataOf(existing_setting(reader, name).metadata)

    def _change(self, call: Call, change: _Change) -> None:
        name, version = call.name(), bodies.version(call.fields())
        with self._storage.writing() as writer:
            stored = existing_setting(writer, name)
            changed = changes.with_metadata(stored, change(stored.metadata), version)
            put_setting(writer, stored, changed)


class RuleMetadataRoutes(_MetadataRoutes):
    """Handlers for a rule's metadata."""

    def get(self, call: Call) -> messages.MetadataOf:
        """Return all metadata."""
        rule_id = call.rule_id()
        with self._storage.reading() as reader:
            return messages.MetadataOf(existing_rule(reader, rule_id).metadata)

    def _change(self, call: Call, change: _Change) -> None:
        rule_id = call.rule_id()
        with self._storage.writing() as writer:
            changed = change(existing_rule(writer, rule_id).metadata)
            limits.check_rule_metadata(changed)
            writer.put_rule_metadata(rule_id, changed)
