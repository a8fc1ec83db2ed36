"""A slow, simple float64 oracle: the textbook formulas in NumPy, without any code from cnet.

Everything follows the definitions rather than aiming for speed or brevity: derivatives are functions of
the pre-activation z, losses are functions of the outputs, softmax uses its complete Jacobian, and each
optimizer is PyTorch's documented algorithm, one step at a time.
"""

import math
from dataclasses import dataclass, field

import numpy as np

erfc = np.vectorize(math.erfc, otypes=[np.float64])


# Activations: f(z) and f'(z).

# Klambauer et al. (2017), "Self-Normalizing Neural Networks", equation 14, from its closed form.
_TAIL = math.erfc(math.sqrt(1 / 2)) * math.exp(1 / 2)
SELU_ALPHA = math.sqrt(2 / math.pi) / (1 - _TAIL)
SELU_SCALE = (
    (1 - _TAIL)
    * math.sqrt(2 * math.pi)
    / math.sqrt(
        2 * math.erfc(math.sqrt(2)) * math.exp(2)
        + math.pi * _TAIL**2
        - 2 * (2 + math.pi) * _TAIL
        + math.pi
        + 2
    )
)


def sigmoid(z):
    # exp(1000) is infinite and 1 / infinity is 0, as intended.
    with np.errstate(over="ignore"):
        return 1 / (1 + np.exp(-z))


def exp(z):
    with np.errstate(over="ignore"):
        return np.exp(z)


def sech(z):
    with np.errstate(over="ignore"):
        return 1 / np.cosh(z)


def normal_cdf(z):
    # Uses erfc, because 1 + erf(z / sqrt(2)) loses digits if z is far below 0.
    return erfc(-z / math.sqrt(2)) / 2


def normal_pdf(z):
    with np.errstate(over="ignore"):
        return np.exp(-z * z / 2) / math.sqrt(2 * math.pi)


def exp_of_negative(z):
    """Return exp(z), or 1 if z is above 0, where the result is not used."""
    return np.exp(np.minimum(z, 0))


def softmax(z):
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def softmax_backward(z, gradient):
    """Return dL/dz from dL/da, each row through its Jacobian da_i/dz_j = a_i (1[i = j] - a_j)."""
    jacobians = [np.diag(a) - np.outer(a, a) for a in softmax(z)]
    return np.array([row @ jacobian for row, jacobian in zip(gradient, jacobians, strict=True)])


ELEMENTWISE = {
    "linear": (lambda z: z, np.ones_like),
    "sigmoid": (sigmoid, lambda z: sigmoid(z) * sigmoid(-z)),
    "tanh": (np.tanh, lambda z: sech(z) ** 2),
    "relu": (lambda z: np.maximum(z, 0), lambda z: np.where(z > 0, 1.0, 0.0)),
    "leaky_relu": (lambda z: np.where(z > 0, z, 0.01 * z), lambda z: np.where(z > 0, 1.0, 0.01)),
    "elu": (
        lambda z: np.where(z > 0, z, np.expm1(np.minimum(z, 0))),
        lambda z: np.where(z > 0, 1.0, exp_of_negative(z)),
    ),
    "selu": (
        lambda z: SELU_SCALE * np.where(z > 0, z, SELU_ALPHA * np.expm1(np.minimum(z, 0))),
        lambda z: SELU_SCALE * np.where(z > 0, 1.0, SELU_ALPHA * exp_of_negative(z)),
    ),
    "gelu": (lambda z: z * normal_cdf(z), lambda z: normal_cdf(z) + z * normal_pdf(z)),
    "silu": (
        lambda z: z * sigmoid(z),
        lambda z: sigmoid(z) + z * sigmoid(z) * sigmoid(-z),
    ),
    "softplus": (lambda z: np.logaddexp(0, z), sigmoid),
    "softsign": (lambda z: z / (1 + np.abs(z)), lambda z: (1 / (1 + np.abs(z))) ** 2),
    "exp": (exp, exp),
}
ACTIVATIONS = (*ELEMENTWISE, "softmax")


def activate(activation, z):
    return softmax(z) if activation == "softmax" else ELEMENTWISE[activation][0](z)


def activation_backward(activation, z, gradient):
    """Return dL/dz from dL/da."""
    if activation == "softmax":
        return softmax_backward(z, gradient)
    return gradient * ELEMENTWISE[activation][1](z)


# Losses: functions of outputs a and targets t that return each output's value and gradient.


def squared_error(a, t):
    return (a - t) ** 2 / 2, a - t


def absolute_error(a, t):
    return np.abs(a - t), np.sign(a - t)


def huber(a, t, delta=1.0):
    d = np.abs(a - t)
    return np.where(d <= delta, d**2 / 2, delta * (d - delta / 2)), np.clip(a - t, -delta, delta)


def quantile(a, t, q=0.5):
    return np.maximum(q * (t - a), (1 - q) * (a - t)), np.where(t > a, -q, 1 - q)


def binary_cross_entropy(a, t):
    return -t * np.log(a) - (1 - t) * np.log(1 - a), (a - t) / (a * (1 - a))


