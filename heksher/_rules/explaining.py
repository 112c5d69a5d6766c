"""Why `get` answers as it does: which rule wins in one context, and where the features' values came from.

Reads the same plan and the same rules as `get`, and adds nothing to either. Imported with the first
explanation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import ContextVar
from operator import itemgetter
from typing import Any, Generic, TypeAlias, TypeVar, cast

from heksher._rules.bitmap_index import BitmapIndex
from heksher._rules.contexts import MISSING, Context, checked_value, current_value
from heksher._rules.groups import grouped
from heksher._rules.plan import LookUp, Plan, PlannedCohort
from heksher._rules.table import RuleTable, TableRule
from heksher.exceptions import UnknownFeatureError
from heksher.explanation import (
    Candidate,
    Candidates,
    ExplainedRule,
    Explanation,
    FeatureSource,
    Reason,
)
from heksher.status import DataSource, RejectedRule

T = TypeVar("T")

#: A look-up of the plan: what makes its key, its ``get``, the features in the service's order, and the
#: index if it is one. (A tuple: unpacking takes less time than finding attributes.)
_LookUp: TypeAlias = tuple[
    Callable[[Context], Any], Callable[..., Any], tuple[str, ...], BitmapIndex | None
]


class Explainer(Generic[T]):
    """Explains what one published table answers. What is the same for all calls is decided here.

    Args:
        setting: the setting's name.
        encode: makes JSON of the setting's values.
        table: the rules, and the value where none matches.
        plan: what `get` does with them.
        started: whether a client that serves the setting was ever started.

    Attributes:
        setting: as given.
        rejected_rules: the first rules that cannot be used.
        rejected_count: how many there are.
        sources: where the value of a feature comes from if a call leaves it out.
    """

    __slots__ = (
        "_default",
        "_defaults",
        "_encode",
        "_look_ups",
        "_reason",
        "_rule_reason",
        "_rules",
        "_source",
        "_tracking",
        "_unconditional",
        "rejected_count",
        "rejected_rules",
        "setting",
        "sources",
    )

    setting: str
    rejected_rules: tuple[RejectedRule, ...]
    rejected_count: int
    sources: Mapping[str, FeatureSource]

    def __init__(
        self,
        setting: str,
        encode: Callable[[T], Any],
        table: RuleTable[T],
        plan: Plan,
        *,
        started: bool,
    ) -> None:
        self.setting = setting
        self._encode = encode
        provenance = table.provenance
        self.rejected_rules = provenance.rejected
        self.rejected_count = provenance.rejected_count
        self._tracking = provenance.tracking
        self._source = provenance.source or DataSource.DEFAULTS
        # Of each feature; None: it needs no value, and ...: it has no default.
        self._defaults = {each: plan.sources.get(each, ...) for each in plan.cohorts_last()}
        self.sources = {each: _source_of(plan, each) for each in plan.features}
        self._rules = grouped(table.features, table.rules)
        self._look_ups = [_prepared(each) for each in plan.search.look_ups]
        # A rule without conditions is the default of a search in dicts.
        self._default: T = plan.search.default
        self._unconditional: tuple[str, ...] | None = (
            () if self._rules.number_of((), ()) is not None else None
        )
        self._rule_reason = Reason.OVERRIDE if provenance.is_override else Reason.RULE
        if self._unconditional is not None or provenance.is_override:
            self._reason = self._rule_reason
        elif not started:
            self._reason = Reason.NOT_STARTED
        elif provenance.has_service_default:
            self._reason = Reason.SERVICE_DEFAULT
        else:
            self._reason = Reason.LOCAL_DEFAULT

    def explain(self, contexts: Mapping[str, object], limit: int) -> Explanation[T]:
        """Explain what `get` returns for these arguments.

        Args:
            contexts: the arguments.
            limit: how many candidates to list.

        Raises:
            UnknownFeatureError: an argument is no configurable feature of the setting.
            MissingFeatureError: a feature has no value.
            FeatureTypeError: a value is neither a string nor None.
        """
        context: dict[str, str | None] = {}
        unread = len(contexts)
        for feature, default in self._defaults.items():
            value = contexts.get(feature, ...)
            if value is ...:
                value = default
                if type(value) is ContextVar:
                    value = current_value(value)
                elif type(value) is PlannedCohort:
                    value = value.value_in(context)
            else:
                unread -= 1
            # As the generated code does it: most values need no call.
            if type(value) is not str and value is not None:
                value = checked_value(self.setting, feature, value)
            context[feature] = value
        if unread and not context.keys() >= contexts.keys():
            raise UnknownFeatureError(self.setting, sorted(contexts.keys() - context), [*context])
        found, winner, reason = self._default, self._unconditional, self._reason
        for key_of, find, features, index in self._look_ups:
            value = find(key_of(context), MISSING)
            if value is not MISSING:
                found, winner, reason = value, features, self._rule_reason
                if index is not None:
                    among = index.winning_features(key_of(context), features[::-1])
                    winner = tuple([each for each in self._rules.order if each in among])
                break
        return Explanation(found, reason, self._source, winner, context, contexts, self, limit)

    def rule(self, features: tuple[str, ...], context: Context, value: T) -> ExplainedRule[T]:
        """Return a rule that matches.

        Args:
            features: those of its conditions, in the service's order.
            context: the value of each feature.
            value: its value.
        """
        at: Any
        if len(features) == 1:
            at = key = context[features[0]]
            conditions: tuple[tuple[str, str], ...] = ((features[0], at),)
        else:
            at = tuple(map(context.__getitem__, features))
            key = at[::-1]
            conditions = tuple(zip(features, at))  # noqa: B905 - they are equally long
        number = self._rules.number_of(features, key)
        return ExplainedRule(None if number == -1 else number, conditions, value)

    def encode(self, value: T) -> Any:
        """Return a value of the setting in JSON's types.

        Raises:
            ValueError: JSON does not have it, as its type says.
        """
        return self._encode(value)

    def untracked(self, context: Context) -> tuple[str, ...]:
        """Return the features whose values in *context* are not tracked."""
        tracking = self._tracking
        return tuple(
            [
                feature
                for feature, value in context.items()
                if tracking is not None
                and value is not None
                and not tracking.covers(feature, value)
            ]
        )

    def is_tracking_all(self) -> bool:
        """Whether rules for all contexts were asked for."""
        tracking = self._tracking
        return tracking is None or all(tracking.values_of(each) is None for each in self._defaults)

    def candidates(self, context: Context, limit: int) -> Candidates[T]:
        """Find the rules that match *context*, and those that miss it by one condition.

        Args:
            context: the value of each feature.
            limit: how many rules to list.
        """
        matching, near, near_total = self._rules.close_to(context, limit)
        listed = [_candidate(rule, context) for rule in (*matching, *near)[:limit]]
        return Candidates(tuple(listed), len(matching) + near_total)


def _candidate(rule: TableRule[T], context: Context) -> Candidate[T]:
    unmet = [each for each in rule.conditions if context[each[0]] != each[1]]
    explained = ExplainedRule(rule.rule_id, rule.conditions, rule.value)
    return Candidate(explained, unmet[0] if unmet else None)


def _source_of(plan: Plan, feature: str) -> FeatureSource:
    if feature in plan.cohorts:
        return FeatureSource.COHORT
    default = plan.sources.get(feature)
    if isinstance(default, ContextVar):
        return FeatureSource.CONTEXT_VARIABLE
    return FeatureSource.CONSTANT if isinstance(default, str) else FeatureSource.MISSING


def _prepared(look_up: LookUp) -> _LookUp:
    index = look_up.values if isinstance(look_up.values, BitmapIndex) else None
    key_of = cast("Callable[[Context], Any]", itemgetter(*look_up.key))
    return key_of, look_up.values.get, look_up.key[::-1], index
