"""Faults as a text: what can be said, and what is answered to what cannot."""

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
from heksher.testing.faults._text import read


def test_the_example_of_the_documentation() -> None:
    told = read("delay(0.5) on GET /api/v1/query; status(503, retry_after=2) share 0.2; seed 7")
    assert told.faults == (
        (Delay(0.5), When(method="GET", path="/api/v1/query")),
        (Status(503, retry_after="2"), When(share=0.2)),
    )
    assert told.seed == 7


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
    assert read(text).faults == ((fault, when),)


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_has_a_word_and_does_without_choices(kind: type[Fault]) -> None:
    assert read(kind.word).faults == ((kind(), When()),)


def test_words_differ() -> None:
    assert len({kind.word for kind in KINDS}) == len(KINDS)
    subclasses = {each for each in Fault.__subclasses__() if dataclasses.is_dataclass(each)}
    assert set(KINDS) == subclasses


@pytest.mark.parametrize("text", ["", " ", ";", " ; ;"])
def test_nothing_is_no_fault(text: str) -> None:
    assert read(text).faults == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("statsu(3)", "'statsu' is no fault, did you mean 'status'?"),
        ("xyzzy", "'xyzzy' is no fault; there are delay, status, redirect, "),
        ("status(x)", "status: 'x' is no status: a whole number is wanted"),
        ("status(99)", "'99' is no status: a whole number >= 200 is wanted"),
        ("status(503 2)", "in status(…), ',' or ')' has to follow '503'"),
        ("status(503", "in status(…), ',' or ')' has to follow '503'"),
        ("status(", "behind '(' a value or ')' is missing"),
        ("status(1,2,3,4)", "'4' is too much for status, which takes status, retry_after, body"),
        ("status(retry_aftr=1)", "status has no 'retry_aftr' to choose, did you mean 'retry_after'?"),
        ("status(zz=1)", "status has no 'zz' to choose; there is status, retry_after, body"),
        ("status(status=)", "behind '=' a value is missing"),
        ("delay(-1)", "delay: '-1' is no seconds: a number >= 0.0 is wanted"),
        ("cut-short(honest=perhaps)", "'perhaps' is no honest: true or false is wanted"),
        ("certificate(bad)", "'bad' is no problem: one of expired, host, unknown is wanted"),
        ("status nth 0", "nth=0: it counts from 1"),
        ("status nth x", "'x' is no nth: a whole number is wanted"),
        ("status nth", "behind 'nth' a number is missing"),
        ("status share 20", "share=20.0: a share is a number from 0 to 1"),
        ("status on", "behind 'on' a method or a path is missing"),
        ("status on GETT", "method='GETT': there are CONNECT, DELETE, GET"),
        ("status onn /x", "'onn' is not understood, did you mean 'on'?"),
        ("status close", "'close' is not understood; on, nth, every, first, share, delay can stand"),
        ("status close", "(between two faults stands ';')"),
        ("status delay", "behind 'delay' a number, or ';' before it, is missing"),
        ("status delay(1)", "behind 'delay' a number, or ';' before it, is missing"),
        ("status delay x", "'x' is no delay: a number is wanted"),
        ("status delay -1", "delay=-1.0: a delay is a number from 0 on"),
        ("status 'on' /x", "'on' is not understood"),
        ("(3)", "in front a fault or 'seed' is missing"),
        ("seed", "behind 'seed' a number is missing"),
        ("seed x", "seed: a whole number is wanted"),
        ("seed 1 2", "'2' is not understood"),
        ('status "503', "the quotation mark at '\"503' has no end"),
    ],
)  # fmt: skip
def test_what_cannot_be_read(text: str, message: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        read(f"delay(1); {text}")
    assert message in str(caught.value)
    assert str(caught.value).startswith("the text of faults cannot be read: ")


@given(st.text(alphabet=st.sampled_from("status on nth(),;=\"'0123GET/*-.seed share")))
def test_whatever_is_said_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(InvalidArgumentError):
        assert all(isinstance(fault, Fault) for fault, _ in read(text).faults)
