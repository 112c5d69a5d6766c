"""A source tree as data: its files, what each of them imports, and where imports run in circles.

It parses files and never imports them. It does not know which imports are allowed.
"""

from __future__ import annotations

import ast
import io
import tokenize
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Source:
    """One file.

    Attributes:
        module: Its dotted name; a package has the name of its folder.
        is_package: Whether it is the ``__init__.py`` of a package.
        tree: The parsed file.
        lines: The number of its lines.
        comments: Numbers of the lines that have a comment, also after code.
        documented: Numbers of the lines of docstrings.
        code: Numbers of all other lines that are not blank. A line of code with a comment is one.
    """

    module: str
    is_package: bool
    tree: ast.Module
    lines: int
    comments: frozenset[int]
    documented: frozenset[int]
    code: frozenset[int]


@dataclass(frozen=True)
class Import:
    """One imported module, and the circumstances.

    Attributes:
        module: The module that imports it.
        imported: The module that is imported.
        line: The line of the statement.
        is_for_types: Whether it stands below ``if TYPE_CHECKING``.
        is_in_function: Whether it is made when a function is called.
    """

    module: str
    imported: str
    line: int
    is_for_types: bool
    is_in_function: bool

    def __str__(self) -> str:
        return f"{self.module}, line {self.line}: {self.imported}"


def read_tree(folder: Path, root: Path) -> dict[str, Source]:
    """Read all files in *folder* and return them by module; names of modules start at *root*."""
    sources = (_read(file, root) for file in sorted(folder.rglob("*.py")))
    return {source.module: source for source in sources}


def _read(file: Path, root: Path) -> Source:
    text = file.read_text(encoding="utf-8")
    tree = ast.parse(text, str(file))
    parts = file.relative_to(root).with_suffix("").parts
    is_package = parts[-1] == "__init__"
    comments: set[int] = set()
    code: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            comments.add(token.start[0])
        elif token.string.strip():
            code.update(range(token.start[0], token.end[0] + 1))
    documented = {
        line
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | Function)
        if ast.get_docstring(node, clean=False) is not None
        for line in lines_of(node.body[0])
    }
    return Source(
        module=".".join(parts[:-1] if is_package else parts),
        is_package=is_package,
        tree=tree,
        lines=len(text.splitlines()),
        comments=frozenset(comments),
        documented=frozenset(documented),
        code=frozenset(code - documented),
    )


def lines_of(node: ast.stmt) -> range:
    """Return the numbers of the lines of a statement; decorators do not count."""
    assert node.end_lineno is not None
    return range(node.lineno, node.end_lineno + 1)


def is_part(module: str, package: str) -> bool:
    """Return whether *module* is *package* or in it."""
    return module == package or module.startswith(package + ".")


def imports_of(source: Source, modules: Iterable[str]) -> Iterator[Import]:
    """Yield all imports of a file, for type checkers and inside functions as well.

    ``from package import name`` imports ``package.name`` if that is one of *modules*, and otherwise
    ``package``.
    """
    known = set(modules)

    def walk(node: ast.AST, for_types: bool, in_function: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                for alias in child.names:
                    yield Import(source.module, alias.name, child.lineno, for_types, in_function)
            elif isinstance(child, ast.ImportFrom):
                assert child.level == 0, f"{source.module}, line {child.lineno}: a relative import"
                assert child.module is not None
                for alias in child.names:
                    submodule = f"{child.module}.{alias.name}"
                    imported = submodule if submodule in known else child.module
                    yield Import(source.module, imported, child.lineno, for_types, in_function)
            elif (
                isinstance(child, ast.If)
                and isinstance(child.test, ast.Name)
                and child.test.id == "TYPE_CHECKING"
            ):
                yield from walk(child, True, in_function)
            else:
                yield from walk(child, for_types, in_function or isinstance(child, Function))

    yield from walk(source.tree, False, False)


def circles(graph: Mapping[str, Iterable[str]]) -> list[list[str]]:
    """Return the groups of nodes that reach each other: strongly connected components of two or more.

    Each node has to be a key of *graph*. This is Tarjan's algorithm: `path` holds the visited nodes whose
    component is not complete, and `low` the number of the earliest node on it that each of them reaches.
    """
    number: dict[str, int] = {}
    low: dict[str, int] = {}
    path: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        number[node] = low[node] = len(number)
        path.append(node)
        for other in graph[node]:
            if other not in number:
                visit(other)
            if other in path:
                low[node] = min(low[node], low[other])
        if low[node] == number[node]:
            place = path.index(node)
            component = sorted(path[place:])
            del path[place:]
            if len(component) > 1:
                found.append(component)

    for node in graph:
        if node not in number:
            visit(node)
    return sorted(found)
