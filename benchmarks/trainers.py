"""Each library's fastest way to train the same network on the same data from the same weights."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from benchmarks.workloads import Workload, data, initial_weights

# Trains for a number of shuffled epochs and returns the mean loss of the last one.
Trainer: TypeAlias = Callable[[int], float]


def cnet_trainer(workload: Workload) -> Trainer:
    """Use ``NeuralNetwork.train``."""
    import cnet

    x, y = data(workload)
    net = cnet.NeuralNetwork(seed=0).add_layer(workload.sizes[0], input_layer=True)
    for n_neurons in workload.sizes[1:-1]:
        net.add_layer(n_neurons, "relu")
    net.add_layer(workload.sizes[-1], "softmax")
    for layer, weights in zip(net.layers, initial_weights(workload), strict=True):
        layer.weights = weights

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


def numpy_trainer(workload: Workload) -> Trainer:
    """Use a NumPy implementation of the algorithm, with one flat array of parameters for Adam."""
    x, y = data(workload)
    rng = np.random.default_rng(0)
    shapes = list(pairwise(workload.sizes))
    n_layers = len(shapes)
    n_parameters = sum((n_inputs + 1) * n_neurons for n_inputs, n_neurons in shapes)
    parameters, gradient, mean, square, scratch = np.zeros((5, n_parameters), np.float32)

    def views(flat: NDArray[np.float32]) -> tuple[list[Any], list[Any]]:
        weights, biases, at = [], [], 0
        for n_inputs, n_neurons in shapes:
            end = at + n_inputs * n_neurons
            weights.append(flat[at:end].reshape(n_inputs, n_neurons))
            at = end + n_neurons
            biases.append(flat[end:at])
        return weights, biases

    weights, biases = views(parameters)
    weight_gradients, bias_gradients = views(gradient)
    for view, values in zip(weights, initial_weights(workload), strict=True):
        view[:] = values
    step = 0

    def learn(rows: NDArray[np.int64]) -> float:
        nonlocal step
        outputs = [x[rows]]
        for i in range(n_layers):
            z = outputs[-1] @ weights[i]
            z += biases[i]
            outputs.append(np.maximum(z, 0, out=z) if i < n_layers - 1 else z)
        scores = outputs.pop()
        scores -= scores.max(axis=1, keepdims=True)
        delta = np.exp(scores)
        sums = delta.sum(axis=1)
        picked = np.arange(len(rows)), y[rows]
        loss = float((np.log(sums) - scores[picked]).sum())
        delta /= sums[:, None]
        delta[picked] -= 1
        delta /= len(rows)
        for i in range(n_layers - 1, -1, -1):
            np.matmul(outputs[i].T, delta, out=weight_gradients[i])
            delta.sum(axis=0, out=bias_gradients[i])
            if i > 0:
                delta = delta @ weights[i].T
                delta *= outputs[i] > 0
        step += 1
        rate = workload.learning_rate * np.sqrt(1 - 0.999**step) / (1 - 0.9**step)
        np.subtract(gradient, mean, out=scratch)
        mean[:] += np.multiply(scratch, np.float32(0.1), out=scratch)
        np.multiply(gradient, gradient, out=scratch)
        np.subtract(scratch, square, out=scratch)
        square[:] += np.multiply(scratch, np.float32(0.001), out=scratch)
        np.sqrt(square, out=scratch)
        np.add(scratch, np.float32(1e-8), out=scratch)
        np.divide(mean, scratch, out=scratch)
        parameters[:] -= np.multiply(scratch, np.float32(rate), out=scratch)
        return loss

    def train(epochs: int) -> float:
        total = 0.0
        for _ in range(epochs):
            order = rng.permutation(len(x))
            batches = range(0, len(x), workload.batch_size)
            total = sum(learn(order[i : i + workload.batch_size]) for i in batches)
        return total / len(x)

    return train


def sklearn_trainer(workload: Workload) -> Trainer:
    """Use ``MLPClassifier.fit`` with the number of epochs as ``max_iter``."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier

    x, y = data(workload)
    model = MLPClassifier(
        workload.sizes[1:-1],
        alpha=0,
        batch_size=workload.batch_size,
        learning_rate_init=workload.learning_rate,
        max_iter=1,
        tol=0,
        n_iter_no_change=10**9,
        warm_start=True,
        random_state=0,
    )
    n_classes = workload.sizes[-1]

    def fit(x: NDArray[np.float32], y: NDArray[np.int64]) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(x, y)

    # Fitting a batch with every class allocates the weights, which then get the common initial values.
    fit(x[: workload.batch_size], np.arange(workload.batch_size) % n_classes)
    weights = initial_weights(workload)
    if n_classes == 2:
        # For two classes it has one logistic output, whose weights are the difference of the two.
        weights[-1] = weights[-1][:, 1:] - weights[-1][:, :1]
    model.coefs_ = weights
    model.intercepts_ = [np.zeros(w.shape[1], np.float32) for w in weights]

    def train(epochs: int) -> float:
        model.set_params(max_iter=epochs)
        fit(x, y)
        return float(model.loss_curve_[-1])

    return train


