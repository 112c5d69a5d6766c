"""From the service's words to a rule table: what one section of an answer means for one setting.

Decides what is used and what is dropped, and says so; who calls it logs and publishes. Calls what
the application added to the setting, `on_coerce` and validators, and survives it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, Generic, TypeVar

from heksher._rules.groups import GroupedRules
from heksher._rules.table import RuleTable
from heksher._rules.tracking import Tracking
from heksher._text import named
from heksher._wire import RuleData, Section
from heksher.setting import QueriedRule, Setting
from heksher.status import CoercedRule, RejectedRule, without_frames

T = TypeVar("T")

# Of a condition.
_feature: Callable[[tuple[str, str]], str] = itemgetter(0)

# The types of which equal values are one and the same. A bool or a float would be equal to an int.
_SIMPLE = frozenset[type]((int, str))


@dataclass(frozen=True, slots=True)
class Ingested(Generic[T]):
    """A table to publish, and what was dropped on the way.

    Attributes:
        table: the new table.
        rejected: the rules, or the default value, that cannot be used here.
        coerced: those of which only a part is used.
    """

    table: RuleTable[T]
    rejected: tuple[RejectedRule, ...]
    coerced: tuple[CoercedRule, ...]


class Ingestion(Generic[T]):
    """Builds the table of a setting from a section that is read bit by bit.

    Args:
        setting: gives types, and the default value before, for when the new one is unusable.
        features: the context features in the service's order.
        tracking: rules outside of it are left out silently.
        known: strings and numbers by themselves: equal ones are used again, others are added.
    """

    def __init__(
        self,
        setting: Setting[T],
        features: Sequence[str],
        tracking: Tracking,
        known: dict[Any, Any] | None = None,
    ) -> None:
        self.setting = setting
        #: Those that are used for what comes.
        self.validators = setting.validators
        self._tracking = tracking
        # A tuple of its own, also where it is given one: `served.py` knows the table again by it.
        self._features = (*features,)
        self._configurable, self._features_there = set(setting.configurable_features), set(features)
        self._rules = GroupedRules[T](self._features)
        self._known = {} if known is None else known
        self._rejected: list[RejectedRule] = []
        self._coerced: list[CoercedRule] = []

    def add(self, section: Section) -> None:
        """Take the rules of *section*, and not its default value."""
        name = self.setting.name
        self._rejected += [RejectedRule(name, None, problem) for problem in section.problems]
        asked = [tuple(map(_feature, data.context_features)) for data in section.rules]
        alike: dict[tuple[str, ...], list[RuleData]] = {listed: [] for listed in asked}
        for listed, data in zip(asked, section.rules, strict=True):
            alike[listed].append(data)
        for listed, all_rules in alike.items():
            rules = self._tracked(listed, all_rules)
            if not rules:
                continue
            unusable = _unusable(listed, self._configurable, self._features_there)
            if unusable is not None:
                for data in rules:
                    self._reject(data, unusable)
                continue
            usable, values = self._usable(rules)
            self._rules.group_of(listed).extend(
                listed,
                self._shared(values),
                [data.context_features for data in usable],
                [data.rule_id for data in usable],
                self._known,
            )

    def _tracked(self, listed: tuple[str, ...], rules: list[RuleData]) -> list[RuleData]:
        """Return those of *rules*, with conditions on the features *listed*, that are tracked."""
        for place, feature in enumerate(listed):
            values = self._tracking.values_of(feature)
            if values is not None:
                rules = [data for data in rules if data.context_features[place][1] in values]
        return rules

    def _shared(self, values: list[T]) -> list[T]:
        """Return *values*, equal ones as one, where they are simple and repeat themselves."""
        if not _SIMPLE.issuperset(map(type, values)) or 2 * len(set(values)) > len(values):
            return values
        return [*map(self._known.setdefault, values, values)]

    def _usable(self, rules: list[RuleData]) -> tuple[list[RuleData], list[T]]:
        """Return those of *rules* that can be used, and their values."""
        decode = self.setting.type.decode
        if not self.validators:
            # As a rule there is nothing to say of any.
            left_out: list[str] = []
            with suppress(Exception):  # told below, of the rule that it belongs to
                decoded = [decode(data.value, left_out) for data in rules]
                if not left_out:
                    return rules, decoded
        usable: list[RuleData] = []
        values: list[T] = []
        for data in rules:
            left_out = []
            try:
                value = decode(data.value, left_out)
                if left_out or self.validators:
                    value = self._hooked(value, data.value, left_out, data)
            except Exception as error:
                self._reject(data, *_reason(error))
                continue
            if left_out:
                number = data.rule_id
                self._coerced.append(CoercedRule(self.setting.name, number, tuple(left_out)))
            usable.append(data)
            values.append(value)
        return usable, values

    def finish(self, raw_default: Any) -> Ingested[T]:
        """Return the table.

        Args:
            raw_default: the default value as JSON says it.
        """
        left_out: list[str] = []
        try:
            default = self.setting.type.decode(raw_default, left_out)
            if left_out or self.validators:
                default = self._hooked(default, raw_default, left_out, None)
        except Exception as error:
            reason, cause = _reason(error)
            self._reject(None, f"default value: {reason}", cause)
            default = self.setting.published.table.default
        else:
            if left_out:
                self._coerced.append(CoercedRule(self.setting.name, None, tuple(left_out)))
        return Ingested(
            RuleTable(default, self._rules, self._features),
            tuple(self._rejected),
            tuple(self._coerced),
        )

    def _reject(
        self, data: RuleData | None, reason: str, error: BaseException | None = None
    ) -> None:
        number = None if data is None else data.rule_id
        self._rejected.append(RejectedRule(self.setting.name, number, reason, error))

    def _hooked(self, value: T, raw: Any, left_out: list[str], data: RuleData | None) -> T:
        """Return what the application's own code makes of a value.

        Args:
            value: as it was decoded.
            raw: as JSON says it.
            left_out: the parts of *raw* that are of no use here.
            data: the rule that it belongs to; None: it is the default value.
        """
        setting = self.setting
        rule = None if data is None else QueriedRule(data.rule_id, data.context_features)
        if left_out:
            on_coerce = setting.on_coerce
            if on_coerce is None:
                raise _Unusable(f"it would have to be coerced: {'; '.join(left_out)}")
            value = _called("on_coerce", on_coerce, value, raw, tuple(left_out), rule, setting)
        for validator in self.validators:
            value = _called("validator", validator, value, rule, setting)
        return value


class _Unusable(Exception):
    """A value cannot be used; the text says why, the cause is what the application's code raised."""


def _reason(error: Exception) -> tuple[str, BaseException | None]:
    """Say why a value cannot be used, and what the application's code raised, if it did."""
    if isinstance(error, _Unusable):
        return str(error), error.__cause__
    if isinstance(error, ValueError):  # a type's verdict
        return str(error), None
    # Of a type that somebody else wrote.
    return f"its type raised {named(error)}", without_frames(error)


def _called(what: str, function: Any, *arguments: Any) -> Any:
    """Call code of the application, which may raise whatever it wants."""
    try:
        return function(*arguments)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        cause = without_frames(error)
        name = getattr(function, "__qualname__", type(function).__name__)
        raise _Unusable(f"{what} {name} raised {named(error)}") from cause


def _unusable(conditions: tuple[str, ...], configurable: set[str], known: set[str]) -> str | None:
    """Say why a rule with conditions on these features cannot be used, if it cannot."""
    for feature in conditions:
        if feature not in configurable:
            return f"{feature!r:.200} is no configurable feature of the setting here"
        if feature not in known:
            return f"{feature!r:.200} is not among the service's context features"
        if conditions.count(feature) > 1:
            return f"it has two conditions on {feature!r:.200}"
    return None
