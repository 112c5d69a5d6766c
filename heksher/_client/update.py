"""One update: ask for all rules, publish them, and have pending settings declared.

Coroutines over one function that exchanges a request for an answer. They raise what goes wrong. The core
decides when updates are made, and handles their errors. `declaring` makes the declarations.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass, field, replace

from heksher import _wire
from heksher._client.declarations import Catalogue, look_ups
from heksher._client.declaring import Declarer, Planned
from heksher._client.publishing import Publication, Publisher
from heksher._client.requests import ExchangeFunction, Requests
from heksher._client.settings import ClientSettings
from heksher._client.snapshot import SnapshotData, SnapshotFile
from heksher._client.splitting import Part, Parts, may_be_limited
from heksher._rules.tracking import Tracking
from heksher.backends.base import Backend, process
from heksher.exceptions import InvalidResponseError, ServiceError
from heksher.status import DataSource

# The queries in a row that a change of the context features may begin anew. A service that changes them
# all the time, by mistake, must not keep an update from ending.
_MAX_QUERIES = 3


class _FeaturesChanged(Exception):
    """The context features changed during a query."""


@dataclass(slots=True)
class _Query:
    """How far a query for all settings has come, which is made part by part.

    Attributes:
        parts: those that are yet to be asked for.
        may_be_unknown: whether the service may lack some of the settings.
        features: the context features in the service's order.
        tracking: what is tracked.
        missing: the settings whose sections have yet to come: they failed, or are unchanged.
        usable: the sections that could be used, by the setting's name in the application.
        has_all: whether the service has all that it was asked for.
    """

    parts: Parts
    may_be_unknown: bool
    features: tuple[str, ...]
    tracking: Tracking
    missing: set[str]
    usable: dict[str, bytes] = field(default_factory=dict[str, bytes])
    has_all: bool = True


@dataclass(frozen=True, slots=True)
class _Held:
    """What the last answers for one target were, so that the service need only send changes.

    Attributes:
        etag: of the newest answer.
        revision: of the newest answer.
        is_whole: whether one answer brought all sections, so that the tag vouches for each of them.
    """

    etag: str | None = None
    revision: str | None = None
    is_whole: bool = True


async def publish(publication: Publication, publisher: Publisher, backend: Backend) -> None:
    """Publish sections; read large ones in a thread, so that no event loop waits."""
    size = sum(map(len, publication.sections.values()))
    try:
        await process(backend, size, lambda: publisher.publish(publication))
    finally:
        publisher.withdraw(publication)


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
        self._requests = Requests(exchange)
        self._declarer = Declarer(self._requests, settings)
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
        # What is held by target, and what it holds for: the service's context features, and what
        # `ClientSettings.reading` returned. Each change of the tracking makes a new object, so equality
        # tells whether an answer would be read in the same way.
        self._held: dict[str, _Held] = {}
        self._held_for: object = None
        self._known_sections = _wire.KnownSections()
        # The names whose rules were read.
        self._answered: set[str] = set()
        # The service's context features. They hold as long as the answers to queries have their revision.
        self._features = _wire.ContextFeatures()
        # Those that the client's were last compared with.
        self._compared: tuple[str, ...] | None = None

    async def update(self, *, is_requested: bool = False) -> None:
        """Refresh what the service has, declare what it lacks, and then refresh again.

        In this order, because declaring may take long: it is one request after another. What fails costs
        nothing else: the rest is done, and what came is published.

        Args:
            is_requested: whether it is made for a `reload`. Then rules that came as changes are replaced
                by whole answers, in case a change was missed.

        Raises:
            ServiceError: something failed and should be tried again.
        """
        self._requests.begin()
        if is_requested:
            self._held = {
                target: replace(held, revision=None)
                for target, held in self._held.items()
                if held.is_whole
            }
        if self._features.revision is None or self._settings.needs_features():
            await self._read_features()
        planned: list[Planned] = []
        # A setting that was given up may be back. After a loss of data, for example, another process
        # declares the same settings, and this one may have asked when only some of them were there.
        if self._settings.pending(self._features.names) or self._settings.has_given_up():
            there = await self._look_up(self._settings.names(of_all=False))
            if there is not None:
                self._settings.note_returned(there)
                planned = self._declarer.plan(there, self._features.names)
        if not planned or self._settings.known_names():
            there = await self._refresh()
            if there is not None:
                planned = self._declarer.plan(there, self._features.names)
        if planned:
            for each in planned:
                await self._declarer.declare(each)
            await self._refresh()
        self._requests.raise_failure()

    async def _read_features(self) -> None:
        """Ask for the context features."""
        self._features = await self._requests.send(_wire.context_features())
        if self._features.names != self._compared:
            self._compared = self._features.names
            self._settings.compare_features(self._features.names)

    async def _look_up(self, names: Sequence[str]) -> Catalogue | None:
        """Return what the service has under these names or aliases, or None if it does not say."""
        failure: ServiceError | None = None
        for asked in look_ups(names, lists_by_name=self._features.revision is not None):
            there = Catalogue()
            try:
                for each in asked:
                    there.add(await self._requests.send(each))
            except ServiceError as error:
                failure = error
                if not may_be_limited(error):
                    break
            else:
                return there
        if failure is not None:
            self._requests.note_failure(failure)
        return None

    # --- refreshing -------------------------------------------------------------------------------

    async def _refresh(self) -> Catalogue | None:
        """Fetch all rules, and publish what changed.

        Returns:
            what the service has of the settings, if one that it was asked for is missing; else None.
        """
        there: Catalogue | None = None
        if not await self._query_all():
            # A setting was deleted or renamed on the service.
            there = await self._look_up(self._settings.names(of_all=True))
            if there is None:
                return None
            self._publisher.forget(self._settings.reconcile(there))
            self._held.clear()
            await self._query_all(may_be_unknown=False)
        return there

    async def _query_all(self, *, may_be_unknown: bool = True) -> bool:
        """Ask for the rules of all settings, and publish each part that comes.

        Returns:
            whether the service has all settings.
        """
        for _ in range(_MAX_QUERIES):
            with suppress(_FeaturesChanged):
                return await self._query(may_be_unknown=may_be_unknown)
        raise InvalidResponseError(
            f"the context features changed during each of {_MAX_QUERIES} queries in a row"
        )

    async def _query(self, *, may_be_unknown: bool) -> bool:
        features = self._features.names
        tracking, _ = reading = self._settings.reading()
        if self._held_for != (features, reading):
            self._held, self._held_for = {}, (features, reading)
        names = self._settings.known_names()
        self._known_sections.keep_only(set(names))
        filters = _wire.encode_context_filters(tracking.as_lists())
        parts = Parts(names, filters, self._settings.limits)
        query = _Query(parts, may_be_unknown, features, tracking, set(names))
        asked = set[str]()
        try:
            while (part := parts.next()) is not None:
                target = part.target
                asked.add(target)
                held = self._held.pop(target, _Held())
                since = held.revision if parts.takes_since else None
                try:
                    answer = await self._requests.send(
                        _wire.query(
                            part.names,
                            part.filters,
                            held.etag,
                            since,
                            may_be_unknown=may_be_unknown and not part.was_refused,
                            known=self._known_sections,
                        )
                    )
                except ServiceError as error:
                    # Without the revision, in case that this is what fails.
                    held = replace(held, revision=None)
                    if not await self._is_limited(parts, part, error):
                        self._held[target] = held
                        self._requests.note_failure(error)
                    elif since is not None:
                        self._held[target] = held
                        parts.repeat_without_since(part)
                    elif not parts.halve(part):
                        # It fails every time, and must not fail the other settings' update.
                        if not part.was_refused:
                            self._publisher.note_unusable(part.names, error)
                        self._note_done(query, part.names)
                else:
                    if isinstance(answer, _wire.UnknownNames):
                        query.has_all = False
                        continue
                    await self._check_features(query, answer)
                    if await self._take(query, part, answer):
                        is_whole = not answer.is_partial or (held.is_whole and not answer.sections)
                        self._held[target] = _Held(answer.etag, answer.revision, is_whole)
        finally:
            self._keep_for_snapshot(query)
        # If the settings are divided otherwise for a time, the others become outdated.
        self._held = {target: held for target, held in self._held.items() if target in asked}
        self._settings.note_limits(parts.limits)
        if self._answered.issuperset(names) and (names or not self._requests.failures):
            self._publisher.note_read(DataSource.SERVICE)
        return query.has_all

    async def _check_features(self, query: _Query, answer: _wire.QueryAnswer) -> None:
        """Make sure that the context features are not older than an answer.

        If the service names no revisions, they were read before the query, in this update.

        Raises:
            _FeaturesChanged: they are others than those that the query began with.
        """
        if answer.has_same_features:
            self._features = replace(self._features, revision=answer.revision)
        elif self._features.revision not in (None, answer.revision):
            await self._read_features()
            if self._features.names != query.features:
                raise _FeaturesChanged

    def _note_done(self, query: _Query, names: Iterable[str]) -> None:
        """Note that nothing more can be had of these settings."""
        self._answered.update(names)
        query.missing.difference_update(names)

    async def _is_limited(self, parts: Parts, part: Part, error: ServiceError) -> bool:
        """Whether *part* failed by what it asks for. If that is not known, ask for less to find out."""
        if not may_be_limited(error):
            return False
        for probe in parts.probes(part):
            with suppress(ServiceError):
                await self._requests.send(
                    _wire.query(probe.names, probe.filters, None, may_be_unknown=False)
                )
                parts.note_answered(probe)
        return parts.are_answered is True

    async def _take(self, query: _Query, part: Part, answer: _wire.QueryAnswer) -> bool:
        """Publish the answer to one part.

        Returns:
            whether it answers for all of the part. If not, a later 304 must not pass for an answer about
            the settings that are missing.
        """
        query.parts.note_answered(part)
        asked = set(part.names)
        # Other parts' settings are left alone, whose tags and revisions stand for their own answers.
        sections = {name: each for name, each in answer.sections.items() if name in asked}
        missing = set[str]() if answer.is_partial else asked.difference(sections)
        if missing:
            query.has_all = False
        if not query.may_be_unknown:
            error = InvalidResponseError("the answer to the query has no section for it")
            self._publisher.note_unusable(missing, error)
            self._note_done(query, missing)
            missing.clear()
        if sections:
            async with self._publishing():
                query.usable |= await self._publish(sections, query.features, query.tracking)
        self._note_done(query, sections)
        self._answered.update(asked - missing)
        return not missing

    async def _publish(
        self,
        sections: Mapping[str, bytes],
        features: tuple[str, ...],
        tracking: Tracking,
        source: DataSource = DataSource.SERVICE,
    ) -> dict[str, bytes]:
        """Publish these sections.

        Returns:
            the sections that could be used, by the setting's name in the application.
        """
        publication = Publication(sections, features, tracking, self._is_wanted, source)
        await publish(publication, self._publisher, self._backend)
        return publication.usable

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
        for name in self._answered.intersection(sections):
            del sections[name]  # the service's own answer is newer
        if saved is not None and sections:
            async with self._publishing():
                await self._publish(sections, tuple(saved.features), tracking, DataSource.SNAPSHOT)
            self._publisher.note_read(DataSource.SNAPSHOT)

    def _keep_for_snapshot(self, query: _Query) -> None:
        """Keep what a query brought, with what an earlier one of this update did."""
        if self._snapshot is not None:
            earlier = self._unsaved
            self._unsaved = SnapshotData(
                query.usable if earlier is None else {**earlier.sections, **query.usable},
                query.features,
                query.tracking,
                not query.missing or (earlier is not None and earlier.is_complete),
            )

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
            self._held.clear()  # so that the next answer has everything
