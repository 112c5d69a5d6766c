"""What the library asserts is for type checkers alone: under ``python -O`` nothing of it is left."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from source_tree import read_tree

ROOT = Path(__file__).parents[2]


def is_for_type_checkers(node: ast.Assert) -> bool:
    """Whether an assertion only narrows a type: it has no message, does no work, and cannot fail."""

    def narrows(test: ast.expr) -> bool:
        match test:
            case ast.BoolOp(op=ast.And(), values=values):
                return all(map(narrows, values))
            case ast.Compare(ops=[ast.IsNot()], comparators=[ast.Constant(value=None)]):
                return not any(isinstance(each, ast.Call) for each in ast.walk(test))
            case ast.Call(func=ast.Name(id="isinstance" | "callable"), args=[ast.Name(), *_]):
                return True
            case _:
                return False

    return node.msg is None and narrows(node.test)


@pytest.mark.parametrize(
    ("statement", "is_allowed"),
    [
        ("assert a is not None", True),
        ("assert a.b is not None and c is not None", True),
        ("assert isinstance(a, int)", True),
        ("assert a is not None, 'it was never started'", False),
        ("assert f() is not None", False),
        ("assert event.wait(5)", False),
        ("assert isinstance(f(), int)", False),
        ("assert (a := 5) == 5", False),
        ("assert not a.is_running", False),
    ],
)
def test_what_counts_as_an_assertion_for_type_checkers(statement: str, is_allowed: bool) -> None:
    (node,) = ast.parse(statement).body
    assert isinstance(node, ast.Assert)
    assert is_for_type_checkers(node) is is_allowed


def test_nothing_depends_on_an_assertion() -> None:
    sources = read_tree(ROOT / "heksher", ROOT)
    found = [
        f"{source.module}, line {node.lineno}: {ast.unparse(node)}"
        for source in sources.values()
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Assert) and not is_for_type_checkers(node)
    ]
    assert not found
