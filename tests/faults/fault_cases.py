"""The table of the fault matrix: what can go wrong, how it begins and ends, and what a client then tells.

A cell of the matrix is a case on a backend at a moment. What is asserted in each is
`test_fault_matrix`'s; the stage is `fault_scene`'s.
"""

from __future__ import annotations

import errno
import os
import shutil
import signal
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from unittest import mock

import httpx
from fault_scene import ELSEWHERE, FEATURES, HERE, SILENT, Scene, silent_machine
from support.harness import PATIENCE, Harness

from heksher._client import core
from heksher.testing import faults as f
from heksher.testing.faults.proxy import FaultProxy
from heksher.testing.service import LiveService

QUERY = "/api/v1/query"
FEATURES_PATH = "/api/v1/context_features"

#: Seconds, for faults that end by nothing else. Small, since it is waited for.
TIMEOUT = 0.5
STARTUP_TIMEOUT = 0.25

#: The backends whose look-ups of names are made in threads of the client's.
IN_THREADS = ("thread", "gevent")


class Moment(StrEnum):
    """When a fault is there."""

    START = "at start"
    POLLING = "while polling"
    RELOAD = "during a reload"
    CLOSING = "while closing"


@dataclass(frozen=True, kw_only=True)
class Case:
    """One line of the table.

    Attributes:
        name: what happens, in words.
        told: what the status has to say meanwhile, a regular expression; nothing for what does
            no harm.
        fails: whether updates fail; None: now and then.
        delivers: whether what is written meanwhile arrives meanwhile.
        hangs: whether requests end only by their deadline.
        is_final: whether the client cannot recover by itself; then `end` makes another one.
        writable: whether operators reach the service meanwhile.
        tls: whether clients talk TLS.
        startup_timeout: what bounds a start that raises.
        at_start: what it is like at the start, if it differs.
        impossible: the moments at which it cannot be, and why.
    """

    name: str
    told: str = ""
    fails: bool | None = True
    delivers: bool = False
    hangs: bool = False
    is_final: bool = False
    writable: bool = True
    tls: bool = False
    startup_timeout: float = PATIENCE
    at_start: Case | None = None
    impossible: Mapping[Moment, str] = field(default_factory=dict[Moment, str])

    def prepare(self, scene: Scene) -> None:
        """Set the stage, before there are rules and clients."""

    async def begin(self, scene: Scene) -> None:
        """Let it happen from now on."""
        raise NotImplementedError

    async def end(self, scene: Scene) -> None:
        """Let it be over."""
        raise NotImplementedError

    async def clean_up(self, scene: Scene) -> None:
        """Close what the application has besides clients."""

    def is_under_way(self, scene: Scene, mark: int) -> bool:
        """Whether a client is in it by now; *mark* is where `ended` was when it began."""
        return len(scene.ended) > mark

    def why_not(self, moment: Moment, backend: str) -> str | None:
        """Why it cannot be at that moment on that backend; None if it can."""
        return self.impossible.get(moment)

    def holds_thread(self, backend: Harness) -> bool:
        """Whether it holds a thread that nothing can end before the fault does."""
        return False

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, kw_only=True)
class OnDemand(Case):
    """What the proxy in front of the service does.

    Attributes:
        fault: what.
        path: the path of the requests that it is for; None: all.
        share: the share of them.
    """

    fault: f.Fault
    path: str | None = None
    share: float | None = None

    async def begin(self, scene: Scene) -> None:
        scene.proxy.faults.add(self.fault, path=self.path, share=self.share)

    async def end(self, scene: Scene) -> None:
        scene.proxy.faults.clear()

    def is_under_way(self, scene: Scene, mark: int) -> bool:
        rules = scene.proxy.faults.rules
        return any(rule.hits for rule in rules) or super().is_under_way(scene, mark)


# --- the machine, its name and its process --------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class NoSuchName(Case):
    """Look-ups find nothing."""

    def prepare(self, scene: Scene) -> None:
        scene.by_name()

    async def begin(self, scene: Scene) -> None:
        scene.names.address = None
        scene.drop_connections()  # or nobody would look it up

    async def end(self, scene: Scene) -> None:
        scene.names.address = HERE


