"""Type checking of the public interface: valid code passes, and wrong arguments are errors."""

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

import cnet

pytest.importorskip("mypy")

# Lines with an ignore must have an error, because mypy reports ignores that are not needed.
CODE = """
import numpy as np

import cnet

net = cnet.NeuralNetwork(cnet.Layer(2, 3, "relu", init="he_normal"), seed=0, dtype="float64")
net.add_layer(1, "tanh", dropout=0.5)
net.train([[0, 1]], [1], 0.1, optimizer="adam", loss="squared_error", schedule="cosine")
net.train(np.ones((1, 2)), np.ones(1), loss=cnet.Huber(0.5), metrics=["mse"], verbose="bar")
net.train([[0, 1]], [1], validation_data=([[1, 1]], [0]), class_weight="balanced")
net.train([[0, 1]], [1], callbacks=[cnet.EarlyStopping(), lambda net, epoch, logs: None])
net.train_one([0, 1], 1, optimizer=cnet.Adam(beta_1=0.5))
loss: float = net.evaluate([[0, 1]], [1], reduction="sum")["loss"]
outputs: np.ndarray = net.predict([[0, 1]])


def mean_error(y_true: np.ndarray, y_pred: np.ndarray) -> tuple[float, np.ndarray]:
    return 0.0, np.zeros_like(y_pred)


net.train([[0, 1]], [1], loss=mean_error)

net.train([[0, 1]], [1], optimizer="adamm")  # type: ignore[arg-type]
net.train([[0, 1]], [1], loss="squared")  # type: ignore[arg-type]
net.train([[0, 1]], [1], reduction="average")  # type: ignore[arg-type]
net.train([[0, 1]], [1], schedule="cosin")  # type: ignore[arg-type]
net.train([[0, 1]], [1], metrics="acuracy")  # type: ignore[arg-type]
net.train([[0, 1]], [1], verbose="bars")  # type: ignore[arg-type]
net.train([[0, 1]], [1], callbacks=3)  # type: ignore[arg-type]
net.train([[0, 1]], [1], class_weight="balance")  # type: ignore[arg-type]
net.train_one([0, 1], 1, optimizer="adamm")  # type: ignore[arg-type]
net.add_layer(1, "tan")  # type: ignore[arg-type]
net.add_layer(1, init="he")  # type: ignore[arg-type]
cnet.Layer(2, 3, "rel")  # type: ignore[arg-type]
cnet.Layer("2", 3)  # type: ignore[arg-type]
cnet.NeuralNetwork(dtype="float16")  # type: ignore[arg-type]
cnet.NeuralNetwork(seed="0")  # type: ignore[arg-type]
cnet.EarlyStopping(mode="low")  # type: ignore[arg-type]
"""


def test_mypy_rejects_invalid_arguments(tmp_path):
    file = tmp_path / "user.py"
    file.write_text(CODE)
    # mypy finds an installed package by itself, and refuses a search path that it knows.
    root = Path(cnet.__file__).parents[1]
    installed = root == Path(sysconfig.get_path("platlib"))
    found = subprocess.run(
        [
            *(sys.executable, "-m", "mypy", "--strict", "--config-file="),
            *("--disable-error-code=type-arg", "--follow-imports=silent", str(file)),
        ],
        cwd=tmp_path,
        env={**os.environ, "MYPYPATH": "" if installed else str(root)},
        capture_output=True,
        text=True,
    )
    assert found.returncode == 0, found.stdout + found.stderr
