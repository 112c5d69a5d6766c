"""What a client says about itself and about the service: `ClientStatus` and `SettingData`. Pure data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeVar

from heksher._text import error_text, named

__all__ = [
    "ClientStatus",
    "ClientState",
    "DataSource",
    "DeclarationState",
    "DeclaredSetting",
    "RejectedRule",
    "CoercedRule",
    "SnapshotStatus",
    "SettingData",
]

ErrorT = TypeVar("ErrorT", bound=BaseException)


class ClientState(StrEnum):
    """Where a client is in its life."""

    NEW = "new"  # not started, or its start failed
    STARTING = "starting"  # until the first rules are in force, or the start is given up
    RUNNING = "running"  # also while the service is away
    INHERITED = "inherited"  # in a forked child: nobody refreshes until it is started there
    CLOSED = "closed"  # for good


class DataSource(StrEnum):
    """Where the rules that are in force came from."""

    DEFAULTS = "defaults"  # from nowhere: there are the default values of the application alone
    SNAPSHOT = "snapshot"  # the file, until the service has answered
    SERVICE = "service"  # the service, also when it is away by now


class DeclarationState(StrEnum):
    """What became of a setting's declaration. The first six are the service's own words.

    `CREATED` to `OUTDATED` mean that the service has the setting, as it is declared here or newer;
    `MISMATCH`, `REJECTED` and `REFUSED` that the declaration has to be mended.
    """

    CREATED = "created"
    UPTODATE = "uptodate"  # also where nothing had to be declared
    UPGRADED = "upgraded"
    OUTDATED = "outdated"
    MISMATCH = "mismatch"
    REJECTED = "rejected"
    REFUSED = "refused"  # for a reason that has no word of its own, such as an unknown feature
    FAILED = "failed"  # the service failed; the declaration is tried again
    RENAMED = "renamed"  # somebody renamed it on the service, so that it is not declared from here
    DELETED = "deleted"  # somebody deleted it, also after it had been declared anew
    PENDING = "pending"  # not declared yet


@dataclass(frozen=True, slots=True)
class DeclaredSetting:
    """How a setting's declaration stands with the service.

    Attributes:
        state: what became of it.
        service_version: the version that the service has or had, if it told.
        differences: one text for each attribute that differs: its value here and there, and how
            grave the difference is. Also one for an alias that the service does not know.
        refusal: why the declaration was not accepted, with the mend; None if it was.
    """

    state: DeclarationState
    service_version: str | None = None
    differences: tuple[str, ...] = ()
    refusal: str | None = None


@dataclass(frozen=True, slots=True)
class RejectedRule:
    """A rule of the service that is not used here; the setting's other rules are.

    Attributes:
        setting: the setting's name here.
        rule_id: the service's number for the rule; None if it is not the rule but the setting's
            default value there, or all that the service says of the setting.
        reason: why.
        error: what a validator or ``on_coerce`` raised, without traceback, or None.
    """

    setting: str
    rule_id: int | None
    reason: str
    error: BaseException | None = field(default=None, compare=False)

    def __str__(self) -> str:
        what = "" if self.rule_id is None else f"rule {self.rule_id}: "
        return f"setting {self.setting!r}: {what}{self.reason}"


@dataclass(frozen=True, slots=True)
class CoercedRule:
    """A rule of the service whose value is used in part, since its type there is newer.

    Attributes:
        setting: the setting's name here.
        rule_id: the service's number for the rule; None for the setting's default value there.
        coercions: one text for each part that was left out, with its path: ``element 3: ...``.
    """

    setting: str
    rule_id: int | None
    coercions: tuple[str, ...]

    def __str__(self) -> str:
        what = "default value" if self.rule_id is None else f"rule {self.rule_id}"
        more = f"; and {len(self.coercions) - 5} more" if len(self.coercions) > 5 else ""
        return f"setting {self.setting!r}: {what}: {'; '.join(self.coercions[:5])}{more}"


@dataclass(frozen=True, slots=True)
class SnapshotStatus:
    """How the file stands that a client was given by ``snapshot=``.

    Attributes:
        path: the file.
        is_loaded: whether this client has read it at its start.
        written: when what stands there was written, by whichever process, in seconds since the epoch
            as `time.time` has them; None if that is not known.
        refused: why it was not used at the start, or None. A file that is not there is not refused.
        error: why it cannot be written, or None.
    """

    path: str
    is_loaded: bool = False
    written: float | None = None
    refused: str | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class ClientStatus:
    """How a client is doing, as ``client.status`` tells it. It is one moment's, and does not change.

    Reading it asks the service nothing. Moments are seconds since the epoch, as `time.time` has them.

    Attributes:
        state: new, starting, running, inherited or closed.
        staleness: seconds since the newest successful update began to be in force, or None if there
            was none yet. The age of a snapshot is none: see `snapshot`.
        failures: updates that failed in a row; 0 after a success.
        last_error: what the newest failure was, also after a success; None if there was none.
        declarations: how the declaration of each setting stands, by its name here.
        rejected_rules: the rules of the newest update that are not used here.
        coerced_rules: the rules of the newest update that are used in part.
        source: where the rules in force came from: service, snapshot or defaults.
        last_success: when the newest update succeeded, or None.
        last_failure: when the newest update failed, or None.
        polls: how many updates were tried.
        bytes_received: how many bytes the service has answered, decompressed.
        snapshot: how the file of ``snapshot=`` stands; None: there is none.
    """

    state: ClientState
    staleness: float | None
    failures: int
    last_error: Exception | None
    declarations: Mapping[str, DeclaredSetting] = field(default_factory=dict[str, DeclaredSetting])
    rejected_rules: tuple[RejectedRule, ...] = ()
    coerced_rules: tuple[CoercedRule, ...] = ()
    source: DataSource = DataSource.DEFAULTS
    last_success: float | None = None
    last_failure: float | None = None
    polls: int = 0
    bytes_received: int = 0
    snapshot: SnapshotStatus | None = None

    @property
    def is_ready(self) -> bool:
        """Whether rules are in force, of the service or of a snapshot; it stays so during outages."""
        return self.source is not DataSource.DEFAULTS

    @property
    def settings(self) -> dict[DeclarationState, tuple[str, ...]]:
        """The names of settings by the outcome of their declaration; outcomes of none are left out."""
        names: dict[DeclarationState, list[str]] = {}
        for name, declared in sorted(self.declarations.items()):
            names.setdefault(declared.state, []).append(name)
        return {state: tuple(names[state]) for state in DeclarationState if state in names}

    @property
    def refusals(self) -> dict[str, str]:
        """Why declarations were not accepted, and the mend, by the setting's name."""
        return {
            name: declared.refusal
            for name, declared in sorted(self.declarations.items())
            if declared.refusal is not None
        }

    @property
    def pending(self) -> tuple[str, ...]:
        """The names of settings that are still to be declared, or to be declared again."""
        waiting = (DeclarationState.PENDING, DeclarationState.FAILED)
        return tuple(
            name
            for name, declared in sorted(self.declarations.items())
            if declared.state in waiting
        )

    def as_dict(self) -> dict[str, Any]:
        """Return all of it in JSON's types. Errors are texts there, and settings stand by outcome."""
        snapshot = self.snapshot
        return {
            "state": str(self.state),
            "source": str(self.source),
            "is_ready": self.is_ready,
            "staleness": self.staleness,
            "last_success": self.last_success,
            "last_failure": self.last_failure,
            "failures": self.failures,
            "last_error": None if self.last_error is None else named(self.last_error),
            "polls": self.polls,
            "bytes_received": self.bytes_received,
            "settings": {str(state): list(names) for state, names in self.settings.items()},
            "pending": list(self.pending),
            "differences": {
                name: list(declared.differences)
                for name, declared in sorted(self.declarations.items())
                if declared.differences
            },
            "refusals": self.refusals,
            "rejected_rules": [
                {"setting": rule.setting, "rule_id": rule.rule_id, "reason": rule.reason}
                for rule in self.rejected_rules
            ],
            "coerced_rules": [
                {
                    "setting": rule.setting,
                    "rule_id": rule.rule_id,
                    "coercions": list(rule.coercions),
                }
                for rule in self.coerced_rules
            ],
            "snapshot": None
            if snapshot is None
            else {
                "path": snapshot.path,
                "is_loaded": snapshot.is_loaded,
                "written": snapshot.written,
                "refused": snapshot.refused,
                "error": snapshot.error,
            },
        }

    def __str__(self) -> str:
        age = "never updated" if self.staleness is None else f"updated {self.staleness:.1f} s ago"
        parts = [str(self.state), age]
        if self.state is ClientState.INHERITED:
            parts.append("nobody refreshes in this process until the client is started in it")
        if self.source is DataSource.SNAPSHOT:
            parts.append("rules of the snapshot")
        if self.failures:
            error = "" if self.last_error is None else error_text(self.last_error)
            parts.append(f"{self.failures} failures in a row: {error}")
        if self.refusals:
            parts.append(f"declarations not accepted: {', '.join(self.refusals)}")
        if deleted := self.settings.get(DeclarationState.DELETED):
            parts.append(f"deleted on the service: {', '.join(deleted)}")
        if count := len(self.rejected_rules):
            parts.append(f"{count} rule{'s' if count > 1 else ''} not used")
        if (snapshot := self.snapshot) is not None:
            if snapshot.refused is not None and self.source is not DataSource.SERVICE:
                parts.append(f"snapshot not used: {snapshot.refused}")
            if snapshot.error is not None:
                parts.append(f"snapshot not written: {snapshot.error}")
        return ", ".join(parts)


@dataclass(frozen=True, slots=True)
class SettingData:
    """A setting as the service has it: what ``client.get_settings()`` returns, by name.

    Attributes:
        name: the current name.
        type: the type in the service's spelling.
        default_value: as JSON says it.
        version: ``major.minor``.
        configurable_features: in the service's order.
        metadata: as JSON says it.
        aliases: other names that lead to the setting.
    """

    name: str
    type: str
    default_value: Any
    version: str
    configurable_features: list[str] = field(default_factory=list[str])
    metadata: dict[str, Any] = field(default_factory=dict[str, Any])
    aliases: list[str] = field(default_factory=list[str])


def without_frames(error: ErrorT) -> ErrorT:
    """Return *error* as it can be kept: the frames that it went through hold all that they worked on.

    So do those of its causes, and of what else was being handled, which is nothing of its own.
    """
    each: BaseException | None = error
    while each is not None and (each.__traceback__ or each.__context__):
        # Past what a class may have of its own: it may be frozen.
        object.__setattr__(each, "__context__", None)
        each = each.with_traceback(None).__cause__
    return error