@dataclass(frozen=True, kw_only=True)
class SlowNames(Case):
    """Look-ups do not come back."""

    def prepare(self, scene: Scene) -> None:
        scene.by_name()
        # What waits for a thread in a look-up, which nothing can end, waits so long.
        scene.stack.enter_context(mock.patch.object(core, "_CLOSE_TIMEOUT", TIMEOUT))

    async def begin(self, scene: Scene) -> None:
        scene.names.hangs = True
        scene.drop_connections()

    async def end(self, scene: Scene) -> None:
        scene.names.hangs = False
        scene.names.over.set()

    def is_under_way(self, scene: Scene, mark: int) -> bool:
        return scene.names.waiting > 0

    def why_not(self, moment: Moment, backend: str) -> str | None:
        if moment is Moment.RELOAD and backend in IN_THREADS:
            return (
                "nothing can end a look-up in a thread, and reload() returns when it does; "
                "`status.staleness` grows meanwhile"
            )
        return super().why_not(moment, backend)

    def holds_thread(self, backend: Harness) -> bool:
        return backend.name in IN_THREADS


@dataclass(frozen=True, kw_only=True)
class Silence(Case):
    """The machine takes no packet, and says nothing."""

    def prepare(self, scene: Scene) -> None:
        scene.by_name()
        scene.stack.enter_context(silent_machine(scene.port))

    async def begin(self, scene: Scene) -> None:
        scene.names.address = SILENT
        scene.names.asked = 0
        scene.drop_connections()

    async def end(self, scene: Scene) -> None:
        scene.names.address = HERE

    def is_under_way(self, scene: Scene, mark: int) -> bool:
        return scene.names.asked > 0


@dataclass(frozen=True, kw_only=True)
class Elsewhere(Case):
    """The service comes back on another machine of the same name."""

    def prepare(self, scene: Scene) -> None:
        scene.by_name()
        other = FaultProxy(scene.service.direct_url, host=ELSEWHERE, port=scene.port)
        scene.stack.enter_context(other)

    async def begin(self, scene: Scene) -> None:
        scene.names.address = ELSEWHERE
        scene.proxy.pause()

    async def end(self, scene: Scene) -> None:
        pass  # it stays there


@dataclass(frozen=True, kw_only=True)
class Suspended(Case):
    """The service's process is stopped, as by a machine that is out of memory."""

    async def begin(self, scene: Scene) -> None:
        process = scene.service.process
        assert process is not None
        scene.stack.callback(process.send_signal, signal.SIGCONT)
        scene.proxy.faults.requests.clear()
        process.send_signal(signal.SIGSTOP)

    async def end(self, scene: Scene) -> None:
        process = scene.service.process
        assert process is not None
        process.send_signal(signal.SIGCONT)

    def is_under_way(self, scene: Scene, mark: int) -> bool:
        return bool(scene.proxy.faults.requests)


@dataclass(frozen=True, kw_only=True)
class OwnService(Case):
    """Has a service of its own, in a thread, so that it can be ended and started quickly.

    Attributes:
        keeps: whether it keeps what it has when it is started again.
        token: what requests have to carry, if anything.
    """

    keeps: bool = True
    token: str | None = None

    def prepare(self, scene: Scene) -> None:
        self.install(scene, self.token)

    def install(self, scene: Scene, token: str | None, port: int = 0) -> None:
        """Have the proxy stand in front of a service on the cell's database."""
        service = LiveService(
            FEATURES,
            in_process=True,
            database=scene.folder / "heksher.sqlite" if self.keeps else "memory",
            api_token=token,
            proxy=False,
            port=port,
        )
        scene.service = scene.stack.enter_context(service)
        scene.proxy.service_url = service.direct_url

    def stop(self, scene: Scene) -> None:
        """End it; connections are refused then."""
        scene.proxy.pause()
        scene.service.stop()

    def start(self, scene: Scene) -> None:
        """Start it again."""
        scene.service.start()
        scene.proxy.resume()


@dataclass(frozen=True, kw_only=True)
class Restart(OwnService):
    """The service is away, and then there again."""

    async def begin(self, scene: Scene) -> None:
        self.stop(scene)

    async def end(self, scene: Scene) -> None:
        self.start(scene)


@dataclass(frozen=True, kw_only=True)
class StartsEmpty(OwnService):
    """The service has lost all that it had."""

    async def begin(self, scene: Scene) -> None:
        scene.reader.free = {*scene.reader.answers}
        self.stop(scene)
        self.start(scene)

    async def end(self, scene: Scene) -> None:
        scene.create_rules()


