"""The README's code runs, from its first block to its last."""

import re
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"


@pytest.mark.filterwarnings("default")  # scikit-learn's are its own affair
def test_the_code_of_the_readme(capsys):
    text = README.read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    shown = re.findall(r"```text\n(.*?)```", text, re.DOTALL)
    assert len(blocks) > 5
    names = {}
    printed = []
    for block in blocks:
        exec(compile(block, README.name, "exec"), names)
        printed.append(capsys.readouterr().out)
    first, summary = (text.splitlines() for text in printed[:2])
    # Instruction sets round differently, in places that the first line and the labels do not show.
    assert first[0] == shown[0].splitlines()[0]
    assert first[2:] == shown[0].splitlines()[2:]
    assert summary == shown[1].splitlines()
