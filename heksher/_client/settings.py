"""The settings of one client: which they are, how their declarations stand, and the contexts that count.

No I/O, and no rules: `publishing.py` brings those to the settings. Called in any thread. Everything here
happens under the client's lock, which is never held while something outside is called. Settings are held
weakly.
"""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias, TypeVar

from heksher._application_code import get_logger
from heksher._client.declarations import Catalogue
from heksher._client.lifecycle import Call, Lifecycle
from heksher._client.splitting import Limits
from heksher._client.unused import Listed, first_of
from heksher._registry import declared_alike, origin_of
from heksher._rules.cohorts import Cohort
from heksher._rules.contexts import Default, Defaults
from heksher._rules.tracking import Tracking
from heksher._text import counted, joined, one_line, shown
from heksher._wire import DeclarationAnswer
from heksher.exceptions import DuplicateSettingError
from heksher.setting import Setting, state_of
from heksher.status import CoercedRule, DeclarationState, DeclaredSetting, RejectedRule

_logger = get_logger(__name__)

# Log at most this many settings that were deleted or renamed at once, one line each.
_MAX_LOGGED_SETTINGS = 20

# Seconds until a declaration that something on the way refused is made again.
_REFUSAL_PAUSE = 3600.0

R = TypeVar("R")

_PENDING = DeclaredSetting(DeclarationState.PENDING)

_Report: TypeAlias = tuple[dict[str, DeclaredSetting], Listed[RejectedRule], Listed[CoercedRule]]


@dataclass(eq=False, slots=True)
class Entry:
    """The settings of one name; they make equal declarations. Changed by `ClientSettings` alone.

    Attributes:
        name: the name in the application.
        current_name: the name on the service, where the setting may have been renamed.
        settings: weakly.
        to_declare: whether it is to be declared with the next update.
        on_service: whether the service has it, and is asked for it with every update.
        lacking: context features that it needs and the service does not have. It is declared as soon as
            the service has them.
        refused: the moment at which a firewall or the like refused the declaration; None: it did not.
        declared_anew: whether it was declared again after it had been deleted on the service.
        declared: the outcome of its declaration.
        rejected: the first rules that the last update could not use.
        coerced: the first rules that the last update could use in part.
    """

    name: str
    current_name: str
    settings: list[weakref.ref[Setting[Any]]] = field(
        default_factory=list["weakref.ref[Setting[Any]]"]
    )
    to_declare: bool = True
    on_service: bool = False
    lacking: frozenset[str] = frozenset()
    refused: float | None = None
    declared_anew: bool = False
    declared: DeclaredSetting = _PENDING
    rejected: Listed[RejectedRule] = field(default_factory=Listed[RejectedRule])
    coerced: Listed[CoercedRule] = field(default_factory=Listed[CoercedRule])

    def alive(self) -> list[Setting[Any]]:
        """Return the settings that the application still holds."""
        return [setting for ref in self.settings if (setting := ref()) is not None]


class _CachedReport:
    """What `ClientSettings.report` returned last, until something in it changes."""

    __slots__ = ("report",)

    def __init__(self) -> None:
        self.report: _Report | None = None

    def drop(self, _: object = None) -> None:
        """Forget it. Also called when a setting dies, in any thread and under any lock."""
        self.report = None