@dataclass(frozen=True, kw_only=True)
class Restored(OwnService):
    """The service goes on from a copy of its database that is older than what clients have."""

    async def begin(self, scene: Scene) -> None:
        database, copy = scene.folder / "heksher.sqlite", scene.folder / "copy"
        runs = bool(scene.clients)
        self.stop(scene)
        shutil.copy(database, copy)
        self.start(scene)
        older = scene.reader.written
        scene.write()
        if runs:
            await scene.newest()
        scene.reader.free = {*scene.reader.answers}
        self.stop(scene)
        for file in scene.folder.glob("heksher.sqlite*"):
            file.unlink()
        shutil.copy(copy, database)
        self.start(scene)
        if runs:
            await scene.backend.until(lambda: scene.reader.has_all(older), "what it has now")

    async def end(self, scene: Scene) -> None:
        pass


class Token(httpx.Auth):
    """Credentials as an application has them.

    Attributes:
        token: the one that is sent.
        newest: the one that is valid.
        renews: whether it takes the newest by itself, when it is refused.
    """

    def __init__(self, *, renews: bool) -> None:
        self.token = self.newest = "first"
        self.renews = renews

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response]:
        request.headers["api_token"] = self.token
        response = yield request
        if response.status_code == 401 and self.renews and self.token != self.newest:
            self.token = self.newest
            request.headers["api_token"] = self.token
            yield request


@dataclass(frozen=True, kw_only=True)
class Expired(OwnService):
    """The service asks for another token than before."""

    token: str | None = "first"
    renews: bool = False

    def prepare(self, scene: Scene) -> None:
        super().prepare(scene)
        scene.options["http_client_args"]["auth"] = Token(renews=self.renews)

    async def begin(self, scene: Scene) -> None:
        port = scene.service.port
        self.stop(scene)
        self.install(scene, "second", port)
        self._auth(scene).newest = "second"
        scene.proxy.resume()

    async def end(self, scene: Scene) -> None:
        auth = self._auth(scene)
        auth.token = auth.newest

    @staticmethod
    def _auth(scene: Scene) -> Token:
        auth: Token = scene.options["http_client_args"]["auth"]
        return auth


@dataclass(frozen=True, kw_only=True)
class ClosedByOwner(Case):
    """The HTTP client that was handed in is closed by whom it belongs to."""

    def prepare(self, scene: Scene) -> None:
        del scene.options["http_client_args"]
        self._new(scene)

    async def begin(self, scene: Scene) -> None:
        if scene.clients:
            # Then comes a pause. httpcore forgets a connection that is made while it is closed.
            await scene.client.reload()
        await self._close(scene)

    async def end(self, scene: Scene) -> None:
        await scene.client.close()
        self._new(scene)
        await scene.start(scene.add_client(startup="raise"))

    async def clean_up(self, scene: Scene) -> None:
        await self._close(scene)

    @staticmethod
    def _new(scene: Scene) -> None:
        kind = httpx.Client if scene.backend.backend.blocking else httpx.AsyncClient
        scene.options["http_client"] = kind(trust_env=False)

    @staticmethod
    async def _close(scene: Scene) -> None:
        http = scene.options["http_client"]
        if isinstance(http, httpx.AsyncClient):
            await http.aclose()
        else:
            http.close()


# --- the disk -------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Disk(Case):
    """The client keeps a snapshot."""

    def prepare(self, scene: Scene) -> None:
        scene.options["snapshot"] = self.path(scene)

    @staticmethod
    def path(scene: Scene) -> Path:
        """Where the snapshot is."""
        return scene.folder / "settings.snapshot"


@dataclass(frozen=True, kw_only=True)
class FullDisk(Disk):
    """Nothing can be written to it."""

    async def begin(self, scene: Scene) -> None:
        path, sync = str(self.path(scene)), os.fsync

        def fail(number: int) -> None:
            if os.readlink(f"/proc/self/fd/{number}").startswith(path):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            sync(number)

        scene.meanwhile.enter_context(mock.patch("os.fsync", fail))

    async def end(self, scene: Scene) -> None:
        scene.meanwhile.close()


