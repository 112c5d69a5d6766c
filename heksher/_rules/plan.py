"""What a call of ``get`` has to do: everything that can be decided before the call is decided here.

Pure data, made each time rules are published. `codegen` writes a plan as Python code. A plan can also
be carried out as it is (`Search.find`), for features whose names cannot be parameters. Both are tested
against the definition, `RuleTable.resolve`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from itertools import groupby, islice
from operator import itemgetter
from typing import Any, Final, TypeAlias

from heksher._rules.bitmap_index import BitmapIndex
from heksher._rules.cohorts import Cohort, CohortFinder
from heksher._rules.contexts import (
    MISSING,
    Context,
    Defaults,
    Missing,
    checked_value,
    current_value,
)
from heksher._rules.groups import GroupedRules, RuleGroup, grouped
from heksher._rules.table import RuleTable

#: Sets of features that get a dict each. With more, one index answers for all of them. It finds as fast
#: that no rule matches as about ten dicts do, and a rule of the first set in three times the time of its
#: dict. With four features there are 16 sets at most.
MOST_LOOK_UPS: Final = 16


@dataclass(frozen=True, slots=True)
class LookUp:
    """One dict to look into, or one index.

    Attributes:
        key: the features whose values are the key: the value of one feature, or a tuple of several.
        values: the rules' values, by key.
    """

    key: tuple[str, ...]
    values: dict[Any, Any] | BitmapIndex


@dataclass(frozen=True, slots=True)
class Search:
    """How to find the value in a context: the first look-up that has the key, or else the default.

    Attributes:
        look_ups: in the order in which they are tried.
        default: the value if none has the key.
    """

    look_ups: tuple[LookUp, ...]
    default: Any

    def find(self, context: Context) -> Any:
        """Return the value in *context*, which has a value for each feature."""
        for look_up in self.look_ups:
            at = tuple(context[name] for name in look_up.key)
            value = look_up.values.get(at[0] if len(at) == 1 else at, MISSING)
            if value is not MISSING:
                return value
        return self.default


@dataclass(frozen=True, slots=True, eq=False)
class PlannedCohort:
    """A feature that a call computes from another one, its source, if it leaves the feature out.

    Attributes:
        setting: the setting's name.
        feature: the feature.
        source: the feature that it is computed from.
        is_listed: whether the setting takes the source. Its value is then checked already.
        variable: what to read where the setting does not take the source; None if there is nothing.
        finder: finds the cohort.
    """

    setting: str
    feature: str
    source: str
    is_listed: bool
    variable: ContextVar[Any] | None
    finder: CohortFinder

    def checked_source(self, value: object) -> str | None:
        """Check the value of a source that the setting does not take."""
        return checked_value(self.setting, self.source, value, self.feature)

    def source_in(self, context: Context) -> str | None:
        """Return the source, where *context* has the values of all features that are no cohorts."""
        if self.is_listed:
            return context[self.source]
        return self.checked_source(... if self.variable is None else current_value(self.variable))

    def value_of(self, value: str | None) -> str | None:
        """Return the cohort for a value of the source."""
        # One operation: another thread may empty the dict between two.
        known = self.finder.known.get(value, MISSING)
        return self.finder.find(value) if isinstance(known, Missing) else known


#: Where the value of a feature comes from if a call leaves it out. None: it has no value.
Source: TypeAlias = str | ContextVar[Any] | PlannedCohort | None


def read(source: Source, context: Context) -> object:
    """Return the value that *source* has now, or ``...`` if a context variable is unset.

    Args:
        source: where the value comes from.
        context: the values of all features that are no cohorts.

    Raises:
        MissingFeatureError: the source of a cohort has no value.
        FeatureTypeError: the value of a cohort's source is neither a string nor None.
    """
    if isinstance(source, PlannedCohort):
        return source.value_of(source.source_in(context))
    return current_value(source)


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that a call has to do.

    Attributes:
        features: the setting's features.
        sources: where the value of each feature that has a default comes from. The constant None
            stands for no value, where that is not an error.
        search: for every context.
        folded: a shorter search for calls that leave out every feature with a constant default; None
            if there is no such feature.
        is_hashable: whether the default values of both searches are.
        cohorts: the features whose default is a cohort, also where it is the same for all calls.
    """

    features: tuple[str, ...]
    sources: Mapping[str, Source]
    search: Search
    folded: Search | None
    is_hashable: bool = True
    cohorts: frozenset[str] = frozenset()

    def cohorts_last(self) -> list[str]:
        """Return the features, those that are computed from others after all others."""
        return sorted(self.features, key=self.cohorts.__contains__)


def foldable(sources: Mapping[str, Source]) -> dict[str, str | None]:
    """Return the constants, except for those that a call needs in order to compute a cohort."""
    needed = {each.source for each in sources.values() if isinstance(each, PlannedCohort)}
    return {
        name: each
        for name, each in sources.items()
        if not isinstance(each, (ContextVar, PlannedCohort)) and name not in needed
    }


