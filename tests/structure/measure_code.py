"""Measure a source tree: the size of its files, functions and classes, its comments and its imports.

``python tests/structure/measure_code.py [TREE]`` prints a table for the package `heksher` in TREE, by
default in this project. Each column is one part: the library, the service, everything. Use it to compare
two states of the code; it judges nothing.

It parses files and never imports what it measures. ``--exported`` also runs pyright, on the installed
`heksher`, whatever TREE is.
"""

from __future__ import annotations

import argparse
import ast
import json
import math
import statistics
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from source_tree import Function, Source, circles, imports_of, lines_of, read_tree

PROJECT = Path(__file__).resolve().parents[2]

#: Beside the library, which imports none of them.
BESIDE_THE_LIBRARY = ("service", "testing", "cli", "pytest_plugin.py", "__main__.py")


def package_of(source: Source) -> str:
    """Return the package that a file is in; the file of a package is in that package."""
    return source.module if source.is_package else source.module.rpartition(".")[0]


@dataclass
class Measure:
    """A part of the tree, and the figures on it.

    Attributes:
        sources: The files of the part.
        graph: The modules of the whole tree that each module imports.
        packages: The package that each module of the whole tree is in.
    """

    sources: Sequence[Source]
    graph: Mapping[str, set[str]]
    packages: Mapping[str, str]
    functions: list[Function] = field(init=False)
    classes: list[ast.ClassDef] = field(init=False)

    def __post_init__(self) -> None:
        nodes = [node for source in self.sources for node in ast.walk(source.tree)]
        self.functions = [node for node in nodes if isinstance(node, Function)]
        self.classes = [node for node in nodes if isinstance(node, ast.ClassDef)]

    def files(self) -> str:
        return str(len(self.sources))

    def lines_per_file(self) -> str:
        lengths = [source.lines for source in self.sources]
        return f"{statistics.median(lengths):.0f} / {max(lengths)}"

    def lines_per_function(self) -> str:
        lengths = sorted(len(lines_of(each)) for each in self.functions)
        tenth = lengths[math.ceil(0.9 * len(lengths)) - 1]
        return f"{statistics.median(lengths):.0f} / {tenth} / {lengths[-1]}"

    def comments(self) -> str:
        total = sum(source.lines for source in self.sources)
        comments = sum(len(source.comments) for source in self.sources)
        both = sum(len(source.comments | source.documented) for source in self.sources)
        return f"{100 * both / total:.0f} % ({100 * comments / total:.0f} %)"

    def annotated(self) -> str:
        return f"{100 * sum(map(is_annotated, self.functions)) / len(self.functions):.0f} %"

    def private_functions(self) -> str:
        counts = [
            sum(isinstance(node, Function) and is_private(node.name) for node in source.tree.body)
            for source in self.sources
        ]
        return f"{sum(counts)} / {max(counts)}"

    def private_methods(self) -> str:
        return str(
            sum(
                isinstance(node, Function) and is_private(node.name)
                for each in self.classes
                for node in each.body
            )
        )

    def largest_class(self) -> str:
        largest = max(self.classes, key=lambda each: len(lines_of(each)))
        return f"{len(lines_of(largest))} ({largest.name})"

    def most_attributes(self) -> str:
        most = max(self.classes, key=lambda each: len(attributes_of(each)))
        return f"{len(attributes_of(most))} ({most.name})"

    def lines_of_code(self) -> str:
        return str(sum(len(source.code) for source in self.sources))

    def imports_between_packages(self) -> str:
        pairs = [
            (self.packages[source.module], self.packages[other])
            for source in self.sources
            for other in self.graph[source.module]
        ]
        across = [(one, other) for one, other in pairs if one != other]
        return f"{len(across)} of {len(pairs)}, between {len(set(across))} pairs"

    def circles_of_imports(self) -> str:
        own = {source.module for source in self.sources}
        found = circles({module: self.graph[module] & own for module in sorted(own)})
        return f"{len(found)} ({sum(map(len, found))} modules)"


