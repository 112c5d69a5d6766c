"""What to declare, given the settings that the service has, and what its answers mean.

Pure decisions; `declaring` and `update` send the requests, note the results and log them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import msgspec

from heksher._text import joined, one_line, shown
from heksher._wire import (
    Declaration,
    DeclarationAnswer,
    Difference,
    Exchange,
    Response,
    setting,
    settings,
    split_names,
)
from heksher.exceptions import ServiceError
from heksher.setting import Setting
from heksher.status import DeclarationState, DeclaredSetting, SettingData

# Ask the original service for at most this many names one by one. At worst, where it has no other
# settings, that takes 0.4 seconds longer than the list. Where it has 5,000, it saves 1.5 seconds.
_MAX_SINGLY = 20
# The characters of one difference, and of the reason for a refusal, which names all differences.
_MAX_DIFFERENCE = 1000
_MAX_REASON = 2000


class Catalogue:
    """The settings of a service, by name and by alias."""

    __slots__ = ("_by_any_name",)

    def __init__(self, settings: Iterable[SettingData] = ()) -> None:
        self._by_any_name = {
            name: setting for setting in settings for name in (*setting.aliases, setting.name)
        }

    def add(self, other: Catalogue) -> None:
        """Add the settings of another catalogue."""
        self._by_any_name |= other._by_any_name

    def find(self, name: str | None) -> SettingData | None:
        """Return the setting with this name or alias, or None."""
        return None if name is None else self._by_any_name.get(name)


def look_ups(
    names: Sequence[str], *, lists_by_name: bool
) -> Iterator[Sequence[Exchange[Catalogue]]]:
    """Yield how to ask what the service has under these names or aliases.

    Each way is some requests. The next way is for when something on the way to the service refuses
    these; the last one is the list of all settings.

    Args:
        names: names or aliases.
        lists_by_name: whether the service lists settings by name. Then the cost depends on *names*
            alone. The original service takes 20 ms for each name, and for the list 0.4 ms for each
            setting of everyone, of which there may be thousands.
    """
    if lists_by_name:
        yield [_listed(some) for some in split_names(names, None)]
    # A name of dots would be a step in the path.
    elif len(names) <= _MAX_SINGLY and all(name.strip(".") for name in names):
        yield [_single(name) for name in names]
    yield [_listed(None)]


def _listed(names: Sequence[str] | None) -> Exchange[Catalogue]:
    # The catalogue is built where the response is read, since it may be large.
    exchange = settings(names)
    return Exchange(exchange.request, lambda response: Catalogue(exchange.read(response).values()))


def _single(name: str) -> Exchange[Catalogue]:
    exchange = setting(name)

    def read(response: Response) -> Catalogue:
        found = exchange.read(response)
        return Catalogue([] if found is None else [found])

    return Exchange(exchange.request, read)


# --- before declaring -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class DeclarationPlan:
    """How to declare one setting.

    Attributes:
        declarations: to be sent one after another, up to the first that is not accepted.
        current_name: the setting's name on the service once they are accepted.
        declared: the setting's declaration if there is nothing to send.
        unknown_alias: whether the alias was left out because the service does not know it.
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


def plan_declaration(declaration: Declaration, catalogue: Catalogue) -> DeclarationPlan:
    """Decide how to declare a setting. One that is up to date costs no request."""
    name = declaration.name
    stored = catalogue.find(name)
    if stored is not None and stored.name != name:
        # An operator renamed the setting. If it were declared by its old name, the service would refuse
        # it or rename it back for every application.
        renamed = DeclaredSetting(DeclarationState.RENAMED, one_line(stored.version))
        return DeclarationPlan((), stored.name, renamed)
    aliased = catalogue.find(declaration.alias)
    unknown_alias = declaration.alias is not None and aliased is None
    if unknown_alias:
        declaration = replace(declaration, alias=None)
    declarations: tuple[Declaration, ...] = (declaration,)
    declared = None
    if stored is None and aliased is None and declaration.version != "1.0":
        # The service accepts a new setting only at version 1.0.
        declarations = (replace(declaration, version="1.0"), declaration)
    elif stored is not None and aliased in (None, stored) and _is_up_to_date(declaration, stored):
        declarations = ()
        declared = DeclaredSetting(DeclarationState.UPTODATE, stored.version)
    return DeclarationPlan(declarations, name, declared, unknown_alias)


def _is_up_to_date(declaration: Declaration, stored: SettingData) -> bool:
    """Whether declaring would change nothing. When in doubt, it is False, and the service decides."""
    return (
        declaration.version == stored.version
        and declaration.type == stored.type
        and set(declaration.configurable_features) == set(stored.configurable_features)
        and _is_same_json(declaration.default_value, stored.default_value)
        and _is_same_json(declaration.metadata, stored.metadata)
    )


