"""The estimators use other objects through their public attributes only."""

import ast
from pathlib import Path

import pytest

import cnet.estimators

FILES = sorted(Path(cnet.estimators.__file__).parent.glob("*.py"))
MODULES = {path.stem for path in FILES}


def private_accesses(tree):
    """Yield the attributes starting with one underscore that belong to another object."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Attribute):
            continue
        name = node.attr
        if not name.startswith("_") or name.startswith("__"):
            continue
        own = isinstance(node.value, ast.Name) and node.value.id in {"self", "cls", *MODULES}
        own = own or (
            isinstance(node.value, ast.Call)
            and isinstance(node.value.func, ast.Name)
            and node.value.func.id == "super"
        )
        if not own:
            yield f"line {node.lineno}: {ast.unparse(node)}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_no_private_attribute_of_another_object(path):
    assert list(private_accesses(ast.parse(path.read_text()))) == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_only_helpers_are_imported_from_the_package(path):
    """Nothing imports the engine, or a private name of a module of cnet."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("cnet"):
            assert "_core" not in node.module
            if node.module != "cnet.estimators":
                assert not [alias.name for alias in node.names if alias.name.startswith("_")]


def test_the_check_finds_what_it_looks_for():
    found = list(
        private_accesses(ast.parse("network._state\nself._x\nsuper()._y\nf()._z\n_rows.a"))
    )
    assert found == ["line 1: network._state", "line 4: f()._z"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_files_are_short(path):
    assert len(path.read_text().splitlines()) <= 500
