"""Online learning: one row at a time, as in the tutorial; sigmoids, plain gradient descent."""

from __future__ import annotations

import json
import math
import random
import subprocess
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks.groups import Group
from benchmarks.measure import Result, Settings, Task, interleaved, timed
from benchmarks.peers import PEERS

LEARNING_RATE = 0.5
LOSS_EPOCHS = 10
# libfann's two sigmoids: the exact one, and its piecewise linear approximation.
FANN_SIGMOIDS = {"libfann": "SIGMOID", "libfann, stepwise": "SIGMOID_STEPWISE"}


@dataclass(frozen=True)
class Workload:
    """A network and rows of random numbers; the class is the largest of the first numbers of a row.

    Attributes
    ----------
    sizes : tuple of int
    rows : int
    """

    sizes: tuple[int, ...]
    rows: int = 200

    def __str__(self) -> str:
        return f"{'-'.join(map(str, self.sizes))}, float64, a step after each row"

    def data(self) -> tuple[list[list[float]], list[list[float]]]:
        """Return inputs and one-hot targets, as lists."""
        numbers = random.Random(0)
        x = [[numbers.gauss(0, 1) for _ in range(self.sizes[0])] for _ in range(self.rows)]
        n_outputs = self.sizes[-1]
        largest = [max(range(n_outputs), key=row.__getitem__) for row in x]
        return x, [[float(i == label) for i in range(n_outputs)] for label in largest]

    def initial_weights(self) -> list[list[list[float]]]:
        """Return each layer's neurons: a weight for each input, followed by the bias."""
        numbers = random.Random(1)
        return [
            [[numbers.uniform(-0.5, 0.5) for _ in range(n_inputs + 1)] for _ in range(n_neurons)]
            for n_inputs, n_neurons in pairwise(self.sizes)
        ]


class PlainNetwork:
    """A network as in tutorials that start from scratch: lists of neurons, each a dictionary."""

    def __init__(self, weights: list[list[list[float]]]) -> None:
        self.layers: list[list[dict[str, Any]]] = [
            [{"weights": neuron} for neuron in layer] for layer in weights
        ]

    def forward(self, inputs: list[float]) -> list[float]:
        """Return the outputs for a row."""
        for layer in self.layers:
            outputs = []
            for neuron in layer:
                weights = neuron["weights"]
                activation = weights[-1]
                for i in range(len(weights) - 1):
                    activation += weights[i] * inputs[i]
                neuron["output"] = 1.0 / (1.0 + math.exp(-activation))
                outputs.append(neuron["output"])
            inputs = outputs
        return inputs

    def backward(self, expected: list[float]) -> None:
        """Compute each neuron's delta."""
        for i in reversed(range(len(self.layers))):
            for j, neuron in enumerate(self.layers[i]):
                if i == len(self.layers) - 1:
                    error = neuron["output"] - expected[j]
                else:
                    error = 0.0
                    for above in self.layers[i + 1]:
                        error += above["weights"][j] * above["delta"]
                neuron["delta"] = error * neuron["output"] * (1.0 - neuron["output"])

    def update(self, inputs: list[float], learning_rate: float) -> None:
        """Update the weights with the deltas."""
        for layer in self.layers:
            for neuron in layer:
                weights = neuron["weights"]
                for j in range(len(inputs)):
                    weights[j] -= learning_rate * neuron["delta"] * inputs[j]
                weights[-1] -= learning_rate * neuron["delta"]
            inputs = [neuron["output"] for neuron in layer]

    def train(
        self, x: list[list[float]], y: list[list[float]], learning_rate: float, epochs: int
    ) -> float:
        """Train row by row, and return the last epoch's sum of squared errors."""
        total = 0.0
        for _ in range(epochs):
            total = 0.0
            for inputs, expected in zip(x, y, strict=True):
                outputs = self.forward(inputs)
                total += sum((expected[i] - outputs[i]) ** 2 for i in range(len(expected)))
                self.backward(expected)
                self.update(inputs, learning_rate)
        return total


