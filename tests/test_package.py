"""The package as a whole: its names, its version, what importing it brings along."""

import importlib.metadata
import importlib.resources
import os
import subprocess
import sys
import types

import numpy as np
import pytest

import cnet
from cnet import _core, classic
from cnet._core import available_isas


def run(code, **environment):
    """Return what a fresh interpreter prints."""
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, **environment},
    ).stdout


def test_all_is_what_can_be_imported():
    public = {
        name
        for name, value in vars(cnet).items()
        if not name.startswith("_") and not isinstance(value, types.ModuleType)
    }
    assert set(cnet.__all__) == public | {"__version__"}
    assert len(cnet.__all__) == len(set(cnet.__all__))
    assert all(getattr(cnet, name) is not None for name in cnet.__all__)


def test_star_import():
    names = {}
    exec("from cnet import *", names)
    assert set(names) - {"__builtins__"} == set(cnet.__all__)


def test_version():
    assert cnet.__version__ == importlib.metadata.version("cnet")


def test_py_typed():
    assert importlib.resources.files("cnet").joinpath("py.typed").is_file()


@pytest.mark.parametrize("name", [name for name in cnet.__all__ if name != "__version__"])
def test_every_name_has_a_docstring(name):
    assert getattr(cnet, name).__doc__


@pytest.mark.parametrize(
    "method",
    [
        method
        for cls in (cnet.NeuralNetwork, cnet.Layer, classic.NeuralNetwork, classic.Layer)
        for name, method in vars(cls).items()
        if not name.startswith("_") and callable(method)
    ],
    ids=lambda method: method.__qualname__,
)
def test_every_method_has_a_docstring(method):
    assert method.__doc__


def test_importing_brings_numpy_and_nothing_else_of_weight():
    loaded = run("import sys, cnet, cnet.classic; print(*sys.modules)").split()
    assert "cnet._core.engine" in loaded
    packages = {name.partition(".")[0] for name in loaded}
    assert not packages & {"scipy", "sklearn", "pandas", "matplotlib", "torch", "tqdm", "Cython"}


@pytest.mark.parametrize("isa", available_isas())
def test_the_instruction_set_can_be_chosen(isa):
    # And each of them computes the same, but for rounding.
    code = (
        "import cnet; from cnet._core import ISA; print(ISA);"
        "net = cnet.NeuralNetwork(cnet.Layer(3, 4, 'tanh'), cnet.Layer(4, 1), seed=0);"
        "net.train([[1, 2, 3], [3, 2, 1]], [0, 1], 0.5, 20, verbose=False);"
        "print(net.predict([0.5, 0.25, 1])[0])"
    )
    chosen, output = run(code, CNET_ISA=isa).split()
    assert chosen == isa
    assert float(output) == pytest.approx(float(run(code, CNET_ISA="").split()[1]), rel=1e-5)


def test_an_unknown_instruction_set_is_refused():
    with pytest.raises(subprocess.CalledProcessError) as caught:
        run("import cnet", CNET_ISA="x86_64_v9")
    assert f"CNET_ISA must be one of {', '.join(available_isas())}" in caught.value.stderr
    assert "got 'x86_64_v9'" in caught.value.stderr


def test_importing_draws_no_random_numbers_and_prints_nothing():
    assert (
        run(
            "import numpy as np; np.random.seed(1); import cnet, cnet.classic;"
            "print(np.random.random())"
        )
        == f"{np.random.RandomState(1).random()}\n"
    )


def test_every_error_of_cnet_is_its_own_or_pythons():
    assert issubclass(cnet.DivergenceError, ArithmeticError)
    assert issubclass(cnet.History, dict)


def test_show_config(capsys):
    cnet.show_config()
    printed = capsys.readouterr().out
    assert cnet.__version__ in printed
    assert np.__version__ in printed
    assert f"instruction set {_core.ISA}, of {', '.join(available_isas())}" in printed
