"""The table of the fault matrix: the faults, how they begin and end, and what clients report.

A cell of the matrix is a case on a backend at a moment. The assertions are in `test_fault_matrix`, the
environment of a cell is in `fault_scene`.
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

from heksher.testing import faults as f
from heksher.testing.faults.proxy import FaultProxy
from heksher.testing.service import LiveService

QUERY = "/api/v1/query"
FEATURES_PATH = "/api/v1/context_features"

#: Request timeout in seconds, for faults that nothing else ends. Short, because tests wait for it.
TIMEOUT = 0.5
STARTUP_TIMEOUT = 0.25


class Moment(StrEnum):
    """When a fault is active."""

    START = "at start"
    POLLING = "while polling"
    RELOAD = "during a reload"
    CLOSING = "while closing"


@dataclass(frozen=True, kw_only=True)
class Case:
    """One line of the table.

    Attributes:
        name: description of the fault.
        told: regular expression for what the status must report during the fault; empty for faults
            that do no harm.
        fails: whether updates fail; None means sometimes.
        delivers: whether changes that are written during the fault arrive during the fault.
        hangs: whether only the deadline ends requests.
        is_final: whether the client cannot recover by itself; `end` makes another one then.
        writable: whether operators can reach the service during the fault.
        tls: whether clients use TLS.
        startup_timeout: timeout of a start that raises.
        at_start: the case to use instead at the start, if it differs.
        impossible: the moments at which the fault is impossible, with reasons.
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
        """Prepare the scene, before there are rules and clients."""

    async def begin(self, scene: Scene) -> None:
        """Start the fault."""
        raise NotImplementedError

    async def end(self, scene: Scene) -> None:
        """End the fault."""
        raise NotImplementedError

    async def clean_up(self, scene: Scene) -> None:
        """Close resources of the application other than clients."""

    def is_under_way(self, scene: Scene, mark: int) -> bool:
        """Whether a client has met the fault. *mark* is the length of `ended` when the fault began."""
        return len(scene.ended) > mark

    def why_not(self, moment: Moment, backend: str) -> str | None:
        """Say why the fault is impossible at this moment on this backend; None if it is possible."""
        return self.impossible.get(moment)

    def holds_thread(self, backend: Harness) -> bool:
        """Whether the fault blocks a thread until it ends."""
        return False

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, kw_only=True)
class OnDemand(Case):
    """A fault of the proxy in front of the service.

    Attributes:
        fault: the fault.
        path: path of the requests that it applies to; None means all.
        share: share of these requests.
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


# --- machine, host name and process ----------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class NoSuchName(Case):
    """Name look-ups find nothing."""

    def prepare(self, scene: Scene) -> None:
        scene.by_name()

    async def begin(self, scene: Scene) -> None:
        scene.names.address = None
        scene.drop_connections()  # otherwise clients would not look up the name

    async def end(self, scene: Scene) -> None:
        scene.names.address = HERE


@dataclass(frozen=True, kw_only=True)
class SlowNames(Case):
    """Name look-ups do not return."""

    def prepare(self, scene: Scene) -> None:
        scene.by_name()

    async def begin(self, scene: Scene) -> None:
        scene.names.hangs = True
        scene.drop_connections()

    async def end(self, scene: Scene) -> None:
        scene.names.hangs = False
        scene.names.over.set()

    def is_under_way(self, scene: Scene, mark: int) -> bool:
        return scene.names.waiting > 0

    def holds_thread(self, backend: Harness) -> bool:
        return True


@dataclass(frozen=True, kw_only=True)
class Silence(Case):
    """The machine accepts no packets and does not answer."""

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
    """The service moves to another machine with the same name."""

    def prepare(self, scene: Scene) -> None:
        scene.by_name()
        other = FaultProxy(scene.service.direct_url, host=ELSEWHERE, port=scene.port)
        scene.stack.enter_context(other)

    async def begin(self, scene: Scene) -> None:
        scene.names.address = ELSEWHERE
        scene.proxy.pause()

    async def end(self, scene: Scene) -> None:
        pass  # the service stays there


@dataclass(frozen=True, kw_only=True)
class Suspended(Case):
    """The service's process is suspended, as on a machine without free memory."""

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
    """Base of cases with their own service in a thread, which stops and starts quickly.

    Attributes:
        keeps: whether the service keeps its data when it is started again.
        token: token that requests need, if any.
    """

    keeps: bool = True
    token: str | None = None

    def prepare(self, scene: Scene) -> None:
        self.install(scene, self.token)

    def install(self, scene: Scene, token: str | None, port: int = 0) -> None:
        """Start a service on the cell's database and put the proxy in front of it."""
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
        """Stop the service; connections are refused then."""
        scene.proxy.pause()
        scene.service.stop()

    def start(self, scene: Scene) -> None:
        """Start the service again."""
        scene.service.start()
        scene.proxy.resume()