@dataclass(frozen=True, kw_only=True)
class Away(Disk):
    """The service is away at the start, and there is the snapshot of an earlier run.

    Attributes:
        damaged: whether something happened to the file.
    """

    damaged: bool = False

    async def begin(self, scene: Scene) -> None:
        earlier = scene.add_client(startup="raise")
        await scene.start(earlier)
        await earlier.close()
        path = self.path(scene)
        if self.damaged:
            path.write_bytes(path.read_bytes()[:-1])
        scene.proxy.faults.add(f.Refuse())

    async def end(self, scene: Scene) -> None:
        scene.proxy.faults.clear()


# --- what operators and other applications do -----------------------------------------------------

#: The places of what is read of `touched`: where a rule matches, and where none does.
RULE, DEFAULT = 4, 5


def let_go(scene: Scene) -> int:
    """Expect nothing of the rule of `touched` any more, and do not change it; its number."""
    scene.reader.free.add(RULE)
    scene.reader.answers[RULE] = None
    return scene.rules.pop(5)


def take_back(scene: Scene, number: int) -> None:
    """Expect it again."""
    scene.rules[5] = number
    scene.reader.answers[RULE] = 5


@dataclass(frozen=True, kw_only=True)
class Deleted(Case):
    """A setting is deleted, and declared anew by the client."""

    async def begin(self, scene: Scene) -> None:
        let_go(scene)
        scene.service.delete_setting("touched")

    async def end(self, scene: Scene) -> None:
        take_back(scene, scene.service.add_rule("touched", scene.value(5), user="jim"))


@dataclass(frozen=True, kw_only=True)
class DeletedAgain(Case):
    """A setting is deleted again, after the client declared it anew: somebody means it."""

    async def begin(self, scene: Scene) -> None:
        let_go(scene)
        scene.service.delete_setting("touched")
        await scene.tells("touched created")
        scene.service.delete_setting("touched")

    async def end(self, scene: Scene) -> None:
        # As the log says: the application is started again.
        await scene.client.close()
        await scene.start(scene.add_client(startup="raise"))
        take_back(scene, scene.service.add_rule("touched", scene.value(5), user="jim"))


@dataclass(frozen=True, kw_only=True)
class Renamed(Case):
    """A setting gets another name."""

    async def begin(self, scene: Scene) -> None:
        scene.service.rename("touched", "renamed", "1.1")

    async def end(self, scene: Scene) -> None:
        scene.service.rename("renamed", "touched", "1.2")


@dataclass(frozen=True, kw_only=True)
class Retyped(Case):
    """A newer application gives a setting another type, and its rules and default value with it."""

    async def begin(self, scene: Scene) -> None:
        scene.let_go = number = let_go(scene)
        scene.service.declare("touched", "float", 0.5, FEATURES, version="2.0")
        scene.service.change_rule(number, 0.25)

    async def end(self, scene: Scene) -> None:
        number = scene.let_go
        scene.service.change_rule(number, scene.value(5))
        scene.service.declare("touched", "int", 0, FEATURES, version="3.0")
        take_back(scene, number)


@dataclass(frozen=True, kw_only=True)
class Reconfigured(Case):
    """A newer application lets rules of a setting depend on a feature that it did not know before."""

    async def begin(self, scene: Scene) -> None:
        scene.service.add_feature("theme")
        features = [*FEATURES, "theme"]
        scene.service.declare("touched", "int", 0, features, version="2.0")
        scene.service.add_rule("touched", 7, theme="dark", user="jim")

    async def end(self, scene: Scene) -> None:
        pass  # the client is of no use to that rule, and goes without it


@dataclass(frozen=True, kw_only=True)
class FeatureAdded(Case):
    """A context feature is added."""

    async def begin(self, scene: Scene) -> None:
        scene.service.add_feature("theme")

    async def end(self, scene: Scene) -> None:
        scene.service.features = FEATURES


@dataclass(frozen=True, kw_only=True)
class FeatureRemoved(Case):
    """A context feature is removed that no setting uses."""

    def prepare(self, scene: Scene) -> None:
        scene.features = [*FEATURES, "theme"]  # the last, or others would change places with it
        scene.service.features = scene.features

    async def begin(self, scene: Scene) -> None:
        scene.service.features = FEATURES

    async def end(self, scene: Scene) -> None:
        scene.service.features = scene.features


