"""Which module may import which, read from the source: layers, from the pure ones to the outermost.

A module imports only from its own layer and from those above it in the list. No imports run in circles.
Imports for type checkers and inside functions count like all others.
"""

from __future__ import annotations

import ast
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from source_tree import circles, imports_of, is_part, read_tree

import heksher


@dataclass(frozen=True)
class Layer:
    """Modules that know the same.

    Attributes:
        name: What failures call it.
        reason: What it is for, and what it does not know.
        parts: Modules, and packages with all that is in them, except for what another layer names.
    """

    name: str
    reason: str
    parts: tuple[str, ...]


#: They know no clock, no thread and no I/O.
PURE = [
    Layer(
        "terms",
        "errors, status, explanations, names, shown text, bounds of JSON texts and how code of the "
        "application is called, which everything may use; they know nothing",
        (
            "heksher.exceptions",
            "heksher.status",
            "heksher.explanation",
            "heksher._names",
            "heksher._text",
            "heksher._json_bounds",
            "heksher._application_code",
        ),
    ),
    Layer(
        "values",
        "between Python and JSON values; they know neither rules nor messages",
        ("heksher._values",),
    ),
    Layer(
        "rules",
        "which rule wins, and `get()`; they know no JSON, no client and no `Setting`",
        ("heksher._rules",),
    ),
    Layer(
        "registry",
        "the settings and the main client of this process; it knows both as protocols",
        ("heksher._registry",),
    ),
    Layer(
        "settings",
        "what applications declare, and who listens to it: public doors to the layers above",
        (
            "heksher.setting_type",
            "heksher._declared",
            "heksher._listening",
            "heksher.setting",
            "heksher._given_rules",
            "heksher._given_toml",
            "heksher._layers",
            "heksher._overriding",
        ),
    ),
    Layer(
        "wire",
        "the messages of protocol v1; they know no client and no backend",
        ("heksher._wire",),
    ),
]
LIBRARY_LAYERS = [
    *PURE,
    Layer(
        "contract",
        "what a backend has to offer, and what all of them share; no event loop, no HTTP",
        (
            "heksher.backends.base",
            "heksher.backends._callers",
            "heksher.backends._fork_lock",
            "heksher.backends._lookups",
            "heksher.backends._running",
            "heksher.backends._steady",
        ),
    ),
    Layer(
        "HTTP",
        "the only place that knows httpx",
        ("heksher.backends._http",),
    ),
    Layer(
        "backends",
        "asyncio, trio, threads and greenlets, and how one is chosen; they know no client",
        ("heksher.backends",),
    ),
    Layer(
        "client",
        "the life of a client, written once; it knows no public class of client",
        ("heksher._client",),
    ),
    Layer(
        "clients",
        "the public clients and the stubs",
        ("heksher.clients",),
    ),
    Layer(
        "reset",
        "`heksher.testing.reset`, which undoes what all of them keep in the process",
        ("heksher.testing",),
    ),
    Layer(
        "package",
        "the public names",
        ("heksher",),
    ),
]
#: The library knows none of them.
OUTER_LAYERS = [
    Layer(
        "domain of the service",
        "decides; it knows no web framework and no database",
        ("heksher.service.domain",),
    ),
    Layer(
        "storage of the service",
        "SQL; it knows no web framework",
        ("heksher.service.storage",),
    ),
    Layer(
        "service",
        "HTTP, and the public function that makes an application",
        ("heksher.service",),
    ),
    Layer(
        "faults",
        "a proxy in front of any service; it knows neither the service nor clients",
        ("heksher.testing.faults",),
    ),
    Layer(
        "live service",
        "a service for tests, and pytest's fixtures",
        ("heksher.testing._hosts", "heksher.testing.service", "heksher.pytest_plugin"),
    ),
    Layer(
        "command line",
        "`heksher demo` and `heksher serve`",
        ("heksher.cli", "heksher.__main__"),
    ),
]
LAYERS = [*LIBRARY_LAYERS, *OUTER_LAYERS]

PARTS = {part: number for number, layer in enumerate(LAYERS) for part in layer.parts}


def layer_of(module: str) -> int:
    """Return the number of the layer that names *module*, or else the innermost package around it."""
    return PARTS[max((part for part in PARTS if is_part(module, part)), key=len)]


PACKAGE = Path(heksher.__file__).parent
SOURCES = read_tree(PACKAGE, PACKAGE.parent)
IMPORTS = [each for source in SOURCES.values() for each in imports_of(source, SOURCES)]
LIBRARY = [module for module in SOURCES if layer_of(module) < len(LIBRARY_LAYERS)]
SERVICE = [module for module in SOURCES if is_part(module, "heksher.service")]

#: The parts of the library that may import these; no other one does. A package stands for all in it.
ONLY_IN = {
    "httpx": {"heksher.backends._http"},
    "httpcore": {"heksher.backends._http"},
    "http": {"heksher.backends._http"},
    "anyio": {"heksher.backends._http", "heksher.backends._anyio"},
    "trio": {"heksher.backends._anyio"},
    "asyncio": {"heksher.backends._anyio"},
    "gevent": {"heksher.backends._gevent"},
    "socket": {"heksher.backends._http", "heksher.backends._lookups"},
    "ssl": {"heksher.backends._http"},
    "time": {
        "heksher._client.files",
        "heksher._client.snapshot",
        "heksher._client.home",
        "heksher._client.run",
        "heksher.backends._http",
        "heksher.backends._steady",
        "heksher.clients.stub",
    },
    "threading": {
        "heksher._registry",
        "heksher._rules.getter",
        "heksher.backends",
        "heksher._client",
    },
    "os": {
        "heksher._client.files",
        "heksher.backends._http",
        "heksher.backends._gevent",
        "heksher._client.snapshot",
        "heksher._client.forking",
    },
    "random": {"heksher._client.stand_ins"},
    "importlib": {"heksher.backends._choose", "heksher"},
    "msgspec": {
        "heksher.explanation",
        "heksher._declared",
        "heksher._wire",
        "heksher._client.declarations",
        "heksher._client.snapshot",
    },
    "typing_extensions": {"heksher._values"},
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
    "subprocess",
    "tempfile",
}


