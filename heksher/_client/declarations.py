"""What has to be declared, given what the service has, and what the answer means.

Pure decisions; the core carries them out. Facts: sections 4 and 15 of the protocol.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import msgspec

from heksher._text import one_line, shown
from heksher._wire import (
    Declaration,
    DeclarationAnswer,
    Difference,
    Exchange,
    Outcome,
    settings,
)
from heksher.setting import Setting
from heksher.status import DeclarationState, DeclaredSetting, SettingData


class Catalogue:
    """The settings of a service, to be found by name or alias."""

    __slots__ = ("_by_any_name",)

    def __init__(self, settings: Iterable[SettingData]) -> None:
        found: dict[str, SettingData] = {}
        for setting in settings:
            for alias in setting.aliases:
                found[alias] = setting
            found[setting.name] = setting
        self._by_any_name = found

    def find(self, name: str | None) -> SettingData | None:
        """Return the setting that *name* leads to, or None."""
        return None if name is None else self._by_any_name.get(name)


def catalogue() -> Exchange[Catalogue]:
    """Ask for all settings of the service; what is large is sorted where it is read."""
    asked = settings()
    return Exchange(asked.request, lambda response: Catalogue(asked.read(response).values()))


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do about one setting.

    Attributes:
        declarations: to be sent one after another, until one is not accepted.
        current_name: the name by which the service knows the setting once they are accepted.
        declared: how the setting stands if there is nothing to declare.
        unknown_alias: whether the setting's alias was left out, since the service knows it not.
    """

    declarations: tuple[Declaration, ...]
    current_name: str
    declared: DeclaredSetting | None = None
    unknown_alias: bool = False


def declaration_of(setting: Setting[Any]) -> Declaration:
    """Return the declaration that *setting* makes."""
    return Declaration(
        setting.name,
        setting.type.wire_name,
        setting.configurable_features,
        setting.type.encode(setting.default_value),
        setting.metadata,
        setting.alias,
        setting.version,
    )


def plan(declaration: Declaration, catalogue: Catalogue) -> Plan:
    """Decide what to declare, so that a setting that is up to date costs no request."""
    name = declaration.name
    stored = catalogue.find(name)
    if stored is not None and stored.name != name:
        # Somebody renamed it. Declared under the old name, the service would refuse it, or rename
        # it back for everybody.
        version = one_line(stored.version)
        return Plan((), stored.name, DeclaredSetting(DeclarationState.RENAMED, version))
    aliased = catalogue.find(declaration.alias)
    unknown_alias = declaration.alias is not None and aliased is None
    if unknown_alias:
        declaration = replace(declaration, alias=None)
    if stored is None and aliased is None and declaration.version != "1.0":
        # The service takes new settings only as version 1.0.
        return Plan(
            (replace(declaration, version="1.0"), declaration), name, unknown_alias=unknown_alias
        )
    if stored is not None and aliased in (None, stored) and _equal(declaration, stored):
        return Plan(
            (), name, DeclaredSetting(DeclarationState.UPTODATE, stored.version), unknown_alias
        )
    return Plan((declaration,), name, unknown_alias=unknown_alias)


def _equal(declaration: Declaration, stored: SettingData) -> bool:
    """Whether declaring would change nothing. In doubt it is False: then the service decides."""
    return (
        declaration.version == stored.version
        and declaration.type == stored.type
        and set(declaration.configurable_features) == set(stored.configurable_features)
        and _same_json(declaration.default_value, stored.default_value)
        and _same_json(declaration.metadata, stored.metadata)
    )


def _same_json(here: Any, there: Any) -> bool:
    """Compare as JSON texts compare: 1, 1.0 and true are three values.

    What is here is what an application wrote down. What is there may be megabytes, and an event loop
    waits: it is looked at no further than to the first difference.
    """
    try:
        return _same(msgspec.json.decode(msgspec.json.encode(here)), there)
    except RecursionError:
        return False


def _same(here: Any, there: Any) -> bool:
    if type(here) is not type(there):
        return False
    if isinstance(here, dict):
        members = cast("Mapping[str, Any]", here)
        return members.keys() == there.keys() and all(
            _same(member, there[key]) for key, member in members.items()
        )
    if isinstance(here, list):
        parts = cast("Sequence[Any]", here)
        return len(parts) == len(there) and all(map(_same, parts, there))
    # As text, in which 0.0 and -0.0 are two.
    return bool(here == there) and (not isinstance(here, float) or repr(here) == repr(there))


_MENDS = {
    Outcome.MISMATCH: "declare what the service has, or raise the version to declare the change",
    Outcome.REJECTED: "raise the major version",
    Outcome.REFUSED: "mend the declaration or the service, then start again",
}

_PAST = {
    Outcome.MISMATCH: "found to differ from the same version on the service",
    Outcome.REJECTED: "rejected",
    Outcome.REFUSED: "refused",
}


def judge(declaration: Declaration, answer: DeclarationAnswer) -> DeclaredSetting:
    """Say how a setting stands after an answer: each attribute, its value here and there, the mend."""
    differences = tuple(_told(declaration, difference) for difference in answer.differences)
    there = answer.service_version and one_line(answer.service_version)
    refusal = None
    if not answer.accepted:
        mend = _MENDS[answer.outcome]
        if any(difference.level == "mismatch" for difference in answer.differences):
            mend = (
                "have the rules that are named changed or removed, then raise the version; "
                "no version will do before"
            )
        refusal = (
            f"the declaration at version {declaration.version} was {_PAST[answer.outcome]}"
            f"{f' (the service has version {there})' if there else ''}: "
            f"{'; '.join(differences) or answer.text}. Mend: {mend}."
        )
    if answer.outcome in (Outcome.CREATED, Outcome.UPTODATE, Outcome.MISMATCH):
        there = declaration.version
    return DeclaredSetting(DeclarationState(answer.outcome.value), there, differences, refusal)


def _told(declaration: Declaration, difference: Difference) -> str:
    level, attribute = one_line(difference.level), difference.attribute
    if attribute is None:
        return f"{one_line(difference.message or '')} ({level})"
    return (
        f"{one_line(attribute)} is {shown(_value_here(declaration, attribute), 500)} here "
        f"and {shown(difference.latest_value, 500)} on the service ({level})"
    )


def failed(declaration: Declaration, error: Exception) -> DeclaredSetting:
    """Say how a setting stands whose declaration the service could not deal with."""
    return DeclaredSetting(
        DeclarationState.FAILED,
        refusal=(
            f"the declaration at version {declaration.version} failed: {error}. "
            "Mend: look into the service; the declaration is tried again."
        ),
    )


def lacking_features(lacking: Iterable[str], there: Iterable[str]) -> DeclaredSetting:
    """Say how a setting stands that needs context features which the service does not have."""
    return DeclaredSetting(
        DeclarationState.REFUSED,
        refusal=(
            f"its configurable features are not all known to the service: "
            f"{', '.join(map(repr, sorted(lacking)))} is missing there, which has "
            f"{one_line(', '.join(there)) or 'none'}. Mend: add the feature to the service, "
            "or take it from the setting."
        ),
    )


def _value_here(declaration: Declaration, attribute: str) -> Any:
    if attribute == "configurable_features":
        return sorted(declaration.configurable_features)
    return getattr(declaration, attribute, None)
