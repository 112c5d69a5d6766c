"""From the sections of an answer to what `get()` answers from: read, prepare, publish.

A setting's rule table is built aside and published by one assignment. Until a client's first start has
succeeded, tables are kept back. Called in any thread: what is assigned here is assigned under the
client's lock, which is never held while an answer is read or a table is prepared, since both may take
long.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias, TypeVar

from heksher._application_code import get_logger
from heksher._client.errors import without_frames
from heksher._client.lifecycle import Lifecycle
from heksher._client.reading import SectionReader
from heksher._client.settings import ClientSettings, Entry
from heksher._client.unused import MAX_LISTED, Listed, first_of
from heksher._listening import ClientListeners
from heksher._rules.getter import Published
from heksher._rules.groups import SharedStrings
from heksher._rules.tracking import Tracking
from heksher._wire import decode_section
from heksher.exceptions import InvalidResponseError, ServiceError
from heksher.setting import Setting, Validator, state_of
from heksher.status import CoercedRule, DataSource, RejectedRule

_logger = get_logger(__name__)

# Name at most this many unused rules of one answer in the log, one line each.
_MAX_LOGGED_RULES = 20

R = TypeVar("R")

_Unused: TypeAlias = tuple[Listed[RejectedRule], Listed[CoercedRule]]


@dataclass(eq=False, slots=True)
class Publication:
    """An answer's sections, on their way to the settings they belong to.

    Attributes:
        sections: undecoded, by current name. One that cannot be used leaves its setting's last table in
            place.
        features: the context features in the service's order.
        tracking: what was tracked when the service was asked.
        is_wanted: whether the run that asked for it goes on.
        source: where the sections came from.
        is_withdrawn: whether its update has ended without waiting for it.
        usable: the sections that could be used, by the name in the application.
        unused: what could not be used, or only in part, and could be before.
    """

    sections: Mapping[str, bytes]
    features: tuple[str, ...]
    tracking: Tracking
    is_wanted: Callable[[], bool]
    source: DataSource = DataSource.SERVICE
    is_withdrawn: bool = False
    usable: dict[str, bytes] = field(default_factory=dict[str, bytes])
    unused: list[_Unused] = field(default_factory=list[_Unused])

    @property
    def is_over(self) -> bool:
        """Whether no more of it may be published."""
        return self.is_withdrawn or not self.is_wanted()


@dataclass(frozen=True, slots=True)
class _Reading:
    """Fingerprint of the last section applied to a setting; if it is unchanged, decoding is skipped.

    Attributes:
        digest: of the section.
        features: the context features in the service's order. Each table has a tuple of its own, so the
            identity of this one also tells whether the table is still the setting's. The table itself
            cannot stand here: it holds values, and those may hold the setting.
        tracking: what was tracked.
        validators: those of the setting.
        rejected: what could not be used.
        coerced: what could be used in part.
    """

    digest: int
    features: tuple[str, ...]
    tracking: Tracking
    validators: tuple[Validator[Any], ...]
    rejected: Listed[RejectedRule]
    coerced: Listed[CoercedRule]


class Publisher:
    """Publishes the rules of one client's settings.

    Args:
        settings: the client's settings.
        lock: the client's lock.
        lifecycle: the client's, which says whether tables are published, kept back or dropped.

    Attributes:
        source: where the published rules came from.
        last_read: where what was read last came from, whether or not it is published.
        listeners: those who listen to the client.
    """

    def __init__(
        self, settings: ClientSettings, lock: threading.RLock, lifecycle: Lifecycle
    ) -> None:
        self._settings = settings
        self._lock = lock
        self._lifecycle = lifecycle
        # Tables that are kept back until the first start has succeeded.
        self._staged: weakref.WeakKeyDictionary[Setting[Any], Published[Any]] = (
            weakref.WeakKeyDictionary()
        )
        self._readings: weakref.WeakKeyDictionary[Setting[Any], _Reading] = (
            weakref.WeakKeyDictionary()
        )
        self.source = self.last_read = DataSource.DEFAULTS
        self.listeners = ClientListeners(lock)
        # The settings that were published, and whose listeners have yet to be called.
        self._unseen: weakref.WeakKeyDictionary[Setting[Any], None] = weakref.WeakKeyDictionary()

    # --- the client's life ------------------------------------------------------------------------

    def begin_start(self) -> None:
        """Forget what is left of a start that failed."""
        with self._lock:
            self._staged.clear()
            self._readings.clear()
            if not self._lifecycle.is_published:
                self.last_read = DataSource.DEFAULTS

    def publish_all(self) -> None:
        """Publish what was kept back, and the client's defaults, for all settings."""
        with self._lock:
            if self._lifecycle.is_published:
                self.source = self.last_read
                for setting in self._settings.alive():
                    self._assign(setting)

    def note_read(self, source: DataSource) -> None:
        """Note where an answer came from that was read to its end."""
        with self._lock:
            self.last_read = source
            if self._lifecycle.is_published:
                self.source = source

    def close(self) -> None:
        """Drop what was kept back. What was published stays."""
        with self._lock:
            self._staged.clear()
            self._readings.clear()

    # --- publishing -------------------------------------------------------------------------------

    def publish(self, publication: Publication) -> None:
        """Read the sections that are new to their settings, and publish their tables.

        The client may be closed, and the publication withdrawn, while this runs. Then it returns soon.
        """
        try:
            self._publish(publication)
        finally:
            _log_unused(publication.unused)

    def _publish(self, publication: Publication) -> None:
        strings = SharedStrings()
        for entry in self._settings.entries():
            raw = publication.sections.get(entry.current_name)
            if raw is None:
                continue
            if publication.is_over:
                return
            digest = _digest(raw)
            changed = [
                setting
                for setting in entry.alive()
                if not self._is_known(setting, digest, publication)
            ]
            if not changed:
                publication.usable[entry.name] = raw
                if publication.source is DataSource.SERVICE:
                    self._amend(entry, source=DataSource.SERVICE)  # the snapshot had the same rules
                continue
            readers = [
                SectionReader(
                    setting, publication.features, publication.tracking, strings, publication.source
                )
                for setting in changed
            ]
            try:
                section = decode_section(raw)
                for batch in section.batches:
                    if publication.is_over:
                        return
                    for reader in readers:
                        reader.add(batch)
            except InvalidResponseError as error:
                publication.unused.append(self._note_unusable(entry, error))
                continue
            publication.usable[entry.name] = raw
            for reader in readers:
                if not self._finish(reader, section.default_value, entry, digest, publication):
                    return
            publication.unused.append(self._settings.note_unused(entry, *self._unused_by(entry)))

    def _finish(
        self,
        reader: SectionReader[Any],
        raw_default: Any,
        entry: Entry,
        digest: int,
        publication: Publication,
    ) -> bool:
        """Publish one setting's table; return whether to go on."""
        setting = reader.setting
        result = reader.finish(raw_default)
        reading = _Reading(
            digest,
            result.table.features,
            publication.tracking,
            reader.validators,
            result.rejected,
            result.coerced,
        )
        prepared = state_of(setting).prepare(result.table, self._settings.defaults)
        with self._lock:
            if publication.is_over:
                return False
            if self._settings.serves(setting, entry):  # it may have been detached, unlike its twin
                self._readings[setting] = reading
                self._staged[setting] = prepared
                if self._lifecycle.is_published:
                    self._assign(setting)
        return True

    def withdraw(self, publication: Publication) -> None:
        """See that nothing more of it is published. To be called once it is done as well."""
        with self._lock:
            publication.is_withdrawn = True

    def renew(self, settings: Iterable[Setting[Any]]) -> None:
        """Publish the client's present defaults for these settings.

        With many rules that takes long, so it is prepared without the lock.
        """
        for setting in settings:
            if not self._lifecycle.is_published:
                return
            state = state_of(setting)
            prepared = state.prepare(state.published.table, self._settings.defaults)
            with self._lock:
                if self._lifecycle.is_published and self._settings.serves(setting):
                    self._assign(setting, prepared)

    def _assign(self, setting: Setting[Any], prepared: Published[Any] | None = None) -> None:
        """Publish the newest table of *setting*, by one assignment. Called with the lock held.

        Args:
            setting: one that is served.
            prepared: its present table with new defaults. It counts if neither has changed since.
        """
        state = state_of(setting)
        staged, published = self._staged.pop(setting, None), state.published
        defaults = self._settings.defaults
        if staged is not None:
            prepared, table = staged, staged.table
        elif published.defaults is defaults and published.started:
            return
        else:
            table = published.table
        if prepared is None or prepared.table is not table or prepared.defaults is not defaults:
            prepared = state.prepare(table, defaults)
        if state.listeners:
            self._unseen[setting] = None
        self.listeners.note(setting.name, state)
        state.publish(prepared)

    @property
    def has_to_call(self) -> bool:
        """Whether a setting that has a listener was published since `call_listeners` was called."""
        return bool(self._unseen)

    def call_listeners(self) -> None:
        """Tell the application what changed since this was called last. The lock must not be held."""
        with self._lock:
            settings = [*self._unseen]
            self._unseen.clear()
        for setting in settings:
            for listener in state_of(setting).listeners:
                listener.look()
        self.listeners.look()

    # --- what is known already --------------------------------------------------------------------

    def saved(self, sections: Mapping[str, bytes]) -> dict[str, bytes]:
        """Return the sections of a snapshot that belong to settings which are served, by current name.

        Args:
            sections: by the name in the application when they were saved, which may be the alias now.
        """
        found: dict[str, bytes] = {}
        for entry in self._settings.entries():
            aliases = [setting.alias for setting in entry.alive() if setting.alias is not None]
            for name in (entry.name, *aliases[:1]):
                if name in sections:
                    found[entry.current_name] = sections[name]
                    break
        return found

    def forget(self, settings: Iterable[Setting[Any]]) -> None:
        """Have the next section of these settings read, even if it is the last one again."""
        with self._lock:
            for setting in settings:
                self._readings.pop(setting, None)

    def note_unusable(self, current_names: Collection[str], error: ServiceError) -> None:
        """Note that an answer has nothing usable for these settings, which keep their last tables."""
        _log_unused(
            [
                self._note_unusable(entry, error)
                for entry in self._settings.entries()
                if entry.current_name in current_names
            ]
        )

    def _note_unusable(self, entry: Entry, error: ServiceError) -> _Unused:
        self.forget(entry.alive())
        rejected = RejectedRule(entry.name, None, str(error), without_frames(error))
        self._amend(entry, rejected=(rejected,), rejected_count=1)
        return self._settings.note_unused(entry, Listed((rejected,)), Listed())

    def _amend(self, entry: Entry, **changes: Any) -> None:
        """Change what explanations say of the tables of these settings, which stay."""
        with self._lock:
            for setting in entry.alive():
                state = state_of(setting)
                latest = self._staged.get(setting, state.published)
                known = latest.table.provenance
                provenance = replace(known, **changes)
                if provenance == known or not self._settings.serves(setting, entry):
                    continue
                amended = replace(latest, table=replace(latest.table, provenance=provenance))
                if setting in self._staged:
                    self._staged[setting] = amended
                else:
                    state.amend(amended)

    def _is_known(self, setting: Setting[Any], digest: int, publication: Publication) -> bool:
        """Whether reading a section with this digest would bring nothing new to *setting*."""
        with self._lock:
            reading = self._readings.get(setting)
            if reading is None:
                return False
            state = state_of(setting)
            table = self._staged.get(setting, state.published).table
            return (
                reading.digest == digest
                and reading.features == publication.features
                and reading.tracking is publication.tracking  # a new one is made for each change
                and reading.validators is state.validators
                and reading.features is table.features
            )

    def _unused_by(self, entry: Entry) -> _Unused:
        """Return what the settings of one name cannot use, and what they can use in part."""
        with self._lock:
            readings = [
                reading
                for setting in entry.alive()
                if (reading := self._readings.get(setting)) is not None
            ]
        if len(readings) == 1:
            return readings[0].rejected, readings[0].coerced
        # Settings of one name differ in their own validators at most.
        return _united([each.rejected for each in readings]), _united(
            [each.coerced for each in readings]
        )


def _united(listed: Sequence[Listed[R]]) -> Listed[R]:
    """Return what is in any of these lists, each rule once."""
    rules = dict.fromkeys(rule for each in listed for rule in each)
    return Listed([*rules][:MAX_LISTED], max((each.total for each in listed), default=0))


def _log_unused(news: Sequence[_Unused]) -> None:
    """Warn of what is not used any more, in no more lines than a reader takes in."""
    _log_first("dropped: %s", [rejected for rejected, _ in news])
    _log_first("coerced: %s", [coerced for _, coerced in news])


def _log_first(message: str, groups: Sequence[Listed[R]]) -> None:
    rules = first_of(groups, _MAX_LOGGED_RULES)
    for rule in rules:
        _logger.warning(message, rule)
    if more := rules.total - len(rules):
        _logger.warning(
            message, f"{more} more; status has the number, and lists the first {MAX_LISTED}"
        )


def _digest(section: bytes) -> int:
    """Return a fingerprint of a section.

    The interpreter's own hash has 64 bits and a key that each process draws anew. That is enough
    against accidents, and a service that could forge a collision can say what it likes without one. It
    takes a quarter of the time of hashlib's, and those release the interpreter lock for each section
    and then wait for it beside a busy thread.
    """
    return hash(section)
