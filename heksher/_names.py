"""Which texts are names, condition values and versions in the protocol.

Pure: text in, yes or no out. The caller writes the error message.
"""

import re

# Regular expressions for whole texts, in the syntax that JSON Schema and Python share.
SETTING_NAME = "[a-zA-Z0-9_.]+"
WORD = "[a-zA-Z0-9_]+"
METADATA_KEY = "[a-zA-Z0-9_-]+"
VERSION = "[0-9]+[.][0-9]+"

SETTING_NAME_RULE = "ASCII letters, digits, underscores and dots"
WORD_RULE = "ASCII letters, digits and underscores"
METADATA_KEY_RULE = "ASCII letters, digits, underscores and hyphens"
VERSION_RULE = "a string of two decimal numbers with a dot between them"


def is_setting_name(text: str) -> bool:
    """Whether *text* can be the name or an alias of a setting."""
    return re.fullmatch(SETTING_NAME, text) is not None


def is_feature_name(text: str) -> bool:
    """Whether *text* can be the name of a context feature."""
    return re.fullmatch(WORD, text) is not None


def is_condition_value(text: str) -> bool:
    """Whether *text* can be the value in a rule's condition."""
    return re.fullmatch(WORD, text) is not None


def is_metadata_key(text: str) -> bool:
    """Whether *text* can be a key in the metadata of a setting or a rule."""
    return re.fullmatch(METADATA_KEY, text) is not None


def is_version(text: str) -> bool:
    """Whether *text* can be a setting's version, such as ``1.10``."""
    return re.fullmatch(VERSION, text) is not None
