"""Cohorts: which users are in which, where the source's value comes from, and what is remembered."""

from __future__ import annotations

import copy
import gc
import pickle
import sys
import threading
import weakref
from collections import Counter
from collections.abc import Generator, Sequence
from contextvars import ContextVar
from itertools import pairwise
from typing import Any, cast

import pytest
from support.published import code_of, publish, published

from heksher import Cohort, Setting
from heksher._rules import cohorts
from heksher._rules.codegen import emit
from heksher._rules.cohorts import LONGEST_REMEMBERED, MOST_REMEMBERED, CohortFinder
from heksher._rules.contexts import Default, Defaults
from heksher._rules.plan import PlannedCohort, decide
from heksher._rules.table import RuleTable, TableRule
from heksher.clients.stub import Rule, SyncStubHeksherClient
from heksher.exceptions import FeatureTypeError, InvalidArgumentError, MissingFeatureError
from heksher.explanation import ContextValue, FeatureSource

STEPS = (1, 5, 10, 25, 50, 100)

#: The first eight digits that ``printf '%s' TEXT | sha256sum`` shows. They never change: users would lose
#: features that they have.
VECTORS = [
    ("checkout:new_checkout:eve", "40e7c1fe"),
    ("::jim", "ac8e7af2"),
    (":cache_ttl:jim", "d8e86590"),
    ("checkout::jim", "5f3851c2"),
    ("checkout:cache_ttl:jim", "e1d44441"),
    ("checkout:cache_ttl:", "c3b48435"),
    ("checkout:cache_ttl:user:7", "d52fc954"),
    ("checkout:cache_ttl:zoë", "f348fcea"),
    ("checkout:cache_ttl:😀", "f88d060a"),
    ("2026-01:shop.dark_mode:6f1f2d8e-94a7-4a5f-9d2c-0a1b2c3d4e5f", "b8b51634"),
    ("ä:dark_mode:joe", "30b8d403"),
    # No UTF-8, but a Python string: ``printf 'checkout:cache_ttl:\xed\xa0\x80'``.
    ("checkout:cache_ttl:\ud800", "9681fa09"),
]


# --- who is in which ------------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "digits"), VECTORS, ids=ascii)
def test_a_users_point_is_the_hash_of_salt_setting_and_user(text: str, digits: str) -> None:
    salt, setting, user = text.split(":", 2)
    point = int(digits, 16) % 100
    cohort = Cohort("user", salt=salt)
    assert cohort.point_of(user, setting) == point
    assert cohort.value_of(user, setting) == next(str(step) for step in STEPS if point < step)
    if not setting:
        alone = Cohort("user", salt=salt, per_setting=False)
        assert alone.point_of(user) == alone.point_of(user, "whatever") == point


def test_a_million_users_are_spread_evenly() -> None:
    finder = CohortFinder(Cohort("user", salt="checkout"), "new_checkout")
    million = 1_000_000
    values = Counter([finder.find(f"user-{number}") for number in range(million)])
    reached = 0
    for step in STEPS:
        reached += values[str(step)]
        # Of a fair hash's results, 99.99 % are this near, which is less than 0.2 % of the users.
        spread = (million * step / 100 * (1 - step / 100)) ** 0.5
        assert abs(reached - million * step / 100) <= 4 * spread
    assert reached == million


def test_of_two_salts_or_settings_a_tenth_of_ten_percent_is_in_both() -> None:
    def first_tenth(cohort: Cohort, setting: str = "") -> set[int]:
        finder = CohortFinder(cohort, setting)
        return {each for each in range(100_000) if finder.find(str(each)) == "10"}

    steps = (10, 100)
    one = first_tenth(Cohort("user", steps=steps, salt="checkout"), "dark_mode")
    others = [
        first_tenth(Cohort("user", steps=steps, salt="checkouu"), "dark_mode"),
        first_tenth(Cohort("user", steps=steps, salt="search"), "dark_mode"),
        first_tenth(Cohort("user", steps=steps, salt="checkout"), "light_mode"),
        first_tenth(Cohort("user", steps=steps, salt="checkout", per_setting=False), "dark_mode"),
    ]
    for other in others:
        assert 9_600 < len(other) < 10_400
        assert 880 < len(one & other) < 1_120
    assert others[-1] == first_tenth(
        Cohort("user", steps=steps, salt="checkout", per_setting=False), "light_mode"
    )


