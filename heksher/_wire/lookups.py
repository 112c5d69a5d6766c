"""What a service has beside rules: its health, context features, and settings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import msgspec

from heksher._application_code import get_logger
from heksher._text import excerpt, shown
from heksher._wire.decoding import Undecoded, bounded, decode_body, decode_objects, split
from heksher._wire.messages import Exchange, Request, Response
from heksher._wire.queries import quoted
from heksher.exceptions import InvalidResponseError
from heksher.status import SettingData

_logger = get_logger(__name__)

# The bytes of a list of context features, and the names in it. Each feature is one bit in the
# priority of a rule, so that a list as long as a list of settings could be would cost too much.
_MAX_FEATURES_BYTES = 1_000_000
_MAX_FEATURES = 10_000
# The names and aliases in a list of settings. Catalogues of thousands of settings are large ones.
_MAX_NAMES = 50_000
# Name at most this many unreadable settings in the log, one line each.
_MAX_LOGGED = 20


def health() -> Exchange[None]:
    """Ask whether the service is healthy. The status alone says it, whatever the body is."""
    return Exchange(Request("GET", "api/health", reads_body=False), lambda _: None)


class _Features(msgspec.Struct):
    context_features: list[str]


@dataclass(frozen=True, slots=True)
class ContextFeatures:
    """The service's context features.

    Attributes:
        names: in the service's order: rules on later ones win.
        revision: the revision at which they were read, if the service names it.
    """

    names: tuple[str, ...] = ()
    revision: str | None = None


def context_features() -> Exchange[ContextFeatures]:
    """Ask for the context features."""
    what = "the list of context features"

    def read(response: Response) -> ContextFeatures:
        features = decode_body(response.body, _Features, what, _MAX_FEATURES_BYTES).context_features
        if len(features) > _MAX_FEATURES:
            raise InvalidResponseError(
                f"{what} has {len(features)} names; at most {_MAX_FEATURES} are read"
            )
        for feature, count in Counter(features).items():
            if count > 1:
                raise InvalidResponseError(f"{what} has the name {shown(feature)} {count} times")
        return ContextFeatures(tuple(features), response.revision)

    return Exchange(Request("GET", "api/v1/context_features"), read)


class _Settings(msgspec.Struct):
    settings: Undecoded


def settings(names: Iterable[str] | None = None) -> Exchange[dict[str, SettingData]]:
    """Ask for settings of the service, without their rules. The result is by current name.

    A setting that cannot be read is left out, with a warning, as if the service did not have it.

    Args:
        names: names or aliases; unknown ones are left out. None: all settings. The original service
            ignores it, and lists all.
    """
    what = "the list of settings"

    def read(response: Response) -> dict[str, SettingData]:
        array = split(bounded(response.body, what), _Settings, what).settings
        found: dict[str, SettingData] = {}
        names = uncounted = 0
        for batch in decode_objects(array, SettingData, what, "the setting", _MAX_LOGGED):
            for problem in batch.problems:
                _logger.warning("%s: left out: %s", what, problem)
            uncounted += batch.unreadable - len(batch.problems)
            for setting in batch.objects:
                found[setting.name] = setting
                names += 1 + len(setting.aliases)
            if names > _MAX_NAMES:
                raise InvalidResponseError(
                    f"{what} has too many names and aliases: at most {_MAX_NAMES} are read"
                )
        if uncounted:
            _logger.warning("%s: left out: %s more that cannot be read", what, uncounted)
        return found

    target = "api/v1/settings?include_additional_data=true"
    if names is not None:
        target += f"&settings={','.join(map(quoted, names))}"
    return Exchange(Request("GET", target), read)


def setting(name: str) -> Exchange[SettingData | None]:
    """Ask for the setting with this name or alias. None: the service has none."""
    what = f"the setting {name!r}"

    def read(response: Response) -> SettingData | None:
        if response.status == 404:
            # Gateways answer 404 as well. This is the original service's answer.
            if response.body != f"the setting {name} does not exist".encode():
                raise InvalidResponseError(f"{what}: unknown answer {excerpt(response.body, 100)}")
            return None
        return decode_body(response.body, SettingData, what)

    target = f"api/v1/settings/{quoted(name)}"
    return Exchange(Request("GET", target, expected=frozenset((200, 404))), read)
