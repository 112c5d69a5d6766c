"""From the service's words to a rule table: what one section of an answer means for one setting.

Decides what is used and what is dropped, and says so; who calls it logs and publishes. Calls what
the application added to the setting, `on_coerce` and validators, and survives it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import starmap
from typing import Any, Generic, TypeVar

from heksher._rule_groups import GroupedRules
from heksher.context import Tracking
from heksher.protocol import RuleData, Section
from heksher.rules import RuleTable
from heksher.setting import QueriedRule, Setting
from heksher.status import CoercedRule, RejectedRule

T = TypeVar("T")


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


def ingest(
    setting: Setting[T], section: Section, features: Sequence[str], tracking: Tracking
) -> Ingested[T]:
    """Build the table of *setting* from a section that was read as a whole.

    Args:
        setting: gives types, and the default value before, for when the new one is unusable.
        section: what the service said.
        features: the context features in the service's order.
        tracking: rules outside of it are left out silently.
    """
    ingestion = Ingestion(setting, features, tracking)
    ingestion.add(section)
    return ingestion.finish(section.default_value)


class Ingestion(Generic[T]):
    """Builds the table of a setting from a section that is read bit by bit.

    Args:
        setting: gives types, and the default value before, for when the new one is unusable.
        features: the context features in the service's order.
        tracking: rules outside of it are left out silently.
    """

    def __init__(self, setting: Setting[T], features: Sequence[str], tracking: Tracking) -> None:
        self.setting = setting
        #: Those that are used for what comes.
        self.validators = setting.validators
        self._tracking = tracking
        # A tuple of its own, also where it is given one: `served.py` knows the table again by it.
        self._features = (*features,)
        self._configurable, self._known = set(setting.configurable_features), set(features)
        self._rules = GroupedRules[T](self._features)
        self._rejected: list[RejectedRule] = []
        self._coerced: list[CoercedRule] = []
        # Many rules ask for few different sets of features.
        self._verdicts: dict[tuple[str, ...], str | None] = {}

    def add(self, section: Section) -> None:
        """Take the rules of *section*, and not its default value."""
        name = self.setting.name
        verdicts, covers, add = self._verdicts, self._tracking.covers, self._rules.add
        self._rejected += [RejectedRule(name, None, problem) for problem in section.problems]
        for data in section.rules:
            conditions = data.context_features
            if not all(starmap(covers, conditions)):
                continue
            listed = tuple([feature for feature, _ in conditions])
            if listed not in verdicts:
                verdicts[listed] = _unusable(listed, self._configurable, self._known)
            unusable = verdicts[listed]
            if unusable is not None:
                self._reject(data, unusable)
                continue
            try:
                value, coercions = self._usable_value(data.value, data)
            except _Unusable as error:
                self._reject(data, str(error), error.__cause__)
                continue
            if coercions:
                self._coerced.append(CoercedRule(name, data.rule_id, coercions))
            add(listed, value, conditions, data.rule_id)

    def finish(self, raw_default: Any) -> Ingested[T]:
        """Return the table.

        Args:
            raw_default: the default value as JSON says it.
        """
        try:
            default, coercions = self._usable_value(raw_default, None)
        except _Unusable as error:
            self._reject(None, f"default value: {error}", error.__cause__)
            default = self.setting.published.table.default
        else:
            if coercions:
                self._coerced.append(CoercedRule(self.setting.name, None, coercions))
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

    def _usable_value(self, raw: Any, data: RuleData | None) -> tuple[T, tuple[str, ...]]:
        """Return the value that *raw* has for the application, and what was left out of it.

        Args:
            raw: as JSON says it.
            data: the rule that it belongs to; None: it is the default value.
        """
        setting = self.setting
        left_out: list[str] = []
        try:
            value = setting.type.decode(raw, left_out)
        except ValueError as error:
            raise _Unusable(str(error)) from None
        except Exception as error:  # of a type that somebody else wrote
            raise _Unusable(f"its type raised {_named(error)}") from error.with_traceback(None)
        if not (left_out or self.validators):
            return value, ()
        coercions = tuple(left_out)
        rule = None if data is None else QueriedRule(data.rule_id, data.context_features)
        if coercions:
            on_coerce = setting.on_coerce
            if on_coerce is None:
                raise _Unusable(f"it would have to be coerced: {'; '.join(coercions)}")
            value = _called("on_coerce", on_coerce, value, raw, coercions, rule, setting)
        for validator in self.validators:
            value = _called("validator", validator, value, rule, setting)
        return value, coercions


class _Unusable(Exception):
    """A value cannot be used; the text says why, the cause is what the application's code raised."""


def _called(what: str, function: Any, *arguments: Any) -> Any:
    """Call code of the application, which may raise whatever it wants."""
    try:
        return function(*arguments)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        # It is kept in the status, and its frames hold what they worked on.
        cause = error.with_traceback(None)
        name = getattr(function, "__qualname__", type(function).__name__)
        raise _Unusable(f"{what} {name} raised {_named(error)}") from cause


def _named(error: BaseException) -> str:
    """Return the error's class and text."""
    try:
        said = str(error)
    except Exception:
        said = "an error that cannot be shown"
    return f"{type(error).__name__}{': ' if said else ''}{said}"


def _unusable(conditions: tuple[str, ...], configurable: set[str], known: set[str]) -> str | None:
    """Say why a rule with conditions on these features cannot be used, if it cannot."""
    for feature in conditions:
        if feature not in configurable:
            return f"{feature!r} is no configurable feature of the setting here"
        if feature not in known:
            return f"{feature!r} is not among the service's context features"
        if conditions.count(feature) > 1:
            return f"it has two conditions on {feature!r}"
    return None
