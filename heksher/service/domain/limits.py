"""Length limits of names: what fits into a PostgreSQL index, whatever the database.

Pure. An index row in PostgreSQL holds about 2,700 bytes. Some indexes cover a setting's name and a
second name: one of the setting's features, or a key of its metadata.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable

from heksher.service.domain.records import SettingRecord
from heksher.service.domain.refusals import malformed

# Maximum size of an indexed value, in bytes as PostgreSQL stores it.
MAX_INDEXED = 2650

# PostgreSQL compresses long values less tightly than zlib, and not at all if they do not repeat
# themselves early on. This is an upper bound for its compressed size, as a multiple of zlib's.
_COMPRESSION_FACTOR = 8


def check_feature(name: str) -> None:
    """Refuse a context feature whose name is too long."""
    if _size(name) > MAX_INDEXED:
        raise malformed(f"context_feature is too long: expected at most {MAX_INDEXED} characters")


def check_setting(setting: SettingRecord) -> None:
    """Refuse a setting whose name is too long, alone or with one of its features or keys."""
    size = _size(setting.name)
    for field, names in (
        ("configurable_features", setting.features),
        ("metadata", setting.metadata),
    ):
        if size + _longest(names) > MAX_INDEXED:
            raise malformed(
                f"name and {field} are too long: expected at most {MAX_INDEXED} characters for "
                f"the name and the longest of {field} together"
            )


def check_rule_metadata(keys: Iterable[str]) -> None:
    """Refuse rule metadata with a key that is too long."""
    if _longest(keys) > MAX_INDEXED:
        raise malformed(f"a key of metadata is too long: expected at most {MAX_INDEXED} characters")


def _longest(names: Iterable[str]) -> int:
    return max(map(_size, names), default=0)


def _size(name: str) -> int:
    """Return an upper bound for the bytes of *name* in an index; long values are compressed there."""
    size = len(name.encode())
    if size <= MAX_INDEXED:
        return size
    return min(size, _COMPRESSION_FACTOR * len(zlib.compress(name.encode())))