@dataclass(frozen=True, kw_only=True)
class Reordered(Case):
    """Context features change places, and with them which rule wins."""

    async def begin(self, scene: Scene) -> None:
        scene.reader.free.add(0)
        scene.reader.may[0] = {1, 3}
        scene.reader.answers[0] = 3
        scene.service.features = FEATURES[::-1]

    async def end(self, scene: Scene) -> None:
        scene.reader.answers[0] = 1
        scene.service.features = FEATURES


@dataclass(frozen=True, kw_only=True)
class Newer(Case):
    """Another application declares newer versions of a setting, each with another default value."""

    async def begin(self, scene: Scene) -> None:
        scene.reader.may[DEFAULT] = {6}
        scene.reader.answers[DEFAULT] = 6
        scene.has_newer_default = True

    async def end(self, scene: Scene) -> None:
        pass


@dataclass(frozen=True, kw_only=True)
class Older(Case):
    """Another application declares an older version of a setting."""

    async def begin(self, scene: Scene) -> None:
        answer = scene.service.declare("touched", "float", 0.5, ["user"], version="0.9")
        assert answer["outcome"] == "outdated"

    async def end(self, scene: Scene) -> None:
        pass


# --- the table ------------------------------------------------------------------------------------

LATE = "longer than 0.5 seconds"
REFUSED = "refused|attempts"

_AT_A_START = "a snapshot is read at a start only"
_NOBODY = "nobody has declared it anew yet"

