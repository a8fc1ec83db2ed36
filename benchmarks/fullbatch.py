"""The full-batch tutorial: two sigmoid layers, all fifteen rows in every step, float64."""

from __future__ import annotations

import contextlib
import io

import numpy as np
from numpy.typing import NDArray

from benchmarks.groups import Group
from benchmarks.measure import Result, Settings, Task, interleaved, timed
from benchmarks.peers import PEERS

ZEROS = [(0, 0), (0, 1), (0, 2), (-1, 0), (-2, -2), (-2, -1), (-1, -1)]
ONES = [(1, -1), (1, 0), (1, 1), (2, 0), (3, 0), (0, -3), (0, -2), (2, -2)]
INPUTS = np.array(ZEROS + ONES)
OUTPUTS = np.array([[0] * len(ZEROS) + [1] * len(ONES)]).T
SIZES = (2, 4, 1)


class NumpyTutorial:
    """The tutorial's algorithm, unchanged."""

    def __init__(self) -> None:
        np.random.seed(1)
        self.weights1 = 2 * np.random.random(SIZES[:2]) - 1
        self.weights2 = 2 * np.random.random(SIZES[1:]) - 1

    def train(self, iterations: int) -> None:
        """Make `iterations` steps."""
        for _ in range(iterations):
            hidden = self.sigmoid(np.dot(INPUTS, self.weights1))
            output = self.sigmoid(np.dot(hidden, self.weights2))
            output_delta = (OUTPUTS - output) * self.derivative(output)
            hidden_delta = output_delta.dot(self.weights2.T) * self.derivative(hidden)
            self.weights1 += INPUTS.T.dot(hidden_delta)
            self.weights2 += hidden.T.dot(output_delta)

    def sigmoid(self, z: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the sigmoid."""
        return 1 / (1 + np.exp(-z))

    def derivative(self, output: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the sigmoid's derivative, computed from its output."""
        return output * (1 - output)


def cnet_task() -> Task:
    """Return the task for ``cnet.classic``, with the tutorial's initial weights."""
    from cnet import classic

    np.random.seed(1)
    net = classic.NeuralNetwork(classic.Layer(*SIZES[:2]), classic.Layer(*SIZES[1:]))

    def train(iterations: int) -> None:
        with contextlib.redirect_stdout(io.StringIO()):
            net.train(INPUTS, OUTPUTS, iterations)

    return timed(train)


def measure(name: str, settings: Settings) -> list[Result]:
    """Time all iterations in one call, as in the tutorial."""
    iterations = settings.iterations
    tasks = {"cnet": cnet_task()}
    if "numpy" in settings.peers:
        tasks[PEERS["numpy"].title] = timed(NumpyTutorial().train)
    for task in tasks.values():
        task(100)
    times = interleaved(tasks, settings, count=iterations)
    return [
        Result(
            name,
            {"net": "-".join(map(str, SIZES)), "rows": len(INPUTS), "iterations": iterations},
            "ms in total",
            1e3,
            {title: [s * iterations for s in seconds] for title, seconds in times.items()},
        )
    ]


GROUP = Group(
    title="Full-batch tutorial",
    about="`cnet.classic` and the tutorial's NumPy code: the same steps and initial weights, one core.",
    workloads={"fullbatch": "2-4-1, 15 rows, float64, 100,000 iterations"},
    peers=("numpy",),
    measure=measure,
)
