"""A slow float64 oracle for normalization, skip connections, frozen layers and rates per layer.

It continues `reference`: plain formulas in NumPy, without any code from cnet. Normalization goes
through the complete Jacobian of ``(x - mean) / sqrt(variance + epsilon)``, and every parameter has
its own optimizer, as if it were a parameter group of PyTorch's.
"""

import math

import numpy as np
import reference

import cnet


def standardized(x, epsilon):
    """Return (x - mean) / sqrt(variance + epsilon) of a vector."""
    return (x - x.mean()) / math.sqrt(x.var() + epsilon)


def standardized_jacobian(x, epsilon):
    """Return d standardized(x)[i] / d x[j]."""
    n, deviation = len(x), math.sqrt(x.var() + epsilon)
    centred = x - x.mean()
    return (np.eye(n) - 1 / n) / deviation - np.outer(centred, centred) / (n * deviation**3)


class Parameter:
    """Trained values, with the gradient of the last batch."""

    def __init__(self, values, rate, trained):
        self.values = np.array(values, np.float64)
        self.rate = rate
        self.trained = trained
        self.gradient = np.zeros_like(self.values)
        self.optimizer = None


class Stage:
    """Base class of the steps that make up a layer."""

    parameters = ()
    buffers = ()


class Product(Stage):
    def __init__(self, weights, biases):
        self.weights, self.biases = weights, biases
        self.parameters = (weights,) if biases is None else (weights, biases)

    def forward(self, x, training):
        self.x = x
        y = x @ self.weights.values
        return y if self.biases is None else y + self.biases.values

    def backward(self, delta):
        self.weights.gradient = self.x.T @ delta
        if self.biases is not None:
            self.biases.gradient = delta.sum(axis=0)
        return delta @ self.weights.values.T


class Activate(Stage):
    def __init__(self, name):
        self.name = name

    def forward(self, x, training):
        self.x = x
        return reference.activate(self.name, x)

    def backward(self, delta):
        return reference.activation_backward(self.name, self.x, delta)


class Scale(Stage):
    """y = x weights + biases, element by element."""

    def __init__(self, weights, biases):
        self.weights, self.biases = self.parameters = (weights, biases)

    def forward(self, x, training):
        self.x = x
        return x * self.weights.values + self.biases.values

    def backward(self, delta):
        self.weights.gradient = (delta * self.x).sum(axis=0)
        self.biases.gradient = delta.sum(axis=0)
        return delta * self.weights.values


class StandardizeRows(Stage):
    def __init__(self, epsilon):
        self.epsilon = epsilon

    def forward(self, x, training):
        self.x = x
        return np.array([standardized(row, self.epsilon) for row in x])

    def backward(self, delta):
        pairs = zip(self.x, delta, strict=True)
        return np.array([d @ standardized_jacobian(row, self.epsilon) for row, d in pairs])


class StandardizeColumns(Stage):
    def __init__(self, layer, trained):
        self.epsilon, self.momentum, self.trained = layer.epsilon, layer.momentum, trained
        self.buffers = [
            np.array(values, np.float64) for values in (layer.running_mean, layer.running_variance)
        ]

    def forward(self, x, training):
        self.x = x
        self.of_batch = training and self.trained and len(x) > 1
        mean, variance = self.buffers
        if not self.of_batch:
            return (x - mean) / np.sqrt(variance + self.epsilon)
        mean += self.momentum * (x.mean(axis=0) - mean)
        variance += self.momentum * (x.var(axis=0, ddof=1) - variance)
        return np.array([standardized(column, self.epsilon) for column in x.T]).T

    def backward(self, delta):
        if not self.of_batch:
            return delta / np.sqrt(self.buffers[1] + self.epsilon)
        pairs = zip(self.x.T, delta.T, strict=True)
        return np.array([d @ standardized_jacobian(column, self.epsilon) for column, d in pairs]).T


class Skip(Stage):
    def __init__(self, stages):
        self.stages = stages
        self.parameters = [p for stage in stages for p in stage.parameters]
        self.buffers = [b for stage in stages for b in stage.buffers]

    def forward(self, x, training):
        y = x
        for stage in self.stages:
            y = stage.forward(y, training)
        return x + y

    def backward(self, delta):
        below = delta
        for stage in reversed(self.stages):
            below = stage.backward(below)
        return delta + below


