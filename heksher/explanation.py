"""What `Setting.explain` returns: why a setting has its value in one context.

Pure data, and how it is shown. Knows neither settings nor tables: `heksher._rules.explaining` reads those.
Imported with the first explanation, so that modules which only define settings do not pay for it.

The classes are msgspec's structures. Making a frozen one takes a tenth of the time of a frozen dataclass,
and an application may explain each look-up that it makes. With ``gc=False`` the garbage collector does not
visit them, which takes time as well: nothing that they hold leads back to them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from enum import StrEnum
from textwrap import wrap
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from msgspec import Struct
from msgspec.structs import force_setattr

from heksher._application_code import ApplicationCodeError, call_application
from heksher._text import aligned, fitted, joined, one_line, shown
from heksher.status import DataSource, RejectedRule

__all__ = ["Candidate", "ContextValue", "ExplainedRule", "Explanation", "FeatureSource", "Reason"]

T = TypeVar("T")

# The width of a text, in columns, and of the titles at the left.
_WIDTH = 80
_TITLE = 10
# Columns of a feature's name, of its source and of a rule's value, at most.
_MAX_NAME, _MAX_SOURCE, _MAX_VALUE = 24, 16, 24
# Show at most this many rules that are candidates, and that are rejected: a ticket needs no more.
_MAX_CANDIDATES, _MAX_REJECTED = 20, 5


class Reason(StrEnum):
    """Why a setting has its value."""

    RULE = "rule"  # it is the value of `Explanation.rule`
    SERVICE_DEFAULT = "service_default"  # no rule matches
    LOCAL_DEFAULT = "local_default"  # no rule matches, and the service has sent no usable default
    OVERRIDE = "override"  # `Explanation.rule` is a rule of the override, or None
    NOT_STARTED = "not_started"  # no client that serves the setting was ever started


class FeatureSource(StrEnum):
    """Where the value of a context feature came from."""

    ARGUMENT = "argument"
    CONSTANT = "constant"  # a constant default of the client
    CONTEXT_VARIABLE = "context_variable"  # a default too: the variable's value at that moment
    COHORT = "cohort"  # computed from another feature
    MISSING = "missing"  # no value; an error once a client has started


_REASONS = {
    Reason.SERVICE_DEFAULT: "no rule matches: the service's default value",
    Reason.LOCAL_DEFAULT: "no rule matches: the default value of the declaration",
    Reason.OVERRIDE: "an override is in force, and none of its rules matches: the default",
    Reason.NOT_STARTED: "no client has started: the default value of the declaration",
}


class ContextValue(Struct, frozen=True, gc=False):
    """The value of a context feature.

    Attributes:
        value: the value. None meets no condition.
        source: where it came from.
        computed_from: the feature that a cohort was computed from, and its value. The setting need not
            have that feature. None if the value is no cohort.
    """

    value: str | None
    source: FeatureSource
    computed_from: tuple[str, str | None] | None = None


class ExplainedRule(Struct, Generic[T], frozen=True):
    """A rule of a setting.

    Attributes:
        rule_id: the service's number for it; None if it has none, as a stub's rule.
        conditions: pairs of context feature and value, in the service's order. A rule without conditions
            matches in every context.
        value: the setting's value where the rule wins.
    """

    rule_id: int | None
    conditions: tuple[tuple[str, str], ...]
    value: T


class Candidate(Struct, Generic[T], frozen=True):
    """A rule that matches, or that would match if one condition were met.

    Attributes:
        rule: the rule.
        unmet: the only condition that is not met; None if the rule matches.
    """

    rule: ExplainedRule[T]
    unmet: tuple[str, str] | None


class Candidates(NamedTuple, Generic[T]):
    """The candidates of one explanation.

    Attributes:
        listed: the first ones.
        total: how many there are.
    """

    listed: tuple[Candidate[T], ...]
    total: int


class Explainer(Protocol[T]):
    """What an explanation reads from the table that it holds, as `heksher._rules.explaining` does."""

    setting: str
    rejected_rules: tuple[RejectedRule, ...]
    rejected_count: int

    def encode(self, value: T) -> Any: ...

    def candidates(self, context: Mapping[str, str | None], limit: int) -> Candidates[T]: ...

    def untracked(self, context: Mapping[str, str | None]) -> tuple[str, ...]: ...

    def is_tracking_all(self) -> bool: ...


class Explanation(Struct, Generic[T], frozen=True, eq=False, gc=False):
    """Why a setting has its value in one context. It does not change later.

    ``print(explanation)`` shows it, no wider than 80 columns. It holds the rules that it was made from,
    so do not keep many of them.

    Attributes:
        value: what `get` returned at that moment.
        reason: why.
        source: where the setting's rules came from: service, file, snapshot or defaults. With an override,
            where the rules came from that it replaces.
        rule: the rule that wins; None if no rule matches.
        context: the value of each configurable feature, and where it came from.
    """

    value: T
    reason: Reason
    source: DataSource
    rule: ExplainedRule[T] | None
    context: Mapping[str, ContextValue]
    _explainer: Explainer[T]
    _limit: int
    _candidates: Candidates[T] | None = None

    @property
    def setting(self) -> str:
        """The setting's name."""
        return self._explainer.setting

    @property
    def candidates(self) -> tuple[Candidate[T], ...]:
        """The rules that match, the winner first, and then those that miss by one condition.

        Both by priority. They are looked for at the first access, among all rules of the setting. At most
        as many are listed as the *limit* of `explain` says.
        """
        return self._all_candidates().listed

    @property
    def more_candidates(self) -> int:
        """How many further rules match or miss by one condition."""
        found = self._all_candidates()
        return found.total - len(found.listed)

    def _all_candidates(self) -> Candidates[T]:
        if self._candidates is None:
            found = self._explainer.candidates(self._values(), self._limit)
            force_setattr(self, "_candidates", found)
        assert self._candidates is not None
        return self._candidates

    def _values(self) -> dict[str, str | None]:
        return {feature: each.value for feature, each in self.context.items()}

    @property
    def rejected_rules(self) -> tuple[RejectedRule, ...]:
        """The first rules of the service's newest answer that cannot be used, with the reasons."""
        return self._explainer.rejected_rules

    @property
    def rejected_count(self) -> int:
        """How many rules cannot be used, also those that `rejected_rules` does not list."""
        return self._explainer.rejected_count

    @property
    def untracked(self) -> tuple[str, ...]:
        """The features whose values in this context are not tracked.

        Rules with a condition on one of them were left out (``track_contexts``): one may match here.
        """
        return self._explainer.untracked(self._values())

    @property
    def is_tracking_all(self) -> bool:
        """Whether all rules were asked for. If not, more rules may miss by one condition."""
        return self._explainer.is_tracking_all()

    def as_dict(self) -> dict[str, Any]:
        """Return the explanation in JSON's types. A value that JSON does not have becomes a text."""
        rule = self.rule
        return {
            "setting": self.setting,
            "value": self._json(self.value),
            "reason": str(self.reason),
            "source": str(self.source),
            "rule": None if rule is None else self._rule_as_dict(rule),
            "context": {
                feature: {
                    "value": each.value,
                    "source": str(each.source),
                    **({"computed_from": dict([each.computed_from])} if each.computed_from else {}),
                }
                for feature, each in self.context.items()
            },
            "candidates": [
                {**self._rule_as_dict(each.rule), "unmet": each.unmet and dict([each.unmet])}
                for each in self.candidates
            ],
            "more_candidates": self.more_candidates,
            "rejected_rules": [
                {"rule_id": each.rule_id, "reason": each.reason} for each in self.rejected_rules
            ],
            "rejected_count": self.rejected_count,
            "untracked": list(self.untracked),
            "is_tracking_all": self.is_tracking_all,
        }

    def _rule_as_dict(self, rule: ExplainedRule[T]) -> dict[str, Any]:
        return {
            "rule_id": rule.rule_id,
            "conditions": dict(rule.conditions),
            "value": self._json(rule.value),
        }

    def _json(self, value: T) -> Any:
        def encoded() -> Any:
            made = self._explainer.encode(value)
            json.dumps(made, allow_nan=False)
            return made

        try:  # a validator may return anything
            return call_application("encoding a value", encoded)
        except ApplicationCodeError:
            return shown(value)

    def __str__(self) -> str:
        sections = {
            "value": [shown(self.value)],
            "reason": [self._reason_text()],
            "source": [str(self.source)],
            "context": aligned(
                [
                    (feature, each.source.replace("_", " "), _value_text(each))
                    for feature, each in self.context.items()
                ],
                (_MAX_NAME, _MAX_SOURCE),
            ),
            "rules": self._rule_lines(),
            "unused": self._rejected_lines(),
            "tracking": self._tracking_lines(),
        }
        lines = [f"setting   {one_line(self.setting)}"]
        for title, texts in sections.items():
            for number, text in enumerate(texts):
                lines.append(f"{'' if number else title:{_TITLE}}{text}")
        return "\n".join(fitted(line.rstrip(), _WIDTH) for line in lines)

    def _reason_text(self) -> str:
        rule = self.rule
        if rule is None:
            if self.reason is Reason.SERVICE_DEFAULT and self.source is DataSource.FILE:
                return "no rule matches: the file's value for all contexts"
            return _REASONS[self.reason]
        if self.reason is Reason.OVERRIDE:
            return "an override is in force"
        return "a rule wins" if rule.rule_id is None else f"rule {rule.rule_id} wins"

    def _rule_lines(self) -> list[str]:
        winner = self.rule
        listed = self.candidates[:_MAX_CANDIDATES]
        lines = aligned(
            [
                (
                    ">" if number == 0 and winner is not None else "",
                    "-" if each.rule.rule_id is None else str(each.rule.rule_id),
                    shown(each.rule.value),
                    _conditions_text(each),
                )
                for number, each in enumerate(listed)
            ],
            (1, 20, _MAX_VALUE),
        )
        if more := self._all_candidates().total - len(listed):
            lines.append(f"and {more:,} more that match or miss by one condition")
        return lines or ["none matches or misses by one condition"]

    def _rejected_lines(self) -> list[str]:
        lines: list[str] = []
        for each in self.rejected_rules[:_MAX_REJECTED]:
            number = "" if each.rule_id is None else f"rule {each.rule_id}: "
            lines += wrap(number + one_line(each.reason), _WIDTH - _TITLE, max_lines=3)
        if more := self.rejected_count - min(len(self.rejected_rules), _MAX_REJECTED):
            lines.append(f"and {more:,} more")
        return lines

    def _tracking_lines(self) -> list[str]:
        if untracked := self.untracked:
            verb = "is" if len(untracked) == 1 else "are"
            return [f"{joined(untracked)} {verb} not tracked here: rules may be missing"]
        if self.is_tracking_all:
            return []
        return ["only rules for tracked contexts are known (track_contexts)"]

    def __repr__(self) -> str:
        return f"<explanation of setting {self.setting!r}: {shown(self.value)}, {self.reason}>"


def _value_text(value: ContextValue) -> str:
    text = shown(value.value)
    return f"{text} of {_condition_text(value.computed_from)}" if value.computed_from else text


def _conditions_text(candidate: Candidate[Any]) -> str:
    """Return a rule's conditions, the one that is not met first, since the end may be cut off."""
    conditions = candidate.rule.conditions
    if candidate.unmet is None:
        return ", ".join(map(_condition_text, conditions)) or "no condition"
    met = [_condition_text(each) for each in conditions if each != candidate.unmet]
    return f"not met: {_condition_text(candidate.unmet)}{'; met: ' if met else ''}{', '.join(met)}"


def _condition_text(condition: tuple[str, str | None]) -> str:
    feature, value = condition
    return f"{one_line(feature)}={shown(value)}"