class ClientSettings:
    """The settings of a client, with its defaults and what it tracks.

    Args:
        features: the context features that the client lists.
        lock: the client's lock. Reentrant, since the garbage collector may run anything while it is held.
        lifecycle: the client's.

    Attributes:
        defaults: the values of features that calls of ``get()`` leave out. Replaced, never changed.
        limits: what gets through to the service.
    """

    def __init__(
        self, features: tuple[str, ...], lock: threading.RLock, lifecycle: Lifecycle
    ) -> None:
        self._features = features
        self._lock = lock
        self._lifecycle = lifecycle
        self._entries: dict[str, Entry] = {}
        # The settings that stay with this client whichever the main client is.
        self._own: weakref.WeakSet[Setting[Any]] = weakref.WeakSet()
        self.defaults = Defaults()
        self.limits = Limits()
        self._tracking = Tracking()
        # Counts changes of the settings: what was answered before does not hold for those that came later.
        self._generation = 0
        self._warned_defaults: set[tuple[str, str]] = set()
        # The moments at which the newest update began, and at which limits were found.
        self._now = self._limited = 0.0
        self._cached = _CachedReport()

    # --- which settings ---------------------------------------------------------------------------

    def attach(self, settings: Iterable[Setting[Any]], *, own: bool = False) -> None:
        """Serve these settings from now on; *own*: also when another client becomes the main one.

        Raises:
            DuplicateSettingError: a differing setting of the same name is served already, or is among
                them. Then none of them is attached.
            ClientClosedError: the client was closed, and the settings were to be its own.
        """
        settings = list(settings)
        with self._lock:
            if own:
                self._lifecycle.check(Call.CONFIGURE)
            earlier: dict[str, Setting[Any]] = {}
            for setting in settings:
                entry = self._entries.get(setting.name)
                _check_declared_alike(setting, earlier.setdefault(setting.name, setting))
                for other in entry.alive() if entry else ():
                    _check_declared_alike(setting, other)
            for setting in settings:
                self._attach(setting)
                if own:
                    self._own.add(setting)
            self._generation += 1

    def _attach(self, setting: Setting[Any]) -> None:
        self._cached.drop()
        entry = self._entries.get(setting.name)
        others = [other for other in entry.alive() if other is not setting] if entry else []
        if entry is None or not others:
            entry = self._entries[setting.name] = Entry(setting.name, setting.name)
        entry.settings = [weakref.ref(each, self._cached.drop) for each in (*others, setting)]

    def detach(self, settings: Iterable[Setting[Any]] | None) -> list[Setting[Any]]:
        """Stop serving these settings; None: all but the client's own. Return which they were."""
        with self._lock:
            self._cached.drop()
            if settings is None:
                settings = [each for each in self.alive() if each not in self._own]
            detached = list(settings)
            for setting in detached:
                entry = self._entries.get(setting.name)
                if entry is None:
                    continue
                left = [other for other in entry.alive() if other is not setting]
                if left:
                    entry.settings = [weakref.ref(other, self._cached.drop) for other in left]
                else:
                    del self._entries[setting.name]
            return detached

    def alive(self) -> list[Setting[Any]]:
        """Return all settings that are served."""
        with self._lock:
            return [setting for entry in self._entries.values() for setting in entry.alive()]

    def serves(self, setting: Setting[Any], entry: Entry | None = None) -> bool:
        """Whether *setting* is served, and by *entry* if one is given."""
        with self._lock:
            found = self._entries.get(setting.name)
            is_meant = found is not None and (entry is None or found is entry)
            return is_meant and found is not None and setting in found.alive()

    def entries(self) -> list[Entry]:
        """Return the settings by name."""
        with self._lock:
            return [*self._entries.values()]

    def is_empty(self) -> bool:
        """Whether no setting is served."""
        with self._lock:
            return not any(entry.alive() for entry in self._entries.values())

    def known_names(self) -> list[str]:
        """Return the names to ask the service for, and forget settings that no longer exist."""
        with self._lock:
            for name in [name for name, entry in self._entries.items() if not entry.alive()]:
                del self._entries[name]
                self._cached.drop()
            return sorted({e.current_name for e in self._entries.values() if e.on_service})

    # --- context ----------------------------------------------------------------------------------

    def set_defaults(self, sources: Mapping[str, Default]) -> None:
        """Give context features values for the calls that leave them out."""
        with self._lock:
            self._lifecycle.check(Call.CONFIGURE)
            self.defaults = self.defaults.adding(sources)
        # The source of a cohort need not be a context feature.
        needed = {each.source for each in sources.values() if isinstance(each, Cohort)}
        self._warn_of_unlisted("set_defaults", [each for each in sources if each not in needed])
        self._warn_of_untracked_defaults()

    def track_contexts(self, contexts: Mapping[str, str | Iterable[str]]) -> None:
        """Track these contexts as well, from the next update on."""
        with self._lock:
            self._lifecycle.check(Call.CONFIGURE)
            self._tracking = self._tracking.adding(contexts)
        self._warn_of_unlisted("track_contexts", contexts)
        self._warn_of_untracked_defaults()

    def reading(self) -> tuple[Tracking, object]:
        """Return what decides how an answer is read: what is tracked, and what else may have changed."""
        with self._lock:
            validators = [
                (setting.name, len(state_of(setting).validators))
                for setting in self.alive()
                if state_of(setting).validators
            ]
            return self._tracking, (self._generation, validators)

    def compare_features(self, there: Sequence[str]) -> None:
        """Warn if the client's list of context features is not the service's, whose order counts."""
        here = self._features
        missing = [feature for feature in there if feature not in here]
        unknown = [feature for feature in here if feature not in there]
        remarks: list[str] = []
        if missing:
            remarks.append(f"the client lacks {one_line(joined(missing))}")
        if unknown:
            remarks.append(f"the service lacks {joined(unknown)}")
        if [f for f in here if f in there] != [f for f in there if f in here]:
            remarks.append("the order differs")
        if remarks:
            _logger.warning(
                "the client's context features (%s) are not the service's (%s), whose order counts: %s",
                joined(here),
                one_line(joined(there)),
                "; ".join(remarks),
            )

    def _warn_of_unlisted(self, method: str, features: Iterable[str]) -> None:
        for feature in features:
            if feature not in self._features:
                _logger.warning(
                    "%s: %r is not among the client's context features, %s",
                    method,
                    feature,
                    joined(self._features),
                )

    def _warn_of_untracked_defaults(self) -> None:
        untracked: dict[str, list[str]] = {}
        with self._lock:
            for feature, values in self.defaults.known_values().items():
                if feature not in self._features:
                    continue  # it has no rules: it is only the source of a cohort, or was warned of
                for value in values:
                    if (feature, value) not in self._warned_defaults and not self._tracking.covers(
                        feature, value
                    ):
                        untracked.setdefault(feature, []).append(value)
                        self._warned_defaults.add((feature, value))
        for feature, found in untracked.items():
            _logger.warning(
                "the default %s=%s is outside the tracked contexts: rules for it are not fetched",
                feature,
                joined(map(repr, found), "or"),
            )

    # --- declarations -----------------------------------------------------------------------------

    def begin_start(self) -> None:
        """Have all settings declared anew by the start that begins."""
        with self._lock:
            self._cached.drop()
            for entry in self._entries.values():
                entry.to_declare, entry.on_service = True, False
                entry.declared = _PENDING

    def begin_update(self, now: float, *, is_requested: bool) -> None:
        """Try again what something on the way refused: hourly, and settings by `reload` as well.

        Args:
            now: the moment, by the client's clock.
            is_requested: whether the update is made for a `reload`.
        """
        with self._lock:
            self._now = now
            for entry in self._entries.values():
                if entry.refused is not None:
                    entry.to_declare |= is_requested or now - entry.refused >= _REFUSAL_PAUSE
            if now - self._limited >= _REFUSAL_PAUSE:
                self.limits = Limits()
            elif is_requested:
                self.limits = replace(self.limits, refused=frozenset())

    def note_limits(self, limits: Limits) -> None:
        """Keep to these limits in the next queries. What refuses the others may go away."""
        with self._lock:
            if self.limits == Limits():
                self._limited = self._now
            self.limits = limits

    def pending(self, features: Iterable[str]) -> list[tuple[Entry, Setting[Any]]]:
        """Return what is to be declared to a service that has these context features."""
        there = set(features)
        with self._lock:
            return [
                (entry, alive[0])
                for entry in self._entries.values()
                if (entry.to_declare or (entry.lacking and entry.lacking <= there))
                and (alive := entry.alive())
            ]

    def needs_features(self) -> bool:
        """Whether an update needs the service's context features before it asks for rules."""
        entries = [entry for entry in self.entries() if entry.alive()]
        return not any(entry.on_service for entry in entries) or any(
            entry.to_declare or entry.lacking for entry in entries
        )

    def names(self, *, of_all: bool) -> list[str]:
        """Return the names by which the service may know the settings.

        Args:
            of_all: whether of all settings, or only of those that may have to be declared.
        """
        return sorted(
            {
                name
                for entry in self.entries()
                if of_all or entry.to_declare or entry.lacking or _is_given_up(entry)
                for setting in entry.alive()[:1]
                for name in (entry.name, entry.current_name, setting.alias)
                if name is not None
            }
        )

    def note_found(
        self, entry: Entry, current_name: str, *, on_service: bool, lacking: frozenset[str]
    ) -> None:
        """Note what the service's list says of a setting that is to be declared."""
        with self._lock:
            entry.current_name, entry.on_service, entry.lacking = current_name, on_service, lacking
            entry.refused = None
            # Until that is done: the service may have got a feature only now that was lacking before.
            entry.to_declare = True

    def note_declared(
        self, entry: Entry, declared: DeclaredSetting, answer: DeclarationAnswer | None = None
    ) -> None:
        """Note the outcome of a declaration, and what the answer to it says beside that."""
        with self._lock:
            entry.declared = declared
            if answer is not None:
                entry.on_service |= answer.accepted
                entry.refused = self._now if answer.is_foreign else None
            self._cached.drop()

    def note_done(self, entry: Entry) -> None:
        """Note that nothing is left to declare of a setting."""
        with self._lock:
            entry.to_declare = False

    def may_be_declared_by_trying_again(self) -> bool:
        """Whether declarations failed because of the service, and it has refused none."""
        with self._lock:
            unaccepted = [
                entry.declared.state
                for entry in self._entries.values()
                if entry.declared.refusal is not None and entry.alive()
            ]
        return set(unaccepted) == {DeclarationState.FAILED}

    def has_given_up(self) -> bool:
        """Whether a setting was deleted on the service and is not declared anew."""
        with self._lock:
            return any(_is_given_up(entry) and entry.alive() for entry in self._entries.values())

    def note_returned(self, catalogue: Catalogue) -> None:
        """Have deleted settings declared again that are back on the service, by another process."""
        with self._lock:
            for entry in self._entries.values():
                if _is_given_up(entry) and catalogue.find(entry.name) is not None:
                    entry.to_declare = True

    def reconcile(self, catalogue: Catalogue) -> list[Setting[Any]]:
        """Note what was renamed or deleted on the service; deleted settings become pending, once each.

        If the service has none of the client's settings, it has lost its data, and all become pending,
        however often that happens. The same goes for the only setting of a client.

        Returns:
            the settings that were deleted.
        """
        deleted: list[Setting[Any]] = []
        news: list[tuple[int, str, tuple[object, ...]]] = []
        with self._lock:
            self._cached.drop()
            found = {
                entry.name: catalogue.find(entry.current_name) or catalogue.find(entry.name)
                for entry in self._entries.values()
            }
            is_all_lost = not any(found.values())
            if is_all_lost:
                news.append((logging.ERROR, _ALL_LOST, (len(found),)))
            for entry in self._entries.values():
                stored = found[entry.name]
                if is_all_lost:
                    deleted += entry.alive()
                    _note_deleted(entry, is_declared_anew=True)
                elif not entry.on_service:
                    continue
                elif stored is None:
                    deleted += entry.alive()
                    consequence = _GIVEN_UP if entry.declared_anew else _DECLARED_ANEW
                    news.append((logging.ERROR, _DELETED, (entry.name, consequence)))
                    _note_deleted(entry, is_declared_anew=not entry.declared_anew)
                    entry.declared_anew = True
                elif stored.name != entry.current_name:
                    entry.current_name = stored.name
                    is_back = stored.name == entry.name
                    entry.declared = DeclaredSetting(
                        DeclarationState.UPTODATE if is_back else DeclarationState.RENAMED,
                        one_line(stored.version),
                    )
                    message = "setting %r was renamed to %s on the service; its rules keep arriving"
                    news.append((logging.WARNING, message, (entry.name, shown(stored.name))))
        for level, message, arguments in news[:_MAX_LOGGED_SETTINGS]:
            _logger.log(level, message, *arguments)
        if more := len(news[_MAX_LOGGED_SETTINGS:]):
            _logger.error(
                "deleted or renamed on the service: %s; status lists them",
                counted(more, "more setting"),
            )
        return deleted

    # --- reports ----------------------------------------------------------------------------------

    def note_unused(
        self, entry: Entry, rejected: Listed[RejectedRule], coerced: Listed[CoercedRule]
    ) -> tuple[Listed[RejectedRule], Listed[CoercedRule]]:
        """Keep for the status what was not used; return what of it was used the last time."""
        with self._lock:
            news = _news(rejected, entry.rejected), _news(coerced, entry.coerced)
            entry.rejected, entry.coerced = rejected, coerced
            self._cached.drop()
        return news

    def report(self) -> _Report:
        """Return how declarations stand, by name, and the rules that are not used as they are."""
        with self._lock:
            report = self._cached.report
            if report is None:
                entries = [entry for entry in self._entries.values() if entry.alive()]
                report = self._cached.report = (
                    {entry.name: entry.declared for entry in entries},
                    first_of([entry.rejected for entry in entries]),
                    first_of([entry.coerced for entry in entries]),
                )
        declared, rejected, coerced = report
        return dict(declared), rejected, coerced

    def refusals(self) -> dict[str, str]:
        """Return why declarations were not accepted, by name."""
        declared, _, _ = self.report()
        return {name: each.refusal for name, each in declared.items() if each.refusal is not None}