def cnet_network(workload: Workload) -> Any:
    """Return a cnet network with the common initial weights."""
    import cnet

    net = cnet.NeuralNetwork(dtype="float64").add_layer(workload.sizes[0], input_layer=True)
    for n_neurons in workload.sizes[1:]:
        net.add_layer(n_neurons)
    for layer, neurons in zip(net.layers, workload.initial_weights(), strict=True):
        layer.weights = [
            list(row) for row in zip(*(neuron[:-1] for neuron in neurons), strict=True)
        ]
        layer.biases = [neuron[-1] for neuron in neurons]
    return net


def cnet_contestant(workload: Workload) -> tuple[Task, float]:
    """Return cnet's task, an epoch with the rows in order, and its error after `LOSS_EPOCHS` epochs."""
    import numpy as np

    net = cnet_network(workload)
    x, y = map(np.array, workload.data())

    def train(epochs: int) -> float:
        history = net.train(
            x, y, LEARNING_RATE, epochs, optimizer="sgd", shuffle=False, verbose=False
        )
        # cnet's loss is half the sum of squares.
        return 2 * history["loss"][-1] / workload.sizes[-1]

    return timed(train), train(LOSS_EPOCHS)


def python_contestant(workload: Workload) -> tuple[Task, float]:
    """Return the task and the error in plain Python."""
    net = PlainNetwork(workload.initial_weights())
    x, y = workload.data()
    total = net.train(x, y, LEARNING_RATE, LOSS_EPOCHS)
    task = timed(lambda epochs: net.train(x, y, LEARNING_RATE, epochs))
    return task, total / workload.rows / workload.sizes[-1]


def fann_contestant(
    workload: Workload, sigmoid: str, settings: Settings, stack: ExitStack
) -> tuple[Task, float]:
    """Return libfann's task and error; libfann times itself in a separate process."""
    script = Path(__file__).with_name("fann_online.py")
    process = stack.enter_context(
        subprocess.Popen(
            [settings.fann_python, script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
    )
    # Close the input before waiting for the process.
    stack.callback(process.stdin.close)

    def ask(value: object) -> float:
        print(json.dumps(value), file=process.stdin)
        return float(process.stdout.readline())

    x, y = workload.data()
    error = ask(
        {
            "sizes": workload.sizes,
            "x": x,
            "y": y,
            "sigmoid": sigmoid,
            "learning_rate": LEARNING_RATE,
            "epochs": LOSS_EPOCHS,
        }
    )
    return ask, error


WORKLOADS = {
    "online-2": Workload((2, 2, 2)),
    "online-21": Workload((21, 32, 3)),
    "online-125": Workload((125, 32, 2)),
}


def measure(name: str, settings: Settings) -> list[Result]:
    """Time epochs, and report the time per row."""
    workload = WORKLOADS[name]
    with ExitStack() as stack:
        contestants = {"cnet": cnet_contestant(workload)}
        if "python" in settings.peers:
            contestants[PEERS["python"].title] = python_contestant(workload)
        if "fann" in settings.peers:
            for title, sigmoid in FANN_SIGMOIDS.items():
                contestants[title] = fann_contestant(workload, sigmoid, settings, stack)
        times = interleaved({title: task for title, (task, _) in contestants.items()}, settings)
    return [
        Result(
            name,
            {"net": "-".join(map(str, workload.sizes))},
            "ns per row",
            1e9,
            {title: [s / workload.rows for s in seconds] for title, seconds in times.items()},
            losses={title: error for title, (_, error) in contestants.items()},
            loss_epochs=LOSS_EPOCHS,
        )
    ]


GROUP = Group(
    title="Online learning",
    about=(
        "Gradient descent after each row, rows in order, sigmoids, float64, one core. "
        "libfann trains incrementally, with its exact sigmoid and with its stepwise sigmoid. It starts "
        "from its own weights; the others start from the same weights."
    ),
    workloads=WORKLOADS,
    peers=("python", "fann"),
    measure=measure,
)
