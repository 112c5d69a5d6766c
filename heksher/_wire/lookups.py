"""The requests that take no argument: health, context features, and the list of all settings."""

from __future__ import annotations

import logging

import msgspec

from heksher._wire.decoding import MANY, MOST_PROBLEMS, check_number, decode, decode_each
from heksher._wire.messages import Exchange, Request, Response
from heksher.exceptions import InvalidResponseError
from heksher.status import SettingData

_logger = logging.getLogger(__name__)

# Of what is bounded in number by itself: the list of context features.
_LARGEST_LIST = 1_000_000


class _Health(msgspec.Struct):
    version: str


def health() -> Exchange[str]:
    """Ask whether the service is well; answered with its version."""

    def read(response: Response) -> str:
        return decode(response.body, _Health, "the answer to the health check").version

    return Exchange(Request("GET", "api/health"), read)


class _Features(msgspec.Struct):
    context_features: list[str]


def context_features() -> Exchange[tuple[str, ...]]:
    """Ask for the context features; answered in the order that ranks rules, lowest first."""

    def read(response: Response) -> tuple[str, ...]:
        # Each is a bit in the ranks of rules, and compared with those here.
        if len(response.body) > _LARGEST_LIST:
            raise InvalidResponseError(
                f"the list of context features: {len(response.body)} bytes make no sense"
            )
        answer = decode(response.body, _Features, "the list of context features")
        if len(answer.context_features) > MANY:
            raise InvalidResponseError(
                f"the list of context features: {len(answer.context_features)} make no sense"
            )
        if len(set(answer.context_features)) != len(answer.context_features):
            raise InvalidResponseError("the list of context features names one twice")
        return tuple(answer.context_features)

    return Exchange(Request("GET", "api/v1/context_features"), read)


class _Settings(msgspec.Struct):
    settings: list[msgspec.Raw]


def settings() -> Exchange[dict[str, SettingData]]:
    """Ask for all settings of the service, with everything but their rules; by name."""

    def read(response: Response) -> dict[str, SettingData]:
        answer = decode(response.body, _Settings, "the list of settings")
        check_number(answer.settings, len(response.body), "the list of settings")
        read, problems = decode_each(answer.settings, SettingData, MOST_PROBLEMS)
        # One that cannot be read harms no other: it counts as one that is not there.
        for problem in problems:
            _logger.warning("the list of settings: left out: %s", problem)
        return {setting.name: setting for setting in read}

    return Exchange(Request("GET", "api/v1/settings?include_additional_data=true"), read)