@dataclass(frozen=True, kw_only=True)
class Restart(OwnService):
    """The service is stopped and started again."""

    async def begin(self, scene: Scene) -> None:
        self.stop(scene)

    async def end(self, scene: Scene) -> None:
        self.start(scene)


@dataclass(frozen=True, kw_only=True)
class StartsEmpty(OwnService):
    """The service loses all its data."""

    async def begin(self, scene: Scene) -> None:
        scene.reader.free = {*scene.reader.answers}
        self.stop(scene)
        self.start(scene)

    async def end(self, scene: Scene) -> None:
        scene.create_rules()


@dataclass(frozen=True, kw_only=True)
class Restored(OwnService):
    """The service continues with a copy of its database that is older than the clients' data."""

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
    """Credentials of an application.

    Attributes:
        token: the token that is sent.
        newest: the valid token.
        renews: whether to switch to the valid token after a refusal.
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
    """The service requires a new token."""

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
    """The application closes the HTTP client that it has passed in."""

    def prepare(self, scene: Scene) -> None:
        del scene.options["http_client_args"]
        self._new(scene)

    async def begin(self, scene: Scene) -> None:
        if scene.clients:
            # After a reload, the client pauses. httpcore forgets connections made while it is closed.
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
        """Path of the snapshot."""
        return scene.folder / "settings.snapshot"


@dataclass(frozen=True, kw_only=True)
class FullDisk(Disk):
    """The snapshot cannot be written."""

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
    """The service is unreachable at the start, and there is a snapshot of an earlier run.

    Attributes:
        damaged: whether the file is damaged.
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


# --- actions of operators and other applications ---------------------------------------------------

#: Indexes of the reads of `touched`: one with a matching rule, and one without.
RULE, DEFAULT = 4, 5


def let_go(scene: Scene) -> int:
    """Stop changing the rule of `touched` and checking its values; return its id."""
    scene.reader.free.add(RULE)
    scene.reader.answers[RULE] = None
    return scene.rules.pop(5)


def take_back(scene: Scene, number: int) -> None:
    """Continue to change and check this rule."""
    scene.rules[5] = number
    scene.reader.answers[RULE] = 5


@dataclass(frozen=True, kw_only=True)
class Deleted(Case):
    """A setting is deleted, and the client declares it again."""

    async def begin(self, scene: Scene) -> None:
        let_go(scene)
        scene.service.delete_setting("touched")

    async def end(self, scene: Scene) -> None:
        take_back(scene, scene.service.add_rule("touched", scene.value(5), user="jim"))


@dataclass(frozen=True, kw_only=True)
class DeletedAgain(Case):
    """A setting is deleted again after the client has declared it again: this is on purpose."""

    async def begin(self, scene: Scene) -> None:
        let_go(scene)
        scene.service.delete_setting("touched")
        await scene.tells("touched created")
        scene.service.delete_setting("touched")

    async def end(self, scene: Scene) -> None:
        # Follow the hint in the log: restart the application.
        await scene.client.close()
        await scene.start(scene.add_client(startup="raise"))
        take_back(scene, scene.service.add_rule("touched", scene.value(5), user="jim"))


@dataclass(frozen=True, kw_only=True)
class Renamed(Case):
    """A setting is renamed."""

    async def begin(self, scene: Scene) -> None:
        scene.service.rename("touched", "renamed", "1.1")

    async def end(self, scene: Scene) -> None:
        scene.service.rename("renamed", "touched", "1.2")


@dataclass(frozen=True, kw_only=True)
class Retyped(Case):
    """A newer application changes the type of a setting, with its rules and default value."""

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
    """A newer application makes a setting configurable by a further feature."""

    async def begin(self, scene: Scene) -> None:
        scene.service.add_feature("theme")
        features = [*FEATURES, "theme"]
        scene.service.declare("touched", "int", 0, features, version="2.0")
        scene.service.add_rule("touched", 7, theme="dark", user="jim")

    async def end(self, scene: Scene) -> None:
        pass  # the client does not know the feature, and continues without this rule


@dataclass(frozen=True, kw_only=True)
class FeatureAdded(Case):
    """A context feature is added."""

    async def begin(self, scene: Scene) -> None:
        scene.service.add_feature("theme")

    async def end(self, scene: Scene) -> None:
        scene.service.features = FEATURES


@dataclass(frozen=True, kw_only=True)
class FeatureRemoved(Case):
    """An unused context feature is removed."""

    def prepare(self, scene: Scene) -> None:
        scene.features = [*FEATURES, "theme"]  # the last one, so that the others keep their order
        scene.service.features = scene.features

    async def begin(self, scene: Scene) -> None:
        scene.service.features = FEATURES

    async def end(self, scene: Scene) -> None:
        scene.service.features = scene.features


