"""The types that a setting can have: the public door to `heksher._values`."""

from heksher._values.base import Form, SettingType, TypeLike
from heksher._values.containers import (
    HeksherMapping,
    HeksherSequence,
    ReadOnlyDict,
    setting_type,
)
from heksher._values.options import HeksherEnum, HeksherFlags, LiteralType
from heksher._values.primitives import BoolType, FloatType, IntType, StrType

__all__ = [
    "setting_type",
    "SettingType",
    "IntType",
    "FloatType",
    "StrType",
    "BoolType",
    "HeksherEnum",
    "HeksherFlags",
    "LiteralType",
    "HeksherSequence",
    "HeksherMapping",
    "ReadOnlyDict",
    "Form",
    "TypeLike",
]

# Users find them here, so this is what tracebacks, pickles and help() say, too.
for _each in list(globals().values()):
    if getattr(_each, "__module__", "").startswith("heksher._values."):
        _each.__module__ = __name__