def stages_of(layer, trained=True, rate=1.0, bias_rate=1.0):
    """Return the stages of a layer of cnet; the other arguments are those of the Residual around it."""
    trained = trained and layer.trainable
    factor = layer.bias_learning_rate_factor
    bias_rate = bias_rate * (layer.learning_rate_factor if factor is None else factor)
    rate = rate * layer.learning_rate_factor
    if isinstance(layer, cnet.Residual):
        inner = (stages_of(each, trained, rate, bias_rate) for each in layer.layers)
        return [Skip([stage for stages in inner for stage in stages])]

    def parameter(values, its_rate):
        return None if values is None else Parameter(values, its_rate, trained)

    weights, biases = parameter(layer.weights, rate), parameter(layer.biases, bias_rate)
    if isinstance(layer, cnet.Layer):
        stages = [Product(weights, biases)]
    else:
        stages = [
            StandardizeRows(layer.epsilon)
            if isinstance(layer, cnet.LayerNorm)
            else StandardizeColumns(layer, trained)
        ]
        if layer.affine:
            stages.append(Scale(weights, biases))
    return [*stages, Activate(layer.activation)]


class Network:
    """A copy of a network of cnet."""

    def __init__(self, net):
        self.stages = [stage for layer in net.layers for stage in stages_of(layer)]

    @property
    def _parameters(self):
        return [p for stage in self.stages for p in stage.parameters]

    @property
    def parameters(self):
        return _joined([p.values for p in self._parameters])

    @property
    def gradient(self):
        """The gradient with respect to all parameters, including those that are not trained."""
        return _joined([p.gradient for p in self._parameters])

    @property
    def buffers(self):
        return _joined([b for stage in self.stages for b in stage.buffers])

    def forward(self, x, training=False):
        for stage in self.stages:
            x = stage.forward(x, training)
        return x

    def loss(self, x, y, loss="squared_error", *, training=False, sample_weight=None, divisor=None):
        """Return the loss and its gradient with respect to x; store the gradients of the parameters."""
        values, delta = reference.LOSSES[loss](self.forward(x, training), y)
        weights = np.ones(len(x)) if sample_weight is None else np.asarray(sample_weight)
        weights = weights / (len(x) if divisor is None else divisor)
        delta = weights[:, np.newaxis] * delta
        for stage in reversed(self.stages):
            delta = stage.backward(delta)
        return float(np.sum(weights * values.sum(axis=1))), delta

    def train(
        self, optimizer, rate, x, y, loss="squared_error", *, batch_size, epochs=1,
        sample_weight=None, clip_norm=None, **settings,
    ):  # fmt: skip
        """Train without shuffling; return the mean loss of each epoch."""
        trained = [p for p in self._parameters if p.trained]
        for p in trained:
            p.optimizer = p.optimizer or reference.OPTIMIZERS[optimizer](rate * p.rate, **settings)
        losses = []
        for _ in range(epochs):
            total = 0.0
            for start in range(0, len(x), batch_size):
                batch = slice(start, start + batch_size)
                weights = None if sample_weight is None else sample_weight[batch]
                value, _ = self.loss(x[batch], y[batch], loss, training=True, sample_weight=weights)
                total += value * len(x[batch])
                shrink = 1.0
                if clip_norm is not None:
                    norm = math.sqrt(sum(np.sum(p.gradient**2) for p in trained))
                    shrink = min(1.0, clip_norm / (norm + 1e-6))
                for p in trained:
                    p.values = p.optimizer.step(p.values, shrink * p.gradient)
            losses.append(total / len(x))
        return losses


def _joined(arrays):
    return np.concatenate([np.ravel(array) for array in arrays]) if arrays else np.empty(0)


def central_differences(function, values, step=1e-6):
    """Return the gradient of `function()` with respect to an array, which is changed and restored."""
    gradient = np.empty(values.size)
    flat = values.reshape(-1)
    for i, value in enumerate(flat.copy()):
        flat[i] = value + step
        above = function()
        flat[i] = value - step
        gradient[i] = (above - function()) / (2 * step)
        flat[i] = value
    return gradient.reshape(values.shape)


def spread(net, seed=0, size=0.3):
    """Move all parameters and running statistics away from their initial values; return the network."""
    rng = np.random.default_rng(seed)
    net.parameters[...] += rng.normal(0, size, net.parameters.size)
    for name, values in net.model.named_buffers.items():
        if name.endswith("variance"):
            values[...] = rng.uniform(0.5, 2, values.shape)
        else:
            values[...] = rng.normal(0, size, values.shape)
    return net


def problem(net, n, seed=1):
    """Return n rows of inputs and of targets between 0.1 and 0.9."""
    rng = np.random.default_rng(seed)
    n_inputs, n_outputs = net.layers[0].n_inputs, net.layers[-1].n_neurons
    return rng.normal(size=(n, n_inputs)), rng.uniform(0.1, 0.9, (n, n_outputs))


def mean_squared_error(y_true, y_pred):
    """Compute squared_error as a user's function would."""
    difference = y_pred - y_true
    return np.sum(difference**2) / 2 / len(y_true), difference / len(y_true)
