"""From one section of an answer to the rule table of one setting.

Decides which rules are used and which are not, and reports the latter; the caller logs the report and
publishes the table. Calls the application's code (``on_coerce`` and validators) and survives it. Knows no
client, no lock and no request.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, Generic, TypeVar, cast

from heksher._application_code import ApplicationCodeError, call_application
from heksher._client.errors import without_frames
from heksher._client.unused import MAX_LISTED, Listed
from heksher._rules.groups import GroupedRules, SharedStrings
from heksher._rules.table import Provenance, RuleTable, TableRule
from heksher._rules.tracking import Tracking
from heksher._text import error_text, one_line, shown
from heksher._wire import Batch, RuleData
from heksher.setting import QueriedRule, Setting, state_of
from heksher.status import CoercedRule, DataSource, RejectedRule

T = TypeVar("T")

# The feature of a condition.
_feature: Callable[[tuple[str, str]], str] = itemgetter(0)

# The characters of a reason that is kept. A validator's error may show the whole value.
_MAX_REASON = 1000


@dataclass(frozen=True, slots=True)
class ReadResult(Generic[T]):
    """A table to publish, and what of the section is not in it.

    Attributes:
        table: the new table.
        rejected: the first rules that cannot be used; the default value counts as one.
        coerced: the first rules that are used in part.
    """

    table: RuleTable[T]
    rejected: Listed[RejectedRule]
    coerced: Listed[CoercedRule]


class SectionReader(Generic[T]):
    """Builds the table of a setting from the batches of a section.

    Args:
        setting: provides the type, the validators, and a default value if the section has no usable one.
        features: the context features in the service's order.
        tracking: rules outside of it are left out silently.
        strings: those of all sections of the answer.
        source: where the section came from.

    Attributes:
        setting: the setting.
        validators: those that are used for this section; one that is added later is not.
    """

    def __init__(
        self,
        setting: Setting[T],
        features: Sequence[str],
        tracking: Tracking,
        strings: SharedStrings | None = None,
        source: DataSource = DataSource.SERVICE,
    ) -> None:
        self.setting = setting
        self._source = source
        self._state = state_of(setting)
        self.validators = self._state.validators
        self._named_validators = [
            (f"validator {getattr(each, '__qualname__', type(each).__name__)}", each)
            for each in self.validators
        ]
        self._tracking = tracking
        # A new tuple even if it is given one: the caller recognises the table by this object.
        self._features = (*features,)
        self._configurable, self._known = set(setting.configurable_features), set(features)
        self._rules = GroupedRules[T]([name for name in features if name in self._configurable])
        self._strings = SharedStrings() if strings is None else strings
        self._rejected: list[RejectedRule] = []
        self._coerced: list[CoercedRule] = []
        self._rejected_total = self._coerced_total = 0

    def add(self, batch: Batch[RuleData]) -> None:
        """Add the rules of a batch.

        Most sections use few sets of features, so rules that list the same ones are handled together:
        what depends on the features alone is checked once, and the rest runs in loops of the interpreter.
        """
        for text in batch.problems:
            self._reject_part(None, text)
        self._rejected_total += batch.unreadable - len(batch.problems)
        groups: dict[str | tuple[str, ...], list[RuleData]] = {}
        for data in batch.objects:
            conditions = data.context_features
            # Most rules have one condition, and making a tuple of its feature takes three times as long.
            key = conditions[0][0] if len(conditions) == 1 else tuple(map(_feature, conditions))
            groups.setdefault(key, []).append(data)
        for key, all_rules in groups.items():
            listed = (key,) if isinstance(key, str) else key
            rules = self._tracked(listed, all_rules)
            if not rules:
                continue
            problem = self._problem(listed)
            if problem is not None:
                for data in rules:
                    self._reject(data, problem)
                continue
            usable, values = self._decode_all(rules)
            self._rules.group_of(listed).extend(
                listed,
                self._share(values),
                [data.context_features for data in usable],
                [data.rule_id for data in usable],
                self._strings,
            )

    def finish(self, raw_default: Any) -> ReadResult[T]:
        """Return the table.

        Args:
            raw_default: the section's default value, decoded from JSON.
        """
        last = self._state.published.table
        default, is_sent = last.default, last.provenance.has_service_default
        features = self._features
        rules: Sequence[TableRule[T]] = self._rules
        if raw_default is None and self._source is DataSource.FILE:
            default, is_sent = self.setting.default_value, False  # a file need not have one
        elif usable := self._decode(raw_default, None):
            default, is_sent = usable[0], True
        elif self._source is DataSource.FILE:
            features, rules = last.features, last.rules  # it says nothing else of this setting
        rejected = Listed(self._rejected, self._rejected_total)
        provenance = Provenance(self._source, is_sent, self._tracking, rejected, rejected.total)
        return ReadResult(
            RuleTable(default, rules, features, provenance),
            rejected,
            Listed(self._coerced, self._coerced_total),
        )

    # --- which rules ------------------------------------------------------------------------------

    def _tracked(self, listed: tuple[str, ...], rules: list[RuleData]) -> list[RuleData]:
        """Return those of *rules*, with conditions on the features *listed*, that are tracked."""
        for position, feature in enumerate(listed):
            values = self._tracking.values_of(feature)
            if values is not None:
                rules = [data for data in rules if data.context_features[position][1] in values]
        return rules

    def _problem(self, listed: tuple[str, ...]) -> str | None:
        """Return why a rule with conditions on these features cannot be used, or None."""
        for feature in listed:
            if feature not in self._configurable:
                return f"{shown(feature)} is not a configurable feature of the setting here"
            if feature not in self._known:
                return f"{shown(feature)} is not among the service's context features"
            if listed.count(feature) > 1:
                return f"it has two conditions on {shown(feature)}"
        return None

    def _reject(
        self, data: RuleData | None, reason: str, error: BaseException | None = None
    ) -> None:
        """Report that a rule, or with None the default value, cannot be used."""
        rule_id, what = (None, "default value: ") if data is None else (data.rule_id, "")
        self._reject_part(rule_id, what + reason, error and without_frames(error))

    def _reject_part(
        self, rule_id: int | None, reason: str, error: BaseException | None = None
    ) -> None:
        self._rejected_total += 1
        if len(self._rejected) < MAX_LISTED:
            reason = one_line(reason, _MAX_REASON)
            self._rejected.append(RejectedRule(self.setting.name, rule_id, reason, error))

    # --- their values -----------------------------------------------------------------------------

    def _decode_all(self, rules: list[RuleData]) -> tuple[list[RuleData], list[T]]:
        """Return those of *rules* whose values can be used, and these values."""
        decode, left_out = self.setting.type.decode, list[str]()
        results: list[list[T]]
        try:
            # Usually every value fits, and this is faster. If one does not, each is tried by itself.
            decoded = call_application(
                "its type", lambda: [decode(data.value, left_out) for data in rules]
            )
        except ApplicationCodeError:
            decoded = []
        if left_out or not decoded:
            results = [self._decode(data.value, data) for data in rules]
        elif self.validators:
            results = [
                self._call_hooks(value, data.value, [], data)
                for data, value in zip(rules, decoded, strict=True)
            ]
        else:
            return rules, decoded
        usable = [data for data, result in zip(rules, results, strict=True) if result]
        return usable, [value for result in results for value in result]

    def _decode(self, raw: Any, data: RuleData | None) -> list[T]:
        """Return the value to use, as a list of one, or an empty list.

        Args:
            raw: the value, decoded from JSON.
            data: its rule, or None for the default value.
        """
        left_out: list[str] = []
        try:
            value = call_application("its type", self.setting.type.decode, raw, left_out)
        except ApplicationCodeError as error:
            if isinstance(error.__cause__, ValueError):  # how a type says that a value is not of it
                self._reject(data, error_text(error.__cause__))
            else:
                self._reject(data, str(error), error.__cause__)
            return []
        return self._call_hooks(value, raw, left_out, data)

    def _call_hooks(
        self, value: T, raw: Any, left_out: list[str], data: RuleData | None
    ) -> list[T]:
        """Return what ``on_coerce`` and the validators make of a value, as a list of one or none.

        Args:
            value: the value, without the parts that were left out.
            raw: the whole value, decoded from JSON.
            left_out: one text for each part that does not fit the type here.
            data: its rule, or None for the default value.
        """
        setting, on_coerce = self.setting, self._state.on_coerce
        rule = None if data is None else QueriedRule(data.rule_id, data.context_features)
        try:
            if left_out:
                if on_coerce is None:
                    self._reject(
                        data, f"it does not fit, and on_coerce is None: {'; '.join(left_out)}"
                    )
                    return []
                value = call_application(
                    "on_coerce", on_coerce, value, raw, tuple(left_out), rule, setting
                )
            for what, validator in self._named_validators:
                value = call_application(what, validator, value, rule, setting)
        except ApplicationCodeError as error:
            self._reject(data, str(error), error.__cause__)
            return []
        if left_out:
            self._coerced_total += 1
            if len(self._coerced) < MAX_LISTED:
                rule_id = None if data is None else data.rule_id
                texts = tuple(one_line(text, _MAX_REASON) for text in left_out)
                self._coerced.append(CoercedRule(setting.name, rule_id, texts))
        return [value]

    def _share(self, values: list[T]) -> list[T]:
        """Return *values* with one object for equal ones, if that is safe and saves memory.

        A service can choose numbers whose hashes collide, and those of strings it does not know. So a
        dict of numbers lives for these few values only, and one of strings for the whole answer.
        """
        types = set[type](map(type, values))
        if types not in ({int}, {str}) or 2 * len(set(values)) > len(values):
            return values
        if types == {str}:
            return cast("list[T]", self._strings.shared(cast("list[str]", values)))
        numbers: dict[T, T] = {}
        return [*map(numbers.setdefault, values, values)]
