"""From a plan to the code of a fast ``get``: `emit` writes Python source, `compile_source` compiles it.

This is the only place that compiles generated source. A feature's name reaches the source only if it is
an ASCII identifier and not a keyword (`can_compile`). The generator's own names contain a middle dot
(U+00B7), so that they cannot be a feature's name.
"""

from __future__ import annotations

import ast
import keyword
import linecache
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from inspect import CO_NESTED
from itertools import count
from types import CodeType, FunctionType
from typing import Any, Final

from heksher._rules.contexts import MISSING, checked_value
from heksher._rules.plan import Plan, PlannedCohort, Search, foldable

# --- emit -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Source:
    """The source of a function, and the objects that it uses.

    Attributes:
        text: the source. It depends on the plan's shape only, so settings of one shape share it.
        objects: by their names in the text.
        inline: whether the objects become constants of the code; else they are globals.
    """

    text: str
    objects: Mapping[str, Any]
    inline: bool


def checks_of(setting: str, features: Iterable[str]) -> dict[str, Callable[[object], str | None]]:
    """Return the function that checks each feature's value, by its name in the text."""
    return {f"check·{name}": partial(checked_value, setting, name) for name in features}


#: Objects of every function, besides the checks. Features may have the names of builtins.
COMMON: Final[dict[str, Any]] = {
    "nothing·": MISSING,
    "type·": type,
    "str·": str,
    # What a context variable without a value raises.
    "unset·": LookupError,
}


def emit(plan: Plan, *, inline: bool) -> Source:
    """Write *plan* as a function.

    Args:
        plan: what a call has to do.
        inline: whether the function takes features by keyword, and the objects become constants of
            its code; else it takes features by position, and the objects are globals.
    """
    writer = _Writer(plan, inline)
    return Source("\n".join(writer.lines) + "\n", writer.objects, inline)


def emit_forwarding(features: Sequence[str]) -> Source:
    """Write a function that takes features by keyword and passes them to the global ``current·``."""
    text = f"{_head(features)}\n    return current·({', '.join(features)})\n"
    return Source(text, {}, inline=False)


def _head(features: Sequence[str]) -> str:
    """Return the first line of a function that takes features by keyword."""
    # Nothing but text: defaults belong to the function, not to its code.
    return f"def get(*, {', '.join(f'{name}=...' for name in features)}):"


class _Writer:
    """Writes one function.

    ``...`` stands for an argument that the call leaves out. It is immortal, from CPython 3.12 on, so that
    handing it around counts no references. That takes a nanosecond less than with an object of our own.

    Whether a call raises must not depend on the rules. So each value is checked before the first look-up,
    also that of a feature that no rule asks for.
    """

    def __init__(self, plan: Plan, inline: bool) -> None:
        self.objects: dict[str, Any] = {}
        self.lines = [
            _head(plan.features) if inline else f"def get({', '.join(plan.features)}):",
        ]
        constants = foldable(plan.sources)
        for name in plan.cohorts_last():
            if name in constants:
                continue
            source = plan.sources.get(name)
            if isinstance(source, PlannedCohort):
                self._compute_cohort(name, source)
            elif isinstance(source, ContextVar):
                self._add(4, f"if {name} is ...:")
                self._read_variable(8, name, f"read·{name}", source)
            elif name in plan.sources:
                self._fill_in(name, source)
            self._check(4, name, f"check·{name}")
        if plan.folded is not None:
            self._add(4, f"if {' and '.join(f'{name} is ...' for name in constants)}:")
            self._search(8, plan.folded, "folded·")
        for name, default in constants.items():
            self._fill_in(name, default)
            self._check(4, name, f"check·{name}")
        self._search(4, plan.search, "")

    def _add(self, indent: int, *lines: str) -> None:
        self.lines += [" " * indent + line for line in lines]

    def _object(self, name: str, value: Any) -> str:
        """Let *name* stand for *value* in the text, and return it."""
        self.objects[name] = value
        return name

    def _fill_in(self, name: str, default: str | None) -> None:
        value = self._object(f"default·{name}", default)
        self._add(4, f"if {name} is ...:", f"    {name} = {value}")

    def _check(self, indent: int, name: str, check: str) -> None:
        """Have whatever is neither a plain string nor None checked.

        ``type·(x)``, because ``x.__class__`` may lie: a proxy would get past the check, and only rules
        would show that it cannot be hashed.
        """
        self._add(
            indent,
            f"if type·({name}) is not str· and {name} is not None:",
            f"    {name} = {check}({name})",
        )

    def _read_variable(self, indent: int, name: str, read: str, variable: ContextVar[Any]) -> None:
        self._add(
            indent,
            "try:",
            f"    {name} = {self._object(read, variable.get)}()",
            "except unset·:",
            "    pass",
        )

    def _compute_cohort(self, name: str, cohort: PlannedCohort) -> None:
        """Have a feature computed from the value of its source, if the call leaves it out."""
        self._add(4, f"if {name} is ...:")
        value = cohort.source
        if not cohort.is_listed:
            value = "value·"
            self._add(8, f"{value} = ...")
            if cohort.variable is not None:
                self._read_variable(8, value, f"read·{name}", cohort.variable)
            self._check(8, value, self._object(f"source·{name}", cohort.checked_source))
        self._add(
            8,
            f"{name} = {self._object(f'known·{name}', cohort.finder.known.get)}({value}, ...)",
            f"if {name} is ...:",
            f"    {name} = {self._object(f'find·{name}', cohort.finder.find)}({value})",
        )

    def _search(self, indent: int, search: Search, prefix: str) -> None:
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
    """Whether all *features* can be names of parameters."""
    return all(
        name.isascii()
        and name.isidentifier()
        and not keyword.iskeyword(name)
        and name != "__debug__"
        for name in features
    )


