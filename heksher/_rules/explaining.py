"""Why `get` answers as it does: which rule wins in one context, and where the features' values came from.

Reads the same plan and the same rules as `get`, and adds nothing to either. Imported with the first
explanation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import ContextVar
from functools import partial
from typing import Any, Final, Generic, TypeVar, cast

from heksher._rules import codegen
from heksher._rules.bitmap_index import BitmapIndex
from heksher._rules.cohorts import Cohort
from heksher._rules.contexts import MISSING, Context, Defaults, checked_value
from heksher._rules.groups import GroupedRules, grouped
from heksher._rules.plan import LookUp, Plan, PlannedCohort
from heksher._rules.table import RuleTable, TableRule
from heksher.exceptions import UnknownFeatureError
from heksher.explanation import (
    Candidate,
    Candidates,
    ContextValue,
    ExplainedRule,
    Explanation,
    FeatureSource,
    Reason,
)
from heksher.status import DataSource, RejectedRule

T = TypeVar("T")

# Finding a member of an Enum class takes longer than all else that is done for a feature.
_VARIABLE = FeatureSource.CONTEXT_VARIABLE

#: Remember at most this many rules that have won, for each look-up; 300 bytes for each.
MOST_REMEMBERED: Final = 1024


class _Winners(dict[Any, ExplainedRule[T]]):
    """The rules that one look-up has found, by its key. A rule that is missing is made."""

    __slots__ = ("_look_up", "_rules")

    def __init__(self, rules: GroupedRules[T], look_up: LookUp) -> None:
        self._rules = rules
        self._look_up = look_up

    def __missing__(self, key: Any) -> ExplainedRule[T]:
        names, values = self._look_up.key, self._look_up.values
        features, wanted = names[::-1], key
        if isinstance(values, BitmapIndex):
            among = values.winning_features(key, names)
            features = tuple([each for each in self._rules.order if each in among])
            at = dict(zip(names, key, strict=True))
            wanted = tuple([at[each] for each in reversed(features)])
            wanted = wanted[0] if len(features) == 1 else wanted
        if len(self) >= MOST_REMEMBERED:
            self.clear()
        rule = self[key] = _rule(self._rules, features, wanted, cast(T, values.get(key, None)))
        return rule


def _rule(
    rules: GroupedRules[T], features: tuple[str, ...], key: Any, value: T
) -> ExplainedRule[T]:
    """Return a rule.

    Args:
        rules: all rules.
        features: those of its conditions, in the service's order.
        key: the values of its conditions, as in `RuleGroup.values`.
        value: its value.
    """
    number = rules.number_of(features, key)
    if len(features) == 1:  # the most common case, in a fraction of the time
        conditions: tuple[tuple[str, str], ...] = ((features[0], key),)
    else:
        conditions = tuple(zip(features, key[::-1], strict=True))
    return ExplainedRule(None if number == -1 else number, conditions, value)


class Explainer(Generic[T]):
    """Explains what one published table answers. What is the same for all calls is decided here.

    Args:
        setting: the setting's name.
        encode: makes JSON of the setting's values.
        table: the rules, and the value where none matches.
        defaults: the values of features that a call leaves out.
        plan: what `get` does with them.
        started: whether a client that serves the setting was ever started.

    Attributes:
        setting: as given.
        rejected_rules: the first rules that cannot be used.
        rejected_count: how many there are.
        explain: explains what `get` returns. It takes the arguments of `get` as a mapping, and how many
            candidates to list. If `get` raises, it raises as well, but it need not be the same error.
    """

    __slots__ = (
        "_encode",
        "_features",
        "_rules",
        "_tracking",
        "explain",
        "rejected_count",
        "rejected_rules",
        "setting",
    )

    setting: str
    rejected_rules: tuple[RejectedRule, ...]
    rejected_count: int
    explain: Callable[[Mapping[str, object], int], Explanation[T]]

    def __init__(
        self,
        setting: str,
        encode: Callable[[T], Any],
        table: RuleTable[T],
        defaults: Defaults,
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
        self._features = plan.features
        self._rules = grouped(table.features, table.rules)
        rule_reason = Reason.OVERRIDE if provenance.is_override else Reason.RULE
        # A rule without conditions is the default of a search in dicts.
        unconditional = None
        if self._rules.number_of((), ()) is not None:
            unconditional = _rule(self._rules, (), (), plan.search.default)
        if unconditional is not None or provenance.is_override:
            reason = rule_reason
        elif not started:
            reason = Reason.NOT_STARTED
        elif provenance.has_service_default:
            reason = Reason.SERVICE_DEFAULT
        else:
            reason = Reason.LOCAL_DEFAULT
        objects = {
            "explainer": self,
            "check_names": self._check_names,
            "source": provenance.source or DataSource.DEFAULTS,
            "reason": rule_reason,
            "default": plan.search.default,
            "default_rule": unconditional,
            "default_reason": reason,
        }
        self.explain = codegen.function_of(self._emit(plan, defaults, objects), _COMMON)

    def _emit(self, plan: Plan, defaults: Defaults, objects: dict[str, Any]) -> codegen.Source:
        """Write the function that explains, as `get` is written: a loop takes twice as long.

        No name of a feature gets into the text, so they may have any names.
        """
        text = _BEGIN
        at = {name: place for place, name in enumerate(plan.cohorts_last())}
        for name, n in at.items():
            default = plan.sources.get(name, ...)
            objects[f"name{n}"] = name
            objects[f"check{n}"] = partial(checked_value, self.setting, name)
            if isinstance(default, PlannedCohort):
                objects[f"default{n}"] = partial(_computed, default)
                source = at.get(default.source)
                call = "({})" if source is None else f"({{name{source}: value{source}}})"
            elif isinstance(default, ContextVar) or default is ...:
                read = default.get if isinstance(default, ContextVar) else lambda: ...
                objects[f"default{n}"] = partial(_read, self.setting, name, read)
                call = "()"
            else:
                objects[f"default{n}"] = _constant(default, name, plan, defaults), default
                call = ""
            text += _READ.format(n=n, call=call)
        pairs = [f"name{n}: context{n}" for n in map(at.__getitem__, plan.features)]
        text += _CONTEXT.format(", ".join(pairs))
        for n, look_up in enumerate(plan.search.look_ups):
            objects[f"find{n}"] = look_up.values.get
            objects[f"rules{n}"] = _Winners(self._rules, look_up)
            key = ", ".join([f"value{at[name]}" for name in look_up.key])
            text += _LOOK_UP.format(n=n, key=key)
        return codegen.Source(text + _END, objects, inline=False)

    def _check_names(self, contexts: Mapping[str, object]) -> None:
        unknown = sorted(contexts.keys() - set(self._features))
        if unknown:
            raise UnknownFeatureError(self.setting, unknown, self._features)

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
        return tracking is None or all(tracking.values_of(each) is None for each in self._features)

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


#: Objects of every function that explains.
_COMMON = {
    "len": len,
    "type": type,
    "str": str,
    "nothing": MISSING,
    "argument": FeatureSource.ARGUMENT,
    "context_value": ContextValue,
    "explanation": Explanation,
}

# The parts of its text. Values are checked as `get` does it: most of them need no call.
_BEGIN = """\
def explain(contexts, limit):
    left = len(contexts)
