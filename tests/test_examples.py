"""Runs the examples as a user does."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
SCRIPTS = sorted(path.name for path in EXAMPLES.glob("*.py"))
NEEDS_DATA = ["bank_customers.py", "mnist.py"]


def run(script, *arguments, cwd):
    """Run an example outside the checkout."""
    return subprocess.run(
        [sys.executable, EXAMPLES / script, *arguments],
        capture_output=True,
        text=True,
        encoding="utf-8",
        cwd=cwd,
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
    )


def output_of(script, *arguments, cwd):
    """Return the output of an example that must succeed."""
    result = run(script, *arguments, cwd=cwd)
    assert (result.returncode, result.stderr) == (0, "")
    return result.stdout


def test_all_examples_are_tested():
    assert (
        sorted(["digits.py", "fullbatch_tutorial.py", "online_tutorial.py", *NEEDS_DATA]) == SCRIPTS
    )


def test_online_tutorial(tmp_path):
    output = output_of("online_tutorial.py", cwd=tmp_path)
    errors = [float(error) for error in re.findall(r"Epoch: \d+, Total Error: ([\d.]+)", output)]
    assert len(errors) == 100
    assert errors[-1] < 1 < errors[0]
    answers = re.findall(r"expected class (\d), got (\d)", output)
    assert len(answers) == 10
    assert all(expected == got for expected, got in answers)
    assert "Layer 2 (2 neurons, each with 2 inputs):" in output


def test_fullbatch_tutorial(tmp_path):
    output = output_of("fullbatch_tutorial.py", cwd=tmp_path)
    assert "Stage 1) Random starting weights:" in output
    assert "[-1.65955991e-01" in output or "[-0.16595599" in output
    assert "Training: 10 %" in output
    assert "Training complete - 100%!" in output
    assert "[[-3.97185157  4.66297249 -5.25188655  1.39753303]" in output
    assert output.endswith("[0.99942671]\n")


def test_fullbatch_tutorial_with_fewer_iterations(tmp_path):
    output = output_of("fullbatch_tutorial.py", "--iterations", "20", cwd=tmp_path)
    assert "20 iterations" in output
    assert "[0.99942671]" not in output


def test_digits(tmp_path):
    output = output_of("digits.py", "--epochs", "10", "--hidden", "32", cwd=tmp_path)
    assert "2,410 parameters, float32" in output
    assert re.findall(r"epoch +(\d+): loss", output) == ["5", "10"]
    assert float(re.search(r"Test accuracy: ([\d.]+)", output)[1]) > 0.93
    assert "Misread digits" in output
    assert "% sure" in output


@pytest.mark.parametrize("script", SCRIPTS)
def test_help(script, tmp_path):
    output = output_of(script, "--help", cwd=tmp_path)
    assert output.startswith(f"usage: {script}")
    assert f"python examples/{script}" in output


@pytest.mark.parametrize("script", NEEDS_DATA)
@pytest.mark.parametrize("arguments", [(), ("--data", "nowhere")], ids=["none", "missing"])
def test_missing_data(script, arguments, tmp_path):
    result = run(script, *arguments, cwd=tmp_path)
    assert result.returncode == 2
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    assert ("nowhere" if arguments else "--data") in result.stderr


def test_a_file_of_another_format(tmp_path):
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    result = run("bank_customers.py", "--data", "other.csv", cwd=tmp_path)
    assert result.returncode == 2
    assert "other.csv has no column" in result.stderr
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(b"not compressed")
    result = run("mnist.py", "--data", ".", cwd=tmp_path)
    assert result.returncode == 2
    assert "train-images-idx3-ubyte.gz" in result.stderr or "Not a gzipped file" in result.stderr
    assert "Traceback" not in result.stderr
