"""What a client reports about itself and about the service. Pure data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from itertools import islice
from typing import Any

from heksher._text import counted, named, some

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


# Show the texts of at most this many settings.
_MAX_SHOWN = 100


class ClientState(StrEnum):
    """The state of a client."""

    NEW = "new"  # not started, or its start failed
    STARTING = "starting"  # until the first rules are published, or the start fails
    RUNNING = "running"  # also while the service is unreachable
    RESTING = "resting"  # serves nothing, since another client is the main one; polls nothing
    INHERITED = "inherited"  # in a forked child: no updates until it is started there
    CLOSED = "closed"  # final


class DataSource(StrEnum):
    """Where the rules that settings answer from came from."""

    DEFAULTS = "defaults"  # there are none, only the default values of the application
    SNAPSHOT = "snapshot"  # the snapshot file, until the service has answered
    SERVICE = "service"  # the service, even if it is unreachable now
    FILE = "file"  # a file that is the service, even if it cannot be read now


class DeclarationState(StrEnum):
    """The result of a setting's declaration. The first six are the service's own words.

    `CREATED` to `OUTDATED` mean that the service has the setting as it is declared here, or a newer
    version. `MISMATCH`, `REJECTED` and `REFUSED` mean that the declaration has to be changed.
    """

    CREATED = "created"
    UPTODATE = "uptodate"  # also if nothing had to be declared
    UPGRADED = "upgraded"
    OUTDATED = "outdated"
    MISMATCH = "mismatch"
    REJECTED = "rejected"
    REFUSED = "refused"  # for another reason, such as an unknown feature
    FAILED = "failed"  # the service failed; the declaration will be tried again
    RENAMED = "renamed"  # it was renamed on the service, and so is not declared from here
    DELETED = "deleted"  # it was deleted on the service, possibly again after it was declared anew
    PENDING = "pending"  # not declared yet


@dataclass(frozen=True, slots=True)
class DeclaredSetting:
    """The result of one setting's declaration, with details.

    Attributes:
        state: the result.
        service_version: the version that the service has or had, if known.
        differences: one text for each attribute that differs, with its value here and on the service
            and the level of the difference. Also one if the service does not know the alias.
        refusal: why the declaration was not accepted, and what to do; None if it was accepted.
    """

    state: DeclarationState
    service_version: str | None = None
    differences: tuple[str, ...] = ()
    refusal: str | None = None


@dataclass(frozen=True, slots=True)
class RejectedRule:
    """A rule of the service that is not used here. The setting's other rules are used.

    Attributes:
        setting: the setting's name here.
        rule_id: the service's number for the rule; None if the setting's default value or its whole
            section of the answer is not used, or the rule's number cannot be read.
        reason: why it is not used.
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
    """A rule of the service whose value is used in part, because the service has a newer type.

    Attributes:
        setting: the setting's name here.
        rule_id: the service's number for the rule; None for the setting's default value.
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
    """The state of a client's snapshot file (``snapshot=``).

    Attributes:
        path: the file. Bytes in it that are not UTF-8 are shown as escapes.
        is_loaded: whether this client read it at its start.
        written: when its content was written, by this or another process, in seconds since the epoch;
            None if unknown.
        refused: why it was not used at the start, or None. A missing file is not refused.
        error: why it cannot be written, or None.
    """

    path: str
    is_loaded: bool = False
    written: float | None = None
    refused: str | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class ClientStatus:
    """How a client is doing, at the moment when ``client.status`` was read. It does not change later.

    Reading it makes no request. Dates are in seconds since the epoch, as `time.time` returns them.

    Attributes:
        state: new, starting, running, resting, inherited or closed.
        staleness: seconds since the rules of the newest successful update took effect; None before the
            first, and while the client rests. A snapshot does not count, see `snapshot`.
        failures: updates that failed in a row; 0 after a success.
        last_error: the error of the newest failed update, even after a success; None if none failed.
        declarations: the result of each setting's declaration, by its name here.
        rejected_rules: the rules that are not used here, at most 100. Where there are more, each setting
            has some of its rules in it.
        coerced_rules: the rules that are used in part, likewise.
        source: where the rules came from: service, file, snapshot or defaults.
        last_success: the date of the newest successful update, or None.
        last_failure: the date of the newest failed update, or None.
        polls: the number of updates that were tried.
        bytes_received: the size of all answers of the service in bytes, decompressed.
        snapshot: the state of the snapshot file; None if there is none.
        rejected_count: how many rules are not used, also those that `rejected_rules` does not list.
        coerced_count: how many rules are used in part.
        overrides: the names of the client's settings that have an override, by `heksher.override` or by
            the file of the argument ``overrides``.
        overrides_error: why that file is not used as it is now, or None. A missing file is no error.
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
    rejected_count: int = 0
    coerced_count: int = 0
    overrides: tuple[str, ...] = ()
    overrides_error: str | None = None

    @property
    def is_ready(self) -> bool:
        """Whether settings answer from rules of the service, a file or a snapshot, also in outages."""
        return self.source is not DataSource.DEFAULTS

    @property
    def settings(self) -> dict[DeclarationState, tuple[str, ...]]:
        """The names of settings by the result of their declaration, without results that none has."""
        names: dict[DeclarationState, list[str]] = {}
        for name, declared in sorted(self.declarations.items()):
            names.setdefault(declared.state, []).append(name)
        return {state: tuple(names[state]) for state in DeclarationState if state in names}

    @property
    def refusals(self) -> dict[str, str]:
        """Why declarations were not accepted, and what to do, by the setting's name."""
        return {
            name: declared.refusal
            for name, declared in sorted(self.declarations.items())
            if declared.refusal is not None
        }

    @property
    def pending(self) -> tuple[str, ...]:
        """The names of settings whose declaration is yet to be made, or to be tried again."""
        waiting = (DeclarationState.PENDING, DeclarationState.FAILED)
        return tuple(
            name
            for name, declared in sorted(self.declarations.items())
            if declared.state in waiting
        )

    def as_dict(self) -> dict[str, Any]:
        """Return the status in JSON's types. Errors become texts, and `settings` is included.

        Its size is bounded, whatever the service sends: `differences` and `refusals` are those of at
        most 100 settings. `settings` has the names of all.
        """
        differing = (
            (name, each) for name, each in sorted(self.declarations.items()) if each.differences
        )
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
                name: list(declared.differences) for name, declared in islice(differing, _MAX_SHOWN)
            },
            "refusals": dict(islice(self.refusals.items(), _MAX_SHOWN)),
            "rejected_count": self.rejected_count,
            "rejected_rules": [
                {"setting": rule.setting, "rule_id": rule.rule_id, "reason": rule.reason}
                for rule in self.rejected_rules
            ],
            "coerced_count": self.coerced_count,
            "coerced_rules": [
                {
                    "setting": rule.setting,
                    "rule_id": rule.rule_id,
                    "coercions": list(rule.coercions),
                }
                for rule in self.coerced_rules
            ],
            "overrides": list(self.overrides),
            "overrides_error": self.overrides_error,
            "snapshot": None if self.snapshot is None else asdict(self.snapshot),
        }

    def __str__(self) -> str:
        age = "never updated" if self.staleness is None else f"updated {self.staleness:.1f} s ago"
        if self.state is ClientState.RESTING:
            age = "serves no settings"
        parts = [str(self.state), age]
        if self.state is ClientState.INHERITED:
            parts.append("no updates in this process until the client is started in it")
        if self.source is DataSource.SNAPSHOT:
            parts.append("rules of the snapshot")
        if self.failures:
            error = "" if self.last_error is None else f": {named(self.last_error)}"
            parts.append(f"{counted(self.failures, 'failure')} in a row{error}")
        if self.refusals:
            parts.append(f"declarations not accepted: {some([*self.refusals])}")
        if deleted := self.settings.get(DeclarationState.DELETED):
            parts.append(f"deleted on the service: {some(deleted)}")
        others = [each.setting for each in self.rejected_rules if each.rule_id is None]
        if rules := max(self.rejected_count, len(self.rejected_rules)) - len(others):
            parts.append(f"{counted(rules, 'rule')} not used")
        if others:
            parts.append(f"part of the answer not used for {some(sorted({*others}))}")
        if self.overrides:
            parts.append(f"overridden: {some(self.overrides)}")
        if self.overrides_error is not None:
            parts.append(f"overrides not used: {self.overrides_error}")
        if (snapshot := self.snapshot) is not None:
            if snapshot.refused is not None and self.source is not DataSource.SERVICE:
                parts.append(f"snapshot not used: {snapshot.refused}")
            if snapshot.error is not None:
                parts.append(f"snapshot not written: {snapshot.error}")
        return ", ".join(parts)


@dataclass(frozen=True, slots=True)
class SettingData:
    """A setting as the service stores it. ``client.get_settings()`` returns these by name.

    Attributes:
        name: the current name.
        type: the type in the service's spelling.
        default_value: the JSON value.
        version: ``major.minor``.
        configurable_features: in the service's order.
        metadata: the JSON object.
        aliases: other names of the setting.
    """

    name: str
    type: str
    default_value: Any
    version: str
    configurable_features: list[str] = field(default_factory=list[str])
    metadata: dict[str, Any] = field(default_factory=dict[str, Any])
    aliases: list[str] = field(default_factory=list[str])
