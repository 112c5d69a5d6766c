"""Declaring a setting: what is sent, and what the service says to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import msgspec

from heksher._text import excerpt
from heksher._wire.decoding import check_size, decode
from heksher._wire.messages import Exchange, Request, Response
from heksher.exceptions import InvalidResponseError

# Of how many differences an answer to a declaration is believed to tell something.
_MOST_DIFFERENCES = 100


@dataclass(frozen=True, slots=True)
class Declaration:
    """How an application believes a setting to be.

    Attributes:
        name: the setting's name.
        type: its type in normal spelling.
        configurable_features: names, in any order.
        default_value: as JSON says it.
        metadata: as JSON says it.
        alias: another name that the service may know it under.
        version: ``major.minor``.
    """

    name: str
    type: str
    configurable_features: tuple[str, ...]
    default_value: Any
    metadata: Mapping[str, Any] = field(default_factory=dict[str, Any])
    alias: str | None = None
    version: str = "1.0"


class Outcome(StrEnum):
    """What became of a declaration. The last one stands for a refusal without an outcome."""

    CREATED = "created"
    UPTODATE = "uptodate"
    UPGRADED = "upgraded"
    OUTDATED = "outdated"
    MISMATCH = "mismatch"
    REJECTED = "rejected"
    REFUSED = "refused"


class Difference(msgspec.Struct, frozen=True):
    """Where a declaration differs from what the service has.

    Attributes:
        level: minor, major or mismatch.
        attribute: what differs, if the service named it.
        latest_value: what the service has there, as JSON says it.
        message: what the service says instead of the two.
    """

    level: str
    attribute: str | None = None
    latest_value: Any = None
    message: str | None = None


@dataclass(frozen=True, slots=True)
class DeclarationAnswer:
    """What the service says to a declaration.

    Attributes:
        outcome: what became of it.
        differences: between the declaration and what the service has, or had.
        service_version: the version that the service has, or had, if it told.
        text: the reason of a refusal without an outcome, in the service's words.
    """

    outcome: Outcome
    differences: tuple[Difference, ...] = ()
    service_version: str | None = None
    text: str = ""

    @property
    def accepted(self) -> bool:
        """Whether the application may rely on the setting as it declared it, or a newer one."""
        return self.outcome not in (Outcome.MISMATCH, Outcome.REJECTED, Outcome.REFUSED)


class _Declared(msgspec.Struct):
    outcome: str | None = None
    differences: list[Difference] = []
    latest_version: str | None = None
    previous_version: str | None = None


def declare(declaration: Declaration) -> Exchange[DeclarationAnswer]:
    """Declare a setting."""
    wire: dict[str, Any] = {
        "name": declaration.name,
        "configurable_features": list(declaration.configurable_features),
        "type": declaration.type,
        "default_value": declaration.default_value,
        "metadata": dict(declaration.metadata),
        "version": declaration.version,
    }
    if declaration.alias is not None:
        wire["alias"] = declaration.alias
    what = f"the answer to the declaration of setting {declaration.name!r}"

    def read(response: Response) -> DeclarationAnswer:
        text = excerpt(response.body, 1000)
        if response.status not in (200, 409):
            return DeclarationAnswer(Outcome.REFUSED, text=f"HTTP {response.status}: {text}")
        check_size(response.body, what)
        answer = decode(response.body, _Declared, what)
        if answer.outcome is None and response.status == 409:
            # An alias that belongs to another setting has a body of another kind.
            return DeclarationAnswer(Outcome.REFUSED, text=f"HTTP 409: {text}")
        try:
            outcome = Outcome(answer.outcome or "")
        except ValueError:
            raise InvalidResponseError(
                f"{what} has the unknown outcome {answer.outcome!r:.200}"
            ) from None
        return DeclarationAnswer(
            outcome,
            tuple(answer.differences[:_MOST_DIFFERENCES]),
            answer.latest_version or answer.previous_version,
        )

    request = Request(
        "POST",
        "api/v1/settings/declare",
        headers=(("content-type", "application/json"),),
        body=msgspec.json.encode(wire),
        expected=frozenset((200, 400, 404, 409, 422)),
    )
    return Exchange(request, read)