def root_of(module: str) -> str:
    return module.partition(".")[0]


def test_imports_are_found_at_all() -> None:
    seen = {(each.module, each.imported) for each in IMPORTS}
    assert ("heksher.setting", "heksher._registry") in seen
    assert ("heksher.backends._http.transport", "httpx") in seen
    assert ("heksher.backends._anyio", "trio") in seen
    assert ("heksher", "heksher.clients.async_client") in seen


def test_layers_name_what_there_is() -> None:
    assert sorted(PARTS.keys() - SOURCES) == []


@pytest.mark.parametrize("module", SOURCES)
def test_imports_run_one_way(module: str) -> None:
    wrong = [
        f"{each} (from {LAYERS[layer_of(module)].name} to {LAYERS[layer_of(each.imported)].name})"
        for each in IMPORTS
        if each.module == module
        and is_part(each.imported, "heksher")
        and layer_of(each.imported) > layer_of(module)
    ]
    assert wrong == []


def test_no_imports_run_in_a_circle() -> None:
    graph = {
        module: {
            each.imported for each in IMPORTS if each.module == module and each.imported in SOURCES
        }
        for module in SOURCES
    }
    assert circles(graph) == []


def test_circles_are_found_at_all() -> None:
    graph = {"a": ["b"], "b": ["c", "d"], "c": ["a"], "d": ["e"], "e": ["d"], "f": ["a", "e"]}
    assert circles(graph) == [["a", "b", "c"], ["d", "e"]]
    assert circles({"a": ["b", "c"], "b": ["c"], "c": []}) == []


@pytest.mark.parametrize("package", sorted(ONLY_IN))
def test_a_package_is_imported_only_where_it_belongs(package: str) -> None:
    importing = {
        each.module
        for each in IMPORTS
        if is_part(each.imported, package) and each.module in LIBRARY
    }

    def covers(part: str, module: str) -> bool:
        return module == part or (part != "heksher" and is_part(module, part))

    parts = ONLY_IN[package]
    assert [each for each in importing if not any(covers(part, each) for part in parts)] == []
    assert [part for part in parts if not any(covers(part, each) for each in importing)] == []


def test_no_other_package_is_imported() -> None:
    wrong = [
        str(each)
        for each in IMPORTS
        if each.module in LIBRARY
        and (root := root_of(each.imported)) != "heksher"
        and (root in NOWHERE or (root not in sys.stdlib_module_names and root not in ONLY_IN))
    ]
    assert wrong == []


def test_the_pure_layers_know_no_clock_no_thread_and_no_io() -> None:
    # The registry has a lock, and so has what settings answer from.
    allowed = {("heksher._registry", "threading"), ("heksher._rules.getter", "threading")}
    forbidden = ONLY_IN.keys() - {"msgspec", "typing_extensions"} | NOWHERE
    wrong = [
        str(each)
        for each in IMPORTS
        if layer_of(each.module) < len(PURE)
        and root_of(each.imported) in forbidden
        and (each.module, each.imported) not in allowed
    ]
    assert wrong == []


def test_trio_is_imported_only_when_it_is_used() -> None:
    # It is an extra.
    assert [
        str(each) for each in IMPORTS if each.imported == "trio" and not each.is_in_function
    ] == []


def test_what_only_checkers_have_is_imported_for_them_alone() -> None:
    # typing_extensions comes with the type checkers; it is no dependency of the library.
    assert [
        str(each)
        for each in IMPORTS
        if each.imported == "typing_extensions" and not each.is_for_types
    ] == []


def test_the_service_knows_only_pure_parts_of_the_library() -> None:
    allowed = (
        "heksher.exceptions",
        "heksher._names",
        "heksher._text",
        "heksher._json_bounds",
        "heksher._values",
        "heksher._wire",
        "heksher.service",
    )
    wrong = [
        str(each)
        for each in IMPORTS
        if each.module in SERVICE
        and is_part(each.imported, "heksher")
        and each.imported != "heksher"  # for its version, see below
        and not any(is_part(each.imported, part) for part in allowed)
    ]
    assert SERVICE
    assert wrong == []


@pytest.mark.parametrize("module", SERVICE)
def test_the_service_uses_nothing_of_the_package_but_its_version(module: str) -> None:
    nodes = [*ast.walk(SOURCES[module].tree)]
    used = {
        node.attr
        for node in nodes
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "heksher"
    }
    imported = {
        alias.name
        for node in nodes
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
    wrong = [
        str(each)
        for each in IMPORTS
        if each.module == module
        and each.imported not in {"heksher.service", *PURE_SERVICE}
        and (
            is_part(each.imported, "heksher.service")
            # msgspec is only types and their encoding.
            or (root := root_of(each.imported))
            not in {*sys.stdlib_module_names, "heksher", "msgspec"}
            or root in {*ONLY_IN, *NOWHERE} - {"msgspec"}
        )
    ]
    assert wrong == []


@pytest.mark.parametrize("module", LIBRARY)
def test_no_source_is_run_that_is_not_a_file(module: str) -> None:
    calls = [
        node.lineno
        for node in ast.walk(SOURCES[module].tree)
        if isinstance(node, ast.Name) and node.id in {"exec", "eval", "compile", "__import__"}
    ]
    # The generated look-up, and nothing else.
    assert len(calls) == (module == "heksher._rules.codegen")
