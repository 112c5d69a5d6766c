"""From a plan to the fast ``get``: `emit` writes it as the source of a function, `compile_source` makes
code of it.

The only place that compiles generated source. Names reach the source only if they are ASCII
identifiers and no keywords (`can_compile`); the generator's own names hold a middle dot (U+00B7), so
that they meet none of them.
"""

from __future__ import annotations

import ast
import keyword
import linecache
import weakref
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import count
from types import CodeType
from typing import Any, Final

from heksher._rules.contexts import MISSING
from heksher._rules.plan import Plan, Search
from heksher.exceptions import MissingFeatureError


class Absent:
    """The value of a feature that a call leaves out.

    Looking it up is what finds it out: it refuses to be hashed. So that a call in which nothing is
    missing pays nothing for the check.
    """

    __slots__ = ("feature", "setting")

    def __init__(self, setting: str, feature: str) -> None:
        self.setting = setting
        self.feature = feature

    def __hash__(self) -> int:
        raise MissingFeatureError(self.setting, self.feature)

    def __eq__(self, other: object) -> bool:
        return self is other

    def __repr__(self) -> str:
        return "..."


# --- emit -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Source:
    """A function in text, and the objects that it works on.

    Attributes:
        text: the source. It depends on the plan's shape alone, so that settings share it.
        objects: by their names in the text.
        inline: whether the objects are to be constants of the code; else they are globals.
    """

    text: str
    objects: Mapping[str, Any]
    inline: bool


def absent_name(feature: str) -> str:
    """Return the name, in the text, of what stands for a feature that is left out."""
    return f"absent·{feature}"


#: Objects of each function, besides the absent values.
COMMON: Final[dict[str, Any]] = {
    "nothing·": MISSING,
    # To ask whether something is in it hashes it, and so refuses what cannot be a key.
    "nowhere·": frozenset[object](),
    # What a context variable raises that has no value. Not by its own name: a feature may have that.
    "unset·": LookupError,
}


def emit(plan: Plan, *, inline: bool) -> Source:
    """Write *plan* as a function.

    Args:
        plan: what a call has to do.
        inline: whether the function takes features by keyword, and the objects are to be constants
            of its code; else it takes features by position, and the objects are globals.
    """
    writer = _Writer(plan, inline)
    return Source("\n".join(writer.lines) + "\n", writer.objects, inline)


def emit_forwarding(features: Sequence[str]) -> Source:
    """Write a function that takes features by keyword, and calls the global ``current·`` with them."""
    text = f"{_head(features)}\n    return current·({', '.join(features)})\n"
    return Source(text, {}, inline=False)


def _head(features: Sequence[str]) -> str:
    """Return the first line of a function that takes features by keyword."""
    # What stands behind them is the function's, and not the code's.
    return f"def get(*, {', '.join(f'{name}=...' for name in features)}):"


class _Writer:
    """Writes one function."""

    def __init__(self, plan: Plan, inline: bool) -> None:
        self.objects: dict[str, Any] = {}
        self.lines = [
            _head(plan.features) if inline else f"def get({', '.join(plan.features)}):",
        ]
        constants = [name for name, source in plan.sources.items() if isinstance(source, str)]
        for name, source in plan.sources.items():
            if name not in constants:
                self._read_variable(name, source)
        if not plan.started:
            for name in plan.features:
                self._add(4, f"if {name} is not {absent_name(name)}:", f"    {name} in nowhere·")
        if plan.folded is not None:
            absent = " and ".join(f"{name} is {absent_name(name)}" for name in constants)
            self._add(4, f"if {absent}:")
            self._search(
                8, plan.folded, [f for f in plan.features if f not in constants], "folded·"
            )
            for name in constants:
                default = self._object(f"default·{name}", plan.sources[name])
                self._add(4, f"if {name} is {absent_name(name)}:", f"    {name} = {default}")
        self._search(4, plan.search, plan.features if plan.started else (), "")

    def _add(self, indent: int, *lines: str) -> None:
        self.lines += [" " * indent + line for line in lines]

    def _object(self, name: str, value: Any) -> str:
        """Have the text's *name* stand for *value*."""
        self.objects[name] = value
        return name

    def _read_variable(self, name: str, source: Any) -> None:
        self._add(
            4,
            f"if {name} is {absent_name(name)}:",
            "    try:",
            f"        {name} = {self._object(f'read·{name}', source.get)}()",
            "    except unset·:",
            "        pass",
        )

    def _search(self, indent: int, search: Search, needed: Sequence[str], prefix: str) -> None:
        first = search.look_ups[0].key if search.look_ups else ()
        # What the first look-up does not ask for is checked before, whether or not a later one asks.
        for name in needed:
            if name not in first:
                self._add(indent, f"{name} in nowhere·")
        default = self._object(f"{prefix}default·", search.default)
        for number, look_up in enumerate(search.look_ups, 1):
            key = look_up.key[0] if len(look_up.key) == 1 else f"({', '.join(look_up.key)})"
            find = self._object(f"{prefix}find·{number}", look_up.values.get)
            if number == len(search.look_ups):
                self._add(indent, f"return {find}({key}, {default})")
            else:
                self._add(
                    indent,
                    f"value· = {find}({key}, nothing·)",
                    "if value· is not nothing·:",
                    "    return value·",
                )
        if not search.look_ups:
            self._add(indent, f"return {default}")


# --- compile --------------------------------------------------------------------------------------


def can_compile(features: Iterable[str]) -> bool:
    """Whether all *features* can be the names of parameters."""
    return all(
        name.isascii()
        and name.isidentifier()
        and not keyword.iskeyword(name)
        and name != "__debug__"
        for name in features
    )


class _Inlining(ast.NodeTransformer):
    """Has a constant, the name as a text, where the source speaks of an object."""

    def visit_Name(self, node: ast.Name) -> ast.expr:
        if "·" not in node.id or node.id == "value·":  # that one is a variable of the function
            return node
        name = ast.Constant(node.id)
        # The compiler warns of a text that is called, or asked whether it "is" something. Of this it
        # finds out only later that it is nothing else.
        text = ast.IfExp(test=ast.Constant(True), body=name, orelse=name)
        return ast.fix_missing_locations(ast.copy_location(text, node))


#: How many sources are kept, with their code and for tracebacks, as a service may think of new shapes
#: without end. Beyond, those go that were used the longest ago; functions that have one work without.
MOST_SHAPES: Final = 1024
_numbers = count(1)


@lru_cache(maxsize=MOST_SHAPES)
def _code_of(text: str, inline: bool) -> CodeType:
    filename = f"<heksher get #{next(_numbers)}>"
    tree: ast.Module = ast.parse(text)
    module = compile(
        _Inlining().visit(tree) if inline else tree, filename, "exec", dont_inherit=True
    )
    # For tracebacks and debuggers. None as the time: there is no file that could be newer.
    linecache.cache[filename] = (len(text), None, text.splitlines(keepends=True), filename)
    (code,) = (each for each in module.co_consts if isinstance(each, CodeType))
    weakref.finalize(code, linecache.cache.pop, filename, None).atexit = False
    return code


def compile_source(source: Source, absent: Mapping[str, Absent]) -> CodeType:
    """Make the code of the function that *source* is.

    Args:
        source: the text and its objects.
        absent: what stands for a feature that is left out, by its name in the text.
    """
    code = _code_of(source.text, source.inline)
    if not source.inline:
        return code
    objects = {**COMMON, **absent, **source.objects}
    return code.replace(
        co_consts=tuple(objects[each] if isinstance(each, str) else each for each in code.co_consts)
    )