def cross_entropy(a, t):
    return -t * np.log(a), -t / a


def poisson(a, t):
    return a - t * np.log(a), 1 - t / a


LOSSES = {
    loss.__name__: loss
    for loss in (
        squared_error,
        absolute_error,
        huber,
        quantile,
        binary_cross_entropy,
        cross_entropy,
        poisson,
    )
}

# The output activations of each loss.
OUTPUTS = {
    **dict.fromkeys(LOSSES, ACTIVATIONS),
    "binary_cross_entropy": ("sigmoid",),
    "cross_entropy": ("softmax",),
    "poisson": ("exp", "softplus"),
}


# The network.


class Network:
    """Weights, biases (or None) and activation of each layer, all in float64."""

    def __init__(self, layers):
        self.layers = [
            (
                np.array(weights, np.float64),
                None if biases is None else np.array(biases, np.float64),
                activation,
            )
            for weights, biases, activation in layers
        ]

    @classmethod
    def like(cls, net):
        """Return a copy of a network whose layers have weights, biases and activation."""
        return cls((layer.weights, layer.biases, layer.activation) for layer in net.layers)

    def _arrays(self):
        return [
            array
            for weights, biases, _ in self.layers
            for array in (weights, biases)
            if array is not None
        ]

    @property
    def parameters(self):
        """All parameters, layer by layer: weights row by row, then biases."""
        return np.concatenate([array.ravel() for array in self._arrays()])

    @parameters.setter
    def parameters(self, values):
        start = 0
        for array in self._arrays():
            array[...] = values[start : start + array.size].reshape(array.shape)
            start += array.size

    def forward(self, x):
        """Return (z, a) of every layer."""
        found = []
        a = np.asarray(x, np.float64)
        for weights, biases, activation in self.layers:
            z = a @ weights if biases is None else a @ weights + biases
            a = activate(activation, z)
            found.append((z, a))
        return found

    def predict(self, x):
        return self.forward(x)[-1][1]

    def loss_and_gradients(self, x, targets, loss, *, reduction="mean", sample_weight=None):
        """Return the loss and its gradients with respect to the flat parameters and x.

        `loss` is called with outputs and targets, like those of LOSSES.
        """
        x = np.asarray(x, np.float64)
        passed = self.forward(x)
        values, gradient = loss(passed[-1][1], np.asarray(targets, np.float64))
        row_weights = np.ones(len(x)) if sample_weight is None else np.asarray(sample_weight)
        row_weights = row_weights / (len(x) if reduction == "mean" else 1)
        value = float(np.sum(row_weights * values.sum(axis=1)))
        gradient = row_weights[:, np.newaxis] * gradient
        inputs = [x, *(a for _, a in passed[:-1])]
        found = []
        for (weights, biases, activation), h, (z, _) in reversed(
            list(zip(self.layers, inputs, passed, strict=True))
        ):
            gradient = activation_backward(activation, z, gradient)
            if biases is not None:
                found.append(gradient.sum(axis=0))
            found.append((h.T @ gradient).ravel())
            gradient = gradient @ weights.T
        return value, np.concatenate(found[::-1]), gradient

    def train(self, optimizer, x, targets, loss, *, batch_size, epochs, **kwargs):
        """Train without shuffling; yield the mean loss of each epoch."""
        for _ in range(epochs):
            total = 0.0
            for start in range(0, len(x), batch_size):
                batch = slice(start, start + batch_size)
                value, gradient, _ = self.loss_and_gradients(
                    x[batch], targets[batch], loss, **kwargs
                )
                total += value * len(x[batch])
                self.parameters = optimizer.step(self.parameters, gradient)
            yield total / len(x)


# Optimizers, following the algorithm boxes of https://docs.pytorch.org/docs/stable/optim.html.


@dataclass
class Optimizer:
    """Common parts of the optimizers: the step count t, clipping, L2 penalty."""

    learning_rate: float
    weight_decay: float = 0.0
    clip_norm: float | None = None
    clip_value: float | None = None
    t: int = field(default=0, init=False)

    def step(self, w, g):
        """Return the parameters after one step."""
        self.t += 1
        if self.clip_value is not None:
            g = np.clip(g, -self.clip_value, self.clip_value)
        if self.clip_norm is not None:
            g = g * min(1.0, self.clip_norm / (math.sqrt(np.sum(g**2)) + 1e-6))
        return self.update(w, g)

    def update(self, w, g):
        return self.move(w, g + self.weight_decay * w)

    def move(self, w, g):
        raise NotImplementedError


@dataclass
class SGD(Optimizer):
    momentum: float = 0.0
    nesterov: bool = False
    buffer: np.ndarray | float = field(default=0.0, init=False)

    def move(self, w, g):
        self.buffer = self.momentum * self.buffer + g
        direction = g + self.momentum * self.buffer if self.nesterov else self.buffer
        return w - self.learning_rate * direction


