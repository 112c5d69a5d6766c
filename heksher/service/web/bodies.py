"""Parsers of request bodies, as lenient as the protocol: from bytes to checked fields.

Pure. Each refusal is a ``Refusal`` with the protocol's status.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from heksher._names import (
    METADATA_KEY_RULE,
    SETTING_NAME_RULE,
    VERSION_RULE,
    WORD_RULE,
    is_condition_value,
    is_feature_name,
    is_metadata_key,
    is_setting_name,
    is_version,
)
from heksher.service.domain import json_values, setting_types
from heksher.service.domain.declarations import DeclaredSetting
from heksher.service.domain.json_values import Json
from heksher.service.domain.messages import FIRST_VERSION, Refused
from heksher.service.domain.refusals import Refusal, malformed
from heksher.service.domain.setting_types import WireType

# Maximum number of digits that int() accepts.
_MAX_VERSION_DIGITS = 4300


def read_object(
    body: bytes, content_type: str | None, *, unique_keys: bool = True
) -> dict[str, Json]:
    """Parse a JSON body into its fields. A list of pairs is accepted instead of an object.

    Args:
        body: the bytes of the body.
        content_type: the header, if there is one.
        unique_keys: whether to refuse duplicate keys, at any depth. Otherwise the last one counts.

    Raises:
        Refusal: 422 or 400.
    """
    # A web page can send a body without a content type to any service without asking it first.
    if content_type is None or not _is_json(content_type):
        raise malformed("invalid content type: expected a JSON body with application/json")
    try:
        value = json_values.read(body, unique_keys=unique_keys)
    except json_values.InvalidJson as error:
        place = error.path.removeprefix(".") or "the body"
        raise malformed(f"{place}: {error.what}") from error
    except json_values.Unreadable as error:
        raise Refusal(400, body=Refused("There was an error parsing the body")) from error
    return _mapping(value, "the body")


def _is_json(content_type: str) -> bool:
    kind, _, subtype = content_type.partition(";")[0].strip().lower().partition("/")
    return kind == "application" and (subtype == "json" or subtype.endswith("+json"))


def _mapping(value: Json, what: str) -> dict[str, Json]:
    if json_values.is_object(value):
        return value
    if not json_values.is_list(value):
        raise malformed(f"{what} must be an object")
    mapping: dict[str, Json] = {}
    for pair in value:
        match pair:
            case [key, item]:
                mapping[_text(key, f"a key of {what}")] = item
            case _:
                raise malformed(f"{what} must be an object or a list of pairs")
    return mapping


def _text(value: Json, what: str) -> str:
    """Return *value* as a string; numbers and booleans are converted."""
    if isinstance(value, str):
        return value
    if isinstance(value, float) and not math.isfinite(value):
        raise malformed(f"{what}: NaN and infinities are not JSON numbers")
    if isinstance(value, bool | int | float):
        try:
            return str(value)
        except ValueError as error:  # more digits than str() accepts
            raise malformed(f"{what} is too long") from error
    raise malformed(f"{what} must be a string")


def _matching(value: Json, what: str, matches: Callable[[str], bool], rule: str) -> str:
    text = _text(value, what)
    if not matches(text):
        raise malformed(f"{what} must consist of {rule}")
    return text


def required(fields: dict[str, Json], name: str) -> Json:
    """Return a field that must be present. Its value may be null."""
    if name not in fields:
        raise malformed(f"missing field {name}")
    return fields[name]


def place(fields: dict[str, Json]) -> tuple[str, bool]:
    """Parse the target position of a feature: another name, and whether to move after it.

    The name can be any string. ``to_after`` takes precedence over ``to_before``; null counts as
    missing.
    """
    for field in ("to_after", "to_before"):
        if fields.get(field) is not None:
            return _text(fields[field], field), field == "to_after"
    raise malformed("to_after or to_before must name a context feature")


def setting_name(fields: dict[str, Json], field: str) -> str:
    """Parse a field with the name of a setting."""
    return _matching(required(fields, field), field, is_setting_name, SETTING_NAME_RULE)


def feature_name(fields: dict[str, Json], field: str) -> str:
    """Parse a field with the name of a context feature."""
    return _matching(required(fields, field), field, is_feature_name, WORD_RULE)


def version(fields: dict[str, Json]) -> str:
    """Parse the required field ``version``."""
    value = _text(required(fields, "version"), "version")
    if not is_version(value):
        raise malformed(f"version must be {VERSION_RULE}")
    if max(map(len, value.split("."))) > _MAX_VERSION_DIGITS:
        raise malformed("version is too long")
    return value


def setting_type(fields: dict[str, Json], field: str = "type") -> WireType:
    """Parse a field with a setting type."""
    try:
        return setting_types.parse(_text(required(fields, field), field))
    except setting_types.InvalidType as error:
        raise malformed(f"{field}: {error}") from error


def check_storable(value: Json, field: str, *, is_metadata: bool = False) -> None:
    """Refuse a value that cannot be stored."""
    try:
        json_values.check_storable(value, is_metadata=is_metadata)
    except json_values.InvalidJson as error:
        raise malformed(f"{field}{error.path}: {error.what}") from error


def metadata(fields: dict[str, Json]) -> dict[str, Json]:
    """Parse the field ``metadata`` into its stored form; empty if it is missing."""
    given = _mapping(fields.get("metadata", {}), "metadata")
    return {
        metadata_key(key): _metadata_value(item, f"metadata.{key}") for key, item in given.items()
    }


def metadata_key(key: str) -> str:
    """Check a key of metadata, from a body or a path."""
    return _matching(key, "a key of metadata", is_metadata_key, METADATA_KEY_RULE)


def metadata_value(fields: dict[str, Json]) -> Json:
    """Parse the field ``value`` as the value of a metadata key, into its stored form."""
    return _metadata_value(required(fields, "value"), "value")


def _metadata_value(value: Json, what: str) -> Json:
    check_storable(value, what, is_metadata=True)
    return json_values.normal_metadata(value)


def conditions(fields: dict[str, Json]) -> dict[str, str]:
    """Parse the field ``feature_values`` of a new rule: at least one condition."""
    given = _mapping(required(fields, "feature_values"), "feature_values")
    found = {
        _matching(feature, "each feature of feature_values", is_feature_name, WORD_RULE): _matching(
            wanted, f"feature_values.{feature}", is_condition_value, WORD_RULE
        )
        for feature, wanted in given.items()
    }
    if not found:
        raise malformed("feature_values must not be empty")
    return found


def configurable_features(fields: dict[str, Json]) -> tuple[str, ...]:
    """Parse the field ``configurable_features``: at least one valid name. Duplicates are dropped."""
    found = texts_of_features(fields)
    for name in found:
        _matching(name, "each of configurable_features", is_feature_name, WORD_RULE)
    return found


def texts_of_features(fields: dict[str, Json]) -> tuple[str, ...]:
    """Parse the field ``configurable_features`` where the protocol accepts any strings in it."""
    found = required(fields, "configurable_features")
    if not json_values.is_list(found) or not found:
        raise malformed("configurable_features must be a list of at least one context feature")
    return tuple(dict.fromkeys(_text(name, "each of configurable_features") for name in found))


def declaration(fields: dict[str, Json]) -> DeclaredSetting:
    """Parse the body of a declaration."""
    name = setting_name(fields, "name")
    alias = setting_name(fields, "alias") if fields.get("alias") is not None else None
    if alias == name:
        raise malformed("alias must differ from name")
    declared = DeclaredSetting(
        name=name,
        features=configurable_features(fields),
        type=setting_type(fields),
        default_value=required(fields, "default_value"),
        metadata=metadata(fields),
        alias=alias,
        version=version(fields) if "version" in fields else FIRST_VERSION,
    )
    if not declared.type.contains(declared.default_value):
        raise malformed(f"default_value does not have type {declared.type}")
    check_storable(declared.default_value, "default_value")
    return declared