def _check_declared_alike(setting: Setting[Any], other: Setting[Any]) -> None:
    if setting is not other and not declared_alike(setting, other):
        raise DuplicateSettingError(
            f"setting {setting.name!r}, declared at {origin_of(setting).place}, differs from "
            f"the one declared at {origin_of(other).place}, which this client serves: "
            "rename one of them, or make the declarations equal",
            setting.name,
        )


_DELETED = "setting %r was deleted on the service; it %s"
_DECLARED_ANEW = "is declared anew, without its rules"
_GIVEN_UP = (
    "keeps its last rules. It was declared anew once before: remove it from the application, or "
    "restart the application to declare it again"
)
_ALL_LOST = (
    "the service has none of the client's settings any more (%d), as if it had lost its data: "
    "they are declared anew, without their rules"
)


def _note_deleted(entry: Entry, *, is_declared_anew: bool) -> None:
    entry.to_declare, entry.on_service = is_declared_anew, False
    entry.current_name, entry.refused = entry.name, None
    entry.declared = DeclaredSetting(DeclarationState.DELETED)
    entry.rejected, entry.coerced = Listed(), Listed()


def _is_given_up(entry: Entry) -> bool:
    return entry.declared.state is DeclarationState.DELETED and not entry.to_declare


def _news(rules: Listed[R], known: Listed[R]) -> Listed[R]:
    """Return those of *rules* that are not in *known*. The rules that are not listed are only counted."""
    earlier = set(known)
    new = [rule for rule in rules if rule not in earlier]
    unlisted = (rules.total - len(rules)) - (known.total - len(known))
    return Listed(new, len(new) + max(0, unlisted))
