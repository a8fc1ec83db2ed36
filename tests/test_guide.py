"""The guide: conftest.py runs its code and compares the output, and its links lead somewhere."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", *ROOT.glob("docs/*.md")])

# The blocks of a page, and the expected outcome of each.
BLOCKS = [
    ("python", "print(1 / 3, 'and', 2 / 3)", "PASSED"),
    ("text", "0.333 and 0.67", "PASSED"),
    ("text", "0.333 and 0.67", "FAILED"),  # already shown once
    ("python", "print(1 / 3, 'and', 2 / 3)", "PASSED"),
    ("text", "0.335 and 0.67", "FAILED"),  # off by more than 1 in the last digit
    ("python", "print('some words')\nthere = 'kept'", "PASSED"),
    ("text", "some ...", "PASSED"),
    ("python", "print(there)", "PASSED"),
    ("text", "lost", "FAILED"),
    ("py", "this is no Python and is not run", None),
    ("python", "nowhere", "FAILED"),
    ("python", "import a_package_that_nobody_has", "FAILED"),
    ("python", "open('file', 'w').close()", "PASSED"),
    ("python", "import warnings\nwarnings.warn('of our own', RuntimeWarning)", "FAILED"),
    ("python", "warnings.warn('of another package', DeprecationWarning)", "PASSED"),
    ("python", "import sys\nsys.modules['torch'] = sys.modules['tqdm.auto'] = None", "PASSED"),
    ("python", "import torch\nmodel = torch.nn.Linear(1, 1)\nprint('some words')", "SKIPPED"),
    ("text", "some words", "SKIPPED"),
    ("python", "print(model)", "SKIPPED"),
    ("python", "print(there)", "PASSED"),
    ("text", "kept", "PASSED"),
    (
        "python",
        "import cnet\nnet = cnet.NeuralNetwork(cnet.Layer(1, 1))\n"
        "net.train([[0.0]], [0.0], verbose='bar')",
        "SKIPPED",
    ),
]


@pytest.mark.parametrize("page", ["README.md", "docs/any.md"])
def test_blocks_run_and_their_output_is_compared(page, tmp_path):
    (tmp_path / "docs").mkdir()
    (tmp_path / "conftest.py").write_bytes((ROOT / "conftest.py").read_bytes())
    text, expected = "# A page\n", {}
    for language, code, outcome in BLOCKS:
        if outcome is not None:
            expected[text.count("\n") + 1] = outcome
        text += f"```{language}\n{code}\n```\n"
    (tmp_path / page).write_text(text, encoding="utf-8")
    before = sorted(tmp_path.rglob("*"))
    command = [sys.executable, "-B", "-m", "pytest", "-v", "-p", "no:cacheprovider"]
    result = subprocess.run(
        [*command, "-o", "filterwarnings=error", f"--basetemp={tmp_path / 'temporary'}", page],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    found = re.findall(rf"^{page}::line:(\d+),column:1 (\w+)", result.stdout, re.MULTILINE)
    assert {int(line): outcome for line, outcome in found} == expected
    after = [path for path in tmp_path.rglob("*") if "temporary" not in path.parts]
    assert sorted(after) == before


def test_the_tests_run_the_guide():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert {"README.md", "docs"} <= set(settings["tool"]["pytest"]["ini_options"]["testpaths"])


def anchors(text):
    """Return the anchors of a page's headings, as GitHub generates them."""
    text = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    links = re.findall(r"\]\(([^)]*)\)", page.read_text(encoding="utf-8"))
    for link in links:
        if not link.startswith("https:"):
            file, _, heading = link.partition("#")
            target = page.parent / file if file else page
            assert target.is_file(), link
            assert not heading or heading in anchors(target.read_text(encoding="utf-8")), link