@dataclass(frozen=True, kw_only=True)
class Reordered(Case):
    """The order of context features changes, and with it the winning rule."""

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
    """Another application declares newer versions of a setting with new default values."""

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

_AT_A_START = "a snapshot is read only at the start"
_NOBODY = "it has not been declared again yet"

GROUPS: Mapping[str, Sequence[Case]] = {
    "Answers": (
        OnDemand(name="no answer", fault=f.Delay(), told=LATE, hangs=True),
        OnDemand(name="the answer comes byte by byte", fault=f.Slow(), told=LATE, hangs=True),
        OnDemand(
            name="an endless body, byte by byte",
            fault=f.Endless(0.001),
            told=LATE,
            hangs=True,
        ),
        OnDemand(name="an endless body", fault=f.Endless(), told="larger than"),
        OnDemand(name="answers come late", fault=f.Delay(0.02), fails=False, delivers=True),
        OnDemand(name="401", fault=f.Status(401), told=r"\b401\b"),
        OnDemand(name="403", fault=f.Status(403), told=r"\b403\b"),
        OnDemand(name="404", fault=f.Status(404), told=r"\b404\b"),
        OnDemand(
            name="429, retry after a second",
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
            name="503, retry after an hour",
            fault=f.Status(503, retry_after=3600),
            told=r"\b503\b",
        ),
        OnDemand(
            name="503 for queries only",
            fault=f.Status(503),
            path=QUERY,
            told=r"\b503\b",
        ),
        OnDemand(
            name="500 for about every third request",
            fault=f.Status(500),
            share=0.3,
            told=r"\b500\b",
            fails=None,
            delivers=True,
        ),
        OnDemand(name="a redirect to another machine", fault=f.Redirect(), told=r"\b307\b"),
        OnDemand(
            name="a redirect loop",
            fault=f.Redirect(FEATURES_PATH),
            told=r"\b307\b",
        ),
        OnDemand(
            name="304 for every request",
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
            name="the end of the body is missing, with a matching length",
            fault=f.CutShort(honest=True),
            told="truncated",
        ),
    ),
    "Bodies": (
        OnDemand(name="a body that is not JSON", fault=f.InvalidJson(), told="truncated"),
        OnDemand(name="an empty body", fault=f.InvalidJson(""), told="truncated"),
        OnDemand(name="a captive portal's page", fault=f.InvalidJson("<html>"), told="malformed"),
        OnDemand(name="JSON of another shape", fault=f.WrongShape(), told="object"),
        OnDemand(name="null", fault=f.WrongShape("null"), told="object"),
        OnDemand(
            name="settings that are not an object",
            fault=f.WrongShape('{"settings": 5}'),
            # At start, a list of features is expected; later, polls begin with the query.
            told="missing|got `int`",
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
        OnDemand(name="a gzip bomb", fault=f.Bomb(20), told="larger than"),
        OnDemand(
            name="the same ETag for everything", fault=f.WrongETag(), fails=False, delivers=True
        ),
        OnDemand(name="no ETag", fault=f.WrongETag(None), fails=False, delivers=True),
    ),
    "Ports and certificates": (
        OnDemand(name="connections are refused", fault=f.Refuse(), told=REFUSED),
        OnDemand(
            name="an expired certificate",
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
            name="a certificate of an unknown authority",
            fault=f.Certificate("unknown"),
            tls=True,
            told="certificate",
        ),
    ),
    "Names and machines": (
        NoSuchName(name="the name is unknown", told="not known|attempts"),
        SlowNames(
            name="the look-up of the name hangs",
            told="ConnectTimeout",
            hangs=True,
            startup_timeout=1.0,
        ),
        Silence(name="a machine that drops all packets", told="no answer", hangs=True),
        Elsewhere(name="the service moves to another address", fails=False, delivers=True),
        Suspended(name="the service's process is suspended", told=LATE, hangs=True, writable=False),
    ),
    "The service itself": (
        Restart(name="the service is restarted", told=REFUSED, writable=False),
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
            name="down at the start, with a snapshot",
            told="rules of the snapshot",
            impossible=dict.fromkeys([*Moment][1:], _AT_A_START),
        ),
        Away(
            name="down at the start, with a damaged snapshot",
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
        Reordered(name="context features are reordered", fails=False, delivers=True),
        Newer(name="a newer version is declared elsewhere", fails=False, delivers=True),
        Older(name="an older version is declared elsewhere", fails=False, delivers=True),
    ),
}

CASES: Sequence[Case] = tuple(case for group in GROUPS.values() for case in group)