def test_going_from_10_to_25_percent_takes_nobody_out() -> None:
    setting = Setting("new_checkout", bool, ["user", "cohort"], False)
    defaults = Defaults({"cohort": Cohort("user")})
    users = [str(number) for number in range(2_000)]
    reached: list[set[str]] = []
    for steps in ((1,), (1, 5), (1, 5, 10), (1, 5, 10, 25), (1, 5, 10, 25, 50), STEPS):
        rules = [TableRule(True, (("cohort", str(step)),)) for step in steps]
        publish(setting, RuleTable(False, rules, ("user", "cohort")), defaults)
        reached.append({user for user in users if setting.get(user=user)})
    assert all(before < after for before, after in pairwise(reached))
    assert reached[-1] == set(users)


def test_other_steps_leave_users_where_they_are() -> None:
    fine, coarse = Cohort("user", steps=range(1, 101)), Cohort("user", steps=(10, 100))
    for number in range(1_000):
        step = fine.value_of(str(number), "ttl")
        assert step is not None
        assert coarse.value_of(str(number), "ttl") == ("10" if int(step) <= 10 else "100")


def test_above_the_last_step_there_is_no_value() -> None:
    cohort = Cohort("user", steps=(1, 50))
    values = {user: cohort.value_of(str(user), "ttl") for user in range(1_000)}
    assert set(values.values()) == {"1", "50", None}
    assert all(
        (value is None) == (cohort.point_of(str(user), "ttl") >= 50)
        for user, value in values.items()
    )


# --- arguments ------------------------------------------------------------------------------------


def test_a_cohort_is_a_value() -> None:
    cohort = Cohort("user", steps=[1, 50], salt="x", per_setting=False)
    assert cohort == Cohort("user", steps=(1, 50), salt="x", per_setting=False)
    assert hash(cohort) == hash(copy.deepcopy(cohort))
    assert pickle.loads(pickle.dumps(cohort)) == cohort
    assert repr(cohort) == "Cohort(source='user', steps=(1, 50), salt='x', per_setting=False)"
    with pytest.raises(AttributeError):
        cohort.salt = "y"  # type: ignore[misc]


def made_from(source: Any = "user", **arguments: Any) -> Cohort:
    return Cohort(source, **arguments)


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ({"source": ""}, ["source ''", "letters"]),
        ({"source": "a b"}, ["source 'a b'", "letters"]),
        ({"source": None}, ["source None", "letters"]),
        ({"steps": ()}, ["steps ()", "one or more"]),
        ({"steps": 10}, ["steps 10", "(1, 10, 100)"]),
        ({"steps": "10"}, ["steps '10'", "(1, 10, 100)"]),
        ({"steps": (0.5, 1)}, ["(0.5, 1)", "whole percentages"]),
        ({"steps": ("1",)}, ["('1',)", "whole percentages"]),
        ({"steps": (True, 2)}, ["(True, 2)", "whole percentages"]),
        ({"steps": (0, 10)}, ["(0, 10)", "from 1 to 100"]),
        ({"steps": (10, 101)}, ["(10, 101)", "from 1 to 100"]),
        ({"steps": (10, 5, 20)}, ["(10, 5, 20)", "ascending"]),
        ({"steps": (5, 5)}, ["(5, 5)", "ascending"]),
        ({"salt": "a:b"}, ["'a:b'", "without a colon"]),
        ({"salt": 5}, ["salt 5", "string"]),
        ({"salt": None}, ["salt None", "string"]),
        ({"per_setting": 1}, ["per_setting 1", "True or False"]),
    ],
    ids=repr,
)
def test_invalid_arguments_are_refused(arguments: dict[str, Any], parts: list[str]) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        made_from(**arguments)
    for part in parts:
        assert part in str(caught.value)


def test_a_point_that_depends_on_the_setting_needs_its_name() -> None:
    for method in (Cohort("user").point_of, Cohort("user").value_of):
        with pytest.raises(InvalidArgumentError, match="the setting is missing"):
            method("jim")


def test_only_strings_have_points() -> None:
    cohort, number = Cohort("user", per_setting=False), cast(Any, 3)
    for method in (cohort.value_of, cohort.point_of):
        with pytest.raises(InvalidArgumentError, match="invalid value 3 of 'user'"):
            method(number)
    assert cohort.value_of(None) is None
    with pytest.raises(InvalidArgumentError, match="None of 'user' has no point"):
        cohort.point_of(cast(Any, None))


