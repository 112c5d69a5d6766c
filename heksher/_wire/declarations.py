"""Declaring a setting: what is sent, and what the service answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import msgspec

from heksher._text import excerpt, shown
from heksher._wire.decoding import Undecoded, decode_body
from heksher._wire.messages import Exchange, Request, Response
from heksher.exceptions import InvalidResponseError
from heksher.status import DeclarationState

# The protocol's outcomes. A `DeclarationState` equals its word.
_ACCEPTED = frozenset(("created", "uptodate", "upgraded", "outdated"))
_OUTCOMES = _ACCEPTED | {"mismatch", "rejected"}
# How the service refuses a declaration without an outcome. The body is JSON with a `detail`. It also
# refuses by a text, but nothing that a client declares after it has looked at the service.
_REFUSALS = frozenset((400, 404, 422))
# The answer of its framework to an unknown path.
_NO_SUCH_PATH = b'{"detail":"Not Found"}'
# Refusals that pass: new credentials or a second try may help.
_PASSING = frozenset((401, 407, 408, 425, 429))
# Keep at most this many differences of an answer; a setting has five attributes.
_MAX_DIFFERENCES = 20


@dataclass(frozen=True, slots=True)
class Declaration:
    """A setting as an application declares it. The attributes are the fields of the request's body.

    Attributes:
        name: the setting's name.
        type: its type in the normal spelling.
        configurable_features: names, in any order.
        default_value: the JSON value.
        metadata: JSON values by key.
        alias: another name by which the service may know the setting.
        version: ``major.minor``.
    """

    name: str
    type: str
    configurable_features: tuple[str, ...]
    default_value: Any
    metadata: Mapping[str, Any] = field(default_factory=dict[str, Any])
    alias: str | None = None
    version: str = "1.0"


class Difference(msgspec.Struct, frozen=True):
    """One attribute in which a declaration differs from the setting that the service has.

    Attributes:
        level: minor, major or mismatch.
        attribute: the attribute's name, or None if there is a message.
        latest_value: the attribute's JSON value on the service.
        message: the service's description of the difference, instead of the two.
    """

    level: str
    attribute: str | None = None
    latest_value: Any = None
    message: str | None = None


@dataclass(frozen=True, slots=True)
class DeclarationAnswer:
    """The service's answer to a declaration.

    Attributes:
        state: the outcome; `REFUSED` for a refusal without one.
        differences: between the declaration and the setting that the service has, or had before.
        service_version: the version that the service has, or had before, if the answer has it.
        text: the status and the words of the answer, for a refusal without an outcome.
        is_foreign: whether it is no answer of a Heksher's. A firewall refuses to send declarations, for
            example, or a gateway answers itself while the service is replaced.
    """

    state: DeclarationState
    differences: tuple[Difference, ...] = ()
    service_version: str | None = None
    text: str = ""
    is_foreign: bool = False

    @property
    def accepted(self) -> bool:
        """Whether the service has the setting as it was declared, or a newer version of it."""
        return self.state in _ACCEPTED


class _Declared(msgspec.Struct):
    outcome: str | None = None
    differences: list[Difference] = []
    latest_version: str | None = None
    previous_version: str | None = None


class _Refused(msgspec.Struct):
    detail: Undecoded


def declare(declaration: Declaration) -> Exchange[DeclarationAnswer]:
    """Declare a setting."""
    body = asdict(declaration)
    if declaration.alias is None:
        del body["alias"]
    what = f"the answer to the declaration of setting {declaration.name!r}"

    def read(response: Response) -> DeclarationAnswer:
        refusal = DeclarationAnswer(
            DeclarationState.REFUSED, text=f"HTTP {response.status}: {excerpt(response.body, 1000)}"
        )
        # Some firewalls send their pages with status 200.
        is_page = "html" in response.headers.get("content-type", "")
        if response.status not in (200, 409) or is_page:
            return refusal if _is_own_refusal(response) else replace(refusal, is_foreign=True)
        answer = decode_body(response.body, _Declared, what)
        if answer.outcome is None and response.status == 409:
            return refusal  # the alias belongs to another setting
        if answer.outcome not in _OUTCOMES:
            raise InvalidResponseError(f"{what} has the unknown outcome {shown(answer.outcome)}")
        return DeclarationAnswer(
            DeclarationState(answer.outcome),
            tuple(answer.differences[:_MAX_DIFFERENCES]),
            answer.latest_version or answer.previous_version,
        )

    request = Request(
        "POST",
        "api/v1/settings/declare",
        headers=(("content-type", "application/json"),),
        body=msgspec.json.encode(body),
        expected=frozenset((200, *range(400, 500))) - _PASSING,
    )
    return Exchange(request, read)


def _is_own_refusal(response: Response) -> bool:
    """Whether *response* is a Heksher's."""
    if response.status not in _REFUSALS or response.body == _NO_SUCH_PATH:
        return False
    try:
        decode_body(response.body, _Refused, "the refusal")
    except InvalidResponseError:
        return False
    return True
