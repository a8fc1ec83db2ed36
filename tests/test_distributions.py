"""The wheel and the source distribution: they hold every package and every file that belongs to it."""

import importlib.metadata
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
IN_SOURCE_TREE = (ROOT / "setup.py").is_file() and (ROOT / "cnet").is_dir()


def setuptools_is_new_enough():
    """Whether the setuptools here reads pyproject.toml, which requires 77."""
    try:
        version = importlib.metadata.version("setuptools")
    except importlib.metadata.PackageNotFoundError:
        return False
    return int(version.partition(".")[0]) >= 77


pytestmark = [
    pytest.mark.skipif(not IN_SOURCE_TREE, reason="there is no source tree to build from"),
    pytest.mark.skipif(not setuptools_is_new_enough(), reason="setuptools>=77 is not installed"),
]

# Files that the build makes, in cnet/_core.
MADE = {".c", ".html", ".o", ".pyd", ".so"}
# The engine takes minutes to compile, and the built wheel is tested as a whole in .ci/run.
SETUP = "from setuptools import setup\nsetup()\n"
BUILD = """\
import sys
from setuptools import build_meta
output = sys.argv[1]  # build_meta changes sys.argv
build_meta.build_sdist(output)
build_meta.build_wheel(output)
"""


def files_below(folder):
    """Return the paths of a folder's own files, relative to the source tree."""
    return {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / folder).rglob("*")
        if path.is_file()
        and "__pycache__" not in path.parts
        and not (path.parent.name == "_core" and path.suffix in MADE)
    }


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Return the names in a wheel and in a source distribution built without the engine."""
    tree = tmp_path_factory.mktemp("tree")
    ignored = shutil.ignore_patterns("__pycache__", "engine.c", "cpu.c", "*.so", "*.pyd", "*.html")
    for path in ROOT.iterdir():
        if path.name in ("benchmarks", "cnet", "docs", "examples", "tests"):
            shutil.copytree(path, tree / path.name, ignore=ignored)
        elif path.is_file() and not path.name.startswith("."):
            shutil.copy(path, tree)
    # A package that nobody has listed anywhere.
    new = tree / "cnet" / "new" / "newer"
    new.mkdir(parents=True)
    (new.parent / "__init__.py").touch()
    (new / "__init__.py").touch()
    (tree / "setup.py").write_text(SETUP)
    output = tmp_path_factory.mktemp("dist")
    subprocess.run([sys.executable, "-c", BUILD, output], cwd=tree, check=True, capture_output=True)
    (wheel,) = output.glob("*.whl")
    (source,) = output.glob("*.tar.gz")
    with zipfile.ZipFile(wheel) as archive:
        in_wheel = set(archive.namelist())
    with tarfile.open(source) as archive:
        in_source = {name.partition("/")[2] for name in archive.getnames()}
    return in_wheel, in_source


NEW = {"cnet/new/__init__.py", "cnet/new/newer/__init__.py"}


def test_the_wheel_holds_every_module_and_stub(built):
    in_wheel, _ = built
    wanted = {name for name in files_below("cnet") if name.endswith((".py", ".pyi", "py.typed"))}
    assert {"cnet/__init__.py", "cnet/_core/engine.pyi", "cnet/py.typed"} <= wanted
    found = {name for name in in_wheel if ".dist-info/" not in name}
    assert found == wanted | NEW


def test_the_source_distribution_holds_everything(built):
    _, in_source = built
    wanted = set().union(*map(files_below, ("benchmarks", "cnet", "docs", "examples", "tests")))
    wanted |= {"pyproject.toml", "setup.py", "conftest.py", "README.md", "LICENSE", "CHANGELOG.md"}
    assert {"cnet/_core/engine.pyx", "cnet/_core/tile.h", "tests/test_distributions.py"} <= wanted
    assert wanted | NEW <= in_source
