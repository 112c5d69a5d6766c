"""The bodies of requests and answers as types, from which the OpenAPI document is made.

Pure data. Answers are instances of these types, encoded as they are. Bodies of requests stand here in
the form that clients should send; what else is taken is ``bodies``' affair, and the tests hold the
two against each other.
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
    str, Meta(pattern=f"^{WORD}$", description=f"what the feature must be: {WORD_RULE}")
]
MetadataKey: TypeAlias = Annotated[
    str,
    Meta(pattern=f"^{METADATA_KEY}$", description=f"a key of metadata: {METADATA_KEY_RULE}"),
]
# Of any length to Python, since not every tool reads what JSON Schema has for tuples.
Condition: TypeAlias = Annotated[
    Sequence[str],
    Meta(min_length=2, max_length=2, description="a context feature and what it must be"),
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
# Any JSON: a value of whatever type the setting has, or what stands under a key of metadata. What is
# stored as JSON is a `msgspec.Raw`, and goes out as it is.
Value: TypeAlias = Any
Metadata: TypeAlias = Annotated[Mapping[str, Value], Meta(description="free JSON under keys")]
NewMetadata: TypeAlias = dict[MetadataKey, Value]


class Answer(Struct):
    """What a handler answers with, as JSON, if it refuses nothing."""

    status: ClassVar[int] = 200


class Health(Answer):
    """The version of the service."""

    version: str
    last_write: (
        Annotated[
            Literal["failed"],
            Meta(description="there while the database took no write when it was last given one"),
        ]
        | UnsetType
    ) = UNSET


class Unhealthy(Answer):
    """The version of a service whose database does not answer."""

    status: ClassVar[int] = 500

    version: str


class Refused(Struct):
    """Why a request was refused."""

    detail: str


class Problem(Struct):
    """One thing that is wrong with a request; the words are for people."""

    msg: str


class Malformed(Struct):
    """What is wrong with a request."""

    detail: list[Problem]


# --- context features -----------------------------------------------------------------------------


class ContextFeatures(Answer):
    """All context features, in order: of two rules the one on the later feature is stronger."""

    context_features: Sequence[str]


class FeatureIndex(Answer):
    """Where a context feature stands, counted from 0."""

    index: int


class NewFeature(Struct):
    """A context feature to be added."""

    context_feature: FeatureName


class AfterFeature(Struct):
    """The context feature behind which another one is put."""

    to_after: str


class BeforeFeature(Struct):
    """The context feature before which another one is put."""

    to_before: str


# --- settings -------------------------------------------------------------------------------------


class Declaration(Struct, omit_defaults=True):
    """A setting as an application believes it to be."""

    name: SettingName
    configurable_features: Annotated[list[FeatureName], Meta(min_length=1)]
    type: SettingType
    default_value: Value
    metadata: NewMetadata = {}
    alias: SettingName | None = None
    version: Version = FIRST_VERSION


# How much a difference changes.
Level: TypeAlias = Literal["minor", "major", "mismatch"]


class Difference(Struct):
    """What differs between a declaration and the service: a message, or an attribute."""

    level: Level
    message: str | UnsetType = UNSET
    attribute: str | UnsetType = UNSET
    latest_value: Annotated[Value, Meta(description="what the service has")] = UNSET


class Created(Answer, tag_field="outcome", tag="created"):
    """The setting is new."""


class UpToDate(Answer, tag_field="outcome", tag="uptodate"):
    """The setting is as it was declared."""


class Upgraded(Answer, tag_field="outcome", tag="upgraded"):
    """The setting was changed to what was declared."""

    previous_version: str
    differences: list[Difference]


class Outdated(Answer, tag_field="outcome", tag="outdated"):
    """The service has a newer version, which stays."""

    latest_version: str
    differences: list[Difference]


class Mismatch(Answer, tag_field="outcome", tag="mismatch"):
    """The version is the same and the setting is not."""

    status: ClassVar[int] = 409

    differences: list[Difference]


class Rejected(Answer, tag_field="outcome", tag="rejected"):
    """The new version changes more than it may."""

    status: ClassVar[int] = 409

    previous_version: str
    differences: list[Difference]


# What comes of the declaration of a setting that there is.
Compared: TypeAlias = UpToDate | Upgraded | Outdated | Mismatch | Rejected


class ShortSetting(Answer):
    """A setting."""

    name: str
    type: SettingType
    default_value: Value
    version: str


class Setting(ShortSetting):
    """A setting with all that is known of it."""

    configurable_features: Sequence[str]
    metadata: Metadata
    aliases: Sequence[str]


class ShortSettings(Answer):
    """All settings."""

    settings: list[ShortSetting]


class Settings(Answer):
    """All settings with all that is known of them."""

    settings: list[Setting]


class NewType(Struct):
    """Another type for a setting."""

    type: SettingType
    version: Version


class NewName(Struct):
    """Another name for a setting."""

    name: SettingName
    version: Version


class NewFeatures(Struct):
    """Other configurable features for a setting."""

    configurable_features: Annotated[list[str], Meta(min_length=1)]
    version: Version


class Conflicts(Struct):
    """What is in the way of another type."""

    conflicts: list[str]


# --- rules ----------------------------------------------------------------------------------------


class NewRule(Struct, omit_defaults=True):
    """A rule to be added."""

    setting: SettingName
    feature_values: Annotated[dict[FeatureName, ConditionValue], Meta(min_length=1)]
    value: Value
    metadata: NewMetadata = {}


class RuleId(Answer):
    """The id of a rule."""

    rule_id: int


class Rule(Answer):
    """A rule."""

    setting: str
    value: Value
    feature_values: Sequence[Condition]
    metadata: Metadata


class NewValue(Struct):
    """Another value, for a rule or under a key of metadata."""

    value: Value


# --- metadata -------------------------------------------------------------------------------------


class MetadataOf(Answer):
    """The metadata of a setting or a rule."""

    metadata: Metadata


class RuleMetadataChange(Struct, omit_defaults=True):
    """Metadata for a rule."""

    metadata: NewMetadata = {}


class SettingMetadataChange(Struct, omit_defaults=True):
    """Metadata for a setting, and the version that comes with it."""

    version: Version
    metadata: NewMetadata = {}


class SettingMetadataValue(Struct):
    """What stands under a key of a setting's metadata, and the version that comes with it."""

    value: Value
    version: Version


class VersionOnly(Struct):
    """The version that comes with a change."""

    version: Version


# --- the query ------------------------------------------------------------------------------------


class QueriedRule(Struct):
    """A rule."""

    value: Value
    context_features: Sequence[Condition]
    rule_id: int
    metadata: Metadata | UnsetType = UNSET


class QueriedSetting(Struct):
    """A setting's default value, and those of its rules that pass the filter."""

    default_value: Value
    rules: list[QueriedRule]


class QueryAnswer(Answer):
    """The settings asked for, by name."""

    settings: dict[str, QueriedSetting]
