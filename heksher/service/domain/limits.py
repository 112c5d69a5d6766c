"""How long names may be: as long as an index of PostgreSQL's takes, whatever the database.

Pure. An index row there holds about 2,700 bytes, and some indexes are over a setting's name and one
more: a feature of the setting, or a key of its metadata.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable

from heksher.service.domain.records import SettingRecord
from heksher.service.domain.refusals import malformed

MAX_INDEXED = 2650

# What a text takes at most once it is packed, as a multiple of what it takes here: PostgreSQL packs
# more loosely, and nothing at all that does not repeat itself early.
_LOOSENESS = 8


def check_feature(name: str) -> None:
    """Refuse the name of a context feature that is too long."""
    if _size(name) > MAX_INDEXED:
        raise malformed(f"context_feature is too long: {MAX_INDEXED} characters are the most")


def check_setting(setting: SettingRecord) -> None:
    """Refuse a setting whose name is too long, alone or with one of its features or keys."""
    size = _size(setting.name)
    for field, names in (
        ("configurable_features", setting.features),
        ("metadata", setting.metadata),
    ):
        if size + _longest(names) > MAX_INDEXED:
            raise malformed(
                f"name and {field} are too long: the name and the longest of {field} may have "
                f"{MAX_INDEXED} characters together"
            )


def check_rule_metadata(keys: Iterable[str]) -> None:
    """Refuse keys of a rule's metadata that are too long."""
    if _longest(keys) > MAX_INDEXED:
        raise malformed(f"a key of metadata is too long: {MAX_INDEXED} characters are the most")


def _longest(names: Iterable[str]) -> int:
    return max(map(_size, names), default=0)


def _size(name: str) -> int:
    """The bytes that a name takes in an index at most: longer ones are packed."""
    size = len(name.encode())
    if size <= MAX_INDEXED:
        return size
    return min(size, _LOOSENESS * len(zlib.compress(name.encode())))
