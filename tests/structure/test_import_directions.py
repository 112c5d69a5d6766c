"""Which module may import which, read from the source: from the pure layer upwards, and never back."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import heksher

PACKAGE = Path(heksher.__file__).parent

#: From the bottom to the top. A module imports only from its own layer and from those before it. A name
#: stands for the module and for all modules in it that no longer name stands for.
LAYERS = [
    ["heksher.exceptions", "heksher._text", "heksher._names"],
    ["heksher.status"],
    ["heksher._values"],
    ["heksher._rules"],
    ["heksher._registry"],
    ["heksher.setting_type"],
    ["heksher.setting"],
    ["heksher._wire"],
    ["heksher.backends"],
    ["heksher._client"],
    ["heksher.clients"],
    ["heksher.testing"],
    ["heksher"],
]
#: Imports against that order, for type checkers alone.
FOR_TYPES = {
    ("heksher._rules.getter", "heksher.setting"),
    ("heksher._registry", "heksher.setting"),
}


def layer_of(module: str) -> int:
    """The number of the layer that *module* belongs to, by the longest name that stands for it."""
    matches = [
        (len(name), number)
        for number, names in enumerate(LAYERS)
        for name in names
        if is_part(module, name)
    ]
    return max(matches)[1]


#: The library's modules that may import these; no other one does. The edge where httpx is counts as one.
ONLY_IN = {
    "httpx": {"heksher.backends._http"},
    "http": {"heksher.backends._http"},
    "anyio": {"heksher.backends._http", "heksher.backends._anyio"},
    "trio": {"heksher.backends._anyio"},
    "asyncio": {"heksher.backends._anyio"},
    "gevent": {"heksher.backends._gevent"},
    "socket": {"heksher.backends._http"},
    "time": {
        "heksher._client.snapshot",
        "heksher._client.core",
        "heksher.backends._http",
        "heksher.backends._thread",
    },
    "threading": {
        "heksher._registry",
        "heksher._client.connection",
        "heksher._client.publishing",
        "heksher._client.settings",
        "heksher.backends._callers",
        "heksher.backends._fork_lock",
        "heksher._client.modification_lock",
        "heksher._client.forking",
        "heksher._client.core",
        "heksher.backends._http",
        "heksher.backends._anyio",
        "heksher.backends._thread",
        "heksher.backends._gevent",
    },
    "os": {
        "heksher._client.forking",
        "heksher.backends._gevent",
        "heksher.backends._http",
        "heksher._client.snapshot",
    },
    "random": {"heksher._client.options"},
    "importlib": {"heksher", "heksher.backends._choose"},
    "msgspec": {
        "heksher.setting",
        "heksher._wire.declarations",
        "heksher._wire.decoding",
        "heksher._wire.lookups",
        "heksher._wire.queries",
        "heksher._client.declarations",
        "heksher._client.snapshot",
    },
    "typing_extensions": {"heksher._values.base"},
}
#: What no module of the library imports: other clocks, other I/O, other ways to run code.
NOWHERE = {
    "concurrent",
    "ctypes",
    "datetime",
    "marshal",
    "multiprocessing",
    "pickle",
    "sched",
    "selectors",
    "ssl",
    "subprocess",
    "tempfile",
}


@dataclass(frozen=True)
class Import:
    """One imported module: by whom, where, and under which circumstances."""

    module: str
    imported: str
    line: int
    is_for_types: bool
    is_when_needed: bool

    def __str__(self) -> str:
        return f"{self.module}, line {self.line}: {self.imported}"


def sources() -> dict[str, ast.Module]:
    found: dict[str, ast.Module] = {}
    for file in sorted(PACKAGE.rglob("*.py")):
        parts = ("heksher", *file.relative_to(PACKAGE).with_suffix("").parts)
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = ast.parse(file.read_text(encoding="utf-8"), str(file))
    return found


SOURCES = sources()


def imports_of(module: str) -> Iterator[Import]:
    def walk(node: ast.AST, for_types: bool, when_needed: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                for alias in child.names:
                    yield Import(module, alias.name, child.lineno, for_types, when_needed)
            elif isinstance(child, ast.ImportFrom):
                assert child.level == 0, f"{module}, line {child.lineno}: a relative import"
                assert child.module is not None
                for alias in child.names:
                    # "from package import module", and "from module import name".
                    submodule = f"{child.module}.{alias.name}"
                    imported = submodule if submodule in SOURCES else child.module
                    yield Import(module, imported, child.lineno, for_types, when_needed)
            elif (
                isinstance(child, ast.If)
                and isinstance(child.test, ast.Name)
                and child.test.id == "TYPE_CHECKING"
            ):
                yield from walk(child, True, when_needed)
            elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                yield from walk(child, for_types, True)
            else:
                yield from walk(child, for_types, when_needed)

    yield from walk(SOURCES[module], False, False)


def is_part(module: str, package: str) -> bool:
    return module == package or module.startswith(package + ".")


#: Beside the library, which does not know them: the service, the command line, what tests are given.
OUTSIDE = (
    "heksher.service",
    "heksher.cli",
    "heksher.__main__",
    "heksher.testing.faults",
    "heksher.testing.service",
    "heksher.pytest_plugin",
)


def is_outside(module: str) -> bool:
    """Whether the module is one of those."""
    return any(is_part(module, each) for each in OUTSIDE)


LIBRARY = [module for module in SOURCES if not is_outside(module)]
SERVICE = [module for module in SOURCES if is_part(module, "heksher.service")]
IMPORTS = [each for module in SOURCES for each in imports_of(module)]


def test_imports_are_found_at_all() -> None:
    seen = {(each.module, each.imported) for each in IMPORTS}
    assert ("heksher.setting", "heksher._registry") in seen
    assert ("heksher.backends._http.transport", "httpx") in seen
    assert ("heksher.backends._anyio", "trio") in seen
    assert seen >= FOR_TYPES


@pytest.mark.parametrize("module", LIBRARY)
def test_imports_run_one_way(module: str) -> None:
    wrong: list[str] = []
    for each in imports_of(module):
        if not is_part(each.imported, "heksher"):
            continue
        if each.is_for_types and (each.module, each.imported) in FOR_TYPES:
            continue
        if layer_of(each.imported) > layer_of(module):
            wrong.append(str(each))
    assert wrong == []


@pytest.mark.parametrize("package", sorted(ONLY_IN))
def test_a_package_is_imported_only_where_it_belongs(package: str) -> None:
    edge = "heksher.backends._http"
    found = {
        edge if is_part(each.module, edge) else each.module
        for each in IMPORTS
        if is_part(each.imported, package) and not is_outside(each.module)
    }
    assert found == ONLY_IN[package]


def test_no_other_package_is_imported() -> None:
    wrong = [
        str(each)
        for each in IMPORTS
        if not is_outside(each.module)
        and (root := each.imported.partition(".")[0]) != "heksher"
        and (root in NOWHERE or (root not in sys.stdlib_module_names and root not in ONLY_IN))
    ]
    assert wrong == []


#: Up to here no clock, no thread and no I/O.
LAST_PURE_LAYER = layer_of("heksher._wire")


def test_the_pure_layers_know_no_clock_no_thread_and_no_io() -> None:
    allowed = {("heksher._registry", "threading")}
    forbidden = set(ONLY_IN) - {"msgspec", "typing_extensions"} | NOWHERE
    wrong = [
        str(each)
        for each in IMPORTS
        if each.module in LIBRARY
        and layer_of(each.module) <= LAST_PURE_LAYER
        and each.imported.partition(".")[0] in forbidden
        and (each.module, each.imported) not in allowed
    ]
    assert wrong == []


def test_trio_is_imported_only_when_it_is_used() -> None:
    # It is an extra.
    assert [
        str(each) for each in IMPORTS if each.imported == "trio" and not each.is_when_needed
    ] == []


def test_what_only_checkers_have_is_imported_for_them_alone() -> None:
    # It comes with the type checkers, and is no dependency of the library.
    assert [
        str(each)
        for each in IMPORTS
        if each.imported == "typing_extensions" and not each.is_for_types
    ] == []


def test_the_service_knows_only_names_and_errors_of_the_library() -> None:
    assert SERVICE
    allowed = {"heksher._names", "heksher.exceptions", "heksher"}
    wrong = [
        str(each)
        for each in IMPORTS
        if each.module in SERVICE
        and is_part(each.imported, "heksher")
        and each.imported not in allowed
        and each.imported not in SERVICE
    ]
    assert wrong == []


@pytest.mark.parametrize("module", SERVICE)
def test_the_service_uses_nothing_of_the_package_but_its_version(module: str) -> None:
    used = {
        node.attr
        for node in ast.walk(SOURCES[module])
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "heksher"
    }
    imported = {
        alias.name
        for node in ast.walk(SOURCES[module])
        if isinstance(node, ast.ImportFrom) and node.module == "heksher"
        for alias in node.names
        if f"heksher.{alias.name}" not in SOURCES
    }
    assert used | imported <= {"__version__", "service"}


#: Modules of the service that only decide: no web framework, no database, no I/O.
PURE_SERVICE = [
    *(module for module in SERVICE if is_part(module, "heksher.service.domain")),
    "heksher.service.web.bodies",
    "heksher.service.web.openapi",
]


@pytest.mark.parametrize("module", PURE_SERVICE)
def test_what_decides_in_the_service_knows_no_web_framework_and_no_database(module: str) -> None:
    # msgspec is the library's own, and no more than types and their encoding.
    allowed = {
        "heksher._names",
        "heksher.exceptions",
        "heksher.service",
        "msgspec",
        *PURE_SERVICE,
    }
    wrong = [
        str(each)
        for each in imports_of(module)
        if each.imported not in allowed
        and (
            (root := each.imported.partition(".")[0]) not in sys.stdlib_module_names
            or root in {*ONLY_IN, *NOWHERE}
        )
    ]
    assert wrong == []


def test_the_library_knows_neither_the_service_nor_the_command_line() -> None:
    assert [
        str(each) for each in IMPORTS if each.module in LIBRARY and is_outside(each.imported)
    ] == []


@pytest.mark.parametrize("module", LIBRARY)
def test_no_source_is_run_that_is_not_a_file(module: str) -> None:
    calls = [
        node.lineno
        for node in ast.walk(SOURCES[module])
        if isinstance(node, ast.Name) and node.id in {"exec", "eval", "compile", "__import__"}
    ]
    # The generated look-up, and nothing else.
    assert len(calls) == (module == "heksher._rules.codegen")
