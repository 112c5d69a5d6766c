"""Threads call `get` while others publish without a pause: each call answers from one consistent state.

On a free-threaded interpreter they run at the same time.
"""

from __future__ import annotations

import gc
import sys
import threading
from collections.abc import Callable, Generator
from contextvars import ContextVar
from dataclasses import dataclass, field

import pytest
from support.published import code_of, publish

from heksher import Setting
from heksher._rules import getter, plan
from heksher._rules.contexts import Defaults
from heksher._rules.table import RuleTable, TableRule

FEATURES = ("environment", "user", "theme")
SETTINGS, READERS, PUBLISHES = 3, 2, 400

#: A value that no consistent state returns for the calls of these tests.
MIXED = -1

DARK, LIGHT = ("theme", "dark"), ("theme", "light")
JIM, EVE = ("user", "jim"), ("user", "eve")


@pytest.fixture(params=["inline", "forwarding", "free-threaded", "generic", "bitmap index"])
def make_setting(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], Setting[int]]:
    """Return a function that makes settings with one form of `get`."""
    form: str = request.param
    if form == "free-threaded":
        monkeypatch.setattr(getter, "FREE_THREADED", True)
    if form == "bitmap index":
        monkeypatch.setattr(plan, "MOST_LOOK_UPS", 1)

    def make(name: str) -> Setting[int]:
        features = (*FEATURES, "class") if form == "generic" else FEATURES
        setting = Setting(name, int, features, 0)
        if form == "forwarding":
            setting.add_validator(lambda value, rule, of: value)
        return setting

    return make


@pytest.fixture
def often_interrupted() -> Generator[None]:
    """Let threads switch as often as possible, if only one runs at a time."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def state(number: int, value: int) -> tuple[RuleTable[int], Defaults]:
    """Return a state in which a call with jim and dark returns *value*, in any environment.

    One part of the state returns it; all other parts would return `MIXED`. So a call that mixes two states
    shows. The number determines which part it is, which look-ups there are, and the default of the
    environment, which no matching rule uses.
    """
    here, elsewhere = f"e{number % 2}", f"e{1 - number % 2}"
    default = MIXED
    rules: list[tuple[int, tuple[tuple[str, str], ...]]] = []
    match number % 6:
        case 0:  # the first look-up
            rules += [(value, (JIM, DARK)), (MIXED, (DARK,)), (MIXED, (JIM,))]
        case 1:  # the second
            rules += [(MIXED, (EVE, DARK)), (value, (DARK,)), (MIXED, (JIM,))]
        case 2:  # the third
            rules += [(MIXED, (EVE, DARK)), (MIXED, (LIGHT,)), (value, (JIM,))]
        case 3:  # none of them
            rules += [(MIXED, (EVE, DARK)), (MIXED, (LIGHT,)), (MIXED, (EVE,))]
            default = value
        case 4:  # there is just one
            rules += [(value, (DARK,))]
        case _:  # there is none
            default = value
    rules.append((MIXED, (("environment", elsewhere), JIM, DARK)))
    numbered = tuple(TableRule(each, given, place) for place, (each, given) in enumerate(rules, 1))
    source = here if number % 4 < 2 else ContextVar("environment", default=here)
    defaults = Defaults({"environment": source, "class": "x"})
    return RuleTable(default, numbered, FEATURES), defaults


@dataclass
class Watched:
    """A setting and the values that it may return.

    Attributes:
        values: the value of each state.
        begun: the value of the newest publish that has begun.
        done: the value of the newest publish that has ended.
    """

    setting: Setting[int]
    values: range
    begun: int = field(init=False)
    done: int = field(init=False)
    wrong: list[object] = field(default_factory=list[object])

    def __post_init__(self) -> None:
        self.publish(0)

    def publish(self, number: int) -> None:
        value = self.values[number]
        new = state(number, value)
        self.begun = value
        publish(self.setting, *new)
        self.done = value

    def read(self, get: Callable[..., int], **contexts: str) -> int:
        least = self.done
        answer = get(user="jim", theme="dark", **contexts)
        if answer not in self.values or not least <= answer <= self.begun:
            self.wrong.append((least, answer, self.begun))
        return answer


@pytest.fixture
def quick_collections() -> Generator[None]:
    """Let the garbage collector look only at objects that are made from now on."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.usefixtures("often_interrupted", "quick_collections")
def test_readers_see_whole_states_while_writers_publish_without_pause(
    make_setting: Callable[[str], Setting[int]],
) -> None:
    # Settings have no common value, and share code if their look-ups are the same.
    watched = [
        Watched(make_setting(f"setting{place}"), range(place, PUBLISHES * SETTINGS, SETTINGS))
        for place in range(SETTINGS)
    ]
    ready, over = threading.Barrier(SETTINGS + READERS + 1), threading.Event()
    seen: list[set[int]] = [set() for _ in range(READERS)]
    errors: list[BaseException] = []

    def write(each: Watched) -> None:
        ready.wait()
        for number in range(1, PUBLISHES):
            each.publish(number)

    def read(into: set[int]) -> None:
        gets = [(each, each.setting.get) for each in watched]
        ready.wait()
        try:
            is_last = False
            while not is_last:
                is_last = over.is_set()  # before reading, so that each thread reads at least once
                for each, get in gets:
                    into.add(each.read(get))
                    into.add(each.read(get, environment="prod"))
        except BaseException as error:
            errors.append(error)

    def collect() -> None:
        """Collect garbage all the time: replaced objects may still be in use."""
        ready.wait()
        while not over.is_set():
            gc.collect()

    writers = [threading.Thread(target=write, args=(each,)) for each in watched]
    others = [threading.Thread(target=read, args=(into,)) for into in seen]
    others.append(threading.Thread(target=collect))
    for thread in (*writers, *others):
        thread.start()
    for thread in writers:
        thread.join()
    over.set()
    for thread in others:
        thread.join()
    assert errors == []
    assert [wrong for each in watched for wrong in each.wrong] == []
    assert all(seen)
    for each in watched:
        assert each.setting.get(user="jim", theme="dark") == each.values[-1]


def test_on_a_free_threaded_interpreter_no_code_is_replaced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The same holds while such an interpreter has its global lock enabled."""
    monkeypatch.setattr(getter, "FREE_THREADED", True)
    setting = Setting("ttl", int, FEATURES, 0)
    code = code_of(setting)
    for number in range(6):
        publish(setting, *state(number, number))
        assert code_of(setting) is code
        assert setting.get(user="jim", theme="dark") == number