def test_a_cohort_of_a_cohort_is_refused_in_any_order() -> None:
    one, other = {"cohort": Cohort("user")}, {"late": Cohort("cohort")}
    for first, second in ((one, other), (other, one), ({}, {**one, **other})):
        defaults = Defaults().adding(first)
        with pytest.raises(InvalidArgumentError, match="'late' cannot be computed from 'cohort'"):
            defaults.adding(second)
    with pytest.raises(InvalidArgumentError, match="'user' cannot be computed from 'user'"):
        Defaults().adding({"user": Cohort("user")})


# --- in get() -------------------------------------------------------------------------------------

IN_TEN = TableRule(10, (("cohort", "10"),))
IN_HUNDRED = TableRule(100, (("cohort", "100"),))

#: What an operator may change.
RULES: list[tuple[TableRule[int], ...]] = [(), (IN_TEN,), (IN_TEN, IN_HUNDRED)]

each_form = pytest.mark.parametrize("form", ["inline", "forwarding", "generic"])


def made(form: str, *features: str) -> Setting[int]:
    """Return a setting whose `get` has this form."""
    setting = Setting("ttl", int, [*features, *(["class"] if form == "generic" else [])], 0)
    if form == "forwarding":
        setting.add_validator(lambda value, rule, of: value)
    return setting


def answer_with(
    setting: Setting[int], rules: Sequence[TableRule[int]] = RULES[-1], /, **sources: Default
) -> None:
    defaults = Defaults({"class": "x"}).adding(sources)
    publish(setting, RuleTable(0, rules, ("user", "cohort", "class")), defaults)


def users_by_step(steps: tuple[int, ...] = (10, 100)) -> dict[str | None, str]:
    """Return a user of each cohort for the setting "ttl"."""
    cohort = Cohort("user", steps=steps)
    return {cohort.value_of(str(number), "ttl"): str(number) for number in range(200)}


EARLY, LATE = users_by_step()["10"], users_by_step()["100"]
COHORT = Cohort("user", steps=(10, 100))


@each_form
def test_the_source_is_the_calls_argument_where_the_setting_lists_it(form: str) -> None:
    setting = made(form, "cohort", "user")
    user: ContextVar[str] = ContextVar("user", default=EARLY)
    defaults: list[dict[str, Default]] = [{}, {"user": LATE}, {"user": user}]
    for sources in defaults:
        answer_with(setting, cohort=COHORT, **sources)
        for _ in range(2):  # it is computed once, and then remembered
            assert setting.get(user=EARLY) == 10
            assert setting.get(user=LATE) == 100
            assert setting.get(user=None) == 0


@each_form
@pytest.mark.parametrize("features", [("cohort", "user"), ("cohort",)], ids=repr)
def test_else_the_source_is_the_clients_default_for_it(
    form: str, features: tuple[str, ...]
) -> None:
    setting = made(form, *features)
    answer_with(setting, cohort=COHORT, user=EARLY)
    assert setting.get() == 10

    user: ContextVar[str | None] = ContextVar("user")
    answer_with(setting, cohort=COHORT, user=user)
    for value, expected in ((EARLY, 10), (LATE, 100), (None, 0), (EARLY, 10)):
        user.set(value)
        assert setting.get() == expected


@each_form
@pytest.mark.parametrize("features", [("cohort", "user"), ("cohort",)], ids=repr)
def test_without_a_source_or_with_a_wrong_one_every_call_fails_whatever_the_rules_are(
    form: str, features: tuple[str, ...]
) -> None:
    setting = made(form, *features)
    number: ContextVar[Any] = ContextVar("number", default=5)
    unset: ContextVar[str] = ContextVar("unset")
    for rules in RULES:
        defaults: list[dict[str, Default]] = [{}, {"user": unset}]
        for sources in defaults:
            answer_with(setting, rules, cohort=COHORT, **sources)
            with pytest.raises(MissingFeatureError, match="'user'") as missing:
                setting.get()
            assert (missing.value.setting, missing.value.feature) == ("ttl", "user")
        answer_with(setting, rules, cohort=COHORT, user=number)
        with pytest.raises(FeatureTypeError, match="'user'") as wrong:
            setting.get()
        assert (wrong.value.setting, wrong.value.feature) == ("ttl", "user")


def test_the_error_says_what_to_do_about_a_source_that_the_setting_does_not_take() -> None:
    setting = made("inline", "cohort")
    answer_with(setting, cohort=COHORT)
    with pytest.raises(MissingFeatureError) as caught:
        setting.get()
    for part in ("'cohort'", "get(cohort=...)", "add 'user'", "set_defaults(user=...)"):
        assert part in str(caught.value)
    assert "get(user=" not in str(caught.value)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


