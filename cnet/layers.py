"""Layer: its shape, activation and initialiser, and its weights as views of the network's parameters."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnet._arrays import as_weights
from cnet._checks import as_choice, as_flag, as_integer, as_number
from cnet._core.engine import ACTIVATIONS
from cnet.initializers import Initializer, resolve_initializer

# More neurons than any memory has room for their weights, and few enough that no product overflows.
MAX_NEURONS = 2**31 - 1


class Layer:
    """A fully connected layer: outputs = activation(inputs @ weights + biases).

    A layer has weights once it is part of a network, which draws them and holds all of them in one
    flat array.

    Parameters
    ----------
    n_inputs : int
        How many numbers come in.
    n_neurons : int
        How many neurons, each of which puts out one number.
    activation : str, default "sigmoid"
        One of linear, sigmoid, tanh, relu, leaky_relu, elu, selu, gelu, silu, softplus, softsign,
        exp, and, in the last layer only, softmax.
    bias : bool, default True
        Whether each neuron adds a number of its own, which starts at 0.
    init : str or Initializer, default "auto"
        How the weights start: glorot_uniform, glorot_normal, he_uniform, he_normal, lecun_normal,
        orthogonal, zeros, "uniform(a, b)", an object of `cnet.initializers`, or "auto": he_uniform
        for relu and its kin, glorot_uniform otherwise.
    name : str, optional
        By default layer_1, layer_2, … by its place in the network.
    l1, l2 : float, default 0
        Penalties on the weights, not the biases: the loss grows by ``l1 * sum(abs(weights))`` and by
        ``l2 / 2 * sum(weights ** 2)``.
    max_norm : float, optional
        After each step of training, each neuron's incoming weights are shrunk to at most this
        Euclidean norm (Srebro, Rennie and Jaakkola, 2005).
    dropout : float, default 0
        The share of the layer's outputs, at least 0 and below 1, that each row of training loses at
        random, while the others grow by 1 / (1 - dropout); prediction and evaluation use all (Srivastava
        et al., 2014). Not for the output layer.

    Raises
    ------
    ValueError
        Where a number is out of range or a name unknown.
    TypeError
        Where a number is not an integer or `bias` not a bool.
    """

    def __init__(
        self,
        n_inputs: int,
        n_neurons: int,
        activation: str = "sigmoid",
        *,
        bias: bool = True,
        init: Any = "auto",
        name: str | None = None,
        l1: float = 0.0,
        l2: float = 0.0,
        max_norm: float | None = None,
        dropout: float = 0.0,
    ) -> None:
        self._n_inputs = as_integer("n_inputs", n_inputs, 1, MAX_NEURONS)
        self._n_neurons = as_integer("n_neurons", n_neurons, 1, MAX_NEURONS)
        self._activation = as_choice("activation", activation, ACTIVATIONS)
        self._bias = as_flag("bias", bias)
        self._init = resolve_initializer(init, self._activation)
        if name is not None and not isinstance(name, str):
            raise TypeError(f"name must be text, got {name!r}")
        self.name = name
        self._l1 = as_number("l1", l1, 0)
        self._l2 = as_number("l2", l2, 0)
        self._max_norm = (
            None if max_norm is None else as_number("max_norm", max_norm, 0, open_low=True)
        )
        self._dropout = as_number("dropout", dropout, 0, 1, open_high=True)
        self._weights: NDArray[Any] | None = None
        self._biases: NDArray[Any] | None = None

    # What the engine's program is made from can be read and not set.

    @property
    def n_inputs(self) -> int:
        """How many numbers come in."""
        return self._n_inputs

    @property
    def n_neurons(self) -> int:
        """How many neurons, and so outputs."""
        return self._n_neurons

    @property
    def activation(self) -> str:
        """Name of the activation."""
        return self._activation

    @property
    def bias(self) -> bool:
        """Whether the layer has biases."""
        return self._bias

    @property
    def init(self) -> Initializer:
        """How the weights start."""
        return self._init

    @property
    def l1(self) -> float:
        """Penalty on the size of the weights."""
        return self._l1

    @property
    def l2(self) -> float:
        """Penalty on the squares of the weights."""
        return self._l2

    @property
    def max_norm(self) -> float | None:
        """The most that the norm of a neuron's weights may be, or None."""
        return self._max_norm

    @property
    def dropout(self) -> float:
        """The share of outputs that are dropped in training."""
        return self._dropout

    @property
    def regularization(self) -> dict[str, float]:
        """What holds the layer back in training: l1, l2, max_norm and dropout, those that are set."""
        found = {
            "l1": self.l1,
            "l2": self.l2,
            "max_norm": self.max_norm or 0.0,
            "dropout": self.dropout,
        }
        return {name: value for name, value in found.items() if value}

    @property
    def n_parameters(self) -> int:
        """How many weights and biases the layer has."""
        return (self.n_inputs + self.bias) * self.n_neurons

    @property
    def weights(self) -> NDArray[Any]:
        """Weights, of shape (n_inputs, n_neurons): a writable view; setting it copies into it."""
        if self._weights is None:
            raise AttributeError("a layer has weights once it is part of a NeuralNetwork")
        return self._weights

    @weights.setter
    def weights(self, values: Any) -> None:
        view = self.weights
        view[...] = as_weights("weights", values, view.shape, view.dtype)

    @property
    def biases(self) -> NDArray[Any] | None:
        """Biases, of shape (n_neurons,): a writable view; None where the layer has none."""
        if self._weights is None:
            raise AttributeError("a layer has biases once it is part of a NeuralNetwork")
        return self._biases

    @biases.setter
    def biases(self, values: Any) -> None:
        view = self.biases
        if view is None:
            raise AttributeError("the layer was made with bias=False and has no biases")
        view[...] = as_weights("biases", values, view.shape, view.dtype)

    @property
    def attached(self) -> bool:
        """Whether the layer is part of a network."""
        return self._weights is not None

    def bind(self, parameters: NDArray[Any], start: int) -> None:
        """Make the layer's weights and biases views of a network's parameters, from `start` on."""
        n_weights = self.n_inputs * self.n_neurons
        end = start + n_weights
        self._weights = parameters[start:end].reshape(self.n_inputs, self.n_neurons)
        self._biases = parameters[end : end + self.n_neurons] if self.bias else None

    def draw(self, rng: np.random.Generator, dtype: np.dtype[Any]) -> NDArray[Any]:
        """Return weights to start from, by the layer's initialiser."""
        weights = self.init(rng, self.n_inputs, self.n_neurons)
        return as_weights("init", weights, (self.n_inputs, self.n_neurons), dtype)

    def __getstate__(self) -> dict[str, Any]:
        # The views belong to the network, which binds them again.
        return {**self.__dict__, "_weights": None, "_biases": None}

    def __repr__(self) -> str:
        settings = [str(self.n_inputs), str(self.n_neurons), repr(self.activation)]
        if not self.bias:
            settings.append("bias=False")
        if self.name is not None:
            settings.append(f"name={self.name!r}")
        settings += [f"{name}={value:g}" for name, value in self.regularization.items()]
        return f"Layer({', '.join(settings)})"
