"""Runs the guide: README.md and docs/*.md, each from its first block of Python to its last.

The blocks of a page share their names. A block of ``text`` shows what the block of Python before it
prints: "..." stands for anything, and numbers are compared to the digits that are shown, since
instruction sets round differently. A block that wants a package which is not installed is skipped, and
with it later ones that want its names.
"""

import contextlib
import doctest
import io

import pytest
from sybil import Document, Sybil
from sybil.evaluators.doctest import NUMBER, OutputChecker
from sybil.evaluators.python import PythonEvaluator
from sybil.integration.pytest import SybilItem
from sybil.parsers.markdown import CodeBlockParser

# What cnet does not need, and some blocks do.
OPTIONAL = {"keras", "matplotlib", "pandas", "sklearn", "torch", "tqdm"}

_FLAGS = doctest.ELLIPSIS | NUMBER


class Page(Document):
    """A page, what its last block of Python printed, and the package that a block did without."""

    printed = None
    missing = None


class _Python(PythonEvaluator):
    """Runs a block, and keeps what it prints."""

    def __call__(self, example):
        page = example.document
        page.printed = None
        output = io.StringIO()
        try:
            with contextlib.redirect_stdout(output):
                super().__call__(example)
        except ImportError as error:
            # cnet says what to install in words of its own, and Python's are the cause.
            missing = getattr(error.__cause__ or error, "name", None)
            if missing is None or missing.partition(".")[0] not in OPTIONAL:
                raise
            page.missing = missing
            pytest.skip(f"{missing} is not installed")
        except NameError:
            if page.missing is None:
                raise
            pytest.skip(f"{page.missing} is not installed, which a block above wants")
        page.printed = output.getvalue()


def _compare(example):
    """Return how a block of text differs from what was printed; None: not at all."""
    page = example.document
    shown, printed = example.parsed, page.printed
    page.printed = None  # shown but once
    if printed is None:
        if page.missing is not None:
            pytest.skip(f"{page.missing} is not installed")
        return "nothing has been printed since the last block of text"
    checker = OutputChecker()
    if checker.check_output(shown, printed, _FLAGS):
        return None
    return checker.output_difference(doctest.Example("", shown), printed, _FLAGS)


@pytest.fixture(scope="module")
def _elsewhere(tmp_path_factory):
    """Files that a page writes go to a folder of its own, and its plots nowhere."""
    folder = tmp_path_factory.mktemp("page")
    with contextlib.chdir(folder), pytest.MonkeyPatch.context() as patch:
        patch.setenv("MPLBACKEND", "Agg")
        yield


def pytest_collection_modifyitems(items):
    """Let the packages that the guide uses warn of their own future without failing it."""
    for item in items:
        if isinstance(item, SybilItem):
            item.add_marker(pytest.mark.filterwarnings("default::DeprecationWarning"))
            item.add_marker(pytest.mark.filterwarnings("default::FutureWarning"))


pytest_collect_file = Sybil(
    parsers=[CodeBlockParser("python", _Python()), CodeBlockParser("text", _compare)],
    patterns=["README.md", "docs/*.md"],
    document_types={".md": Page},
    fixtures=["_elsewhere"],
).pytest()
