"""Faults as a text: the syntax, and the messages for invalid texts."""

from __future__ import annotations

import contextlib
import dataclasses
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heksher.exceptions import InvalidArgumentError
from heksher.testing.faults import (
    Certificate,
    CutShort,
    Delay,
    Fault,
    InvalidJson,
    Redirect,
    Refuse,
    Reset,
    Status,
    When,
    WrongShape,
)
from heksher.testing.faults._kinds import KINDS
from heksher.testing.faults._text import parse_faults


def test_the_example_of_the_documentation() -> None:
    parsed = parse_faults(
        "delay(0.5) on GET /api/v1/query; status(503, retry_after=2) share 0.2; seed 7"
    )
    assert parsed.faults == (
        (Delay(0.5), When(method="GET", path="/api/v1/query")),
        (Status(503, retry_after="2"), When(share=0.2)),
    )
    assert parsed.seed == 7


@pytest.mark.parametrize(
    ("text", "fault", "when"),
    [
        ("refuse", Refuse(), When()),
        ("refuse()", Refuse(), When()),
        ("refuse(2) nth 3", Refuse(2.0), When(nth=3)),
        ("delay(inf) on get", Delay(math.inf), When(method="GET")),
        (" cut-short( 0.25 ,honest=true )", CutShort(0.25, honest=True), When()),
        ("redirect(/x,302) every 3 first 9", Redirect("/x", 302), When(every=3, first=9)),
        ("wrong-shape('{\"a\": [1, 2]}')", WrongShape('{"a": [1, 2]}'), When()),
        ('invalid-json("") on *rules', InvalidJson(""), When(path="*rules")),
        ("invalid-json(';(,')", InvalidJson(";(,"), When()),
        ("certificate(host) share 0.5", Certificate("host"), When(share=0.5)),
        ("status(503) share 0.2 delay 2", Status(503), When(share=0.2, delay=2.0)),
        ("reset delay inf on GET", Reset(), When(method="GET", delay=math.inf)),
        ("delay(1) delay 2", Delay(1.0), When(delay=2.0)),
        ("status(429, retry_after='Wed, 21 Oct 2015 07:28:00 GMT')",
         Status(429, retry_after="Wed, 21 Oct 2015 07:28:00 GMT"), When()),
    ],
)  # fmt: skip
def test_faults(text: str, fault: Fault, when: When) -> None:
    assert parse_faults(text).faults == ((fault, when),)


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_has_a_word_and_does_without_choices(kind: type[Fault]) -> None:
    assert parse_faults(kind.word).faults == ((kind(), When()),)


def test_words_differ() -> None:
    assert len({kind.word for kind in KINDS}) == len(KINDS)
    subclasses = {each for each in Fault.__subclasses__() if dataclasses.is_dataclass(each)}
    assert set(KINDS) == subclasses


@pytest.mark.parametrize("text", ["", " ", ";", " ; ;"])
def test_nothing_is_no_fault(text: str) -> None:
    assert parse_faults(text).faults == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("statsu(3)", "unknown fault 'statsu', did you mean 'status'?"),
        ("xyzzy", "unknown fault 'xyzzy': expected one of delay, status, redirect, "),
        ("status(x)", "status: invalid status 'x': expected a whole number"),
        ("status(99)", "invalid status '99': expected a whole number >= 200"),
        ("status(503 2)", "status: expected ',' or ')' after '503'"),
        ("status(503", "status: expected ',' or ')' after '503'"),
        ("status(", "expected a value or ')' after '('"),
        ("status(1,2,3,4)", "status: unexpected value '4': expected only status, retry_after, body"),
        ("status(retry_aftr=1)", "status: unknown option 'retry_aftr', did you mean 'retry_after'?"),
        ("status(zz=1)", "status: unknown option 'zz': expected status, retry_after, body"),
        ("status(status=)", "expected a value after '='"),
        ("delay(-1)", "delay: invalid seconds '-1': expected a number >= 0.0"),
        ("cut-short(honest=perhaps)", "invalid honest 'perhaps': expected true or false"),
        ("certificate(bad)", "invalid problem 'bad': expected one of expired, host, unknown"),
        ("status nth 0", "nth=0: expected 1 or more"),
        ("status nth x", "invalid nth 'x': expected a whole number"),
        ("status nth", "expected a number after 'nth'"),
        ("status share 20", "share=20.0: expected a number from 0 to 1"),
        ("status on", "expected a method or a path after 'on'"),
        ("status on GETT", "method='GETT': expected one of CONNECT, DELETE, GET"),
        ("status onn /x", "unexpected 'onn', did you mean 'on'?"),
        ("status close", "unexpected 'close': expected one of on, nth, every, first, share, delay"),
        ("status close", "(separate faults with ';')"),
        ("status delay", "expected a number after 'delay', or ';' before it"),
        ("status delay(1)", "expected a number after 'delay', or ';' before it"),
        ("status delay x", "invalid delay 'x': expected a number"),
        ("status delay -1", "delay=-1.0: expected 0 or more seconds"),
        ("status 'on' /x", "unexpected 'on'"),
        ("(3)", "expected a fault or 'seed' at the start"),
        ("seed", "expected a number after 'seed'"),
        ("seed x", "seed: expected a whole number"),
        ("seed 1 2", "unexpected '2'"),
        ('status "503', "unterminated quotation at '\"503'"),
    ],
)  # fmt: skip
def test_what_cannot_be_read(text: str, message: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        parse_faults(f"delay(1); {text}")
    assert message in str(caught.value)
    assert str(caught.value).startswith("invalid fault text: ")


@given(st.text(alphabet=st.sampled_from("status on nth(),;=\"'0123GET/*-.seed share")))
def test_whatever_is_said_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(InvalidArgumentError):
        assert all(isinstance(fault, Fault) for fault, _ in parse_faults(text).faults)