class _Inlining(ast.NodeTransformer):
    """Puts a constant in place of each name that stands for an object.

    A call should find the tables without looking names up. Closures would not do: ``__code__`` can only
    be replaced by code with the same number of free variables. Constants can hold any object, but the
    compiler makes constants of literals only. So each name becomes a string literal first, and
    `compile_source` puts the object in its place in ``co_consts``. On CPython 3.12 this brought a
    typical call down from 1.5 to 1.9 times a hand-written function to 1.3 times.

    A bare literal in that place would make the compiler warn (``'str' object is not callable``, ``"is"
    with a 'str' literal``). It does not warn of ``x if True else x``, and its optimizer leaves only
    the constant of that (seen on CPython 3.11 to 3.14).
    """

    def visit_Name(self, node: ast.Name) -> ast.expr:
        if "·" not in node.id or node.id == "value·":  # which is a variable of the function
            return node
        name = ast.Constant(node.id)
        text = ast.IfExp(test=ast.Constant(True), body=name, orelse=name)
        return ast.fix_missing_locations(ast.copy_location(text, node))


#: Characters of all sources that are kept, with their code and for tracebacks. Each takes about ten bytes.
#: A hostile service could cause new shapes without end, so beyond this the oldest are dropped.
#: Functions made of them go on working.
MOST_KEPT: Final = 2**20
_codes: dict[tuple[str, bool], CodeType] = {}
_numbers = count(1)


def _compiled(text: str, inline: bool) -> CodeType:
    """Compile a source, keep it, and show it to tracebacks and debuggers.

    There is no lock, which a fork could leave locked in the child: each step is one operation of a dict.
    At worst, two threads compile the same source.

    These look up a code's file name in `linecache`, which reads files but also accepts lines that were
    put in. The time of change is None, since `linecache.checkcache` would drop an entry whose file
    does not exist. Nobody else removes the entry, so it goes when the code does. The code that
    functions run is a copy, made by ``replace``, with the same file name: it may outlive the entry and
    is then shown without source. Not at exit, when `linecache` may be gone already.
    """
    filename = f"<heksher get #{next(_numbers)}>"
    tree: ast.Module = ast.parse(text)
    module = compile(
        _Inlining().visit(tree) if inline else tree, filename, "exec", dont_inherit=True
    )
    linecache.cache[filename] = (len(text), None, text.splitlines(keepends=True), filename)
    (code,) = (each for each in module.co_consts if isinstance(each, CodeType))
    weakref.finalize(code, linecache.cache.pop, filename, None).atexit = False
    kept = [*_codes]
    size = len(text) + sum([len(each) for each, _ in kept])
    for oldest in kept:
        if size <= MOST_KEPT:
            break
        _codes.pop(oldest, None)
        size -= len(oldest[0])
    _codes[text, inline] = code
    return code


def function_of(source: Source, others: Mapping[str, Any]) -> FunctionType:
    """Return a function whose globals are the objects of *source*, and *others*.

    Its code is a copy, because the interpreter specialises code for the globals that it meets. It is
    marked as nested for the free-threaded interpreter: see `heksher._rules.getter`.
    """
    code = compile_source(source, {})
    code = code.replace(co_flags=code.co_flags | CO_NESTED)
    return FunctionType(code, {**others, **source.objects})


def compile_source(
    source: Source, checks: Mapping[str, Callable[[object], str | None]]
) -> CodeType:
    """Return the code of the function.

    Args:
        source: the text and its objects.
        checks: as made by `checks_of`.
    """
    shape = source.text, source.inline
    code = _codes.get(shape) or _compiled(*shape)
    if not source.inline:
        return code
    objects = {**COMMON, **checks, **source.objects}
    return code.replace(
        co_consts=tuple(objects[each] if isinstance(each, str) else each for each in code.co_consts)
    )