def _is_same_json(here: Any, there: Any) -> bool:
    """Compare as JSON texts compare: 1, 1.0 and true are three values.

    The value here is small, since it is written in an application's code. The one there may be
    megabytes, and an event loop waits, so that it is not encoded but compared up to the first difference.
    """
    try:
        return _is_same(msgspec.json.decode(msgspec.json.encode(here)), there)
    except RecursionError:
        return False


def _is_same(here: Any, there: Any) -> bool:
    if type(here) is not type(there):
        return False
    if isinstance(here, dict):
        members = cast("Mapping[str, Any]", here)
        return members.keys() == there.keys() and all(
            _is_same(member, there[key]) for key, member in members.items()
        )
    if isinstance(here, list):
        parts = cast("Sequence[Any]", here)
        return len(parts) == len(there) and all(map(_is_same, parts, there))
    # 0.0 and -0.0 are equal as numbers and differ as texts.
    return bool(here == there) and (not isinstance(here, float) or repr(here) == repr(there))


# --- after declaring ------------------------------------------------------------------------------


_REFUSALS = {
    DeclarationState.MISMATCH: "differs from the same version on the service",
    DeclarationState.REJECTED: "was rejected",
    DeclarationState.REFUSED: "was refused",
}
_HINTS = {
    DeclarationState.MISMATCH: "declare what the service has, or raise the version to declare the change",
    DeclarationState.REJECTED: "raise the major version",
    DeclarationState.REFUSED: "correct the declaration or the service, then start again",
}
_FOREIGN = (
    "was refused, as it seems by something on the way to the service",
    "have POST requests let through; it is retried every hour and by reload()",
)


def describe_answer(declaration: Declaration, answer: DeclarationAnswer) -> DeclaredSetting:
    """Describe the setting after the service's answer to its declaration.

    A refusal names each attribute that differs, with its value here and there, and what to do.
    """
    differences = tuple(
        one_line(_describe_difference(declaration, difference), _MAX_DIFFERENCE)
        for difference in answer.differences
    )
    service_version = answer.service_version and one_line(answer.service_version)
    refusal = None
    if not answer.accepted:
        what, hint = _REFUSALS[answer.state], _HINTS[answer.state]
        if answer.is_foreign:
            what, hint = _FOREIGN
        elif any(difference.level == "mismatch" for difference in answer.differences):
            hint = (
                "change or remove the rules that are named, then raise the version; "
                "until then the service refuses every version"
            )
        reason = one_line("; ".join(differences) or answer.text, _MAX_REASON)
        refusal = (
            f"the declaration of version {declaration.version} {what}"
            f"{f' (the service has version {service_version})' if service_version else ''}: "
            f"{reason}. Hint: {hint}."
        )
    # These answers tell no version, since the service has the declared one.
    if answer.state in ("created", "uptodate", "mismatch"):
        service_version = declaration.version
    return DeclaredSetting(answer.state, service_version, differences, refusal)


def describe_failure(declaration: Declaration, error: ServiceError) -> DeclaredSetting:
    """Describe a setting whose declaration got no answer that means anything, and will be retried."""
    return DeclaredSetting(
        DeclarationState.FAILED,
        refusal=(
            f"the declaration of version {declaration.version} failed: {error}. "
            "Hint: check the service; the declaration is retried."
        ),
    )


def describe_missing_features(missing: Iterable[str], known: Iterable[str]) -> DeclaredSetting:
    """Describe a setting that is not declared because the service lacks context features.

    Args:
        missing: configurable features of the setting that the service does not have.
        known: the service's context features.
    """
    return DeclaredSetting(
        DeclarationState.REFUSED,
        refusal=(
            f"the service has no context feature {joined(map(repr, sorted(missing)), 'or')}; "
            f"it has {one_line(joined(known)) or 'none'}. "
            "Hint: add the missing features to the service, or remove them from the setting."
        ),
    )


def _describe_difference(declaration: Declaration, difference: Difference) -> str:
    level, attribute = one_line(difference.level), difference.attribute
    if attribute is None:
        return f"{one_line(difference.message or '')} ({level})"
    here = getattr(declaration, attribute, None)
    if attribute == "configurable_features":
        here = sorted(declaration.configurable_features)
    return (
        f"{one_line(attribute)} is {shown(here, 500)} here "
        f"and {shown(difference.latest_value, 500)} on the service ({level})"
    )
