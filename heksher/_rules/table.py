"""The rules of one setting, and the readable definition of which rule wins.

Pure. `RuleTable.resolve` is the definition that every faster look-up is tested against; it is written
to be read, not to be fast.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

from heksher._rules.contexts import Context

if TYPE_CHECKING:  # modules that only define settings need none of these
    from heksher._rules.tracking import Tracking
    from heksher.status import DataSource, RejectedRule

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class TableRule(Generic[T]):
    """Gives a setting another value in every context that meets all conditions.

    Attributes:
        value: the value, as the application sees it.
        conditions: pairs of context feature and value, each on another feature.
        rule_id: the service's number for it, or None.
    """

    value: T
    conditions: tuple[tuple[str, str], ...]
    rule_id: int | None = None

    def matches(self, context: Context) -> bool:
        """Whether *context*, values by feature, meets every condition. None meets none."""
        return all(context.get(feature) == value for feature, value in self.conditions)


@dataclass(frozen=True, slots=True)
class Provenance:
    """What explanations say of a table beside its rules. No look-up depends on it.

    Attributes:
        source: where the rules came from; None for the table of a declaration, which has no rules.
        has_service_default: whether the default value is one that the service has sent.
        tracking: rules for other contexts were left out; None: none were.
        rejected: the first rules that the newest answer has and that cannot be used.
        rejected_count: how many there are.
        is_override: whether the rules are an override's, and not those that a client has read.
    """

    source: DataSource | None = None
    has_service_default: bool = False
    tracking: Tracking | None = None
    rejected: tuple[RejectedRule, ...] = ()
    rejected_count: int = 0
    is_override: bool = False


@dataclass(frozen=True, slots=True)
class RuleTable(Generic[T]):
    """All that one setting needs to answer in any context. Never changed, only replaced.

    Attributes:
        default: the value where no rule matches.
        rules: the rules, in any order.
        features: the context features in the service's order, which ranks the rules; every
            feature of a condition is among them.
        provenance: where all this came from.
    """

    default: T
    rules: Sequence[TableRule[T]] = ()
    features: tuple[str, ...] = ()
    provenance: Provenance = field(default=Provenance(), compare=False)

    def overridden(self, rules: Sequence[TableRule[T]], features: tuple[str, ...]) -> RuleTable[T]:
        """Return this table with other rules.

        Args:
            rules: the rules.
            features: those of the setting. Those that this table does not rank follow in this order.
        """
        origin = self.provenance
        provenance = Provenance(origin.source, origin.has_service_default, is_override=True)
        order = tuple(dict.fromkeys((*self.features, *features)))
        return RuleTable(self.default, rules, order, provenance)

    def priority(self, rule: TableRule[T]) -> tuple[tuple[int, ...], int]:
        """Rank *rule* among the rules that match a context: the largest wins.

        The rule whose latest condition is on the latest feature comes first, ties are broken by
        the next-latest condition, and so on. Two rules on exactly the same features cannot match
        one context, unless the service stored one twice, as it may when two writers race: then
        the newer one wins.
        """
        places = sorted(
            (self.features.index(feature) for feature, _ in rule.conditions), reverse=True
        )
        return tuple(places), -1 if rule.rule_id is None else rule.rule_id

    def resolve(self, context: Context) -> T:
        """Return the value in *context*, values by feature: the best matching rule's or the default."""
        matching = [rule for rule in self.rules if rule.matches(context)]
        if not matching:
            return self.default
        return sorted(matching, key=self.priority)[-1].value
