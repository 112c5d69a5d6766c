"""Bodies of requests and responses as types. The OpenAPI document is generated from them.

Pure data. Response bodies are instances of these types. Request bodies are described here in the
form that clients should send; ``bodies`` parses them and accepts more, and the tests compare the two.
The document uses the names and docstrings of these types, so changing one changes the document.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

from msgspec import UNSET, Meta, Struct, UnsetType

from heksher._names import (
    METADATA_KEY,
    METADATA_KEY_RULE,
    SETTING_NAME,
    SETTING_NAME_RULE,
    VERSION,
    WORD,
    WORD_RULE,
)

FIRST_VERSION = "1.0"

SettingName: TypeAlias = Annotated[
    str, Meta(pattern=f"^{SETTING_NAME}$", description=f"a setting's name: {SETTING_NAME_RULE}")
]
FeatureName: TypeAlias = Annotated[
    str, Meta(pattern=f"^{WORD}$", description=f"a context feature: {WORD_RULE}")
]
ConditionValue: TypeAlias = Annotated[
    str, Meta(pattern=f"^{WORD}$", description=f"required value of the feature: {WORD_RULE}")
]
MetadataKey: TypeAlias = Annotated[
    str,
    Meta(pattern=f"^{METADATA_KEY}$", description=f"a key of metadata: {METADATA_KEY_RULE}"),
]
# A sequence, not a tuple: not every tool understands how JSON Schema describes tuples.
Condition: TypeAlias = Annotated[
    Sequence[str],
    Meta(min_length=2, max_length=2, description="a context feature and its required value"),
]
Version: TypeAlias = Annotated[
    str,
    Meta(pattern=f"^{VERSION}$", description="major and minor number, compared as numbers"),
]
SettingType: TypeAlias = Annotated[
    str,
    Meta(
        pattern=r"^(int|float|str|bool|(Enum|Flags)\[.*\]|(Sequence|Mapping)<.+>)$",
        description="int, float, str, bool, Enum[…], Flags[…], Sequence<…> or Mapping<…>, as in "
        'Sequence<Enum["a","b"]>',
        examples=["int", 'Enum["a","b"]', "Mapping<float>"],
    ),
]
# Any JSON: a value of a setting or rule, or a value in metadata. Stored JSON text is wrapped in
# `msgspec.Raw` and sent unchanged.
Value: TypeAlias = Any
Metadata: TypeAlias = Annotated[Mapping[str, Value], Meta(description="free JSON under keys")]
NewMetadata: TypeAlias = dict[MetadataKey, Value]


class ResponseBody(Struct):
    """Body of a response that is not a refusal; base class of those below."""

    status: ClassVar[int] = 200


class Health(ResponseBody):
    """The version of the service."""

    version: str
    last_write: (
        Annotated[
            Literal["failed"],
            Meta(description="present if the last write to the database failed"),
        ]
        | UnsetType
    ) = UNSET


class Unhealthy(ResponseBody):
    """The version of a service whose database does not answer."""

    status: ClassVar[int] = 500

    version: str


class Refused(Struct):
    """The reason of a refusal."""

    detail: str


class Problem(Struct):
    """One problem of a request; the message is for people."""

    msg: str


class Malformed(Struct):
    """The problems of a request."""

    detail: list[Problem]


# --- context features -----------------------------------------------------------------------------


class ContextFeatures(ResponseBody):
    """All context features, in order. Of two rules, the one on the later feature wins."""

    context_features: Sequence[str]


class FeatureIndex(ResponseBody):
    """Position of a context feature, counted from 0."""

    index: int


class NewFeature(Struct):
    """A context feature to add."""

    context_feature: FeatureName


class AfterFeature(Struct):
    """The context feature after which another one is placed."""

    to_after: str


class BeforeFeature(Struct):
    """The context feature before which another one is placed."""

    to_before: str


# --- settings -------------------------------------------------------------------------------------


class Declaration(Struct, omit_defaults=True):
    """A setting as an application declares it."""

    name: SettingName
    configurable_features: Annotated[list[FeatureName], Meta(min_length=1)]
    type: SettingType
    default_value: Value
    metadata: NewMetadata = {}
    alias: SettingName | None = None
    version: Version = FIRST_VERSION


# The weight of a difference.
Level: TypeAlias = Literal["minor", "major", "mismatch"]


class Difference(Struct):
    """A difference between a declaration and the service: a message or an attribute."""

    level: Level
    message: str | UnsetType = UNSET
    attribute: str | UnsetType = UNSET
    latest_value: Annotated[Value, Meta(description="the service's value")] = UNSET


class Created(ResponseBody, tag_field="outcome", tag="created"):
    """The setting was created."""


class UpToDate(ResponseBody, tag_field="outcome", tag="uptodate"):
    """The setting equals the declaration."""


class Upgraded(ResponseBody, tag_field="outcome", tag="upgraded"):
    """The setting was changed to the declaration."""

    previous_version: str
    differences: list[Difference]


class Outdated(ResponseBody, tag_field="outcome", tag="outdated"):
    """The service has a newer version and keeps it."""

    latest_version: str
    differences: list[Difference]


class Mismatch(ResponseBody, tag_field="outcome", tag="mismatch"):
    """The version is the same, but the setting differs."""

    status: ClassVar[int] = 409

    differences: list[Difference]


class Rejected(ResponseBody, tag_field="outcome", tag="rejected"):
    """The new version changes more than allowed."""

    status: ClassVar[int] = 409

    previous_version: str
    differences: list[Difference]


# Outcomes of declaring a setting that exists.
Compared: TypeAlias = UpToDate | Upgraded | Outdated | Mismatch | Rejected


class ShortSetting(ResponseBody):
    """A setting."""

    name: str
    type: SettingType
    default_value: Value
    version: str


class Setting(ShortSetting):
    """A setting with features, metadata and aliases."""

    configurable_features: Sequence[str]
    metadata: Metadata
    aliases: Sequence[str]


class ShortSettings(ResponseBody):
    """All settings."""

    settings: list[ShortSetting]


class Settings(ResponseBody):
    """All settings with features, metadata and aliases."""

    settings: list[Setting]


class NewType(Struct):
    """A new type for a setting."""

    type: SettingType
    version: Version


class NewName(Struct):
    """A new name for a setting."""

    name: SettingName
    version: Version


class NewFeatures(Struct):
    """New configurable features for a setting."""

    configurable_features: Annotated[list[str], Meta(min_length=1)]
    version: Version


class Conflicts(Struct):
    """What prevents a change of type."""

    conflicts: list[str]


# --- rules ----------------------------------------------------------------------------------------


class NewRule(Struct, omit_defaults=True):
    """A rule to add."""

    setting: SettingName
    feature_values: Annotated[dict[FeatureName, ConditionValue], Meta(min_length=1)]
    value: Value
    metadata: NewMetadata = {}


class RuleId(ResponseBody):
    """The id of a rule."""

    rule_id: int


class Rule(ResponseBody):
    """A rule."""

    setting: str
    value: Value
    feature_values: Sequence[Condition]
    metadata: Metadata


class NewValue(Struct):
    """A new value for a rule or a key of metadata."""

    value: Value


# --- metadata -------------------------------------------------------------------------------------


class MetadataOf(ResponseBody):
    """The metadata of a setting or a rule."""

    metadata: Metadata


class RuleMetadataChange(Struct, omit_defaults=True):
    """Metadata for a rule."""

    metadata: NewMetadata = {}


class SettingMetadataChange(Struct, omit_defaults=True):
    """Metadata for a setting, and its new version."""

    version: Version
    metadata: NewMetadata = {}


class SettingMetadataValue(Struct):
    """A new value for a key of a setting's metadata, and the setting's new version."""

    value: Value
    version: Version


class VersionOnly(Struct):
    """The new version of a setting."""

    version: Version


# --- the query ------------------------------------------------------------------------------------


class QueriedRule(Struct):
    """A rule."""

    value: Value
    context_features: Sequence[Condition]
    rule_id: int
    metadata: Metadata | UnsetType = UNSET


class QueriedSetting(Struct):
    """A setting's default value and the rules that pass the filter."""

    default_value: Value
    rules: list[QueriedRule]


class QueryAnswer(ResponseBody):
    """The requested settings, by name."""

    settings: dict[str, QueriedSetting]
