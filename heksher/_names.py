"""Which texts the protocol takes as names, condition values and versions.

Pure: text in, yes or no out. Whoever asks words the error.
"""

import re

# Regular expressions for the whole of a text, in what JSON Schema and Python have in common.
SETTING_NAME = "[a-zA-Z0-9_.]+"
WORD = "[a-zA-Z0-9_]+"
METADATA_KEY = "[a-zA-Z0-9_-]+"
VERSION = "[0-9]+[.][0-9]+"

# \Z and not $: "$" lets one line feed at the end pass.
_SETTING_NAME = re.compile(rf"{SETTING_NAME}\Z", re.ASCII)
_WORD = re.compile(rf"{WORD}\Z", re.ASCII)
_METADATA_KEY = re.compile(rf"{METADATA_KEY}\Z", re.ASCII)
_VERSION = re.compile(rf"{VERSION}\Z", re.ASCII)

SETTING_NAME_RULE = "ASCII letters, digits, underscores and dots"
WORD_RULE = "ASCII letters, digits and underscores"
METADATA_KEY_RULE = "ASCII letters, digits, underscores and hyphens"
VERSION_RULE = "a string of two decimal numbers with a dot between them"


def is_setting_name(text: str) -> bool:
    """Whether *text* can name a setting, or be an alias of one."""
    return _SETTING_NAME.match(text) is not None


def is_feature_name(text: str) -> bool:
    """Whether *text* can name a context feature."""
    return _WORD.match(text) is not None


def is_condition_value(text: str) -> bool:
    """Whether a rule's condition can ask for the value *text*."""
    return _WORD.match(text) is not None


def is_metadata_key(text: str) -> bool:
    """Whether *text* can be a key of a setting's or a rule's metadata."""
    return _METADATA_KEY.match(text) is not None


def is_version(text: str) -> bool:
    """Whether *text* can be a setting's version, such as ``1.10``."""
    return _VERSION.match(text) is not None
