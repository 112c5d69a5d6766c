"""Requests without arguments: health, context features, and the list of all settings."""

from __future__ import annotations

from collections import Counter

import msgspec

from heksher._application_code import get_logger
from heksher._text import shown
from heksher._wire.decoding import Undecoded, check_number, check_size, decode, decode_each
from heksher._wire.messages import Exchange, Request, Response
from heksher.exceptions import InvalidResponseError
from heksher.status import SettingData

_logger = get_logger(__name__)

# The bytes of a list of context features, and the names in it. Each feature is one bit in the
# priority of a rule, so that a list as long as a list of settings could be would cost too much.
_MAX_FEATURES_BYTES = 1_000_000
_MAX_FEATURES = 10_000
# Name at most this many unreadable settings in the log, one line each.
_MAX_LOGGED = 20


def health() -> Exchange[None]:
    """Ask whether the service is healthy. The status alone says it, whatever the body is."""
    return Exchange(Request("GET", "api/health", reads_body=False), lambda _: None)


class _Features(msgspec.Struct):
    context_features: list[str]


def context_features() -> Exchange[tuple[str, ...]]:
    """Ask for the context features. The result has the service's order: rules on later ones win."""
    what = "the list of context features"

    def read(response: Response) -> tuple[str, ...]:
        check_size(response.body, what, _MAX_FEATURES_BYTES)
        features = decode(response.body, _Features, what).context_features
        if len(features) > _MAX_FEATURES:
            raise InvalidResponseError(
                f"{what} has {len(features)} names; at most {_MAX_FEATURES} are read"
            )
        for feature, count in Counter(features).items():
            if count > 1:
                raise InvalidResponseError(f"{what} has the name {shown(feature)} {count} times")
        return tuple(features)

    return Exchange(Request("GET", "api/v1/context_features"), read)


class _Settings(msgspec.Struct):
    settings: list[Undecoded]


def settings() -> Exchange[dict[str, SettingData]]:
    """Ask for all settings of the service, without their rules. The result is by current name.

    A setting that cannot be read is left out, with a warning, as if the service did not have it.
    """
    what = "the list of settings"

    def read(response: Response) -> dict[str, SettingData]:
        parts = decode(response.body, _Settings, what).settings
        check_number(parts, len(response.body), what)
        found, problems = decode_each(parts, SettingData, "the setting", _MAX_LOGGED)
        for problem in problems:
            _logger.warning("%s: left out: %s", what, problem)
        return {setting.name: setting for setting in found}

    return Exchange(Request("GET", "api/v1/settings?include_additional_data=true"), read)
