"""Who is timed: for each library a function that builds a network once and then trains epochs of it."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from benchmarks.workloads import Workload

# Trains so many whole shuffled epochs and returns the mean loss of the last.
Trainer: TypeAlias = Callable[[int], float]


def cnet_trainer(workload: Workload) -> Trainer:
    """Time ``NeuralNetwork.train``."""
    import cnet

    x, y = workload.data()
    net = cnet.NeuralNetwork(seed=0).add_layer(workload.sizes[0], input_layer=True)
    for n_neurons in workload.sizes[1:-1]:
        net.add_layer(n_neurons, "relu")
    net.add_layer(workload.sizes[-1], "softmax")

    def train(epochs: int) -> float:
        history = net.train(
            x,
            y,
            workload.learning_rate,
            epochs,
            batch_size=workload.batch_size,
            optimizer="adam",
            verbose=False,
        )
        return history["loss"][-1]

    return train


def sklearn_trainer(workload: Workload) -> Trainer:
    """Time ``MLPClassifier.fit`` with as many iterations as epochs are wanted."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier

    x, y = workload.data()
    model = MLPClassifier(
        workload.sizes[1:-1],
        alpha=0,
        batch_size=workload.batch_size,
        learning_rate_init=workload.learning_rate,
        tol=0,
        n_iter_no_change=10**9,
        random_state=0,
    )

    def train(epochs: int) -> float:
        model.set_params(max_iter=epochs)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(x, y)
        return float(model.loss_curve_[-1])

    return train


def torch_trainer(workload: Workload) -> Trainer:
    """Time the usual loop with the fused Adam; rows are shuffled by index, without a DataLoader."""
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(0)
    arrays = workload.data()
    x, y = torch.from_numpy(arrays[0]), torch.from_numpy(arrays[1])
    modules: list[Any] = []
    for n_inputs, n_neurons in zip(workload.sizes, workload.sizes[1:], strict=False):
        modules += [torch.nn.Linear(n_inputs, n_neurons), torch.nn.ReLU()]
    model = torch.nn.Sequential(*modules[:-1])
    optimizer = torch.optim.Adam(model.parameters(), workload.learning_rate, fused=True)
    loss_of = torch.nn.CrossEntropyLoss()

    def train(epochs: int) -> float:
        total = torch.zeros(())
        for _ in range(epochs):
            total = torch.zeros(())
            for rows in torch.randperm(len(x)).split(workload.batch_size):
                optimizer.zero_grad()
                loss = loss_of(model(x[rows]), y[rows])
                loss.backward()
                optimizer.step()
                total += loss.detach() * len(rows)
        return float(total) / len(x)

    return train


def numpy_trainer(workload: Workload) -> Trainer:
    """Time the same algorithm written out in NumPy."""
    x, y = workload.data()
    rng = np.random.default_rng(0)
    shapes = list(zip(workload.sizes, workload.sizes[1:], strict=False))
    weights = [
        rng.uniform(-1, 1, shape).astype(np.float32) * np.float32(np.sqrt(6 / shape[0]))
        for shape in shapes
    ]
    parameters = [*weights, *(np.zeros(shape[1], np.float32) for shape in shapes)]
    means = [np.zeros_like(p) for p in parameters]
    squares = [np.zeros_like(p) for p in parameters]
    step = 0

    def train(epochs: int) -> float:
        nonlocal step
        n_layers = len(shapes)
        total = 0.0
        for _ in range(epochs):
            total = 0.0
            order = rng.permutation(len(x))
            for start in range(0, len(x), workload.batch_size):
                rows = order[start : start + workload.batch_size]
                outputs = [x[rows]]
                for i in range(n_layers):
                    z = outputs[-1] @ parameters[i] + parameters[n_layers + i]
                    outputs.append(np.maximum(z, 0) if i < n_layers - 1 else z)
                scores = outputs.pop()
                scores -= scores.max(axis=1, keepdims=True)
                log_sum = np.log(np.exp(scores).sum(axis=1))
                picked = np.arange(len(rows)), y[rows]
                total += float((log_sum - scores[picked]).sum())
                delta = np.exp(scores - log_sum[:, None])
                delta[picked] -= 1
                delta /= len(rows)
                gradients = [np.empty(0, np.float32)] * (2 * n_layers)
                for i in range(n_layers - 1, -1, -1):
                    gradients[i] = outputs[i].T @ delta
                    gradients[n_layers + i] = delta.sum(axis=0)
                    if i > 0:
                        delta = (delta @ parameters[i].T) * (outputs[i] > 0)
                step += 1
                rate = np.float32(
                    workload.learning_rate * np.sqrt(1 - 0.999**step) / (1 - 0.9**step)
                )
                for p, g, m, v in zip(parameters, gradients, means, squares, strict=True):
                    m += np.float32(0.1) * (g - m)
                    v += np.float32(0.001) * (g * g - v)
                    p -= rate * m / (np.sqrt(v) + np.float32(1e-8))
        return total / len(x)

    return train


PEERS: dict[str, Callable[[Workload], Trainer]] = {
    "NumPy": numpy_trainer,
    "scikit-learn": sklearn_trainer,
    "PyTorch": torch_trainer,
}
