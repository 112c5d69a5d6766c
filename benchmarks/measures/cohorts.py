"""What does a cohort cost in ``get()``, compared with the same call where the value is there already?

A *hit* is a user whose cohort the setting remembers. A *miss* is one whose cohort it does not: each call
has another user, so that the hash is computed and remembered, and the memory is emptied when it is full.
The first two columns of these rows are the call with a cohort and the call without.

Conclusion: a request that reads several settings pays for the hash once for each of them, and after that
for a look-up in a dict.
"""

from __future__ import annotations

from contextvars import ContextVar

import pytest
from machinery.interleaved import nanoseconds, nanoseconds_over
from machinery.ratio_table import Ratios

from heksher import Cohort, Setting
from heksher._rules import cohorts
from heksher._rules.contexts import Default, Defaults
from heksher._rules.table import RuleTable, TableRule
from heksher.setting import state_of

#: The highest ratios to the same call without a cohort.
HIT, MISS = 2, 12

#: A rollout to 10 %.
RULES = [TableRule(True, (("cohort", step),)) for step in ("1", "5", "10")]

#: So few that most loops over one more user end before another process has its turn.
REMEMBERED = 128

FORMS = ["compiled", "with a validator"]

host: ContextVar[str] = ContextVar("host", default="shop-1")


def rolled_out(form: str, *features: str, **defaults: Default) -> Setting[bool]:
    """Return a setting with these features and defaults, and rules for cohorts."""
    setting = Setting("new_checkout", bool, features, False)
    if form == "with a validator":
        setting.add_validator(_unchanged)
    state = state_of(setting)
    table = RuleTable(False, RULES, ("cohort", "user"))
    state.publish(state.prepare(table, Defaults().adding(defaults)))
    return setting


@pytest.mark.parametrize("form", FORMS)
def measure_users_in_calls(form: str, ratios: Ratios, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cohorts, "MOST_REMEMBERED", REMEMBERED)
    setting = rolled_out(form, "cohort", "user", cohort=Cohort("user", salt="checkout"))
    statements = {
        "ours": "setting.get(user='jim')",
        "without": "setting.get(user='jim', cohort='25')",
    }
    times = nanoseconds(statements, {"setting": setting}, rounds=ratios.rounds)
    ratios.add(f"a cohort, {form}, a hit", times["ours"], times["without"], at_most=HIT)
    times = nanoseconds_over(
        [f"user-{number}" for number in range(REMEMBERED + 1)],
        {"ours": "setting.get(user=key)", "without": "setting.get(user=key, cohort='25')"},
        {"setting": setting},
        rounds=ratios.rounds,
    )
    ratios.add(f"a cohort, {form}, a miss", times["ours"], times["without"], at_most=MISS)


def measure_a_source_in_a_context_variable(ratios: Ratios) -> None:
    names = {
        "ours": rolled_out("compiled", "cohort", cohort=Cohort("host"), host=host),
        "without": rolled_out("compiled", "cohort", cohort=host),
    }
    statements = {name: f"{name}.get()" for name in names}
    times = nanoseconds(statements, names, rounds=ratios.rounds)
    ratios.add(
        "a cohort of a context variable, a hit", times["ours"], times["without"], at_most=HIT
    )


def _unchanged(value: bool, _rule: object, _of: object) -> bool:
    return value