def torch_trainer(workload: Workload) -> Trainer:
    """Use the usual loop with fused Adam; rows are shuffled by index, without a DataLoader."""
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(0)
    x, y = (torch.from_numpy(array) for array in data(workload))
    modules: list[Any] = []
    for weights in initial_weights(workload):
        layer = torch.nn.Linear(*weights.shape)
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(weights.T))
            layer.bias.zero_()
        modules += [layer, torch.nn.ReLU()]
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


def jax_trainer(workload: Workload) -> Trainer:
    """Use one compiled function per epoch, which scans over the batches.

    NumPy generates the row order, several times faster than JAX does on a CPU.
    """
    import jax
    import jax.numpy as jnp

    x, y = (jnp.asarray(array) for array in data(workload))
    rng = np.random.default_rng(0)
    n_rows, batch_size = len(x), workload.batch_size
    n_whole = n_rows - n_rows % batch_size

    def loss_of(layers: Any, x: Any, y: Any) -> Any:
        for weights, biases in layers[:-1]:
            x = jax.nn.relu(x @ weights + biases)
        weights, biases = layers[-1]
        log_p = jax.nn.log_softmax(x @ weights + biases)
        return -jnp.take_along_axis(log_p, y[:, None], axis=1).mean()

    def learn(state: Any, x: Any, y: Any, rows: Any) -> tuple[Any, Any]:
        layers, mean, square, step = state
        loss, gradient = jax.value_and_grad(loss_of)(layers, x[rows], y[rows])
        step += 1
        rate = workload.learning_rate * jnp.sqrt(1 - 0.999**step) / (1 - 0.9**step)
        mean = jax.tree.map(lambda m, g: m + 0.1 * (g - m), mean, gradient)
        square = jax.tree.map(lambda v, g: v + 0.001 * (g * g - v), square, gradient)
        layers = jax.tree.map(
            lambda p, m, v: p - rate * m / (jnp.sqrt(v) + 1e-8), layers, mean, square
        )
        return (layers, mean, square, step), loss * len(rows)

    def epoch(state: Any, x: Any, y: Any, order: Any) -> tuple[Any, Any]:
        batches = order[:n_whole].reshape(-1, batch_size)
        state, losses = jax.lax.scan(lambda state, rows: learn(state, x, y, rows), state, batches)
        total = losses.sum()
        if n_whole < n_rows:
            state, loss = learn(state, x, y, order[n_whole:])
            total += loss
        return state, total / n_rows

    compiled = jax.jit(epoch, donate_argnums=0)
    layers = [
        (jnp.asarray(w), jnp.zeros(w.shape[1], jnp.float32)) for w in initial_weights(workload)
    ]
    mean, square = (jax.tree.map(jnp.zeros_like, layers) for _ in range(2))
    state = layers, mean, square, jnp.zeros((), jnp.float32)

    def train(epochs: int) -> float:
        nonlocal state
        loss = jnp.zeros(())
        for _ in range(epochs):
            state, loss = compiled(state, x, y, rng.permutation(n_rows).astype(np.int32))
        return float(loss)

    return train


TRAINERS: dict[str, Callable[[Workload], Trainer]] = {
    "numpy": numpy_trainer,
    "sklearn": sklearn_trainer,
    "torch": torch_trainer,
    "jax": jax_trainer,
}
