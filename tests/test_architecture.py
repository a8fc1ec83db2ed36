"""The structure of the package: imports go one way, and modules stay small."""

import ast
import re
from pathlib import Path

import pytest

import cnet

ROOT = Path(cnet.__file__).parent
SOURCE = ROOT.parent / "cnet/_core/engine.pyx"

# From the lowest level up. A module imports modules of lower levels only, and modules of one level only
# if they are in the same folder.
LEVELS = (
    ("_core",),
    ("_checks", "_records", "history", "progress"),
    ("_arrays", "activations", "metrics", "optimizers", "threads"),
    ("callbacks", "config", "initializers", "losses"),
    ("data", "layers", "schedules"),
    ("model",),
    ("_lowering",),
    ("_plan",),
    ("_epochs",),
    ("recording",),
    ("transaction",),
    ("training",),
    ("_describe", "_pickling", "building"),
    ("inference",),
    ("network",),
    ("classic", "estimators"),
)
LEVEL = {name: i for i, names in enumerate(LEVELS) for name in names}

# The engine is called by these, for one function or constant by the second line.
ENGINE = {"_lowering", "_plan"} | {"_arrays", "threads"}


@pytest.fixture(scope="module")
def graph():
    grimp = pytest.importorskip("grimp", reason="it reads the imports")
    return grimp.build_graph("cnet", cache_dir=None)


def part(module):
    """Return the module or folder directly within the package."""
    return module.split(".")[1] if "." in module else None


def test_every_module_has_a_level(graph):
    assert {part(module) for module in graph.modules} - {None} == set(LEVEL)


def test_imports_go_down(graph):
    wrong = []
    for module in graph.modules - {"cnet"}:
        for imported in graph.find_modules_directly_imported_by(module):
            own, other = part(module), part(imported)
            if other is None or (own != other and LEVEL[other] >= LEVEL[own]):
                wrong.append(f"{module} imports {imported}")
    assert wrong == []


def test_no_circle(graph):
    done, path = set(), []

    def visit(module):
        assert module not in path, " → ".join([*path[path.index(module) :], module])
        if module not in done:
            path.append(module)
            for imported in graph.find_modules_directly_imported_by(module):
                visit(imported)
            path.pop()
            done.add(module)

    for module in graph.modules - {"cnet"}:
        visit(module)


def imports_of(path):
    """Yield the names of the modules that a file imports, with those of what it imports from them."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_few_modules_call_the_engine():
    found = {
        part(".".join(path.relative_to(ROOT.parent).with_suffix("").parts))
        for path in ROOT.rglob("*.py")
        if any(name.startswith("cnet._core.engine") for name in imports_of(path))
    }
    assert found <= ENGINE


def test_the_engine_imports_nothing_of_the_package():
    for path in (ROOT / "_core").glob("*.py"):
        assert all(
            name.startswith("cnet._core")
            for name in imports_of(path)
            if name.split(".")[0] == "cnet"
        )


def test_modules_are_small():
    def lines(path):
        return path.read_text().count("\n")

    assert lines(ROOT / "network.py") < 450
    for path in ROOT.rglob("*.py"):
        assert lines(path) <= 500, path
    for pattern in ("*.pyx", "*.pxd", "*.pxi"):
        for path in (ROOT / "_core").glob(pattern):
            assert lines(path) <= 600, path


@pytest.mark.skipif(not SOURCE.exists(), reason="the engine's source is not installed")
def test_every_pxd_of_the_engine_is_used():
    used = set(
        re.findall(
            r"from cnet\._core\.(\w+) cimport",
            "".join(path.read_text() for path in SOURCE.parent.glob("*.p*x*")),
        )
    )
    assert {path.stem for path in SOURCE.parent.glob("*.pxd")} == used
