"""Declares the settings of a client, one request after another, and logs the outcome.

`declarations` decides what to declare and what an answer means. Knows nothing of rules.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from heksher import _wire
from heksher._application_code import get_logger
from heksher._client.declarations import (
    Catalogue,
    DeclarationPlan,
    declaration_of,
    describe_answer,
    describe_failure,
    describe_missing_features,
    plan_declaration,
)
from heksher._client.requests import Requests
from heksher._client.settings import ClientSettings, Entry
from heksher._text import one_line, shown
from heksher.exceptions import ServiceError
from heksher.setting import Setting
from heksher.status import DeclarationState, DeclaredSetting

_logger = get_logger(__name__)

# The characters of differences in a line of the log.
_MAX_DIFFERENCES = 2000


@dataclass(frozen=True, slots=True)
class Planned:
    """A setting that was looked for on the service.

    Attributes:
        entry: what is known of the setting.
        setting: the setting.
        decision: how to declare it.
        known: the result that was logged before.
    """

    entry: Entry
    setting: Setting[Any]
    decision: DeclarationPlan
    known: DeclaredSetting


class Declarer:
    """Declares the settings of one client.

    Args:
        requests: those of the update.
        settings: the client's settings.
    """

    def __init__(self, requests: Requests, settings: ClientSettings) -> None:
        self._requests = requests
        self._settings = settings

    def plan(self, there: Catalogue, features: tuple[str, ...]) -> list[Planned]:
        """Note what the service has of the pending settings; return what is to be declared.

        Args:
            there: what the service has.
            features: its context features.
        """
        planned: list[Planned] = []
        for entry, setting in self._settings.pending(features):
            decision = plan_declaration(declaration_of(setting), there)
            lacking = frozenset(setting.configurable_features).difference(features)
            self._settings.note_found(
                entry,
                decision.current_name,
                on_service=there.find(decision.current_name) is not None,
                lacking=lacking,
            )
            each = Planned(entry, setting, decision, entry.declared)
            if decision.declared is not None:
                self._note_as_found(each, decision.declared)
            elif lacking:
                # The service would refuse it. It is declared as soon as the service has the features.
                self._settings.note_declared(entry, describe_missing_features(lacking, features))
                self._settings.note_done(entry)
                _logger.error("setting %r: %s", entry.name, entry.declared.refusal)
            else:
                planned.append(each)
        return planned

    def _note_as_found(self, planned: Planned, declared: DeclaredSetting) -> None:
        """Note a setting that needs no declaration."""
        entry, decision = planned.entry, planned.decision
        if declared.state is DeclarationState.RENAMED:
            _logger.warning(
                "setting %r is called %s on the service, at version %s; it is not declared from "
                "here, and its rules arrive under that name",
                entry.name,
                shown(decision.current_name),
                declared.service_version,
            )
        self._settings.note_declared(entry, declared)
        self._settings.note_done(entry)
        self._note_unknown_alias(planned)

    def _note_unknown_alias(self, planned: Planned) -> None:
        """Add to a declaration's differences that the service does not know the setting's alias."""
        if planned.decision.unknown_alias:
            entry, alias = planned.entry, planned.setting.alias
            note = f"alias {alias!r} is unknown to the service and was left out"
            if note not in planned.known.differences:
                _logger.warning("setting %r: %s", entry.name, note)
            differences = (*entry.declared.differences, note)
            self._settings.note_declared(entry, replace(entry.declared, differences=differences))

    async def declare(self, planned: Planned) -> None:
        """Declare one setting, and note how that went."""
        entry = planned.entry
        for declaration in planned.decision.declarations:
            try:
                answer = await self._requests.send(_wire.declare(declaration))
            except ServiceError as error:
                declared = describe_failure(declaration, error)
                self._settings.note_declared(entry, declared)
                _logger.debug("setting %r: %s", entry.name, declared.refusal)
                self._requests.note_failure(error)
                break
            declared = describe_answer(declaration, answer)
            self._settings.note_declared(entry, declared, answer)
            if declared.refusal is not None:
                if declared != planned.known:
                    _logger.error("setting %r: %s", entry.name, declared.refusal)
                self._settings.note_done(entry)
                break
            self._log_outcome(entry, declaration)
        else:
            self._settings.note_done(entry)
        self._note_unknown_alias(planned)

    @staticmethod
    def _log_outcome(entry: Entry, declaration: _wire.Declaration) -> None:
        declared = entry.declared
        differences = one_line("; ".join(declared.differences), _MAX_DIFFERENCES)
        if declared.state is DeclarationState.OUTDATED:
            _logger.warning(
                "setting %r is declared at version %s, the service has %s: its default value and "
                "rules are used as far as they fit. It differs: %s",
                entry.name,
                declaration.version,
                declared.service_version,
                differences or "in nothing else",
            )
        elif declared.state is DeclarationState.UPGRADED:
            _logger.info(
                "setting %r was upgraded from version %s to %s: %s",
                entry.name,
                declared.service_version,
                declaration.version,
                differences or "nothing else changed",
            )
        else:
            _logger.debug("setting %r at %s: %s", entry.name, declaration.version, declared.state)