def decide(
    features: Sequence[str],
    table: RuleTable[Any],
    defaults: Defaults,
    started: bool,
    setting: str = "",
) -> Plan:
    """Decide what a call has to do.

    Args:
        features: the setting's features.
        table: its rules.
        defaults: the values of features that a call leaves out.
        started: whether a client that serves the setting was ever started. Until then a feature that
            is left out has no value, and that is not an error.
        setting: the setting's name, for cohorts.
    """
    sources: dict[str, Source] = {}
    cohorts: set[str] = set()
    for name in features:
        source = defaults.source_of(name)
        if not started:  # the client's defaults are not known yet
            sources[name] = None
        elif isinstance(source, Cohort):
            sources[name] = _cohort(setting, name, source, features, defaults)
            cohorts.add(name)
        elif source is not None:
            sources[name] = source
    constants = foldable(sources)
    rules = grouped(table.features, table.rules)
    search = _search(rules, table.default, {})
    folded = _search(rules, table.default, constants) if constants else None
    is_hashable = _is_hashable(search.default) and (
        folded is None or folded.default is search.default or _is_hashable(folded.default)
    )
    return Plan(tuple(features), sources, search, folded, is_hashable, frozenset(cohorts))


def _cohort(
    setting: str, feature: str, cohort: Cohort, features: Sequence[str], defaults: Defaults
) -> Source:
    """Return how to compute a cohort, or the cohort itself where it is the same for all calls."""
    finder = CohortFinder(cohort, setting)
    is_listed = cohort.source in features
    source = defaults.source_of(cohort.source)
    if isinstance(source, str) and not is_listed:
        return finder.find(source)
    variable = source if isinstance(source, ContextVar) and not is_listed else None
    return PlannedCohort(setting, feature, cohort.source, is_listed, variable, finder)


def _is_hashable(value: object) -> bool:
    try:
        hash(value)
    except Exception:  # it may be the application's own code
        return False
    return True


def _folded(group: RuleGroup[Any], constants: Mapping[str, str | None]) -> dict[Any, Any]:
    """Return the values of one group by key, where the features in *constants* have these values.

    Rules for other values are dropped, and these features are taken out of the keys.
    """
    names = _key(group.features, {})
    fixed = [place for place, name in enumerate(names) if name in constants]
    if not fixed:
        return group.values
    # As keys are: the value itself if it is the only one, or else a tuple.
    fixed_part = itemgetter(*fixed)
    wanted = fixed_part([constants.get(name) for name in names])
    if len(fixed) == len(names):
        return {(): group.values[wanted]} if wanted in group.values else {}
    kept_part = itemgetter(*(place for place in range(len(names)) if place not in fixed))
    return {
        kept_part(key): value for key, value in group.values.items() if fixed_part(key) == wanted
    }


def _key(names: tuple[str, ...], constants: Mapping[str, str | None]) -> tuple[str, ...]:
    """Return the features in the key of a look-up, the latest first."""
    return tuple(name for name in reversed(names) if name not in constants)


def _search(rules: GroupedRules[Any], default: Any, constants: Mapping[str, str | None]) -> Search:
    """Return the search where the features in *constants* are fixed, and so in no key."""
    groups = [*islice(rules.ranked(), MOST_LOOK_UPS + 1)]
    if len(groups) > MOST_LOOK_UPS:
        free = {name: 1 << place for place, name in enumerate(rules.order) if name not in constants}
        mask = sum(free.values())
        key = tuple([name for name, bit in free.items() if bit & rules.used])
        # Neighbours that differ only in features that are fixed need one look-up.
        look_ups_needed = groupby(group.rank & mask for group in rules.ranked())
        if len(key) > 1 and len([*islice(look_ups_needed, MOST_LOOK_UPS + 1)]) > MOST_LOOK_UPS:
            sets = (
                (_key(group.features, constants), _folded(group, constants))
                for group in rules.ranked()
            )
            return Search((LookUp(key, BitmapIndex(key, sets)),), default)
        groups = [*rules.ranked()]
    tables: list[tuple[tuple[str, ...], list[dict[Any, Any]]]] = []
    for group in reversed(groups):
        values = _folded(group, constants) if constants else group.values
        if not values:
            continue
        key = _key(group.features, constants)
        if not key:
            # This rule matches in every context, so nothing after it is ever reached.
            (default,) = values.values()
            break
        if tables and tables[-1][0] == key:
            # The two groups differ only in features that are fixed. The one before wins.
            tables[-1][1].append(values)
        else:
            tables.append((key, [values]))
    look_ups = [LookUp(key, each[0] if len(each) == 1 else _first_of(each)) for key, each in tables]
    return Search(tuple(look_ups), default)


def _first_of(tables: Sequence[dict[Any, Any]]) -> dict[Any, Any]:
    """Return the values in *tables*, for each key the first one."""
    values: dict[Any, Any] = {}
    for each in reversed(tables):
        values.update(each)
    return values