ROWS: dict[str, Callable[[Measure], str]] = {
    "files": Measure.files,
    "lines per file: median / largest": Measure.lines_per_file,
    "lines per function: median / p90 / largest": Measure.lines_per_function,
    "comments and docstrings (comments)": Measure.comments,
    "annotated functions": Measure.annotated,
    "private functions: total / most in a module": Measure.private_functions,
    "private methods": Measure.private_methods,
    "lines of the largest class": Measure.largest_class,
    "most `self.x` of a class": Measure.most_attributes,
    "lines of code, without blanks, comments and docstrings": Measure.lines_of_code,
    "imports from another package of ours": Measure.imports_between_packages,
    "circles of imports": Measure.circles_of_imports,
}


def is_private(name: str) -> bool:
    """Return whether *name* is marked as private; names like ``__init__`` are not."""
    return name.startswith("_") and not name.endswith("__")


def is_annotated(function: Function) -> bool:
    """Return whether the result and all arguments but ``self`` and ``cls`` are annotated."""
    arguments = function.args
    given = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    given += [each for each in (arguments.vararg, arguments.kwarg) if each is not None]
    return function.returns is not None and all(
        each.annotation is not None or each.arg in {"self", "cls"} for each in given
    )


def attributes_of(node: ast.ClassDef) -> set[str]:
    """Return the names that the methods of a class assign as ``self.x``."""
    return {
        each.attr
        for each in ast.walk(node)
        if isinstance(each, ast.Attribute)
        and isinstance(each.ctx, ast.Store)
        and isinstance(each.value, ast.Name)
        and each.value.id == "self"
    }


def measure(tree: Path) -> list[list[str]]:
    """Return the table for the project in *tree*: lines of cells."""
    by_module = read_tree(tree / "heksher", tree)
    sources = [*by_module.values()]
    graph = {
        module: {each.imported for each in imports_of(source, by_module)} & by_module.keys()
        for module, source in by_module.items()
    }
    packages = {source.module: package_of(source) for source in sources}

    def part(source: Source) -> str:
        name = source.module.removeprefix("heksher").lstrip(".").partition(".")[0]
        if name == "service":
            return "service"
        return "beside" if {name, f"{name}.py"} & set(BESIDE_THE_LIBRARY) else "library"

    parts = {
        "library": [source for source in sources if part(source) == "library"],
        "service": [source for source in sources if part(source) == "service"],
        "all": sources,
    }
    measures = {name: Measure(each, graph, packages) for name, each in parts.items()}
    table = [["", *measures]]
    table += [[title, *map(figure, measures.values())] for title, figure in ROWS.items()]
    tests = sum(source.lines for source in read_tree(tree / "tests", tree).values())
    own = sum(source.lines for source in sources)
    table.append(["test lines per line", "", "", f"{tests / own:.2f}"])
    return table


def exported() -> str:
    """Return how many symbols of the installed package type checkers find to be public."""
    command = ("pyright", "--verifytypes", "heksher", "--ignoreexternal", "--outputjson")
    printed = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    counts: dict[str, int] = json.loads(printed)["typeCompleteness"]["exportedSymbolCounts"]
    return str(sum(counts.values()))


def main() -> None:
    """Print the table as Markdown."""
    parser = argparse.ArgumentParser(description="Measure the source code of a tree.")
    parser.add_argument("tree", nargs="?", type=Path, default=PROJECT)
    parser.add_argument(
        "--exported", action="store_true", help="count exported symbols of the installed package"
    )
    options = parser.parse_args()
    table = measure(options.tree)
    if options.exported:
        table.append(["exported symbols", "", "", exported()])
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    table.insert(1, ["-" * width for width in widths])
    for line in table:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        print("|", " | ".join(cells), "|")


if __name__ == "__main__":
    main()
