"""The settings that one client serves: which they are, what they get to know, and how it is published.

No I/O. Called in any thread: everything here happens under one lock, which is never held while
something outside is called, nor while an answer is read. Settings are held weakly.
"""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Iterable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from heksher._client.declarations import Catalogue
from heksher._client.reading import Ingestion
from heksher._registry import declared_alike
from heksher._rules import getter
from heksher._rules.contexts import Defaults
from heksher._rules.plan import Plan
from heksher._rules.table import RuleTable
from heksher._rules.tracking import Tracking
from heksher._text import one_line
from heksher._wire import Undecoded, open_section
from heksher.exceptions import (
    ClientClosedError,
    DuplicateSettingError,
    InvalidResponseError,
    ServiceError,
)
from heksher.setting import Setting, Validator
from heksher.status import (
    CoercedRule,
    DataSource,
    DeclarationState,
    DeclaredSetting,
    RejectedRule,
    without_frames,
)

_logger = logging.getLogger(__name__)


# How many rules of one setting an update names in the log.
_MOST_LINES = 20

_PENDING = DeclaredSetting(DeclarationState.PENDING)

_Report: TypeAlias = tuple[
    dict[str, DeclaredSetting], tuple[RejectedRule, ...], tuple[CoercedRule, ...]
]


@dataclass(eq=False, slots=True)
class Entry:
    """The settings of one name; they make equal declarations.

    Attributes:
        name: the name here.
        current_name: the name on the service, where it may have been changed.
        settings: weakly.
        to_declare: whether it is to be declared with the next update.
        on_service: whether the service has it, and is asked for it with every update.
        lacking: context features that it needs and the service does not have. It is declared as
            soon as the service has them.
        declared_anew: whether it was declared again after somebody had deleted it.
        declared: what became of its declaration.
        rejected: what the last update could not use.
        coerced: what it could use in part.
    """

    name: str
    current_name: str
    settings: list[weakref.ref[Setting[Any]]] = field(
        default_factory=list["weakref.ref[Setting[Any]]"]
    )
    to_declare: bool = True
    on_service: bool = False
    lacking: frozenset[str] = frozenset()
    declared_anew: bool = False
    declared: DeclaredSetting = _PENDING
    rejected: tuple[RejectedRule, ...] = ()
    coerced: tuple[CoercedRule, ...] = ()

    def alive(self) -> list[Setting[Any]]:
        """Return the settings that the application still holds."""
        return [setting for ref in self.settings if (setting := ref()) is not None]


@dataclass(eq=False, slots=True)
class Publication:
    """What an answer says, to be brought to the settings it belongs to.

    Attributes:
        sections: by current name, undecoded; one that cannot be used leaves its setting's last table
            in force.
        features: the context features in the service's order.
        tracking: what was tracked when the service was asked.
        is_withdrawn: whether nobody waits for it any more, so that no more of it is published.
        usable: the sections that could be used, by the name here.
    """

    sections: Mapping[str, Undecoded]
    features: tuple[str, ...]
    tracking: Tracking
    is_withdrawn: bool = False
    usable: dict[str, Undecoded] = field(default_factory=dict[str, Undecoded])


@dataclass(frozen=True, slots=True)
class _Reading:
    """What a section of an answer was for one setting, by which it is known again.

    An equal one that is read in the same way means the same, and need not be read, as long as it is
    what is in force.

    Attributes:
        digest: of the section.
        features: the context features in the service's order. Each table has a tuple of its own, so
            that this is also what the table is known by; the table itself would hold values, and
            those might hold the setting.
        tracking: what was tracked.
        validators: those of the setting.
        rejected: what could not be used.
        coerced: what could be used in part.
    """

    digest: int
    features: tuple[str, ...]
    tracking: Tracking
    validators: tuple[Validator[Any], ...]
    rejected: tuple[RejectedRule, ...]
    coerced: tuple[CoercedRule, ...]


class _Reported:
    """What `ServedSettings.report` returned last, until something in it changes."""

    __slots__ = ("report",)

    def __init__(self) -> None:
        self.report: _Report | None = None

    def drop(self, _: object = None) -> None:
        """Forget it. Also called when a setting dies, whoever holds which lock then."""
        self.report = None


@dataclass(frozen=True, slots=True)
class Prepared:
    """What is to be published, and what was decided of it."""

    published: getter.Published[Any]
    plan: Plan