@each_form
def test_a_cohort_that_is_given_is_an_ordinary_value(form: str) -> None:
    setting = made(form, "cohort")
    unset: ContextVar[str] = ContextVar("unset")
    defaults: list[dict[str, Default]] = [{}, {"user": EARLY}, {"user": unset}]
    for sources in defaults:
        answer_with(setting, cohort=COHORT, **sources)
        assert setting.get(cohort="10") == 10
        assert setting.get(cohort="100") == 100
        assert setting.get(cohort="11") == setting.get(cohort=None) == 0
        with pytest.raises(FeatureTypeError, match="'cohort'"):
            setting.get(cohort=10)  # type: ignore[arg-type]
    listed = made(form, "cohort", "user")
    answer_with(listed, cohort=COHORT)
    assert listed.get(cohort="10", user=LATE) == 10
    with pytest.raises(MissingFeatureError, match="'user'"):
        listed.get(cohort="10")


@each_form
def test_above_the_last_step_no_rule_matches(form: str) -> None:
    setting = made(form, "cohort", "user")
    user = users_by_step((1, 10))[None]
    answer_with(setting, cohort=Cohort("user", steps=(1, 10)))
    assert [setting.get(user=user), setting.get(user=user)] == [0, 0]


@each_form
def test_before_a_start_there_are_no_cohorts(form: str) -> None:
    setting = made(form, "cohort")
    assert setting.get() == setting.get(cohort="10") == 0


def test_several_cohorts_may_have_one_source_that_is_a_constant() -> None:
    setting = Setting("ttl", int, ["cohort", "wave", "host", "zone"], 0)
    order = ("zone", "host", "cohort", "wave")
    rules = [
        TableRule(1, (("zone", "eu"), ("cohort", "50"))),
        TableRule(2, (("wave", "50"),)),
        TableRule(3, (("host", "b"), ("cohort", "100"))),
    ]
    steps = (50, 100)
    cohorts = {"cohort": Cohort("host", steps=steps), "wave": Cohort("host", steps=steps, salt="w")}
    for host in "abcdefgh":
        defaults = Defaults({"host": host, "zone": "eu", **cohorts})
        table = RuleTable(0, rules, order)
        publish(setting, table, defaults)
        context: dict[str, str | None] = {"host": host, "zone": "eu"}
        for feature, cohort in cohorts.items():
            context[feature] = cohort.value_of(host, "ttl")
        assert setting.get() == table.resolve(context)
        assert setting.get(zone="us") == table.resolve({**context, "zone": "us"})


@each_form
def test_an_explanation_says_that_a_value_is_a_cohort(form: str) -> None:
    user: ContextVar[str] = ContextVar("user", default=EARLY)
    defaults: list[dict[str, Default]] = [{"user": user}, {"user": EARLY}]
    for features in (("cohort", "user"), ("cohort",)):
        setting = made(form, *features)
        for sources in defaults:
            answer_with(setting, cohort=COHORT, **sources)
            explanation = setting.explain()
            assert explanation.value == 10
            computed_from = ("user", EARLY)
            assert explanation.context["cohort"] == ContextValue(
                "10", FeatureSource.COHORT, computed_from
            )
            assert "cohort  cohort" in str(explanation)
            assert f"'10' of user='{EARLY}'\n" in str(explanation)
            assert explanation.as_dict()["context"]["cohort"] == {
                "value": "10",
                "source": "cohort",
                "computed_from": {"user": EARLY},
            }
            given = setting.explain(cohort="100")
            assert given.context["cohort"] == ContextValue("100", FeatureSource.ARGUMENT)
            assert " of user=" not in str(given)
            anonymous = user.set(None)  # type: ignore[arg-type]
            if sources["user"] is user:
                assert setting.explain().context["cohort"].computed_from == ("user", None)
            user.reset(anonymous)
        answer_with(setting, cohort=COHORT)
        with pytest.raises(MissingFeatureError, match="'user'"):
            setting.explain()


def test_a_stub_computes_cohorts() -> None:
    setting = Setting("ttl", int, ["user", "cohort"], 0)
    with SyncStubHeksherClient() as stub:
        stub.set_defaults(cohort=COHORT)
        stub[setting].rules = [Rule({"cohort": "10"}, 10)]
        assert setting.get(user=EARLY) == 10
        assert setting.get(user=LATE) == 0