GROUPS: Mapping[str, Sequence[Case]] = {
    "Answers": (
        OnDemand(name="no answer comes", fault=f.Delay(), told=LATE, hangs=True),
        OnDemand(name="the answer comes byte by byte", fault=f.Slow(), told=LATE, hangs=True),
        OnDemand(
            name="a body that drips on without an end",
            fault=f.Endless(0.001),
            told=LATE,
            hangs=True,
        ),
        OnDemand(name="a body without an end", fault=f.Endless(), told="larger than"),
        OnDemand(name="answers come late", fault=f.Delay(0.02), fails=False, delivers=True),
        OnDemand(name="401", fault=f.Status(401), told=r"\b401\b"),
        OnDemand(name="403", fault=f.Status(403), told=r"\b403\b"),
        OnDemand(name="404", fault=f.Status(404), told=r"\b404\b"),
        OnDemand(
            name="429, again in a second",
            fault=f.Status(429, retry_after=1),
            told=r"\b429\b",
        ),
        OnDemand(name="500", fault=f.Status(500), told=r"\b500\b"),
        OnDemand(
            name="502, a page of HTML",
            fault=f.Status(502, body="<html>"),
            told=r"\b502\b",
        ),
        OnDemand(
            name="503, again in an hour",
            fault=f.Status(503, retry_after=3600),
            told=r"\b503\b",
        ),
        OnDemand(
            name="503 for the rules alone",
            fault=f.Status(503),
            path=QUERY,
            told=r"\b503\b",
        ),
        OnDemand(
            name="500 for every third request or so",
            fault=f.Status(500),
            share=0.3,
            told=r"\b500\b",
            fails=None,
            delivers=True,
        ),
        OnDemand(name="a redirect to another machine", fault=f.Redirect(), told=r"\b307\b"),
        OnDemand(
            name="a redirect in circles",
            fault=f.Redirect(FEATURES_PATH),
            told=r"\b307\b",
        ),
        OnDemand(
            name="304 whatever was asked",
            fault=f.Status(304),
            path=QUERY,
            fails=False,
            at_start=OnDemand(name="304", fault=f.Status(304), path=QUERY, told=r"\b304\b"),
        ),
    ),
    "Connections": (
        OnDemand(name="the connection is closed", fault=f.Close(), told="no answer"),
        OnDemand(name="closed in the answer's head", fault=f.Close(40), told="no answer"),
        OnDemand(name="the connection is reset", fault=f.Reset(), told="no answer"),
        OnDemand(name="reset in the answer's head", fault=f.Reset(40), told="no answer"),
        OnDemand(name="the end of the body is missing", fault=f.CutShort(), told="no answer"),
        OnDemand(
            name="the end is missing, and the length says so",
            fault=f.CutShort(honest=True),
            told="truncated",
        ),
    ),
    "Bodies": (
        OnDemand(name="no JSON", fault=f.InvalidJson(), told="truncated"),
        OnDemand(name="an empty body", fault=f.InvalidJson(""), told="truncated"),
        OnDemand(name="a captive portal's page", fault=f.InvalidJson("<html>"), told="malformed"),
        OnDemand(name="JSON of another shape", fault=f.WrongShape(), told="object"),
        OnDemand(name="null", fault=f.WrongShape("null"), told="object"),
        OnDemand(
            name="no object of settings", fault=f.WrongShape('{"settings": 5}'), told="missing"
        ),
        OnDemand(
            name="an answer without the settings",
            fault=f.WrongShape('{"settings": {}}'),
            path=QUERY,
            told="has no section for it",
            fails=False,
        ),
        OnDemand(
            name="a wrong content type",
            fault=f.ContentType("text/html"),
            fails=False,
            delivers=True,
        ),
        OnDemand(name="a wrong content encoding", fault=f.ContentEncoding(), told="gzip"),
        OnDemand(name="a bomb of gzip", fault=f.Bomb(20), told="larger than"),
        OnDemand(
            name="the same ETag for everything", fault=f.WrongETag(), fails=False, delivers=True
        ),
        OnDemand(name="no ETag", fault=f.WrongETag(None), fails=False, delivers=True),
    ),
    "Ports and certificates": (
        OnDemand(name="connections are refused", fault=f.Refuse(), told=REFUSED),
        OnDemand(
            name="a certificate that has expired",
            fault=f.Certificate("expired"),
            tls=True,
            told="expired",
        ),
        OnDemand(
            name="a certificate of another host",
            fault=f.Certificate("host"),
            tls=True,
            told="certificate",
        ),
        OnDemand(
            name="a certificate of nobody known",
            fault=f.Certificate("unknown"),
            tls=True,
            told="certificate",
        ),
    ),
    "Names and machines": (
        NoSuchName(name="the name is not known", told="not known|attempts"),
        SlowNames(
            name="the name's look-up does not come back",
            told="ConnectTimeout",
            hangs=True,
            startup_timeout=1.0,
        ),
        Silence(name="a machine that takes no packet", told="no answer", hangs=True),
        Elsewhere(name="the service moves, under its name", fails=False, delivers=True),
        Suspended(name="the service's process is suspended", told=LATE, hangs=True, writable=False),
    ),
    "The service itself": (
        Restart(name="the service is started again", told=REFUSED, writable=False),
        StartsEmpty(
            name="the service has lost its data",
            keeps=False,
            told="touched created",
            fails=False,
            writable=False,
        ),
        Restored(name="the service has older data", fails=False, delivers=True),
    ),
    "Credentials, HTTP clients and disks": (
        Expired(name="credentials expire, and are renewed", told=r"\b401\b"),
        Expired(name="credentials that renew themselves", renews=True, fails=False, delivers=True),
        ClosedByOwner(
            name="the `http_client` is closed by its owner", told="closed", is_final=True
        ),
        FullDisk(
            name="the snapshot's disk is full",
            told="No space left",
            fails=False,
            delivers=True,
        ),
        Away(
            name="away at the start, with a snapshot",
            told="rules of the snapshot",
            impossible=dict.fromkeys([*Moment][1:], _AT_A_START),
        ),
        Away(
            name="away at the start, with a damaged snapshot",
            damaged=True,
            told="snapshot not used",
            impossible=dict.fromkeys([*Moment][1:], _AT_A_START),
        ),
    ),
    "Operators and other applications": (
        Deleted(name="a setting is deleted", told="touched created", fails=False, delivers=True),
        DeletedAgain(
            name="a setting is deleted again",
            told="touched deleted",
            fails=False,
            delivers=True,
            impossible={Moment.START: _NOBODY},
        ),
        Renamed(name="a setting is renamed", told="touched renamed", fails=False, delivers=True),
        Retyped(name="a setting gets another type", told="not used", fails=False, delivers=True),
        Reconfigured(
            name="a setting gets another feature", told="theme", fails=False, delivers=True
        ),
        FeatureAdded(name="a context feature is added", fails=False, delivers=True),
        FeatureRemoved(name="a context feature is removed", fails=False, delivers=True),
        Reordered(name="context features change places", fails=False, delivers=True),
        Newer(name="a newer version is declared elsewhere", fails=False, delivers=True),
        Older(name="an older version is declared elsewhere", fails=False, delivers=True),
    ),
}

CASES: Sequence[Case] = tuple(case for group in GROUPS.values() for case in group)
