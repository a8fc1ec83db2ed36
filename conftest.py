"""Runs the Python blocks of the guide, README.md and docs/*.md, in order.

The blocks of a page share a namespace. A ``text`` block shows the output of the Python block before it:
"..." matches anything, and numbers are compared up to the digits shown, because instruction sets round
differently. If a block requires a package that is not installed, it is skipped, and so are later blocks
that use its names.
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

# Packages that some blocks require and cnet does not.
OPTIONAL = {"keras", "matplotlib", "pandas", "sklearn", "torch", "tqdm"}

_FLAGS = doctest.ELLIPSIS | NUMBER


class Page(Document):
    """A page, the output of its last Python block, and a missing package if there was one."""

    printed = None
    missing = None


class _Python(PythonEvaluator):
    """Runs a block and stores its output."""

    def __call__(self, example):
        page = example.document
        page.printed = None
        output = io.StringIO()
        try:
            with contextlib.redirect_stdout(output):
                super().__call__(example)
        except ImportError as error:
            # cnet raises its own ImportError, which says what to install; the original one is its cause.
            missing = getattr(error.__cause__ or error, "name", None)
            if missing is None or missing.partition(".")[0] not in OPTIONAL:
                raise
            page.missing = missing
            pytest.skip(f"{missing} is not installed")
        except NameError:
            if page.missing is None:
                raise
            pytest.skip(f"{page.missing} is not installed, and a block above requires it")
        page.printed = output.getvalue()


def _compare(example):
    """Return the difference between a text block and the printed output; None if they match."""
    page = example.document
    shown, printed = example.parsed, page.printed
    page.printed = None  # each output can be shown only once
    if printed is None:
        if page.missing is not None:
            pytest.skip(f"{page.missing} is not installed")
        return "no Python block has run since the last text block"
    checker = OutputChecker()
    if checker.check_output(shown, printed, _FLAGS):
        return None
    return checker.output_difference(doctest.Example("", shown), printed, _FLAGS)


@pytest.fixture(scope="module")
def _elsewhere(tmp_path_factory):
    """Run a page in a temporary folder, without displaying its plots."""
    folder = tmp_path_factory.mktemp("page")
    with contextlib.chdir(folder), pytest.MonkeyPatch.context() as patch:
        patch.setenv("MPLBACKEND", "Agg")
        yield


def pytest_collection_modifyitems(items):
    """Allow deprecation and future warnings from the packages that the guide uses."""
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