"""
_READ = """\
    value{n} = contexts.get(name{n}, ...)
    if value{n} is ...:
        context{n}, value{n} = default{n}{call}
    else:
        left -= 1
        if type(value{n}) is not str and value{n} is not None:
            value{n} = check{n}(value{n})
        context{n} = context_value(value{n}, argument)
"""
_CONTEXT = """\
    if left:
        check_names(contexts)
    context = {{{}}}
"""
_LOOK_UP = """\
    key = ({key})
    value = find{n}(key, nothing)
    if value is not nothing:
        return explanation(value, reason, source, rules{n}[key], context, explainer, limit)
"""
_END = """\
    return explanation(
        default, default_reason, source, default_rule, context, explainer, limit
    )
"""


def _constant(value: str | None, feature: str, plan: Plan, defaults: Defaults) -> ContextValue:
    """Return what is said of a default that is the same for all calls."""
    cohort = defaults.source_of(feature) if feature in plan.cohorts else None
    if isinstance(cohort, Cohort):
        source = cast(str, defaults.source_of(cohort.source))
        return ContextValue(value, FeatureSource.COHORT, (cohort.source, source))
    return ContextValue(value, FeatureSource.MISSING if value is None else FeatureSource.CONSTANT)


def _read(
    setting: str, feature: str, variable: Callable[[], object]
) -> tuple[ContextValue, str | None]:
    """Read a context variable, or raise an error for a feature that has no default."""
    try:
        value = variable()
    except LookupError:
        value = ...
    if type(value) is not str:
        value = checked_value(setting, feature, value)
    return ContextValue(value, _VARIABLE), value


def _computed(cohort: PlannedCohort, context: Context) -> tuple[ContextValue, str | None]:
    source = cohort.source_in(context)
    value = cohort.value_of(source)
    return ContextValue(value, FeatureSource.COHORT, (cohort.source, source)), value