@dataclass
class Adam(Optimizer):
    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-8
    m: np.ndarray | float = field(default=0.0, init=False)
    v: np.ndarray | float = field(default=0.0, init=False)

    def move(self, w, g):
        self.m = self.beta_1 * self.m + (1 - self.beta_1) * g
        self.v = self.beta_2 * self.v + (1 - self.beta_2) * g**2
        m_hat = self.m / (1 - self.beta_1**self.t)
        v_hat = self.v / (1 - self.beta_2**self.t)
        return w - self.learning_rate * m_hat / (np.sqrt(v_hat) + self.epsilon)


@dataclass
class AdamW(Adam):
    weight_decay: float = 0.01

    def update(self, w, g):
        return self.move(w - self.learning_rate * self.weight_decay * w, g)


@dataclass
class RMSprop(Optimizer):
    alpha: float = 0.99
    epsilon: float = 1e-8
    momentum: float = 0.0
    centered: bool = False
    v: np.ndarray | float = field(default=0.0, init=False)
    g_mean: np.ndarray | float = field(default=0.0, init=False)
    buffer: np.ndarray | float = field(default=0.0, init=False)

    def move(self, w, g):
        self.v = self.alpha * self.v + (1 - self.alpha) * g**2
        v = self.v
        if self.centered:
            self.g_mean = self.alpha * self.g_mean + (1 - self.alpha) * g
            v = v - self.g_mean**2
        self.buffer = self.momentum * self.buffer + g / (np.sqrt(v) + self.epsilon)
        return w - self.learning_rate * self.buffer


@dataclass
class Adagrad(Optimizer):
    learning_rate_decay: float = 0.0
    initial_accumulator_value: float = 0.0
    epsilon: float = 1e-10
    total: np.ndarray | float = field(default=0.0, init=False)

    def __post_init__(self):
        self.total = self.initial_accumulator_value

    def move(self, w, g):
        rate = self.learning_rate / (1 + (self.t - 1) * self.learning_rate_decay)
        self.total = self.total + g**2
        return w - rate * g / (np.sqrt(self.total) + self.epsilon)


@dataclass
class Rprop(Optimizer):
    shrink: float = 0.5
    grow: float = 1.2
    smallest_step: float = 1e-6
    largest_step: float = 50.0
    previous: np.ndarray | float = field(default=0.0, init=False)
    size: np.ndarray | float = field(default=0.0, init=False)

    def __post_init__(self):
        self.size = self.learning_rate

    def move(self, w, g):
        agreement = g * self.previous
        factor = np.where(agreement > 0, self.grow, np.where(agreement < 0, self.shrink, 1.0))
        self.size = np.clip(self.size * factor, self.smallest_step, self.largest_step)
        self.previous = np.where(agreement < 0, 0.0, g)
        return w - np.sign(self.previous) * self.size


OPTIMIZERS = {
    optimizer.__name__.lower(): optimizer
    for optimizer in (SGD, Adam, AdamW, RMSprop, Adagrad, Rprop)
}


# The tutorials' network, without NumPy.


class PlainPythonNetwork:
    """Sigmoid layers trained row by row on the squared error, with only lists, loops and math.exp.

    ``weights[l][i][j]`` connects input i of layer l with its neuron j, and ``biases[l][j]`` is the bias
    of that neuron. There may be any number of layers.
    """

    def __init__(self, weights, biases):
        self.weights = [[list(row) for row in layer] for layer in weights]
        self.biases = [list(layer) for layer in biases]

    def _outputs(self, row):
        """Return the inputs and every layer's outputs."""
        found = [list(row)]
        for weights, biases in zip(self.weights, self.biases, strict=True):
            outputs = []
            for j in range(len(biases)):
                z = biases[j]
                for i in range(len(found[-1])):
                    z += found[-1][i] * weights[i][j]
                outputs.append(1 / (1 + math.exp(-z)))
            found.append(outputs)
        return found

    def forward(self, row):
        """Return the outputs for one row of inputs, as a list."""
        return self._outputs(row)[-1]

    def train(self, x, y, learning_rate, epochs):
        """Make one step after every row, in order.

        Returns the total squared error of each epoch: the sum over its rows and outputs of
        (target - output)^2, each computed before the row's step.
        """
        return [
            sum(self._learn(row, targets, learning_rate) for row, targets in zip(x, y, strict=True))
            for _ in range(epochs)
        ]

    def _learn(self, row, targets, learning_rate):
        outputs = self._outputs(row)
        last = outputs[-1]
        # delta[j] is the derivative of half the squared error by the neuron's weighted input.
        delta = [(last[j] - targets[j]) * last[j] * (1 - last[j]) for j in range(len(last))]
        for layer in range(len(self.weights) - 1, -1, -1):
            weights, biases, inputs = self.weights[layer], self.biases[layer], outputs[layer]
            below = [
                sum(weights[i][j] * delta[j] for j in range(len(delta)))
                * inputs[i]
                * (1 - inputs[i])
                for i in range(len(inputs))
            ]
            for j in range(len(delta)):
                for i in range(len(inputs)):
                    weights[i][j] -= learning_rate * delta[j] * inputs[i]
                biases[j] -= learning_rate * delta[j]
            delta = below
        return sum((targets[j] - last[j]) ** 2 for j in range(len(last)))
