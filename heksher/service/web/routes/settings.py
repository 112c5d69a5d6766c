"""Routes of settings: applications declare them, people list and change them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from starlette.requests import Request

from heksher.service.domain import changes, declarations, filters, limits, messages
from heksher.service.domain.declarations import DeclaredSetting, UnknownFeatures, WrongFirstVersion
from heksher.service.domain.records import SettingRecord
from heksher.service.domain.refusals import Refusal, malformed
from heksher.service.storage import Reader, Storage
from heksher.service.web import bodies
from heksher.service.web.answer_cache import CachedAnswer
from heksher.service.web.http import Call, Encoded, MaybeSlow, flag
from heksher.service.web.routes.answers import Answers, encoded, size_of, untagged
from heksher.service.web.routes.stored import existing_setting, put_setting, raw


@dataclass(frozen=True, slots=True)
class Settings:
    """The question for a list of settings.

    Attributes:
        detailed: whether with features, metadata and aliases.
        names: names or aliases, sorted and without duplicates; unknown ones are left out. None means
            all settings.
    """

    detailed: bool
    names: tuple[str, ...] | None

    @property
    def size(self) -> int:
        """The memory that it takes, in bytes, as an estimate."""
        return size_of(self.names or ())


class SettingRoutes:
    """Handlers for settings and their declarations."""

    def __init__(self, storage: Storage, answers: Answers) -> None:
        self._storage = storage
        self._answers = answers

    async def list(
        self, request: Request
    ) -> MaybeSlow[Encoded[messages.Settings]] | MaybeSlow[Encoded[messages.ShortSettings]]:
        """List all settings, or those with some names, on request with all that belongs to them."""
        question = _parse_list(request.query_params)
        return await self._answers.get(question, partial(self._list, question), untagged)

    def _list(self, question: Settings, *_: object) -> CachedAnswer:
        with self._storage.reading() as reader:
            names = question.names
            found = None if names is None else list(reader.canonical_names(names).values())
            records = reader.settings(found)
        if question.detailed:
            return encoded(messages.Settings([_setting(record) for record in records]))
        return encoded(messages.ShortSettings([_short_setting(record) for record in records]))

    def get(self, call: Call) -> messages.Setting:
        """Return a setting."""
        name = call.name()
        with self._storage.reading() as reader:
            return _setting(existing_setting(reader, name))

    def delete(self, call: Call) -> None:
        """Delete a setting with its rules, metadata and aliases."""
        name = call.name()
        with self._storage.writing() as writer:
            canonical = writer.canonical_name(name)
            if canonical is None:
                raise Refusal(404, "setting name not found")
            writer.delete_setting(canonical)

    def declare(self, call: Call) -> messages.Created | messages.Compared:
        """Declare a setting as an application knows it."""
        # Duplicate keys are accepted here: deployed applications have never been refused for them.
        declared = bodies.declaration(call.fields(unique_keys=False))
        with self._storage.writing() as writer:
            features = writer.features()
            stored = _declared_setting(writer, declared)
            if stored is None:
                try:
                    created = declarations.create(declared, features)
                except WrongFirstVersion as error:
                    raise Refusal(400, "newly created settings must have version 1.0") from error
                except UnknownFeatures as error:
                    raise Refusal(404, _unacceptable(error)) from error
                limits.check_setting(created)
                writer.add_setting(created)
                return messages.Created()
            rules = writer.rules([stored.name])
            try:
                comparison = declarations.compare(declared, stored, rules, features)
            except UnknownFeatures as error:
                raise Refusal(404, body=messages.Refused(_unacceptable(error))) from error
            if comparison.replacement is not None:
                put_setting(writer, stored, comparison.replacement)
        return comparison.answer

    def rename(self, call: Call) -> None:
        """Rename a setting; its old name becomes an alias. The version does not have to be higher."""
        name = call.name()
        fields = call.fields()
        new_name, version = bodies.setting_name(fields, "name"), bodies.version(fields)
        with self._storage.writing() as writer:
            stored = writer.setting(name)
            if stored is None:
                raise Refusal(404, "setting does not exist")
            holder = writer.canonical_name(new_name)
            changed = changes.with_name(stored, new_name, version, holder=holder)
            put_setting(writer, stored, changed)

    def change_type(self, call: Call) -> None:
        """Change the type of a setting. Its default value and the values of its rules must fit."""
        name = call.name()
        fields = call.fields()
        wanted, version = bodies.setting_type(fields), bodies.version(fields)
        with self._storage.writing() as writer:
            stored = existing_setting(writer, name)
            rules = writer.rules([stored.name])
            put_setting(writer, stored, changes.with_type(stored, wanted, version, rules))

    def change_features(self, call: Call) -> None:
        """Change the configurable features of a setting. Features that rules use must stay."""
        name = call.name()
        fields = call.fields()
        wanted, version = bodies.texts_of_features(fields), bodies.version(fields)
        with self._storage.writing() as writer:
            stored = existing_setting(writer, name)
            changed = changes.with_features(
                stored,
                wanted,
                version,
                rules=writer.rules([stored.name]),
                features=writer.features(),
            )
            put_setting(writer, stored, changed)


def _parse_list(parameters: Mapping[str, str]) -> Settings:
    detailed, names = flag(parameters, "include_additional_data"), parameters.get("settings")
    try:
        wanted = None if names is None else filters.parse_setting_names(names)
    except filters.MalformedParameter as error:
        raise malformed(str(error)) from error
    return Settings(detailed, None if wanted is None else tuple(sorted(set(wanted))))


def _short_setting(record: SettingRecord) -> messages.ShortSetting:
    return messages.ShortSetting(
        record.name, record.type, raw(record.default_value), record.version
    )


def _setting(record: SettingRecord) -> messages.Setting:
    return messages.Setting(
        record.name,
        record.type,
        raw(record.default_value),
        record.version,
        record.features,
        record.metadata,
        record.aliases,
    )


def _declared_setting(reader: Reader, declared: DeclaredSetting) -> SettingRecord | None:
    """Find the setting that a declaration is about, by its name or its alias."""
    stored = reader.setting(declared.name)
    if declared.alias is None:
        return stored
    canonical = reader.canonical_name(declared.alias)
    if canonical is None:
        raise Refusal(404, body=messages.Refused(f"alias {declared.alias} does not exist"))
    if stored is None and declared.alias == canonical:
        return reader.setting(canonical)
    if stored is not None and stored.name == canonical:
        return stored
    detail = f"alias {declared.alias} is an alias of unrelated setting {canonical}"
    raise Refusal(409, body=messages.Refused(detail))


def _unacceptable(error: UnknownFeatures) -> str:
    return f"{error.names} are not acceptable context features"
