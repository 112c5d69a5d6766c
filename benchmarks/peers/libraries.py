"""The libraries that `compare.py` measures, and what each of them has to do."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Peer:
    """A library.

    Attributes:
        subject: the name of its module in `peers.subjects`.
        title: its name in the tables.
        requirements: the arguments of ``pip install``.
        look_ups: what it has to do for a look-up.
        updates: what it has to do for an update; empty if updates are not measured.
        starts: what it has to do for a start; empty if starts are not measured.
    """

    subject: str
    title: str
    requirements: tuple[str, ...]
    look_ups: str
    updates: str = ""
    starts: str = ""


OURS = Peer(
    "ours",
    "ours",
    (f"{Path(__file__).resolve().parents[2]}[demo]",),
    look_ups="rules that are published as after an update",
    updates="`reload()` of a client of threads",
    starts="from the making of the client until rules are in force",
)
BEFORE = Peer(
    "heksher_0_2_2",
    "heksher-py 0.2.2",
    ("heksher==0.2.2", "pydantic==1.10.27", "httpx==0.28.1"),
    look_ups="the same rules; everything tracked, as otherwise it would log in each call; no update "
    "running",
    updates="`reload()` of its client of threads, from the same answers; the garbage collector takes "
    "about half of its time",
    starts="from the making of the client until rules are in force, with whichever of its clients is "
    "faster; it declares all settings at each start, and so it did here",
)
#: OpenFeature has a context for everything that is the same in all calls. The services behind the other
#: libraries have environments with separate rules, and a client belongs to one environment. So these
#: libraries do not have to look at the environment in each call.
SDKS = (
    Peer(
        "openfeature",
        "OpenFeature",
        ("openfeature-sdk==0.10.0",),
        "openfeature-sdk 0.10.0 with its in-memory provider, whose evaluator calls the function by hand. "
        "The environment is in the API's context, the theme in the transaction's, the user in the call's",
    ),
    Peer(
        "launchdarkly",
        "LaunchDarkly",
        ("launchdarkly-server-sdk==9.18.2",),
        "launchdarkly-server-sdk 9.18.2 with `TestData` as its data source, without events. The rules of "
        "one environment; users are individual targets. The context is made in the call, from the user; "
        "the one with the theme beforehand, as for a request",
    ),
    Peer(
        "growthbook",
        "GrowthBook",
        ("growthbook==4.0.0",),
        "growthbook 4.0.0 with features that are given to it, without tracking. The rules of one "
        "environment. One instance, which is told the user in the call: its documents want an instance "
        "for each request, which takes longer. The instance with the theme is made beforehand, as for a "
        "request",
    ),
    Peer(
        "configcat",
        "ConfigCat",
        ("configcat-client==10.0.1",),
        "configcat-client 10.0.1, off line, its configuration in its cache, which takes less time than "
        "overrides from a file. The rules of one environment. The user object is made in the call; the "
        "one with the theme beforehand, as for a request",
    ),
    Peer(
        "unleash",
        "Unleash",
        ("UnleashClient==6.9.1",),
        "UnleashClient 6.9.1, started from a bootstrap, without metrics and registration. The rules of "
        "one environment; each is a strategy whose variant has the value as its payload. The context is "
        "made in the call, from the user; the one with the theme beforehand, as for a request",
    ),
)