def test_a_setting_without_a_cohort_has_the_code_that_it_had() -> None:
    features = ("environment", "user", "theme")
    rules = [TableRule(1, (("user", "jim"), ("theme", "dark")))]
    table = RuleTable(0, rules, features)
    sources: dict[str, Default] = {"environment": "dev", "theme": ContextVar("theme")}
    before = emit(decide(features, table, Defaults(sources), started=True), inline=True)
    sources["cohort"] = COHORT
    after = emit(decide(features, table, Defaults(sources), started=True), inline=True)
    assert after.text == before.text
    assert after.text == (
        "def get(*, environment=..., user=..., theme=...):\n"
        "    if type·(user) is not str· and user is not None:\n"
        "        user = check·user(user)\n"
        "    if theme is ...:\n"
        "        try:\n"
        "            theme = read·theme()\n"
        "        except unset·:\n"
        "            pass\n"
        "    if type·(theme) is not str· and theme is not None:\n"
        "        theme = check·theme(theme)\n"
        "    if environment is ...:\n"
        "        return folded·find·1((theme, user), folded·default·)\n"
        "    if environment is ...:\n"
        "        environment = default·environment\n"
        "    if type·(environment) is not str· and environment is not None:\n"
        "        environment = check·environment(environment)\n"
        "    return find·1((theme, user), default·)\n"
    )


# --- what is remembered ---------------------------------------------------------------------------


def finder_of(setting: Setting[Any]) -> CohortFinder:
    planned = published(setting).plan.sources["cohort"]
    assert isinstance(planned, PlannedCohort)
    return planned.finder


@each_form
def test_a_cohort_is_computed_once(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    computed: list[object] = []
    find = CohortFinder.find

    def spied(self: CohortFinder, value: str | None) -> str | None:
        computed.append(value)
        return find(self, value)

    monkeypatch.setattr(CohortFinder, "find", spied)
    setting = made(form, "cohort", "user")
    answer_with(setting, cohort=Cohort("user", steps=(1, 10)))
    for _ in range(3):
        for user in ("jim", "joe", None):
            setting.get(user=user)
    assert computed == ["jim", "joe", None]


@each_form
def test_what_is_remembered_is_bounded(form: str) -> None:
    setting = made(form, "cohort", "user")
    answer_with(setting, cohort=COHORT)
    known = finder_of(setting).known
    largest = 0
    for number in range(2 * MOST_REMEMBERED + 10):
        user = str(number)
        assert setting.get(user=user) == int(COHORT.value_of(user, "ttl") or 0)
        largest = max(largest, len(known))
    assert largest == MOST_REMEMBERED
    longest = "x" * LONGEST_REMEMBERED
    setting.get(user=longest)
    setting.get(user=f"{longest}x")
    assert longest in known
    assert f"{longest}x" not in known


@pytest.fixture
def often_interrupted() -> Generator[None]:
    """Let threads switch as often as possible, if only one runs at a time."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@each_form
@pytest.mark.usefixtures("often_interrupted")
def test_threads_get_the_right_cohorts_while_the_memory_is_emptied(
    form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cohorts, "MOST_REMEMBERED", 4)
    setting = made(form, "cohort", "user")
    answer_with(setting, cohort=COHORT)
    users = {str(number): int(COHORT.value_of(str(number), "ttl") or 0) for number in range(50)}
    together = threading.Barrier(4)
    wrong: list[object] = []

    def call(start: int) -> None:
        together.wait()
        for number in range(3_000):
            user = str((start + number) % 50)
            try:
                if (value := setting.get(user=user)) != users[user]:
                    wrong.append((user, value))
            except BaseException as error:
                wrong.append(error)

    threads = [threading.Thread(target=call, args=(start,)) for start in (0, 10, 20, 30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert len(finder_of(setting).known) <= 4 + len(threads)


@each_form
@pytest.mark.parametrize("features", [("cohort", "user"), ("cohort",)], ids=repr)
def test_a_setting_with_a_cohort_is_freed(form: str, features: tuple[str, ...]) -> None:
    setting = made(form, *features)
    user: ContextVar[str] = ContextVar("user", default="jim")
    answer_with(setting, cohort=COHORT, user=user)
    assert setting.get() in {10, 100}
    hash(code_of(setting))  # debuggers keep code objects in dicts
    gone = weakref.ref(setting)
    del setting
    gc.collect()
    assert gone() is None
