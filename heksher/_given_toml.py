"""What a file in TOML gives to settings: one value, or rules.

A setting's name may be one quoted key or lead through tables: ``"a.b" = 5``, ``a.b = 5`` and ``b = 5``
under ``[a]`` are the same. So a table may be the value of a setting or the way to others, and the names
of the settings decide.

Pure. Knows neither the file nor what becomes of the values.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from typing import Any, TypeAlias, cast

from heksher._given_rules import Rule
from heksher._text import one_line

_Table: TypeAlias = dict[str, Any]

# A key of a hundred parts or more. For n parts, tomllib takes time and memory in proportion to n squared:
# 40 KB of dots take 18 seconds, and 200 KB more memory than most machines have.
_long_key = re.compile(rb"""(?:(?:(?<![\w-])[\w-]++|"[^"\n]*+"|'[^'\n]*+')[ \t]*+\.[ \t]*+){100}""")


def parse(data: bytes) -> _Table:
    """Return the tables of a file.

    Raises:
        ValueError: it is not TOML in UTF-8, or has a key of more than a hundred parts.
    """
    import tomllib  # few applications need it

    if _long_key.search(data):
        raise ValueError("it has a key of more than a hundred parts")
    try:
        return tomllib.loads(data.decode("utf-8-sig"))
    except RecursionError:
        raise ValueError("it is not valid TOML: it nests too deeply") from None
    except ValueError as error:
        raise ValueError(f"it is not valid TOML: {one_line(str(error))}") from None


def given_to(document: _Table, names: Collection[str]) -> tuple[dict[str, Any], list[str]]:
    """Return what a file gives to settings, as `heksher._given_rules.rules_from` takes it.

    Args:
        document: the tables of the file.
        names: of the settings.

    Returns:
        what is given to each setting that the file names; and the names that are of no setting.

    Raises:
        ValueError: a setting is named twice.
    """
    # What a setting's name begins with: `a` and `a.b` for the setting `a.b.c`.
    tables = {name[:at] for name in names for at, sign in enumerate(name) if sign == "."}
    found: _Table = {}

    def take(table: _Table, path: str) -> _Table:
        """Take out what belongs to settings whose names begin with *path*; return the rest."""
        rest: _Table = {}
        for key, value in table.items():
            name = path + key
            left = value
            if isinstance(value, dict) and name in tables:
                left = take(cast(_Table, value), f"{name}.")
                if not left and (value or name not in names):
                    continue  # all of it belongs to others
            if name not in names:
                rest[key] = left
            elif name in found:
                raise ValueError(f"setting {name!r} is named twice: leave one out")
            else:
                found[name] = left
        return rest

    def unknown(rest: _Table, path: str) -> Iterator[str]:
        for key, value in rest.items():
            if path + key in tables and value and isinstance(value, dict):
                yield from unknown(cast(_Table, value), f"{path}{key}.")
            else:
                yield path + key

    rest = take(document, "")
    return {name: _given(value) for name, value in found.items()}, [*unknown(rest, "")]


def _given(value: Any) -> object:
    """Return the rules that a value in TOML stands for, or the value itself."""
    if _is_table_of(value, {"value"}):
        return [Rule[Any]({}, value["value"])]  # a value, even if it is a list that could be rules
    elements: Sequence[Any] = cast(Sequence[Any], value) if isinstance(value, list) else ()
    if elements and all(_is_table_of(each, {"when", "value"}) for each in elements):
        return [Rule[Any](each["when"], each["value"]) for each in elements]
    return cast(object, value)


def _is_table_of(value: Any, keys: set[str]) -> bool:
    return isinstance(value, dict) and value.keys() == keys
