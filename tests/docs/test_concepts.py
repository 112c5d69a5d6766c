"""docs/concepts.md: its program, and that its tables say what library and service do."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from doc_examples import DOCS, at, program, promised_output, run_python

import heksher
from heksher import Rule, Setting, ThreadHeksherClient
from heksher.testing.service import LiveService

PAGE = DOCS / "concepts.md"
FEATURES = ["environment", "plan", "user"]


@pytest.fixture(scope="module")
def service() -> Iterator[LiveService]:
    with LiveService(FEATURES, in_process=True, proxy=False) as service:
        yield service


def table(headings: str) -> list[list[str]]:
    """Return the cells of the table with these first column headings."""
    _, _, rest = PAGE.read_text().partition(f"\n| {headings} | ")
    lines = rest.partition("\n\n")[0].splitlines()[2:]
    assert lines, headings
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]


def conditions(text: str) -> dict[str, str]:
    return dict(re.findall(r"`(\w+)=(\w+)`", text))


RULES = {
    number: Rule(conditions(of), int(value)) for number, of, value in table("rule | conditions")
}


def test_the_program(service: LiveService) -> None:
    service.empty(FEATURES)
    service.declare("page_size", "int", 20, FEATURES)
    for rule in RULES.values():
        service.add_rule("page_size", rule.value, **rule.match_conditions)  # type: ignore[arg-type]
    source = at(service.url, program("concepts.md"))
    assert run_python(source) == promised_output(source)


def test_the_worked_example() -> None:
    page_size = Setting("page_size", int, FEATURES, 20)
    assert len(RULES) == 4
    with heksher.override({page_size: [*RULES.values()]}):
        for context, matching, winner, value in table("context | rules that match"):
            explained = page_size.explain(**conditions(context))
            assert explained.value == int(value)
            found = [each.rule.value for each in explained.candidates if each.unmet is None]
            assert sorted(found) == sorted(
                RULES[number].value for number in re.findall(r"\d", matching)
            )
            assert (explained.rule is None) == (winner == "")
            if explained.rule is not None:
                assert explained.rule.value == RULES[winner].value


#: What each row of the table of changes changes, of a setting of numbers with two features.
OLD: dict[str, Any] = {
    "type": "float",
    "default_value": 1,
    "configurable_features": ["environment", "user"],
}
CHANGES: dict[str, dict[str, Any]] = {
    "default value": {"default_value": 2.5},
    "metadata": {"metadata": {"owner": "shop"}},
    "name, with `alias=`": {"name": "renamed", "alias": "setting2"},
    "fewer features": {"configurable_features": ["user"]},
    "narrower type [1]": {"type": "int"},
    "more features": {"configurable_features": ["environment", "user", "plan"]},
    "wider or other type": {"type": "str", "default_value": "a"},
}


def test_what_each_change_of_a_declaration_needs(service: LiveService) -> None:
    rows = table("change | version | condition")
    assert [row[0] for row in rows] == [*CHANGES]
    service.empty(FEATURES)
    olds = [
        Setting(f"setting{number}", float, OLD["configurable_features"], 1)
        for number in range(len(rows))
    ]

    def declare(name: str, changed: dict[str, Any], version: str) -> str:
        body = {"name": name, **OLD, **changed, "version": version}
        outcome: str = service.request("POST", "/settings/declare", body).json()["outcome"]
        return outcome

    with ThreadHeksherClient(service.url, 60, FEATURES, startup="raise") as client:
        for old, (change, version, condition, _) in zip(olds, rows, strict=True):
            changed = CHANGES[change]
            assert declare(old.name, changed, "1.0") == "mismatch"
            if "rule" in condition:  # add one that does not fit
                value = 1.5 if "type" in changed else 1
                rule = service.add_rule(old, value, environment="dev")
                assert declare(old.name, changed, "2.0") == "rejected"
                service.delete_rule(rule)
            if version == "major":
                assert declare(old.name, changed, "1.1") == "rejected"
            assert declare(old.name, changed, "1.1" if version == "minor" else "2.0") == "upgraded"

        more, other = olds[-2:]
        service.add_rule("renamed", 4, user="jim")
        service.add_rule(more, 5, user="jim")
        unusable = {
            service.add_rule(more, 6, plan="gold"),
            service.add_rule(other.name, "b", user="jim"),
        }
        client.reload()
        values = [old.get(environment="dev", user="jim") for old in olds]
        assert values == [2.5, 1, 4, 1, 1, 5, 1]
        rejected = {each.rule_id for each in client.status.rejected_rules}
        assert rejected == {None, *unusable}, "None: the default value of the other type"
