"""One update: ask for all rules, publish them, and declare what is pending.

Coroutines over one function that exchanges a request for an answer. They raise what goes wrong. The core
decides when updates are made, and handles their errors.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeVar

from heksher import _wire
from heksher._application_code import get_logger
from heksher._client.declarations import (
    Catalogue,
    DeclarationPlan,
    catalogue,
    declaration_of,
    describe_answer,
    describe_failure,
    describe_missing_features,
    plan_declaration,
)
from heksher._client.publishing import Publication, Publisher
from heksher._client.settings import ClientSettings, Entry
from heksher._client.snapshot import SnapshotData, SnapshotFile
from heksher._rules.tracking import Tracking
from heksher._text import shown
from heksher.backends.base import LARGE, Backend
from heksher.exceptions import InvalidResponseError, ServiceError, UnexpectedStatusError
from heksher.setting import Setting
from heksher.status import DataSource, DeclarationState, DeclaredSetting

_logger = get_logger(__name__)

T = TypeVar("T")

_URI_TOO_LONG = 414


class ExchangeFunction(Protocol):
    """Sends a request and reads the answer."""

    def __call__(self, exchange: _wire.Exchange[T], /) -> Awaitable[T]: ...


@dataclass(frozen=True, slots=True)
class _LastQuery:
    """The last query. Its ETags are sent again as long as an answer would be read in the same way.

    Attributes:
        features: the context features in the service's order.
        reading: what `ClientSettings.reading` returned. Each change of the tracking makes a new object, so
            equality tells whether it is still the same.
        etags: by URL.
    """

    features: tuple[str, ...]
    reading: tuple[Tracking, object]
    etags: Mapping[str, str]


@dataclass(slots=True)
class _Fetched:
    """The answers to the parts of one query.

    Attributes:
        sections: undecoded, by current name; those of unchanged parts are left out.
        answered: the names that were answered, unchanged ones included.
        etags: by URL, for the next query.
        is_complete: whether no part was unchanged.
    """

    sections: dict[str, _wire.Undecoded] = field(default_factory=dict[str, _wire.Undecoded])
    answered: set[str] = field(default_factory=set[str])
    etags: dict[str, str] = field(default_factory=dict[str, str])
    is_complete: bool = True


@dataclass(frozen=True, slots=True)
class _Planned:
    """A setting that was looked for on the service.

    Attributes:
        entry: what is known of the setting.
        setting: the setting.
        decision: how to declare it.
        known_differences: those that were logged before.
    """

    entry: Entry
    setting: Setting[Any]
    decision: DeclarationPlan
    known_differences: tuple[str, ...]


class Updater:
    """Updates the settings of one client. Not for two tasks or threads at a time.

    Args:
        exchange: sends a request to the service and reads the answer.
        settings: the client's settings.
        publisher: publishes their rules.
        publishing: makes a context in which rules may be published; entering it may take long.
        is_wanted: whether the run that this belongs to goes on; else nothing is published any more.
        backend: reads large answers in a thread.
        snapshot: the file that keeps the rules, or None.
    """

    def __init__(
        self,
        exchange: ExchangeFunction,
        settings: ClientSettings,
        publisher: Publisher,
        publishing: Callable[[], AbstractAsyncContextManager[None]],
        is_wanted: Callable[[], bool],
        backend: Backend,
        snapshot: SnapshotFile | None = None,
    ) -> None:
        self._exchange = exchange
        self._settings = settings
        self._publisher = publisher
        self._publishing = publishing
        self._is_wanted = is_wanted
        self._backend = backend
        self._snapshot = snapshot
        # What the last update brought for the snapshot.
        self._unsaved: SnapshotData | None = None
        # The `reading` that the snapshot was last loaded for.
        self._loaded_for: object = None
        self._last_query: _LastQuery | None = None
        # The service's context features that the client's were last compared with.
        self._compared: tuple[str, ...] | None = None

    async def update(self) -> None:
        """Refresh what the service has, declare what it lacks, and then refresh again.

        In this order, because declaring may take long: it is one request after another.

        Raises:
            ServiceError: something failed and should be tried again. The rest was done.
        """
        features = await self._exchange(_wire.context_features())
        if features != self._compared:
            self._compared = features
            self._settings.compare_features(features)
        planned: list[_Planned] = []
        # A setting that was given up may be back. After a loss of data, for example, another process
        # declares the same settings, and this one may have asked when only some of them were there.
        if self._settings.pending(features) or self._settings.has_given_up():
            found = await self._exchange(catalogue())
            self._settings.note_returned(found)
            planned = self._plan(features, found)
        if not planned or self._settings.known_names():
            there = await self._refresh(features)
            if there is not None:
                planned = self._plan(features, there)
        if not planned:
            return
        failure: ServiceError | None = None
        for each in planned:
            failure = await self._declare(each) or failure
        await self._refresh(features)
        if failure is not None:
            raise failure

    # --- declaring --------------------------------------------------------------------------------

    def _plan(self, features: tuple[str, ...], there: Catalogue) -> list[_Planned]:
        """Note what the service has of the pending settings; return what is to be declared."""
        planned: list[_Planned] = []
        for entry, setting in self._settings.pending(features):
            decision = plan_declaration(declaration_of(setting), there)
            lacking = frozenset(setting.configurable_features).difference(features)
            self._settings.note_found(
                entry,
                decision.current_name,
                on_service=there.find(decision.current_name) is not None,
                lacking=lacking,
            )
            each = _Planned(entry, setting, decision, entry.declared.differences)
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

    def _note_as_found(self, planned: _Planned, declared: DeclaredSetting) -> None:
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

    def _note_unknown_alias(self, planned: _Planned) -> None:
        """Add to a declaration's differences that the service does not know the setting's alias."""
        if planned.decision.unknown_alias:
            entry, alias = planned.entry, planned.setting.alias
            note = f"alias {alias!r} is unknown to the service and was left out"
            if note not in planned.known_differences:
                _logger.warning("setting %r: %s", entry.name, note)
            differences = (*entry.declared.differences, note)
            self._settings.note_declared(entry, replace(entry.declared, differences=differences))

    async def _declare(self, planned: _Planned) -> ServiceError | None:
        """Declare one setting; return the error, if it has to be tried again."""
        entry = planned.entry
        failure: ServiceError | None = None
        for declaration in planned.decision.declarations:
            try:
                answer = await self._exchange(_wire.declare(declaration))
            except (UnexpectedStatusError, InvalidResponseError) as error:
                self._settings.note_declared(entry, describe_failure(declaration, error))
                _logger.debug("setting %r: %s", entry.name, entry.declared.refusal)
                failure = error
                break
            declared = describe_answer(declaration, answer)
            self._settings.note_declared(entry, declared, is_accepted=answer.accepted)
            if not answer.accepted:
                _logger.error("setting %r: %s", entry.name, entry.declared.refusal)
                break
            self._log_outcome(entry, declaration)
        if failure is None:
            self._settings.note_done(entry)
        self._note_unknown_alias(planned)
        return failure

    @staticmethod
    def _log_outcome(entry: Entry, declaration: _wire.Declaration) -> None:
        declared = entry.declared
        differences = "; ".join(declared.differences)
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

    # --- refreshing -------------------------------------------------------------------------------

    async def _refresh(self, features: tuple[str, ...]) -> Catalogue | None:
        """Fetch all rules, and publish what changed.

        Returns:
            what the service has, if it has not all that it was asked for; else None.
        """
        tracking, _ = reading = self._settings.reading()
        last, etags = self._last_query, dict[str, str]()
        if last is not None and (last.features, last.reading) == (features, reading):
            etags.update(last.etags)
        filters = _wire.encode_context_filters(tracking.as_lists())

        there: Catalogue | None = None
        names = self._settings.known_names()
        fetched = await self._query(names, filters, etags)
        if fetched is None or not fetched.answered.issuperset(names):
            # A setting was deleted or renamed on the service.
            there = await self._exchange(catalogue())
            self._publisher.forget(self._settings.reconcile(there))
            names = self._settings.known_names()
            fetched = await self._query(names, filters, {}, may_be_unknown=False)
            assert fetched is not None
            for name in sorted(set(names) - fetched.answered):
                error = InvalidResponseError("the answer to the query has no section for it")
                self._publisher.note_unusable(name, error)
        usable: Mapping[str, _wire.Undecoded] = {}
        if fetched.sections:
            async with self._publishing():
                usable = await self._publish(fetched.sections, features, tracking)
        self._publisher.note_read(DataSource.SERVICE)
        if self._snapshot is not None:
            earlier = self._unsaved  # what the first refresh of this update brought
            self._unsaved = SnapshotData(
                usable if earlier is None else {**earlier.sections, **usable},
                features,
                tracking,
                fetched.is_complete or (earlier is not None and earlier.is_complete),
            )
        self._last_query = _LastQuery(features, reading, fetched.etags)
        return there

    async def _publish(
        self,
        sections: Mapping[str, _wire.Undecoded],
        features: tuple[str, ...],
        tracking: Tracking,
    ) -> Mapping[str, _wire.Undecoded]:
        """Publish these sections; read large ones in a thread, so that no event loop waits.

        Returns:
            the sections that could be used, by the setting's name in the application.
        """
        publication = Publication(sections, features, tracking, self._is_wanted)
        if sum(map(len, sections.values())) < LARGE:
            self._publisher.publish(publication)
            return publication.usable
        try:
            await self._backend.in_thread(lambda: self._publisher.publish(publication))
        finally:
            self._publisher.withdraw(publication)
        return publication.usable

    async def _query(
        self,
        names: Sequence[str],
        filters: str | None,
        etags: Mapping[str, str],
        *,
        may_be_unknown: bool = True,
    ) -> _Fetched | None:
        """Ask for the rules of *names*; None if one of them is unknown, and may be."""
        fetched = _Fetched()
        for part in _wire.split_names(names, filters):
            target = _wire.query_target(part, filters)
            etag = etags.get(target)
            try:
                answer = await self._exchange(
                    _wire.query(part, filters, etag, may_be_unknown=may_be_unknown)
                )
            except UnexpectedStatusError as error:
                if error.status != _URI_TOO_LONG or len(part) != 1:
                    raise
                # It fails every time, and must not fail the other settings' update.
                self._publisher.note_unusable(part[0], error)
                fetched.answered.update(part)
                continue
            if isinstance(answer, _wire.UnknownNames):
                return None
            if isinstance(answer, _wire.NotModified):
                fetched.is_complete = False
                if etag is not None:
                    fetched.etags[target] = etag
                fetched.answered.update(part)
                continue
            fetched.sections.update(answer.sections)
            fetched.answered.update(answer.sections)
            if answer.etag is not None:
                fetched.etags[target] = answer.etag
        return fetched

    # --- the snapshot -----------------------------------------------------------------------------

    async def load(self) -> None:
        """Publish what the snapshot holds, unless the service has answered before.

        Raises:
            HeksherError: the client was closed.
        """
        snapshot = self._snapshot
        tracking, _ = reading = self._settings.reading()
        if snapshot is None or self._publisher.last_read is DataSource.SERVICE:
            return
        if reading == self._loaded_for:
            return
        self._loaded_for = reading  # loaded again for settings that are defined or tracked later
        saved = await self._backend.in_thread(lambda: snapshot.load(tracking))
        sections = {} if saved is None else self._publisher.saved(saved.sections)
        if saved is not None and sections:
            async with self._publishing():
                await self._publish(sections, tuple(saved.features), tracking)
            self._publisher.note_read(DataSource.SNAPSHOT)

    @property
    def has_to_save(self) -> bool:
        """Whether the last update brought something for the snapshot."""
        return self._unsaved is not None and bool(self._unsaved.sections)

    async def save(self) -> None:
        """Write what the last update brought to the snapshot, if it succeeded."""
        snapshot, unsaved, self._unsaved = self._snapshot, self._unsaved, None
        if snapshot is None or unsaved is None:
            return
        if unsaved.sections:
            is_complete = await self._backend.in_thread(lambda: snapshot.save(unsaved))
        else:
            is_complete = not snapshot.needs_everything()
        if not is_complete:
            self._last_query = None  # without ETags, the next answer has everything