def prepare(setting: Setting[Any], table: RuleTable[Any], defaults: Defaults) -> Prepared:
    """Prepare a publish of *setting*. With many rules this takes its time, and needs no lock."""
    published = getter.Published(table, defaults, started=True)
    return Prepared(published, getter.decide(setting, published))


class ServedSettings:
    """The settings of a client, with its defaults and what it tracks.

    Args:
        features: the context features that the client lists.
    """

    def __init__(self, features: tuple[str, ...]) -> None:
        self._features = features
        #: Guards everything here. Reentrant, since the garbage collector may run anything while it
        #: is held.
        self.lock = threading.RLock()
        self._entries: dict[str, Entry] = {}
        self._own: weakref.WeakSet[Setting[Any]] = weakref.WeakSet()
        self._defaults = Defaults()
        self._tracking = Tracking()
        self._attachments = 0
        self._warned_constants: set[tuple[str, str]] = set()
        # Whether a start has succeeded. Before, nothing is in force: neither defaults nor tables.
        self._in_force = False
        # What came before that, to be put in force then.
        self._fetched: weakref.WeakKeyDictionary[Setting[Any], Prepared] = (
            weakref.WeakKeyDictionary()
        )
        self._readings: weakref.WeakKeyDictionary[Setting[Any], _Reading] = (
            weakref.WeakKeyDictionary()
        )
        # Starts, so that what belongs to one that was given up is published in no later one.
        self._starts = 0
        self._closed = False
        #: Where what was read last came from.
        self.source = DataSource.DEFAULTS
        self._reported = _Reported()

    # --- which settings ---------------------------------------------------------------------------

    def attach(self, settings: Iterable[Setting[Any]], *, own: bool = False) -> None:
        """Serve these settings from now on; *own*: also when another client becomes the main one.

        Raises:
            DuplicateSettingError: a differing setting of the same name is served already.
            ClientClosedError: the client was closed, and the settings were to be its own.
        """
        attached: list[Setting[Any]] = []
        try:
            with self.lock:
                if own:
                    self._refuse_if_closed()
                for setting in settings:
                    self._attach(setting, own)
                    attached.append(setting)
                self._attachments += 1
        finally:
            self._renew(attached)

    def _attach(self, setting: Setting[Any], own: bool) -> None:
        self._reported.drop()
        entry = self._entries.get(setting.name)
        others = [other for other in entry.alive() if other is not setting] if entry else []
        for other in others:
            if not declared_alike(setting, other):
                raise DuplicateSettingError(
                    f"setting {setting.name!r}, declared at {setting.declared_at}, differs from "
                    f"the one declared at {other.declared_at}, which this client serves",
                    setting.name,
                )
        if entry is None or not others:
            entry = self._entries[setting.name] = Entry(setting.name, setting.name)
        entry.settings = [weakref.ref(each, self._reported.drop) for each in (*others, setting)]
        if own:
            self._own.add(setting)
        self._readings.pop(setting, None)

    def detach(self, settings: Iterable[Setting[Any]] | None) -> None:
        """Stop serving these settings; None: all but the client's own."""
        with self.lock:
            self._reported.drop()
            if settings is None:
                settings = [each for each in self._alive() if each not in self._own]
            for setting in settings:
                # Somebody else may publish from now on.
                self._readings.pop(setting, None)
                entry = self._entries.get(setting.name)
                if entry is None:
                    continue
                left = [other for other in entry.alive() if other is not setting]
                if left:
                    entry.settings = [weakref.ref(other, self._reported.drop) for other in left]
                else:
                    del self._entries[setting.name]

    def pending(self, features: Iterable[str]) -> list[tuple[Entry, Setting[Any]]]:
        """Return what is to be declared to a service that has these context features."""
        there = set(features)
        with self.lock:
            return [
                (entry, alive[0])
                for entry in self._entries.values()
                if (entry.to_declare or (entry.lacking and entry.lacking <= there))
                and (alive := entry.alive())
            ]

    def known_names(self) -> list[str]:
        """Return the names to ask the service for, and forget settings that nobody holds."""
        with self.lock:
            for name in [name for name, entry in self._entries.items() if not entry.alive()]:
                del self._entries[name]
                self._reported.drop()
            return sorted({e.current_name for e in self._entries.values() if e.on_service})

    def reconcile(self, catalogue: Catalogue) -> None:
        """Take note of what was renamed on the service; deleted settings become pending, once each."""
        with self.lock:
            self._reported.drop()
            for entry in self._entries.values():
                if not entry.on_service:
                    continue
                stored = catalogue.find(entry.current_name) or catalogue.find(entry.name)
                if stored is None:
                    again = not entry.declared_anew
                    entry.to_declare, entry.on_service = again, False
                    entry.current_name = entry.name
                    entry.declared_anew = True
                    entry.declared = DeclaredSetting(DeclarationState.DELETED)
                    entry.rejected, entry.coerced = (), ()
                    for setting in entry.alive():
                        self._readings.pop(setting, None)
                    _logger.error(
                        "setting %r was deleted on the service; it keeps its last rules%s",
                        entry.name,
                        " and is declared anew"
                        if again
                        else ". It was declared anew before, so take it out of the application, or "
                        "start that again to have it declared",
                    )
                elif stored.name != entry.current_name:
                    entry.current_name = stored.name
                    is_back = stored.name == entry.name
                    entry.declared = DeclaredSetting(
                        DeclarationState.UPTODATE if is_back else DeclarationState.RENAMED,
                        one_line(stored.version),
                    )
                    _logger.warning(
                        "setting %r was renamed to %.200r on the service; its rules keep arriving",
                        entry.name,
                        stored.name,
                    )

    # --- context ----------------------------------------------------------------------------------

    def set_defaults(self, sources: Mapping[str, str | ContextVar[str]]) -> None:
        """Give context features values for the calls that leave them out."""
        with self.lock:
            self._refuse_if_closed()
            self._defaults = self._defaults.adding(sources)
            settings = self._alive()
        self._renew(settings)
        self._warn_of_unlisted("set_defaults", sources)
        self._warn_of_untracked_constants()

    def track_contexts(self, contexts: Mapping[str, str | Iterable[str]]) -> None:
        """Track these contexts as well, from the next update on."""
        with self.lock:
            self._refuse_if_closed()
            self._tracking = self._tracking.adding(contexts)
        self._warn_of_unlisted("track_contexts", contexts)
        self._warn_of_untracked_constants()

    def compare_features(self, there: Sequence[str]) -> None:
        """Warn where the client's list of context features is not the service's, which is what counts."""
        here = self._features
        missing = [feature for feature in there if feature not in here]
        unknown = [feature for feature in here if feature not in there]
        remarks: list[str] = []
        if missing:
            remarks.append(f"{one_line(', '.join(missing))} is missing here")
        if unknown:
            remarks.append(f"{', '.join(unknown)} is unknown to the service")
        if [f for f in here if f in there] != [f for f in there if f in here]:
            remarks.append("the order is another one")
        if remarks:
            _logger.warning(
                "the client's context features (%s) are not the service's (%s), whose order counts: %s",
                ", ".join(here),
                one_line(", ".join(there)),
                "; ".join(remarks),
            )

    def reading(self) -> tuple[Tracking, object]:
        """Return what decides how an answer is read: what is tracked, and what else was added."""
        with self.lock:
            validators = [
                (entry.name, len(setting.validators))
                for entry in self._entries.values()
                for setting in entry.alive()
                if setting.validators
            ]
            return self._tracking, (self._attachments, validators)

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise ClientClosedError("the client was closed, which is final; make a new client")

    def _warn_of_unlisted(self, method: str, features: Iterable[str]) -> None:
        for feature in features:
            if feature not in self._features:
                _logger.warning(
                    "%s: %r is not among the client's context features, %s",
                    method,
                    feature,
                    ", ".join(self._features),
                )

    def _warn_of_untracked_constants(self) -> None:
        for feature, value in self._defaults.constants().items():
            if self._tracking.covers(feature, value):
                continue
            if (feature, value) not in self._warned_constants:
                self._warned_constants.add((feature, value))
                _logger.warning(
                    "the default %s=%r is outside the tracked contexts: rules for it are not fetched",
                    feature,
                    value,
                )

    # --- publishing -------------------------------------------------------------------------------

    def publish(self, publication: Publication) -> None:
        """Read the sections of an answer that are new to their settings, and put them in force.

        The client may be closed meanwhile, and the publication withdrawn. Then it returns soon.
        """
        sections = publication.sections
        features, tracking = publication.features, publication.tracking
        with self.lock:
            start = self._starts
            found = [
                (entry, raw)
                for entry in self._entries.values()
                if (raw := sections.get(entry.current_name)) is not None
            ]
        # Many rules speak of the same users, those of other settings included.
        known: dict[Any, Any] = {}
        for entry, raw in found:
            if self._closed or publication.is_withdrawn:
                return
            digest = _digest(raw)
            changed = [
                setting
                for setting in entry.alive()
                if not self._is_known(setting, digest, features, tracking)
            ]
            if not changed:
                publication.usable[entry.name] = raw
                continue
            try:
                section = open_section(raw)
            except InvalidResponseError as error:
                self._note_unusable(entry, error)
                continue
            publication.usable[entry.name] = raw
            ingestions = [Ingestion(setting, features, tracking, known) for setting in changed]
            for batch in section.read():
                if self._closed or publication.is_withdrawn:
                    return
                for ingestion in ingestions:
                    ingestion.add(batch)
            for ingestion in ingestions:
                setting, validators = ingestion.setting, ingestion.validators
                ingested = ingestion.finish(section.default_value)
                table = ingested.table
                reading = _Reading(
                    digest,
                    table.features,
                    tracking,
                    validators,
                    ingested.rejected,
                    ingested.coerced,
                )
                # Large tables take their time, which is why the lock is not held.
                prepared = prepare(setting, table, self._defaults)
                with self.lock:
                    if self._closed or self._starts != start or publication.is_withdrawn:
                        return
                    if self._entries.get(entry.name) is not entry:
                        continue
                    if setting not in entry.alive():  # detached meanwhile, unlike its twin
                        continue
                    self._readings[setting] = reading
                    self._fetched[setting] = prepared
                    if self._in_force:
                        self._put_in_force(setting)
            self._note(entry, *self._reports_of(entry))

    def saved(self, sections: Mapping[str, Undecoded]) -> dict[str, Undecoded]:
        """Return, by current name, those of *sections* that are for settings which are served.

        Args:
            sections: by the name here, or by the alias: the application may have renamed a setting.
        """
        found: dict[str, Undecoded] = {}
        with self.lock:
            for entry in self._entries.values():
                aliases = [setting.alias for setting in entry.alive() if setting.alias is not None]
                for name in (entry.name, *aliases[:1]):
                    if name in sections:
                        found[entry.current_name] = sections[name]
                        break
        return found

    @property
    def source_in_force(self) -> DataSource:
        """Where the rules in force came from."""
        return self.source if self._in_force else DataSource.DEFAULTS

    def note_declared(self, entry: Entry, declared: DeclaredSetting) -> None:
        """Take note of what became of a declaration."""
        with self.lock:
            entry.declared = declared
            self._reported.drop()

    def note_unusable(self, current_name: str, error: ServiceError) -> None:
        """Take note that the service told nothing of use of this setting, which keeps its last table."""
        with self.lock:
            entries = [each for each in self._entries.values() if each.current_name == current_name]
        for entry in entries:
            self._note_unusable(entry, error)

    def _note_unusable(self, entry: Entry, error: ServiceError) -> None:
        with self.lock:
            for setting in entry.alive():
                # What comes next is read again, whatever it is, and replaces the report of this.
                self._readings.pop(setting, None)
        self._note(entry, (RejectedRule(entry.name, None, str(error), without_frames(error)),), ())

    def withdraw(self, publication: Publication) -> None:
        """See that nothing more of it is published. To be called once it is done as well."""
        with self.lock:
            publication.is_withdrawn = True

    def _is_known(
        self, setting: Setting[Any], digest: int, features: tuple[str, ...], tracking: Tracking
    ) -> bool:
        """Whether reading a section with this digest would bring nothing that *setting* does not have."""
        with self.lock:
            reading = self._readings.get(setting)
            if reading is None:
                return False
            fetched = self._fetched.get(setting)
            published = fetched.published if fetched is not None else setting.published
            table = published.table
            return (
                reading.digest == digest
                and reading.features == features
                and reading.tracking is tracking  # a new one is made for each change
                and reading.validators is setting.validators
                and reading.features is table.features
            )

    def _serves(self, setting: Setting[Any]) -> bool:
        entry = self._entries.get(setting.name)
        return entry is not None and setting in entry.alive()

    def _alive(self) -> list[Setting[Any]]:
        return [setting for entry in self._entries.values() for setting in entry.alive()]

    def _renew(self, settings: Iterable[Setting[Any]]) -> None:
        """Have these settings answer with the defaults of by now, if anything is in force so far.

        With many rules that takes its time, so it is prepared without the lock.
        """
        for setting in settings:
            if self._closed or not self._in_force:
                return
            prepared = prepare(setting, setting.published.table, self._defaults)
            with self.lock:
                if not self._closed and self._serves(setting):
                    self._put_in_force(setting, prepared)

    def _put_in_force(self, setting: Setting[Any], prepared: Prepared | None = None) -> None:
        """Publish what there is for *setting*, by one assignment.

        Args:
            setting: one that is served.
            prepared: what it has already, with new defaults. It counts as long as both are what they
                were then.
        """
        fetched, published = self._fetched.pop(setting, None), setting.published
        if fetched is not None:
            prepared, table = fetched, fetched.published.table
        elif published.defaults is self._defaults and published.started:
            return
        else:
            table = published.table
        if (
            prepared is None
            or prepared.published.table is not table
            or prepared.published.defaults is not self._defaults
        ):
            prepared = prepare(setting, table, self._defaults)
        setting.publish(prepared.published, prepared.plan)

    def _reports_of(self, entry: Entry) -> tuple[tuple[RejectedRule, ...], tuple[CoercedRule, ...]]:
        """Return what the settings of one name cannot use, and what in part."""
        with self.lock:
            readings = [
                reading
                for setting in entry.alive()
                if (reading := self._readings.get(setting)) is not None
            ]
        if len(readings) == 1:
            return readings[0].rejected, readings[0].coerced
        # They differ here by their own validators at most.
        rejected = dict.fromkeys(each for reading in readings for each in reading.rejected)
        coerced = dict.fromkeys(each for reading in readings for each in reading.coerced)
        return (*rejected,), (*coerced,)

    def _note(
        self, entry: Entry, rejected: tuple[RejectedRule, ...], coerced: tuple[CoercedRule, ...]
    ) -> None:
        """Keep for the status what was not used, and log what was used the last time."""
        known_rejected, known_coerced = set(entry.rejected), set(entry.coerced)
        with self.lock:
            entry.rejected, entry.coerced = rejected, coerced
            self._reported.drop()
        _log_some("dropped: %s", [rule for rule in rejected if rule not in known_rejected])
        _log_some("coerced: %s", [rule for rule in coerced if rule not in known_coerced])

    def report(self) -> _Report:
        """Return how declarations stand, by name, and the rules that are not used as they are."""
        with self.lock:
            report = self._reported.report
            if report is None:
                entries = [entry for entry in self._entries.values() if entry.alive()]
                report = self._reported.report = (
                    {entry.name: entry.declared for entry in entries},
                    tuple(rule for entry in entries for rule in entry.rejected),
                    tuple(rule for entry in entries for rule in entry.coerced),
                )
        declared, rejected, coerced = report
        return dict(declared), rejected, coerced

    def refusals(self) -> dict[str, str]:
        """Return why declarations were not accepted, by name."""
        declared, _, _ = self.report()
        return {name: each.refusal for name, each in declared.items() if each.refusal is not None}

    # --- the client's life ------------------------------------------------------------------------

    def begin(self) -> None:
        """Before a start: what was left of one that failed is forgotten."""
        with self.lock:
            self._starts += 1
            self._fetched.clear()
            self._readings.clear()
            self._reported.drop()
            if not self._in_force:
                self.source = DataSource.DEFAULTS
            for entry in self._entries.values():
                entry.to_declare, entry.on_service = True, False
                entry.declared = _PENDING

    def put_in_force(self) -> None:
        """After a start: defaults and tables count from now on."""
        with self.lock:
            self._in_force = True
            for setting in self._alive():
                self._put_in_force(setting)

    def catch_up(self) -> None:
        """In a forked child: put in force what a thread was preparing that is not here."""
        with self.lock:
            if self._in_force and not self._closed:
                self.put_in_force()

    def close(self) -> None:
        """Publish nothing any more. What is in force stays so."""
        with self.lock:
            self._closed = True
            self._fetched.clear()
            self._readings.clear()


def _digest(section: Undecoded) -> int:
    """Return what an equal section is known again by.

    The interpreter's own hash has 64 bits, and a key that each process draws anew. That is enough
    against accidents; and whoever could bring about another one has a service that says what it
    likes. It is four times as fast as those of hashlib, which besides give the interpreter lock away
    for each section, and would wait for it as often beside a busy thread.
    """
    return hash(bytes(section))


def _log_some(message: str, rules: Sequence[object]) -> None:
    """Warn of each of *rules*, but of no more than a reader takes in."""
    for rule in rules[:_MOST_LINES]:
        _logger.warning(message, rule)
    if len(rules) > _MOST_LINES:
        _logger.warning(
            message, f"{len(rules) - _MOST_LINES} more rules of this setting; status lists them"
        )
